package tunnel

import "encoding/binary"

// What scripted peers are written with.

const (
	FrameHello    = uint8(frameHello)
	FrameOpen     = uint8(frameOpen)
	FrameHead     = uint8(frameHead)
	FrameData     = uint8(frameData)
	FrameTrailers = uint8(frameTrailers)
	FrameReset    = uint8(frameReset)
	FrameStop     = uint8(frameStop)
	FrameWindow   = uint8(frameWindow)
	FramePing     = uint8(framePing)
	FramePong     = uint8(framePong)
	FrameGoAway   = uint8(frameGoAway)

	FlagEnd          = uint8(flagEnd)
	FlagInfo         = uint8(flagInfo)
	FlagNotProcessed = uint8(flagNotProcessed)

	HeaderSize  = headerSize
	MaxData     = maxData
	MaxStreamID = uint64(maxStreamID)
)

// Frame is any frame.
func Frame(typ, flags uint8, id uint64, payload []byte) []byte {
	return appendFrame(nil, frameType(typ), flags, id, payload)
}

func Open(id uint64, end bool, r *Request) []byte { return appendOpen(nil, id, end, r, 0) }

func OpenLeft(id uint64, end bool, r *Request, left uint32) []byte {
	return appendOpen(nil, id, end, r, left)
}

func Window(id uint64, n uint32) []byte { return appendWindow(nil, id, n) }

func Reset(id uint64, code Code, notProcessed bool, text string) []byte {
	return appendReset(nil, id, code, notProcessed, text)
}

func GoAway(last uint64, code Code, text string) []byte { return appendGoAway(nil, last, code, text) }

func ParseGoAway(p []byte) (uint64, *ConnError) { return parseGoAway(p) }

func ParseReset(flags uint8, p []byte) *StreamError { return parseReset(header{flags: flags}, p) }

func Ping(token uint64) []byte { return appendPing(nil, framePing, token) }

func Pong(token uint64) []byte { return appendPing(nil, framePong, token) }

// HelloFrame is a hello with any versions and limits.
func HelloFrame(low, high uint16, maxStreams, window uint32, h Hello) []byte {
	b, err := appendHello(nil, &wireHello{low, high, maxStreams, window, h})
	if err != nil {
		panic(err)
	}
	return b
}

// DecodeFrame checks a header and decodes the payload behind it; it returns the
// length of the frame, 0 when b is too short, and the frame encoded again, nil
// for types without a codec of their own.
func DecodeFrame(b []byte) (n int, again []byte, err error) {
	if len(b) < headerSize {
		return 0, nil, nil
	}
	h, err := parseHeader(b)
	if err != nil || len(b) < headerSize+h.length {
		return 0, nil, err
	}
	n = headerSize + h.length
	p := b[headerSize:n]
	switch h.typ {
	case frameHello:
		w, err := parseHello(p)
		if err != nil {
			return 0, nil, err
		}
		again, err = appendHello(nil, w)
		return n, again, err
	case frameOpen:
		var r Request
		left, err := parseOpen(p, &r)
		if err != nil {
			return 0, nil, err
		}
		return n, appendOpen(nil, h.id, h.flags&flagEnd != 0, &r, left), nil
	case frameReset:
		e := parseReset(h, p)
		return n, appendReset(nil, h.id, e.Code, e.NotProcessed, e.Msg), nil
	case frameGoAway:
		last, e := parseGoAway(p)
		return n, appendGoAway(nil, last, e.Code, e.Msg), nil
	case frameWindow:
		return n, appendWindow(nil, h.id, binary.BigEndian.Uint32(p)), nil
	case framePing, framePong:
		return n, appendPing(nil, h.typ, binary.BigEndian.Uint64(p)), nil
	}
	return n, nil, nil
}

// Window arithmetic, for its own tests.
type (
	SendWindow = sendWindow
	RecvWindow = recvWindow
)

func NewSendWindow(credit int32) SendWindow { return sendWindow{credit} }
func NewRecvWindow() RecvWindow             { return newRecvWindow() }
func (w *sendWindow) Add(n uint32) bool     { return w.add(n) }
func (w *sendWindow) Take(n int) int        { return w.take(n) }
func (w *recvWindow) Receive(n int) bool    { return w.receive(n) }
func (w *recvWindow) Due(unread int) int    { return w.due(unread) }
func (w *recvWindow) Growth() int           { return w.growth() }
func (w *recvWindow) Grow(n int)            { w.grow(n) }
func (w *recvWindow) Granted(n int)         { w.granted(n) }
func (c *Conn) BudgetLeft() int64           { return c.budget.Load() }
func (c *Conn) HeadBytes() int64            { return c.headBytes.Load() }
func (c *Conn) Bulk() (free int, waiting bool) {
	c.w.mu.Lock()
	defer c.w.mu.Unlock()
	return c.w.slots, c.w.waiting != nil
}
func (c *Conn) IdleWorkers() int {
	c.workers.mu.Lock()
	defer c.workers.mu.Unlock()
	return c.workers.n
}
