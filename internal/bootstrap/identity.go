package bootstrap

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"log/slog"
	"net/url"
	"slices"
	"time"

	"github.com/opencmg/opencmg"
	"github.com/opencmg/opencmg/pki"
)

// SecretServerCertificate is the vault's secret with the gateway's server
// certificate: a PKCS #12 file without a password, in base64.
const SecretServerCertificate = "server-certificate"

// ContentTypePFX is the content type of [SecretServerCertificate].
const ContentTypePFX = "application/x-pkcs12"

// InstanceSecret is the name of the vault's secret with the [Identity] of the
// machine that has this number in its scale set.
func InstanceSecret(id string) string { return "instance-" + id }

// An Identity is what the site gives to one machine: its instance number and
// its certificate for tunnels. It travels as JSON in a secret of the vault, and
// prints without its key.
type Identity struct {
	Instance    int    `json:"instance"`
	Certificate string `json:"certificate"` // PEM, with the chain if there is one
	Key         string `json:"key"`         // PEM
	SiteCA      string `json:"siteCA"`      // PEM
}

// NewIdentity makes the identity of an instance for the vault.
func NewIdentity(instance int, pair tls.Certificate, siteCA *x509.Certificate) (Identity, error) {
	key, err := x509.MarshalPKCS8PrivateKey(pair.PrivateKey)
	if err != nil {
		return Identity{}, fmt.Errorf("identity of instance %d: %w", instance, err)
	}
	id := Identity{
		Instance: instance, SiteCA: string(pki.EncodeCertificates(siteCA)),
		Key: string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key})),
	}
	for _, der := range pair.Certificate {
		id.Certificate += string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	}
	return id, nil
}

// Secret returns the identity as the vault holds it.
func (id Identity) Secret() (string, error) {
	b, err := json.Marshal(id)
	return string(b), err
}

// String leaves the key out.
func (id Identity) String() string { return fmt.Sprintf("identity of instance %d", id.Instance) }

// GoString leaves the key out.
func (id Identity) GoString() string { return id.String() }

// LogValue leaves the key out.
func (id Identity) LogValue() slog.Value { return slog.StringValue(id.String()) }

// parse checks the identity for a gateway of a site. An error of kind Invalid
// holds nothing of the key.
func (id Identity) parse(site opencmg.SiteCode, gateway string, now time.Time) (siteCA *x509.Certificate, pair tls.Certificate, err error) {
	if id.Instance < 0 || id.Instance >= opencmg.MaxInstances {
		return nil, pair, opencmg.Errorf(opencmg.Invalid, "instance %d: must be 0 to %d", id.Instance, opencmg.MaxInstances-1)
	}
	ca, err := pki.ParseCertificates([]byte(id.SiteCA))
	if err != nil {
		return nil, pair, fmt.Errorf("siteCA: %w", err)
	}
	if pair, err = tls.X509KeyPair([]byte(id.Certificate), []byte(id.Key)); err != nil {
		return nil, pair, opencmg.Errorf(opencmg.Invalid, "certificate and key: %w", err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(ca[0])
	if _, err := pair.Leaf.Verify(x509.VerifyOptions{Roots: roots, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}); err != nil {
		return nil, pair, opencmg.Errorf(opencmg.Invalid, "the certificate is not one of this site CA, or not valid now: %w", err)
	}
	uri := opencmg.GatewayInstanceURI(site, gateway, id.Instance)
	if !slices.ContainsFunc(pair.Leaf.URIs, func(u *url.URL) bool { return u.String() == uri }) {
		return nil, pair, opencmg.Errorf(opencmg.Invalid, "the certificate is not that of instance %d of gateway %s at site %s", id.Instance, gateway, site)
	}
	return ca[0], pair, nil
}
