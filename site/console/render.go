package console

import (
	"bytes"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"html/template"
	"math"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/opencmg/opencmg"
	"github.com/opencmg/opencmg/adminservice"
)

// templates are all of html/, which know each other by name: a file's main
// template has the file's name without its ending, and its parts are called
// after it ("gateways", "gateway-cards").
type templates struct{ all *template.Template }

func readTemplates(c *Console) (*templates, error) {
	t := template.New("console").Funcs(template.FuncMap{
		"asset": c.assetPath, "bytes": showBytes, "number": showNumber,
		"when": when, "day": func(t time.Time) string { return t.UTC().Format("2006-01-02") }, "duration": showDuration, "ms": showMS, "chart": showChart,
		"lower": strings.ToLower, "join": strings.Join, "short": short, "query": url.QueryEscape, "path": url.PathEscape,
		"tone": tone, "statustone": statusTone, "word": word, "dict": dict, "add": func(a, b int) int { return a + b }, "deref": func(b *bool, unset bool) bool {
			if b == nil {
				return unset
			}
			return *b
		},
	})
	t, err := t.ParseFS(files, "html/*.html")
	if err != nil {
		return nil, fmt.Errorf("console templates: %w", err)
	}
	return &templates{t}, nil
}

// A Page is what templates get as their dot.
type Page struct {
	*Visit
	Title   string
	Console Config
	Nav     []navGroup
	Notice  string
	// Data is what the view loaded; parts get a piece of it.
	Data any

	c       *Console
	refused *refusedField // with the problem beside it
	blocks  *[]block      // what was rendered by Live
	freshAt string        // see view
}

// A block is a part of a page that is kept fresh.
type block struct{ id, html string }

// Live renders the template name with data as a part of the page that is kept
// fresh under the ID, which must be unlike others on the page.
func (p *Page) Live(id, name string, data any) (template.HTML, error) {
	inner, err := p.part(name, data)
	if err != nil {
		return "", err
	}
	*p.blocks = append(*p.blocks, block{id, string(inner)})
	return template.HTML(`<div data-live id="` + template.HTMLEscapeString(id) + `">` + string(inner) + `</div>`), nil
}

// Part renders the template name with data as its dot's Data.
func (p *Page) Part(name string, data any) (template.HTML, error) { return p.part(name, data) }

func (p *Page) part(name string, data any) (template.HTML, error) {
	q := *p
	q.Data = data
	var b bytes.Buffer
	if err := p.c.templates.all.ExecuteTemplate(&b, name, &q); err != nil {
		return "", err
	}
	return template.HTML(b.String()), nil
}

// At is the page with other data, for a template that shows a part of it.
func (p *Page) At(data any) *Page {
	q := *p
	q.Data = data
	return &q
}

// NoChoices are for fields whose lists come once the page is open.
func (p *Page) NoChoices() *azureChoices { return &azureChoices{} }

// Proof is the field that every form needs.
func (p *Page) Proof() template.HTML {
	return template.HTML(`<input type="hidden" name="proof" value="` + p.Session.proof() + `">`)
}

// Value is what was typed into a field, or def on a page that was just opened
// and in another form than the one that was posted.
func (p *Page) Value(name string, def any) string {
	if p.Posted() && p.Request.PostForm.Has(name) {
		return p.Form(name)
	}
	return fmt.Sprint(def)
}

// Ticks is what a form needs whose boxes come again as they were: those that are
// not ticked are not sent, so that alone tells it from another form of the page.
func (p *Page) Ticks() template.HTML { return `<input type="hidden" name="ticks" value="sent">` }

// Ticked is whether a box was ticked, or def on a page that was just opened and
// in another form than the one that was posted.
func (p *Page) Ticked(name string, def bool) bool {
	if p.TicksSent() {
		return p.Checked(name)
	}
	return def
}

// TicksSent reports whether the page shows the form again that has Ticks.
func (p *Page) TicksSent() bool { return p.Posted() && p.Request.PostForm.Has("ticks") }

// Posted reports whether the page shows a form again that was not done.
func (p *Page) Posted() bool { return p.Request.Method == http.MethodPost }

// What the roles may do; see the rights of package site.
var (
	administer = adminservice.Roles()[:1]
	build      = adminservice.Roles()[:2]
	operate    = adminservice.Roles()[:3]
)

// MayAdminister reports whether the person is a Full Administrator.
func (p *Page) MayAdminister() bool { return p.May(administer) }

// MayBuild reports whether the person may change the infrastructure.
func (p *Page) MayBuild() bool { return p.May(build) }

// MayOperate reports whether the person may operate what there is.
func (p *Page) MayOperate() bool { return p.May(operate) }

// ProblemText is what to show above the page, nil for nothing.
func (p *Page) ProblemText() *problem {
	if p.Problem == nil {
		return nil
	}
	shown := problemOf(p.Problem)
	shown.At = p.refused
	return shown
}

// render writes a page, or the parts of one into the stream that asks.
func (c *Console) render(w http.ResponseWriter, v *Visit, of view, data any, status int) error {
	var blocks []block
	p := &Page{Visit: v, Title: of.title, Console: c.cfg, Data: data, c: c, blocks: &blocks, freshAt: of.freshAt}
	if v.live != nil {
		if _, err := p.part(of.template, data); err != nil {
			return err
		}
		v.live.blocks = blocks
		return nil
	}
	if v.Session != nil {
		p.Nav = navigation(of.node)
	}
	p.Notice = takeNotice(w, v.Request)
	content, err := p.part(of.template, data)
	if err != nil {
		return err
	}
	if v.Problem != nil {
		if field := fieldOf(v.Problem); field != "" {
			content, p.refused = showRefusal(content, v.Request.URL.EscapedPath(), field, problemOf(v.Problem).Text)
		}
	}
	p.Data = content
	var b bytes.Buffer
	if err := c.templates.all.ExecuteTemplate(&b, "layout", p); err != nil {
		return err
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(status)
	w.Write(b.Bytes())
	return nil
}

// HasLive reports whether the page has parts that are kept fresh.
func (p *Page) HasLive() bool { return len(*p.blocks) > 0 && (!p.Posted() || p.freshAt != "") }

// FreshAt is the address that keeps the page's parts fresh; empty is its own.
func (p *Page) FreshAt() string {
	if p.freshAt == "" {
		return ""
	}
	return Path + p.freshAt
}

// A problem is an error for people.
type problem struct {
	Text          string
	Now           string // page, below Path, that shows what somebody else made of it
	CorrelationID string
	Cloud         *opencmg.CloudError
	Checks        []opencmg.Check
	At            *refusedField // where it is on the page, too
}

func problemOf(err error) *problem {
	if p, ok := errors.AsType[*adminservice.ProblemError](err); ok {
		return &problem{Text: p.Error(), CorrelationID: p.CorrelationID, Cloud: p.CloudError, Checks: p.Checks}
	}
	if e, ok := errors.AsType[*changedMeanwhile](err); ok {
		return &problem{Text: e.Error(), Now: e.page}
	}
	if e, ok := errors.AsType[*opencmg.Error](err); ok {
		return &problem{Text: e.Error()}
	}
	return &problem{Text: "the page could not be made because of an error inside the site: the log SMSProv.log has it"}
}

const noticeCookie = "__Host-opencmg-notice"

// setNotice keeps a sentence for the next page.
func setNotice(w http.ResponseWriter, text string) {
	if text == "" {
		return
	}
	http.SetCookie(w, &http.Cookie{Name: noticeCookie, Value: base64.RawURLEncoding.EncodeToString([]byte(text[:min(len(text), 1000)])), Path: "/", MaxAge: 60, Secure: true, HttpOnly: true, SameSite: http.SameSiteStrictMode})
}

func takeNotice(w http.ResponseWriter, r *http.Request) string {
	k, err := r.Cookie(noticeCookie)
	if err != nil {
		return ""
	}
	http.SetCookie(w, &http.Cookie{Name: noticeCookie, Path: "/", MaxAge: -1, Secure: true, HttpOnly: true, SameSite: http.SameSiteStrictMode})
	b, err := base64.RawURLEncoding.DecodeString(k.Value)
	if err != nil {
		return ""
	}
	return strings.ToValidUTF8(string(b), "")
}

func equal(a, b string) bool { return subtle.ConstantTimeCompare([]byte(a), []byte(b)) == 1 }

// Functions of templates.

// when shows a time; the script makes it one of the reader's own zone, and says
// how long ago it is.
func when(t time.Time) template.HTML {
	if t.IsZero() {
		return "never"
	}
	t = t.UTC()
	return template.HTML(`<time datetime="` + t.Format(time.RFC3339Nano) + `">` + t.Format("2006-01-02 15:04:05") + ` UTC</time>`)
}

func showDuration(d time.Duration) string {
	switch {
	case d < time.Millisecond:
		return fmt.Sprintf("%.2f ms", float64(d)/1e6)
	case d < 10*time.Millisecond:
		return fmt.Sprintf("%.1f ms", float64(d)/1e6)
	case d < time.Second:
		return fmt.Sprintf("%d ms", d.Milliseconds())
	}
	return d.Round(time.Second / 10).String()
}

// showBytes shows a number of bytes in decimal units, as bills do.
func showBytes(n any) string {
	f := asFloat(n)
	for _, u := range []struct {
		size float64
		name string
	}{{1e12, "TB"}, {1e9, "GB"}, {1e6, "MB"}, {1e3, "kB"}} {
		if f >= u.size {
			return fmt.Sprintf("%.1f %s", f/u.size, u.name)
		}
	}
	return fmt.Sprintf("%.0f B", f)
}

// showNumber groups the digits of a number.
func showNumber(n any) string {
	f := asFloat(n)
	if f != math.Trunc(f) {
		return strconv.FormatFloat(f, 'f', 1, 64)
	}
	s := strconv.FormatFloat(math.Abs(f), 'f', 0, 64)
	var groups []string
	for len(s) > 3 {
		groups = append(groups, s[len(s)-3:])
		s = s[:len(s)-3]
	}
	groups = append(groups, s)
	slices.Reverse(groups)
	s = strings.Join(groups, ",")
	if f < 0 {
		s = "-" + s
	}
	return s
}

func asFloat(n any) float64 {
	switch n := n.(type) {
	case int:
		return float64(n)
	case int64:
		return float64(n)
	case uint64:
		return float64(n)
	case float64:
		return n
	}
	return math.NaN()
}

// short is the beginning of a thumbprint or ID.
func short(s string) string {
	if len(s) <= 16 {
		return s
	}
	return s[:12] + "…"
}

// tone is the colour of a state, severity or check: good, busy, warn, bad, or
// none.
func tone(state any) string {
	switch strings.ToLower(fmt.Sprint(state)) {
	case "ready", "pass", "ok", "completed", "connected", "healthy", "approved", "info", "true", "running":
		return "good"
	case "provisioning", "starting", "stopping", "upgrading", "converting", "deleting", "in-progress", "created", "todo", "creating":
		return "busy"
	case "warn", "warning", "pending", "stopped":
		return "warn"
	case "error", "fail", "failed", "critical", "disconnected", "unhealthy", "refused", "blocked", "false":
		return "bad"
	}
	return "none"
}

// word is a state with its colour.
func word(state any) template.HTML {
	return template.HTML(`<span class="state ` + tone(state) + `">` + template.HTMLEscapeString(fmt.Sprint(state)) + `</span>`)
}

// dict makes the data of a part from names and values.
func dict(pairs ...any) (map[string]any, error) {
	if len(pairs)%2 != 0 {
		return nil, errors.New("dict: a name without a value")
	}
	m := map[string]any{}
	for i := 0; i < len(pairs); i += 2 {
		name, ok := pairs[i].(string)
		if !ok {
			return nil, fmt.Errorf("dict: %v is no name", pairs[i])
		}
		m[name] = pairs[i+1]
	}
	return m, nil
}
