package pki_test

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"testing"
	"time"

	"github.com/opencmg/opencmg"
	"github.com/opencmg/opencmg/pki"
)

func TestClientCertificates(t *testing.T) {
	now := time.Now()
	root := mintCA(t, "Root", nil, nil)
	untrusted := mintCA(t, "Untrusted Root", nil, nil)
	left := mintCA(t, "Left-out Root", nil, nil)
	twin := mintCA(t, "Root", nil, nil) // another key
	issuing := mintCA(t, "Issuing", &root, nil)
	sent := mintCA(t, "Sent", &root, nil)
	below := mintCA(t, "Below untrusted", &untrusted, nil)
	ended := mintCA(t, "Ended", &root, func(c *x509.Certificate) { c.NotAfter = now.Add(-time.Minute) })
	future := mintCA(t, "Future", &root, func(c *x509.Certificate) { c.NotBefore = now.Add(time.Hour) })
	noCA := mintCA(t, "No CA", &root, func(c *x509.Certificate) { c.IsCA = false; c.KeyUsage = x509.KeyUsageDigitalSignature })
	serverOnly := mintCA(t, "Server only", &root, func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} })
	constrained := mintCA(t, "Constrained", &root, func(c *x509.Certificate) {
		c.PermittedDNSDomains, c.PermittedDNSDomainsCritical = []string{"example.com"}, true
	})
	blockedCA := mintCA(t, "Blocked CA", &root, nil)
	good := mintClient(t, "pc01", &issuing, nil)
	blocked := mintClient(t, "blocked", &issuing, nil)
	settings := opencmg.CertificateSettings{
		Roots:         []string{pemOf(root.cert), pemOf(left.cert)},
		Intermediates: []string{pemOf(issuing.cert, ended.cert, future.cert, serverOnly.cert, noCA.cert, constrained.cert), pemOf(blockedCA.cert)},
		TrustList:     []string{pki.Thumbprint(root.cert)},
		Blocked:       []string{pki.Thumbprint(blocked.cert), pki.Thumbprint(blockedCA.cert)},
	}
	v := must(pki.NewClientVerifier(settings, nil, nil))(t)

	for name, chain := range map[string][]*x509.Certificate{
		"uploaded intermediate": {good.cert},
		"sent intermediate":     {mintClient(t, "pc01", &sent, nil).cert, sent.cert},
		"sent root, too":        {good.cert, issuing.cert, root.cert},
		"directly below":        {mintClient(t, "pc01", &root, nil).cert},
		"unrelated sent":        {good.cert, untrusted.cert},
	} {
		for range 2 {
			if s, err := v.Verify(chain, now); err != nil || s != "CN=pc01" {
				t.Errorf("%s: %q, %v", name, s, err)
			}
		}
	}
	if n := v.Remembered(); n != 3 {
		t.Errorf("remembers %d certificates", n)
	}

	change := func(f func(*x509.Certificate)) []*x509.Certificate {
		return []*x509.Certificate{mintClient(t, "odd", &issuing, f).cert}
	}
	of := func(parent minted, rest ...*x509.Certificate) []*x509.Certificate {
		return append([]*x509.Certificate{mintClient(t, "odd", &parent, nil).cert}, rest...)
	}
	many := []*x509.Certificate{good.cert}
	for range 8 {
		many = append(many, untrusted.cert)
	}
	selfSigned := must(pki.NewSelfSigned("pc", now))(t).Leaf
	for name, tt := range map[string]struct {
		chain []*x509.Certificate
		code  string
		words []string
	}{
		"none":                 {nil, pki.RefusedNoCertificate, nil},
		"too many":             {append([]*x509.Certificate{mintClient(t, "x", &issuing, nil).cert}, many[1:]...), pki.RefusedChainTooLong, []string{"9"}},
		"blocked":              {[]*x509.Certificate{blocked.cert}, pki.RefusedBlocked, []string{"blocked"}},
		"blocked above":        {of(blockedCA), pki.RefusedBlocked, []string{"Blocked CA", "2 in the chain"}},
		"expired":              {change(func(c *x509.Certificate) { c.NotAfter = now.Add(-time.Minute) }), pki.RefusedExpired, []string{"odd"}},
		"expired above":        {of(ended), pki.RefusedExpired, []string{"Ended"}},
		"not yet":              {change(func(c *x509.Certificate) { c.NotBefore = now.Add(time.Minute) }), pki.RefusedNotYetValid, []string{"odd", "clock"}},
		"not yet above":        {of(future), pki.RefusedNotYetValid, []string{"Future"}},
		"no client usage":      {change(func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} }), pki.RefusedUsage, []string{"client authentication"}},
		"no usage named":       {change(func(c *x509.Certificate) { c.ExtKeyUsage = nil }), pki.RefusedUsage, []string{"client authentication"}},
		"usage above":          {of(serverOnly), pki.RefusedUsage, []string{"above"}},
		"no signature usage":   {change(func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageKeyEncipherment }), pki.RefusedUsage, []string{"digital signature"}},
		"self-signed":          {[]*x509.Certificate{selfSigned}, pki.RefusedUntrusted, []string{"self-signed"}},
		"missing intermediate": {of(sent), pki.RefusedUntrusted, []string{`"CN=Sent"`, "upload"}},
		"unknown root":         {of(untrusted), pki.RefusedUntrusted, []string{"Untrusted Root"}},
		"unknown root, sent":   {of(below, below.cert, untrusted.cert), pki.RefusedUntrusted, []string{"ends at root", "Untrusted Root"}},
		"same name, other key": {of(twin), pki.RefusedUntrusted, []string{"did not sign"}},
		"issued by no CA":      {of(noCA), pki.RefusedUntrusted, []string{"No CA"}},
		"trust list":           {of(left), pki.RefusedTrustList, []string{"Left-out Root"}},
		"name constraints":     {append([]*x509.Certificate{mintClient(t, "odd", &constrained, func(c *x509.Certificate) { c.DNSNames = []string{"a.example.org"} }).cert}, constrained.cert), pki.RefusedChain, []string{"odd"}},
		"no subject":           {[]*x509.Certificate{mint(t, &x509.Certificate{Subject: pkix.Name{}, DNSNames: []string{"x"}}, &untrusted).cert}, pki.RefusedUsage, []string{"serial "}},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := v.Verify(tt.chain, now)
			wantRefusal(t, err, tt.code, tt.words...)
		})
	}
	if n := v.Remembered(); n != 3 {
		t.Errorf("remembers refused certificates: %d", n)
	}
	// Remembered or not, time goes on.
	_, err := v.Verify([]*x509.Certificate{good.cert}, now.Add(48*time.Hour))
	wantRefusal(t, err, pki.RefusedExpired)
	if v.CAs().Equal(x509.NewCertPool()) {
		t.Error("names no CAs")
	}
}

func TestClientVerifierWithoutRoots(t *testing.T) {
	root := mintCA(t, "Root", nil, nil)
	c := []*x509.Certificate{mintClient(t, "pc", &root, nil).cert}
	v := must(pki.NewClientVerifier(opencmg.CertificateSettings{}, nil, nil))(t)
	_, err := v.Verify(c, time.Now())
	wantRefusal(t, err, pki.RefusedUntrusted)
	var log logTo
	v = must(pki.NewClientVerifier(opencmg.CertificateSettings{Roots: []string{pemOf(root.cert)}, TrustList: []string{pki.Thumbprint(c[0])}}, nil, log.logger()))(t)
	_, err = v.Verify(c, time.Now())
	wantRefusal(t, err, pki.RefusedTrustList)
	if log.String() == "" {
		t.Error("a trust list that fits nothing is not mentioned")
	}
}

func TestClientVerifierSettings(t *testing.T) {
	for name, s := range map[string]opencmg.CertificateSettings{
		"root":         {Roots: []string{"x"}},
		"intermediate": {Intermediates: []string{"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"}},
		"trust list":   {TrustList: []string{"abc"}},
		"blocked":      {Blocked: []string{"zz"}},
	} {
		if _, err := pki.NewClientVerifier(s, nil, nil); !errors.Is(err, opencmg.Invalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := pki.NewClientVerifier(opencmg.CertificateSettings{CheckRevocation: true}, nil, nil); err == nil {
		t.Error("revocation without a cache")
	}
}

func TestNoDistributionPoint(t *testing.T) {
	root := mintCA(t, "Root", nil, nil)
	crl := pki.NewCRLCache(pki.CRLConfig{HTTP: (&web{}).client()})
	v := must(pki.NewClientVerifier(opencmg.CertificateSettings{Roots: []string{pemOf(root.cert)}, CheckRevocation: true}, crl, nil))(t)
	_, err := v.Verify([]*x509.Certificate{mintClient(t, "pc", &root, nil).cert}, time.Now())
	wantRefusal(t, err, pki.RefusedRevocationUnknown, "names no revocation list")
	ldap := mintClient(t, "pc", &root, func(c *x509.Certificate) {
		c.CRLDistributionPoints = []string{"ldap:///CN=x", "file:///etc/passwd", "http:"}
	})
	_, err = v.Verify([]*x509.Certificate{ldap.cert}, time.Now())
	wantRefusal(t, err, pki.RefusedRevocationUnknown, "by HTTP")
}
