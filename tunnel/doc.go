// Package tunnel is the protocol between a gateway instance and a connection
// point: many request streams on one held-open connection. SPEC.md describes
// the wire.
//
// A [Conn] is one tunnel connection, made from a net.Conn by [Client] on the
// side that dialled and by [Server] on the side that accepted; otherwise the
// two sides are alike. Either opens a [Stream] for each request with
// [Conn.Open], and the other side's [Config.Handler] answers it. A request and
// its answer are opaque heads, bodies of bytes with flow control, and
// trailers. A [Dialer] brings up the net.Conn by one of the transports.
//
// Nothing waits with a timer: [Stream.Reset] from any goroutine ends every call
// that waits on the stream, and the owner of many streams watches them all
// with one sweeper.
//
// A [StreamError] ends one request; its NotProcessed field says that the
// request provably never reached a handler and can be sent elsewhere. A
// [ConnError] ends the connection and with it every stream.
//
// The package does not authenticate peers: that is the business of the TLS
// configuration and of [Config.CheckPeer]. It does not reconnect.
package tunnel
