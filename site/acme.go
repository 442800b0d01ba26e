package site

import (
	"cmp"
	"context"
	"crypto"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/mail"
	"net/url"
	"strings"
	"time"

	"github.com/opencmg/opencmg"
	"github.com/opencmg/opencmg/adminservice"
	"github.com/opencmg/opencmg/pki"
	"github.com/opencmg/opencmg/sitedb"
)

// A gateway whose certificate comes by ACME boots with one of the site CA,
// since an instance answers the authority's challenges only when it has a
// certificate, and a connection point that brings them. As soon as connection
// points hold tunnels, the real one is ordered.

// renewalRecord is how far the renewal by ACME is.
type renewalRecord struct {
	Temporary bool      `json:"temporary,omitempty"` // the certificate is of the site CA
	Next      time.Time `json:"next,omitzero"`       // when to order
	Failures  int       `json:"failures,omitempty"`
	Problem   string    `json:"problem,omitempty"` // of the last attempt
	Operation string    `json:"operation,omitempty"`
}

const (
	temporaryTerm = 90 * 24 * time.Hour
	renewalFirst  = 15 * time.Minute // after a failure, then twice as long each time
	renewalMost   = 24 * time.Hour
	obtainTime    = 15 * time.Minute // for one order
	answerTime    = 30 * time.Second // for taking challenges back
)

// failed notes an attempt and when the next one is due. Authorities limit failed
// attempts, some to five an hour.
func (v *renewalRecord) failed(problem string, now time.Time) {
	pause := min(renewalFirst<<min(v.Failures, 10), renewalMost)
	v.Failures++
	v.Problem, v.Next = problem, now.UTC().Add(pause+rand.N(pause/4))
}

// obtained notes a certificate. Sites that were set up together shall not come
// together: the next one is ordered somewhat before its time.
func (v *renewalRecord) obtained(leaf *x509.Certificate, operation string) {
	early := rand.N(leaf.NotAfter.Sub(leaf.NotBefore)/30 + 1)
	*v = renewalRecord{Next: pki.RenewalTime(leaf).UTC().Add(-early), Operation: operation}
}

func bindingSecret(id string) string { return "gateway/" + id + "/acme-binding" }

// putBinding keeps the key of an external account binding.
func putBinding(tx *sitedb.Tx, id string, a *adminservice.ACME) error {
	if a == nil || a.BindingKey == "" {
		return tx.DeleteSecret(bindingSecret(id))
	}
	return tx.PutSecret(bindingSecret(id), []byte(a.BindingKey))
}

// shown is what the record holds: all but the binding's key.
func shown(a *adminservice.ACME) *adminservice.ACME {
	c := *a
	c.BindingKey = ""
	return &c
}

// checkACME checks what an administrator asked for. Its errors are about fields
// of a.
func checkACME(a *adminservice.ACME) error {
	if u, err := url.Parse(a.Directory); err != nil || u.Scheme != "https" || u.Host == "" || u.User != nil {
		return opencmg.Errorf(opencmg.Invalid, "certificate.acme.directory: must be an https address such as https://acme-v02.api.letsencrypt.org/directory").About("directory")
	}
	if c := a.Challenge; c != "" && c != opencmg.ChallengeHTTP && c != opencmg.ChallengeTLSALPN {
		return opencmg.Errorf(opencmg.Invalid, "certificate.acme.challenge %q: must be %s or %s", c, opencmg.ChallengeHTTP, opencmg.ChallengeTLSALPN).About("challenge")
	}
	for i, c := range a.Contact {
		address := strings.TrimPrefix(c, "mailto:")
		if _, err := mail.ParseAddress(address); err != nil {
			return opencmg.Errorf(opencmg.Invalid, "certificate.acme.contact %q: must be a mail address", c).About("contact")
		}
		a.Contact[i] = "mailto:" + address
	}
	if (a.BindingKeyID == "") != (a.BindingKey == "") {
		return opencmg.Errorf(opencmg.Invalid, "certificate.acme: bindingKeyId and bindingKey belong together").About("bindingKeyId")
	}
	if _, err := bindingKey(a.BindingKey); err != nil {
		return err
	}
	return nil
}

func bindingKey(text string) ([]byte, error) {
	b, err := base64.RawURLEncoding.DecodeString(strings.TrimRight(text, "="))
	if err != nil { // which could quote the key
		return nil, opencmg.Errorf(opencmg.Invalid, "certificate.acme.bindingKey: must be base64url, as the authority shows it").About("bindingKey")
	}
	return b, nil
}

// inspectFirst checks the certificate that was brought for a new gateway.
func (s *Server) inspectFirst(in *adminservice.NewGateway, o pki.ServerCertificateOptions) (*usableCertificate, error) {
	cert, err := s.inspectCertificate(&in.Certificate, o)
	if e, ok := errors.AsType[*opencmg.Error](err); ok && e.Field == fieldDeploymentName {
		return nil, err // which is beside the certificate
	}
	return cert, opencmg.About("certificate", err)
}

// firstCertificate is what a new gateway begins with: the one that was brought,
// or a temporary one of the site CA. The hosts of a self-hosted gateway have
// their certificate as a file of their own, so that its key never leaves them:
// the site looks at one that is brought, and keeps nothing of it but its name.
func (s *Server) firstCertificate(in *adminservice.NewGateway, v *gatewayRecord) (*usableCertificate, error) {
	o := pki.ServerCertificateOptions{ServiceName: in.Certificate.ServiceName, DeploymentName: in.DeploymentName}
	a := in.Certificate.ACME
	hosted := v.Model == adminservice.ModelSelfHosted
	switch {
	case hosted && a != nil:
		return nil, opencmg.Errorf(opencmg.Invalid, "certificate.acme: the hosts of a self-hosted gateway have their certificate as a file, which the site can not write: obtain it there").About("certificate.acme")
	case hosted:
		name := in.Certificate.ServiceName
		if len(in.Certificate.PFX) > 0 {
			cert, err := s.inspectFirst(in, o)
			if err != nil {
				return nil, err
			}
			name = cert.ServiceName
		}
		name, err := fullName(name)
		if err != nil {
			return nil, err
		}
		return &usableCertificate{ServerCertificateInfo: &pki.ServerCertificateInfo{ServiceName: name}}, nil
	case a == nil || len(in.Certificate.PFX) > 0:
		return s.inspectFirst(in, o)
	}
	if err := checkACME(a); err != nil {
		return nil, opencmg.About("certificate.acme", err)
	}
	name, err := fullName(in.Certificate.ServiceName)
	if err != nil {
		return nil, err
	}
	now := s.cfg.Now()
	pair, err := s.keys.authority.IssueKeyPair(pki.Template{CommonName: name, DNSNames: []string{name}, Server: true, Key: pki.RSA2048, NotAfter: now.Add(temporaryTerm)}, now)
	if err != nil {
		return nil, err
	}
	pfx, err := pki.EncodePFX(pair)
	if err != nil {
		return nil, err
	}
	o.ServiceName = name
	cert, err := s.inspectCertificate(&adminservice.ServerCertificate{PFX: pfx}, o)
	if err != nil {
		return nil, err
	}
	v.ACME, v.Renewal = shown(a), renewalRecord{Temporary: true}
	return cert, nil
}

// fullName is a service name that no certificate tells.
func fullName(s string) (string, error) {
	name := strings.ToLower(strings.TrimSuffix(strings.TrimSpace(s), "."))
	if name == "" || strings.HasPrefix(name, "*") || !strings.Contains(name, ".") || strings.ContainsAny(name, " /:") {
		return "", opencmg.Errorf(opencmg.Invalid, "certificate.serviceName: name the service in full, such as granitefalls.contoso.com").About("certificate.serviceName")
	}
	return name, nil
}

// switchToACME lets the certificates of a gateway that exists come by ACME from
// now on.
func (s *Server) switchToACME(ctx context.Context, found *record[gatewayRecord], in *adminservice.ServerCertificate) (adminservice.Operation, error) {
	if len(in.PFX) > 0 {
		return adminservice.Operation{}, opencmg.Errorf(opencmg.Invalid, "certificate: give either pfx or acme, not both").About("acme")
	}
	if in.ServiceName != "" && !sameName(in.ServiceName, found.Value.ServiceName) {
		return adminservice.Operation{}, opencmg.Errorf(opencmg.Invalid, "serviceName: is %s and can not change: create another gateway for another name", found.Value.ServiceName).About("serviceName")
	}
	if err := checkACME(in.ACME); err != nil {
		return adminservice.Operation{}, opencmg.About("acme", err)
	}
	return s.manager.beginOn(ctx, found.ID, opObtain, func(tx *sitedb.Tx, rec *record[gatewayRecord]) error {
		rec.Value.ACME = shown(in.ACME)
		rec.Value.Renewal = renewalRecord{Temporary: rec.Value.Renewal.Temporary}
		if err := putBinding(tx, rec.ID, in.ACME); err != nil {
			return err
		}
		return s.audit(ctx, tx, msgChanged, kindGateway, rec.ID, "gateway %s gets its certificates from %s", rec.Value.ServiceName, in.ACME.Directory)
	})
}

// accountKey is the key of the site's account with an authority; it is made at
// the first use.
func (s *Server) accountKey(ctx context.Context, directory string) (crypto.Signer, error) {
	sum := sha256.Sum256([]byte(directory))
	name := "acme/account/" + hex.EncodeToString(sum[:8])
	var text []byte
	err := s.db.Change(ctx, "find the ACME account", func(tx *sitedb.Tx) (err error) {
		if text, err = tx.Secret(name); !errors.Is(err, opencmg.NotFound) {
			return err
		}
		key, err := pki.NewAccountKey()
		if err != nil {
			return err
		}
		if text, err = x509.MarshalPKCS8PrivateKey(key); err != nil {
			return err
		}
		return tx.PutSecret(name, text)
	})
	if err != nil {
		return nil, err
	}
	key, err := x509.ParsePKCS8PrivateKey(text)
	if err != nil {
		return nil, fmt.Errorf("ACME account key: %w", err)
	}
	signer, ok := key.(crypto.Signer)
	if !ok {
		return nil, opencmg.Errorf(opencmg.Invalid, "ACME account key: can not sign")
	}
	return signer, nil
}

// authority is the gateway's certification authority.
func (s *Server) authority(ctx context.Context, rec *record[gatewayRecord]) (*pki.ACME, error) {
	want := rec.Value.ACME
	if want == nil {
		return nil, opencmg.Errorf(opencmg.Conflict, "gateway %s has a certificate that somebody brought: give it an ACME authority first", rec.Name)
	}
	key, err := s.accountKey(ctx, want.Directory)
	if err != nil {
		return nil, err
	}
	a := &pki.ACME{Directory: want.Directory, AccountKey: key, AcceptTerms: want.AcceptTerms, Contact: want.Contact, HTTP: cmp.Or(s.cfg.ACME.HTTP, s.cfg.HTTP), Log: s.log.With("component", componentManager)}
	if want.Challenge != "" {
		a.Prefer = []string{want.Challenge}
	}
	if want.BindingKeyID != "" {
		text, err := s.db.Secret(ctx, bindingSecret(rec.ID))
		if err != nil {
			return nil, err
		}
		b := &pki.ACMEBinding{KeyID: want.BindingKeyID}
		if b.Key, err = bindingKey(string(text)); err != nil {
			return nil, err
		}
		a.EAB = b
	}
	return a, nil
}

// account sees that everything is there before the authority is asked, which
// counts what fails.
func (g *gatewayRun) account(ctx context.Context) error {
	if _, err := g.s.authority(ctx, g.rec); err != nil {
		return err
	}
	for !g.s.live.served(g.rec.Value.Prefix, g.s.cfg.Now()) {
		// After a start of the site they need a while to report.
		if g.s.cfg.Now().Sub(g.s.live.began) >= stale {
			return opencmg.Errorf(opencmg.Unavailable, "no connection point holds a tunnel to gateway %s, so no instance would answer the authority: link a connection point and see that it connects", g.rec.Name)
		}
		if err := pause(ctx, g.s.cfg.Poll); err != nil {
			return err
		}
	}
	return nil
}

// order gets the certificate and records it. Done again after the process was
// killed it orders anew, unless the certificate was recorded.
func (g *gatewayRun) order(ctx context.Context) error {
	if g.rec.Value.Renewal.Operation == g.op.ID {
		return nil
	}
	a, err := g.s.authority(ctx, g.rec)
	if err != nil {
		return err
	}
	bounded, cancel := context.WithTimeout(ctx, obtainTime)
	defer cancel()
	// RSA, because every Windows client takes it.
	cert, err := a.Obtain(bounded, []string{g.rec.Value.ServiceName}, pki.RSA2048, g.present)
	if err != nil {
		return err
	}
	pfx, err := pki.EncodePFX(cert)
	if err != nil {
		return err
	}
	info, err := g.s.inspectCertificate(&adminservice.ServerCertificate{PFX: pfx}, pki.ServerCertificateOptions{ServiceName: g.rec.Value.ServiceName, DeploymentName: g.rec.Value.Prefix})
	if err != nil {
		return err
	}
	_, err = update(ctx, g.s.db, kindGateway, g.rec.ID, func(tx *sitedb.Tx, rec *record[gatewayRecord]) error {
		rec.Value.setCertificate(info)
		rec.Value.Renewal.obtained(info.Certificate, g.op.ID)
		if err := tx.PutSecret(gatewaySecret(rec.ID), info.pfx); err != nil {
			return err
		}
		return tx.AddStatusMessage(sitedb.StatusMessage{
			Component: componentManager, Severity: sitedb.SeverityInfo, MessageID: msgChanged, SubjectKind: kindGateway, SubjectID: rec.ID,
			Text: fmt.Sprintf("gateway %s has a certificate from %s until %s", rec.Value.ServiceName, rec.Value.ACME.Directory, rec.Value.CertificateEnds.Format(time.DateOnly)),
		})
	})
	return err
}

// present publishes challenges and returns when every instance that a
// connection point can see answers them. Any of them may be asked.
func (g *gatewayRun) present(ctx context.Context, challenges []opencmg.ACMEChallenge) (func(), error) {
	if err := g.step(ctx, "challenges", 30, "publish the authority's challenges, and wait until every instance answers them"); err != nil {
		return nil, err
	}
	take := func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), answerTime)
		defer cancel()
		if _, err := g.s.publisher.challenge(ctx, g.rec.ID, nil); err != nil {
			g.s.log.Warn("challenges are still published", "component", componentManager, "gateway", g.rec.Name, "err", err)
		}
	}
	version, err := g.s.publisher.challenge(ctx, g.rec.ID, challenges)
	if err != nil {
		return take, err
	}
	if err := g.await(ctx, "challenges", func(st *opencmg.InstanceStatus) bool { return st.Configuration >= version }); err != nil {
		return take, err
	}
	if !g.s.live.served(g.rec.Value.Prefix, g.s.cfg.Now()) {
		return take, opencmg.Errorf(opencmg.Unavailable, "the connection points lost their tunnels to the gateway: look at their logs; it is tried again")
	}
	return take, nil
}

// delivering reports whether an operation that obtains a certificate has it
// and brings it to the instances.
func delivering(step string) bool { return step == "certificate" || step == "renewed" }

// renewCertificates orders the certificates that are due.
func (s *Server) renewCertificates(ctx context.Context) error {
	now := s.cfg.Now()
	return s.manager.beginDue(ctx, opObtain, "a certificate of gateway %s is due", func(v *gatewayRecord) bool {
		if v.ACME == nil || now.Before(v.Renewal.Next) {
			return false
		}
		// Who could answer the authority?
		return s.live.served(v.Prefix, now) || !v.Renewal.Temporary && now.Sub(s.live.began) >= stale
	})
}

// renewalAlert is the alert about a renewal that failed.
func renewalAlert(g *record[gatewayRecord], now time.Time) sitedb.Alert {
	v := &g.Value
	severity := sitedb.SeverityWarning
	if v.Renewal.Temporary || v.CertificateEnds.Sub(now) < 7*24*time.Hour {
		severity = sitedb.SeverityCritical
	}
	return sitedb.Alert{
		Kind: alertRenewal, SubjectKind: kindGateway, SubjectID: g.ID, Severity: severity,
		Text:     fmt.Sprintf("gateway %s got no certificate: %s", v.ServiceName, v.Renewal.Problem),
		NextStep: "put right what it says; it is tried again by itself, and at once by obtainCertificate",
	}
}
