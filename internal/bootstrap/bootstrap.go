// Package bootstrap is what a gateway instance starts from: the bootstrap
// document, and on a machine of a cloud the two secrets that the document must
// not hold.
//
// [Gateway] is the document. With its cloud section an [Instance] asks the
// cloud which machine this is, waits for the site to write the machine's
// identity and the server certificate into the key vault, keeps both, and
// follows the certificate from then on.
package bootstrap

import (
	"fmt"
	"net/url"
	"time"

	"github.com/opencmg/opencmg"
	"github.com/opencmg/opencmg/internal/keyvault"
	"github.com/opencmg/opencmg/internal/outbound"
)

// A Gateway is the bootstrap document of one gateway instance. All else comes
// from the site as published configuration. Relative paths are relative to the
// file.
type Gateway struct {
	// Gateway is the gateway's name at the site. Required.
	Gateway string `yaml:"gateway"`
	// ServiceName is the DNS name that clients use; the server certificate
	// must cover it. Required.
	ServiceName string `yaml:"serviceName"`
	// Instance is this instance's number, 0 to 15. Not with cloud.
	Instance int `yaml:"instance,omitempty"`
	// Site is the three-character site code. Required.
	Site opencmg.SiteCode `yaml:"site"`
	// IdentityDir holds what "opencmg publish" made for this instance:
	// site-ca.pem, identity.pem and identity.key. Required, except with cloud.
	IdentityDir string `yaml:"identityDir,omitempty"`
	// StateDir keeps the last published configuration, the revocation lists,
	// the records of requests, and with cloud what came from the vault.
	// Required; it is made when missing.
	StateDir string `yaml:"stateDir"`
	// RecordsMiB bounds the records of the last day's requests in stateDir,
	// which opencmg explain reads, in MiB; default 512, which is a day of more
	// than a million requests. -1 keeps the latest in memory only.
	RecordsMiB int `yaml:"recordsMiB,omitempty"`
	// ServerCertificate is what clients see. Required, except with cloud. A
	// changed file takes effect without a restart.
	ServerCertificate ServerCertificate `yaml:"serverCertificate,omitempty"`
	// Cloud is set on a machine of a cloud: instance, identity and server
	// certificate then come from there.
	Cloud *Cloud `yaml:"cloud,omitempty"`
	// DrainSettle is how long the load balancer may take to notice that an
	// instance which drains is no longer healthy, e.g. 15s or 500ms; default
	// 10s, at most 5m. The instance is not reported as drained before that.
	DrainSettle time.Duration `yaml:"drainSettle,omitempty"`
	// Listen holds the addresses as host:port.
	Listen Listen `yaml:"listen,omitempty"`
	// Outbound is the way to revocation lists, identity providers and the key
	// vault.
	Outbound outbound.Config `yaml:"outbound,omitempty"`
	Log      Log             `yaml:"log,omitempty"`
}

// Listen are the listeners of a gateway instance.
type Listen struct {
	// HTTPS takes clients, and tunnels over HTTPS; default ":443".
	HTTPS string `yaml:"https,omitempty"`
	// HTTP answers http-01 challenges of a certification authority and sends
	// everybody else to HTTPS; default none.
	HTTP string `yaml:"http,omitempty"`
	// Tunnel takes tunnels over TCP-TLS; default ":10140" plus the instance,
	// with cloud none. "off" opens none.
	Tunnel string `yaml:"tunnel,omitempty"`
	// TunnelHTTPS takes tunnels over HTTPS on a port of their own, for several
	// instances behind one address (documented ports 10124 plus the
	// instance); default none, with cloud ":10124", to which the load balancer
	// leads a port for each machine. "off" opens none.
	TunnelHTTPS string `yaml:"tunnelHTTPS,omitempty"`
	// Probe answers the load balancer's health probe, GET /readyz by plain
	// HTTP; default none, with cloud ":9445". "off" opens none.
	Probe string `yaml:"probe,omitempty"`
	// Private serves metrics, health and explanations; default
	// "127.0.0.1:9440". "off" opens none.
	Private string `yaml:"private,omitempty"`
}

// A ServerCertificate names the files of a server certificate: either a PFX
// with its password file, or a PEM certificate with its key.
type ServerCertificate struct {
	PFX          string `yaml:"pfx,omitempty"`
	PasswordFile string `yaml:"passwordFile,omitempty"`
	Certificate  string `yaml:"certificate,omitempty"`
	Key          string `yaml:"key,omitempty"`
}

// A Cloud says where a machine of a cloud finds what it needs.
type Cloud struct {
	// Vault is the gateway's key vault, e.g. https://example.vault.azure.net.
	// Required.
	Vault string `yaml:"vault"`
	// VaultAudience is what tokens for the vault are asked for; default is the
	// vault's address without its own name, e.g. https://vault.azure.net.
	VaultAudience string `yaml:"vaultAudience,omitempty"`
	// IdentityClientID chooses the managed identity when the machine has
	// several.
	IdentityClientID string `yaml:"identityClientID,omitempty"`
	// Metadata is the instance metadata service; default
	// http://169.254.169.254. It is called directly, never through the proxy.
	Metadata string `yaml:"metadata,omitempty"`
	// StopDelay is how many seconds an instance that is told to stop goes on
	// as before, while the probe already says no, so that the load balancer
	// sends no new client when it really stops; default 0, at most 30. A
	// balancer notices after two probes or so.
	StopDelay int `yaml:"stopDelay,omitempty"`
}

// A Log says what is logged where. Records also go to standard error as text
// when that is a terminal, and to standard output as JSON when that is not one.
type Log struct {
	// Dir receives files in CMTrace format under the names administrators
	// know, such as CMGService.log. Empty writes none.
	Dir string `yaml:"dir,omitempty"`
	// Level is debug, info (default), warn or error.
	Level string `yaml:"level,omitempty"`
}

// Fill checks the values and puts in the defaults.
func (c *Gateway) Fill() error {
	if c.Gateway == "" || c.ServiceName == "" {
		return opencmg.Errorf(opencmg.Invalid, "gateway and serviceName must be set")
	}
	if err := c.Site.Validate(); err != nil {
		return fmt.Errorf("site: %w", err)
	}
	if c.Instance < 0 || c.Instance >= opencmg.MaxInstances {
		return opencmg.Errorf(opencmg.Invalid, "instance: must be 0 to %d, is %d", opencmg.MaxInstances-1, c.Instance)
	}
	if c.DrainSettle < 0 || c.DrainSettle > 5*time.Minute {
		return opencmg.Errorf(opencmg.Invalid, "drainSettle: must be 0s to 5m, is %v", c.DrainSettle)
	}
	if c.RecordsMiB < -1 {
		return opencmg.Errorf(opencmg.Invalid, "recordsMiB: must be a number of MiB, or -1 for none, is %d", c.RecordsMiB)
	}
	if err := c.Outbound.Validate(); err != nil {
		return err
	}
	setDefault(&c.Listen.HTTPS, ":443")
	setDefault(&c.Listen.Private, "127.0.0.1:9440")
	setDefault(&c.Listen.HTTP, "")
	if c.Cloud == nil {
		setDefault(&c.Listen.Tunnel, fmt.Sprintf(":%d", 10140+c.Instance))
		setDefault(&c.Listen.TunnelHTTPS, "")
		setDefault(&c.Listen.Probe, "")
		return nil
	}
	if c.Instance != 0 || c.IdentityDir != "" || c.ServerCertificate != (ServerCertificate{}) {
		return opencmg.Errorf(opencmg.Invalid, "cloud: leave out instance, identityDir and serverCertificate: a machine of a cloud gets them from the key vault")
	}
	if err := c.Cloud.fill(); err != nil {
		return fmt.Errorf("cloud: %w", err)
	}
	setDefault(&c.Listen.Tunnel, "")
	setDefault(&c.Listen.TunnelHTTPS, ":10124")
	setDefault(&c.Listen.Probe, ":9445")
	return nil
}

func (c *Cloud) fill() error {
	if err := keyvault.ValidateVault(c.Vault); err != nil {
		return err
	}
	if c.StopDelay < 0 || c.StopDelay > 30 {
		return opencmg.Errorf(opencmg.Invalid, "stopDelay: must be 0 to 30 seconds, is %d", c.StopDelay)
	}
	setDefault(&c.VaultAudience, keyvault.Audience(c.Vault))
	setDefault(&c.Metadata, keyvault.DefaultMetadata)
	if u, err := url.Parse(c.Metadata); err != nil || u.Scheme != "http" || u.Host == "" {
		return opencmg.Errorf(opencmg.Invalid, "metadata %q: must be an address such as %s", c.Metadata, keyvault.DefaultMetadata)
	}
	return nil
}

// setDefault fills an empty value and turns "off" into none.
func setDefault(s *string, value string) {
	switch *s {
	case "":
		*s = value
	case "off":
		*s = ""
	}
}
