package main

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/opencmg/opencmg"
	"github.com/opencmg/opencmg/connpoint"
	"github.com/opencmg/opencmg/gateway"
	"github.com/opencmg/opencmg/internal/web"
	"github.com/opencmg/opencmg/pki"
)

const (
	benchSite    = opencmg.SiteCode("LAB")
	benchGateway = "bench"
	benchRole    = opencmg.RoleID("8")
)

// startChain runs one gateway instance and one connection point, as they are
// shipped, with nothing switched off.
func (e *environment) startChain() (*system, error) {
	if err := e.publish(); err != nil {
		return nil, err
	}
	gw, err := e.start("gateway", nil)
	if err != nil {
		return nil, err
	}
	cp, err := e.start("connpoint", gw.line)
	if err != nil {
		gw.stop()
		return nil, err
	}
	s := &system{name: "opencmg", addr: gw.line["addr"], proxies: []*process{gw, cp}}
	if err := e.waitServing(s.addr); err != nil {
		s.stop()
		return nil, err
	}
	return s, nil
}

// publish writes the chain's certificates and its signed configuration.
func (e *environment) publish() error {
	now := time.Now()
	for file, t := range map[string]pki.Template{
		"instance":  {CommonName: "instance", URIs: []string{opencmg.GatewayInstanceURI(benchSite, benchGateway, 0)}, Client: true, Server: true},
		"connector": {CommonName: "connector", URIs: []string{opencmg.ConnectionPointURI(benchSite, "bench-1")}, Client: true},
	} {
		pair, err := e.site.IssueKeyPair(t, now)
		if err != nil {
			return err
		}
		if err := pki.SaveKeyPair(filepath.Join(e.dir, file+".pem"), filepath.Join(e.dir, file+".key"), pair); err != nil {
			return err
		}
	}
	root, err := os.ReadFile(filepath.Join(e.dir, "web-ca.pem"))
	if err != nil {
		return err
	}
	endpoints := opencmg.ManagementPointEndpoints()
	doc := &opencmg.PublishedConfiguration{
		Version: uint64(now.UnixNano()), Issued: now, Gateway: benchGateway, Site: benchSite, ServiceName: serviceName, Instances: 1,
		Roles:            []opencmg.PublishedRole{{ID: benchRole, Site: benchSite, Kind: opencmg.KindManagementPoint, Name: "origin", Endpoints: endpoints}},
		ConnectionPoints: []opencmg.RegisteredConnectionPoint{{Name: "bench", ConnectionID: "bench-1", Site: benchSite}},
		Certificates:     opencmg.CertificateSettings{Roots: []string{string(root)}},
	}
	signer, err := e.site.IssueKeyPair(pki.Template{CommonName: "configuration", URIs: []string{opencmg.ConfigurationSigningURI(benchSite)}}, now)
	if err != nil {
		return err
	}
	jws, err := pki.SignConfiguration(doc, signer)
	if err != nil {
		return err
	}
	return pki.WriteFile(filepath.Join(e.dir, "published.jws"), jws, 0o644)
}

// waitServing asks until the whole chain answers.
func (e *environment) waitServing(addr string) error {
	conf, err := clientTLS(e.dir)
	if err != nil {
		return err
	}
	t := &http.Transport{TLSClientConfig: conf, DisableKeepAlives: true}
	c := &http.Client{Transport: t, Timeout: 2 * time.Second}
	for began := time.Now(); ; time.Sleep(50 * time.Millisecond) {
		var why error
		res, err := c.Get("https://" + addr + externalRoot + "/SMS_MP/small")
		if err == nil {
			io.Copy(io.Discard, res.Body)
			res.Body.Close()
			if res.StatusCode == 200 {
				return nil
			}
			why = fmt.Errorf("status %s", res.Status)
		} else {
			why = err
		}
		if time.Since(began) > 15*time.Second {
			return fmt.Errorf("the chain does not answer: %w", why)
		}
	}
}

func serveGateway(ctx context.Context, c *childConfig, say *json.Encoder) error {
	ca, err := pki.LoadCertificates(filepath.Join(c.Dir, "site-ca.pem"))
	if err != nil {
		return err
	}
	instance, err := loadPair(c.Dir, "instance")
	if err != nil {
		return err
	}
	edge, err := loadPair(c.Dir, "edge")
	if err != nil {
		return err
	}
	state := filepath.Join(c.Dir, "gateway-state") // records go to disk, as in service
	if err := os.MkdirAll(state, 0o700); err != nil {
		return err
	}
	s, err := gateway.New(gateway.Config{
		StateDir: state,
		Gateway:  benchGateway, ServiceName: serviceName, Site: benchSite, SiteCA: ca[0], TunnelCertificate: instance,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return &edge, nil },
		Log:            benchLog(),
	})
	if err != nil {
		return err
	}
	https, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	tunnels, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	private, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	if err := say.Encode(map[string]string{"addr": https.Addr().String(), "tunnels": tunnels.Addr().String(), "private": private.Addr().String()}); err != nil {
		return err
	}
	return s.Serve(ctx, gateway.Listeners{HTTPS: https, TunnelTCP: tunnels, Private: private})
}

func serveConnectionPoint(ctx context.Context, c *childConfig, say *json.Encoder) error {
	ca, err := pki.LoadCertificates(filepath.Join(c.Dir, "site-ca.pem"))
	if err != nil {
		return err
	}
	pair, err := loadPair(c.Dir, "connector")
	if err != nil {
		return err
	}
	records := web.NewRecords(8192)
	if records.Journal, err = web.NewJournal(web.JournalConfig{Dir: filepath.Join(c.Dir, "connpoint-records"), Log: benchLog()}); err != nil {
		return err
	}
	p, err := connpoint.New(connpoint.Config{
		Name: "bench", ConnectionID: "bench-1", Site: benchSite, SiteCA: ca[0], Certificate: pair,
		Gateways: []opencmg.GatewayTarget{{Name: benchGateway, ServiceName: serviceName,
			Instances: []opencmg.InstanceAddress{{Instance: 0, TCPTLS: c.Peer["tunnels"]}}}},
		Mappings:      &opencmg.URLMappings{Mappings: []opencmg.URLMapping{{Role: benchRole, Internal: []string{"http://" + c.Origin}, SiteRole: true}}},
		PublishedFile: filepath.Join(c.Dir, "published.jws"),
		Records:       records,
		Log:           benchLog(),
	})
	if err != nil {
		return err
	}
	private, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	if err := say.Encode(map[string]string{"private": private.Addr().String()}); err != nil {
		return err
	}
	var wg sync.WaitGroup
	wg.Go(func() { records.Journal.Run(ctx) })
	wg.Go(func() { (&web.Private{Records: records, Ready: p.Ready}).Serve(ctx, private) })
	defer wg.Wait()
	return p.Run(ctx)
}

// benchLog writes warnings to standard error, where they would explain a bad
// figure; per-request records are off, as they are by default.
func benchLog() *slog.Logger {
	return slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
}

// profile writes CPU profiles of the chain's processes under load to dir.
func profile(dir, scenario string, s *system, d time.Duration) {
	time.Sleep(d / 4) // past the beginning
	snapshot(dir, scenario, s, fmt.Sprintf("profile?seconds=%d", max(1, int(d.Seconds()/2))))
}

// snapshot writes profiles of the named kinds, where a process has them.
func snapshot(dir, scenario string, s *system, kinds ...string) {
	var wg sync.WaitGroup
	for _, p := range s.proxies {
		if p.line["private"] == "" {
			continue
		}
		for _, kind := range kinds {
			wg.Go(func() {
				res, err := http.Get("http://" + p.line["private"] + "/debug/pprof/" + kind)
				if err != nil {
					fmt.Fprintln(os.Stderr, "bench:", err)
					return
				}
				defer res.Body.Close()
				b, err := io.ReadAll(res.Body)
				if err == nil {
					kind, _, _ = strings.Cut(kind, "?")
					err = os.WriteFile(filepath.Join(dir, scenario+"-"+p.name+"."+kind), b, 0o644)
				}
				if err != nil {
					fmt.Fprintln(os.Stderr, "bench:", err)
				}
			})
		}
	}
	wg.Wait()
}
