package client_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/opencmg/opencmg"
	"github.com/opencmg/opencmg/ccm"
	"github.com/opencmg/opencmg/client"
	"github.com/opencmg/opencmg/labcloud"
	"github.com/opencmg/opencmg/mp"
	"github.com/opencmg/opencmg/pki"
	"github.com/opencmg/opencmg/sitedb"
)

// A realSite is a real management point with a front that does what a gateway
// and a connection point do together: verify the caller, and pass the verified
// identity on.
type realSite struct {
	*rig
	server *mp.Server
	addr   string // of the front
	mpAddr string
	fast   int
	bulk   string
	entra  *labcloud.Server

	passed atomic.Int64 // requests at the front
	down   atomic.Bool  // the front refuses everything
	shut   atomic.Bool  // the door does
}

// door is a way to the management point that can be shut, as it is for a device
// that leaves the network.
func (s *realSite) door() string {
	s.t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		s.t.Fatal(err)
	}
	var relays sync.WaitGroup
	ctx, cancel := context.WithCancel(context.Background())
	relays.Go(func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			relays.Go(func() {
				defer conn.Close()
				back, err := net.Dial("tcp", s.mpAddr)
				if err != nil || s.shut.Load() {
					return
				}
				defer back.Close()
				defer context.AfterFunc(ctx, func() { conn.Close(); back.Close() })()
				relays.Go(func() {
					// What comes when the door is shut gets no further.
					b := make([]byte, 32<<10)
					for {
						n, err := conn.Read(b)
						if err != nil || s.shut.Load() {
							break
						}
						if _, err := back.Write(b[:n]); err != nil {
							break
						}
					}
					conn.Close()
					back.Close()
				})
				io.Copy(conn, back)
			})
		}
	})
	s.t.Cleanup(func() {
		ln.Close()
		cancel()
		relays.Wait()
	})
	return ln.Addr().String()
}

const deviceID = "aaaaaaaa-0000-0000-0000-000000000001"

func newRealSite(t *testing.T) *realSite {
	t.Helper()
	r := newRig(t)
	s := &realSite{rig: r}
	now := time.Now()
	issue := func(tpl pki.Template) (cert tls.Certificate) {
		pair, err := r.ca.IssueKeyPair(tpl, now)
		if err != nil {
			t.Fatal(err)
		}
		return pair
	}
	signing, err := pki.NewTokenSigningCertificate("tokens", now)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := pki.NewTokenSigner(signing.PrivateKey.(crypto.Signer), signing.Leaf, "", "", tenant)
	if err != nil {
		t.Fatal(err)
	}
	bulk, err := signer.Bulk(time.Hour, now)
	if err != nil {
		t.Fatal(err)
	}
	s.bulk = bulk.Raw

	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 2)
	listen := func() net.Listener {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		return ln
	}
	entraLn := listen()
	if s.entra, err = labcloud.New(labcloud.Config{
		BaseURL: "https://" + entraLn.Addr().String(), Certificate: issue(pki.Template{CommonName: "entra", IPs: []net.IP{net.IPv4(127, 0, 0, 1)}, Server: true}),
		Tenants: []labcloud.Tenant{{ID: tenant}}, Apps: []labcloud.App{{Tenant: tenant, ID: deviceID, ResourceURI: resource}},
		Devices: []labcloud.Device{{Tenant: tenant, ID: deviceID, Secret: "s"}},
	}); err != nil {
		t.Fatal(err)
	}
	go func() { ended <- s.entra.Serve(ctx, entraLn) }()

	cfg := &opencmg.PublishedConfiguration{
		Version: 1, Gateway: "gw", Site: site, ServiceName: gatewayName, Instances: 1,
		Certificates: opencmg.CertificateSettings{Roots: []string{string(r.ca.CertificatePEM())}},
		TokenIssuers: []opencmg.TokenIssuer{signer.TokenIssuer()},
		Tenants:      []opencmg.Tenant{{ID: tenant, ClientAppID: "app", ResourceURI: resource, Issuers: s.entra.Issuers(tenant), Authority: s.entra.Authority(tenant)}},
	}
	keys := pki.NewJWKSCache(pki.JWKSConfig{HTTP: r.httpClient()})
	tokens, err := pki.NewTokenVerifier(cfg, keys, nil)
	if err != nil {
		t.Fatal(err)
	}
	certificates, err := pki.NewClientVerifier(cfg.Certificates, nil, nil)
	if err != nil {
		t.Fatal(err)
	}

	db, err := sitedb.Open(ctx, sitedb.Config{Path: filepath.Join(t.TempDir(), "site.db")})
	if err != nil {
		t.Fatal(err)
	}
	https, fast := listen(), listen()
	s.mpAddr, s.fast = https.Addr().String(), fast.Addr().(*net.TCPAddr).Port
	if s.server, err = mp.New(ctx, mp.Config{
		Site: site, RoleID: role, SiteCA: r.ca.Certificate(),
		Certificate: issue(pki.Template{CommonName: "mp", URIs: []string{opencmg.RoleURI(site, role)}, DNSNames: []string{mpName}, Server: true}),
		Signer:      signer, Tokens: tokens, Certificates: certificates, DB: db, Host: mpName, Gateways: []mp.Gateway{{ServiceName: gatewayName}},
		Settings: mp.Settings{NotificationPort: s.fast, PolicyInterval: 2 * time.Hour}, ApproveAll: true, Incoming: t.TempDir(), Log: r.log,
	}); err != nil {
		t.Fatal(err)
	}
	go func() { ended <- s.server.Run(ctx, mp.Listeners{HTTPS: https, Notification: fast}) }()
	t.Cleanup(func() {
		cancel()
		for range 2 {
			if err := <-ended; err != nil {
				t.Error(err)
			}
		}
		db.Close()
	})

	point := issue(pki.Template{CommonName: "cp", URIs: []string{opencmg.ConnectionPointURI(site, "1")}, Client: true})
	back := &http.Transport{TLSClientConfig: pki.RoleClientTLS(pki.RoleTLS{Certificate: point, SiteCA: r.ca.Certificate(), Site: site, Role: role})}
	t.Cleanup(back.CloseIdleConnections)
	s.addr, _ = r.serve(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if s.down.Load() {
			refused(w, http.StatusForbidden, "Forbidden")
			return
		}
		s.passed.Add(1)
		var id opencmg.Identity
		var err error
		prefix := opencmg.ServerAuthPrefix
		if strings.HasPrefix(req.URL.Path, opencmg.MutualAuthPrefix) {
			prefix, id.Auth, id.Thumbprint = opencmg.MutualAuthPrefix, opencmg.AuthPKI, peer(req)
			id.Subject, err = certificates.Verify(req.TLS.PeerCertificates, time.Now())
		} else if !strings.Contains(req.URL.Path, "AADAuthInfo") {
			id, err = tokens.Verify(req.Context(), strings.TrimPrefix(req.Header.Get("Authorization"), "Bearer "), peer(req), time.Now())
		}
		if err != nil {
			t.Logf("front refuses %s: %v", req.URL.Path, err)
			refused(w, 401, opencmg.ReasonInvalidToken)
			return
		}
		if strings.Contains(req.URL.Path, "AADAuthInfo") {
			io.WriteString(w, `{"TenantId":"`+tenant+`","ClientAppId":"app","ResourceUri":"`+resource+`"}`)
			return
		}
		body, _ := io.ReadAll(req.Body)
		out, _ := http.NewRequestWithContext(req.Context(), req.Method, "https://"+s.mpAddr+strings.TrimPrefix(req.URL.Path, prefix+role)+"?"+req.URL.RawQuery, bytes.NewReader(body))
		out.Header = req.Header.Clone()
		out.Header.Set(opencmg.HeaderIdentity, id.Encode())
		out.Header.Set(opencmg.HeaderCorrelationID, "corr-"+ccm.NewGUID())
		resp, err := back.RoundTrip(out)
		if err != nil {
			if req.Context().Err() == nil {
				t.Logf("front: %v", err)
			}
			refused(w, 502, "Bad Gateway")
			return
		}
		defer resp.Body.Close()
		for k, v := range resp.Header {
			w.Header()[k] = v
		}
		w.WriteHeader(resp.StatusCode)
		io.Copy(w, resp.Body)
	}), gatewayName)
	return s
}

// TestRealManagementPoint takes a client of each kind through everything with
// the management point that it will meet.
func TestRealManagementPoint(t *testing.T) {
	s := newRealSite(t)
	for name, tc := range map[string]struct {
		words  string
		change func(c *client.Config)
	}{
		"pki":   {plainWords, func(c *client.Config) { c.CertFile, c.KeyFile = s.pkiFiles(t, time.Hour) }},
		"token": {"CCMHOSTNAME=" + base + " SMSSITECODE=LAB /regtoken:" + s.bulk, func(*client.Config) {}},
		"entra": {plainWords + " AADTENANTID=" + tenant, func(c *client.Config) {
			c.Entra = client.EntraClientCredentials{TokenURL: s.entra.BaseURL() + "/" + tenant + "/oauth2/token", DeviceID: deviceID, Secret: "s", HTTP: s.httpClient()}
		}},
		"inside": {"/mp:" + mpName + " SMSSITECODE=LAB", func(c *client.Config) {
			c.ConnectTo = append(c.ConnectTo, to(t, mpName, s.mpAddr), opencmg.ConnectTo{FromHost: mpName, FromPort: itoa(s.fast), ToHost: "127.0.0.1"})
		}},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := s.config(t, to(t, gatewayName, s.addr))
			cfg.Host.NetBIOSName = strings.ToUpper(name)
			tc.change(&cfg)
			c := create(t, cfg, tc.words)
			if _, err := c.Install(t.Context()); err != nil {
				t.Fatal(err)
			}
			ok(t)(c.Heartbeat(t.Context()))
			ok(t)(c.Inventory(t.Context()))
			ok(t)(c.StateMessage(t.Context()))
			if res := ok(t)(c.NotifyTest(t.Context())); res.Milliseconds <= 0 || res.Milliseconds > 10_000 {
				t.Errorf("round trip of %v ms", res.Milliseconds)
			}
			if res := ok(t)(c.Policy(t.Context())); !strings.Contains(res.Detail, "5 policies, 0 new") {
				t.Errorf("policy: %s", res.Detail)
			}
			if v, _ := c.Setting(ccm.SettingsClass, ccm.SettingPolicyInterval); v != "120" {
				t.Errorf("policy interval %q", v)
			}
			if name == "token" { // an inventory that goes by upload; once is enough
				for range 2_000 {
					cfg.Host.Software = append(cfg.Host.Software, client.Software{Name: strings.Repeat("n", 2400)})
				}
				ok(t)(c.Inventory(t.Context()))
			}
			id := c.Status().ClientID
			// Registering again keeps the ID.
			ok(t)(c.Register(t.Context()))
			if got := c.Status().ClientID; got != id {
				t.Errorf("second registration gave %s, first %s", got, id)
			}
		})
	}
}

// TestRunBesideNotifyTest runs a client and a test of its notification in what
// could be another process.
func TestRunBesideNotifyTest(t *testing.T) {
	s := newRealSite(t)
	cfg := s.config(t, to(t, gatewayName, s.addr))
	cfg.Intervals.Retry = 10 * time.Millisecond
	c := create(t, cfg, "CCMHOSTNAME="+base+" SMSSITECODE=LAB /regtoken:"+s.bulk)
	if _, err := c.Install(t.Context()); err != nil {
		t.Fatal(err)
	}
	start(t, c)
	other, err := client.Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	for range 2 {
		ok(t)(other.NotifyTest(t.Context()))
	}
}

func (r *rig) httpClient() *http.Client {
	pool := x509.NewCertPool()
	pool.AddCert(r.ca.Certificate())
	tr := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}}
	r.t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr}
}
