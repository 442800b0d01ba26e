package console

import (
	"errors"
	"io"
	"net/http"
	"sync"
	"time"

	"github.com/opencmg/opencmg"
)

// shownOnce holds secrets between the form that made them and the page that shows
// them, once, to the session that made them. They are in memory only: neither an
// address nor a cookie may carry them. The zero value is ready.
type shownOnce struct {
	mu   sync.Mutex // guards list
	list []onceSecret
}

type onceSecret struct {
	session, id, text string
	at                time.Time
}

const (
	// maxOnce bounds the secrets that wait; the oldest make room.
	maxOnce = 100
	// onceWaits is how long one waits for the browser, which comes at once.
	onceWaits = 2 * time.Minute
)

// keep holds the text until it is taken by its ID.
func (o *shownOnce) keep(s *Session, id, text string, now time.Time) {
	o.mu.Lock()
	defer o.mu.Unlock()
	list := []onceSecret{}
	for _, one := range o.list {
		if now.Sub(one.at) < onceWaits {
			list = append(list, one)
		}
	}
	o.list = append(list[max(0, len(list)-maxOnce+1):], onceSecret{s.Secret, id, text, now})
}

// take returns the text and forgets it; empty when it was shown before.
func (o *shownOnce) take(s *Session, id string) string {
	o.mu.Lock()
	defer o.mu.Unlock()
	for i, one := range o.list {
		if one.id == id && equal(one.session, s.Secret) {
			o.list = append(o.list[:i:i], o.list[i+1:]...)
			return one.text
		}
	}
	return ""
}

// Errors of forms.

func invalid(format string, args ...any) error {
	return opencmg.Errorf(opencmg.Invalid, format, args...)
}

func notThere(what, id string) error {
	return opencmg.Errorf(opencmg.NotFound, "there is no %s %q: it was deleted, or the address is wrong", what, id)
}

// typed asks whether the name was typed by which a deletion is confirmed.
func typed(v *Visit, name string) error {
	if v.Form("typed") != name {
		return invalid("type the name %s to confirm that it is to be deleted", name)
	}
	return nil
}

// fileOf reads a text file of the form, of at most so many bytes; empty when none
// was chosen.
func fileOf(v *Visit, name string, most int64) (string, error) {
	f, head, err := v.Request.FormFile(name)
	if errors.Is(err, http.ErrMissingFile) || errors.Is(err, http.ErrNotMultipart) {
		return "", nil
	}
	if err != nil {
		return "", invalid("%s: the file can not be read: %v", name, err)
	}
	defer f.Close()
	if head.Size > most {
		return "", invalid("%s: %s is larger than %d bytes: is it the right file?", name, head.Filename, most)
	}
	b, err := io.ReadAll(io.LimitReader(f, most))
	return string(b), err
}
