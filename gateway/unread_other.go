//go:build !unix

package gateway

import "net"

// unread would report whether bytes of the peer are there that nobody has
// read. Here a client whose request meets the end of its idle connection asks
// again.
func unread(net.Conn) bool { return false }
