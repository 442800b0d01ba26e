// Package http1 reads HTTP/1.1 messages strictly and without allocating: the
// hot path of the gateway's edge and of the connection point. A head that this
// package accepts has one meaning only, so it can cross the tunnel as bytes and
// be written to the other side unchanged (RFC 9112; what that RFC leaves to the
// recipient is refused here).
//
// A [Reader] holds a buffer only while a message is there. [RequestHead] and
// [ResponseHead] are views into it and are valid until the reader is used
// again. The package does not write messages, keep connections or know
// anything about HTTP/2.
package http1
