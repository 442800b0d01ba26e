package main

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"github.com/goccy/go-yaml"
	"golang.org/x/sync/errgroup"

	"github.com/opencmg/opencmg"
	"github.com/opencmg/opencmg/internal/admincli"
	"github.com/opencmg/opencmg/internal/probe"
	"github.com/opencmg/opencmg/internal/redact"
	"github.com/opencmg/opencmg/internal/web"
	"github.com/opencmg/opencmg/pki"
	"github.com/opencmg/opencmg/site"
	"github.com/opencmg/opencmg/site/console"
	"github.com/opencmg/opencmg/sitedb"
)

// A SiteServerConfig is the configuration file of a site server. Every key may
// be left out: without a file the site lives in the directory opencmg-site.
// Relative paths are relative to the file.
type SiteServerConfig struct {
	// Site is the site code, three letters or digits. Only the first start
	// needs it; default P01.
	Site opencmg.SiteCode `yaml:"site,omitempty"`
	// DataDir keeps the database, the key of its secrets, and the files that
	// say how to sign in; default opencmg-site. It is made when missing.
	DataDir string `yaml:"dataDir,omitempty"`
	// DatabaseFile names a file with the address of a PostgreSQL database
	// (postgres://user:password@host/name) on its first line. Without it the
	// database is the SQLite file site.db in dataDir.
	DatabaseFile string `yaml:"databaseFile,omitempty"`
	// Listen is where administrators and site systems reach the site; default
	// ":8443".
	Listen string `yaml:"listen,omitempty"`
	// URL is how they write it; default https:// with this host's name and
	// the port of listen.
	URL string `yaml:"url,omitempty"`
	// Addresses are further names and IP addresses of this host, for the
	// site's own certificate.
	Addresses []string `yaml:"addresses,omitempty"`
	// Environments are the clouds that may be chosen; default
	// AzurePublicCloud and AzureUSGovernmentCloud.
	Environments []opencmg.Environment `yaml:"environments,omitempty"`
	// Program is the gateway program (linux, amd64) that machines in the
	// cloud run; default is this program when it runs on linux.
	Program string `yaml:"program,omitempty"`
	// Poll is how often machines that start are looked at, in milliseconds;
	// default 5000.
	Poll int `yaml:"poll,omitempty"`
	// Notify says who else hears of alerts.
	Notify SiteNotify `yaml:"notify,omitempty"`
	// Outbound is the way to the clouds; gateways get it, too, except for the
	// credentials of the proxy.
	Outbound OutboundConfig `yaml:"outbound,omitempty"`
	// Private serves metrics and health; default "127.0.0.1:9443". "off" opens
	// none.
	Private string `yaml:"private,omitempty"`
	// Log's dir has the log files of the site and, below instances, what it
	// keeps of gateway instances and site systems; default is logs in the data
	// directory, "off" writes none and keeps none.
	Log LogConfig `yaml:"log,omitempty"`
}

func (c *SiteServerConfig) fill() error {
	setDefault(&c.DataDir, "opencmg-site")
	setDefault(&c.Listen, ":8443")
	setDefault(&c.Private, "127.0.0.1:9443")
	host, port, err := net.SplitHostPort(c.Listen)
	if err != nil {
		return opencmg.Errorf(opencmg.Invalid, "listen: must be host:port or :port, is %q", c.Listen)
	}
	if name, err := os.Hostname(); err == nil {
		c.Addresses = append(c.Addresses, name)
		if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
			host = name
		}
	}
	c.Addresses = append(c.Addresses, "localhost", "127.0.0.1", "::1", host)
	setDefault(&c.URL, "https://"+net.JoinHostPort(host, port))
	u, err := url.Parse(c.URL)
	if err != nil || u.Scheme != "https" || u.Host == "" {
		return opencmg.Errorf(opencmg.Invalid, "url: must be like https://site.corp.example:8443, is %q", c.URL)
	}
	c.Addresses = append(c.Addresses, u.Hostname())
	for i, e := range c.Environments {
		if c.Environments[i], err = opencmg.ParseEnvironment(string(e)); err != nil {
			return fmt.Errorf("environments: %w", err)
		}
	}
	return nil
}

// Files of a site's data directory.
const (
	siteDatabase  = "site.db"
	siteKeyFile   = "site.key"
	siteTokenFile = "administrator.token"
)

// siteFlags are the flags of the site's commands.
type siteFlags struct {
	serveFlags
	dataDir, listen string
	site            string
}

func (f *siteFlags) register(fs *flag.FlagSet) {
	fs.StringVar(&f.config, "config", "", "configuration `file`; without it the defaults hold")
	fs.StringVar(&f.dataDir, "data-dir", "", "data `directory`; default opencmg-site")
}

// load reads the configuration, if there is one, and lets the flags replace
// it. base is what its paths are relative to.
func (f *siteFlags) load() (c *SiteServerConfig, base string, err error) {
	c = &SiteServerConfig{}
	if f.config != "" {
		if err := loadYAML(f.config, c); err != nil {
			return nil, "", err
		}
		base = filepath.Dir(f.config)
	}
	if f.dataDir != "" {
		if c.DataDir, err = filepath.Abs(f.dataDir); err != nil {
			return nil, "", err
		}
	}
	c.Listen = cmp.Or(f.listen, c.Listen)
	c.Site = cmp.Or(opencmg.SiteCode(f.site), c.Site)
	if err := c.fill(); err != nil {
		return nil, "", err
	}
	if c.Outbound, err = f.outbound.Add(c.Outbound); err != nil {
		return nil, "", err
	}
	c.DataDir = relativeTo(base, c.DataDir)
	return c, base, requireDir("dataDir", c.DataDir)
}

// logs says where log files are.
func (c *SiteServerConfig) logs(base string) (site.Logs, error) {
	dir := relativeTo(base, c.Log.Dir)
	switch c.Log.Dir {
	case "off":
		return site.Logs{}, nil
	case "":
		dir = filepath.Join(c.DataDir, "logs")
	}
	dir, err := filepath.Abs(dir)
	return site.Logs{Own: dir, Kept: filepath.Join(dir, "instances")}, err
}

// database says where the site's database is.
func (c *SiteServerConfig) database(base string) (sitedb.Config, error) {
	db := sitedb.Config{KeyFile: filepath.Join(c.DataDir, siteKeyFile)}
	if c.DatabaseFile == "" {
		db.Path = filepath.Join(c.DataDir, siteDatabase)
		return db, nil
	}
	b, err := os.ReadFile(relativeTo(base, c.DatabaseFile))
	if err != nil {
		return db, fmt.Errorf("databaseFile: %w", err)
	}
	db.DSN, _, _ = strings.Cut(strings.TrimSpace(string(b)), "\n")
	return db, nil
}

func serveSite(ctx context.Context, e *env, args []string) error {
	var f siteFlags
	fs := newFlags(e, "site serve")
	f.register(fs)
	fs.StringVar(&f.listen, "listen", "", "`address` for administrators and site systems; default :8443")
	fs.StringVar(&f.site, "site-code", "", "three-character `code` of a new site; default P01")
	fs.BoolVar(&f.withParent, "until-stdin-closes", false, "stop when standard input ends, so that no process outlives the one that started it")
	f.outbound.Register(fs)
	if err := parseFlags(fs, args, 0); err != nil {
		return err
	}
	c, base, err := f.load()
	if err != nil {
		return err
	}
	// The ports come first: a site that can not be reached is not made.
	ln, err := listen("listen", c.Listen)
	if err != nil {
		return err
	}
	defer ln.Close()
	private, err := listen("private", c.Private)
	if err != nil {
		return err
	}
	if private != nil {
		defer private.Close()
	}
	logs, err := c.logs(base)
	if err != nil {
		return err
	}
	log, closeLog, err := openLog(LogConfig{Dir: logs.Own, Level: c.Log.Level}, e, "CloudMgr", base)
	if err != nil {
		return err
	}
	defer closeLog()
	httpClient, err := c.Outbound.Client(base, 2*time.Minute, log)
	if err != nil {
		return err
	}
	program, err := c.program(base)
	if err != nil {
		return err
	}
	dbConfig, err := c.database(base)
	if err != nil {
		return err
	}
	dbConfig.Log = log
	db, err := sitedb.Open(ctx, dbConfig)
	if err != nil {
		return err
	}
	defer db.Close()
	caPEM, err := c.Outbound.PEM(base)
	if err != nil {
		return err
	}
	notify, err := c.Notify.senders(base, httpClient)
	if err != nil {
		return err
	}
	look, err := probe.New(probe.Config{Outbound: c.Outbound, Base: base})
	if err != nil {
		return err
	}
	shown, err := yaml.Marshal(c)
	if err != nil {
		return err
	}
	poll := time.Duration(c.Poll) * time.Millisecond
	clouds := &clouds{http: httpClient, log: log, poll: poll}
	registry := newRegistry()
	outside, _ := httpClient.Transport.(*http.Transport)
	s, err := site.New(ctx, site.Config{
		GatewayTransport: outside,
		DB:               db, Site: firstSite(ctx, db, c.Site), URL: c.URL, Addresses: c.Addresses, Environments: c.Environments,
		HTTP: httpClient, Cloud: clouds.cloud, Directory: clouds.directory, Program: program, Poll: poll, OnStep: onSiteStep,
		Bootstrap: site.Bootstrap{Proxy: c.Outbound.Proxy, CAPEM: caPEM, ConnectTo: c.Outbound.ConnectTo, ConnectOnly: c.Outbound.ConnectOnly},
		Probe:     look.Look, Notify: notify, Log: log, Logs: logs, Configuration: redact.Text(shown), Registry: registry, Version: version(),
	})
	if err != nil {
		return err
	}
	if err := announceSite(e, c, s); err != nil {
		return err
	}
	ctx, cancel := f.context(ctx, e)
	defer cancel()
	g, ctx := errgroup.WithContext(ctx)
	if private != nil {
		p := &web.Private{Records: web.NewRecords(1), Registry: registry, Ready: s.Ready, Log: log}
		g.Go(func() error { return p.Serve(ctx, private) })
	}
	g.Go(func() error { return s.Serve(ctx, ln) })
	return g.Wait()
}

// onSiteStep is called at every step of an operation; the program's tests end
// the process there.
var onSiteStep func(operation, step string)

// defaultSite is the code of a site whose administrator chose none.
const defaultSite = "P01"

// firstSite returns the code to open the database with: at the first start the
// chosen one or the default, later the chosen one or none.
func firstSite(ctx context.Context, db *sitedb.DB, chosen opencmg.SiteCode) opencmg.SiteCode {
	if chosen == "" {
		if sites, err := db.Objects(ctx, "site"); err == nil && len(sites) == 0 {
			return defaultSite
		}
	}
	return chosen
}

// announceSite writes the files that others need, and says how to sign in.
func announceSite(e *env, c *SiteServerConfig, s *site.Server) error {
	ca, token := filepath.Join(c.DataDir, siteCAFile), filepath.Join(c.DataDir, siteTokenFile)
	if err := pki.WriteFile(ca, s.SiteCAPEM(), 0o644); err != nil {
		return err
	}
	if err := admincli.SaveProfile(admincli.Profile{Site: c.URL, CAFile: siteCAFile, TokenFile: siteTokenFile}, filepath.Join(c.DataDir, admincli.SiteProfileFile)); err != nil {
		return err
	}
	if s.FirstStart {
		if err := pki.WriteFile(token, []byte(s.AdministratorToken+"\n"), 0o600); err != nil {
			return err
		}
		fmt.Fprintf(e.stderr, "Site %s is new. Its first administrator signs in with the token in %s;\nkeep that file as you would keep a password, and make accounts of your own (Accounts).\n", s.Code(), token)
	}
	fmt.Fprintf(e.stderr, "Site %s: console at %s%s\n", s.Code(), c.URL, console.Path)
	fmt.Fprintf(e.stderr, "Site %s: administration service at %s/AdminService/v1.0/\n  curl --cacert %s -H @<(printf 'Authorization: Bearer %%s' \"$(cat %s)\") %s/AdminService/v1.0/Site\n", s.Code(), c.URL, ca, token, c.URL)
	return nil
}

// program is what machines in the cloud run.
func (c *SiteServerConfig) program(base string) (*site.Program, error) {
	path := relativeTo(base, c.Program)
	if path == "" {
		if runtime.GOOS != "linux" {
			return nil, nil
		}
		self, err := os.Executable()
		if err != nil {
			return nil, nil
		}
		path = self
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("program: %w", err)
	}
	defer f.Close()
	h := sha256.New()
	n, err := io.Copy(h, f)
	if err != nil {
		return nil, fmt.Errorf("program: %w", err)
	}
	sum := hex.EncodeToString(h.Sum(nil))
	return &site.Program{Name: "opencmg-" + sum[:16], Size: n, SHA256: sum, Open: func() (io.ReadSeekCloser, error) { return os.Open(path) }}, nil
}

func backUpSite(ctx context.Context, e *env, args []string) error {
	var f siteFlags
	fs := newFlags(e, "site backup")
	f.register(fs)
	to := fs.String("to", "", "`file` to write; it must not exist")
	if err := parseFlags(fs, args, 0); err != nil {
		return err
	}
	if *to == "" {
		return usagef("site backup: --to is needed")
	}
	c, base, err := f.load()
	if err != nil {
		return err
	}
	dbConfig, err := c.database(base)
	if err != nil {
		return err
	}
	db, err := sitedb.Open(ctx, dbConfig)
	if err != nil {
		return err
	}
	defer db.Close()
	out, err := os.OpenFile(*to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("site backup: %w", err)
	}
	rows := int64(0)
	err = db.Backup(ctx, out, func(table string, n int64) {
		rows += n
		fmt.Fprintf(e.stderr, "  %-24s %d rows\n", table, n)
	})
	if err = errors.Join(err, out.Sync(), out.Close()); err != nil {
		os.Remove(*to)
		return err
	}
	fmt.Fprintf(e.stderr, "Keep the key file %s with the backup, in another place: without it the secrets in the backup can not be read.\n", dbConfig.KeyFile)
	return nil
}

func restoreSite(ctx context.Context, e *env, args []string) error {
	var f siteFlags
	fs := newFlags(e, "site restore")
	f.register(fs)
	from := fs.String("from", "", "backup `file`")
	key := fs.String("key", "", "key `file` that was kept with the backup")
	if err := parseFlags(fs, args, 0); err != nil {
		return err
	}
	if *from == "" || *key == "" {
		return usagef("site restore: --from and --key are needed")
	}
	c, base, err := f.load()
	if err != nil {
		return err
	}
	dbConfig, err := c.database(base)
	if err != nil {
		return err
	}
	in, err := os.Open(*from)
	if err != nil {
		return fmt.Errorf("site restore: %w", err)
	}
	defer in.Close()
	b, err := os.ReadFile(*key)
	if err != nil {
		return fmt.Errorf("site restore: %w", err)
	}
	// The key may be in its place already; then it is not ours to take away.
	placed, err := os.Stat(dbConfig.KeyFile)
	ours := err != nil
	if !ours {
		if from, err := os.Stat(*key); err != nil || !os.SameFile(from, placed) {
			return opencmg.Errorf(opencmg.Conflict, "%s exists: restore into an empty data directory", dbConfig.KeyFile)
		}
	} else if err := pki.WriteFile(dbConfig.KeyFile, b, 0o600); err != nil {
		return err
	}
	if err := sitedb.Restore(ctx, dbConfig, in); err != nil {
		if ours {
			os.Remove(dbConfig.KeyFile)
		}
		return err
	}
	fmt.Fprintln(e.stderr, "restored; start the site with opencmg site serve")
	return nil
}

// httpPost sends a small document, for notifications.
func httpPost(ctx context.Context, c *http.Client, address, contentType string, body io.Reader) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, address, body)
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", contentType)
	res, err := c.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	io.Copy(io.Discard, io.LimitReader(res.Body, 64<<10))
	if res.StatusCode >= 300 {
		return fmt.Errorf("answered %s", res.Status)
	}
	return nil
}
