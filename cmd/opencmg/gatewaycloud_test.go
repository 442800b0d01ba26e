package main

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/goccy/go-yaml"
	"software.sslmate.com/src/go-pkcs12"

	"github.com/opencmg/opencmg/internal/bootstrap"
	"github.com/opencmg/opencmg/internal/keyvault/keyvaulttest"
	"github.com/opencmg/opencmg/pki"
)

// cloudGateway is a gateway process on a machine of a cloud, with a site that
// publishes a wiki.
type cloudGateway struct {
	t         *testing.T
	dir       string
	cloud     *keyvaulttest.Cloud
	publicCA  *pki.Authority
	addr      string // of clients
	probe     string
	lifeline  net.Listener
	process   *testProcess
	insideDir string
}

func newCloudGateway(t *testing.T) *cloudGateway {
	t.Helper()
	h := &cloudGateway{t: t, dir: t.TempDir(), cloud: keyvaulttest.Start(t), addr: freeAddress(t), probe: freeAddress(t)}
	var err error
	if h.publicCA, err = pki.NewAuthority("public CA", time.Now()); err != nil {
		t.Fatal(err)
	}
	if h.lifeline, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { h.lifeline.Close() })
	doc := &GatewayConfig{
		Gateway: "gw", ServiceName: "gw.example.com", Site: "LAB", StateDir: "state",
		Cloud:  &bootstrap.Cloud{Vault: keyvaulttest.Vault, IdentityClientID: keyvaulttest.ClientID, StopDelay: 5},
		Listen: GatewayListen{HTTPS: h.addr, TunnelHTTPS: freeAddress(t), Probe: h.probe, Private: "off"},
	}
	b, err := yaml.Marshal(doc)
	if err != nil {
		t.Fatal(err)
	}
	writeTestFile(t, filepath.Join(h.dir, "bootstrap.yaml"), string(b))
	writeTestFile(t, filepath.Join(h.dir, "ca.pem"), h.cloud.CAPEM)

	wiki := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "wiki") }))
	t.Cleanup(wiki.Close)
	writeTestFile(t, filepath.Join(h.dir, "site.yaml"), fmt.Sprintf(`site: LAB
gateway: {name: gw, serviceName: gw.example.com, instances: 1}
connectionPoints: [{name: cp1}]
roles:
- {id: "2", kind: service, name: wiki, prefix: /wiki/, internal: [%q], endpoints: [{name: all, path: "", auth: [none], methods: [GET]}]}
`, wiki.URL+"/"))
	startAndWait(t, "publish", "--file", filepath.Join(h.dir, "site.yaml"), "--dir", filepath.Join(h.dir, "site"))
	h.insideDir = filepath.Join(h.dir, "site", "connection-point-cp1")
	writeTestFile(t, filepath.Join(h.dir, "cp.yaml"), fmt.Sprintf(`name: cp1
site: LAB
identityDir: %q
gateways: [{name: gw, instances: [{instance: 0, https: %q}]}]
private: "off"
`, h.insideDir, doc.Listen.TunnelHTTPS))
	return h
}

func (h *cloudGateway) start(connectTo []string) {
	h.t.Helper()
	args := []string{"gateway", "serve", "--config", filepath.Join(h.dir, "bootstrap.yaml"),
		"--ca-file", filepath.Join(h.dir, "ca.pem"), "--connect-only", "--lifeline", h.lifeline.Addr().String()}
	for _, r := range connectTo {
		args = append(args, "--connect-to", r)
	}
	h.process = startProgram(h.t, args...)
}

func (h *cloudGateway) writeIdentity() {
	h.t.Helper()
	dir := filepath.Join(h.dir, "site", "gateway-0")
	pair, err := pki.LoadKeyPair(filepath.Join(dir, identityCert), filepath.Join(dir, identityKey))
	if err != nil {
		h.t.Fatal(err)
	}
	ca, err := pki.LoadCertificates(filepath.Join(dir, siteCAFile))
	if err != nil {
		h.t.Fatal(err)
	}
	id, err := bootstrap.NewIdentity(0, pair, ca[0])
	if err != nil {
		h.t.Fatal(err)
	}
	secret, err := id.Secret()
	if err != nil {
		h.t.Fatal(err)
	}
	h.cloud.SetSecret(bootstrap.InstanceSecret("3"), secret)
}

func (h *cloudGateway) writeCertificate() *x509.Certificate {
	h.t.Helper()
	leaf, secret := serverCertificateSecret(h.t, h.publicCA)
	h.cloud.SetSecret(bootstrap.SecretServerCertificate, secret)
	return leaf
}

// serverCertificateSecret makes a server certificate, and the secret by which a
// vault holds it.
func serverCertificateSecret(t *testing.T, ca *pki.Authority) (leaf *x509.Certificate, secret string) {
	t.Helper()
	pair, err := certificateFor(ca, time.Now(), "gw.example.com")
	if err != nil {
		t.Fatal(err)
	}
	if leaf, err = x509.ParseCertificate(pair.Certificate[0]); err != nil {
		t.Fatal(err)
	}
	pfx, err := pkcs12.Modern.Encode(pair.PrivateKey, leaf, []*x509.Certificate{ca.Certificate()}, "")
	if err != nil {
		t.Fatal(err)
	}
	return leaf, base64.StdEncoding.EncodeToString(pfx)
}

// announce publishes the thumbprint of the certificate that should be in
// force, as a site does.
func (h *cloudGateway) announce(cert *x509.Certificate) {
	h.t.Helper()
	keys, err := openSiteKeys(filepath.Join(h.dir, "site"), "LAB", time.Now())
	if err != nil {
		h.t.Fatal(err)
	}
	file := filepath.Join(h.insideDir, publishedFile)
	c, err := pki.VerifyConfiguration([]byte(readTestFile(h.t, file)), keys.authority.Certificate(), "LAB", time.Now())
	if err != nil {
		h.t.Fatal(err)
	}
	c.Version++
	c.ServerCertificate = pki.Thumbprint(cert)
	signed, err := pki.SignConfiguration(c, keys.signing)
	if err != nil {
		h.t.Fatal(err)
	}
	if err := pki.WriteFile(file, signed, 0o600); err != nil {
		h.t.Fatal(err)
	}
}

// dial opens a client's connection.
func (h *cloudGateway) dial() (*tls.Conn, error) {
	pool := x509.NewCertPool()
	pool.AddCert(h.publicCA.Certificate())
	return tls.Dial("tcp", h.addr, &tls.Config{RootCAs: pool, ServerName: "gw.example.com"})
}

func ask(c *tls.Conn) error { return askFor(c, "/wiki/", "wiki") }

// askFor asks for a path on an open connection.
func askFor(c *tls.Conn, path, want string) error {
	io.WriteString(c, "GET "+path+" HTTP/1.1\r\nHost: gw.example.com\r\n\r\n")
	res, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	b, _ := io.ReadAll(res.Body)
	if string(b) != want {
		return fmt.Errorf("%s %s", res.Status, b)
	}
	return nil
}

func probeStatus(addr, method, path string) int {
	req, err := http.NewRequest(method, "http://"+addr+path, nil)
	if err != nil {
		return 0
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0
	}
	res.Body.Close()
	return res.StatusCode
}

// TestGatewayOfACloud boots an instance as on a machine of a scale set: it
// waits for its secrets, serves, takes a renewed certificate without dropping a
// connection, and starts again without the vault.
func TestGatewayOfACloud(t *testing.T) {
	h := newCloudGateway(t)
	h.start(h.cloud.ConnectTo())
	line, err := h.lifeline.Accept()
	if err != nil {
		t.Fatal(err)
	}
	status := func(want int) func() error {
		return func() error {
			if got := probeStatus(h.probe, "GET", "/readyz"); got != want {
				return fmt.Errorf("the probe says %d, want %d", got, want)
			}
			return nil
		}
	}
	h.cloud.Await(t, "/secrets/instance-3", 1)
	eventually(t, "waiting", status(503))
	h.writeIdentity()
	first := h.writeCertificate()
	eventually(t, "healthy without a tunnel", status(200))
	for _, tt := range [][2]string{{"GET", "/"}, {"GET", "/metrics"}, {"POST", "/readyz"}, {"GET", "/readyz/x"}} {
		if got := probeStatus(h.probe, tt[0], tt[1]); got != 404 && got != 405 {
			t.Errorf("probe: %s %s: %d", tt[0], tt[1], got)
		}
	}

	startProgram(t, "connection-point", "serve", "--config", filepath.Join(h.dir, "cp.yaml"))
	var old *tls.Conn
	eventually(t, "the wiki", func() error {
		if old, err = h.dial(); err != nil {
			return err
		}
		return ask(old)
	})
	if !old.ConnectionState().PeerCertificates[0].Equal(first) {
		t.Error("another certificate than the vault's")
	}
	second := h.writeCertificate()
	h.announce(second)
	eventually(t, "the renewed certificate", func() error {
		c, err := h.dial()
		if err != nil {
			return err
		}
		defer c.Close()
		if !c.ConnectionState().PeerCertificates[0].Equal(second) {
			return fmt.Errorf("still the old one")
		}
		return ask(c)
	})
	if err := ask(old); err != nil {
		t.Errorf("the connection from before: %v", err)
	}
	old.Close()

	// The end of the lifeline ends the process. First only the probe says so.
	line.Close()
	eventually(t, "no longer healthy", status(503))
	c, err := h.dial()
	if err != nil {
		t.Fatalf("while the load balancer does not know yet: %v", err)
	}
	if err := ask(c); err != nil {
		t.Errorf("while the load balancer does not know yet: %v", err)
	}
	c.Close()
	<-h.process.done
	if code := h.process.cmd.ProcessState.ExitCode(); code != 0 {
		t.Errorf("ended with %d", code)
	}
	if s := h.process.String(); strings.Contains(s, "PRIVATE KEY") {
		t.Error("a private key in the log")
	}
	// The next one needs no vault.
	h.cloud.Fail(func(*http.Request) int { return 503 })
	h.start(h.cloud.ConnectTo())
	eventually(t, "healthy again", status(200))
	eventually(t, "the wiki again", func() error {
		c, err := h.dial()
		if err != nil {
			return err
		}
		defer c.Close()
		if !c.ConnectionState().PeerCertificates[0].Equal(second) {
			t.Error("not the certificate that was kept")
		}
		return ask(c)
	})
}

// TestGatewayOfACloudRefusesOtherAddresses: with connect-only a vault that no
// rule maps is not called, and the log says which rule to add.
func TestGatewayOfACloudRefusesOtherAddresses(t *testing.T) {
	h := newCloudGateway(t)
	h.start(h.cloud.ConnectTo()[2:]) // metadata only
	eventually(t, "the refusal", func() error {
		if s := h.process.String(); !strings.Contains(s, "add the rule "+keyvaulttest.VaultHost+":443:HOST:PORT") {
			return fmt.Errorf("not in the log")
		}
		return nil
	})
	if n := h.cloud.Calls("/secrets/"); n != 0 {
		t.Errorf("%d calls of the vault", n)
	}
}

// TestGatewayWithoutALifeline: a process whose parent is gone does not start.
func TestGatewayWithoutALifeline(t *testing.T) {
	h := newCloudGateway(t)
	h.lifeline.Close()
	h.start(h.cloud.ConnectTo())
	<-h.process.done
	if code := h.process.cmd.ProcessState.ExitCode(); code != 1 || !strings.Contains(h.process.String(), "--lifeline") {
		t.Errorf("ended with %d: %s", code, h.process)
	}
	if out := startAndFail(t, "gateway", "serve", "--help"); strings.Contains(out, "lifeline") {
		t.Error("the help shows a flag that is not for people")
	}
}

func startAndFail(t *testing.T, args ...string) string {
	t.Helper()
	p := startProgram(t, args...)
	<-p.done
	return p.String()
}
