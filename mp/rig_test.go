package mp_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/opencmg/opencmg"
	"github.com/opencmg/opencmg/ccm"
	"github.com/opencmg/opencmg/internal/web"
	"github.com/opencmg/opencmg/mp"
	"github.com/opencmg/opencmg/pki"
	"github.com/opencmg/opencmg/sitedb"
)

const (
	site      = opencmg.SiteCode("LAB")
	role      = opencmg.RoleID("72057594037927941")
	hierarchy = "5a2d1c1e-9f0b-4b66-8c39-2f6f6a7b8c9d"
	tenant    = "11111111-aaaa-bbbb-cccc-222222222222"
	gateway   = "gw.example.com"
)

// keys are made once, since making RSA keys is slow.
var keys = sync.OnceValue(func() (k struct {
	site                 *pki.Authority
	signing              tls.Certificate
	server, point, other tls.Certificate
	devices              [4]tls.Certificate
}) {
	now := time.Now()
	must := func(err error) {
		if err != nil {
			panic(err)
		}
	}
	var err error
	k.site, err = pki.NewAuthority("LAB site CA", now)
	must(err)
	k.signing, err = pki.NewTokenSigningCertificate("LAB token signing", now)
	must(err)
	k.server, err = k.site.IssueKeyPair(pki.Template{CommonName: "mp", URIs: []string{opencmg.RoleURI(site, role)}, DNSNames: []string{"mp.example.com"}, IPs: []net.IP{net.IPv4(127, 0, 0, 1)}, Server: true}, now)
	must(err)
	k.point, err = k.site.IssueKeyPair(pki.Template{CommonName: "cp", URIs: []string{opencmg.ConnectionPointURI(site, "cp-1")}, Client: true}, now)
	must(err)
	foreign, err := pki.NewAuthority("LAB site CA", now)
	must(err)
	k.other, err = foreign.IssueKeyPair(pki.Template{CommonName: "cp", URIs: []string{opencmg.ConnectionPointURI(site, "cp-1")}, Client: true}, now)
	must(err)
	for i := range k.devices {
		k.devices[i], err = pki.NewSelfSigned("SMS", now)
		must(err)
	}
	return k
})

// A rig is a running management point with a site of its own.
type rig struct {
	t       *testing.T
	db      *sitedb.DB
	signer  *pki.TokenSigner
	url     string // https
	private string // http
	fast    string // address of the fast channel
	dir     string
	stop    func()
	server  *mp.Server
}

func start(t *testing.T, change func(*mp.Config)) *rig {
	t.Helper()
	k := keys()
	g := &rig{t: t, dir: t.TempDir()}
	var err error
	if g.db, err = sitedb.Open(t.Context(), sitedb.Config{Path: filepath.Join(g.dir, "site.db")}); err != nil {
		t.Fatal(err)
	}
	if g.signer, err = pki.NewTokenSigner(k.signing.PrivateKey.(crypto.Signer), k.signing.Leaf, "", "", hierarchy); err != nil {
		t.Fatal(err)
	}
	verifier, err := pki.NewTokenVerifier(&opencmg.PublishedConfiguration{
		Version: 1, Gateway: "g", ServiceName: gateway, Site: site, Instances: 1, TokenIssuers: []opencmg.TokenIssuer{g.signer.TokenIssuer()},
	}, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	files := filepath.Join(g.dir, "client")
	if err := os.Mkdir(files, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(files, "ccmsetup.cab"), bytes.Repeat([]byte("0123456789"), 1000), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(g.dir, "secret"), []byte("secret"), 0o644); err != nil {
		t.Fatal(err)
	}
	c := mp.Config{
		Site: site, RoleID: role, SiteCA: k.site.Certificate(), Certificate: k.server, Signer: g.signer, Tokens: verifier, DB: g.db,
		Host: "mp.example.com", Gateways: []mp.Gateway{{ServiceName: gateway}},
		ClientFiles: files, Incoming: filepath.Join(g.dir, "incoming"), IncomingQuota: 1 << 20,
	}
	if change != nil {
		change(&c)
	}
	if g.server, err = mp.New(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	listen := func() net.Listener {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		return ln
	}
	l := mp.Listeners{HTTPS: listen(), Notification: listen(), Private: listen()}
	g.url, g.private, g.fast = "https://"+l.HTTPS.Addr().String(), "http://"+l.Private.Addr().String(), l.Notification.Addr().String()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- g.server.Run(ctx, l) }()
	g.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("run: %v", err)
		}
		if err := g.db.Close(); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(g.stop)
	return g
}

// A device is a client in a test: a key, and a way to the management point.
type device struct {
	g        *rig
	http     *http.Client
	cert     tls.Certificate // signs messages
	id       opencmg.ClientID
	header   http.Header // sent with every request
	path     string      // of messages
	lastID   string      // correlation ID of the last answer
	lastCode int
}

func (g *rig) clientWith(cert *tls.Certificate) *http.Client {
	roots := x509.NewCertPool()
	roots.AddCert(keys().site.Certificate())
	config := &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}
	if cert != nil {
		config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return cert, nil }
	}
	tr := &http.Transport{TLSClientConfig: config}
	g.t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr}
}

// inside is a device in the network that proves the n-th key in TLS.
func (g *rig) inside(n int) *device {
	cert := keys().devices[n]
	return &device{g: g, http: g.clientWith(&cert), cert: cert, header: http.Header{}, path: ccm.PathRequest}
}

// through is a device behind a gateway that proved this identity there.
func (g *rig) through(n int, id opencmg.Identity) *device {
	point := keys().point
	d := &device{g: g, http: g.clientWith(&point), cert: keys().devices[n], header: http.Header{}, path: ccm.PathTokenRequest}
	if id.Auth == opencmg.AuthPKI {
		d.path = ccm.PathRequest
	}
	if id.Thumbprint == "" {
		id.Thumbprint = pki.Thumbprint(d.cert.Leaf)
	}
	d.header.Set(opencmg.HeaderIdentity, id.Encode())
	return d
}

func (d *device) key() crypto.Signer { return d.cert.PrivateKey.(crypto.Signer) }

func (d *device) do(method, path, contentType string, body io.Reader) (int, string, http.Header) {
	d.g.t.Helper()
	req, err := http.NewRequestWithContext(d.g.t.Context(), method, d.g.url+path, body)
	if err != nil {
		d.g.t.Fatal(err)
	}
	for name, values := range d.header {
		req.Header[name] = values
	}
	if contentType != "" {
		req.Header.Set("Content-Type", contentType)
	}
	res, err := d.http.Do(req)
	if err != nil {
		d.g.t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		d.g.t.Fatal(err)
	}
	d.lastID, d.lastCode = res.Header.Get(opencmg.HeaderCorrelationID), res.StatusCode
	if d.lastID == "" {
		d.g.t.Errorf("%s %s: the answer has no correlation ID", method, path)
	}
	return res.StatusCode, string(b), res.Header
}

// send posts a message and returns the reply's text, empty when there is none.
func (d *device) send(m *ccm.Message, key crypto.Signer) string {
	d.g.t.Helper()
	contentType, body, err := m.Encode(key)
	if err != nil {
		d.g.t.Fatal(err)
	}
	code, answer, header := d.do(ccm.MethodCCMPost, d.path, contentType, bytes.NewReader(body))
	if code != http.StatusOK || answer == "" {
		return ""
	}
	reply, err := ccm.ParseMessage(header.Get("Content-Type"), []byte(answer), ccm.Limits{})
	if err != nil {
		d.g.t.Fatal(err)
	}
	if reply.CorrelationID != m.ID {
		d.g.t.Errorf("reply is for %q, want %q", reply.CorrelationID, m.ID)
	}
	return reply.Text
}

func (d *device) message(endpoint, text string) *ccm.Message {
	return &ccm.Message{ID: ccm.NewGUID(), SourceID: d.id, SourceHost: "PC01", TargetEndpoint: endpoint, ReplyTo: "direct:PC01:SccmMessaging", Text: text}
}

// ask sends a signed message.
func (d *device) ask(endpoint, text string) string {
	d.g.t.Helper()
	return d.send(d.message(endpoint, text), d.key())
}

func (d *device) registration(id opencmg.ClientID) *ccm.RegistrationRequest {
	cert := ccm.Certificate{KeyType: ccm.KeySelfSigned, Certificate: d.cert.Leaf}
	return &ccm.RegistrationRequest{SMSID: id, AgentIdentity: "Test", AgentVersion: "5.00.9128.1000", Signing: cert, Encryption: cert,
		Properties: []ccm.Property{{Name: "Netbios Name", Value: "PC01"}, {Name: "FQ Name", Value: "pc01.example.com"}}}
}

func (d *device) sendRegistration(r *ccm.RegistrationRequest, key crypto.Signer) ccm.RegistrationResponse {
	d.g.t.Helper()
	text, err := r.Encode(key)
	if err != nil {
		d.g.t.Fatal(err)
	}
	m := d.message(ccm.EndpointRegistration, text)
	m.SourceID = ""
	reply := d.send(m, nil)
	if reply == "" {
		d.g.t.Fatalf("no answer to a registration: %d, %s", d.lastCode, d.why())
	}
	if !strings.Contains(reply, ` SMSID="`) {
		d.g.t.Errorf("tools look for SMSID= with double quotes in %s", reply)
	}
	resp, err := ccm.ParseRegistrationResponse(reply)
	if err != nil {
		d.g.t.Fatal(err)
	}
	return resp
}

// register registers the device and keeps its ID.
func (d *device) register() ccm.RegistrationResponse {
	d.g.t.Helper()
	resp := d.sendRegistration(d.registration(""), d.key())
	if resp.SMSID == "" {
		d.g.t.Fatalf("registration gave no ID: %+v, %s", resp, d.why())
	}
	d.id = resp.SMSID
	return resp
}

// why is the verdict on the last request, as "opencmg explain" shows it.
func (d *device) why() string {
	d.g.t.Helper()
	records := getJSON[[]web.Record](d.g, "/explain/"+d.lastID)
	if len(records) == 0 {
		return ""
	}
	return records[0].Verdict
}

func (d *device) wantWhy(text string) {
	d.g.t.Helper()
	if why := d.why(); !strings.Contains(why, text) {
		d.g.t.Errorf("verdict is %q, want it to contain %q", why, text)
	}
}

func getJSON[T any](g *rig, path string) (v T) {
	g.t.Helper()
	res, err := http.Get(g.private + path)
	if err != nil {
		g.t.Fatal(err)
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		b, _ := io.ReadAll(res.Body)
		g.t.Fatalf("GET %s: %d %s", path, res.StatusCode, b)
	}
	if err := json.NewDecoder(res.Body).Decode(&v); err != nil {
		g.t.Fatal(err)
	}
	return v
}

func (g *rig) post(path string, body any) (int, []byte) {
	g.t.Helper()
	b, err := json.Marshal(body)
	if err != nil {
		g.t.Fatal(err)
	}
	res, err := http.Post(g.private+path, "application/json", bytes.NewReader(b))
	if err != nil {
		g.t.Fatal(err)
	}
	defer res.Body.Close()
	answer, err := io.ReadAll(res.Body)
	if err != nil {
		g.t.Fatal(err)
	}
	return res.StatusCode, answer
}
