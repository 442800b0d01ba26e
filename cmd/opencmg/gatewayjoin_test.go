package main

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/opencmg/opencmg"
	"github.com/opencmg/opencmg/adminservice"
	"github.com/opencmg/opencmg/internal/systemtest"
	"github.com/opencmg/opencmg/pki"
)

// selfHosted writes the configuration of a host that is to join and returns the
// file.
func (l *linkedSite) selfHosted(name, addr, tunnel, private string) string {
	l.t.Helper()
	dir := filepath.Join(l.dir, name)
	server, err := certificateFor(l.publicCA, time.Now(), "gw.example.com")
	if err != nil {
		l.t.Fatal(err)
	}
	writeTestFile(l.t, filepath.Join(dir, "gateway.yaml"), fmt.Sprintf(`identityDir: id
stateDir: state
serverCertificate: {certificate: server.pem, key: server.key}
listen: {https: %q, tunnel: %q, private: %q}
log: {level: debug}
`, addr, tunnel, private))
	if err := pki.SaveKeyPair(filepath.Join(dir, "server.pem"), filepath.Join(dir, "server.key"), server); err != nil {
		l.t.Fatal(err)
	}
	return filepath.Join(dir, "gateway.yaml")
}

// TestSelfHostedGateway has a host on the internet become an instance of a
// gateway: it has a join token and no way to the site.
func TestSelfHostedGateway(t *testing.T) {
	wiki := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "wiki "+r.URL.Path) }))
	defer wiki.Close()
	l := newLinkedSite(t)
	dir := l.joinAs("connection-point", "cp1")
	private := freeAddress(t)
	configure(t, filepath.Join(dir, "connection-point.yaml"), "127.0.0.1:9441", private)
	l.published.Roles = []opencmg.PublishedRole{{ID: "1", Site: "EXA", Kind: opencmg.KindService, Name: "wiki", Prefix: "/wiki/", Endpoints: []opencmg.Endpoint{
		{Name: "wiki", Auth: []opencmg.AuthMode{opencmg.AuthNone}, Methods: []string{"GET"}}}}}
	second := freeAddress(t)
	target := opencmg.GatewayTarget{Name: "example", ServiceName: "gw.example.com", Joins: []opencmg.JoinAddress{{TCPTLS: l.tunnel, HTTPS: l.addr}, {HTTPS: second}}}
	l.mappings = opencmg.URLMappings{
		Mappings: []opencmg.URLMapping{{Role: "1", Prefix: "/wiki/", Internal: []string{wiki.URL}}},
		Gateways: []opencmg.GatewayTarget{target},
	}
	l.s.Set("cp1", l.documents())
	startProgram(t, "connection-point", "serve", "--config", filepath.Join(dir, "connection-point.yaml"))

	config := l.selfHosted("host", l.addr, l.tunnel, l.private)
	tok := l.s.GatewayToken("example", "gw.example.com", "127.0.0.1", 1)
	file := filepath.Join(l.dir, "gateway.token")
	writeTestFile(t, file, adminservice.EncodeGatewayJoinToken(tok))
	gw := startProgram(t, "gateway", "serve", "--config", config, "--join-token-file", file)
	id := filepath.Join(filepath.Dir(config), "id")
	eventually(t, "the host joins", func() error {
		_, err := os.Stat(filepath.Join(id, identityCert))
		return err
	})
	// The site says where the instance is.
	target.Joins, target.Instances = target.Joins[1:], []opencmg.InstanceAddress{{Instance: 0, TCPTLS: l.tunnel, HTTPS: l.addr}}
	l.mappings.Gateways = []opencmg.GatewayTarget{target}
	l.s.Set("cp1", l.documents())
	eventually(t, "gateway", readyz("http://"+l.private+"/readyz"))
	c := trusting(l.publicCA.Certificate(), nil, l.addr)
	defer c.CloseIdleConnections()
	res, err := c.Get("https://gw.example.com/wiki/a")
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if b, err := io.ReadAll(res.Body); res.StatusCode != 200 || string(b) != "wiki /a" {
		t.Errorf("%s %s %v", res.Status, b, err)
	}
	if fi, err := os.Stat(filepath.Join(id, identityKey)); err != nil || runtime.GOOS != "windows" && fi.Mode().Perm() != 0o600 {
		t.Errorf("key: %v %v", fi, err)
	}
	if _, err := os.Lstat(filepath.Join(id, "joining.key")); !os.IsNotExist(err) {
		t.Errorf("joining.key: %v", err)
	}
	l.reported("cp1", "the instance", func(r *systemtest.Report) bool {
		return len(r.Instances) == 1 && r.Instances[0].Instance == 0 && r.Instances[0].Configuration == l.version
	})

	// A second host is one too many for the token, and hears so. It reads the
	// token from the environment.
	t.Setenv(joinTokenVariable, adminservice.EncodeGatewayJoinToken(tok))
	refused := startProgram(t, "gateway", "serve", "--config", l.selfHosted("second", second, "off", "off"))
	eventually(t, "the refusal", func() error {
		if !strings.Contains(refused.String(), "the join token is used up") {
			return fmt.Errorf("not yet")
		}
		return nil
	})
	if strings.Contains(refused.String()+gw.String(), tok.Secret) {
		t.Error("the secret is in a log")
	}

	// From now on the host starts as what it is, whatever token lies around.
	gw.cmd.Process.Kill()
	<-gw.done
	startProgram(t, "gateway", "serve", "--config", config)
	eventually(t, "gateway after a restart", readyz("http://"+l.private+"/readyz"))
}

func TestGatewayJoinMistakes(t *testing.T) {
	l := newLinkedSite(t)
	tok := l.s.GatewayToken("example", "gw.example.com", "", 1)
	tokens := map[string]string{"good": adminservice.EncodeGatewayJoinToken(tok), "bad": "planted", "site": adminservice.EncodeJoinToken(l.s.Token(1))}
	for name, text := range tokens {
		writeTestFile(t, filepath.Join(l.dir, name), text)
	}
	config := l.selfHosted("host", freeAddress(t), freeAddress(t), freeAddress(t))
	for _, tt := range []struct{ token, change, want string }{
		{"bad", "", "join token: is damaged"},
		{"site", "", "join token: it is not for an instance of a gateway"},
		{"good", "gateway: other\n", `the join token is for "example"`},
		{"good", "site: LAB\n", `the join token is for "EXA"`},
		{"missing", "", "--join-token-file"},
	} {
		file := filepath.Join(filepath.Dir(config), "x.yaml")
		writeTestFile(t, file, tt.change+readTestFile(t, config))
		p := startProgram(t, "gateway", "serve", "--config", file, "--join-token-file", filepath.Join(l.dir, tt.token))
		<-p.done
		if code := p.cmd.ProcessState.ExitCode(); code != 1 || !strings.Contains(p.String(), tt.want) {
			t.Errorf("%s token, %q: ended with %d and printed %s", tt.token, tt.change, code, p)
		}
	}
}
