package admincli

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/opencmg/opencmg/adminservice/cmdlet"
)

// An objectPrinter prints what cmdlets emit: JSON at once, one object on each
// line; tables when all is there.
type objectPrinter struct {
	w        io.Writer
	way      string
	progress *progress
	objects  []cmdlet.Object
}

func newObjectPrinter(w io.Writer, way string, p *progress) *objectPrinter {
	return &objectPrinter{w: w, way: way, progress: p}
}

func (p *objectPrinter) print(o cmdlet.Object) error {
	if p.way == outputJSON {
		p.progress.end()
		return printJSON(p.w, o)
	}
	p.objects = append(p.objects, o)
	return nil
}

// end prints the tables, one for each class.
func (p *objectPrinter) end() error {
	for len(p.objects) > 0 {
		class := p.objects[0].Class()
		var same, others []cmdlet.Object
		for _, o := range p.objects {
			if o.Class() == class {
				same = append(same, o)
			} else {
				others = append(others, o)
			}
		}
		if err := printObjects(p.w, class, same); err != nil {
			return err
		}
		if p.objects = others; len(others) > 0 {
			fmt.Fprintln(p.w)
		}
	}
	return nil
}

func printObjects(w io.Writer, class string, objects []cmdlet.Object) error {
	heads := slices.Clone(cmdlet.Columns(class))
	if heads == nil {
		for k, v := range objects[0] {
			if _, list := v.([]any); !list && k != cmdlet.ClassProperty {
				heads = append(heads, k)
			}
		}
		slices.Sort(heads)
		heads = heads[:min(len(heads), 6)]
	}
	var rows [][]string
	for _, o := range objects {
		var row []string
		for _, h := range heads {
			row = append(row, cell(class, h, o))
		}
		rows = append(rows, row)
	}
	return printTable(w, heads, rows)
}

// cell is a property as people read it.
func cell(class, property string, o cmdlet.Object) string {
	v := o[property]
	text := o.Text(property)
	switch {
	case class == "SMS_AzureService" && property == "State":
		return cmdlet.StateWord(text)
	case property == "NetworkOSPath":
		return strings.TrimPrefix(text, `\\`)
	case property == "Props":
		return properties(v)
	}
	if list, ok := v.([]any); ok {
		var all []string
		for _, item := range list {
			all = append(all, fmt.Sprint(item))
		}
		return strings.Join(all, ", ")
	}
	if t, err := time.Parse(time.RFC3339, text); err == nil {
		return t.Local().Format("2006-01-02 15:04")
	}
	return strings.NewReplacer("\n", " ", "\t", " ").Replace(text)
}

// properties writes an embedded property list as name=value.
func properties(v any) string {
	list, _ := v.([]any)
	var all []string
	for _, item := range list {
		p, ok := item.(map[string]any)
		if !ok {
			continue
		}
		value := cmdlet.Object(p).Text("Value1")
		if value == "" {
			value = cmdlet.Object(p).Text("Value")
		}
		all = append(all, fmt.Sprintf("%v=%s", p["PropertyName"], value))
	}
	return strings.Join(all, " ")
}
