package gateway

import "syscall"

// interruptIfGone ends the wait of a connection whose client went away.
func (w *watch) interruptIfGone() {
	old := w.state.Load()
	switch phase(old >> phaseShift) {
	case phaseSendBody, phaseWait, phaseReadAnswer:
	default:
		return
	}
	sc, ok := w.conn.(syscall.Conn)
	if !ok {
		return
	}
	rc, err := sc.SyscallConn()
	if err != nil {
		return
	}
	gone := false
	if rc.Control(func(fd uintptr) { gone = hungUp(fd) }) == nil && gone {
		w.interrupt(old, causeGone)
	}
}
