//go:build !linux

package tunnel

import "syscall"

// limitUnsent is of use where the kernel has the option.
func limitUnsent(syscall.RawConn) {}
