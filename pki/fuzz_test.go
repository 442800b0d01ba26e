package pki_test

import (
	"errors"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/opencmg/opencmg"
	"github.com/opencmg/opencmg/pki"
)

// Whatever a caller sends as a token is either accepted for a reason or refused
// with a code, and never makes a panic.
func FuzzToken(f *testing.F) {
	now := time.Now()
	s := testSigner(f)
	v := siteVerifier(f, nil)
	bulk := must(s.Bulk(time.Hour, now))(f).Raw
	client := must(s.Client(clientID, proof, now))(f).Raw
	for _, seed := range []string{bulk, client, "", "..", "a.b.c", "eyJhbGciOiJub25lIn0.e30.", strings.Repeat("A", 100) + "." + bulk} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, token string) {
		id, err := v.Verify(t.Context(), token, proof, now)
		if err == nil {
			// Only what was signed passes; base64url has one spelling here.
			if token != bulk && token != client {
				t.Errorf("accepted %q", token)
			}
			return
		}
		var r *pki.Refusal
		if !errors.As(err, &r) || r.Code == "" || id != (opencmg.Identity{}) {
			t.Errorf("refused with %#v and identity %+v", err, id)
		}
	})
}

// The same for what a browser brings back from Entra.
func FuzzIDToken(f *testing.F) {
	now := time.Now()
	key := testSigningKey().PrivateKey
	w := &web{}
	provider(f, w, map[string]any{"k1": key})
	keys := pki.NewJWKSCache(pki.JWKSConfig{HTTP: w.client()})
	want := pki.IDTokenWanted{Authority: authority, TenantID: tenantID, ClientID: "app-id", Nonce: "n"}
	claims := map[string]any{"iss": authority, "aud": "app-id", "tid": tenantID, "oid": "aaaaaaaa-0000-0000-0000-000000000003", "exp": now.Add(time.Hour).Unix(), "nonce": "n", "name": strings.Repeat("é", 200)}
	good := forge(f, map[string]any{"kid": "k1"}, claims, key)
	for _, seed := range []string{good, forge(f, map[string]any{"kid": "k1"}, "[]", key), "", "..", "a.b.c", "eyJhbGciOiJub25lIn0.e30."} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, token string) {
		id, err := keys.VerifyIDToken(t.Context(), token, want, now)
		if token == good {
			if err != nil || id.ObjectID != "aaaaaaaa-0000-0000-0000-000000000003" || len(id.Name) > 256 || !utf8.ValidString(id.Name) {
				t.Errorf("%+v %v", id, err)
			}
			return
		}
		var r *pki.Refusal
		if !errors.As(err, &r) || r.Code == "" || id != (pki.IDToken{}) {
			t.Errorf("%q: refused with %#v and %+v", token, err, id)
		}
	})
}

func FuzzCRL(f *testing.F) {
	a := must(pki.NewAuthority("CA", time.Now()))(f)
	f.Add(must(a.CRL(time.Now(), time.Hour))(f))
	f.Add([]byte("-----BEGIN X509 CRL-----\nMAA=\n-----END X509 CRL-----\n"))
	f.Add([]byte{0x30, 0x84, 0xff, 0xff, 0xff, 0xff})
	f.Fuzz(func(t *testing.T, data []byte) {
		pki.ParseCRL(data, a.Certificate())
	})
}

func FuzzDocument(f *testing.F) {
	now := time.Now()
	a := must(pki.NewAuthority("CA", now))(f)
	c := must(a.IssueKeyPair(pki.Template{URIs: []string{"opencmg://lab/x"}}, now))(f)
	good := must(pki.SignDocument("x", []byte("{}"), c))(f)
	f.Add(good)
	f.Add([]byte("e30.e30.AA"))
	f.Fuzz(func(t *testing.T, jws []byte) {
		payload, err := pki.VerifyDocument("x", jws, a.Certificate(), "opencmg://lab/x", now)
		if err == nil && string(payload) != "{}" {
			t.Errorf("accepted %q", payload)
		}
	})
}
