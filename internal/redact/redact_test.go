package redact_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"math/big"
	"strings"
	"sync"
	"testing"
	"time"

	"software.sslmate.com/src/go-pkcs12"

	"github.com/opencmg/opencmg/internal/redact"
)

// material is real: keys, a certificate and a PFX file.
var material = sync.OnceValue(func() (m struct{ keyPEM, keyBody, certPEM, certBody, pfx string }) {
	must := func(err error) {
		if err != nil {
			panic(err)
		}
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(err)
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	must(err)
	t := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "x"}, NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, t, t, key.Public(), key)
	must(err)
	cert, err := x509.ParseCertificate(der)
	must(err)
	pfx, err := pkcs12.Modern.Encode(key, cert, nil, "x")
	must(err)
	m.keyPEM = string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8}))
	m.keyBody = base64.StdEncoding.EncodeToString(pkcs8)
	m.certPEM = string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	m.certBody = base64.StdEncoding.EncodeToString(der)
	m.pfx = base64.StdEncoding.EncodeToString(pfx)
	return m
})

func wrapped(s string, width int, end string) string {
	var b strings.Builder
	for len(s) > width {
		b.WriteString(s[:width] + end)
		s = s[width:]
	}
	return b.String() + s
}

const (
	jwt     = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJ4In0.c2lnbmF0dXJl-_QQ"
	join    = "eyJ1cmwiOiJodHRwczovL3NpdGUiLCJzZWNyZXQiOiJ4In0"
	own     = "ABCDEFGHIJKLMNOPQRSTUVWXYZABCDEFGHIJKLMNOPQRSTUVWXYZ"
	appKey  = "abC8Q~abcdefghijklmnopqrstuvwxyzABCDEF0123"
	storage = "QUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVphYmNkZWZnaGlqa2xtbm9wcXJzdHV2d3h5ejAxMjM0NTY3ODkrLw=="
	sas     = "sv=2024-08-04&sr=b&sig=AbC%2FdEf0123%3D&se=2026-01-01"
)

func TestText(t *testing.T) {
	m := material()
	escaped := func(s string) string {
		b, err := json.Marshal(s)
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	for name, tt := range map[string]struct{ in, secret string }{
		"PEM key":              {"before\n" + m.keyPEM + "after", m.keyPEM[40:80]},
		"PEM key, escaped":     {escaped(m.keyPEM), m.keyPEM[40:80]},
		"PEM key, cut off":     {m.keyPEM[:120], m.keyPEM[40:80]},
		"RSA key":              {strings.ReplaceAll(m.keyPEM, "BEGIN PRIVATE", "BEGIN RSA PRIVATE"), m.keyPEM[40:80]},
		"key without PEM":      {"x " + m.keyBody + " y", m.keyBody[20:60]},
		"JWT":                  {"token " + jwt + " refused", jwt[30:50]},
		"JWT after a letter":   {"x" + jwt, "c2lnbmF0dXJl"},
		"join token":           {join, join[10:30]},
		"bearer":               {"Bearer 0123456789abcdef0123", "0123456789abcdef0123"},
		"header":               {"Authorization: Bearer abc", "Bearer abc"},
		"header as JSON":       {`{"Authorization":"Basic dTpw"}`, "dTpw"},
		"shared key":           {"SharedKey account:AbCdEfGhIjKlMnOp0123=", "AbCdEfGhIjKlMnOp0123"},
		"proxy URL":            {"proxy http://user:pa%20ss@proxy:8080/", "pa%20ss"},
		"database URL":         {"postgres://u:p/w@d@host/db", "p/w@d"},
		"user of a URL":        {"https://0123456789abcdef0123456789@host/", "0123456789abcdef0123456789"},
		"SAS":                  {"https://x.blob.core.windows.net/a?" + sas, "AbC%2FdEf0123"},
		"SAS in JSON":          {strings.ReplaceAll(sas, "&", `\u0026`), "AbC%2FdEf0123"},
		"SAS escaped":          {"%26sig%3DAbCdEf0123", "AbCdEf0123"},
		"PFX":                  {`"pfx":"` + m.pfx + `"`, m.pfx[100:200]},
		"PFX alone":            {m.pfx, m.pfx[100:200]},
		"PFX in lines":         {wrapped(m.pfx, 76, "\r\n"), m.pfx[100:140]},
		"PFX in escaped lines": {wrapped(m.pfx, 64, `\n`), m.pfx[100:120]},
		"PFX after a PFX":      {m.pfx + "\n" + m.pfx + "x", m.pfx[100:200]},
		"PFX, its end":         {wrapped(m.pfx, 76, "\n")[160:], m.pfx[250:290]},
		"PEM key, its end":     {m.keyPEM[60:], m.keyPEM[100:120]},
		"app secret":           {"secret was " + appKey, appKey[6:20]},
		"storage key":          {"AccountName=x;AccountKey=" + storage + ";x", storage[10:40]},
		"storage key alone":    {storage, storage[10:40]},
		"own token":            {"token is " + own, own[:20]},
		"environment":          {"OPENCMG_TOKEN=hunter2 x\nAZURE_CLIENT_SECRET=hunter3", "hunter"},
		"YAML":                 {"smtp:\n  user: x\n  password: hunter2\n", "hunter2"},
		"YAML, quoted":         {"password: 'hunter 2'", "hunter"},
		"log attribute":        {`failed client_secret="hunter 2" x=1`, "hunter"},
		"JSON":                 {`{"clientSecret":"hunter\"2","x":1}`, `hunter`},
		"JSON in JSON":         {`{"text":"{\"password\":\"hunter2\"}"}`, `hunter2`},
		"GUID as a password":   {"password=6f3b5a0e-8d2c-4c57-9a41-2d1f0e9b7c11", "6f3b5a0e"},
		"number as a password": {"password: 123456", "123456"},
		"command line":         {"ccmsetup /regtoken:abcdef /mp:x", "abcdef"},
		"unclosed":             {`"password": "hunter2`, "hunter2"},
	} {
		if !strings.Contains(tt.in, tt.secret) {
			t.Fatalf("%s: the test is wrong: no %q in %q", name, tt.secret, tt.in)
		}
		for kind, got := range map[string]string{"text": string(redact.Text([]byte(tt.in))), "JSON": string(redact.JSON([]byte(tt.in)))} {
			if strings.Contains(got, tt.secret) || !strings.Contains(got, redact.Mark) {
				t.Errorf("%s as %s: %q", name, kind, got)
			}
		}
	}
}

// What helps to find a fault stays.
func TestTextKeeps(t *testing.T) {
	m := material()
	for _, s := range []string{
		m.certPEM, m.certBody, strings.ReplaceAll(m.certPEM, "\n", `\n`),
		"created token token=6f3b5a0e-8d2c-4c57-9a41-2d1f0e9b7c11 expires=2026-01-31T09:30:00Z",
		`{"localToken":true,"tokenFile":"a/b","secretExpires":"2026-01-31T09:30:00Z","passwordFile":"x"}`,
		"https://gw.example.com:8443/CCM_Proxy_ServerAuth/72057594037927941/x?user=a@b.example",
		"https://user@host/", "a bearer certificate is missing", "the token is blocked: make a new one",
		"sha256=9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
		"auth=bulk-token client=GUID:AB", "tokens=3", "opencmg_gateway_tokens_total{mode=\"client-token\"} 3",
		m.certPEM + m.certPEM, m.certBody + "\nnext line\n", m.certBody + "\n" + m.certBody + "\nnext",
		"signing in by certificate: 403 CMGConnector_Clientcertificaterequired",
	} {
		if got := string(redact.Text([]byte(s))); got != s {
			t.Errorf("%q became %q", s, got)
		}
	}
}

// Words behind a secret stay.
func TestTextKeepsWhatFollows(t *testing.T) {
	m := material()
	for _, s := range []string{m.pfx + "\r\n", wrapped(m.pfx, 64, "\n") + "\n\n", m.keyPEM, jwt + "\n", own + "\n"} {
		if got := string(redact.Text([]byte(s + "the line after"))); !strings.HasSuffix(got, "the line after") {
			t.Errorf("%q", got)
		}
	}
}

// A hostile log does not keep the administrator waiting.
func TestTextIsLinear(t *testing.T) {
	var b strings.Builder
	for i := range 5000 {
		b.WriteString("MI" + strings.Repeat("A", 48+i%7) + "\n")
	}
	if got := redact.Text([]byte(b.String())); len(got) > b.Len() {
		t.Error("more came out than went in")
	}
}

func TestKnown(t *testing.T) {
	if got := string(redact.Text([]byte("x hunter2 y"), "hunter2", "", " ")); got != "x "+redact.Mark+" y" {
		t.Errorf("%q", got)
	}
	if got := string(redact.JSON([]byte(`{"hunter2":["a hunter2"]}`), "hunter2")); strings.Contains(got, "hunter2") {
		t.Errorf("%q", got)
	}
}

func TestJSON(t *testing.T) {
	in := `{"value":[{"id":"1","token":"abc","tokenId":"abc","password":"6f3b5a0e-8d2c-4c57-9a41-2d1f0e9b7c11","keys":["x"],"secrets":["y"],"pfx":"QUJD","n":12345678901234567890,"enabled":true}]}`
	var v struct{ Value []map[string]any }
	if err := json.Unmarshal(redact.JSON([]byte(in)), &v); err != nil {
		t.Fatal(err)
	}
	o := v.Value[0]
	if o["token"] != redact.Mark || o["password"] != redact.Mark || o["pfx"] != redact.Mark || o["tokenId"] != "abc" || o["id"] != "1" || o["enabled"] != true {
		t.Errorf("%v", o)
	}
	if got := string(redact.JSON([]byte(in))); !strings.Contains(got, "12345678901234567890") {
		t.Errorf("a number changed: %s", got)
	}
}

// FuzzText plants secrets into whatever surroundings.
func FuzzText(f *testing.F) {
	f.Add("a ", " b", "hunter2")
	f.Add(`{"x":"`, `"}`, "pa ss")
	f.Add("-----BEGIN CERTIFICATE-----\n", "\n-----END CERTIFICATE-----", "x")
	f.Add("https://u:", "@host", "x")
	m := material()
	f.Fuzz(func(t *testing.T, before, after, free string) {
		if len(before)+len(after)+len(free) > 1<<14 {
			return
		}
		for _, tt := range []struct{ planted, secret string }{
			{m.keyPEM, m.keyPEM[60:100]},
			{jwt, "c2lnbmF0dXJl"},
			{"\n" + storage + "\n", storage[10:40]},
			{"\n" + own + "\n", own[:30]},
			{"\n" + m.pfx + "\n", m.pfx[200:260]},
		} {
			in := before + tt.planted + after
			if strings.Contains(before+after, tt.secret) {
				return
			}
			if got := redact.Text([]byte(in)); strings.Contains(string(got), tt.secret) {
				t.Errorf("%q left in %q", tt.secret, got)
			}
		}
		doc, err := json.Marshal(map[string]any{"password": free, "x": map[string]any{"text": before, "clientSecret": []string{free}}})
		if err != nil {
			t.Fatal(err)
		}
		var v struct {
			Password string
			X        struct{ ClientSecret []string }
		}
		if err := json.Unmarshal(redact.JSON(doc), &v); err != nil {
			t.Fatal(err)
		}
		for _, s := range []string{v.Password, v.X.ClientSecret[0]} {
			if s != redact.Mark && s != "" && !strings.EqualFold(s, "true") && !strings.EqualFold(s, "false") && !strings.EqualFold(s, "null") {
				t.Errorf("%q left", s)
			}
		}
	})
}
