package console

import (
	"errors"
	"html/template"
	"strconv"

	"github.com/opencmg/opencmg"
)

// Two people may edit an object at the same time. A form carries the version of
// the object that it showed, the administration service refuses a change of
// another one, and the form comes back with what was typed.

// Version is the field with the version of the object that the form shows. A
// form that was not done keeps the version that its person looked at; only one
// that was refused because somebody else changed the object goes on from the
// version that it is now, since its person was told.
func (p *Page) Version(now int64) template.HTML {
	shown := strconv.FormatInt(now, 10)
	if typed := p.Form("version"); p.Posted() && typed != "" && !errors.Is(p.Problem, opencmg.Stale) {
		shown = typed
	}
	return template.HTML(`<input type="hidden" name="version" value="` + template.HTMLEscapeString(shown) + `">`)
}

// change changes an object of the version that the form showed. page, below Path,
// shows the object.
func (v *Visit) change(path, page string, in any) error {
	version, err := strconv.ParseInt(v.Form("version"), 10, 64)
	if v.Form("version") != "" && (err != nil || version < 1) {
		return invalid("the form is not complete: open the page again")
	}
	err = v.Client.Change(v.Context(), "PATCH", path, version, in, nil)
	if errors.Is(err, opencmg.Stale) {
		return &changedMeanwhile{page}
	}
	return err
}

// changedMeanwhile is why a form was not done whose object somebody else changed.
type changedMeanwhile struct{ page string } // that shows the object

func (e *changedMeanwhile) Error() string {
	return "somebody changed this while the page was open, and nothing was saved: what you typed is still here. Compare it with what is there now, and apply it again to replace that"
}

func (e *changedMeanwhile) Unwrap() error { return opencmg.Stale }
