package console

import (
	"errors"
	"html"
	"html/template"
	"strings"

	nethtml "golang.org/x/net/html"

	"github.com/opencmg/opencmg"
	"github.com/opencmg/opencmg/adminservice"
)

// Refusals beside the field that they are about. The service names the field in
// its problem document; the page that comes again shows the text there, whatever
// template the form is of.

// fieldNames are the fields of a form by what the service calls them. Those that
// are not in it have the same name. What is below a name, such as "sources.0",
// belongs to the same field.
type fieldNames map[string]string

// A formError is a refusal with the field of the form that it is about.
type formError struct {
	error
	field string
}

// Unwrap gives the refusal.
func (e *formError) Unwrap() error { return e.error }

// inForm says which field of a form the refusal of the service is about.
func inForm(err error, names fieldNames) error {
	var known *formError
	p, ok := errors.AsType[*adminservice.ProblemError](err)
	if !ok || errors.As(err, &known) {
		return err
	}
	return &formError{err, names.of(p.Field)}
}

// with adds the names of a part of the request, which the service calls prefix.
func (names fieldNames) with(prefix string, part fieldNames) fieldNames {
	for field, name := range part {
		names[prefix+"."+field] = name
	}
	return names
}

func (names fieldNames) of(field string) string {
	for at := field; ; {
		if name, ok := names[at]; ok {
			return name
		}
		i := strings.LastIndexByte(at, '.')
		if i < 0 {
			return at
		}
		at = at[:i]
	}
}

// fieldOf is the field of the form that an error is about; empty for none.
func fieldOf(err error) string {
	if e, ok := errors.AsType[*formError](err); ok {
		return e.field
	}
	if p, ok := errors.AsType[*adminservice.ProblemError](err); ok {
		return fieldNames(nil).of(p.Field)
	}
	if e, ok := errors.AsType[*opencmg.Error](err); ok {
		return e.Field
	}
	return ""
}

const refusalID = "refusal" // of the text beside the field

// A refusedField is the field that a page shows a refusal at.
type refusedField struct{ ID, Label string }

// showRefusal puts the text beside the field of the form with the action, or
// leaves the page alone when there is no such field. The field says that it is
// wrong and which text says why, and has the focus.
func showRefusal(page template.HTML, action, field, text string) (template.HTML, *refusedField) {
	z := nethtml.NewTokenizer(strings.NewReader(string(page)))
	var out strings.Builder
	labels := map[string]string{} // texts by the ID of their field
	var found *refusedField
	inside := false // the form
	label := ""     // ID of the field whose label is being read
	nested := false // a label is open that holds its field
	until := ""     // the end tag after which the text comes
	paragraph := `<p class="refusal" id="` + refusalID + `">` + html.EscapeString(text) + `</p>`
	for {
		kind := z.Next()
		if kind == nethtml.ErrorToken {
			break // the end, since it is read from memory
		}
		raw := string(z.Raw())
		t := z.Token()
		switch kind {
		case nethtml.StartTagToken, nethtml.SelfClosingTagToken:
			switch t.Data {
			case "form":
				path, _, _ := strings.Cut(attribute(&t, "action"), "?")
				inside = path == action
			case "label":
				label = attribute(&t, "for")
				nested = label == ""
			case "input", "select", "textarea":
				if !inside || found != nil || attribute(&t, "name") != field || attribute(&t, "type") == "hidden" {
					break
				}
				found = &refusedField{ID: attribute(&t, "id")}
				if found.ID == "" {
					found.ID = "refused"
					t.Attr = append(t.Attr, nethtml.Attribute{Key: "id", Val: found.ID})
				}
				found.Label = strings.TrimSpace(labels[found.ID])
				raw = refusedTag(t)
				switch {
				case nested:
					until = "label"
				case t.Data == "input":
					raw += paragraph
				default:
					until = t.Data
				}
			}
		case nethtml.TextToken:
			if label != "" {
				labels[label] += t.Data
			}
			if until == "label" && found.Label == "" {
				found.Label = strings.TrimSpace(t.Data)
			}
		case nethtml.EndTagToken:
			switch t.Data {
			case "form":
				inside = false
			case "label":
				label, nested = "", false
			}
			if t.Data == until {
				raw += paragraph
				until = ""
			}
		}
		out.WriteString(raw)
	}
	if found == nil {
		return page, nil
	}
	return template.HTML(out.String()), found
}

// refusedTag is a field's tag with what a refusal adds.
func refusedTag(t nethtml.Token) string {
	t.Type = nethtml.StartTagToken
	described := refusalID
	attrs := t.Attr[:0:0]
	for _, a := range t.Attr {
		switch a.Key {
		case "aria-describedby":
			described += " " + a.Val
		case "aria-invalid", "autofocus":
		default:
			attrs = append(attrs, a)
		}
	}
	t.Attr = append(attrs, nethtml.Attribute{Key: "aria-invalid", Val: "true"}, nethtml.Attribute{Key: "aria-describedby", Val: described}, nethtml.Attribute{Key: "autofocus"})
	return t.String()
}

func attribute(t *nethtml.Token, name string) string {
	for _, a := range t.Attr {
		if a.Key == name {
			return a.Val
		}
	}
	return ""
}
