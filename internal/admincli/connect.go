package admincli

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"flag"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/goccy/go-yaml"

	"github.com/opencmg/opencmg"
	"github.com/opencmg/opencmg/adminservice"
	"github.com/opencmg/opencmg/pki"
)

// A Profile says where a site is and how to sign in. As a file it is YAML;
// relative paths in it are relative to the file.
type Profile struct {
	// Site is the URL, such as https://site.corp.example:8443.
	Site string `yaml:"site"`
	// CAFile holds the site CA in PEM; empty trusts what the system trusts.
	CAFile string `yaml:"caFile,omitempty"`
	// TokenFile holds a local administrator token or an Entra access token in
	// its first line.
	TokenFile string `yaml:"tokenFile,omitempty"`
	// CertFile and KeyFile sign in by client certificate (PEM).
	CertFile string `yaml:"certFile,omitempty"`
	KeyFile  string `yaml:"keyFile,omitempty"`

	token  adminservice.Secret // from the environment
	source string              // where this is from
}

// Environment variables that say the same as a profile. They go before it, and
// flags go before them.
const (
	envSite      = "OPENCMG_SITE"
	envCAFile    = "OPENCMG_CA_FILE"
	envToken     = "OPENCMG_TOKEN"
	envTokenFile = "OPENCMG_TOKEN_FILE"
	envCertFile  = "OPENCMG_CERT_FILE"
	envKeyFile   = "OPENCMG_KEY_FILE"
	envProfile   = "OPENCMG_PROFILE"
)

// SiteProfileFile is the profile that a site server writes into its data
// directory for whoever administers it on the same host.
const SiteProfileFile = "administrator.yaml"

// connection is the flags that every command has which talks to a site.
type connection struct {
	p       Profile
	profile string
}

func (c *connection) register(fs *flag.FlagSet) {
	fs.StringVar(&c.p.Site, "site", "", "`URL` of the site; default is that of the profile, else of a site on this host, else of the running lab")
	fs.StringVar(&c.p.CAFile, "ca-file", "", "`file` with the site CA")
	fs.StringVar(&c.p.TokenFile, "token-file", "", "`file` with the administrator's token")
	fs.StringVar(&c.p.CertFile, "cert-file", "", "client certificate `file` to sign in with")
	fs.StringVar(&c.p.KeyFile, "key-file", "", "`file` with its key")
	fs.StringVar(&c.profile, "profile", "", "`file` that says all of this; opencmg connect writes one")
}

// find returns the profile that holds: flags before the environment, that before
// a profile.
func (c *connection) find(e *Env) (Profile, error) {
	p := c.p
	for _, v := range []struct {
		to  *string
		env string
	}{{&p.Site, envSite}, {&p.CAFile, envCAFile}, {&p.TokenFile, envTokenFile}, {&p.CertFile, envCertFile}, {&p.KeyFile, envKeyFile}} {
		if *v.to == "" {
			*v.to = e.Getenv(v.env)
		}
	}
	p.token = adminservice.Secret(e.Getenv(envToken))
	if p.Site != "" {
		p.source = "the command line or the environment"
		return p, nil
	}
	found, err := c.base(e)
	if err != nil {
		return p, err
	}
	for _, v := range []struct{ to, from *string }{{&found.CAFile, &p.CAFile}, {&found.TokenFile, &p.TokenFile}, {&found.CertFile, &p.CertFile}, {&found.KeyFile, &p.KeyFile}} {
		if *v.from != "" {
			*v.to = *v.from
		}
	}
	found.token = p.token
	return found, nil
}

// base is the profile that is named, or the first that exists.
func (c *connection) base(e *Env) (Profile, error) {
	if c.profile == "" {
		c.profile = e.Getenv(envProfile)
	}
	if c.profile != "" {
		return loadProfile(c.profile)
	}
	var tried []string
	for _, path := range []string{userProfile(), filepath.Join("opencmg-site", SiteProfileFile)} {
		if path == "" {
			continue
		}
		p, err := loadProfile(path)
		if !errors.Is(err, os.ErrNotExist) {
			return p, err
		}
		tried = append(tried, path)
	}
	if e.FindLab != nil {
		p, err := e.FindLab()
		if err == nil {
			p.source = "the running lab"
			return p, nil
		}
	}
	return Profile{}, opencmg.Errorf(opencmg.NotFound, "no site is known: there is neither %s, nor does a lab run here. Name the site with --site, --ca-file and --token-file, and keep that with opencmg connect; or start opencmg lab", strings.Join(tried, " nor "))
}

// userProfile is where "opencmg connect" keeps the profile of this user.
func userProfile() string {
	dir, err := os.UserConfigDir()
	if err != nil {
		return ""
	}
	return filepath.Join(dir, "opencmg", "site.yaml")
}

func loadProfile(path string) (Profile, error) {
	var p Profile
	b, err := os.ReadFile(path)
	if err != nil {
		return p, fmt.Errorf("profile: %w", err)
	}
	if err := yaml.UnmarshalWithOptions(b, &p, yaml.Strict()); err != nil {
		return p, opencmg.Errorf(opencmg.Invalid, "profile %s: %v", path, err)
	}
	for _, f := range []*string{&p.CAFile, &p.TokenFile, &p.CertFile, &p.KeyFile} {
		if *f != "" && !filepath.IsAbs(*f) {
			*f = filepath.Join(filepath.Dir(path), *f)
		}
	}
	p.source = path
	return p, nil
}

// save writes the profile.
func (p Profile) save(path string) error {
	b, err := yaml.Marshal(p)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	return pki.WriteFile(path, b, 0o600)
}

// SaveProfile writes a profile, 0600.
func SaveProfile(p Profile, path string) error { return p.save(path) }

// Client returns a client of the site that the profile names.
func (p Profile) Client() (*adminservice.Client, error) {
	t := &tls.Config{MinVersion: tls.VersionTLS12}
	if p.CAFile != "" {
		b, err := os.ReadFile(p.CAFile)
		if err != nil {
			return nil, fmt.Errorf("the site CA: %w", err)
		}
		t.RootCAs = x509.NewCertPool()
		if !t.RootCAs.AppendCertsFromPEM(b) {
			return nil, opencmg.Errorf(opencmg.Invalid, "the site CA: %s holds no certificate: take site-ca.pem of the site server", p.CAFile)
		}
	}
	c := &adminservice.Client{URL: p.Site, Token: p.token}
	switch {
	case p.CertFile != "":
		pair, err := tls.LoadX509KeyPair(p.CertFile, p.KeyFile)
		if err != nil {
			return nil, fmt.Errorf("the administrator's certificate: %w", err)
		}
		t.Certificates = []tls.Certificate{pair}
	case c.Token == "" && p.TokenFile != "":
		b, err := os.ReadFile(p.TokenFile)
		if err != nil {
			return nil, fmt.Errorf("the administrator's token: %w", err)
		}
		line, _, _ := bytes.Cut(bytes.TrimSpace(b), []byte("\n"))
		c.Token = adminservice.Secret(strings.TrimSpace(string(line)))
	}
	if c.Token == "" && p.CertFile == "" {
		return nil, opencmg.Errorf(opencmg.Unauthorized, "nothing says how to sign in to %s: give --token-file or --cert-file, or set %s", p.Site, envToken)
	}
	c.HTTP = &http.Client{Transport: &http.Transport{TLSClientConfig: t, TLSHandshakeTimeout: 10 * time.Second, IdleConnTimeout: time.Minute, ForceAttemptHTTP2: true, Proxy: http.ProxyFromEnvironment}}
	return c, nil
}

// one parses a command line that names one thing, and returns the name with a
// client of the site.
func (c *connection) one(e *Env, fs *flag.FlagSet, args []string) (string, *adminservice.Client, error) {
	names, err := parse(fs, args, 1, 1)
	if err != nil {
		return "", nil, err
	}
	client, err := c.client(e)
	return names[0], client, err
}

// client finds the site and returns a client of it.
func (c *connection) client(e *Env) (*adminservice.Client, error) {
	p, err := c.find(e)
	if err != nil {
		return nil, err
	}
	return p.Client()
}

// Connect checks that a site can be administered, and keeps how as the profile
// of this user.
func Connect(ctx context.Context, e *Env, args []string) error {
	var c connection
	fs := e.newFlags("connect [flags]", "Check how to sign in to a site, and keep it for all other commands.")
	c.register(fs)
	if _, err := parse(fs, args, 0, 0); err != nil {
		return err
	}
	p, err := c.find(e)
	if err != nil {
		return err
	}
	client, err := p.Client()
	if err != nil {
		return err
	}
	s, err := adminservice.Get[adminservice.Site](ctx, client, "Site")
	if err != nil {
		return err
	}
	for _, f := range []*string{&p.CAFile, &p.TokenFile, &p.CertFile, &p.KeyFile} {
		if *f == "" {
			continue
		}
		if *f, err = filepath.Abs(*f); err != nil {
			return err
		}
	}
	path := c.profile
	if path == "" {
		if path = userProfile(); path == "" {
			return opencmg.Errorf(opencmg.Invalid, "this user has no configuration directory: name a file with --profile")
		}
	}
	if err := p.save(path); err != nil {
		return err
	}
	fmt.Fprintf(e.Stderr, "site %s at %s, signed in as %s (%s); kept in %s\n", s.Code, p.Site, s.Account, s.Role, path)
	if p.token != "" {
		fmt.Fprintf(e.Stderr, "the token is not kept: it comes from %s\n", envToken)
	}
	return nil
}
