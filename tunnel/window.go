package tunnel

// The arithmetic of flow control (SPEC §6), without I/O and without locks.

// maxStreamWindow is the largest window that a stream grows to.
const maxStreamWindow = 1 << 20

// A sendWindow counts the body bytes that may be sent.
type sendWindow struct{ credit int32 }

// add takes a grant; it refuses a sum above maxWindow.
func (w *sendWindow) add(n uint32) bool {
	if n > maxWindow || int64(w.credit)+int64(n) > maxWindow {
		return false
	}
	w.credit += int32(n)
	return true
}

// take spends up to n bytes of credit and returns how many.
func (w *sendWindow) take(n int) int {
	n = min(n, int(w.credit))
	w.credit -= int32(n)
	return n
}

// A recvWindow counts what the peer may still send. credit plus what is unread
// never exceeds size, and size never exceeds what was reserved above
// privateBytes.
type recvWindow struct {
	credit int32 // the peer may still send
	size   int32 // credit when everything is read and granted
}

func newRecvWindow() recvWindow { return recvWindow{privateBytes, privateBytes} }

// receive spends n bytes; it reports false when the peer had not that many.
func (w *recvWindow) receive(n int) bool {
	if n > int(w.credit) {
		return false
	}
	w.credit -= int32(n)
	return true
}

// due returns the grant that is due with unread bytes waiting for the reader, 0
// while less than half of the window could be granted.
func (w *recvWindow) due(unread int) int {
	n := int(w.size) - int(w.credit) - unread
	if n < int(w.size)/2 {
		return 0
	}
	return n
}

// growth returns by how much the window may grow, 0 when it has its largest
// size.
func (w *recvWindow) growth() int {
	return min(int(w.size), maxStreamWindow-int(w.size))
}

// grow makes the window larger by n bytes.
func (w *recvWindow) grow(n int) { w.size += int32(n) }

// granted notes a grant of n bytes.
func (w *recvWindow) granted(n int) { w.credit += int32(n) }

// reserved returns the bytes of the connection's budget that the window holds.
func (w *recvWindow) reserved() int { return int(w.size) - privateBytes }
