package sitelink

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/opencmg/opencmg"
	"github.com/opencmg/opencmg/adminservice"
	"github.com/opencmg/opencmg/pki"
)

// followDocuments asks for the documents and waits at the site for changes. What
// was not taken over is asked for again.
func (l *Link) followDocuments(ctx context.Context) {
	site := outage{log: l.log, what: "asking the site for documents"}
	taking := outage{log: l.log, what: "taking over what the site gave"}
	etag := ""
	for ctx.Err() == nil {
		asked, wait := time.Now(), pollWait
		if site.said != "" {
			wait = 0 // to know soon that the site is back
		}
		d, next, err := l.client.Documents(ctx, etag, wait)
		if err != nil {
			if ctx.Err() != nil || !sleep(ctx, site.failed(err)) {
				return
			}
			continue
		}
		site.worked()
		pause := time.Duration(0)
		switch {
		case d != nil:
			l.answer(ctx, d.Questions)
			err := l.take(d)
			l.setProblem(err)
			if err != nil {
				pause = taking.failed(err)
				break
			}
			taking.worked()
			if etag = next; etag == "" {
				pause = 5 * time.Second // a site that can not be waited at
			}
		case time.Since(asked) < time.Second:
			pause = time.Second // a site that did not wait
		}
		if pause > 0 && !sleep(ctx, jitter(pause)) {
			return
		}
	}
}

func (l *Link) setProblem(err error) {
	text := ""
	if err != nil {
		text = err.Error()
	}
	l.problem.Lock()
	changed := l.problem.text != text
	l.problem.text = text
	l.problem.Unlock()
	if changed {
		poke(l.news)
	}
}

// take verifies the documents and puts them where the system finds them. Each
// counts for itself: a document that can not be used keeps no other away.
func (l *Link) take(d *adminservice.Documents) error {
	errs := []error{l.takePublished([]byte(d.Published)), l.takeMappings([]byte(d.Mappings))}
	if l.cfg.Apply != nil {
		errs = append(errs, l.cfg.Apply(d))
	}
	l.renewBefore.Store(&d.RenewBefore)
	if l.cert.Load().Leaf.NotAfter.Before(d.RenewBefore) {
		poke(l.renew)
	}
	return errors.Join(errs...)
}

func (l *Link) takePublished(jws []byte) error {
	if len(jws) == 0 {
		return nil
	}
	file := filepath.Join(l.cfg.Dir, PublishedFile)
	old, err := os.ReadFile(file)
	if err == nil && bytes.Equal(old, jws) {
		return nil
	}
	c, err := pki.VerifyConfiguration(jws, l.cfg.SiteCA, l.cfg.Site, time.Now())
	if err != nil {
		return fmt.Errorf("published configuration: %w", err)
	}
	// What an instance would refuse must not replace what it took: it is what
	// this system starts from.
	if kept, err := pki.VerifyConfiguration(old, l.cfg.SiteCA, l.cfg.Site, time.Now()); err == nil && kept.Gateway == c.Gateway && kept.Version > c.Version {
		return opencmg.Errorf(opencmg.Conflict, "published configuration %d of gateway %s is older than version %d, which is in force", c.Version, c.Gateway, kept.Version)
	}
	if err := pki.WriteFile(file, jws, 0o644); err != nil {
		return err
	}
	l.log.Info("published configuration received", "gateway", c.Gateway, "version", c.Version)
	return nil
}

func (l *Link) takeMappings(jws []byte) error {
	if len(jws) == 0 || l.cfg.CheckMappings == nil {
		return nil
	}
	file := filepath.Join(l.cfg.Dir, MappingsFile)
	if old, err := os.ReadFile(file); err == nil && bytes.Equal(old, jws) {
		return nil
	}
	payload, err := pki.VerifyDocument(pki.KindURLMappings, jws, l.cfg.SiteCA, opencmg.ConfigurationSigningURI(l.cfg.Site), time.Now())
	if err == nil {
		err = l.cfg.CheckMappings(payload)
	}
	if err != nil {
		return fmt.Errorf("URL mappings: %w", err)
	}
	if err := pki.WriteFile(file, jws, 0o644); err != nil {
		return err
	}
	l.log.Info("URL mappings received")
	return nil
}
