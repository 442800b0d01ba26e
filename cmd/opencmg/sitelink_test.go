package main

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/opencmg/opencmg"
	"github.com/opencmg/opencmg/adminservice"
	"github.com/opencmg/opencmg/ccm"
	"github.com/opencmg/opencmg/internal/systemtest"
	"github.com/opencmg/opencmg/pki"
	"github.com/opencmg/opencmg/sitedb"
)

// A linkedSite is a site server with one gateway instance, and what a site
// signs.
type linkedSite struct {
	t         *testing.T
	dir       string
	s         *systemtest.Server
	publicCA  *pki.Authority
	signer    tls.Certificate
	token     tls.Certificate
	version   uint64
	addr      string // of the gateway's clients
	tunnel    string
	private   string
	published opencmg.PublishedConfiguration
	mappings  opencmg.URLMappings
}

const linkedHierarchy = "6F3B9C1E-6A0B-4C55-9D1B-0D7E2A9C1F11"

func newLinkedSite(t *testing.T) *linkedSite {
	t.Helper()
	now := time.Now()
	ca, err := pki.NewAuthority("Site EXA", now)
	if err != nil {
		t.Fatal(err)
	}
	l := &linkedSite{t: t, dir: t.TempDir(), s: systemtest.New(t, ca, "EXA"), addr: freeAddress(t), tunnel: freeAddress(t), private: freeAddress(t)}
	if l.publicCA, err = pki.NewAuthority("public CA", now); err != nil {
		t.Fatal(err)
	}
	if l.signer, err = ca.IssueKeyPair(pki.Template{CommonName: "configuration", URIs: []string{opencmg.ConfigurationSigningURI("EXA")}}, now); err != nil {
		t.Fatal(err)
	}
	l.token = l.newTokenKey()
	l.published = opencmg.PublishedConfiguration{
		Gateway: "example", Site: "EXA", ServiceName: "gw.example.com", Instances: 1,
		ConnectionPoints: []opencmg.RegisteredConnectionPoint{{Name: "cp1", ConnectionID: "id-of-cp1", Site: "EXA"}},
	}
	return l
}

func (l *linkedSite) newTokenKey() tls.Certificate {
	l.t.Helper()
	pair, err := pki.NewTokenSigningCertificate("tokens", time.Now())
	if err != nil {
		l.t.Fatal(err)
	}
	return pair
}

func (l *linkedSite) tokenSigner() *pki.TokenSigner {
	l.t.Helper()
	s, err := newTokenSigner(l.token, linkedHierarchy)
	if err != nil {
		l.t.Fatal(err)
	}
	return s
}

// documents signs the next version of everything.
func (l *linkedSite) documents() adminservice.Documents {
	l.t.Helper()
	l.version++
	l.published.Version, l.published.Issued, l.mappings.Version = l.version, time.Now(), l.version
	jws, err := pki.SignConfiguration(&l.published, l.signer)
	if err != nil {
		l.t.Fatal(err)
	}
	b, err := json.Marshal(l.mappings)
	if err != nil {
		l.t.Fatal(err)
	}
	maps, err := pki.SignDocument(pki.KindURLMappings, b, l.signer)
	if err != nil {
		l.t.Fatal(err)
	}
	return adminservice.Documents{Published: string(jws), Mappings: string(maps), InstanceLogs: true}
}

// startGateway starts the instance.
func (l *linkedSite) startGateway() *testProcess {
	l.t.Helper()
	dir := filepath.Join(l.dir, "gateway")
	server, err := certificateFor(l.publicCA, time.Now(), "gw.example.com")
	if err != nil {
		l.t.Fatal(err)
	}
	id, err := l.s.CA.IssueKeyPair(pki.Template{CommonName: "instance 0", URIs: []string{opencmg.GatewayInstanceURI("EXA", "example", 0)}, Server: true, Client: true}, time.Now())
	if err != nil {
		l.t.Fatal(err)
	}
	writeTestFile(l.t, filepath.Join(dir, "id", siteCAFile), string(l.s.CA.CertificatePEM()))
	for _, p := range []struct {
		cert, key string
		pair      tls.Certificate
	}{{"id/" + identityCert, "id/" + identityKey, id}, {"server.pem", "server.key", server}} {
		if err := pki.SaveKeyPair(filepath.Join(dir, p.cert), filepath.Join(dir, p.key), p.pair); err != nil {
			l.t.Fatal(err)
		}
	}
	writeTestFile(l.t, filepath.Join(dir, "gateway.yaml"), fmt.Sprintf(`gateway: example
serviceName: gw.example.com
site: EXA
identityDir: id
stateDir: state
serverCertificate: {certificate: server.pem, key: server.key}
listen: {https: %q, tunnel: %q, private: %q}
`, l.addr, l.tunnel, l.private))
	return startProgram(l.t, "gateway", "serve", "--config", filepath.Join(dir, "gateway.yaml"))
}

// joinAs has a host join and returns its directory. The token comes by one of
// the ways there are.
func (l *linkedSite) joinAs(noun, name string, more ...string) string {
	l.t.Helper()
	dir := filepath.Join(l.dir, name)
	file := filepath.Join(l.dir, name+".token")
	tok := l.s.Token(1)
	writeTestFile(l.t, file, adminservice.EncodeJoinToken(tok)+"\n")
	out := startAndWait(l.t, append([]string{noun, "join", "--site-token-file", file, "--name", name, "--dir", dir}, more...)...)
	if strings.Contains(out, tok.Secret) || !strings.Contains(out, "joined site EXA as "+name) {
		l.t.Errorf("join printed %s", out)
	}
	return dir
}

// configure replaces text in the configuration file that joining wrote.
func configure(t *testing.T, file string, pairs ...string) {
	t.Helper()
	s := readTestFile(t, file)
	for i := 0; i < len(pairs); i += 2 {
		if !strings.Contains(s, pairs[i]) {
			t.Fatalf("%s does not contain %q:\n%s", file, pairs[i], s)
		}
		s = strings.ReplaceAll(s, pairs[i], pairs[i+1])
	}
	writeTestFile(t, file, s)
}

// reported waits for a report of a system that fits.
func (l *linkedSite) reported(from, what string, ok func(r *systemtest.Report) bool) systemtest.Report {
	l.t.Helper()
	timeout := time.After(time.Minute)
	for {
		select {
		case r := <-l.s.Reports:
			if r.From == from && ok(&r) {
				return r
			}
		case <-timeout:
			l.t.Fatalf("no report of %s: %s", from, what)
		}
	}
}

func TestLinkedConnectionPoint(t *testing.T) {
	wiki := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "wiki "+r.URL.Path) }))
	defer wiki.Close()
	l := newLinkedSite(t)
	gw := l.startGateway()
	dir := l.joinAs("connection-point", "cp1")
	config := filepath.Join(dir, "connection-point.yaml")
	private := freeAddress(t)
	configure(t, config, "127.0.0.1:9441", private, "level: info", "level: debug")
	if fi, err := os.Stat(filepath.Join(dir, "identity", identityKey)); err != nil || runtime.GOOS != "windows" && fi.Mode().Perm() != 0o600 {
		t.Errorf("key: %v %v", fi, err)
	}

	// It starts before the site knows any gateway, and before it knows a
	// mapping.
	cp := startProgram(t, "connection-point", "serve", "--config", config)
	l.reported("cp1", "its start", func(r *systemtest.Report) bool {
		return r.Kind == adminservice.SystemConnectionPoint && r.ConnectionPoint != nil && r.ConnectionPoint.ConnectionID == "id-of-cp1" && len(r.ConnectionPoint.Tunnels) == 0
	})
	if err := readyz("http://" + private + "/readyz")(); err == nil || !strings.Contains(err.Error(), "no gateway to serve yet") {
		t.Errorf("ready without a gateway: %v", err)
	}

	// The gateway, the role and what is published come from the site.
	machines, err := pki.NewAuthority("machines", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	machine, err := machines.IssueKeyPair(pki.Template{CommonName: "machine-1", Client: true}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	l.published.Certificates.Roots = []string{string(machines.CertificatePEM())}
	l.published.Roles = []opencmg.PublishedRole{{ID: "1", Site: "EXA", Kind: opencmg.KindService, Name: "wiki", Prefix: "/wiki/", Endpoints: []opencmg.Endpoint{
		{Name: "wiki", Auth: []opencmg.AuthMode{opencmg.AuthPKI}, Methods: []string{"GET"}}}}}
	l.mappings = opencmg.URLMappings{
		Mappings: []opencmg.URLMapping{{Role: "1", Prefix: "/wiki/", Internal: []string{wiki.URL}}},
		Gateways: []opencmg.GatewayTarget{{Name: "example", ServiceName: "gw.example.com", Count: 1,
			Instances: []opencmg.InstanceAddress{{Instance: 0, TCPTLS: l.tunnel, HTTPS: l.addr}}}},
	}
	l.s.Set("cp1", l.documents())
	eventually(t, "connection point", readyz("http://"+private+"/readyz"))
	eventually(t, "gateway", readyz("http://"+l.private+"/readyz"))
	c := trusting(l.publicCA.Certificate(), &machine, l.addr)
	defer c.CloseIdleConnections()
	ask := func() (int, string) {
		res, err := c.Get("https://gw.example.com/wiki/a")
		if err != nil {
			return 0, err.Error()
		}
		defer res.Body.Close()
		b, _ := io.ReadAll(res.Body)
		return res.StatusCode, string(b)
	}
	if code, body := ask(); code != 200 || body != "wiki /a" {
		t.Fatalf("%d %s", code, body)
	}

	// The instance's status and log lines reach the site.
	var lines []opencmg.LogLine
	r := l.reported("cp1", "the instance", func(r *systemtest.Report) bool {
		lines = append(lines, r.Logs...)
		return len(r.Instances) == 1 && r.Instances[0].Configuration == l.version && len(r.Instances[0].Endpoints) == 1 && r.Published == l.version && r.Mappings == l.version
	})
	if in := r.Instances[0]; in.Gateway != "example" || in.Endpoints[0].Requests != 1 || in.Endpoints[0].ResponseBytes != 7 || in.Version == "" || in.Certificate == "" {
		t.Errorf("instance: %+v", in)
	}
	if tun := r.ConnectionPoint.Tunnels; len(tun) != 1 || !tun[0].Connected || tun[0].Connections != 2 {
		t.Errorf("tunnels: %+v", tun)
	}
	sources := map[string]bool{}
	for _, line := range lines {
		sources[line.Source] = true
	}
	for !sources["example/0"] || !sources["cp1"] {
		l.reported("cp1", "log lines of both", func(r *systemtest.Report) bool {
			for _, line := range r.Logs {
				sources[line.Source] = true
			}
			return len(r.Logs) > 0
		})
	}

	// Blocked at the site is blocked at the instance within a second.
	l.published.Certificates.Blocked = []string{pki.Thumbprint(machine.Leaf)}
	began := time.Now()
	l.s.Set("cp1", l.documents())
	eventually(t, "the block", func() error {
		if code, body := ask(); code != 401 {
			return fmt.Errorf("still %d %s", code, body)
		}
		return nil
	})
	t.Logf("blocked after %v", time.Since(began))

	// The certificate is renewed while requests go on; the role works on
	// without the site and after a restart without it.
	l.published.Certificates.Blocked = nil
	l.s.SetTerm(2 * 365 * 24 * time.Hour)
	d := l.documents()
	d.RenewBefore = time.Now().Add(400 * 24 * time.Hour)
	l.s.Set("cp1", d)
	before := r.CertificateEnds
	l.reported("cp1", "a renewed certificate", func(r *systemtest.Report) bool { return r.CertificateEnds.After(before) })
	l.s.Stop()
	cp.cmd.Process.Kill()
	<-cp.done
	cp = startProgram(t, "connection-point", "serve", "--config", config)
	eventually(t, "connection point without its site", readyz("http://"+private+"/readyz"))
	eventually(t, "request", func() error {
		if code, body := ask(); code != 200 {
			return fmt.Errorf("%d %s", code, body)
		}
		return nil
	})
	l.s.Start()
	l.reported("cp1", "its return", func(r *systemtest.Report) bool {
		return r.CertificateEnds.After(before) && len(r.Instances) == 1
	})
	for _, p := range []*testProcess{gw, cp} {
		if strings.Contains(p.String(), "planted-secret") {
			t.Error("a join token's secret is in a log")
		}
	}
}

func TestManagementPointDatabase(t *testing.T) {
	dir := t.TempDir()
	ca, err := pki.NewAuthority("Site EXA", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	keys := &siteKeys{authority: ca}
	if err := keys.hostIdentity(filepath.Join(dir, "id"), "mp", opencmg.RoleURI("EXA", "7"), nil, time.Now()); err != nil {
		t.Fatal(err)
	}
	if keys.token, err = pki.NewTokenSigningCertificate("tokens", time.Now()); err != nil {
		t.Fatal(err)
	}
	keys.hierarchy = linkedHierarchy
	if err := keys.copyTokenKeys(filepath.Join(dir, "id")); err != nil {
		t.Fatal(err)
	}
	writeTestFile(t, filepath.Join(dir, "empty.dsn"), "\n")
	writeTestFile(t, filepath.Join(dir, "wrong.dsn"), "postgres://mp:planted@127.0.0.1:1/x\n")
	for database, want := range map[string]string{
		"{path: a.db, dsnFile: empty.dsn}": "path and dsnFile exclude each other",
		"{dsnFile: missing.dsn}":           "database.dsnFile",
		"{dsnFile: empty.dsn}":             "the first line must hold",
		"{dsnFile: wrong.dsn}":             "database",
		"{path: missing/a.db}":             "missing",
	} {
		config := filepath.Join(dir, "mp.yaml")
		writeTestFile(t, config, "site: EXA\nroleId: 7\nidentityDir: id\nstateDir: state\nlisten: {https: off, fastChannel: off, private: off}\ndatabase: "+database+"\n")
		p := startProgram(t, "mp", "serve", "--config", config)
		<-p.done
		if code := p.cmd.ProcessState.ExitCode(); code != 1 || !strings.Contains(p.String(), want) || strings.Contains(p.String(), "planted") {
			t.Errorf("%s: ended with %d and printed %s", database, code, p)
		}
	}
}

func TestLinkedManagementPoint(t *testing.T) {
	l := newLinkedSite(t)
	dir := l.joinAs("mp", "mp1", "--address", "mp1.corp.example", "--internal", "https://mp1.corp.example:8443")
	if j := l.s.Joined(); len(j) != 1 || j[0].Internal != "https://mp1.corp.example:8443" || len(j[0].Addresses) != 1 || j[0].Addresses[0] != "mp1.corp.example" {
		t.Errorf("joined: %+v", j)
	}
	config := filepath.Join(dir, "mp.yaml")
	https, private := freeAddress(t), freeAddress(t)
	configure(t, config, `":443"`, strconv.Quote(https), `":10123"`, "off", "127.0.0.1:9442", private,
		"# database:                      # where this role shares the site's database\n#   path: /var/lib/opencmg/site.db", "database: {path: shared.db}")
	p := startProgram(t, "mp", "serve", "--config", config)
	l.reported("mp1", "its start", func(r *systemtest.Report) bool { return r.Kind == adminservice.SystemManagementPoint })

	// Without a token-signing key there is nothing it could do; without a
	// gateway there is.
	signing := func() *adminservice.TokenSigning {
		key, err := x509.MarshalPKCS8PrivateKey(l.token.PrivateKey)
		if err != nil {
			t.Fatal(err)
		}
		return &adminservice.TokenSigning{HierarchyID: linkedHierarchy,
			Certificate: string(pki.EncodeCertificates(l.token.Leaf)),
			Key:         string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key}))}
	}
	bad := signing()
	bad.Certificate = string(l.s.CA.CertificatePEM())
	l.s.Set("mp1", adminservice.Documents{TokenSigning: bad})
	l.reported("mp1", "a problem with the key", func(r *systemtest.Report) bool { return strings.Contains(r.Problem, "do not make a pair") })
	first := signing()
	l.s.Set("mp1", adminservice.Documents{TokenSigning: first, Gateways: []string{"gw.example.com"}})
	eventually(t, "management point", readyz("http://"+private+"/readyz"))
	if _, err := os.Stat(filepath.Join(dir, "shared.db")); err != nil {
		t.Errorf("the shared database: %v", err)
	}
	c := trusting(l.s.CA.Certificate(), nil, https)
	defer c.CloseIdleConnections()
	ask := func(query, token string) (int, string) {
		req, err := http.NewRequest("GET", "https://mp1.corp.example/SMS_MP/.sms_aut?"+query, nil)
		if err != nil {
			t.Fatal(err)
		}
		if token != "" {
			req.Header.Set("Authorization", "Bearer "+token)
		}
		res, err := c.Do(req)
		if err != nil {
			return 0, err.Error()
		}
		defer res.Body.Close()
		b, _ := io.ReadAll(res.Body)
		return res.StatusCode, string(b)
	}
	if code, body := ask("MPLIST2", ""); code != 200 || !strings.Contains(body, "gw.example.com/CCM_Proxy_MutualAuth/") {
		t.Errorf("MPLIST2: %d %s", code, body)
	}
	if fi, err := os.Stat(filepath.Join(dir, "identity", tokenKey)); err != nil || runtime.GOOS != "windows" && fi.Mode().Perm() != 0o600 {
		t.Errorf("token-signing key: %v %v", fi, err)
	}

	// Trust comes with the first gateway, and a block with the next version.
	bulk, err := l.tokenSigner().Bulk(0, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	l.published.TokenIssuers = []opencmg.TokenIssuer{l.tokenSigner().TokenIssuer()}
	d := l.documents()
	d.TokenSigning = first
	l.s.Set("mp1", d)
	l.reported("mp1", "the configuration", func(r *systemtest.Report) bool { return r.Published == l.version })
	code, _ := ask("MPLIST", bulk.Raw)
	if code == http.StatusUnauthorized {
		t.Errorf("a good token: %d", code)
	}
	l.published.BlockedTokens = []string{bulk.ID}
	d = l.documents()
	d.TokenSigning = first
	l.s.Set("mp1", d)
	eventually(t, "block of a token", func() error {
		if got, _ := ask("MPLIST", bulk.Raw); got != http.StatusUnauthorized {
			return fmt.Errorf("%d, before the block %d", got, code)
		}
		return nil
	})

	// What the site wants clients to be told holds, and not the file.
	gateways := func() string {
		_, body := ask("MPLIST2", "")
		return body
	}
	database, err := sitedb.Open(t.Context(), sitedb.Config{Path: filepath.Join(dir, "shared.db")})
	if err != nil {
		t.Fatal(err)
	}
	defer database.Close()
	useGateway := func(want string) func() error {
		return func() error {
			list, _, err := database.Assignments(t.Context(), "", time.Time{})
			if err != nil {
				return err
			}
			for _, a := range list {
				stored, err := database.Policy(t.Context(), a.Policy.ID)
				if err != nil {
					return err
				}
				p, err := ccm.ParsePolicy(stored.Body)
				if err != nil {
					return err
				}
				if v, ok := p.Setting(ccm.SettingsClass, ccm.SettingUseGateway); ok {
					if v != want {
						return fmt.Errorf("clients are told %s", v)
					}
					return nil
				}
			}
			return errors.New("no policy tells whether clients may use a gateway")
		}
	}
	eventually(t, "the file's settings", useGateway("TRUE"))
	d.ClientSettings = &adminservice.ClientSettings{AllowCloudManagementGateway: false, PolicyMinutes: 60, LocationMinutes: 60, InventoryMinutes: 60, DiscoveryMinutes: 60, StateMinutes: 15, KeepAliveMinutes: 15}
	d.Locations = &adminservice.Locations{Default: adminservice.LocationGroup{Boundaries: []string{"no prefix"}}}
	d.Gateways = []string{"gw.example.com", "other.example.com"}
	l.s.Set("mp1", d)
	l.reported("mp1", "a problem with the boundary groups", func(r *systemtest.Report) bool { return strings.Contains(r.Problem, "boundary groups") })
	if got := gateways(); !strings.Contains(got, "other.example.com") {
		t.Errorf("what can be used was not: %s", got)
	}
	d.Locations = &adminservice.Locations{Default: adminservice.LocationGroup{Gateways: []string{"gw.example.com"}}}
	l.s.Set("mp1", d)
	eventually(t, "the site's settings", useGateway("FALSE"))

	// The token-signing key changes while it runs.
	old := l.token
	l.token = l.newTokenKey()
	d.TokenSigning = signing()
	l.s.Set("mp1", d)
	block, _ := pem.Decode([]byte(d.TokenSigning.Certificate))
	eventually(t, "the new key", func() error {
		kept, err := pki.LoadCertificates(filepath.Join(dir, "identity", tokenCert))
		if err != nil {
			return err
		}
		if kept[0].Equal(old.Leaf) || !bytes.Equal(kept[0].Raw, block.Bytes) {
			return fmt.Errorf("the old key is kept")
		}
		return nil
	})
	for _, secret := range []string{"PRIVATE KEY", strings.Split(first.Key, "\n")[1], "planted-secret"} {
		if strings.Contains(p.String(), secret) {
			t.Errorf("%q is in the log", secret)
		}
	}
	_, told, err := database.Assignments(t.Context(), "", time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	// It starts without the site, too, with what it has.
	l.s.Stop()
	p.cmd.Process.Kill()
	<-p.done
	startProgram(t, "mp", "serve", "--config", config)
	eventually(t, "management point without its site", readyz("http://"+private+"/readyz"))
	if err := useGateway("FALSE")(); err != nil {
		t.Errorf("a start without the site forgets its settings: %v", err)
	}
	if _, now, err := database.Assignments(t.Context(), "", time.Time{}); err != nil || !now.Equal(told) {
		t.Errorf("a start told clients something else for a while: %v, before %v, %v", now, told, err)
	}
}
