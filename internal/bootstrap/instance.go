package bootstrap

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/opencmg/opencmg"
	"github.com/opencmg/opencmg/internal/keyvault"
	"github.com/opencmg/opencmg/pki"
)

// Files in the state directory that hold what came from the vault, 0600.
const (
	fileCertificate = "vault-server-certificate.pfx"
	fileIdentity    = "vault-instance.json"
)

// An InstanceConfig says how an [Instance] gets what it needs.
type InstanceConfig struct {
	// Document is filled and has a cloud section.
	Document *Gateway
	StateDir string // where to keep what came; must exist
	HTTP     *http.Client
	// Metadata is the client for the instance metadata service, without a
	// proxy.
	Metadata *http.Client
	Log      *slog.Logger
	// Poll is how often the vault is looked at when nothing tells of a change;
	// default 12 h.
	Poll time.Duration
	// Retry is the first pause after a failed attempt, which then doubles up
	// to thirty times that; default 2 s.
	Retry time.Duration
}

// An Instance is a gateway instance on a machine of a cloud. It is safe for
// concurrent use.
type Instance struct {
	cfg      InstanceConfig
	doc      *Gateway
	log      *slog.Logger
	metadata *keyvault.Metadata
	vault    *keyvault.Client

	machine string // number in the scale set
	number  int
	siteCA  *x509.Certificate
	tunnel  atomic.Pointer[tls.Certificate]
	server  atomic.Pointer[tls.Certificate]

	said      map[string]string // owned by Run: what was wrong at last
	announced chan struct{}     // has room for one: want changed
	mu        sync.Mutex        // guards want
	want      string            // announced thumbprint; empty: none
}

// NewInstance makes an instance that knows nothing yet.
func NewInstance(cfg InstanceConfig) (*Instance, error) {
	if cfg.Document == nil || cfg.Document.Cloud == nil || cfg.StateDir == "" {
		return nil, opencmg.Errorf(opencmg.Invalid, "bootstrap: a document with a cloud section and a state directory are needed")
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	cfg.Poll, cfg.Retry = cmp.Or(cfg.Poll, 12*time.Hour), cmp.Or(cfg.Retry, 2*time.Second)
	cloud := cfg.Document.Cloud
	i := &Instance{
		cfg: cfg, doc: cfg.Document, log: cfg.Log, announced: make(chan struct{}, 1), said: map[string]string{},
		metadata: &keyvault.Metadata{URL: cloud.Metadata, HTTP: cfg.Metadata},
	}
	var err error
	i.vault, err = keyvault.New(keyvault.Config{
		Vault: cloud.Vault, Audience: cloud.VaultAudience, ClientID: cloud.IdentityClientID, Metadata: i.metadata, HTTP: cfg.HTTP,
	})
	return i, err
}

// Start returns when the instance has its identity and a server certificate:
// at once when both were kept from the last run, otherwise when the site has
// written them. While it waits it says why, at most once a minute. It ends with
// ctx.
func (i *Instance) Start(ctx context.Context) error {
	kept := i.loadIdentity()
	if err := i.await(ctx, "which machine this is", func() error { return i.findMachine(ctx, kept) }); err != nil {
		return err
	}
	if kept != nil && kept.Machine == i.machine {
		if err := i.useIdentity(kept.Identity); err != nil {
			i.log.Error("the kept identity is not usable, asking the vault", "err", err)
		}
	}
	if i.tunnel.Load() == nil {
		if err := i.await(ctx, "identity of this instance", func() error { return i.fetchIdentity(ctx) }); err != nil {
			return err
		}
	}
	if err := i.loadCertificate(); err != nil {
		i.log.Error("the kept server certificate is not usable, asking the vault", "err", err)
	}
	if i.server.Load() == nil {
		if err := i.await(ctx, "server certificate", func() error { return i.fetchCertificate(ctx) }); err != nil {
			return err
		}
	}
	return nil
}

// await repeats get until it succeeds.
func (i *Instance) await(ctx context.Context, what string, get func() error) error {
	var said time.Time
	for pause := i.cfg.Retry; ; pause = min(2*pause, 15*i.cfg.Retry) {
		err := get()
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return fmt.Errorf("%s: %w", what, context.Cause(ctx))
		}
		if time.Since(said) >= time.Minute {
			said = time.Now()
			text := "waiting for the cloud"
			if errors.Is(err, opencmg.NotFound) {
				text = "waiting for the site to write it to the key vault"
			}
			i.log.Warn(text, "for", what, "err", err)
		}
		if !sleep(ctx, jitter(pause)) {
			return fmt.Errorf("%s: %w", what, context.Cause(ctx))
		}
	}
}

// jitter keeps the instances of a gateway from asking at the same time.
func jitter(d time.Duration) time.Duration { return d/2 + rand.N(d/2+1) }

func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}

// findMachine learns the machine's number. A metadata service that does not
// answer is no reason not to serve again with what was kept.
func (i *Instance) findMachine(ctx context.Context, kept *keptIdentity) error {
	if kept != nil {
		short, cancel := context.WithTimeout(ctx, 5*time.Second)
		defer cancel()
		ctx = short
	}
	m, err := i.metadata.Machine(ctx)
	if err != nil && kept != nil && !errors.Is(err, opencmg.Invalid) {
		i.log.Warn("the metadata service does not answer, starting with what was kept", "err", err)
		i.machine = kept.Machine
		return nil
	}
	i.machine = m.ID
	return err
}

// keptIdentity is the content of fileIdentity.
type keptIdentity struct {
	Machine string `json:"machine"`
	Identity
}

func (i *Instance) loadIdentity() *keptIdentity {
	b, err := os.ReadFile(filepath.Join(i.cfg.StateDir, fileIdentity))
	var k keptIdentity
	if err == nil && (json.Unmarshal(b, &k) != nil || k.Machine == "") {
		err = opencmg.Errorf(opencmg.Invalid, "%s is damaged", fileIdentity)
	}
	if err == nil {
		return &k
	}
	if !errors.Is(err, fs.ErrNotExist) {
		i.log.Error("the kept identity is not usable, asking the vault", "err", err)
	}
	return nil
}

// useIdentity takes an identity. The instance number stays what it is until
// the process starts again.
func (i *Instance) useIdentity(id Identity) error {
	ca, pair, err := id.parse(i.doc.Site, i.doc.Gateway, time.Now())
	if err != nil {
		return err
	}
	if old := i.tunnel.Load(); old == nil {
		i.number, i.siteCA = id.Instance, ca
	} else if id.Instance != i.number || !ca.Equal(i.siteCA) {
		return errRestart
	}
	i.tunnel.Store(&pair)
	return nil
}

var errRestart = opencmg.Errorf(opencmg.Conflict, "the site gave this machine another instance number or site CA: the process must start again to use it")

// fetchIdentity reads the identity from the vault, uses and keeps it.
func (i *Instance) fetchIdentity(ctx context.Context) error {
	name := InstanceSecret(i.machine)
	s, err := i.vault.Secret(ctx, name)
	if err != nil {
		return err
	}
	var id Identity
	if json.Unmarshal([]byte(s.Value), &id) != nil {
		return opencmg.Errorf(opencmg.Invalid, "secret %s of the vault is not the JSON that the site writes", name)
	}
	old := i.tunnel.Load()
	err = i.useIdentity(id)
	if err != nil && err != errRestart {
		return fmt.Errorf("secret %s of the vault: %w", name, err)
	}
	if err == nil && old != nil && old.Leaf.Equal(i.tunnel.Load().Leaf) {
		return nil
	}
	b, merr := json.Marshal(keptIdentity{i.machine, id})
	if merr == nil {
		merr = pki.WriteFile(filepath.Join(i.cfg.StateDir, fileIdentity), b, 0o600)
	}
	if merr != nil {
		i.log.Error("the identity is not kept: a restart will need the vault", "err", merr)
	}
	if err == nil {
		i.log.Info("identity from the vault", "machine", i.machine, "instance", i.number, "not_after", i.tunnel.Load().Leaf.NotAfter)
	}
	return err
}

func (i *Instance) loadCertificate() error {
	pfx, err := os.ReadFile(filepath.Join(i.cfg.StateDir, fileCertificate))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	cert, err := pki.ParseServerPFX(pfx, nil, i.doc.ServiceName, time.Now())
	if err == nil {
		i.server.Store(&cert)
	}
	return err
}

// fetchCertificate reads the server certificate from the vault, uses and keeps
// it. While there is one in use it takes no other than the announced one.
func (i *Instance) fetchCertificate(ctx context.Context) error {
	s, err := i.vault.Secret(ctx, SecretServerCertificate)
	if err != nil {
		return err
	}
	pfx, err := base64.StdEncoding.DecodeString(strings.TrimSpace(s.Value))
	if err != nil {
		// The decoder's error tells a position only, but the site's mistake is
		// the same wherever it is.
		return opencmg.Errorf(opencmg.Invalid, "secret %s of the vault is not a PKCS #12 file in base64", SecretServerCertificate)
	}
	cert, err := pki.ParseServerPFX(pfx, nil, i.doc.ServiceName, time.Now())
	if err != nil {
		return fmt.Errorf("secret %s of the vault: %w", SecretServerCertificate, err)
	}
	old := i.server.Load()
	if old != nil {
		if old.Leaf.Equal(cert.Leaf) {
			return nil
		}
		if want := i.wanted(); want != "" && pki.Thumbprint(cert.Leaf) != want {
			return opencmg.Errorf(opencmg.Conflict, "secret %s of the vault holds the certificate %s, and the published configuration announces %s", SecretServerCertificate, pki.Thumbprint(cert.Leaf), want)
		}
	}
	if err := pki.WriteFile(filepath.Join(i.cfg.StateDir, fileCertificate), pfx, 0o600); err != nil {
		i.log.Error("the server certificate is not kept: a restart will need the vault", "err", err)
	}
	i.server.Store(&cert)
	i.log.Info("server certificate from the vault", "subject", cert.Leaf.Subject.String(), "thumbprint", pki.Thumbprint(cert.Leaf), "not_after", cert.Leaf.NotAfter, "replaces", old != nil)
	return nil
}

// Machine is the machine's number in its scale set. It and the rest are known
// after Start.
func (i *Instance) Machine() string { return i.machine }

// Number is the instance number.
func (i *Instance) Number() int { return i.number }

// SiteCA is the certificate of the site CA.
func (i *Instance) SiteCA() *x509.Certificate { return i.siteCA }

// TunnelCertificate returns the certificate for tunnels now in use.
func (i *Instance) TunnelCertificate() *tls.Certificate { return i.tunnel.Load() }

// GetCertificate is for [tls.Config]: the server certificate now in use.
func (i *Instance) GetCertificate(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	return i.server.Load(), nil
}

// OnConfiguration tells the instance which server certificate the published
// configuration announces. It returns at once.
func (i *Instance) OnConfiguration(c *opencmg.PublishedConfiguration) {
	i.mu.Lock()
	changed := i.want != c.ServerCertificate
	i.want = c.ServerCertificate
	i.mu.Unlock()
	if changed {
		select {
		case i.announced <- struct{}{}:
		default:
		}
	}
}

func (i *Instance) wanted() string {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.want
}

// behind reports whether another certificate was announced than is in use.
func (i *Instance) behind() bool {
	want, have := i.wanted(), i.server.Load()
	return want != "" && (have == nil || pki.Thumbprint(have.Leaf) != want)
}

// Run follows the vault until ctx ends: a look soon after the start, one every
// Poll, and at once when a certificate is announced that is not in use, then
// again with growing pauses until it is. It ends with an error when the process
// must start again.
func (i *Instance) Run(ctx context.Context) error {
	first, longest := i.cfg.Retry, 30*i.cfg.Retry
	pause := first
	next := time.NewTimer(jitter(longest))
	defer next.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-i.announced:
			pause = first
			if i.behind() {
				next.Reset(jitter(first))
			}
			continue
		case <-next.C:
		}
		cert := i.report("server certificate", i.fetchCertificate(ctx))
		err := i.fetchIdentity(ctx)
		if err == errRestart {
			return err
		}
		identity := i.report("identity", err)
		if cert && identity && !i.behind() {
			pause = first
			next.Reset(jitter(i.cfg.Poll))
			continue
		}
		next.Reset(jitter(pause))
		pause = min(2*pause, longest)
	}
}

// report logs what is wrong with the vault's copy, once as long as it stays the
// same, and reports whether nothing is.
func (i *Instance) report(what string, err error) bool {
	if err == nil {
		delete(i.said, what)
		return true
	}
	if i.said[what] != err.Error() {
		i.said[what] = err.Error()
		i.log.Error("the vault's "+what+" is not usable, the old one stays", "err", err)
	}
	return false
}
