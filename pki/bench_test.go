package pki_test

import (
	"testing"
	"time"

	"github.com/opencmg/opencmg/pki"
)

func BenchmarkTokenVerify(b *testing.B) {
	now := time.Now()
	s, v := testSigner(b), siteVerifier(b, nil)
	token := must(s.Client(clientID, proof, now))(b).Raw
	b.Run("cached", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := v.Verify(b.Context(), token, proof, now); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("uncached", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			b.StopTimer()
			v := siteVerifier(b, nil)
			b.StartTimer()
			if _, err := v.Verify(b.Context(), token, proof, now); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func BenchmarkClientCertificate(b *testing.B) {
	e := newEstate(b)
	crl := pki.NewCRLCache(pki.CRLConfig{HTTP: e.web.client()})
	v := e.verifier(b, crl, nil)
	c := e.client(b, "pc")
	if _, err := v.Verify(c, time.Now()); err != nil {
		b.Fatal(err)
	}
	b.Run("cached", func(b *testing.B) {
		b.ReportAllocs()
		now := time.Now()
		for b.Loop() {
			if _, err := v.Verify(c, now); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("uncached", func(b *testing.B) {
		b.ReportAllocs()
		now := time.Now()
		for b.Loop() {
			b.StopTimer()
			v := e.verifier(b, crl, nil)
			b.StartTimer()
			if _, err := v.Verify(c, now); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// A request with a known token or certificate must not allocate.
func TestCachedResultsDoNotAllocate(t *testing.T) {
	now := time.Now()
	v := siteVerifier(t, nil)
	token := must(testSigner(t).Client(clientID, proof, now))(t).Raw
	e := newEstate(t)
	cv := e.verifier(t, pki.NewCRLCache(pki.CRLConfig{HTTP: e.web.client()}), nil)
	chain := e.client(t, "pc")
	for name, f := range map[string]func() error{
		"token":       func() error { _, err := v.Verify(t.Context(), token, proof, now); return err },
		"certificate": func() error { _, err := cv.Verify(chain, now); return err },
	} {
		if err := f(); err != nil {
			t.Fatal(err)
		}
		if n := testing.AllocsPerRun(100, func() { f() }); n > 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
}
