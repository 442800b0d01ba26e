package main

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/yamux"
)

// The plain way to build the same thing: net/http and httputil.ReverseProxy at
// both ends, a yamux session over mutual TLS between them. Its connection pools
// are large enough and its copy buffers pooled.

func (e *environment) startYamux() (*system, error) {
	edge, err := e.start("edge", nil)
	if err != nil {
		return nil, err
	}
	inner, err := e.start("inner", edge.line)
	if err != nil {
		edge.stop()
		return nil, err
	}
	return &system{name: "yamux", addr: edge.line["addr"], proxies: []*process{edge, inner}}, nil
}

type copyBuffers struct{ pool sync.Pool }

func newCopyBuffers() *copyBuffers {
	return &copyBuffers{sync.Pool{New: func() any { return new([copySize]byte) }}}
}

const copySize = 32 << 10

func (b *copyBuffers) Get() []byte  { return b.pool.Get().(*[copySize]byte)[:] }
func (b *copyBuffers) Put(p []byte) { b.pool.Put((*[copySize]byte)(p)) }

func yamuxConfig() *yamux.Config {
	c := yamux.DefaultConfig()
	c.LogOutput = io.Discard
	c.AcceptBacklog = 4096
	return c
}

func proxyTransport(dial func(ctx context.Context, network, addr string) (net.Conn, error)) *http.Transport {
	return &http.Transport{DialContext: dial, MaxIdleConns: 4096, MaxIdleConnsPerHost: 4096, IdleConnTimeout: time.Minute, DisableCompression: true}
}

func serveEdge(ctx context.Context, c *childConfig, say *json.Encoder) error {
	clients, err := loadPool(c.Dir, "web-ca")
	if err != nil {
		return err
	}
	site, err := loadPool(c.Dir, "site-ca")
	if err != nil {
		return err
	}
	edge, err := loadPair(c.Dir, "edge")
	if err != nil {
		return err
	}
	inner, err := loadPair(c.Dir, "inner")
	if err != nil {
		return err
	}
	tunnels, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{inner}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: site, MinVersion: tls.VersionTLS13})
	if err != nil {
		return err
	}
	ln, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{edge}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: clients, NextProtos: []string{"http/1.1"}})
	if err != nil {
		return err
	}
	var session atomic.Pointer[yamux.Session]
	go func() {
		for {
			nc, err := tunnels.Accept()
			if err != nil {
				return
			}
			if s, err := yamux.Client(nc, yamuxConfig()); err == nil {
				session.Store(s)
			}
		}
	}()
	proxy := &httputil.ReverseProxy{
		Rewrite:    func(r *httputil.ProxyRequest) { r.Out.URL.Scheme, r.Out.URL.Host = "http", "inner" },
		BufferPool: newCopyBuffers(),
		ErrorLog:   log.New(io.Discard, "", 0),
		Transport: proxyTransport(func(context.Context, string, string) (net.Conn, error) {
			if s := session.Load(); s != nil {
				return s.Open()
			}
			return nil, errors.New("no tunnel")
		}),
	}
	srv := &http.Server{Handler: proxy, ErrorLog: log.New(io.Discard, "", 0)}
	context.AfterFunc(ctx, func() { srv.Close(); tunnels.Close() })
	if err := say.Encode(map[string]string{"addr": ln.Addr().String(), "tunnels": tunnels.Addr().String()}); err != nil {
		return err
	}
	srv.Serve(ln)
	return nil
}

func serveInner(ctx context.Context, c *childConfig, say *json.Encoder) error {
	site, err := loadPool(c.Dir, "site-ca")
	if err != nil {
		return err
	}
	pair, err := loadPair(c.Dir, "outer")
	if err != nil {
		return err
	}
	nc, err := tls.Dial("tcp", c.Peer["tunnels"], &tls.Config{RootCAs: site, ServerName: "inner.bench.test", Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS13})
	if err != nil {
		return err
	}
	session, err := yamux.Server(nc, yamuxConfig())
	if err != nil {
		return err
	}
	origin := &url.URL{Scheme: "http", Host: c.Origin}
	proxy := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(origin)
			r.Out.URL.Path = strings.TrimPrefix(r.Out.URL.Path, externalRoot)
		},
		BufferPool: newCopyBuffers(),
		ErrorLog:   log.New(io.Discard, "", 0),
		Transport:  proxyTransport((&net.Dialer{}).DialContext),
	}
	srv := &http.Server{Handler: proxy, ErrorLog: log.New(io.Discard, "", 0)}
	context.AfterFunc(ctx, func() { srv.Close(); session.Close() })
	if err := say.Encode(map[string]string{"state": "connected"}); err != nil {
		return err
	}
	srv.Serve(session)
	return nil
}
