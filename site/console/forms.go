package console

import (
	"cmp"
	"io"
	"strconv"
	"strings"

	"github.com/opencmg/opencmg"
)

// Errors of forms.

func invalid(format string, args ...any) *opencmg.Error {
	return opencmg.Errorf(opencmg.Invalid, format, args...)
}

func notThere(what, id string) error {
	return opencmg.Errorf(opencmg.NotFound, "there is no %s %q: it was deleted, or the address is wrong", what, id)
}

// typedName asks whether the name was typed by which a deletion is confirmed.
func typedName(v *Visit, name string) error {
	if v.Form("typed") != name {
		return invalid("to delete it, type its name: %s", name).About("typed")
	}
	return nil
}

// maxUpload bounds a file of a form, in bytes.
const maxUpload = 2 << 20

// upload reads a file of the form; nil when none was chosen.
func upload(v *Visit, name string) ([]byte, error) {
	f, _, err := v.Request.FormFile(name)
	if err != nil {
		return nil, nil // none was chosen
	}
	defer f.Close()
	return readUpload(f, name)
}

func readUpload(f io.Reader, name string) ([]byte, error) {
	b, err := io.ReadAll(io.LimitReader(f, maxUpload+1))
	if err != nil {
		return nil, invalid("%s: the file can not be read: %v", name, err).About(name)
	}
	if len(b) > maxUpload {
		return nil, opencmg.Errorf(opencmg.TooLarge, "%s: the file is larger than %d bytes: is it the right one?", name, maxUpload).About(name)
	}
	return b, nil
}

// formNumber reads a whole number; an empty field is 0.
func formNumber(v *Visit, name string) (int, error) {
	s := v.Form(name)
	if s == "" {
		return 0, nil
	}
	n, err := strconv.Atoi(s)
	if err != nil {
		return 0, invalid("%s: must be a whole number, is %q", name, s).About(name)
	}
	return n, nil
}

// words are the words of a field that holds several, separated by spaces, commas
// or lines.
func words(s string) []string {
	return strings.FieldsFunc(s, func(r rune) bool { return r == ' ' || r == ',' || r == '\n' || r == '\r' || r == '\t' })
}

// fromForm collects the first error of a form that is read field by field.
type fromForm struct {
	v   *Visit
	err error
}

func (f *fromForm) number(name string) int {
	n, err := formNumber(f.v, name)
	f.err = cmp.Or(f.err, err)
	return n
}
