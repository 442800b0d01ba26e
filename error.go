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
	// Field is what of the input the failure is about, so that a form can show
	// it there: the JSON name of a property of the request's body, with dots
	// below another one and the number in a list ("certificate.acme.directory",
	// "endpoints.0.path"), or the name of a parameter. It is empty when the
	// failure is about none, or about several.
	Field string
	// Err is the cause. It may hold internal names and is never shown to a
	// remote caller.
	Err error
}

// Errorf makes an [Error] of the kind; a %w verb in format becomes its cause.
func Errorf(kind Kind, format string, args ...any) *Error {
	err := fmt.Errorf(format, args...)
	return &Error{Kind: kind, Msg: err.Error(), Err: errors.Unwrap(err)}
}

// About says which field of the input the error is about, see [Error.Field].
func (e *Error) About(field string) *Error {
	e.Field = field
	return e
}

// About says which field of the input an error is about that came from a check
// of that field's value alone. What the check calls a field is below it then:
// About("certificate", err) of an error about "acme" is about "certificate.acme".
// Nil and errors that are no [Error] stay as they are.
func About(field string, err error) error {
	e, ok := errors.AsType[*Error](err)
	if !ok {
		return err
	}
	about := *e
	if about.Field = field; e.Field != "" {
		about.Field = field + "." + e.Field
	}
	return &about
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
