package sitelink

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"path/filepath"
	"time"

	"github.com/opencmg/opencmg/adminservice"
	"github.com/opencmg/opencmg/pki"
)

const (
	renewLook = 10 * time.Minute // how often the clock is asked
	// renewPause bounds how often the site's wish for a renewal is followed,
	// in case its new certificates end too early for it as well.
	renewPause = time.Hour
)

// keepCertificate renews the system's certificate when two thirds of its life
// are over, or when the site wants it.
func (l *Link) keepCertificate(ctx context.Context) {
	site := outage{log: l.log, what: "renewing this system's certificate"}
	var renewed time.Time
	for {
		leaf, now := l.cert.Load().Leaf, time.Now()
		wanted := false
		if before := l.renewBefore.Load(); before != nil && leaf.NotAfter.Before(*before) {
			wanted = renewed.IsZero() || now.Sub(renewed) >= renewPause
		}
		began := leaf.NotBefore
		if renewed.After(began) {
			began = renewed // certificates begin some time before they are made
		}
		due := leaf.NotAfter.Add(-leaf.NotAfter.Sub(began) / 3)
		pause := min(max(due.Sub(now), 0), renewLook)
		if wanted || !now.Before(due) {
			if err := l.renewCertificate(ctx); err == nil {
				site.worked()
				renewed, pause = now, time.Second
			} else if ctx.Err() == nil {
				pause = site.failed(err)
			}
		}
		t := time.NewTimer(pause)
		select {
		case <-ctx.Done():
		case <-t.C:
		case <-l.renew:
		}
		t.Stop()
		if ctx.Err() != nil {
			return
		}
	}
}

func (l *Link) renewCertificate(ctx context.Context) error {
	old := l.cert.Load()
	key, request, err := newRequest()
	if err != nil {
		return err
	}
	reply, err := l.client.Renew(ctx, adminservice.RenewRequest{Request: request})
	if err != nil {
		return err
	}
	identity := pki.PeerURI(tls.ConnectionState{PeerCertificates: []*x509.Certificate{old.Leaf}})
	pair, err := pairOf(reply.Certificate, key, l.cfg.SiteCA, identity, time.Now())
	if err != nil {
		return err
	}
	if err := ReplaceKeyPair(filepath.Join(l.cfg.Dir, CertificateFile), filepath.Join(l.cfg.Dir, KeyFile), pair); err != nil {
		return err
	}
	l.cert.Store(&pair)
	l.client.Close() // idle connections show the old one
	if l.cfg.UseCertificate != nil {
		l.cfg.UseCertificate(pair)
	}
	poke(l.news)
	l.log.Info("certificate of this system renewed", "thumbprint", pki.Thumbprint(pair.Leaf), "ends", pair.Leaf.NotAfter)
	return nil
}
