package pki_test

import (
	"crypto/ecdsa"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/opencmg/opencmg"
	"github.com/opencmg/opencmg/pki"
)

func TestAuthorityAsText(t *testing.T) {
	root := must(pki.NewAuthority("Root", time.Now()))(t)
	sub := must(pki.CreateAuthority(pki.AuthorityOptions{Name: "Sub", Parent: root}, time.Now()))(t)
	again := must(pki.ParseAuthority(must(sub.Encode())(t)))(t)
	leaf := must(again.IssueKeyPair(pki.Template{CommonName: "x", Client: true}, time.Now()))(t)
	if err := leaf.Leaf.CheckSignatureFrom(sub.Certificate()); err != nil {
		t.Error(err)
	}
	if n := len(again.Chain()); n != 2 {
		t.Errorf("%d certificates", n)
	}
	if _, err := pki.ParseAuthority(must(pki.EncodeKeyPair(leaf))(t)); !errors.Is(err, opencmg.Invalid) {
		t.Errorf("a leaf passes for a CA: %v", err)
	}
	if _, err := pki.ParseAuthority([]byte("x")); !errors.Is(err, opencmg.Invalid) {
		t.Errorf("garbage: %v", err)
	}
}

func TestCertificateRequests(t *testing.T) {
	key, text, err := pki.NewRequest()
	if err != nil {
		t.Fatal(err)
	}
	csr := must(pki.ParseRequest(text))(t)
	root := must(pki.NewAuthority("Root", time.Now()))(t)
	cert := must(root.Issue(pki.Template{CommonName: "cp1", Client: true}, csr.PublicKey, time.Now()))(t)
	if pub, ok := cert.PublicKey.(*ecdsa.PublicKey); !ok || !pub.Equal(key.Public()) {
		t.Error("the certificate is for another key")
	}
	for name, bad := range map[string]string{
		"empty": "", "no PEM": "hello", "cut off": string(text[:len(text)/2]), "other PEM": string(root.CertificatePEM()),
		"huge": strings.Repeat("x", 20<<10), "damaged": strings.Replace(string(text), "MI", "MJ", 1),
	} {
		if _, err := pki.ParseRequest([]byte(bad)); !errors.Is(err, opencmg.Invalid) && !errors.Is(err, opencmg.TooLarge) && !errors.Is(err, opencmg.Unauthorized) {
			t.Errorf("%s: got %v", name, err)
		}
	}
}
