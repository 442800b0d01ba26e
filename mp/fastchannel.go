package mp

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/opencmg/opencmg"
	"github.com/opencmg/opencmg/ccm"
	"github.com/opencmg/opencmg/pki"
	"github.com/opencmg/opencmg/sitedb"
)

const (
	fastSignInTimeout = 15 * time.Second
	// A client sends a keep-alive about every 15 minutes.
	fastIdleTimeout   = 40 * time.Minute
	fastWriteTimeout  = 30 * time.Second
	maxFastUnproved   = 1024 // connections that have not signed in yet
	maxFastConnection = 50000
)

// serveFastChannel answers the TCP form of notification (wire.md 9.2).
func (s *Server) serveFastChannel(ctx context.Context, ln net.Listener) error {
	defer context.AfterFunc(ctx, func() { ln.Close(); s.hub.close() })()
	var wg sync.WaitGroup
	defer wg.Wait()
	config := s.tlsConfig()
	unproved, all := make(chan struct{}, maxFastUnproved), make(chan struct{}, maxFastConnection)
	for {
		raw, err := ln.Accept()
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			if errors.Is(err, net.ErrClosed) {
				return fmt.Errorf("management point: serve fast channel: %w", err)
			}
			// Too many open files, or a peer that left: neither is the end.
			s.log.Warn("fast channel: accept", "component", "BGBServer", "err", err)
			select {
			case <-time.After(50 * time.Millisecond):
			case <-ctx.Done():
			}
			continue
		}
		select {
		case all <- struct{}{}:
		default:
			raw.Close()
			continue
		}
		select {
		case unproved <- struct{}{}:
		default:
			<-all
			raw.Close()
			continue
		}
		wg.Go(func() {
			defer func() { <-all }()
			proved := sync.OnceFunc(func() { <-unproved })
			defer proved()
			conn := tls.Server(raw, config)
			defer conn.Close()
			defer context.AfterFunc(ctx, func() { conn.Close() })()
			if err := s.fastChannel(ctx, conn, proved); err != nil && ctx.Err() == nil {
				s.log.Debug("fast channel ended", "component", "BGBServer", "remote", raw.RemoteAddr().String(), "err", err)
			}
		})
	}
}

// fastChannel owns one connection: this goroutine reads, a second one writes
// what the hub wakes it for.
func (s *Server) fastChannel(ctx context.Context, conn *tls.Conn, proved func()) error {
	conn.SetDeadline(time.Now().Add(fastSignInTimeout))
	if err := conn.HandshakeContext(ctx); err != nil {
		return err
	}
	f, err := ccm.ReadFrame(conn)
	if err != nil {
		return err
	}
	client, err := s.signIn(ctx, conn, f)
	if err != nil {
		return err
	}
	proved()
	log := s.log.With("component", "BGBServer", "client", string(client.ID))
	log.Info("client signed in to the fast channel", "remote", conn.RemoteAddr().String())
	waiter, leave := s.hub.join(client.ID, "tcp", false, client.Auth)
	defer leave()
	if _, err := conn.Write(ccm.SignInConfirm(s.now()).Append(nil)); err != nil {
		return err
	}
	conn.SetDeadline(time.Time{})
	ctx, cancel := context.WithCancel(ctx)
	var writer sync.WaitGroup
	defer writer.Wait()
	defer cancel()
	writer.Go(func() {
		defer conn.Close()
		s.pushTasks(ctx, conn, client.ID, waiter, log)
	})
	for {
		conn.SetReadDeadline(time.Now().Add(fastIdleTimeout))
		f, err := ccm.ReadFrame(conn)
		if err != nil {
			return err
		}
		switch f.Type {
		case ccm.FrameKeepAlive:
			// After a minute without an answer a task is sent again.
			s.hub.wake(client.ID)
		case ccm.FrameResponse:
			if _, err := s.answer(ctx, client.ID, f); err != nil {
				log.Info("answer refused", "err", err)
			}
		default:
			return opencmg.Errorf(opencmg.Invalid, "fast channel: frame type %d after signing in", f.Type)
		}
	}
}

// signIn finds the client of a sign-in frame. The frame carries no signature,
// so the key in TLS has to be the client's: the registered signing key, or the
// certificate it registered with.
func (s *Server) signIn(ctx context.Context, conn *tls.Conn, f ccm.Frame) (sitedb.Client, error) {
	if f.Type != ccm.FrameSignIn {
		return sitedb.Client{}, opencmg.Errorf(opencmg.Invalid, "fast channel: frame type %d before signing in", f.Type)
	}
	in, err := ccm.ParseSignIn(f)
	if err != nil {
		return sitedb.Client{}, err
	}
	c, err := s.c.DB.Client(ctx, in.ClientID)
	if err != nil {
		return sitedb.Client{}, err
	}
	if !c.Approval.Trusted() {
		return sitedb.Client{}, opencmg.Errorf(opencmg.Forbidden, "fast channel: client %s is not approved", c.ID)
	}
	peers := conn.ConnectionState().PeerCertificates
	switch {
	case len(peers) > 0 && (pki.Thumbprint(peers[0]) == c.Thumbprint || sitedb.KeyID(peers[0]) == sitedb.KeyID(c.Signing)):
	case len(peers) == 0 && s.c.FastChannelWithoutCertificate:
	default:
		s.log.Info("fast channel refused: the key in TLS is not the client's", "component", "BGBServer", "client", string(c.ID), "presented", len(peers) > 0)
		return sitedb.Client{}, opencmg.Errorf(opencmg.Forbidden, "fast channel: client %s did not prove its key", c.ID)
	}
	return c, nil
}

// pushTasks writes tasks until the connection, the client's turn or ctx ends.
func (s *Server) pushTasks(ctx context.Context, conn net.Conn, id opencmg.ClientID, w *waiter, log *slog.Logger) {
	for again := true; ; again = false {
		select {
		case <-w.wake:
		case <-w.replaced:
			return
		case <-ctx.Done():
			return
		}
		frames, err := s.due(ctx, id, again)
		if err != nil {
			log.Warn("tasks can not be read", "err", err)
			return
		}
		for _, f := range frames {
			conn.SetWriteDeadline(time.Now().Add(fastWriteTimeout))
			if _, err := conn.Write(f.Append(nil)); err != nil {
				return
			}
		}
		if len(frames) > 0 {
			log.Info("tasks sent", "count", len(frames))
		}
	}
}

func isNotFound(err error) bool { return errors.Is(err, opencmg.NotFound) }
