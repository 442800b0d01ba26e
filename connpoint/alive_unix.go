//go:build unix

package connpoint

import "syscall"

// liveness finds out whether a role closed an idle connection, with one system
// call and no allocation.
type liveness struct {
	look func(fd uintptr) bool // made once per connection
	open bool
}

// alive reports whether the connection can carry another request. A role that
// sent anything on an idle connection closed it or is out of step.
func (c *originConn) alive() bool {
	if c.raw == nil {
		return true
	}
	p := &c.peek
	if p.look == nil {
		p.look = func(fd uintptr) bool {
			var b [1]byte
			n, err := syscall.Read(int(fd), b[:])
			p.open = n < 0 && (err == syscall.EAGAIN || err == syscall.EWOULDBLOCK)
			return true // never wait
		}
	}
	p.open = false
	if c.r.Buffered() > 0 {
		return false
	}
	if err := c.raw.Read(p.look); err != nil {
		return false
	}
	return p.open
}
