//go:build unix && !linux

package gateway

import (
	"net"
	"syscall"

	"golang.org/x/sys/unix"
)

// A poller finds waiting connections whose client went away.
type poller struct{}

func (p *poller) add(w *watch) { w.interruptIfGone() }

func (p *poller) flush() {}

// hungUp reports whether the peer closed its side and everything it sent was
// read.
func hungUp(fd uintptr) bool {
	var b [1]byte
	n, _, err := unix.Recvfrom(int(fd), b[:], unix.MSG_PEEK|unix.MSG_DONTWAIT)
	if err == nil {
		return n == 0
	}
	return err != unix.EAGAIN && err != unix.EWOULDBLOCK && err != unix.EINTR
}

func fdOf(c net.Conn) int32 {
	if _, ok := c.(syscall.Conn); ok {
		return 0 // only tells that the connection can be polled
	}
	return -1
}
