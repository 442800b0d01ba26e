package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// A testProcess is the real program, started by a test.
type testProcess struct {
	cmd    *exec.Cmd
	mu     sync.Mutex // guards output
	output bytes.Buffer
	done   chan struct{}
}

func (p *testProcess) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.output.Write(b)
}

func (p *testProcess) String() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.output.String()
}

// startProgram starts opencmg with the arguments and ends it with the test.
func startProgram(t *testing.T, args ...string) *testProcess {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	p := &testProcess{done: make(chan struct{})}
	isLab := args[0] == "lab"
	if isLab {
		// A lab does not outlive a test that was cut off.
		args = append(args, "--until-stdin-closes")
	}
	p.cmd = exec.Command(self, args...)
	p.cmd.Args[0] = "opencmg"
	p.cmd.Stdout, p.cmd.Stderr = p, p
	if isLab {
		if _, err := p.cmd.StdinPipe(); err != nil { // which ends with this process
			t.Fatal(err)
		}
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		p.cmd.Wait()
		close(p.done)
	}()
	t.Cleanup(func() {
		p.cmd.Process.Signal(os.Interrupt)
		select {
		case <-p.done:
		case <-time.After(30 * time.Second):
			p.cmd.Process.Kill()
			<-p.done
			t.Errorf("opencmg %s did not stop when asked", strings.Join(args, " "))
		}
		if t.Failed() {
			t.Logf("opencmg %s printed:\n%s", strings.Join(args, " "), tail(p.String(), 8000))
		}
	})
	return p
}

func tail(s string, n int) string {
	if len(s) > n {
		return "... " + s[len(s)-n:]
	}
	return s
}

// eventually polls until f returns nil. It waits for other processes, which
// have no other way to tell.
func eventually(t *testing.T, what string, f func() error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	tick := time.NewTicker(25 * time.Millisecond)
	defer tick.Stop()
	for {
		err := f()
		if err == nil {
			return
		}
		select {
		case <-ctx.Done():
			t.Fatalf("%s: %v", what, err)
		case <-tick.C:
		}
	}
}

func readyz(url string) func() error {
	return func() error {
		res, err := http.Get(url)
		if err != nil {
			return err
		}
		defer res.Body.Close()
		b, _ := io.ReadAll(res.Body)
		if res.StatusCode != http.StatusOK {
			return fmt.Errorf("%s: %s", res.Status, b)
		}
		return nil
	}
}

func freeAddress(t *testing.T) string {
	t.Helper()
	testPorts.Lock()
	defer testPorts.Unlock()
	addr, err := testPorts.pick()
	if err != nil {
		t.Fatal(err)
	}
	return addr
}

// testPorts are the ports of this process.
var testPorts struct {
	sync.Mutex
	portPicker
}

func writeTestFile(t *testing.T, file, content string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

func readTestFile(t *testing.T, file string) string {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// trusting returns an HTTP client that trusts a CA, presents a certificate,
// and finds every host at one address.
func trusting(ca *x509.Certificate, cert *tls.Certificate, addr string) *http.Client {
	pool := x509.NewCertPool()
	pool.AddCert(ca)
	c := &tls.Config{RootCAs: pool}
	if cert != nil {
		c.Certificates = []tls.Certificate{*cert}
	}
	return &http.Client{Timeout: 2 * time.Minute, Transport: &http.Transport{
		TLSClientConfig: c,
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, network, addr)
		},
	}}
}
