package tunnel

import (
	"errors"
	"io"
	"net"
	"time"
)

// The first frame of each direction (SPEC §2).

// greet exchanges hellos, the client's first.
func (c *Conn) greet() error {
	mine, err := appendHello(nil, &wireHello{
		low: versionLow, high: versionHigh, maxStreams: uint32(c.cfg.MaxStreams), initialWindow: privateBytes, Hello: c.cfg.Hello,
	})
	if err != nil {
		return &ConnError{Code: CodeInternal, Err: err}
	}
	if c.client {
		if _, err := c.nc.Write(mine); err != nil {
			return err
		}
	}
	if c.peer, err = readHello(c.nc); err == nil && c.cfg.CheckPeer != nil {
		if refusal := c.cfg.CheckPeer(c.peer.Hello); refusal != nil {
			err = &ConnError{Code: CodeRefused, Msg: refusal.Error(), Err: refusal}
		}
	}
	if err != nil {
		var ce *ConnError
		if errors.As(err, &ce) && !ce.Remote {
			c.nc.SetDeadline(time.Now().Add(lingerTime))
			if _, werr := c.nc.Write(appendGoAway(nil, 0, ce.Code, ce.Msg)); werr == nil {
				linger(c.nc)
			}
			if ce.Err != nil {
				ce.Msg = "" // the error says it
			}
		}
		return err
	}
	if !c.client {
		_, err = c.nc.Write(mine)
	}
	return err
}

func readHello(r io.Reader) (*wireHello, error) {
	var b [headerSize]byte
	if _, err := io.ReadFull(r, b[:]); err != nil {
		return nil, err
	}
	t := frameType(b[0])
	if t != frameHello && t != frameGoAway {
		return nil, protocolError("the peer does not speak the tunnel protocol")
	}
	h, err := parseHeader(b[:])
	if err != nil {
		return nil, err
	}
	p := make([]byte, h.length)
	if _, err := io.ReadFull(r, p); err != nil {
		return nil, err
	}
	if t == frameGoAway {
		_, away := parseGoAway(p)
		return nil, away
	}
	return parseHello(p)
}

// lingerTime is how long a side that closes with a reason waits for the peer to
// take it.
const lingerTime = 2 * time.Second

// linger lets the peer read the last words: closing with unread bytes would
// have the network throw them away.
func linger(nc net.Conn) {
	if cw, ok := nc.(interface{ CloseWrite() error }); ok {
		cw.CloseWrite()
	}
	io.Copy(io.Discard, nc)
}
