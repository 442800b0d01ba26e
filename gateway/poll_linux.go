package gateway

import (
	"net"
	"syscall"

	"golang.org/x/sys/unix"
)

// pollBatch is how many connections one system call looks at.
const pollBatch = 1024

// A poller finds waiting connections whose client went away. A look at 1,024
// connections is one system call.
type poller struct {
	fds     []unix.PollFd
	watches []*watch
}

func (p *poller) add(w *watch) {
	p.fds = append(p.fds, unix.PollFd{Fd: w.fd, Events: unix.POLLRDHUP})
	p.watches = append(p.watches, w)
	if len(p.fds) == pollBatch {
		p.flush()
	}
}

// flush looks at what was added. A descriptor may have been closed and used
// again in the meantime, so a hit is looked at once more while the connection
// holds its descriptor.
func (p *poller) flush() {
	if len(p.fds) == 0 {
		return
	}
	if n, err := unix.Poll(p.fds, 0); err == nil && n > 0 {
		for i := range p.fds {
			if p.fds[i].Revents != 0 {
				p.watches[i].interruptIfGone()
			}
		}
	}
	clear(p.watches)
	p.fds, p.watches = p.fds[:0], p.watches[:0]
}

// hungUp reports whether the peer closed its side.
func hungUp(fd uintptr) bool {
	one := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLRDHUP}}
	n, err := unix.Poll(one, 0)
	return err == nil && n > 0 && one[0].Revents&(unix.POLLRDHUP|unix.POLLHUP|unix.POLLERR) != 0
}

func fdOf(c net.Conn) int32 {
	fd := int32(-1)
	if sc, ok := c.(syscall.Conn); ok {
		if rc, err := sc.SyscallConn(); err == nil {
			rc.Control(func(f uintptr) { fd = int32(f) })
		}
	}
	return fd
}
