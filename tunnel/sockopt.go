package tunnel

import "net"

// tune sets the options of the TCP connection at the bottom of nc, if there is
// one.
func tune(nc net.Conn) {
	for range 4 {
		switch c := nc.(type) {
		case *net.TCPConn:
			c.SetNoDelay(true)
			if raw, err := c.SyscallConn(); err == nil {
				limitUnsent(raw)
			}
			return
		case interface{ NetConn() net.Conn }:
			nc = c.NetConn()
		default:
			return
		}
	}
}
