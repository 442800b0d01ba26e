package gateway_test

import (
	"net"
	"testing"
)

// TestTunnelStrangers opens many connections to the tunnel port and says
// nothing: some are closed at once, and tunnels come in again afterwards.
func TestTunnelStrangers(t *testing.T) {
	noLeaks(t)
	in := startInstance(t, instanceOptions{config: configuration(1), quiet: true})
	const extra = 20
	closed := make(chan struct{}, 1000)
	var all []net.Conn
	for range 256 + extra {
		c, err := net.Dial("tcp", in.tunnel)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		all = append(all, c)
		go func() {
			c.Read(make([]byte, 1))
			closed <- struct{}{}
		}()
	}
	for range extra {
		<-closed
	}
	for _, c := range all {
		c.Close()
	}
	eventually(t, "a tunnel comes in", func() bool {
		_, err := in.tryConnect("id-1", func(*call) {})
		return err == nil
	})
}
