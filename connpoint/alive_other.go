//go:build !unix

package connpoint

import (
	"io"
	"time"
)

type liveness struct{}

// alive reports whether the connection can carry another request. Without a way
// to look, only one that was used a moment ago is trusted.
func (c *originConn) alive() bool {
	return c.r.Buffered() == 0 && c.host.role.pool.now().Sub(c.idleAt) < time.Second
}

// reader returns what the answers are read from.
func (c *originConn) reader() io.Reader { return c.nc }
