package tunnel

import (
	"syscall"

	"golang.org/x/sys/unix"
)

// notSent keeps unsent bytes in the kernel few, so that a small message written
// next does not wait behind megabytes (SPEC §5).
const notSent = 128 << 10

func limitUnsent(c syscall.RawConn) {
	c.Control(func(fd uintptr) {
		// A kernel without the option only makes small messages wait longer.
		_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_NOTSENT_LOWAT, notSent)
	})
}
