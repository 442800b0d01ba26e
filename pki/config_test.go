package pki_test

import (
	"bytes"
	"encoding/base64"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/opencmg/opencmg"
	"github.com/opencmg/opencmg/pki"
)

func TestSignedConfiguration(t *testing.T) {
	now := time.Now()
	ca := must(pki.NewAuthority("Site CA", now))(t)
	template := pki.Template{CommonName: "configuration", URIs: []string{opencmg.ConfigurationSigningURI(site)}}
	cert := must(ca.IssueKeyPair(template, now))(t)
	cfg := &opencmg.PublishedConfiguration{
		Version: 7, Issued: now.UTC().Truncate(time.Second), Gateway: "gw", Site: site, ServiceName: "gw.example.com", Instances: 2,
		Roles: []opencmg.PublishedRole{{ID: "7", Site: site, Kind: opencmg.KindManagementPoint, Name: "mp", Endpoints: opencmg.ManagementPointEndpoints()}},
	}
	jws := must(pki.SignConfiguration(cfg, cert))(t)
	got := must(pki.VerifyConfiguration(jws, ca.Certificate(), site, now))(t)
	if diff := cmp.Diff(cfg, got); diff != "" {
		t.Error(diff)
	}

	refused := func(name string, jws []byte, kind opencmg.Kind, word string) {
		t.Helper()
		_, err := pki.VerifyConfiguration(jws, ca.Certificate(), site, now)
		if !errors.Is(err, kind) || !strings.Contains(err.Error(), word) {
			t.Errorf("%s: got %v, want kind %s and %q", name, err, kind, word)
		}
	}
	for i := range 3 {
		changed := bytes.Split(bytes.Clone(jws), []byte("."))
		changed[i][len(changed[i])/2] ^= 1
		if _, err := pki.VerifyConfiguration(bytes.Join(changed, []byte(".")), ca.Certificate(), site, now); err == nil {
			t.Errorf("accepted with part %d changed", i)
		}
	}
	other := must(pki.NewAuthority("Other CA", now))(t)
	foreign := must(other.IssueKeyPair(template, now))(t)
	refused("other CA", must(pki.SignConfiguration(cfg, foreign))(t), opencmg.Unauthorized, "site CA")
	cp := must(ca.IssueKeyPair(pki.Template{URIs: []string{opencmg.ConnectionPointURI(site, "cp")}, Client: true}, now))(t)
	refused("connection point's certificate", must(pki.SignConfiguration(cfg, cp))(t), opencmg.Unauthorized, "identity")
	expired := template
	expired.NotBefore, expired.NotAfter = now.Add(-2*time.Hour), now.Add(-time.Hour)
	refused("expired", must(pki.SignConfiguration(cfg, must(ca.IssueKeyPair(expired, now))(t)))(t), opencmg.Unauthorized, "expired")
	refused("other kind", must(pki.SignDocument(pki.KindURLMappings, []byte("{}"), cert))(t), opencmg.Unauthorized, "type")
	refused("not JSON", must(pki.SignDocument(pki.KindConfiguration, []byte("<a/>"), cert))(t), opencmg.Invalid, "")
	refused("invalid content", must(pki.SignDocument(pki.KindConfiguration, []byte(`{"site":"LAB"}`), cert))(t), opencmg.Invalid, "version")
	refused("other site", must(pki.SignDocument(pki.KindConfiguration, []byte(`{"site":"ZZZ"}`), cert))(t), opencmg.Invalid, "ZZZ")
	refused("no JWS", []byte("{}"), opencmg.Invalid, "three parts")
	none := base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"none","typ":"opencmg-configuration+jws"}`)) + ".e30."
	refused("algorithm none", []byte(none), opencmg.Unauthorized, "none")
	noCert := base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"ES256","typ":"opencmg-configuration+jws"}`)) + ".e30."
	refused("no certificate", []byte(noCert), opencmg.Unauthorized, "certificates")
	crit := base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"ES256","typ":"opencmg-configuration+jws","crit":["x"],"x":1}`)) + ".e30."
	refused("critical", []byte(crit), opencmg.Unauthorized, "header fields")
	refused("too large", make([]byte, 12<<20), opencmg.TooLarge, "")
	twice := base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"none","alg":"ES256","typ":"opencmg-configuration+jws"}`)) + ".e30."
	refused("repeated field", []byte(twice), opencmg.Invalid, "")

	unknown := must(pki.SignDocument(pki.KindConfiguration, []byte(`{"version":1,"gateway":"g","site":"LAB","serviceName":"s","instances":1,"future":{"a":1}}`), cert))(t)
	if _, err := pki.VerifyConfiguration(unknown, ca.Certificate(), site, now); err != nil {
		t.Errorf("unknown fields: %v", err)
	}
	if _, err := pki.SignConfiguration(&opencmg.PublishedConfiguration{}, cert); !errors.Is(err, opencmg.Invalid) {
		t.Errorf("signed an invalid configuration: %v", err)
	}
	if _, err := pki.SignDocument("x", make([]byte, pki.MaxDocumentSize+1), cert); !errors.Is(err, opencmg.TooLarge) {
		t.Errorf("signed a huge document: %v", err)
	}
	if _, err := pki.SignDocument("x", nil, testSigningKey()); !errors.Is(err, opencmg.Invalid) {
		t.Errorf("signed with an RSA key: %v", err)
	}
}
