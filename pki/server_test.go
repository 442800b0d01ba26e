package pki_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"software.sslmate.com/src/go-pkcs12"

	"github.com/opencmg/opencmg"
	"github.com/opencmg/opencmg/pki"
)

func serverTemplate(names ...string) pki.Template {
	return pki.Template{CommonName: names[0], DNSNames: names, Server: true}
}

// write puts content into a new file.
func write(t testing.TB, content []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func keyPEM(t testing.TB, key crypto.PrivateKey) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: must(x509.MarshalPKCS8PrivateKey(key))(t)})
}

func parsed(t testing.TB, pair tls.Certificate) []*x509.Certificate {
	var certs []*x509.Certificate
	for _, der := range pair.Certificate {
		certs = append(certs, must(x509.ParseCertificate(der))(t))
	}
	return certs
}

func TestServerCertificateLoads(t *testing.T) {
	now := time.Now()
	root := must(pki.NewAuthority("Root", now))(t)
	issuing := must(pki.CreateAuthority(pki.AuthorityOptions{Name: "Issuing", Parent: root}, now))(t)
	for name, template := range map[string]pki.Template{
		"plain":    serverTemplate("gw.example.com"),
		"wildcard": serverTemplate("*.example.com"),
		"several":  serverTemplate("a.example.org", "GW.example.com"),
		"RSA":      {DNSNames: []string{"gw.example.com"}, Server: true, Key: pki.RSA2048},
	} {
		pair := must(issuing.IssueKeyPair(template, now))(t)
		all := parsed(t, pair)
		leaf, above, ca := all[0], all[1], all[2]
		password := write(t, []byte("päss wörd\r\nsecond line"))
		pfx := func(order ...*x509.Certificate) string {
			return write(t, must(pkcs12.Modern.Encode(pair.PrivateKey, order[0], order[1:], "päss wörd"))(t))
		}
		key := write(t, keyPEM(t, pair.PrivateKey))
		for form, files := range map[string]pki.ServerFiles{
			"PFX":              {PFX: pfx(leaf, above, ca), PasswordFile: password},
			"PFX, no root":     {PFX: pfx(leaf, above), PasswordFile: password},
			"PFX, root first":  {PFX: pfx(ca, above, leaf), PasswordFile: password},
			"PFX, legacy":      {PFX: write(t, must(pkcs12.LegacyDES.Encode(pair.PrivateKey, leaf, []*x509.Certificate{above}, ""))(t))},
			"PEM":              {Certificate: write(t, pki.EncodeCertificates(leaf, above, ca)), Key: key},
			"PEM, out of line": {Certificate: write(t, pki.EncodeCertificates(ca, leaf, above)), Key: key},
			"PEM, one file":    {Certificate: write(t, append(keyPEM(t, pair.PrivateKey), pki.EncodeCertificates(leaf, above)...))},
		} {
			files.ServiceName = "gw.example.com"
			got, err := pki.LoadServerCertificate(files, now)
			if err != nil {
				t.Errorf("%s, %s: %v", name, form, err)
				continue
			}
			if !got.Leaf.Equal(leaf) || len(got.Certificate) != 2 || !bytes.Equal(got.Certificate[1], above.Raw) {
				t.Errorf("%s, %s: presents %d certificates", name, form, len(got.Certificate))
			}
		}
	}
}

func TestServerCertificateRefusals(t *testing.T) {
	now := time.Now()
	ca := must(pki.NewAuthority("Root", now))(t)
	pair := must(ca.IssueKeyPair(serverTemplate("gw.example.com"), now))(t)
	all := parsed(t, pair)
	good := must(pkcs12.Modern.Encode(pair.PrivateKey, all[0], all[1:], "secret"))(t)
	password := write(t, []byte("secret\n"))
	goodCert, goodKey := write(t, pki.EncodeCertificates(all...)), write(t, keyPEM(t, pair.PrivateKey))
	stranger := must(ca.IssueKeyPair(serverTemplate("gw.example.com"), now))(t)
	issue := func(key crypto.Signer, change func(*pki.Template)) pki.ServerFiles {
		template := serverTemplate("gw.example.com")
		if change != nil {
			change(&template)
		}
		leaf := must(ca.Issue(template, key.Public(), now))(t)
		return pki.ServerFiles{Certificate: write(t, pki.EncodeCertificates(leaf, ca.Certificate())), Key: write(t, keyPEM(t, key))}
	}
	ec := pair.PrivateKey.(crypto.Signer)
	small := must(rsa.GenerateKey(rand.Reader, 1024))(t)
	odd := must(rsa.GenerateKey(rand.Reader, 3072))(t)
	p521 := must(ecdsa.GenerateKey(elliptic.P521(), rand.Reader))(t)
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	expiredCA := mintCA(t, "Expired CA", nil, func(c *x509.Certificate) { c.NotAfter = now.Add(-time.Minute) })
	belowExpired := mint(t, &x509.Certificate{DNSNames: []string{"gw.example.com"}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}, &expiredCA)

	for name, tt := range map[string]struct {
		files pki.ServerFiles
		want  string
	}{
		"nothing":            {pki.ServerFiles{}, "either"},
		"both":               {pki.ServerFiles{PFX: "a", Certificate: "b"}, "either"},
		"PFX absent":         {pki.ServerFiles{PFX: "/no/such/file"}, "PFX file"},
		"password absent":    {pki.ServerFiles{PFX: write(t, good), PasswordFile: "/no/such/file"}, "password file"},
		"PFX empty":          {pki.ServerFiles{PFX: write(t, nil), PasswordFile: password}, "is empty"},
		"PFX cut off":        {pki.ServerFiles{PFX: write(t, good[:len(good)/2]), PasswordFile: password}, "cut off"},
		"PFX cut at start":   {pki.ServerFiles{PFX: write(t, good[:1]), PasswordFile: password}, "cut off"},
		"PFX with a tail":    {pki.ServerFiles{PFX: write(t, append(bytes.Clone(good), 1, 2, 3)), PasswordFile: password}, "3 bytes follow"},
		"PFX is text":        {pki.ServerFiles{PFX: write(t, []byte("hello")), PasswordFile: password}, "not a PFX"},
		"PFX is PEM":         {pki.ServerFiles{PFX: goodCert, PasswordFile: password}, "PEM text"},
		"PFX is too long":    {pki.ServerFiles{PFX: write(t, make([]byte, 2<<20))}, "longer than"},
		"wrong password":     {pki.ServerFiles{PFX: write(t, good), PasswordFile: write(t, []byte("wrong"))}, "does not open"},
		"no password":        {pki.ServerFiles{PFX: write(t, good)}, "needs a password"},
		"PFX without key":    {pki.ServerFiles{PFX: write(t, must(pkcs12.Modern.EncodeTrustStore(all, "secret"))(t)), PasswordFile: password}, "with the private key"},
		"certificate absent": {pki.ServerFiles{Certificate: "/no/such/file", Key: goodKey}, "certificate:"},
		"key absent":         {pki.ServerFiles{Certificate: goodCert, Key: "/no/such/file"}, "private key:"},
		"certificate is key": {pki.ServerFiles{Certificate: goodKey, Key: goodKey}, "no PEM certificate"},
		"no key":             {pki.ServerFiles{Certificate: goodCert}, "no key file is named"},
		"key is certificate": {pki.ServerFiles{Certificate: goodCert, Key: goodCert}, "no PEM private key"},
		"key damaged":        {pki.ServerFiles{Certificate: goodCert, Key: write(t, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: []byte{1}}))}, "damaged"},
		"key encrypted":      {pki.ServerFiles{Certificate: goodCert, Key: write(t, pem.EncodeToMemory(&pem.Block{Type: "ENCRYPTED PRIVATE KEY", Bytes: []byte{1}}))}, "encrypted"},
		"key of another":     {pki.ServerFiles{Certificate: goodCert, Key: write(t, keyPEM(t, stranger.PrivateKey))}, "belongs to none"},
		"RSA 1024":           {issue(small, nil), "1024 bits"},
		"RSA 3072":           {issue(odd, nil), "3072 bits"},
		"P-521":              {issue(p521, nil), "P-521"},
		"Ed25519":            {issue(ed, nil), "Ed25519"},
		"client usage":       {issue(ec, func(t *pki.Template) { t.Server, t.Client = false, true }), "server authentication"},
		"expired":            {issue(ec, func(t *pki.Template) { t.NotBefore, t.NotAfter = now.Add(-2*time.Hour), now.Add(-time.Hour) }), "expired at"},
		"not yet valid":      {issue(ec, func(t *pki.Template) { t.NotBefore = now.Add(time.Hour) }), "valid from"},
		"other name":         {issue(ec, func(t *pki.Template) { t.DNSNames = []string{"other.example.com"} }), "does not cover the service name"},
		"name in CN only":    {issue(ec, func(t *pki.Template) { t.DNSNames = nil }), "does not cover the service name"},
		"wildcard too high":  {issue(ec, func(t *pki.Template) { t.DNSNames = []string{"*.com"} }), "does not cover the service name"},
		"chain missing":      {pki.ServerFiles{Certificate: write(t, pki.EncodeCertificates(all[0])), Key: goodKey}, `"CN=Root", which issued`},
		"issuer expired":     {pki.ServerFiles{Certificate: write(t, pki.EncodeCertificates(belowExpired.cert, expiredCA.cert)), Key: write(t, keyPEM(t, belowExpired.key))}, "Expired CA"},
	} {
		t.Run(name, func(t *testing.T) {
			tt.files.ServiceName = "gw.example.com"
			_, err := pki.LoadServerCertificate(tt.files, now)
			if !errors.Is(err, opencmg.Invalid) || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
			if err != nil && strings.Contains(err.Error(), "secret") {
				t.Errorf("the error tells the password: %v", err)
			}
		})
	}
}

func TestServerCertificateFollowsItsFiles(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		ca := must(pki.NewAuthority("Root", time.Now()))(t)
		files := pki.ServerFiles{Certificate: filepath.Join(dir, "cert.pem"), Key: filepath.Join(dir, "key.pem"), ServiceName: "gw.example.com"}
		if _, err := pki.NewServerCertificate(files, nil); err == nil {
			t.Fatal("started without a certificate")
		}
		put := func() tls.Certificate {
			pair := must(ca.IssueKeyPair(serverTemplate("gw.example.com"), time.Now()))(t)
			if err := pki.SaveKeyPair(files.Certificate, files.Key, pair); err != nil {
				t.Fatal(err)
			}
			return pair
		}
		first := put()
		var log logTo
		s := must(pki.NewServerCertificate(files, log.logger()))(t)
		go s.Run(t.Context())
		in := func(when string, want tls.Certificate) {
			t.Helper()
			time.Sleep(pki.ServerPoll + time.Second)
			got := must(s.GetCertificate(nil))(t)
			if !got.Leaf.Equal(want.Leaf) || s.Current() != got {
				t.Errorf("%s: another certificate", when)
			}
		}
		in("at first", first)
		second := put()
		in("replaced", second)
		os.WriteFile(files.Key, []byte("rubbish"), 0o600)
		in("key broken", second)
		in("key still broken", second)
		if n := strings.Count(log.String(), "not usable"); n != 1 {
			t.Errorf("%d complaints: %s", n, log.String())
		}
		if err := s.Reload(); err == nil {
			t.Error("reloaded a broken key")
		}
		os.Remove(files.Certificate)
		in("certificate gone", second)
		third := put()
		in("mended", third)
		if err := s.Reload(); err != nil {
			t.Error(err)
		}
	})
}
