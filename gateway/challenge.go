package gateway

// What a certification authority looks at before it issues the server
// certificate: http-01 by plain HTTP, tls-alpn-01 on the client port. The
// challenges come with the published configuration, so every instance answers
// all of them, wherever the authority's connection ends.

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/opencmg/opencmg"
	"github.com/opencmg/opencmg/pki"
)

// challenges are those of one published configuration, ready to be answered.
type challenges struct {
	files        map[string]string      // key authorization by token (http-01)
	certificates map[string]*tls.Config // by domain (tls-alpn-01)
}

func newChallenges(list []opencmg.ACMEChallenge, now time.Time) (challenges, error) {
	c := challenges{files: map[string]string{}, certificates: map[string]*tls.Config{}}
	for _, ch := range list {
		if ch.Type == opencmg.ChallengeHTTP {
			c.files[ch.Token] = ch.KeyAuthorization
			continue
		}
		cert, err := pki.ChallengeCertificate(ch, now)
		if err != nil {
			return c, err
		}
		c.certificates[ch.Domain] = &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{cert}, NextProtos: []string{pki.ALPNChallenge}}
	}
	return c, nil
}

// noChallenge ends the handshake of who asks for a challenge that is not there.
var noChallenge = &tls.Config{
	MinVersion: tls.VersionTLS12, NextProtos: []string{pki.ALPNChallenge},
	GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
		return nil, errors.New("no challenge for this name is published")
	},
}

func (c challenges) tls(domain string) *tls.Config {
	if t := c.certificates[strings.ToLower(domain)]; t != nil {
		return t
	}
	return noChallenge
}

// challengePath is where http-01 files are (RFC 8555 8.3).
const challengePath = "/.well-known/acme-challenge/"

// maxPlain bounds the connections of the plain HTTP port.
const maxPlain = 256

// servePlain serves the plain HTTP port until s.ctx ends.
func (s *Server) servePlain(ln net.Listener) error {
	srv := &http.Server{
		Handler:           http.HandlerFunc(s.plain),
		ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 10 * time.Second, WriteTimeout: 10 * time.Second,
		MaxHeaderBytes: 8 << 10, DisableGeneralOptionsHandler: true,
		ErrorLog: slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
	}
	srv.SetKeepAlivesEnabled(false)
	stop := context.AfterFunc(s.ctx, func() { srv.Close() })
	defer stop()
	if err := srv.Serve(&limitedListener{Listener: ln}); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// plain answers challenges and sends others to HTTPS. Nothing else is ever
// answered here: what a client sends with a request could be a secret, so a
// method that carries something is told that there is nothing.
func (s *Server) plain(w http.ResponseWriter, r *http.Request) {
	get := r.Method == http.MethodGet || r.Method == http.MethodHead
	token, asks := strings.CutPrefix(r.URL.Path, challengePath)
	switch {
	case !get:
		http.NotFound(w, r)
	case asks:
		authorization := s.snap.Load().challenges.files[token]
		if authorization == "" {
			http.NotFound(w, r)
			return
		}
		s.log.Info("http-01 challenge answered", "component", componentService, "remote", r.RemoteAddr, "host", r.Host)
		w.Header().Set("Content-Type", "application/octet-stream")
		io.WriteString(w, authorization)
	default:
		// The service name and not the Host field: nobody shall be sent where a
		// stranger wants.
		to := url.URL{Scheme: "https", Host: s.cfg.ServiceName, Path: r.URL.Path, RawPath: r.URL.RawPath, RawQuery: r.URL.RawQuery}
		w.Header().Set("Location", to.String())
		w.WriteHeader(http.StatusPermanentRedirect)
	}
}

// A limitedListener closes connections above maxPlain.
type limitedListener struct {
	net.Listener
	open atomic.Int64
}

func (l *limitedListener) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if l.open.Add(1) <= maxPlain {
			return &limitedConn{Conn: c, done: sync.OnceFunc(func() { l.open.Add(-1) })}, nil
		}
		l.open.Add(-1)
		c.Close()
	}
}

type limitedConn struct {
	net.Conn
	done func()
}

func (c *limitedConn) Close() error {
	c.done()
	return c.Conn.Close()
}
