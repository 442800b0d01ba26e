package pki_test

import (
	"bytes"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"fmt"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/opencmg/opencmg"
	"github.com/opencmg/opencmg/pki"
)

// An estate is a root, an issuing CA and clients, with their lists on a web.
type estate struct {
	web           *web
	root, issuing *pki.Authority
	rootURL       string
	issuingURL    string
}

func newEstate(t testing.TB) *estate { return newEstateAt(t, "http://crl.example") }

func newEstateAt(t testing.TB, base string) *estate {
	e := &estate{web: &web{}, rootURL: base + "/root.crl", issuingURL: base + "/issuing.crl"}
	now := time.Now()
	e.root = must(pki.CreateAuthority(pki.AuthorityOptions{Name: "Corp Root", CRLURL: e.rootURL}, now))(t)
	e.issuing = must(pki.CreateAuthority(pki.AuthorityOptions{Name: "Corp Issuing", Parent: e.root, CRLURL: e.issuingURL}, now))(t)
	e.publish(t, 24*time.Hour)
	return e
}

// publish puts new lists on the web.
func (e *estate) publish(t testing.TB, validity time.Duration) {
	e.web.set(e.rootURL, answer(200, must(e.root.CRL(time.Now(), 30*24*time.Hour))(t)))
	e.web.set(e.issuingURL, answer(200, must(e.issuing.CRL(time.Now(), validity))(t)))
}

func (e *estate) client(t testing.TB, name string) []*x509.Certificate {
	c := must(e.issuing.IssueKeyPair(pki.Template{CommonName: name, Client: true}, time.Now()))(t)
	return []*x509.Certificate{c.Leaf}
}

func (e *estate) settings() opencmg.CertificateSettings {
	return opencmg.CertificateSettings{
		Roots: []string{pemOf(e.root.Certificate())}, Intermediates: []string{pemOf(e.issuing.Certificate())}, CheckRevocation: true,
	}
}

func (e *estate) verifier(t testing.TB, c *pki.CRLCache, change func(*opencmg.CertificateSettings)) *pki.ClientVerifier {
	s := e.settings()
	if change != nil {
		change(&s)
	}
	return must(pki.NewClientVerifier(s, c, nil))(t)
}

func TestRevocationIsSeen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEstate(t)
		crl := pki.NewCRLCache(pki.CRLConfig{HTTP: e.web.client(), MaxAge: 10 * time.Minute})
		v := e.verifier(t, crl, nil)
		go crl.Run(t.Context())
		good, bad := e.client(t, "good"), e.client(t, "bad")
		verify := func(c []*x509.Certificate) error { _, err := v.Verify(c, time.Now()); return err }
		for range 3 {
			if err := verify(good); err != nil {
				t.Fatal(err)
			}
			if err := verify(bad); err != nil {
				t.Fatal(err)
			}
		}
		e.issuing.Revoke(bad[0].SerialNumber, time.Now())
		e.publish(t, 24*time.Hour)
		time.Sleep(10*time.Minute + time.Second)
		wantRefusal(t, verify(bad), pki.RefusedRevoked, "bad", "unspecified", e.issuingURL)
		if err := verify(good); err != nil {
			t.Error(err)
		}
		e.root.Revoke(e.issuing.Certificate().SerialNumber, time.Now())
		e.publish(t, 24*time.Hour)
		time.Sleep(10*time.Minute + time.Second)
		wantRefusal(t, verify(good), pki.RefusedRevoked, "Corp Issuing", "certificate 2 of the chain", e.rootURL)
		if n := v.Remembered(); n != 2 {
			t.Errorf("remembers %d clients", n)
		}
	})
}

// Only the first sight of a list waits, and only one caller asks for it.
func TestFirstFetchIsSharedAndBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEstate(t)
		slow := func(body []byte) func(*http.Request) (*http.Response, error) {
			return func(r *http.Request) (*http.Response, error) {
				time.Sleep(time.Second)
				return answer(200, body)(r)
			}
		}
		e.web.set(e.issuingURL, slow(must(e.issuing.CRL(time.Now(), time.Hour))(t)))
		crl := pki.NewCRLCache(pki.CRLConfig{HTTP: e.web.client()})
		v := e.verifier(t, crl, nil)
		done := make(chan error)
		for i := range 100 {
			c := e.client(t, fmt.Sprint("pc", i))
			go func() { _, err := v.Verify(c, time.Now()); done <- err }()
		}
		for range 100 {
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
		if n := e.web.count(); n != 2 {
			t.Errorf("%d requests for two lists", n)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		e := newEstate(t)
		e.web.set(e.issuingURL, hang)
		crl := pki.NewCRLCache(pki.CRLConfig{HTTP: e.web.client()})
		refuse := e.verifier(t, crl, nil)
		var log logTo
		s := e.settings()
		s.CRLUnreachable = "accept"
		accept := must(pki.NewClientVerifier(s, crl, log.logger()))(t)
		c := e.client(t, "pc")
		start := time.Now()
		_, err := refuse.Verify(c, time.Now())
		wantRefusal(t, err, pki.RefusedRevocationUnknown, e.issuingURL, "deadline", "crlUnreachable")
		if d := time.Since(start); d != 3*time.Second {
			t.Errorf("waited %v", d)
		}
		go crl.Run(t.Context())
		for range 20 { // from now on nobody waits, though the server still hangs
			time.Sleep(20 * time.Second)
			start = time.Now()
			_, err = refuse.Verify(c, time.Now())
			wantRefusal(t, err, pki.RefusedRevocationUnknown)
			if _, err := accept.Verify(c, time.Now()); err != nil {
				t.Errorf("policy accept: %v", err)
			}
			if d := time.Since(start); d != 0 {
				t.Fatalf("waited %v", d)
			}
		}
		if n := strings.Count(log.String(), "without a revocation check"); n < 5 || n > 10 {
			t.Errorf("%d warnings in 400 s", n)
		}
		if st := crl.Status(); len(st) != 2 || st[0].URL != e.issuingURL || st[0].LastError == "" || st[1].LastError != "" {
			t.Errorf("status %+v", st)
		}
		// The server comes back, and so do the clients.
		e.publish(t, time.Hour)
		time.Sleep(6 * time.Minute)
		if _, err := refuse.Verify(c, time.Now()); err != nil {
			t.Error(err)
		}
	})
}

func TestListPastItsEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEstate(t)
		revoked := e.client(t, "revoked")
		e.issuing.Revoke(revoked[0].SerialNumber, time.Now())
		e.publish(t, time.Hour)
		crl := pki.NewCRLCache(pki.CRLConfig{HTTP: e.web.client()})
		go crl.Run(t.Context())
		strict := e.verifier(t, crl, nil)
		grace := e.verifier(t, crl, func(s *opencmg.CertificateSettings) { s.CRLGrace = 7200 })
		accept := e.verifier(t, crl, func(s *opencmg.CertificateSettings) { s.CRLUnreachable = "accept" })
		c := e.client(t, "pc")
		verify := func(v *pki.ClientVerifier, c []*x509.Certificate) error {
			_, err := v.Verify(c, time.Now())
			return err
		}
		all := []*pki.ClientVerifier{strict, grace, accept}
		for i, v := range all {
			if err := verify(v, c); err != nil {
				t.Fatalf("%d: %v", i, err)
			}
		}
		e.web.set(e.issuingURL, answer(503, nil))
		time.Sleep(59 * time.Minute)
		if err := verify(strict, c); err != nil {
			t.Errorf("before its end: %v", err)
		}
		time.Sleep(2 * time.Minute)
		wantRefusal(t, verify(strict, c), pki.RefusedRevocationUnknown, "the list ended at", "Service Unavailable")
		if err := verify(grace, c); err != nil {
			t.Errorf("in the grace time: %v", err)
		}
		time.Sleep(2 * time.Hour)
		wantRefusal(t, verify(grace, c), pki.RefusedRevocationUnknown)
		if err := verify(accept, c); err != nil {
			t.Errorf("policy accept: %v", err)
		}
		for i, v := range all {
			if err := verify(v, revoked); err == nil {
				t.Errorf("%d: revoked, and accepted by an old list", i)
			}
		}
		wantRefusal(t, verify(accept, revoked), pki.RefusedRevoked)
		// A server that goes on giving out the ended list is asked again.
		e.publish(t, time.Hour)
		time.Sleep(10 * time.Minute)
		if err := verify(strict, c); err != nil {
			t.Error(err)
		}
	})
}

func TestListsOutliveARestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEstate(t)
		dir := t.TempDir()
		config := pki.CRLConfig{HTTP: e.web.client(), Dir: dir}
		c := e.client(t, "pc")
		if _, err := e.verifier(t, pki.NewCRLCache(config), nil).Verify(c, time.Now()); err != nil {
			t.Fatal(err)
		}
		e.web.set(e.rootURL, hang)
		e.web.set(e.issuingURL, hang)
		start := time.Now()
		crl := pki.NewCRLCache(config)
		if _, err := e.verifier(t, crl, nil).Verify(c, time.Now()); err != nil {
			t.Error(err)
		}
		if d := time.Since(start); d != 0 {
			t.Errorf("waited %v with the lists on disk", d)
		}
		// The server is asked all the same.
		asked := e.web.count()
		go crl.Run(t.Context())
		synctest.Wait()
		if n := e.web.count() - asked; n != 2 {
			t.Errorf("%d requests after a start", n)
		}
		// Damage on disk is only a reason to ask.
		for _, f := range must(filepath.Glob(filepath.Join(dir, "*.crl")))(t) {
			os.WriteFile(f, []byte("damaged"), 0o600)
		}
		e.publish(t, time.Hour)
		if _, err := e.verifier(t, pki.NewCRLCache(config), nil).Verify(c, time.Now()); err != nil {
			t.Error(err)
		}
		config.Dir = filepath.Join(dir, "absent")
		if _, err := e.verifier(t, pki.NewCRLCache(config), nil).Verify(c, time.Now()); err != nil {
			t.Errorf("without its directory: %v", err)
		}
	})
}

func TestListsDoNotRollBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEstate(t)
		before := must(e.issuing.CRL(time.Now(), 24*time.Hour))(t)
		c := e.client(t, "pc")
		e.issuing.Revoke(c[0].SerialNumber, time.Now())
		e.publish(t, 24*time.Hour)
		crl := pki.NewCRLCache(pki.CRLConfig{HTTP: e.web.client()})
		go crl.Run(t.Context())
		v := e.verifier(t, crl, nil)
		_, err := v.Verify(c, time.Now())
		wantRefusal(t, err, pki.RefusedRevoked)
		e.web.set(e.issuingURL, answer(200, before))
		time.Sleep(time.Hour)
		_, err = v.Verify(c, time.Now())
		wantRefusal(t, err, pki.RefusedRevoked)
		if st := crl.Status(); !strings.Contains(st[0].LastError, "older list") {
			t.Errorf("status %+v", st[0])
		}
	})
}

func TestUnchangedListsAreNotSentAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEstate(t)
		body := must(e.issuing.CRL(time.Now(), 24*time.Hour))(t)
		sent := 0
		e.web.set(e.issuingURL, func(r *http.Request) (*http.Response, error) {
			if r.Header.Get("If-None-Match") == `"1"` {
				return answer(304, nil)(r)
			}
			sent++
			resp, err := answer(200, body)(r)
			resp.Header.Set("ETag", `"1"`)
			return resp, err
		})
		crl := pki.NewCRLCache(pki.CRLConfig{HTTP: e.web.client(), MaxAge: time.Minute})
		go crl.Run(t.Context())
		v, c := e.verifier(t, crl, nil), e.client(t, "pc")
		for range 100 {
			if _, err := v.Verify(c, time.Now()); err != nil {
				t.Fatal(err)
			}
			time.Sleep(10 * time.Minute)
		}
		if sent != 1 || e.web.count() < 1000 {
			t.Errorf("sent %d times in %d requests", sent, e.web.count())
		}
	})
}

// A list that never changes stays in use while results that rest on it are.
func TestListsInUseAreKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEstate(t)
		e.publish(t, 30*24*time.Hour)
		crl := pki.NewCRLCache(pki.CRLConfig{HTTP: e.web.client(), MaxAge: time.Hour})
		go crl.Run(t.Context())
		v, c := e.verifier(t, crl, nil), e.client(t, "pc")
		for range 10 * 24 {
			if _, err := v.Verify(c, time.Now()); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Hour)
		}
		if n := len(crl.Status()); n != 2 {
			t.Errorf("%d lists after ten days", n)
		}
		e.root.Revoke(e.issuing.Certificate().SerialNumber, time.Now())
		e.publish(t, 24*time.Hour)
		time.Sleep(time.Hour + time.Second)
		_, err := v.Verify(c, time.Now())
		wantRefusal(t, err, pki.RefusedRevoked)
	})
}

func TestUnusedListsAreForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEstate(t)
		e.publish(t, 30*24*time.Hour)
		dir := t.TempDir()
		crl := pki.NewCRLCache(pki.CRLConfig{HTTP: e.web.client(), Dir: dir})
		go crl.Run(t.Context())
		v, c := e.verifier(t, crl, nil), e.client(t, "pc")
		if _, err := v.Verify(c, time.Now()); err != nil {
			t.Fatal(err)
		}
		time.Sleep(6 * 24 * time.Hour)
		if n := len(crl.Status()); n != 2 {
			t.Errorf("%d lists after six days", n)
		}
		time.Sleep(2 * 24 * time.Hour)
		// The root's list is named by a configured intermediate, so it stays.
		if s, kept := crl.Status(), must(os.ReadDir(dir))(t); len(s) != 1 || s[0].URL != e.rootURL || len(kept) != 1 {
			t.Errorf("lists %v, %d on disk after eight days", s, len(kept))
		}
		must(pki.NewClientVerifier(opencmg.CertificateSettings{CheckRevocation: true}, crl, nil))(t)
		time.Sleep(time.Hour)
		if n, kept := len(crl.Status()), must(os.ReadDir(dir))(t); n != 0 || len(kept) != 0 {
			t.Errorf("%d lists, %d on disk after their CA left the configuration", n, len(kept))
		}
		asked := e.web.count()
		time.Sleep(24 * time.Hour)
		if n := e.web.count() - asked; n != 0 {
			t.Errorf("%d requests for lists that nobody uses", n)
		}
		if _, err := e.verifier(t, crl, nil).Verify(c, time.Now()); err != nil {
			t.Error(err)
		}
	})
}

// TestConfiguredListsAreFetchedAhead pins that an instance that has just
// started can serve its first client while the list's server is away.
func TestConfiguredListsAreFetchedAhead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEstate(t)
		crl := pki.NewCRLCache(pki.CRLConfig{HTTP: e.web.client()})
		go crl.Run(t.Context())
		ahead := func(s *opencmg.CertificateSettings) {
			s.RevocationLists = []opencmg.RevocationList{{Issuer: pki.Thumbprint(e.issuing.Certificate()), URL: e.issuingURL}}
		}
		v := e.verifier(t, crl, ahead)
		synctest.Wait()
		e.web.set(e.issuingURL, answer(503, nil))
		e.web.set(e.rootURL, answer(503, nil))
		if _, err := v.Verify(e.client(t, "pc"), time.Now()); err != nil {
			t.Error(err)
		}
	})
}

func TestConfiguredListsAreChecked(t *testing.T) {
	e := newEstate(t)
	issuer := pki.Thumbprint(e.issuing.Certificate())
	for _, tt := range []struct {
		list opencmg.RevocationList
		says string
	}{
		{opencmg.RevocationList{Issuer: issuer, URL: "ldap:///CN=Corp"}, "http or https"},
		{opencmg.RevocationList{Issuer: issuer, URL: "%zz"}, "http or https"},
		{opencmg.RevocationList{Issuer: strings.Repeat("0", 64), URL: e.issuingURL}, "not the SHA-256 thumbprint"},
	} {
		s := e.settings()
		s.RevocationLists = []opencmg.RevocationList{tt.list}
		_, err := pki.NewClientVerifier(s, pki.NewCRLCache(pki.CRLConfig{}), nil)
		if err == nil || !strings.Contains(err.Error(), tt.says) {
			t.Errorf("%v: got %v, want %q", tt.list, err, tt.says)
		}
	}
}

func TestDistributionPointsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		root := mintCA(t, "Root", nil, func(c *x509.Certificate) { c.NotAfter = time.Now().Add(time.Hour * 1000) })
		w := &web{}
		list := must(x509.CreateRevocationList(rand.Reader, &x509.RevocationList{Number: big.NewInt(1), ThisUpdate: time.Now(), NextUpdate: time.Now().Add(time.Hour)}, root.cert, root.key))(t)
		crl := pki.NewCRLCache(pki.CRLConfig{HTTP: w.client(), MaxURLs: 3, Dir: t.TempDir()})
		v := must(pki.NewClientVerifier(opencmg.CertificateSettings{Roots: []string{pemOf(root.cert)}, CheckRevocation: true}, crl, nil))(t)
		verify := func(n int) error {
			u := fmt.Sprintf("http://crl.example/%d", n)
			w.set(u, answer(200, list))
			c := mintClient(t, "pc", &root, func(c *x509.Certificate) { c.CRLDistributionPoints = []string{u} })
			_, err := v.Verify([]*x509.Certificate{c.cert}, time.Now())
			return err
		}
		for n := range 3 {
			if err := verify(n); err != nil {
				t.Fatal(err)
			}
		}
		wantRefusal(t, verify(3), pki.RefusedRevocationUnknown, "more than 3 distribution points")
		time.Sleep(11 * time.Minute) // nobody asked for those any more
		for n := 3; n < 6; n++ {
			if err := verify(n); err != nil {
				t.Error(err)
			}
		}
		if n := len(crl.Status()); n != 3 {
			t.Errorf("%d entries", n)
		}
	})
}

// A server over real HTTP that misbehaves in one way.
func TestRudeCRLServers(t *testing.T) {
	var e *estate
	var mode atomic.Value // the handler of a former case may still run
	release := make(chan struct{})
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.Path, "/root") {
			w.Write(must(e.root.CRL(time.Now(), time.Hour))(t))
			return
		}
		good := must(e.issuing.CRL(time.Now(), time.Hour))(t)
		switch mode.Load() {
		case "good":
			w.Write(good)
		case "PEM":
			pem.Encode(w, &pem.Block{Type: "X509 CRL", Bytes: good})
		case "redirected":
			if r.URL.Path != "/there" {
				http.Redirect(w, r, "/there", http.StatusFound)
			} else {
				w.Write(good)
			}
		case "empty":
		case "500":
			w.WriteHeader(500)
		case "HTML":
			w.Write([]byte("<html>sign in</html>"))
		case "huge":
			w.Write(bytes.Repeat([]byte("0"), 70<<10))
		case "endless":
			for r.Context().Err() == nil {
				if _, err := w.Write(make([]byte, 1<<10)); err != nil {
					return
				}
			}
		case "cut off":
			w.Header().Set("Content-Length", fmt.Sprint(len(good)))
			w.Write(good[:len(good)/2])
		case "half":
			w.Write(good[:len(good)/2])
		case "hang":
			select {
			case <-release:
			case <-r.Context().Done():
			}
		case "loop":
			http.Redirect(w, r, r.URL.Path, http.StatusFound)
		case "to a file":
			http.Redirect(w, r, "file:///etc/passwd", http.StatusFound)
		case "other issuer":
			w.Write(must(e.root.CRL(time.Now(), time.Hour))(t))
		case "impostor":
			fake := mintCA(t, "Corp Issuing", nil, nil)
			w.Write(must(x509.CreateRevocationList(rand.Reader, &x509.RevocationList{Number: big.NewInt(1), ThisUpdate: time.Now(), NextUpdate: time.Now().Add(time.Hour)}, fake.cert, fake.key))(t))
		case "of the future":
			w.Write(must(e.issuing.CRL(time.Now().Add(time.Hour), time.Hour))(t))
		case "ended":
			w.Write(must(e.issuing.CRL(time.Now().Add(-2*time.Hour), time.Hour))(t))
		}
	}))
	defer srv.Close()
	defer close(release)
	e = newEstateAt(t, srv.URL)
	c := e.client(t, "pc")
	try := func(m string) error {
		mode.Store(m)
		crl := pki.NewCRLCache(pki.CRLConfig{HTTP: srv.Client(), MaxBytes: 64 << 10, FirstTimeout: 2 * time.Second})
		if m == "hang" {
			crl = pki.NewCRLCache(pki.CRLConfig{HTTP: srv.Client(), FirstTimeout: 50 * time.Millisecond})
		}
		_, err := e.verifier(t, crl, nil).Verify(c, time.Now())
		return err
	}
	for _, m := range []string{"good", "PEM", "redirected"} {
		if err := try(m); err != nil {
			t.Errorf("%s: %v", m, err)
		}
	}
	for m, word := range map[string]string{
		"empty": "is empty", "500": "500 Internal", "HTML": "not a revocation list", "huge": "longer than 65536", "endless": "longer than 65536",
		"cut off": "unexpected EOF", "half": "not a revocation list", "hang": "deadline", "loop": "redirected", "to a file": "only http",
		"other issuer": `of issuer "CN=Corp Root"`, "impostor": "signature is not", "of the future": "clocks", "ended": "the list ended at",
	} {
		t.Run(m, func(t *testing.T) { wantRefusal(t, try(m), pki.RefusedRevocationUnknown, word) })
	}
}

func TestKindsOfLists(t *testing.T) {
	root := mintCA(t, "Root", nil, nil)
	const url = "http://crl.example/a"
	leaf := mintClient(t, "pc", &root, func(c *x509.Certificate) { c.CRLDistributionPoints = []string{url} }).cert
	below := mintCA(t, "Below", &root, func(c *x509.Certificate) { c.CRLDistributionPoints = []string{url} }).cert
	sign := func(extra []pkix.Extension, entry []pkix.Extension) []byte {
		return must(x509.CreateRevocationList(rand.Reader, &x509.RevocationList{
			Number: big.NewInt(1), ThisUpdate: time.Now(), NextUpdate: time.Now().Add(time.Hour), ExtraExtensions: extra,
			RevokedCertificateEntries: []x509.RevocationListEntry{{SerialNumber: big.NewInt(5), RevocationTime: time.Now(), ReasonCode: 1, ExtraExtensions: entry}},
		}, root.cert, root.key))(t)
	}
	idp := func(body ...byte) []pkix.Extension {
		return []pkix.Extension{{Id: asn1.ObjectIdentifier{2, 5, 29, 28}, Critical: true, Value: append([]byte{0x30, byte(len(body))}, body...)}}
	}
	named := func(u string) []pkix.Extension {
		b := append([]byte{0x86, byte(len(u))}, u...)
		b = append([]byte{0xa0, byte(len(b))}, b...)
		return idp(append([]byte{0xa0, byte(len(b))}, b...)...)
	}
	for name, tt := range map[string]struct {
		list         []byte
		err          string
		excludes, ca string
	}{
		"plain":             {list: sign(nil, nil)},
		"delta":             {list: sign([]pkix.Extension{{Id: asn1.ObjectIdentifier{2, 5, 29, 27}, Critical: true, Value: []byte{2, 1, 1}}}, nil), err: "delta"},
		"unknown critical":  {list: sign([]pkix.Extension{{Id: asn1.ObjectIdentifier{1, 2, 3}, Critical: true, Value: []byte{5, 0}}}, nil), err: "1.2.3"},
		"unknown":           {list: sign([]pkix.Extension{{Id: asn1.ObjectIdentifier{1, 2, 3}, Value: []byte{5, 0}}}, nil)},
		"indirect":          {list: sign(idp(0x84, 1, 0xff), nil), err: "indirect"},
		"attributes":        {list: sign(idp(0x85, 1, 0xff), nil), err: "indirect"},
		"some reasons":      {list: sign(idp(0x83, 2, 0, 0xff), nil), err: "indirect"},
		"malformed scope":   {list: sign(idp(0x84, 9, 0xff), nil), err: "malformed"},
		"users only":        {list: sign(idp(0x81, 1, 0xff), nil), ca: "no certificates of CAs"},
		"CAs only":          {list: sign(idp(0x82, 1, 0xff), nil), excludes: "CAs only"},
		"this point":        {list: sign(named(url), nil)},
		"other point":       {list: sign(named("http://crl.example/b"), nil), excludes: "crl.example/b", ca: "crl.example/b"},
		"indirect entry":    {list: sign(nil, []pkix.Extension{{Id: asn1.ObjectIdentifier{2, 5, 29, 29}, Critical: true, Value: []byte{0x30, 0}}}), err: "2.5.29.29"},
		"unknown in entry":  {list: sign(nil, []pkix.Extension{{Id: asn1.ObjectIdentifier{1, 2, 3}, Critical: true, Value: []byte{5, 0}}}), err: "1.2.3"},
		"harmless in entry": {list: sign(nil, []pkix.Extension{{Id: asn1.ObjectIdentifier{1, 2, 3}, Value: []byte{5, 0}}})},
	} {
		t.Run(name, func(t *testing.T) {
			n, err := pki.ParseCRL(tt.list, root.cert)
			if tt.err != "" {
				if err == nil || !strings.Contains(err.Error(), tt.err) {
					t.Fatalf("got %v, want %q", err, tt.err)
				}
				return
			}
			if err != nil || n != 1 {
				t.Fatalf("%d entries, %v", n, err)
			}
			for cert, want := range map[*x509.Certificate]string{leaf: tt.excludes, below: tt.ca} {
				got := must(pki.CRLExcludes(tt.list, root.cert, cert))(t)
				if (got == "") != (want == "") || !strings.Contains(got, want) {
					t.Errorf("for %s: %q, want %q", cert.Subject, got, want)
				}
			}
		})
	}
}
