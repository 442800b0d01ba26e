package tunnel

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// A Code says why a stream or a connection ended. It travels to the peer
// (SPEC §8).
type Code uint16

// Codes that a frame can carry. A peer may send others; they are kept as they
// are and printed as numbers.
const (
	CodeNone            Code = 0  // nothing went wrong
	CodeProtocol        Code = 1  // the peer broke the rules of the wire or of the message
	CodeFlowControl     Code = 2  // the peer sent more than it was allowed
	CodeCancelled       Code = 3  // whoever wanted the answer gave up
	CodeRefused         Code = 4  // not taken: limits, or an unwelcome peer
	CodeRoleUnreachable Code = 5  // the role behind the connection point can not be reached
	CodeRoleTimeout     Code = 6  // the role did not answer in time
	CodeBodyTooLarge    Code = 7  // the body is larger than allowed
	CodeTunnelLost      Code = 8  // the connection was lost
	CodeInternal        Code = 9  // a bug or a full resource on the side that says so
	CodeDraining        Code = 10 // the connection takes no new streams
	CodeStopped         Code = 11 // the peer wants no more of the body
)

var codeNames = [...]string{
	"none", "protocol error", "flow control error", "cancelled", "refused", "role unreachable",
	"role timeout", "body too large", "tunnel lost", "internal error", "draining", "stopped",
}

// String returns the name of the code.
func (c Code) String() string {
	if int(c) < len(codeNames) {
		return codeNames[c]
	}
	return "code " + strconv.Itoa(int(c))
}

// A StreamError is the end of one stream. The connection lives on unless it
// was the cause.
type StreamError struct {
	Code Code
	// Remote is set when the peer ended the stream.
	Remote bool
	// NotProcessed is set when the request provably never reached a role, so
	// that it can be sent on another tunnel.
	NotProcessed bool
	// Msg says more; it may be empty. Text from the peer is bounded and has
	// printable characters only.
	Msg string
}

func (e *StreamError) Error() string {
	s := "stream ended: " + e.Code.String()
	if e.Remote {
		s = "stream ended by the peer: " + e.Code.String()
	}
	if e.Msg != "" {
		s += ": " + e.Msg
	}
	return s
}

// NotProcessed reports whether err says that a request provably never reached
// a role.
func NotProcessed(err error) bool {
	var e *StreamError
	return errors.As(err, &e) && e.NotProcessed
}

// Lost reports whether err says that the stream ended because its connection
// did.
func Lost(err error) bool {
	var e *StreamError
	return errors.As(err, &e) && e.Code == CodeTunnelLost
}

// A ConnError is the end of a connection. Code is CodeNone when it was closed
// in good order.
type ConnError struct {
	Code Code
	// Remote is set when the peer announced the end.
	Remote bool
	// Msg says what was wrong. Text from the peer is bounded and has printable
	// characters only.
	Msg string
	// Err is the error of the network below, if that was the cause.
	Err error
}

func (e *ConnError) Error() string {
	s := "tunnel closed"
	if e.Remote {
		s = "tunnel closed by the peer"
	}
	if e.Code != CodeNone {
		s += ": " + e.Code.String()
	}
	if e.Msg != "" {
		s += ": " + e.Msg
	}
	if e.Err != nil {
		s = fmt.Sprintf("%s: %v", s, e.Err)
	}
	return s
}

// Unwrap returns the error of the network below, if any.
func (e *ConnError) Unwrap() error { return e.Err }

// printable makes text from a peer fit for logs: at most max bytes, without
// control characters.
func printable(b []byte, max int) string {
	if len(b) > max {
		b = b[:max]
	}
	return strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return '?'
		}
		return r
	}, string(b))
}
