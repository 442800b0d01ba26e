package tunnel

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
)

// The codec: frames to bytes and back (SPEC §1 to §4). It knows sizes and
// layouts and nothing of streams. Errors are *ConnError with CodeProtocol.

type frameType uint8

const (
	frameHello    frameType = 1  // SPEC §2
	frameOpen     frameType = 2  // SPEC §4
	frameHead     frameType = 3  // head
	frameData     frameType = 4  // body bytes
	frameTrailers frameType = 5  // trailers
	frameReset    frameType = 6  // code (2) text
	frameStop     frameType = 7  // nothing
	frameWindow   frameType = 8  // increment (4)
	framePing     frameType = 9  // token (8)
	framePong     frameType = 10 // token (8)
	frameGoAway   frameType = 11 // last stream ID (8) code (2) text
)

const (
	flagEnd          = 0x01 // OPEN, HEAD, DATA: nothing follows in this direction
	flagInfo         = 0x02 // HEAD: informational
	flagNotProcessed = 0x04 // RESET: no role saw the request
)

const (
	headerSize = 12 // type (1) flags (1) stream ID (6) length (4)

	maxData      = 16<<10 - headerSize
	maxHello     = 4 << 10
	openFixed    = 20
	maxOpen      = openFixed + MaxCorrelationID + MaxRole + MaxEndpoint + MaxIdentity + MaxHead
	maxResetText = 256
	maxAwayText  = 1 << 10
	maxUnknown   = 80 << 10
	maxStreamID  = 1<<48 - 1

	maxFrame = headerSize + maxUnknown
)

func protocolError(format string, args ...any) *ConnError {
	return &ConnError{Code: CodeProtocol, Msg: fmt.Sprintf(format, args...)}
}

// A header is the first 12 bytes of a frame.
type header struct {
	typ    frameType
	flags  uint8
	id     uint64
	length int
}

// parseHeader reads a header from the first headerSize bytes of b and checks
// that the length is possible for the type.
func parseHeader(b []byte) (header, error) {
	first := binary.BigEndian.Uint64(b)
	length := binary.BigEndian.Uint32(b[8:])
	h := header{frameType(first >> 56), uint8(first >> 48), first & maxStreamID, int(length)}
	lo, hi := uint32(0), uint32(maxUnknown)
	switch h.typ {
	case frameHello:
		hi = maxHello
	case frameOpen:
		lo, hi = openFixed, maxOpen
	case frameHead:
		lo, hi = 1, MaxHead
	case frameData:
		if hi = maxData; h.flags&flagEnd == 0 {
			lo = 1
		}
	case frameTrailers:
		hi = MaxTrailers
	case frameReset:
		lo, hi = 2, 2+maxResetText
	case frameStop:
		hi = 0
	case frameWindow:
		lo, hi = 4, 4
	case framePing, framePong:
		lo, hi = 8, 8
	case frameGoAway:
		lo, hi = 10, 10+maxAwayText
	}
	if length < lo || length > hi {
		return h, protocolError("%v frame of %d bytes: must have %d to %d", h.typ, length, lo, hi)
	}
	switch h.typ {
	case frameHello, framePing, framePong, frameGoAway:
		if h.id != 0 {
			return h, protocolError("%v frame on stream %d: belongs to the connection", h.typ, h.id)
		}
	case frameOpen, frameHead, frameData, frameTrailers, frameReset, frameStop, frameWindow:
		if h.id == 0 {
			return h, protocolError("%v frame without a stream", h.typ)
		}
	}
	return h, nil
}

var frameNames = [...]string{"", "HELLO", "OPEN", "HEAD", "DATA", "TRAILERS", "RESET", "STOP", "WINDOW", "PING", "PONG", "GOAWAY"}

func (t frameType) String() string {
	if int(t) < len(frameNames) && t > 0 {
		return frameNames[t]
	}
	return fmt.Sprintf("type %d", uint8(t))
}

func appendHeader(b []byte, t frameType, flags uint8, id uint64, length int) []byte {
	b = binary.BigEndian.AppendUint64(b, uint64(t)<<56|uint64(flags)<<48|id&maxStreamID)
	return binary.BigEndian.AppendUint32(b, uint32(length))
}

func appendFrame(b []byte, t frameType, flags uint8, id uint64, payload []byte) []byte {
	return append(appendHeader(b, t, flags, id, len(payload)), payload...)
}

func appendWindow(b []byte, id uint64, increment uint32) []byte {
	return binary.BigEndian.AppendUint32(appendHeader(b, frameWindow, 0, id, 4), increment)
}

// appendPing writes PING or PONG.
func appendPing(b []byte, t frameType, token uint64) []byte {
	return binary.BigEndian.AppendUint64(appendHeader(b, t, 0, 0, 8), token)
}

func appendReset(b []byte, id uint64, code Code, notProcessed bool, text string) []byte {
	text = text[:min(len(text), maxResetText)]
	var flags uint8
	if notProcessed {
		flags = flagNotProcessed
	}
	b = appendHeader(b, frameReset, flags, id, 2+len(text))
	return append(binary.BigEndian.AppendUint16(b, uint16(code)), text...)
}

func parseReset(h header, p []byte) *StreamError {
	return &StreamError{
		Code: Code(binary.BigEndian.Uint16(p)), Remote: true,
		NotProcessed: h.flags&flagNotProcessed != 0, Msg: printable(p[2:], maxResetText),
	}
}

func appendGoAway(b []byte, last uint64, code Code, text string) []byte {
	text = text[:min(len(text), maxAwayText)]
	b = appendHeader(b, frameGoAway, 0, 0, 10+len(text))
	b = binary.BigEndian.AppendUint64(b, last)
	return append(binary.BigEndian.AppendUint16(b, uint16(code)), text...)
}

func parseGoAway(p []byte) (last uint64, err *ConnError) {
	return binary.BigEndian.Uint64(p), &ConnError{
		Code: Code(binary.BigEndian.Uint16(p[8:])), Remote: true, Msg: printable(p[10:], maxAwayText),
	}
}

// checkRequest reports what keeps a request from being sent.
func checkRequest(r *Request) error {
	switch {
	case len(r.CorrelationID) > MaxCorrelationID:
		return fmt.Errorf("correlation ID of %d bytes: at most %d", len(r.CorrelationID), MaxCorrelationID)
	case len(r.Role) > MaxRole:
		return fmt.Errorf("role of %d bytes: at most %d", len(r.Role), MaxRole)
	case len(r.Endpoint) > MaxEndpoint:
		return fmt.Errorf("endpoint of %d bytes: at most %d", len(r.Endpoint), MaxEndpoint)
	case len(r.Identity) > MaxIdentity:
		return fmt.Errorf("identity of %d bytes: at most %d", len(r.Identity), MaxIdentity)
	case len(r.Head) > MaxHead:
		return fmt.Errorf("head of %d bytes: at most %d", len(r.Head), MaxHead)
	case r.BodyLength < -1 || r.BodyLength == math.MaxInt64:
		return errors.New("body length out of range")
	}
	return nil
}

// appendOpen writes OPEN. left is the time left in milliseconds, 0 none.
func appendOpen(b []byte, id uint64, end bool, r *Request, left uint32) []byte {
	var flags uint8
	if end {
		flags = flagEnd
	}
	n := openFixed + len(r.CorrelationID) + len(r.Role) + len(r.Endpoint) + len(r.Identity) + len(r.Head)
	b = appendHeader(b, frameOpen, flags, id, n)
	b = binary.BigEndian.AppendUint32(b, left)
	b = binary.BigEndian.AppendUint64(b, uint64(r.BodyLength+1))
	b = binary.BigEndian.AppendUint16(b, uint16(len(r.CorrelationID)))
	b = binary.BigEndian.AppendUint16(b, uint16(len(r.Role)))
	b = binary.BigEndian.AppendUint16(b, uint16(len(r.Endpoint)))
	b = binary.BigEndian.AppendUint16(b, uint16(len(r.Identity)))
	b = append(b, r.CorrelationID...)
	b = append(b, r.Role...)
	b = append(b, r.Endpoint...)
	b = append(b, r.Identity...)
	return append(b, r.Head...)
}

// parseOpen reads the payload of OPEN into r, whose strings and Head are copies.
func parseOpen(p []byte, r *Request) (left uint32, err error) {
	left = binary.BigEndian.Uint32(p)
	length := binary.BigEndian.Uint64(p[4:])
	if length > math.MaxInt64 {
		return 0, protocolError("OPEN frame with a body length of %d", length)
	}
	var n [4]int
	total := 0
	for i, max := range [4]int{MaxCorrelationID, MaxRole, MaxEndpoint, MaxIdentity} {
		n[i] = int(binary.BigEndian.Uint16(p[12+2*i:]))
		if n[i] > max {
			return 0, protocolError("OPEN frame whose field %d has %d bytes: at most %d", i, n[i], max)
		}
		total += n[i]
	}
	p = p[openFixed:]
	if total > len(p) {
		return 0, protocolError("OPEN frame whose fields are longer than the frame")
	}
	if len(p)-total > MaxHead {
		return 0, protocolError("OPEN frame with a head of %d bytes: at most %d", len(p)-total, MaxHead)
	}
	text := string(p[:total]) // one allocation for the four of them
	next := func(i int) (s string) {
		s, text = text[:n[i]], text[n[i]:]
		return s
	}
	r.CorrelationID, r.Role, r.Endpoint, r.Identity = next(0), next(1), next(2), next(3)
	r.BodyLength = int64(length) - 1
	r.Head = append(make([]byte, 0, len(p)-total), p[total:]...)
	return left, nil
}

const (
	helloMagic   = "OCMG"
	helloFixed   = 4 + 2 + 2 + 4 + 4 + 2 + 2 + 8
	versionLow   = 1 // oldest version spoken here
	versionHigh  = 1 // newest
	privateBytes = 16 << 10
	maxWindow    = math.MaxInt32 // largest sum of credit on a stream
)

// wireHello is the payload of HELLO.
type wireHello struct {
	low, high     uint16
	maxStreams    uint32
	initialWindow uint32
	Hello
}

func appendHello(b []byte, h *wireHello) ([]byte, error) {
	if h.Instance < 0 || h.Instance > math.MaxUint16 || h.Instances < 0 || h.Instances > math.MaxUint16 {
		return b, fmt.Errorf("hello: instance %d of %d is out of range", h.Instance, h.Instances)
	}
	start := len(b)
	b = appendHeader(b, frameHello, 0, 0, 0)
	b = append(b, helloMagic...)
	b = binary.BigEndian.AppendUint16(b, h.low)
	b = binary.BigEndian.AppendUint16(b, h.high)
	b = binary.BigEndian.AppendUint32(b, h.maxStreams)
	b = binary.BigEndian.AppendUint32(b, h.initialWindow)
	b = binary.BigEndian.AppendUint16(b, uint16(h.Instance))
	b = binary.BigEndian.AppendUint16(b, uint16(h.Instances))
	b = binary.BigEndian.AppendUint64(b, h.ConfigVersion)
	for _, s := range []string{h.Site, h.Gateway, h.ConnectionPoint, h.ConnectionID, h.Software} {
		if len(s) > math.MaxUint8 {
			return b[:start], fmt.Errorf("hello: name of %d bytes: at most %d", len(s), math.MaxUint8)
		}
		b = append(append(b, byte(len(s))), s...)
	}
	binary.BigEndian.PutUint32(b[start+8:], uint32(len(b)-start-headerSize))
	return b, nil
}

// parseHello reads the payload of HELLO. Where the version is not one of ours
// it fails with CodeRefused.
func parseHello(p []byte) (*wireHello, error) {
	if len(p) < 8 || string(p[:4]) != helloMagic {
		return nil, protocolError("the peer does not speak the tunnel protocol")
	}
	h := &wireHello{low: binary.BigEndian.Uint16(p[4:]), high: binary.BigEndian.Uint16(p[6:])}
	if h.low > h.high {
		return nil, protocolError("HELLO frame with versions %d to %d", h.low, h.high)
	}
	if h.high < versionLow || h.low > versionHigh {
		return nil, &ConnError{Code: CodeRefused, Msg: fmt.Sprintf(
			"tunnel versions %d to %d are spoken there and %d to %d here: update the older side", h.low, h.high, versionLow, versionHigh)}
	}
	if len(p) < helloFixed {
		return nil, protocolError("HELLO frame of %d bytes is cut off", len(p))
	}
	h.maxStreams = binary.BigEndian.Uint32(p[8:])
	h.initialWindow = binary.BigEndian.Uint32(p[12:])
	h.Instance = int(binary.BigEndian.Uint16(p[16:]))
	h.Instances = int(binary.BigEndian.Uint16(p[18:]))
	h.ConfigVersion = binary.BigEndian.Uint64(p[20:])
	if h.initialWindow < privateBytes || h.initialWindow > maxWindow {
		return nil, protocolError("HELLO frame with an initial window of %d bytes", h.initialWindow)
	}
	p = p[helloFixed:]
	for _, s := range []*string{&h.Site, &h.Gateway, &h.ConnectionPoint, &h.ConnectionID, &h.Software} {
		if len(p) < 1 || len(p) < 1+int(p[0]) {
			return nil, protocolError("HELLO frame is cut off")
		}
		*s, p = string(p[1:1+int(p[0])]), p[1+int(p[0]):]
	}
	return h, nil
}
