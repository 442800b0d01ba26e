package opencmg_test

import (
	"errors"
	"fmt"
	"io"
	"testing"

	"github.com/opencmg/opencmg"
)

func TestErrorKeepsKindAndCause(t *testing.T) {
	err := fmt.Errorf("outer: %w", opencmg.Errorf(opencmg.NotFound, "read it: %w", io.ErrUnexpectedEOF))
	if !errors.Is(err, opencmg.NotFound) || errors.Is(err, opencmg.Invalid) || !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("kind or cause is lost: %v", err)
	}
	if got := (&opencmg.Error{Kind: opencmg.Timeout, Err: io.EOF}).Error(); got != "timed out: EOF" {
		t.Errorf("got %q", got)
	}
	if got := (&opencmg.Error{Kind: opencmg.Timeout}).Error(); got != "timed out" {
		t.Errorf("got %q", got)
	}
}

func TestErrorAboutAField(t *testing.T) {
	cause := errors.New("cause")
	below := &opencmg.Error{Kind: opencmg.Invalid, Msg: "wrong", Field: "acme.directory", Err: cause}
	err := opencmg.About("certificate", below)
	var e *opencmg.Error
	if !errors.As(err, &e) || e.Field != "certificate.acme.directory" || e.Msg != "wrong" || !errors.Is(err, cause) || !errors.Is(err, opencmg.Invalid) {
		t.Errorf("%+v", err)
	}
	if below.Field != "acme.directory" {
		t.Error("the error of the check was changed")
	}
	if opencmg.About("x", io.EOF) != io.EOF || opencmg.About("x", nil) != nil {
		t.Error("what is no error of ours did not stay as it is")
	}
	if e := opencmg.Errorf(opencmg.Invalid, "bad"); e.About("name") != e || e.Field != "name" || e.Error() != "bad" {
		t.Errorf("%+v", e)
	}
}
