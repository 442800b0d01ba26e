package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/goccy/go-yaml"

	"github.com/opencmg/opencmg"
	"github.com/opencmg/opencmg/connpoint"
	"github.com/opencmg/opencmg/internal/bootstrap"
	"github.com/opencmg/opencmg/internal/keyvault/keyvaulttest"
	"github.com/opencmg/opencmg/pki"
)

// A balancedGateway is a gateway of two instances behind a load balancer: real
// processes as on machines of a cloud, each with its key vault, and a
// connection point.
type balancedGateway struct {
	t         *testing.T
	dir       string
	keys      *siteKeys
	publicCA  *pki.Authority
	instances []*balancedInstance
	balancer  *testBalancer
	cp        *connpoint.Connector
	inside    string // the connection point's directory
}

type balancedInstance struct {
	cloud               *keyvaulttest.Cloud
	dir                 string
	addr, probe, tunnel string
	process             *testProcess
}

func newBalancedGateway(t *testing.T) *balancedGateway {
	t.Helper()
	h := &balancedGateway{t: t, dir: t.TempDir()}
	var err error
	if h.publicCA, err = pki.NewAuthority("public CA", time.Now()); err != nil {
		t.Fatal(err)
	}
	wiki := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, r.URL.RequestURI()) }))
	t.Cleanup(wiki.Close)
	writeTestFile(t, filepath.Join(h.dir, "site.yaml"), fmt.Sprintf(`site: LAB
gateway: {name: gw, serviceName: gw.example.com, instances: 2}
connectionPoints: [{name: cp1}]
roles:
- {id: "2", kind: service, name: wiki, prefix: /wiki/, internal: [%q], endpoints: [{name: all, path: "", auth: [none], methods: [GET]}]}
`, wiki.URL+"/"))
	site := filepath.Join(h.dir, "site")
	startAndWait(t, "publish", "--file", filepath.Join(h.dir, "site.yaml"), "--dir", site)
	if h.keys, err = openSiteKeys(site, "LAB", time.Now()); err != nil {
		t.Fatal(err)
	}
	h.inside = filepath.Join(site, "connection-point-cp1")

	var backends []*backend
	target := opencmg.GatewayTarget{Name: "gw", Count: 2}
	for i := range 2 {
		in := &balancedInstance{
			cloud: keyvaulttest.Start(t), dir: filepath.Join(h.dir, fmt.Sprintf("machine-%d", i)),
			addr: freeAddress(t), probe: freeAddress(t), tunnel: freeAddress(t),
		}
		h.instances = append(h.instances, in)
		backends = append(backends, &backend{addr: in.addr, probe: "http://" + in.probe + "/readyz"})
		target.Instances = append(target.Instances, opencmg.InstanceAddress{Instance: i, HTTPS: in.tunnel})
		doc, err := yaml.Marshal(&GatewayConfig{
			Gateway: "gw", ServiceName: "gw.example.com", Site: "LAB", StateDir: "state", DrainSettle: 500 * time.Millisecond,
			Cloud:  &bootstrap.Cloud{Vault: keyvaulttest.Vault, IdentityClientID: keyvaulttest.ClientID},
			Listen: GatewayListen{HTTPS: in.addr, TunnelHTTPS: in.tunnel, Probe: in.probe, Private: "off"},
		})
		if err != nil {
			t.Fatal(err)
		}
		writeTestFile(t, filepath.Join(in.dir, "bootstrap.yaml"), string(doc))
		writeTestFile(t, filepath.Join(in.dir, "ca.pem"), in.cloud.CAPEM)
		h.writeIdentity(i)
	}
	h.renew()
	for i := range h.instances {
		h.start(i)
	}
	h.balancer = startBalancer(t, backends)
	h.connect(target)
	for i := range h.instances {
		h.awaitReady(i)
	}
	return h
}

func (h *balancedGateway) start(i int) {
	h.t.Helper()
	in := h.instances[i]
	args := []string{"gateway", "serve", "--config", filepath.Join(in.dir, "bootstrap.yaml"), "--ca-file", filepath.Join(in.dir, "ca.pem"), "--connect-only"}
	for _, r := range in.cloud.ConnectTo() {
		args = append(args, "--connect-to", r)
	}
	in.process = startProgram(h.t, args...)
}

func (h *balancedGateway) writeIdentity(i int) {
	h.t.Helper()
	dir := filepath.Join(h.dir, "site", fmt.Sprintf("gateway-%d", i))
	pair, err := pki.LoadKeyPair(filepath.Join(dir, identityCert), filepath.Join(dir, identityKey))
	if err != nil {
		h.t.Fatal(err)
	}
	id, err := bootstrap.NewIdentity(i, pair, h.keys.authority.Certificate())
	if err != nil {
		h.t.Fatal(err)
	}
	secret, err := id.Secret()
	if err != nil {
		h.t.Fatal(err)
	}
	h.instances[i].cloud.SetSecret(bootstrap.InstanceSecret("3"), secret)
}

// renew writes a new server certificate into the vaults.
func (h *balancedGateway) renew() *x509.Certificate {
	h.t.Helper()
	leaf, secret := serverCertificateSecret(h.t, h.publicCA)
	for _, in := range h.instances {
		in.cloud.SetSecret(bootstrap.SecretServerCertificate, secret)
	}
	return leaf
}

// publish signs the next version of the published configuration and leaves it
// to the connection point to deliver.
func (h *balancedGateway) publish(change func(*opencmg.PublishedConfiguration)) {
	h.t.Helper()
	file := filepath.Join(h.inside, publishedFile)
	c, err := pki.VerifyConfiguration([]byte(readTestFile(h.t, file)), h.keys.authority.Certificate(), "LAB", time.Now())
	if err != nil {
		h.t.Fatal(err)
	}
	c.Version++
	change(c)
	signed, err := pki.SignConfiguration(c, h.keys.signing)
	if err != nil {
		h.t.Fatal(err)
	}
	if err := pki.WriteFile(file, signed, 0o600); err != nil {
		h.t.Fatal(err)
	}
}

// connect runs the connection point until the test ends.
func (h *balancedGateway) connect(target opencmg.GatewayTarget) {
	h.t.Helper()
	id, err := loadIdentity(h.inside)
	if err != nil {
		h.t.Fatal(err)
	}
	h.cp, err = connpoint.New(connpoint.Config{
		Name: "cp1", ConnectionID: "cp1", Site: "LAB", SiteCA: id.siteCA, Certificate: id.pair,
		Gateways: []opencmg.GatewayTarget{target}, CollectInstances: true,
		PublishedFile: filepath.Join(h.inside, publishedFile), MappingsFile: filepath.Join(h.inside, mappingsFile),
		LoadMappings: func(b []byte) (*opencmg.URLMappings, error) {
			doc, err := pki.VerifyDocument(pki.KindURLMappings, b, id.siteCA, opencmg.ConfigurationSigningURI("LAB"), time.Now())
			if err != nil {
				return nil, err
			}
			return opencmg.ParseURLMappings(doc)
		},
	})
	if err != nil {
		h.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- h.cp.Run(ctx) }()
	h.t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			h.t.Errorf("connection point: %v", err)
		}
	})
}

// status is what the connection point knows about an instance.
func (h *balancedGateway) status(i int) (opencmg.InstanceStatus, error) {
	all := h.cp.Report().Instances
	n := slices.IndexFunc(all, func(st opencmg.InstanceStatus) bool { return st.Instance == i })
	if n < 0 {
		return opencmg.InstanceStatus{}, fmt.Errorf("no status of instance %d", i)
	}
	return all[n], nil
}

// awaitReady waits until the balancer sends clients to the instance and the
// connection point serves it.
func (h *balancedGateway) awaitReady(i int) {
	h.t.Helper()
	eventually(h.t, fmt.Sprintf("instance %d", i), func() error {
		st, err := h.status(i)
		switch {
		case err != nil:
			return err
		case st.Configuration == 0 || st.Draining:
			return fmt.Errorf("configuration %d, draining %v", st.Configuration, st.Draining)
		case !h.balancer.backends[i].healthy.Load():
			return errors.New("not healthy")
		}
		return nil
	})
}

// A testBalancer is what a cloud's load balancer is: it probes, and leads new
// connections to those that are healthy. Open connections stay where they are.
type testBalancer struct {
	t        *testing.T
	ln       net.Listener
	backends []*backend
	next     atomic.Uint32
	wg       sync.WaitGroup
}

type backend struct {
	addr, probe string
	healthy     atomic.Bool
	conns       atomic.Int64 // ever
}

const (
	probeEvery = 50 * time.Millisecond
	flowRate   = 200 // requests a second
)

func startBalancer(t *testing.T, backends []*backend) *testBalancer {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	b := &testBalancer{t: t, ln: ln, backends: backends}
	ctx, cancel := context.WithCancel(context.Background())
	for _, be := range backends {
		b.wg.Go(func() { be.watch(ctx) })
	}
	b.wg.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			b.wg.Go(func() { b.lead(c) })
		}
	})
	t.Cleanup(func() {
		cancel()
		ln.Close()
		b.wg.Wait()
	})
	return b
}

func (be *backend) watch(ctx context.Context) {
	client := &http.Client{Timeout: time.Second}
	tick := time.NewTicker(probeEvery)
	defer tick.Stop()
	for {
		res, err := client.Get(be.probe)
		be.healthy.Store(err == nil && res.StatusCode == http.StatusOK)
		if err == nil {
			res.Body.Close()
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// lead connects a client with the backend whose turn it is. It tries one only,
// as a balancer of packets does.
func (b *testBalancer) lead(c net.Conn) {
	defer c.Close()
	for range b.backends {
		be := b.backends[b.next.Add(1)%uint32(len(b.backends))]
		if !be.healthy.Load() {
			continue
		}
		be.conns.Add(1)
		up, err := net.Dial("tcp", be.addr)
		if err != nil {
			return
		}
		defer up.Close()
		done := make(chan struct{})
		go func() {
			defer close(done)
			io.Copy(up, c)
			up.(*net.TCPConn).CloseWrite()
		}()
		io.Copy(c, up)
		c.(*net.TCPConn).CloseWrite()
		// The gateway is done with the connection; so is its client, soon.
		c.SetReadDeadline(time.Now().Add(10 * time.Second))
		<-done
		return
	}
}

// A flow is requests at a fixed rate from clients, most of which keep their
// connections. They repeat what net/http repeats by itself: an idempotent request that met
// the end of its connection before a byte of the answer.
type flow struct {
	t        *testing.T
	stop     context.CancelFunc
	requests sync.WaitGroup
	answered atomic.Int64
	mu       sync.Mutex // guards failures
	failures []string
}

func (h *balancedGateway) flow() *flow {
	h.t.Helper()
	pool := x509.NewCertPool()
	pool.AddCert(h.publicCA.Certificate())
	var clients []*http.Client
	for i := range 8 {
		tr := &http.Transport{
			TLSClientConfig: &tls.Config{RootCAs: pool, ServerName: "gw.example.com"}, MaxIdleConnsPerHost: 100, Protocols: new(http.Protocols),
			DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
				return new(net.Dialer).DialContext(ctx, network, h.balancer.ln.Addr().String())
			},
		}
		tr.DisableKeepAlives = i == 0 // always somebody new
		tr.Protocols.SetHTTP1(i%2 == 0)
		tr.Protocols.SetHTTP2(i%2 == 1)
		h.t.Cleanup(tr.CloseIdleConnections)
		clients = append(clients, &http.Client{Transport: tr, Timeout: time.Minute})
	}
	f := &flow{t: h.t}
	ctx, stop := context.WithCancel(h.t.Context())
	f.stop = stop
	f.requests.Go(func() {
		tick := time.NewTicker(time.Second / flowRate)
		defer tick.Stop()
		for n := 0; ; n++ {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			f.requests.Go(func() { f.ask(clients[n%len(clients)], n) })
		}
	})
	return f
}

func (f *flow) ask(c *http.Client, n int) {
	path := fmt.Sprintf("/wiki/%d", n)
	got, err := askInstance(f.t.Context(), c, "gw.example.com", path)
	if want := fmt.Sprintf("/%d", n); err == nil && got != want {
		err = fmt.Errorf("got %.100q, want %q", got, want)
	}
	if err != nil {
		f.mu.Lock()
		f.failures = append(f.failures, fmt.Sprintf("request %d: %v", n, err))
		f.mu.Unlock()
	}
	f.answered.Add(1)
}

// more waits for n more answers.
func (f *flow) more(n int64) {
	f.t.Helper()
	n += f.answered.Load()
	eventually(f.t, "requests", func() error {
		if f.answered.Load() < n {
			return errors.New("too few yet")
		}
		return nil
	})
}

// end stops the flow and reports what failed.
func (f *flow) end() {
	f.t.Helper()
	f.stop()
	f.requests.Wait()
	f.t.Logf("%d requests, %d failed", f.answered.Load(), len(f.failures))
	for i, s := range f.failures {
		if i == 20 {
			break
		}
		f.t.Error(s)
	}
}

// TestCertificateRenewalUnderLoad: a renewed certificate reaches both instances
// of a gateway while 200 requests a second flow, and none fails.
func TestCertificateRenewalUnderLoad(t *testing.T) {
	h := newBalancedGateway(t)
	pool := x509.NewCertPool()
	pool.AddCert(h.publicCA.Certificate())
	dial := func(i int) (*tls.Conn, error) {
		return tls.Dial("tcp", h.instances[i].addr, &tls.Config{RootCAs: pool, ServerName: "gw.example.com"})
	}
	f := h.flow()
	f.more(flowRate)
	var before []*tls.Conn
	for i := range h.instances {
		c, err := dial(i)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		before = append(before, c)
	}
	for range 3 {
		leaf := h.renew()
		h.publish(func(c *opencmg.PublishedConfiguration) { c.ServerCertificate = pki.Thumbprint(leaf) })
		for i := range h.instances {
			eventually(t, fmt.Sprintf("the new certificate at instance %d", i), func() error {
				c, err := dial(i)
				if err != nil {
					return err
				}
				defer c.Close()
				if !c.ConnectionState().PeerCertificates[0].Equal(leaf) {
					return errors.New("still the old one")
				}
				return nil
			})
		}
		for i, c := range before {
			if err := askFor(c, "/wiki/kept", "/kept"); err != nil {
				t.Errorf("a connection to instance %d from before: %v", i, err)
			}
		}
		f.more(flowRate)
	}
	f.end()
}

// TestRollingReplacementUnderLoad replaces both instances one after the other,
// without warning to the process, while 200 requests a second flow. Because
// each was drained first, none fails: neither when the machine keeps its disk
// nor when it gets a new one.
func TestRollingReplacementUnderLoad(t *testing.T) {
	h := newBalancedGateway(t)
	f := h.flow()
	f.more(flowRate)
	for round, newDisk := range []bool{false, true} {
		for i, in := range h.instances {
			h.publish(func(c *opencmg.PublishedConfiguration) { c.Drain = []int{i} })
			eventually(t, fmt.Sprintf("round %d: instance %d is drained", round, i), func() error {
				st, err := h.status(i)
				if err == nil && !st.Drained {
					err = fmt.Errorf("draining %v, %d connections, %d in flight", st.Draining, st.Connections, st.InFlight)
				}
				return err
			})
			if err := in.process.cmd.Process.Kill(); err != nil {
				t.Fatal(err)
			}
			<-in.process.done
			if newDisk {
				if err := os.RemoveAll(filepath.Join(in.dir, "state")); err != nil {
					t.Fatal(err)
				}
			}
			had := h.balancer.backends[i].conns.Load()
			f.more(flowRate / 2)
			h.start(i)
			h.publish(func(c *opencmg.PublishedConfiguration) { c.Drain = nil })
			h.awaitReady(i)
			f.more(flowRate)
			t.Logf("round %d: instance %d is back; %d connections until then, %d since", round, i, had, h.balancer.backends[i].conns.Load()-had)
		}
	}
	f.end()
	for i := range h.instances {
		if st, err := h.status(i); err != nil || st.Draining || st.Drained {
			t.Errorf("instance %d at the end: %+v, %v", i, st, err)
		}
	}
}
