package main

import (
	"context"
	"crypto/tls"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/opencmg/opencmg/internal/web"
	"github.com/opencmg/opencmg/labcloud"
	"github.com/opencmg/opencmg/pki"
)

// A LabCloudConfig configures the lab's stand-in for Azure and Microsoft Entra
// ID. The lab writes it.
type LabCloudConfig struct {
	Listen          string            `yaml:"listen"`
	Private         string            `yaml:"private"`
	Certificate     string            `yaml:"certificate"`
	Key             string            `yaml:"key"`
	AdminSecretFile string            `yaml:"adminSecretFile"`
	StateDir        string            `yaml:"stateDir"`
	Tenant          string            `yaml:"tenant"`
	Subscription    string            `yaml:"subscription"`
	DeployerID      string            `yaml:"deployerId"` // the app that an administrator signs in by
	DeployerSecret  string            `yaml:"deployerSecret"`
	Registered      labRegistrations  `yaml:"registered"` // apps that were made in the portal
	Devices         map[string]string `yaml:"devices"`    // device ID to secret
	Users           []labUser         `yaml:"users"`
	// Frontends are the loopback addresses of the first public IP address's
	// ports.
	Frontends map[int]string `yaml:"frontends"`
	// MachinePrivate are the addresses of the machines' metrics and health,
	// by instance ID.
	MachinePrivate []string  `yaml:"machinePrivate"`
	MachineLogs    string    `yaml:"machineLogs"`
	Lifeline       string    `yaml:"lifeline"`
	Log            LogConfig `yaml:"log,omitempty"`
}

func serveLabCloud(ctx context.Context, e *env, args []string) error {
	flags, err := parseServe(e, "lab-cloud serve", args)
	if err != nil {
		return err
	}
	var c LabCloudConfig
	if err := loadYAML(flags.config, &c); err != nil {
		return err
	}
	base := filepath.Dir(flags.config)
	log, closeLog, err := openLog(c.Log, e, "LabCloud", base)
	if err != nil {
		return err
	}
	defer closeLog()
	pair, err := pki.LoadKeyPair(relativeTo(base, c.Certificate), relativeTo(base, c.Key))
	if err != nil {
		return err
	}
	secret, err := os.ReadFile(relativeTo(base, c.AdminSecretFile))
	if err != nil {
		return fmt.Errorf("adminSecretFile: %w", err)
	}
	stateDir := relativeTo(base, c.StateDir)
	machines := &machineRoom{logDir: c.MachineLogs, logLevel: c.Log.Level, lifeline: c.Lifeline, private: c.MachinePrivate, programs: filepath.Join(stateDir, "programs")}
	if err := os.MkdirAll(machines.programs, 0o700); err != nil {
		return fmt.Errorf("stateDir: %w", err)
	}
	cfg := labcloud.Config{
		Hosts:         labcloud.LabHosts(),
		Certificate:   pair,
		Tenants:       []labcloud.Tenant{{ID: c.Tenant, Name: "Lab"}},
		Subscriptions: []labcloud.Subscription{{ID: c.Subscription, Tenant: c.Tenant, Name: "Lab"}},
		Apps: []labcloud.App{{
			Tenant: c.Tenant, ID: c.DeployerID, Name: "Lab administrator", Secret: c.DeployerSecret,
			GraphRoles: []string{"Application.ReadWrite.All", "Directory.Read.All", "AppRoleAssignment.ReadWrite.All", "DelegatedPermissionGrant.ReadWrite.All"},
		}, {
			Tenant: c.Tenant, ID: c.Registered.ServerApp.ClientID, Name: c.Registered.ServerApp.Name, ResourceURI: c.Registered.ServerApp.AppIDURI,
			Secret: c.Registered.ServerApp.Secret, SecretExpires: c.Registered.ServerApp.SecretExpires,
		}, {
			Tenant: c.Tenant, ID: c.Registered.ClientApp.ClientID, Name: c.Registered.ClientApp.Name, Public: true,
		}},
		AdminSecret:  strings.TrimSpace(string(secret)),
		StateDir:     stateDir,
		StartMachine: machines.start, AdoptMachine: machines.adopt,
		Frontends: c.Frontends, RetryAfter: 5 * time.Millisecond, ProbeInterval: 50 * time.Millisecond,
		Log: log,
	}
	for id, secret := range c.Devices {
		cfg.Devices = append(cfg.Devices, labcloud.Device{Tenant: c.Tenant, ID: id, Secret: secret})
	}
	for _, u := range c.Users {
		cfg.Users = append(cfg.Users, labcloud.User{Tenant: c.Tenant, ID: u.ID, UPN: u.UPN, DisplayName: u.Name, Password: u.Password})
	}
	s, err := labcloud.New(cfg)
	if err != nil {
		return err
	}
	ln, err := listen("listen", c.Listen)
	if err != nil {
		return err
	}
	ctx, cancel := flags.context(ctx, e)
	defer cancel()
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return servePrivate(ctx, c.Private) })
	g.Go(func() error { return s.Serve(ctx, ln) })
	return g.Wait()
}

// A LabCRLConfig configures the lab's revocation list server: it serves the
// files of one directory over HTTP, as revocation lists are served.
type LabCRLConfig struct {
	Listen  string `yaml:"listen"`
	Private string `yaml:"private"`
	Dir     string `yaml:"dir"`
}

func serveLabCRL(ctx context.Context, e *env, args []string) error {
	flags, err := parseServe(e, "lab-crl serve", args)
	if err != nil {
		return err
	}
	var c LabCRLConfig
	if err := loadYAML(flags.config, &c); err != nil {
		return err
	}
	root, err := os.OpenRoot(relativeTo(filepath.Dir(flags.config), c.Dir))
	if err != nil {
		return fmt.Errorf("dir: %w", err)
	}
	defer root.Close()
	ln, err := listen("listen", c.Listen)
	if err != nil {
		return err
	}
	ctx, cancel := flags.context(ctx, e)
	defer cancel()
	srv := &http.Server{Handler: http.FileServerFS(root.FS()), ReadHeaderTimeout: 10 * time.Second}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return servePrivate(ctx, c.Private) })
	g.Go(func() error {
		defer context.AfterFunc(ctx, func() { srv.Close() })()
		if err := srv.Serve(ln); err != http.ErrServerClosed {
			return err
		}
		return nil
	})
	return g.Wait()
}

// servePrivate serves health and the process's own metrics.
func servePrivate(ctx context.Context, addr string) error {
	ln, err := listen("private", addr)
	if err != nil || ln == nil {
		return err
	}
	p := &web.Private{Registry: newRegistry()}
	return p.Serve(ctx, ln)
}

// certificateFor issues a server certificate for names on loopback.
func certificateFor(ca *pki.Authority, now time.Time, names ...string) (tls.Certificate, error) {
	t := pki.Template{CommonName: names[0], Server: true}
	t.DNSNames, t.IPs = splitHosts(names)
	return ca.IssueKeyPair(t, now)
}
