package pki_test

import (
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/opencmg/opencmg"
	"github.com/opencmg/opencmg/pki"
)

func TestAuthorityIssuesWhatItSays(t *testing.T) {
	now := time.Now()
	root := must(pki.CreateAuthority(pki.AuthorityOptions{Name: "Root", Key: pki.RSA2048, CRLURL: "http://crl.example/root"}, now))(t)
	issuing := must(pki.CreateAuthority(pki.AuthorityOptions{Name: "Issuing", Parent: root, Lifetime: 30 * 24 * time.Hour, CRLURL: "http://crl.example/issuing"}, now))(t)
	if _, ok := root.Certificate().PublicKey.(*rsa.PublicKey); !ok {
		t.Errorf("root key is %T", root.Certificate().PublicKey)
	}
	if got := issuing.Certificate().CRLDistributionPoints; len(got) != 1 || got[0] != "http://crl.example/root" {
		t.Errorf("issuing CA names lists %q", got)
	}
	pair := must(issuing.IssueKeyPair(pki.Template{
		CommonName: "pc01", URIs: []string{"opencmg://lab/role/7"}, DNSNames: []string{"pc01.example.com"},
		IPs: []net.IP{net.IPv6loopback}, Client: true, Server: true,
	}, now))(t)
	leaf := pair.Leaf
	if leaf.NotAfter.After(issuing.Certificate().NotAfter) {
		t.Error("certificate outlives its issuer")
	}
	if got := leaf.CRLDistributionPoints; len(got) != 1 || got[0] != "http://crl.example/issuing" {
		t.Errorf("leaf names lists %q", got)
	}
	roots, above := x509.NewCertPool(), x509.NewCertPool()
	roots.AddCert(root.Certificate())
	above.AddCert(issuing.Certificate())
	for _, usage := range []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth} {
		if _, err := leaf.Verify(x509.VerifyOptions{Roots: roots, Intermediates: above, DNSName: "pc01.example.com", KeyUsages: []x509.ExtKeyUsage{usage}}); err != nil {
			t.Errorf("usage %v: %v", usage, err)
		}
	}
	if leaf.URIs[0].String() != "opencmg://lab/role/7" || !leaf.IPAddresses[0].Equal(net.IPv6loopback) {
		t.Errorf("names: %v %v", leaf.URIs, leaf.IPAddresses)
	}
	if _, err := pki.CreateAuthority(pki.AuthorityOptions{Name: "Third", Parent: issuing}, now); !errors.Is(err, opencmg.Invalid) {
		t.Errorf("authority below an issuing one: %v", err)
	}
}

func TestSelfSignedHasTheClientsUsages(t *testing.T) {
	c := must(pki.NewSelfSigned("pc01", time.Now()))(t)
	if n := c.Leaf.PublicKey.(*rsa.PublicKey).N.BitLen(); n != 2048 {
		t.Errorf("key of %d bits", n)
	}
	if c.Leaf.KeyUsage != x509.KeyUsageDigitalSignature|x509.KeyUsageDataEncipherment {
		t.Errorf("key usage %b", c.Leaf.KeyUsage)
	}
	want := []asn1.ObjectIdentifier{{1, 3, 6, 1, 4, 1, 311, 101, 2}, {1, 3, 6, 1, 4, 1, 311, 101}}
	if len(c.Leaf.UnknownExtKeyUsage) != 2 || !c.Leaf.UnknownExtKeyUsage[0].Equal(want[0]) || !c.Leaf.UnknownExtKeyUsage[1].Equal(want[1]) {
		t.Errorf("extended key usages %v", c.Leaf.UnknownExtKeyUsage)
	}
	if len(c.Leaf.ExtKeyUsage) != 1 || c.Leaf.ExtKeyUsage[0] != x509.ExtKeyUsageClientAuth {
		t.Errorf("extended key usages %v", c.Leaf.ExtKeyUsage)
	}
}

func TestAuthoritySurvivesSaveAndLoad(t *testing.T) {
	now := time.Now()
	dir := t.TempDir()
	a := must(pki.CreateAuthority(pki.AuthorityOptions{Name: "Site CA", CRLURL: "http://crl.example/site"}, now))(t)
	victim := must(a.IssueKeyPair(pki.Template{CommonName: "victim", Client: true}, now))(t)
	a.Revoke(victim.Leaf.SerialNumber, now)
	first := must(x509.ParseRevocationList(must(a.CRL(now, time.Hour))(t)))(t)
	if err := a.Save(dir, "site"); err != nil {
		t.Fatal(err)
	}
	b := must(pki.LoadAuthority(dir, "site"))(t)
	if !b.Certificate().Equal(a.Certificate()) || len(b.Chain()) != 1 {
		t.Error("another certificate came back")
	}
	list := must(x509.ParseRevocationList(must(b.CRL(now, time.Hour))(t)))(t)
	if err := list.CheckSignatureFrom(a.Certificate()); err != nil {
		t.Error(err)
	}
	if len(list.RevokedCertificateEntries) != 1 || list.RevokedCertificateEntries[0].SerialNumber.Cmp(victim.Leaf.SerialNumber) != 0 {
		t.Errorf("revoked: %v", list.RevokedCertificateEntries)
	}
	if list.Number.Cmp(first.Number) <= 0 {
		t.Errorf("CRL number %v after %v", list.Number, first.Number)
	}
	if got := must(b.IssueKeyPair(pki.Template{CommonName: "x"}, now))(t).Leaf.CRLDistributionPoints; len(got) != 1 {
		t.Errorf("distribution points after load: %v", got)
	}
	if runtime.GOOS != "windows" {
		info := must(os.Stat(filepath.Join(dir, "site.key")))(t)
		if info.Mode().Perm() != 0o600 {
			t.Errorf("key file has mode %v", info.Mode())
		}
	}
	for _, e := range must(os.ReadDir(dir))(t) {
		if strings.Contains(e.Name(), "tmp") {
			t.Errorf("left behind: %s", e.Name())
		}
	}
	for _, broken := range []string{"site.pem", "site.key", "site.revoked"} {
		path := filepath.Join(dir, broken)
		data := must(os.ReadFile(path))(t)
		os.WriteFile(path, data[:len(data)/2], 0o600)
		if _, err := pki.LoadAuthority(dir, "site"); !errors.Is(err, opencmg.Invalid) {
			t.Errorf("half a %s: %v", broken, err)
		}
		os.Remove(path)
		// Whoever makes a new authority when there is none must not replace
		// one that lost a file.
		if _, err := pki.LoadAuthority(dir, "site"); !errors.Is(err, opencmg.Invalid) || errors.Is(err, os.ErrNotExist) != (broken == "site.pem") {
			t.Errorf("without %s: %v", broken, err)
		}
		os.WriteFile(path, data, 0o600)
	}
}

func TestKeyPairFiles(t *testing.T) {
	dir := t.TempDir()
	a := must(pki.NewAuthority("CA", time.Now()))(t)
	pair := must(a.IssueKeyPair(pki.Template{CommonName: "x", Server: true}, time.Now()))(t)
	cert, key, both := filepath.Join(dir, "c"), filepath.Join(dir, "k"), filepath.Join(dir, "both")
	for _, f := range [][2]string{{cert, key}, {both, both}} {
		if err := pki.SaveKeyPair(f[0], f[1], pair); err != nil {
			t.Fatal(err)
		}
		got := must(pki.LoadKeyPair(f[0], f[1]))(t)
		if got.Leaf == nil || !got.Leaf.Equal(pair.Leaf) || len(got.Certificate) != len(pair.Certificate) {
			t.Errorf("%v: another pair came back", f)
		}
	}
	if _, err := pki.LoadKeyPair(cert, filepath.Join(dir, "absent")); !errors.Is(err, opencmg.Invalid) {
		t.Errorf("absent key: %v", err)
	}
	if certs := must(pki.LoadCertificates(both))(t); len(certs) != 2 {
		t.Errorf("%d certificates", len(certs))
	}
	if _, err := pki.LoadCertificates(key); !errors.Is(err, opencmg.Invalid) {
		t.Errorf("certificates of a key file: %v", err)
	}
	if err := pki.WriteFile(filepath.Join(dir, "no", "such"), nil, 0o600); err == nil {
		t.Error("wrote into an absent directory")
	}
	if err := pki.SaveKeyPair(cert, key, tls.Certificate{PrivateKey: "no key"}); err == nil {
		t.Error("saved what is no key")
	}
}
