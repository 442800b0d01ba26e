//go:build unix

package connpoint

import (
	"io"
	"net"
	"os"
	"syscall"
)

// liveness finds out whether a role closed an idle connection, and waits for
// its answer without a buffer, each with one system call and no allocation.
type liveness struct {
	look func(fd uintptr) bool // made once per connection
	open bool

	read   func(fd uintptr) bool // made once per connection
	buffer func() []byte
	drop   func()
	n      int
	err    error
}

// A plainConn is a TCP connection without TLS. It is an http1.LazyReader.
type plainConn struct {
	net.Conn
	c *originConn
}

// reader returns what the answers are read from.
func (c *originConn) reader() io.Reader {
	if _, plain := c.nc.(*net.TCPConn); plain && c.raw != nil {
		return &plainConn{c.nc, c}
	}
	return c.nc
}

// ReadLazy implements http1.LazyReader.
func (p *plainConn) ReadLazy(buffer func() []byte, drop func()) (int, error) {
	l := &p.c.peek
	if l.read == nil {
		l.read = func(fd uintptr) bool {
			b := l.buffer()
			for {
				l.n, l.err = syscall.Read(int(fd), b)
				if l.err != syscall.EINTR {
					break
				}
			}
			if l.err == syscall.EAGAIN {
				l.drop()
				return false // wait until there is something
			}
			return true
		}
	}
	l.buffer, l.drop = buffer, drop
	if err := p.c.raw.Read(l.read); err != nil {
		return 0, err
	}
	switch {
	case l.err != nil:
		return 0, os.NewSyscallError("read", l.err)
	case l.n == 0:
		return 0, io.EOF
	}
	return l.n, nil
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
