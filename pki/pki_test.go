package pki_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"io"
	"log/slog"
	"math/big"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/opencmg/opencmg/pki"
)

const (
	site      = "LAB"
	hierarchy = "0A1B2C3D-1111-2222-3333-444455556666"
)

func must[T any](v T, err error) func(testing.TB) T {
	return func(t testing.TB) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// wantRefusal fails unless err is a Refusal with the code and all the words in
// its detail.
func wantRefusal(t *testing.T, err error, code string, words ...string) {
	t.Helper()
	var r *pki.Refusal
	if !errors.As(err, &r) {
		t.Fatalf("got %v, want a refusal with code %s", err, code)
	}
	if r.Code != code {
		t.Fatalf("refused with %q, want %s", r.Error(), code)
	}
	for _, w := range words {
		if !strings.Contains(r.Detail, w) {
			t.Errorf("detail %q does not mention %q", r.Detail, w)
		}
	}
}

// testSigningKey is made once: RSA keys take long.
var testSigningKey = sync.OnceValue(func() tls.Certificate {
	c, err := pki.NewTokenSigningCertificate("Test token signing", time.Now())
	if err != nil {
		panic(err)
	}
	return c
})

var otherSigningKey = sync.OnceValue(func() tls.Certificate {
	c, err := pki.NewTokenSigningCertificate("Other token signing", time.Now())
	if err != nil {
		panic(err)
	}
	return c
})

func testSigner(t testing.TB) *pki.TokenSigner {
	c := testSigningKey()
	return must(pki.NewTokenSigner(c.PrivateKey.(crypto.Signer), c.Leaf, "", "", hierarchy))(t)
}

// A minted certificate is one that an Authority would not make.
type minted struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func mint(t testing.TB, c *x509.Certificate, parent *minted) minted {
	t.Helper()
	key := must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))(t)
	c.SerialNumber = must(rand.Int(rand.Reader, big.NewInt(1<<62)))(t)
	if c.NotBefore.IsZero() {
		c.NotBefore = time.Now().Add(-time.Hour)
	}
	if c.NotAfter.IsZero() {
		c.NotAfter = time.Now().Add(24 * time.Hour)
	}
	issuer, signer := c, key
	if parent != nil {
		issuer, signer = parent.cert, parent.key
	}
	der := must(x509.CreateCertificate(rand.Reader, c, issuer, key.Public(), signer))(t)
	return minted{must(x509.ParseCertificate(der))(t), key}
}

func mintCA(t testing.TB, name string, parent *minted, change func(*x509.Certificate)) minted {
	c := &x509.Certificate{
		Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	if change != nil {
		change(c)
	}
	return mint(t, c, parent)
}

func mintClient(t testing.TB, name string, parent *minted, change func(*x509.Certificate)) minted {
	c := &x509.Certificate{
		Subject: pkix.Name{CommonName: name}, KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	if change != nil {
		change(c)
	}
	return mint(t, c, parent)
}

func pemOf(certs ...*x509.Certificate) string { return string(pki.EncodeCertificates(certs...)) }

// A web is an http.RoundTripper that answers without a network, so that it can
// be used with synctest's clock.
type web struct {
	mu       sync.Mutex
	answers  map[string]func(*http.Request) (*http.Response, error)
	requests []string
}

func (w *web) RoundTrip(r *http.Request) (*http.Response, error) {
	w.mu.Lock()
	f := w.answers[r.URL.String()]
	w.requests = append(w.requests, r.URL.String())
	w.mu.Unlock()
	if f == nil {
		return answer(http.StatusNotFound, nil)(r)
	}
	return f(r)
}

func (w *web) set(url string, f func(*http.Request) (*http.Response, error)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.answers == nil {
		w.answers = map[string]func(*http.Request) (*http.Response, error){}
	}
	w.answers[url] = f
}

func (w *web) count() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.requests)
}

func (w *web) client() *http.Client { return &http.Client{Transport: w} }

func answer(status int, body []byte) func(*http.Request) (*http.Response, error) {
	return func(r *http.Request) (*http.Response, error) {
		return &http.Response{StatusCode: status, Status: http.StatusText(status), Header: http.Header{}, Body: io.NopCloser(bytes.NewReader(body)), Request: r}, nil
	}
}

func hang(r *http.Request) (*http.Response, error) {
	<-r.Context().Done()
	return nil, r.Context().Err()
}

// logTo collects log lines.
type logTo struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *logTo) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *logTo) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

func (l *logTo) logger() *slog.Logger { return slog.New(slog.NewTextHandler(l, nil)) }

func TestCacheIsBounded(t *testing.T) {
	c := pki.NewCache(10)
	for i := range 1000 {
		c.Put(i, i)
		if v, ok := c.Get(0); i < 10 && (!ok || v != 0) {
			t.Fatalf("0 was forgotten after %d", i)
		}
		if c.Len() > 20 {
			t.Fatalf("%d entries after %d", c.Len(), i)
		}
	}
	if v, ok := c.Get(999); !ok || v != 999 {
		t.Error("the newest is not there")
	}
	// What is used stays, however much comes.
	for i := range 1000 {
		c.Put(2000+i, i)
		if _, ok := c.Get(999); !ok {
			t.Fatalf("999 was forgotten after %d others, though used all the time", i)
		}
	}
}
