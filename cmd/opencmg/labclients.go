package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/opencmg/opencmg"
	"github.com/opencmg/opencmg/client"
)

// A labClient is one client of the lab.
type labClient struct {
	name string
	auth client.Auth
	c    *client.Client
	log  func()
}

func (c *labClient) close() {
	if c.c != nil {
		c.c.Close()
	}
	if c.log != nil {
		c.log()
	}
}

// concurrency bounds how many clients work at once.
const concurrency = 12

// makeClients installs the clients: N of each kind, spread over the instances.
func (l *lab) makeClients(ctx context.Context, progress func(done, all int)) ([]*labClient, error) {
	kinds := []client.Auth{client.AuthPKI, client.AuthEntra, client.AuthToken}
	clients := make([]*labClient, 0, len(kinds)*l.opts.clients)
	for i := range l.opts.clients {
		for _, k := range kinds {
			name := "client-" + string(k)
			if l.opts.clients > 1 {
				name = fmt.Sprintf("%s-%d", name, i+1)
			}
			clients = append(clients, &labClient{name: name, auth: k})
		}
	}
	var done atomic.Int64
	err := forEach(ctx, clients, func(i int, c *labClient) error {
		if err := l.install(c, i); err != nil {
			return fmt.Errorf("install %s: %w", c.name, err)
		}
		progress(int(done.Add(1)), 2*len(clients))
		return nil
	})
	return clients, err
}

// install is what "opencmg client install" does on a device.
func (l *lab) install(lc *labClient, i int) error {
	now := time.Now()
	words := []string{"CCMHOSTNAME=" + labServiceName + opencmg.MutualAuthPrefix + string(l.mpRole), "SMSSITECODE=" + labSite, "CCMALWAYSINF=1"}
	host := client.DetectHost(context.Background())
	host.NetBIOSName = client.NetBIOSName(strings.ToUpper(strings.ReplaceAll(lc.name, "client-", "LAB-")))
	host.FQDN = lc.name + ".lab.opencmg.example"
	log, closeLog, err := openLog(LogConfig{Dir: l.path("logs", lc.name), Level: l.opts.logLevel}, &env{stdout: io.Discard, stderr: io.Discard}, "CcmExec", "")
	if err != nil {
		return err
	}
	lc.log = closeLog
	cfg := client.Config{StateDir: l.path("clients", lc.name), CAFile: l.path("ca.pem"), Host: host, Log: log}
	// The gateway has one public address; a request that an instance took with
	// it goes there again.
	for range 2 {
		to, err := opencmg.ParseConnectTo(fmt.Sprintf("%s:%d:%s", labServiceName, machineHTTPS, l.addr.frontends[machineHTTPS]))
		if err != nil {
			return err
		}
		cfg.ConnectTo = append(cfg.ConnectTo, to)
	}
	switch lc.auth {
	case client.AuthPKI:
		files, err := l.keptClientCertificate(lc.name, now)
		if err != nil {
			return err
		}
		cfg.CertFile, cfg.KeyFile = files.CertFile, files.KeyFile
	case client.AuthEntra:
		device := labDeviceID(i / 3)
		httpClient, err := l.httpClient()
		if err != nil {
			return err
		}
		// The secret stands for the certificate of a workplace-joined device.
		cfg.Entra = client.EntraClientCredentials{
			TokenURL: "https://" + l.addr.cloud + "/" + labTenant + "/oauth2/token",
			DeviceID: device, Secret: client.Secret(l.devices[device]), HTTP: httpClient,
		}
		words = append(words, "AADTENANTID="+labTenant)
	case client.AuthToken:
		bulk, err := l.bulkToken(context.Background())
		if err != nil {
			return err
		}
		words = append(words, "/regtoken:"+bulk.Token)
	}
	in, err := client.ParseInstall(words)
	if err != nil {
		return err
	}
	lc.c, err = client.Create(cfg, in)
	return err
}

// workAll lets every client do every step once.
func (l *lab) workAll(ctx context.Context, clients []*labClient, progress func(done, all int)) []labClientReport {
	reports := make([]labClientReport, len(clients))
	var done atomic.Int64
	forEach(ctx, clients, func(i int, c *labClient) error {
		reports[i] = labClientReport{Name: c.name, Auth: c.auth, Steps: c.work(ctx, firstSteps)}
		reports[i].ClientID = c.c.Status().ClientID
		progress(len(clients)+int(done.Add(1)), 2*len(clients))
		return nil
	})
	return reports
}

type clientStep func(*client.Client, context.Context) (client.StepResult, error)

// firstSteps are a client's life in short; laterSteps are what it does again
// and again.
var (
	firstSteps = []clientStep{
		(*client.Client).Register, (*client.Client).Token, (*client.Client).Policy, (*client.Client).Location,
		(*client.Client).Heartbeat, (*client.Client).Inventory, (*client.Client).NotifyTest,
	}
	laterSteps = []clientStep{
		(*client.Client).Policy, (*client.Client).Location, (*client.Client).Heartbeat, (*client.Client).Inventory, (*client.Client).NotifyTest,
	}
)

// work does the steps in order. A step that failed does not keep the next one
// from being tried, so that the report shows everything that is wrong.
func (c *labClient) work(ctx context.Context, steps []clientStep) []client.StepResult {
	var results []client.StepResult
	for _, step := range steps {
		stepCtx, cancel := context.WithTimeout(ctx, 45*time.Second)
		r, err := step(c.c, stepCtx)
		cancel()
		if err != nil {
			r.OK = false
			if r.Error == "" {
				r.Error = err.Error()
			}
		}
		results = append(results, r)
	}
	return results
}

// forEach calls f for every client, several at once, and returns the first
// error.
func forEach(ctx context.Context, clients []*labClient, f func(i int, c *labClient) error) error {
	var (
		wg    sync.WaitGroup
		mu    sync.Mutex
		first error
		slots = make(chan struct{}, concurrency)
	)
	for i, c := range clients {
		if ctx.Err() != nil {
			break
		}
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			if err := f(i, c); err != nil {
				mu.Lock()
				defer mu.Unlock()
				if first == nil {
					first = err
				}
			}
		})
	}
	wg.Wait()
	if first == nil {
		first = ctx.Err()
	}
	return first
}

// entraToken asks the stand-in for a token of any shape.
func (l *lab) entraToken(ctx context.Context, options map[string]any) (string, error) {
	b, err := json.Marshal(options)
	if err != nil {
		return "", err
	}
	var answer struct {
		AccessToken string `json:"access_token"`
	}
	req, err := http.NewRequestWithContext(ctx, "POST", "https://"+l.addr.cloud+"/lab/token", bytes.NewReader(b))
	if err != nil {
		return "", err
	}
	req.Header.Set("Authorization", "Bearer "+l.adminSecret)
	httpClient, err := l.httpClient()
	if err != nil {
		return "", err
	}
	res, err := httpClient.Do(req)
	if err != nil {
		return "", err
	}
	defer res.Body.Close()
	if b, err = io.ReadAll(io.LimitReader(res.Body, 1<<20)); err != nil {
		return "", err
	}
	if res.StatusCode != http.StatusOK {
		return "", opencmg.Errorf(opencmg.Unavailable, "the lab cloud answered %s: %s", res.Status, strings.TrimSpace(string(b)))
	}
	err = json.Unmarshal(b, &answer)
	return answer.AccessToken, err
}

// httpClient trusts the lab's public CA and keeps no connection open.
func (l *lab) httpClient() (*http.Client, error) {
	c, err := l.clientTLS()
	if err != nil {
		return nil, err
	}
	return &http.Client{Transport: &http.Transport{TLSClientConfig: c, DisableKeepAlives: true}, Timeout: 15 * time.Second}, nil
}

// clientTLS trusts the lab's public CA.
func (l *lab) clientTLS() (*tls.Config, error) {
	b, err := os.ReadFile(l.path("ca.pem"))
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(b)
	return &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}, nil
}
