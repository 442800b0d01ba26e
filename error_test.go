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
