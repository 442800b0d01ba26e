package opencmg

import (
	"errors"
	"fmt"
)

// A Kind says what sort of failure an [Error] is. Kinds are errors themselves,
// so callers branch with errors.Is(err, opencmg.NotFound). Only internal/web
// turns kinds into HTTP status codes.
type Kind string

// Error implements the error interface.
func (k Kind) Error() string { return string(k) }

// The kinds of failure that callers tell apart.
const (
	Invalid      Kind = "invalid"           // the input is wrong; the caller must change it
	Unauthorized Kind = "not authenticated" // nobody proved who is calling
	Forbidden    Kind = "not allowed"       // the caller is known and may not do this
	NotFound     Kind = "not found"
	Conflict     Kind = "conflict"          // the state does not allow it now
	Stale        Kind = "changed meanwhile" // by somebody else, since the caller looked
	TooLarge     Kind = "too large"
	Unavailable  Kind = "unavailable" // try again later
	Timeout      Kind = "timed out"
)

// An Error is a failure with a kind and a text that may be shown to the person
// who caused it. Err holds the details and is only logged.
type Error struct {
	Kind Kind
	// Msg is safe to show. It says what failed, why, and what to do next.
	Msg string
	// Err is the cause. It may hold internal names and is never shown to a
	// remote caller.
	Err error
}

// Errorf makes an [Error] of the kind; a %w verb in format becomes its cause.
func Errorf(kind Kind, format string, args ...any) *Error {
	err := fmt.Errorf(format, args...)
	return &Error{Kind: kind, Msg: err.Error(), Err: errors.Unwrap(err)}
}

// Error returns the message, followed by the cause unless the message already
// contains it.
func (e *Error) Error() string {
	if e.Msg != "" {
		return e.Msg
	}
	if e.Err != nil {
		return string(e.Kind) + ": " + e.Err.Error()
	}
	return string(e.Kind)
}

// Unwrap gives errors.Is and errors.As both the kind and the cause.
func (e *Error) Unwrap() []error {
	if e.Err == nil {
		return []error{e.Kind}
	}
	return []error{e.Kind, e.Err}
}
