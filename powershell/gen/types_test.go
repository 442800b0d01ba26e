package main

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"software.sslmate.com/src/go-pkcs12"

	"github.com/opencmg/opencmg/pki"
)

// buildTypes compiles OpenCMG/Types.cs as Windows PowerShell does, in C# 5, with
// a stand-in for PowerShell's own types, and returns the program of testdata/Try.cs.
func buildTypes(t *testing.T) string {
	t.Helper()
	for _, tool := range []string{"mcs", "mono"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("no C# here: %v", err)
		}
	}
	program := filepath.Join(t.TempDir(), "try.exe")
	out, err := exec.Command("mcs", "-langversion:5", "-warnaserror", "-r:System.Net.Http", "-out:"+program,
		"../OpenCMG/Types.cs", "../OpenCMG/Tests/Server.cs", "../testdata/Automation.cs", "../testdata/Try.cs").CombinedOutput()
	if err != nil {
		t.Fatalf("mcs: %v\n%s", err, out)
	}
	return program
}

func try(program string, args ...string) (string, error) {
	out, err := exec.Command("mono", append([]string{program}, args...)...).CombinedOutput()
	return string(out), err
}

// TestBody: the module's JSON is JSON, with secrets as texts and nothing left of
// them afterwards.
func TestBody(t *testing.T) {
	program := buildTypes(t)
	out, err := try(program, "body")
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	var got map[string]any
	if err := json.Unmarshal([]byte(out), &got); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	for key, want := range map[string]any{
		"text": "a", "secret": "p\u00e4ss", "same": true, "isSecure": true, "switch": true, "utc": "2027-03-31T01:02:03Z", "unspecified": "2027-03-31T00:00:00",
		"uri": "https://ConfigMgrService", "bytes": "ZmlsZQ==", "long": strings.Repeat("x", 10000),
	} {
		if got[key] != want {
			t.Errorf("%s is %v", key, got[key])
		}
	}
	if table, _ := got["table"].(map[string]any); table[`c:\ca.cer`] != "RootCA" {
		t.Errorf("table is %v", got["table"])
	}
	object, _ := got["object"].(map[string]any)
	if list, _ := object["List"].([]any); object["Name"] != "Fr\u00e4nk \"\\\u20ac\n" || len(list) != 3 || list[0] != 1.0 || list[1] != 2.5 || list[2] != nil {
		t.Errorf("object is %v", object)
	}
}

// TestPin: only a server with a certificate of the site CA, for its own name and
// valid now, is trusted.
func TestPin(t *testing.T) {
	program := buildTypes(t)
	now := time.Now()
	rsa := pki.AuthorityOptions{Name: "Site CA", Key: pki.RSA2048} // this C# knows no others
	site, err := pki.CreateAuthority(rsa, now.Add(-48*time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	other, err := pki.CreateAuthority(rsa, now)
	if err != nil {
		t.Fatal(err)
	}
	ca := filepath.Join(t.TempDir(), "site-ca.pem")
	if err := os.WriteFile(ca, pki.EncodeCertificates(site.Certificate()), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		by      *pki.Authority
		from    time.Time
		life    time.Duration
		refused string
	}{
		"right":    {by: site, from: now.Add(-time.Minute), life: time.Hour},
		"other CA": {by: other, from: now, life: time.Hour, refused: "refused: "},
		"expired":  {by: site, from: now.Add(-24 * time.Hour), life: time.Hour, refused: "not valid"},
	} {
		t.Run(name, func(t *testing.T) {
			pair, err := c.by.IssueKeyPair(pki.Template{CommonName: "localhost", DNSNames: []string{"localhost"}, Server: true, Key: pki.RSA2048, NotBefore: c.from, NotAfter: c.from.Add(c.life)}, now)
			if err != nil {
				t.Fatal(err)
			}
			s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { w.Write([]byte("hello")) }))
			s.Config.ErrorLog = log.New(io.Discard, "", 0)
			s.TLS = &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12, MaxVersion: tls.VersionTLS12}
			s.StartTLS()
			defer s.Close()
			out, err := try(program, "get", strings.Replace(s.URL, "127.0.0.1", "localhost", 1), ca)
			if c.refused == "" && (err != nil || strings.TrimSpace(out) != "hello") {
				t.Errorf("%v: %s", err, out)
			}
			if c.refused != "" && (err == nil || !strings.Contains(out, c.refused)) {
				t.Errorf("%v: %s", err, out)
			}
		})
	}

	// What the handshake itself finds is asked directly: Mono's client does not tell
	// that the name is wrong.
	pair, err := site.IssueKeyPair(pki.Template{CommonName: "localhost", DNSNames: []string{"localhost"}, Server: true, Key: pki.RSA2048}, now)
	if err != nil {
		t.Fatal(err)
	}
	certificate := filepath.Join(t.TempDir(), "server.pem")
	if err := os.WriteFile(certificate, pki.EncodeCertificates(pair.Leaf), 0o600); err != nil {
		t.Fatal(err)
	}
	for errors, want := range map[string]string{
		"None": "trusted", "RemoteCertificateChainErrors": "trusted", "RemoteCertificateNameMismatch": "another name", "RemoteCertificateNotAvailable": "no certificate",
	} {
		if out, _ := try(program, "judge", ca, certificate, errors); !strings.Contains(out, want) {
			t.Errorf("%s: %s", errors, out)
		}
	}
	client, err := site.IssueKeyPair(pki.Template{CommonName: "client", Client: true, Key: pki.RSA2048}, now)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(certificate, pki.EncodeCertificates(client.Leaf), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, _ := try(program, "judge", ca, certificate, "None"); !strings.Contains(out, "not for servers") {
		t.Errorf("a client's certificate: %s", out)
	}
}

// TestTestServer: the server of the module's own tests takes a request over TLS,
// and answers as it was told.
func TestTestServer(t *testing.T) {
	program := buildTypes(t)
	site, err := pki.CreateAuthority(pki.AuthorityOptions{Name: "Site CA", Key: pki.RSA2048}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	pair, err := site.IssueKeyPair(pki.Template{CommonName: "localhost", DNSNames: []string{"localhost"}, Server: true, Key: pki.RSA2048}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	pfx, err := pkcs12.LegacyDES.Encode(pair.PrivateKey, pair.Leaf, nil, "") // what this C# can read
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "server.pfx")
	if err := os.WriteFile(file, pfx, 0o600); err != nil {
		t.Fatal(err)
	}
	c := exec.Command("mono", program, "serve", file)
	in, err := c.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	defer c.Wait()
	defer in.Close()
	lines := bufio.NewReader(out)
	port, err := lines.ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(site.Certificate())
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}}}
	for _, want := range []int{418, 500} {
		res, err := client.Post("https://localhost:"+strings.TrimSpace(port)+"/x", "application/json", strings.NewReader(`{"a":1}`))
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(res.Body)
		res.Body.Close()
		if err != nil || res.StatusCode != want || want == 418 && string(body) != "hello" {
			t.Errorf("%d %s %v", res.StatusCode, body, err)
		}
	}
	in.Close()
	asked, err := io.ReadAll(lines)
	if err != nil || strings.Count(string(asked), "POST /x HTTP/1.1") != 2 || !strings.Contains(string(asked), `{"a":1}`) {
		t.Errorf("asked %s: %v", asked, err)
	}
}
