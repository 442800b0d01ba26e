package pki_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"math/big"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"software.sslmate.com/src/go-pkcs12"

	"github.com/opencmg/opencmg"
	"github.com/opencmg/opencmg/pki"
)

// states maps the IDs of checks to their states.
func states(checks []opencmg.Check) map[string]opencmg.CheckState {
	m := map[string]opencmg.CheckState{}
	for _, c := range checks {
		m[c.ID] = c.State
	}
	return m
}

func TestInspectServerCertificate(t *testing.T) {
	now := time.Now()
	root := must(pki.NewAuthority("Root", now))(t)
	issuing := must(pki.CreateAuthority(pki.AuthorityOptions{Name: "Issuing", Parent: root}, now))(t)
	const domain = "westeurope.cloudapp.azure.com"
	year := func(template pki.Template) pki.Template {
		if template.NotAfter.IsZero() {
			template.NotAfter = now.Add(365 * 24 * time.Hour)
		}
		return template
	}
	pfx := func(template pki.Template) ([]byte, *x509.Certificate) {
		pair := must(issuing.IssueKeyPair(year(template), now))(t)
		leaf := parsed(t, pair)[0]
		above := []*x509.Certificate{issuing.Certificate(), root.Certificate()}
		return must(pkcs12.Modern.Encode(pair.PrivateKey, leaf, above, "secret"))(t), leaf
	}
	good := map[string]opencmg.CheckState{
		"file": "pass", "key": "pass", "usage": "pass", "signature": "pass", "validity": "pass", "chain": "pass",
		"service-name": "pass", "deployment-name": "pass", "dns": "todo",
	}
	_, inForce := pfx(serverTemplate("granitefalls.contoso.com"))
	for name, tt := range map[string]struct {
		template pki.Template
		o        pki.ServerCertificateOptions
		differs  map[string]opencmg.CheckState
		says     string // somewhere in the checks that differ
		service  string
		deploys  string
	}{
		"own domain":     {template: serverTemplate("GraniteFalls.contoso.com"), service: "GraniteFalls.contoso.com", deploys: "granitefalls." + domain},
		"cloud's domain": {template: serverTemplate("granitefalls." + domain), differs: map[string]opencmg.CheckState{"dns": "pass"}, service: "granitefalls." + domain, deploys: "granitefalls." + domain},
		"other region": {
			template: serverTemplate("granitefalls.eastus.cloudapp.azure.com"), differs: map[string]opencmg.CheckState{"dns": "fail"},
			says: "belongs to the cloud", service: "granitefalls.eastus.cloudapp.azure.com", deploys: "granitefalls." + domain,
		},
		"wildcard": {
			template: serverTemplate("*.contoso.com"), differs: map[string]opencmg.CheckState{"service-name": "fail", "deployment-name": "todo", "dns": ""},
			says: "give a service name that it covers, such as gw.contoso.com",
		},
		"wildcard, named":    {template: serverTemplate("*.contoso.com"), o: pki.ServerCertificateOptions{ServiceName: "cmg1.contoso.com"}, service: "cmg1.contoso.com", deploys: "cmg1." + domain},
		"wildcard, too deep": {template: serverTemplate("*.contoso.com"), o: pki.ServerCertificateOptions{ServiceName: "a.cmg1.contoso.com"}, differs: map[string]opencmg.CheckState{"service-name": "fail", "deployment-name": "todo", "dns": ""}, says: "does not cover"},
		"several names":      {template: serverTemplate("cmg1.contoso.com", "cmg2.contoso.com"), differs: map[string]opencmg.CheckState{"service-name": "warn"}, says: "clients will use cmg1.contoso.com", service: "cmg1.contoso.com", deploys: "cmg1." + domain},
		"one of several":     {template: serverTemplate("cmg1.contoso.com", "cmg2.contoso.com"), o: pki.ServerCertificateOptions{ServiceName: "cmg2.contoso.com"}, service: "cmg2.contoso.com", deploys: "cmg2." + domain},
		"no common name":     {template: pki.Template{DNSNames: []string{"cmg3.contoso.com"}, Server: true}, service: "cmg3.contoso.com", deploys: "cmg3." + domain},
		"a person's name":    {template: pki.Template{CommonName: "My gateway", DNSNames: []string{"cmg3.contoso.com"}, Server: true}, service: "cmg3.contoso.com", deploys: "cmg3." + domain},
		"name in CN only":    {template: pki.Template{CommonName: "cmg3.contoso.com", Server: true}, differs: map[string]opencmg.CheckState{"service-name": "fail", "deployment-name": "todo", "dns": ""}, says: "among the subject alternative names"},
		"no name":            {template: pki.Template{Server: true}, differs: map[string]opencmg.CheckState{"service-name": "fail", "deployment-name": "todo", "dns": ""}, says: "names no host"},
		"odd service name":   {template: serverTemplate("a1b.contoso.com"), o: pki.ServerCertificateOptions{ServiceName: "a b"}, differs: map[string]opencmg.CheckState{"service-name": "fail", "deployment-name": "todo", "dns": ""}, says: "is not a host name"},
		"hyphen in label":    {template: serverTemplate("granite-falls.contoso.com"), differs: map[string]opencmg.CheckState{"deployment-name": "fail", "dns": ""}, says: "give a deployment name", service: "granite-falls.contoso.com"},
		"hyphen, prefix":     {template: serverTemplate("granite-falls.contoso.com"), o: pki.ServerCertificateOptions{DeploymentName: "granitefalls"}, service: "granite-falls.contoso.com", deploys: "granitefalls." + domain},
		"bad prefix":         {template: serverTemplate("abc.contoso.com"), o: pki.ServerCertificateOptions{DeploymentName: "A_"}, differs: map[string]opencmg.CheckState{"deployment-name": "fail", "dns": ""}, says: "choose another one", service: "abc.contoso.com"},
		"expires soon":       {template: pki.Template{CommonName: "abc.contoso.com", DNSNames: []string{"abc.contoso.com"}, Server: true, NotBefore: now.Add(-300 * 24 * time.Hour), NotAfter: now.Add(30*24*time.Hour + time.Hour)}, differs: map[string]opencmg.CheckState{"validity": "warn"}, says: "expires in 30 days", service: "abc.contoso.com", deploys: "abc." + domain},
		"short-lived":        {template: pki.Template{CommonName: "abc.contoso.com", DNSNames: []string{"abc.contoso.com"}, Server: true, NotAfter: now.Add(40 * 24 * time.Hour)}, service: "abc.contoso.com", deploys: "abc." + domain},
		"expired":            {template: pki.Template{CommonName: "abc.contoso.com", DNSNames: []string{"abc.contoso.com"}, Server: true, NotBefore: now.Add(-48 * time.Hour), NotAfter: now.Add(-time.Hour)}, differs: map[string]opencmg.CheckState{"validity": "fail"}, says: "renew it", service: "abc.contoso.com", deploys: "abc." + domain},
		"client usage":       {template: pki.Template{CommonName: "abc.contoso.com", DNSNames: []string{"abc.contoso.com"}, Client: true}, differs: map[string]opencmg.CheckState{"usage": "fail"}, says: "web server template", service: "abc.contoso.com", deploys: "abc." + domain},
		"renewal": {
			template: serverTemplate("GraniteFalls.Contoso.com"), o: pki.ServerCertificateOptions{Replaces: inForce},
			differs: map[string]opencmg.CheckState{"renewal": "warn"}, says: "does not live longer", service: "GraniteFalls.Contoso.com", deploys: "granitefalls." + domain,
		},
		"longer renewal": {
			template: pki.Template{DNSNames: []string{"granitefalls.contoso.com"}, Server: true, NotAfter: now.Add(366 * 24 * time.Hour)}, o: pki.ServerCertificateOptions{Replaces: inForce},
			differs: map[string]opencmg.CheckState{"renewal": "pass"}, service: "granitefalls.contoso.com", deploys: "granitefalls." + domain,
		},
		"renewal for another": {
			template: serverTemplate("other.contoso.com"), o: pki.ServerCertificateOptions{Replaces: inForce},
			differs: map[string]opencmg.CheckState{"renewal": "fail"}, says: "another name needs another gateway", service: "other.contoso.com", deploys: "other." + domain,
		},
	} {
		t.Run(name, func(t *testing.T) {
			b, leaf := pfx(tt.template)
			tt.o.CloudDomain = domain
			info, checks, err := pki.InspectServerCertificate(b, []byte("secret\n"), tt.o)
			if err != nil {
				t.Fatal(err)
			}
			want := map[string]opencmg.CheckState{}
			for id, s := range good {
				want[id] = s
			}
			for id, s := range tt.differs {
				if want[id] = s; s == "" {
					delete(want, id)
				}
			}
			if d := cmp.Diff(want, states(checks)); d != "" {
				t.Errorf("(-want +got)\n%s%+v", d, checks)
			}
			if !slices.ContainsFunc(checks, func(c opencmg.Check) bool {
				return strings.Contains(c.Evidence+" "+c.NextStep, tt.says)
			}) {
				t.Errorf("nothing says %q: %+v", tt.says, checks)
			}
			for _, c := range checks {
				if c.State != opencmg.CheckPass && c.NextStep == "" {
					t.Errorf("%s does not say what to do", c.ID)
				}
			}
			if info.ServiceName != tt.service || info.Deployment != tt.deploys || !info.Certificate.Equal(leaf) || info.Thumbprint != pki.Thumbprint(leaf) || len(info.Chain) != 3 {
				t.Errorf("got %+v", info)
			}
		})
	}
}

func TestInspectOddFiles(t *testing.T) {
	now := time.Now()
	ca := must(pki.NewAuthority("Root", now))(t)
	pair := must(ca.IssueKeyPair(serverTemplate("gw.example.com"), now))(t)
	all := parsed(t, pair)
	encode := func(key crypto.PrivateKey, certs ...*x509.Certificate) []byte {
		return must(pkcs12.Modern.Encode(key, certs[0], certs[1:], ""))(t)
	}
	stranger := must(ca.IssueKeyPair(serverTemplate("gw.example.com"), now))(t)
	for name, tt := range map[string]struct {
		pfx, password []byte
		want          string
	}{
		"not a PFX":      {[]byte("hello"), nil, "not a PFX file"},
		"wrong password": {encode(pair.PrivateKey, all...), []byte("wrong"), "does not open"},
		"foreign key":    {encode(stranger.PrivateKey, all...), nil, "belongs to none"},
	} {
		info, checks, err := pki.InspectServerCertificate(tt.pfx, tt.password, pki.ServerCertificateOptions{})
		if info != nil || !errors.Is(err, opencmg.Invalid) || !strings.Contains(err.Error(), tt.want) || len(checks) != 1 || checks[0].State != opencmg.CheckFail || checks[0].NextStep == "" {
			t.Errorf("%s: %v, %+v", name, err, checks)
		}
		if _, err := pki.ReencodePFX(tt.pfx, tt.password); !errors.Is(err, opencmg.Invalid) {
			t.Errorf("%s: encode again: %v", name, err)
		}
	}
	get := func(b []byte, id string) opencmg.Check {
		t.Helper()
		_, checks, err := pki.InspectServerCertificate(b, nil, pki.ServerCertificateOptions{Now: now})
		i := slices.IndexFunc(checks, func(c opencmg.Check) bool { return c.ID == id })
		if err != nil || i < 0 {
			t.Fatalf("%s: %v, %+v", id, err, checks)
		}
		return checks[i]
	}
	if c := get(encode(pair.PrivateKey, all[0]), "chain"); c.State != opencmg.CheckFail || !strings.Contains(c.Evidence, "is missing") {
		t.Errorf("no issuer: %+v", c)
	}
	issuing := must(pki.CreateAuthority(pki.AuthorityOptions{Name: "Issuing", Parent: ca}, now))(t)
	deep := must(issuing.IssueKeyPair(serverTemplate("gw.example.com"), now))(t)
	deepAll := parsed(t, deep)
	if c := get(encode(deep.PrivateKey, deepAll[0], deepAll[1]), "chain"); c.State != opencmg.CheckWarn || !strings.Contains(c.Evidence, "CN=Root") {
		t.Errorf("no root: %+v", c)
	}
	if c := get(encode(deep.PrivateKey, deepAll[2], deepAll[0], deepAll[1]), "chain"); c.State != opencmg.CheckPass || !strings.Contains(c.Evidence, "put in order") {
		t.Errorf("out of order: %+v", c)
	}
	p521 := must(ecdsa.GenerateKey(elliptic.P521(), rand.Reader))(t)
	self := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "gw.example.com"}, DNSNames: []string{"gw.example.com"},
		NotBefore: now.Add(-time.Hour), NotAfter: now.Add(24 * time.Hour), ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	selfCert := must(x509.ParseCertificate(must(x509.CreateCertificate(rand.Reader, self, self, p521.Public(), p521))(t)))(t)
	b := encode(p521, selfCert)
	if c := get(b, "chain"); c.State != opencmg.CheckWarn || !strings.Contains(c.Evidence, "self-signed") {
		t.Errorf("self-signed: %+v", c)
	}
	if c := get(b, "key"); c.State != opencmg.CheckFail || !strings.Contains(c.NextStep, "P-256") {
		t.Errorf("P-521: %+v", c)
	}
	if c := get(b, "dns"); c.State != opencmg.CheckTodo {
		t.Errorf("without a cloud: %+v", c)
	}
}

func TestReencodePFX(t *testing.T) {
	now := time.Now()
	ca := must(pki.NewAuthority("Root", now))(t)
	issuing := must(pki.CreateAuthority(pki.AuthorityOptions{Name: "Issuing", Parent: ca}, now))(t)
	for _, kind := range []pki.Template{serverTemplate("gw.example.com"), {DNSNames: []string{"gw.example.com"}, Server: true, Key: pki.RSA2048}} {
		pair := must(issuing.IssueKeyPair(kind, now))(t)
		all := parsed(t, pair)
		in := must(pkcs12.Modern.Encode(pair.PrivateKey, all[2], []*x509.Certificate{all[0], all[1]}, "päss wörd"))(t)
		out := must(pki.ReencodePFX(in, []byte("päss wörd\r\n")))(t)
		_, leaf, above, err := pkcs12.DecodeChain(out, "")
		if err != nil || !leaf.Equal(all[0]) || len(above) != 2 || !above[0].Equal(all[1]) || !above[1].Equal(all[2]) {
			t.Errorf("%v, %d above", err, len(above))
		}
		got := must(pki.ParseServerPFX(out, nil, "gw.example.com", now))(t)
		if !got.Leaf.Equal(all[0]) || len(got.Certificate) != 2 {
			t.Errorf("a gateway presents %d certificates", len(got.Certificate))
		}
		again := must(pki.EncodePFX(got))(t)
		if got := must(pki.ParseServerPFX(again, nil, "gw.example.com", now))(t); !got.Leaf.Equal(all[0]) {
			t.Error("another certificate came back")
		}
	}
	if _, err := pki.EncodePFX(tls.Certificate{}); !errors.Is(err, opencmg.Invalid) {
		t.Errorf("nothing: %v", err)
	}
	if _, err := pki.EncodePFX(tls.Certificate{Certificate: [][]byte{{1}}}); err == nil {
		t.Error("rubbish was encoded")
	}
	if _, err := pki.ParseServerPFX([]byte("x"), nil, "", now); !errors.Is(err, opencmg.Invalid) {
		t.Errorf("rubbish: %v", err)
	}
}

func TestSameName(t *testing.T) {
	cert := func(cn string, names ...string) *x509.Certificate {
		return &x509.Certificate{Subject: pkix.Name{CommonName: cn}, DNSNames: names}
	}
	for _, tt := range []struct {
		old, renewed *x509.Certificate
		want         bool
	}{
		{cert("gw.example.com"), cert("GW.Example.COM"), true},
		{cert("gw.example.com"), cert("gw2.example.com", "gw.example.com"), false},
		{cert("gw.example.com"), cert("", "other.example.com", "GW.example.com"), true},
		{cert("", "gw.example.com"), cert("gw.example.com"), true},
		{cert("My gateway", "gw.example.com"), cert("Our gateway", "gw.example.com"), true},
		{cert("*.example.com"), cert("*.EXAMPLE.com"), true},
		{cert("*.example.com"), cert("gw.example.com", "gw.example.com"), false},
		{cert(""), cert(""), false},
	} {
		if got := pki.SameName(tt.old, tt.renewed); got != tt.want {
			t.Errorf("%q %q → %q %q: %v", tt.old.Subject.CommonName, tt.old.DNSNames, tt.renewed.Subject.CommonName, tt.renewed.DNSNames, got)
		}
	}
}
