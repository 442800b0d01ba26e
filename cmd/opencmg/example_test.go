package main

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/opencmg/opencmg"
	"github.com/opencmg/opencmg/pki"
)

// twoHosts is the set-up of examples/two-hosts on this machine: the files as
// they stand there, with other addresses.
type twoHosts struct {
	t        *testing.T
	dir      string
	addr     string // of the gateway's clients
	private  string
	publicCA *pki.Authority
	clientCA *pki.Authority
	gateway  *testProcess
	inside   *testProcess
}

func startTwoHosts(t *testing.T, wiki, status http.Handler) *twoHosts {
	t.Helper()
	h := &twoHosts{t: t, dir: t.TempDir(), addr: freeAddress(t), private: freeAddress(t)}
	tunnel, insidePrivate := freeAddress(t), freeAddress(t)
	wikiServer, statusServer := httptest.NewServer(wiki), httptest.NewServer(status)
	t.Cleanup(wikiServer.Close)
	t.Cleanup(statusServer.Close)

	now := time.Now()
	var err error
	if h.publicCA, err = pki.NewAuthority("public CA", now); err != nil {
		t.Fatal(err)
	}
	if h.clientCA, err = pki.NewAuthority("machines", now); err != nil {
		t.Fatal(err)
	}
	server, err := certificateFor(h.publicCA, now, "gw.example.com")
	if err != nil {
		t.Fatal(err)
	}
	replace := func(file string, pairs ...string) string {
		s := readTestFile(t, filepath.Join("..", "..", "examples", "two-hosts", file))
		for i := 0; i < len(pairs); i += 2 {
			if !strings.Contains(s, pairs[i]) {
				t.Fatalf("examples/two-hosts/%s no longer contains %q", file, pairs[i])
			}
			s = strings.ReplaceAll(s, pairs[i], pairs[i+1])
		}
		return s
	}
	// The machines' certificates of this test name no revocation list.
	writeTestFile(t, filepath.Join(h.dir, "site.yaml"), replace("site.yaml",
		"http://wiki.internal:8080/", wikiServer.URL+"/", "http://status.internal:8081/", statusServer.URL+"/",
		"checkRevocation: true", "checkRevocation: false",
		"maxContentLength: 10485760", "maxContentLength: 2147483648"))
	writeTestFile(t, filepath.Join(h.dir, "client-roots.pem"), string(h.clientCA.CertificatePEM()))
	if out := startAndWait(t, "publish", "--file", filepath.Join(h.dir, "site.yaml"), "--dir", filepath.Join(h.dir, "site")); !strings.Contains(out, "version 1") {
		t.Fatalf("publish printed %s", out)
	}
	gatewayHost, insideHost := filepath.Join(h.dir, "gateway-host"), filepath.Join(h.dir, "inside-host")
	copyDir(t, filepath.Join(h.dir, "site", "gateway-0"), filepath.Join(gatewayHost, "gateway-0"))
	copyDir(t, filepath.Join(h.dir, "site", "connection-point-cp1"), filepath.Join(insideHost, "connection-point-cp1"))
	if err := pki.SaveKeyPair(filepath.Join(gatewayHost, "server.pem"), filepath.Join(gatewayHost, "server.key"), server); err != nil {
		t.Fatal(err)
	}
	writeTestFile(t, filepath.Join(gatewayHost, "gateway.yaml"), replace("gateway-host/gateway.yaml",
		`":443"`, strconv.Quote(h.addr), `":10140"`, strconv.Quote(tunnel), "127.0.0.1:9440", h.private))
	writeTestFile(t, filepath.Join(insideHost, "connection-point.yaml"), replace("inside-host/connection-point.yaml",
		"    count: 1", "    instances: [{instance: 0, tcpTLS: "+strconv.Quote(tunnel)+", https: "+strconv.Quote(h.addr)+"}]",
		"127.0.0.1:9441", insidePrivate))

	h.gateway = startProgram(t, "gateway", "serve", "--config", filepath.Join(gatewayHost, "gateway.yaml"))
	h.inside = startProgram(t, "connection-point", "serve", "--config", filepath.Join(insideHost, "connection-point.yaml"))
	eventually(t, "connection point", readyz("http://"+insidePrivate+"/readyz"))
	eventually(t, "gateway", readyz("http://"+h.private+"/readyz"))
	return h
}

// republish publishes again and copies the result, as the example says.
func (h *twoHosts) republish(change func(site string) string) {
	h.t.Helper()
	file := filepath.Join(h.dir, "site.yaml")
	writeTestFile(h.t, file, change(readTestFile(h.t, file)))
	startAndWait(h.t, "publish", "--file", file, "--dir", filepath.Join(h.dir, "site"))
	for _, name := range []string{mappingsFile, publishedFile} {
		b := readTestFile(h.t, filepath.Join(h.dir, "site", "connection-point-cp1", name))
		if err := pki.WriteFile(filepath.Join(h.dir, "inside-host", "connection-point-cp1", name), []byte(b), 0o600); err != nil {
			h.t.Fatal(err)
		}
	}
}

func startAndWait(t *testing.T, args ...string) string {
	t.Helper()
	p := startProgram(t, args...)
	<-p.done
	if code := p.cmd.ProcessState.ExitCode(); code != 0 {
		t.Fatalf("opencmg %s ended with %d: %s", strings.Join(args, " "), code, p)
	}
	return p.String()
}

func copyDir(t *testing.T, from, to string) {
	t.Helper()
	if err := os.CopyFS(to, os.DirFS(from)); err != nil {
		t.Fatal(err)
	}
}

func TestTwoHostsExample(t *testing.T) {
	wiki := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		fmt.Fprintf(w, "%s %s %q host=%s identity=%q id=%q", r.Method, r.URL, b, r.Host, r.Header.Get(opencmg.HeaderIdentity), r.Header.Get(opencmg.HeaderCorrelationID))
	})
	status := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		id, err := opencmg.ParseIdentity(r.Header.Get(opencmg.HeaderIdentity))
		fmt.Fprintf(w, "%s %s %v %d", id.Auth, id.Subject, err, len(r.Header.Values(opencmg.HeaderIdentity)))
	})
	h := startTwoHosts(t, wiki, status)
	now := time.Now()
	machine, err := h.clientCA.IssueKeyPair(pki.Template{CommonName: "machine-1", Client: true}, now)
	if err != nil {
		t.Fatal(err)
	}
	stranger, err := pki.NewSelfSigned("stranger", now)
	if err != nil {
		t.Fatal(err)
	}
	try := func(cert *tls.Certificate, method, url, body string, header ...string) (*http.Response, string, error) {
		t.Helper()
		req, err := http.NewRequest(method, url, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		for i := 0; i < len(header); i += 2 {
			req.Header.Set(header[i], header[i+1])
		}
		c := trusting(h.publicCA.Certificate(), cert, h.addr)
		defer c.CloseIdleConnections()
		res, err := c.Do(req)
		if err != nil {
			return nil, "", err
		}
		defer res.Body.Close()
		b, err := io.ReadAll(res.Body)
		if err != nil {
			return nil, "", err
		}
		if res.Header.Get(opencmg.HeaderCorrelationID) == "" {
			t.Errorf("%s %s: no correlation ID", method, url)
		}
		return res, string(b), nil
	}
	ask := func(cert *tls.Certificate, method, url, body string, header ...string) (*http.Response, string) {
		t.Helper()
		res, got, err := try(cert, method, url, body, header...)
		if err != nil {
			t.Fatal(err)
		}
		return res, got
	}

	res, body := ask(nil, "POST", "https://gw.example.com/Wiki/a/b?c=d", "hello", "OpenCMG-Identity", "auth=pki", "X-Correlation-ID", "mine")
	id := res.Header.Get(opencmg.HeaderCorrelationID)
	if res.StatusCode != 200 || !strings.Contains(body, `POST /a/b?c=d "hello"`) || !strings.Contains(body, `identity=""`) || !strings.Contains(body, `id="`+id+`"`) || id == "mine" {
		t.Errorf("wiki: %s %s (correlation ID %s)", res.Status, body, id)
	}
	for _, tt := range []struct {
		name   string
		cert   *tls.Certificate
		method string
		path   string
		status string
		body   string
	}{
		{"nobody asks for the status page", nil, "GET", "/status/", "401 Unauthorized", ""},
		{"a stranger does", &stranger, "GET", "/status/", "401 Unauthorized", ""},
		{"a machine does", &machine, "GET", "/status/", "200 OK", "pki CN=machine-1 <nil> 1"},
		{"a machine posts", &machine, "POST", "/status/", "405 Method Not Allowed", ""},
		{"somewhere else", &machine, "GET", "/admin/", "404 Not Found", ""},
		{"beside the prefix", &machine, "GET", "/wikipedia/", "404 Not Found", ""},
		{"dot segments", nil, "GET", "/wiki/%2e%2e/status/", "400 Bad Request", ""},
	} {
		res, body := ask(tt.cert, tt.method, "https://gw.example.com"+tt.path, "")
		if res.Status != tt.status || tt.body != "" && body != tt.body {
			t.Errorf("%s: got %s %q, want %s %q", tt.name, res.Status, body, tt.status, tt.body)
		}
	}

	// What is published anew is in force everywhere soon, and a blocked
	// certificate is refused.
	if _, body := ask(&machine, "GET", "https://gw.example.com/status/", ""); !strings.HasPrefix(body, "pki") {
		t.Fatalf("before the block: %s", body)
	}
	h.republish(func(site string) string {
		return strings.Replace(site, "certificates:\n", "certificates:\n  blocked: ["+pki.Thumbprint(machine.Leaf)+"]\n", 1)
	})
	eventually(t, "block of a certificate", func() error {
		// An answer on its way to a caller who is blocked is cut off.
		res, body, err := try(&machine, "GET", "https://gw.example.com/status/", "")
		if err != nil {
			return err
		}
		if res.Status != "401 Unauthorized" {
			return fmt.Errorf("still %s %s", res.Status, body)
		}
		return nil
	})
}

// TestManagementPointExample starts the management point of
// examples/management-point on this machine.
func TestManagementPointExample(t *testing.T) {
	dir := t.TempDir()
	https, fast, private := freeAddress(t), freeAddress(t), freeAddress(t)
	ca, err := pki.NewAuthority("machines", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	example := func(file string) string {
		return readTestFile(t, filepath.Join("..", "..", "examples", "management-point", file))
	}
	writeTestFile(t, filepath.Join(dir, "site.yaml"), example("site.yaml"))
	writeTestFile(t, filepath.Join(dir, "client-roots.pem"), string(ca.CertificatePEM()))
	startAndWait(t, "publish", "--file", filepath.Join(dir, "site.yaml"), "--dir", filepath.Join(dir, "site"))
	const role = "role-72057594037927937"
	copyDir(t, filepath.Join(dir, "site", role), filepath.Join(dir, "host", role))
	config := strings.NewReplacer(`":443"`, strconv.Quote(https), `":10123"`, strconv.Quote(fast), "127.0.0.1:9442", private).Replace(example("mp.yaml"))
	writeTestFile(t, filepath.Join(dir, "host", "mp.yaml"), config)
	startProgram(t, "mp", "serve", "--config", filepath.Join(dir, "host", "mp.yaml"))
	eventually(t, "management point", readyz("http://"+private+"/readyz"))
	siteCA, err := pki.LoadCertificates(filepath.Join(dir, "site", siteCAFile))
	if err != nil {
		t.Fatal(err)
	}
	c := trusting(siteCA[0], nil, https)
	defer c.CloseIdleConnections()
	res, err := c.Get("https://mp1.corp.example.com/SMS_MP/.sms_aut?MPLIST")
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if b, err := io.ReadAll(res.Body); err != nil || res.StatusCode != 200 || !strings.Contains(string(b), "mp1.corp.example.com") {
		t.Errorf("MPLIST: %s %s %v", res.Status, b, err)
	}

	// A token that the site blocks is refused inside, too.
	signer, err := loadTokenSigner(filepath.Join(dir, "site"))
	if err != nil {
		t.Fatal(err)
	}
	bulk, err := signer.Bulk(0, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	status := func() int {
		req, err := http.NewRequest("GET", "https://mp1.corp.example.com/SMS_MP/.sms_aut?MPLIST", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+bulk.Raw)
		res, err := c.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		return res.StatusCode
	}
	before := status()
	writeTestFile(t, filepath.Join(dir, "site.yaml"), example("site.yaml")+"\nblockedTokens: ["+bulk.ID+"]\n")
	startAndWait(t, "publish", "--file", filepath.Join(dir, "site.yaml"), "--dir", filepath.Join(dir, "site"))
	b := readTestFile(t, filepath.Join(dir, "site", role, publishedFile))
	if err := pki.WriteFile(filepath.Join(dir, "host", role, publishedFile), []byte(b), 0o600); err != nil {
		t.Fatal(err)
	}
	eventually(t, "block of a token", func() error {
		if got := status(); got != http.StatusUnauthorized {
			return fmt.Errorf("status %d, before the block %d", got, before)
		}
		return nil
	})
	if before == http.StatusUnauthorized {
		t.Errorf("the token was refused before it was blocked")
	}
}

// TestTakenPort starts the same role twice.
func TestTakenPort(t *testing.T) {
	h := startTwoHosts(t, http.NotFoundHandler(), http.NotFoundHandler())
	for _, args := range [][]string{
		{"gateway", "serve", "--config", filepath.Join(h.dir, "gateway-host", "gateway.yaml")},
		{"connection-point", "serve", "--config", filepath.Join(h.dir, "inside-host", "connection-point.yaml")},
	} {
		p := startProgram(t, args...)
		<-p.done
		out := p.String()
		if code := p.cmd.ProcessState.ExitCode(); code != 1 || !strings.Contains(out, "address already in use") || !strings.Contains(out, "hint: another program listens there") {
			t.Errorf("%s: ended with %d and printed %s", args[0], code, out)
		}
	}
}

// TestMemoryStaysFlat moves 1 GiB each way and looks at the memory of both
// processes.
func TestMemoryStaysFlat(t *testing.T) {
	if testing.Short() {
		t.Skip("moves two GiB")
	}
	if _, err := os.Stat("/proc/self/status"); err != nil {
		t.Skip("needs /proc to read the memory of another process")
	}
	const size = 1 << 30
	wiki := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.Method {
		case "GET":
			w.Header().Set("Content-Length", strconv.Itoa(size))
			io.CopyN(w, zeros{}, size)
		case "POST":
			sum := sha256.New()
			n, err := io.Copy(sum, r.Body)
			fmt.Fprintf(w, "%d %x %v", n, sum.Sum(nil), err)
		}
	})
	h := startTwoHosts(t, wiki, wiki)
	c := trusting(h.publicCA.Certificate(), nil, h.addr)
	defer c.CloseIdleConnections()
	sum := sha256.New()
	io.CopyN(sum, zeros{}, size)
	want := fmt.Sprintf("%d %x <nil>", size, sum.Sum(nil))

	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
	defer cancel()
	for _, method := range []string{"GET", "POST"} {
		var body io.Reader
		if method == "POST" {
			body = io.LimitReader(zeros{}, size)
		}
		req, err := http.NewRequestWithContext(ctx, method, "https://gw.example.com/wiki/big", body)
		if err != nil {
			t.Fatal(err)
		}
		if method == "POST" {
			req.ContentLength = size
		}
		res, err := c.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		got := sha256.New()
		n, err := io.Copy(got, res.Body)
		res.Body.Close()
		if method == "GET" && (err != nil || fmt.Sprintf("%d %x <nil>", n, got.Sum(nil)) != want) {
			t.Errorf("download: %d bytes, %v, or other bytes", n, err)
		}
		if method == "POST" && (res.StatusCode != 200 || fmt.Sprintf("%x", got.Sum(nil)) != fmt.Sprintf("%x", sha256.Sum256([]byte(want)))) {
			t.Errorf("upload: %s, or other bytes", res.Status)
		}
	}
	// The race detector multiplies memory; a process that kept a body would
	// still be far above this.
	const limit = 400 << 20
	for name, p := range map[string]*testProcess{"gateway": h.gateway, "connection point": h.inside} {
		peak := peakMemory(t, p.cmd.Process.Pid)
		t.Logf("%s: peak memory %d MiB", name, peak>>20)
		if peak > limit {
			t.Errorf("%s: peak memory %d MiB while 1 GiB went each way", name, peak>>20)
		}
	}
}

// peakMemory returns the largest resident size of a process so far, in bytes.
func peakMemory(t *testing.T, pid int) int64 {
	t.Helper()
	for line := range strings.Lines(readTestFile(t, fmt.Sprintf("/proc/%d/status", pid))) {
		if v, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			kib, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(v), " kB"), 10, 64)
			if err != nil {
				t.Fatal(err)
			}
			return kib << 10
		}
	}
	t.Fatalf("process %d: no VmHWM", pid)
	return 0
}
