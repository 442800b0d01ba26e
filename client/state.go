package client

import (
	"bytes"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/opencmg/opencmg"
	"github.com/opencmg/opencmg/ccm"
	"github.com/opencmg/opencmg/pki"
)

// The state directory (mode 0700) holds
//
//	identity.pem   self-signed certificate and key, made once, 0600
//	state.json     everything else, 0600
//	policy/        policy bodies; what is missing is downloaded again
//
// Every file is replaced as a whole (pki.WriteFile), and the identity is on
// disk before anything refers to it, so the process may be killed at any
// moment. State that does not read back is an error for a person: making a new
// key would silently turn the device into another client.
const (
	identityFile = "identity.pem"
	stateFile    = "state.json"
	policyDir    = "policy"

	stateVersion = 1
)

// state is the content of state.json.
type state struct {
	Version      int          `json:"version"`
	Installation Installation `json:"installation"`

	ClientID       opencmg.ClientID `json:"clientId,omitempty"`
	Registered     time.Time        `json:"registered,omitzero"`
	RegisteredAuth Auth             `json:"registeredAuth,omitempty"`
	// RegisteredCertificate is the thumbprint that was shown in TLS.
	RegisteredCertificate string             `json:"registeredCertificate,omitempty"`
	Approval              ccm.ApprovalStatus `json:"approval"`

	// ClientToken is the 90-day site token, CCMToken the 8-hour one.
	ClientToken *siteToken `json:"clientToken,omitempty"`
	CCMToken    *siteToken `json:"ccmToken,omitempty"`

	Site     opencmg.SiteCode `json:"site,omitempty"`
	SiteInfo string           `json:"siteVersion,omitempty"`
	// Gateways and ManagementPoints are what location replies named last.
	Gateways         []InternetMP `json:"gateways,omitempty"`
	ManagementPoints []string     `json:"managementPoints,omitempty"`
	LastLocation     time.Time    `json:"lastLocation,omitzero"`
	// Sources are the gateways that this client may use while it is inside, and
	// PreferCloud puts them before management points.
	Sources     []InternetMP `json:"sources,omitempty"`
	PreferCloud bool         `json:"preferCloud,omitempty"`

	// Intranet and MP are the result of the last look around.
	Intranet  bool      `json:"intranet"`
	MP        string    `json:"managementPoint,omitempty"`
	LastProbe time.Time `json:"lastProbe,omitzero"`
	// LastSearch is when the gateways of CMGFQDNs were asked last.
	LastSearch time.Time `json:"lastSearch,omitzero"`

	ServerCookie time.Time               `json:"serverCookie,omitzero"`
	Policies     map[string]policyRecord `json:"policies,omitempty"` // by policy ID
	LastPolicy   time.Time               `json:"lastPolicy,omitzero"`

	LastHeartbeat time.Time `json:"lastHeartbeat,omitzero"`
	LastInventory time.Time `json:"lastInventory,omitzero"`
	StateSerial   int       `json:"stateSerial,omitempty"` // of the last state message
}

// A siteToken is a token that the site issued to this client.
type siteToken struct {
	Token   Secret    `json:"token"`
	ID      string    `json:"id,omitempty"`
	Expires time.Time `json:"expires"`
	Renew   time.Time `json:"renew,omitzero"`
	// ClientID is the registered client it names; empty for a token from
	// before registration.
	ClientID opencmg.ClientID `json:"clientId,omitempty"`
}

// A policyRecord says which body of a policy is on disk.
type policyRecord struct {
	Version    string `json:"version"`
	Hash       string `json:"hash"`
	Assignment string `json:"assignment"`
	File       string `json:"file"`
}

// gateways are all known ones, learned before installed.
func (s *state) gateways() []InternetMP {
	return appendNew(slices.Clone(s.Gateways), s.Installation.Gateways...)
}

// managementPoints are all known inside ones, learned before installed.
func (s *state) managementPoints() []string {
	return appendNew(slices.Clone(s.ManagementPoints), s.Installation.ManagementPoints...)
}

func (s *state) siteCode() opencmg.SiteCode {
	if s.Installation.SiteCode != "" {
		return s.Installation.SiteCode
	}
	return s.Site
}

// createState makes the directory, or takes up the one that is there.
func createState(dir, name string, in *Installation, now time.Time) (*state, tls.Certificate, error) {
	none := tls.Certificate{}
	if dir == "" {
		return nil, none, opencmg.Errorf(opencmg.Invalid, "the client's state directory must be named")
	}
	if err := os.MkdirAll(filepath.Join(dir, policyDir), 0o700); err != nil {
		return nil, none, opencmg.Errorf(opencmg.Invalid, "make the client's state directory: %w", err)
	}
	s, identity, err := openState(dir)
	switch {
	case err == nil:
		if old, new := s.siteCode(), in.SiteCode; old != "" && new != "" && old != new {
			return nil, none, opencmg.Errorf(opencmg.Conflict, "the client in %s belongs to site %s; uninstall it (remove that directory) before installing for site %s", dir, old, new)
		}
		s.Installation = *in
	case errors.Is(err, opencmg.NotFound):
		// A directory with a key and without state.json is one whose
		// installation was interrupted: the key was never used.
		path := filepath.Join(dir, identityFile)
		if identity, err = loadIdentity(path); errors.Is(err, fs.ErrNotExist) {
			if identity, err = pki.NewSelfSigned(name, now); err == nil {
				err = pki.SaveKeyPair(path, path, identity)
			}
		}
		if err != nil {
			return nil, none, err
		}
		s = &state{Version: stateVersion, Installation: *in, Approval: ccm.ApprovalUnknown}
	default:
		return nil, none, err
	}
	return s, identity, s.save(dir)
}

// openState reads the directory.
func openState(dir string) (*state, tls.Certificate, error) {
	s, err := readState(dir)
	if err != nil {
		return nil, tls.Certificate{}, err
	}
	identity, err := loadIdentity(filepath.Join(dir, identityFile))
	if err != nil {
		return nil, tls.Certificate{}, damaged(filepath.Join(dir, identityFile), err)
	}
	return s, identity, nil
}

func readState(dir string) (*state, error) {
	path := filepath.Join(dir, stateFile)
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, opencmg.Errorf(opencmg.NotFound, "no client is installed in %s; install one with opencmg client install", dir)
	}
	if err != nil {
		return nil, opencmg.Errorf(opencmg.Invalid, "read the client's state: %w", err)
	}
	s, err := parseState(b)
	if err != nil {
		return nil, damaged(path, err)
	}
	return s, nil
}

func damaged(path string, err error) error {
	return opencmg.Errorf(opencmg.Invalid, "the client's state %s is damaged: %w; restore the directory from a backup, or remove it and install again, which makes this device a new client of the site", path, err)
}

func parseState(b []byte) (*state, error) {
	s := &state{}
	d := json.NewDecoder(bytes.NewReader(b))
	if err := d.Decode(s); err != nil {
		return nil, err
	}
	if d.More() {
		return nil, errors.New("there is text behind the document")
	}
	if s.Version != stateVersion {
		return nil, fmt.Errorf("version %d is not known to this program (it knows %d)", s.Version, stateVersion)
	}
	if s.ClientID != "" {
		if err := s.ClientID.Validate(); err != nil {
			return nil, err
		}
	}
	if err := s.Installation.check(); err != nil {
		return nil, err
	}
	return s, nil
}

func loadIdentity(path string) (tls.Certificate, error) {
	if _, err := os.Stat(path); err != nil {
		return tls.Certificate{}, err
	}
	return pki.LoadKeyPair(path, path)
}

func (s *state) save(dir string) error {
	b, err := json.MarshalIndent(s, "", "\t")
	if err != nil {
		return fmt.Errorf("save the client's state: %w", err)
	}
	if err := pki.WriteFile(filepath.Join(dir, stateFile), append(b, '\n'), 0o600); err != nil {
		return opencmg.Errorf(opencmg.Unavailable, "save the client's state: %w", err)
	}
	return nil
}

// policyFile is the name for a body: the ID without what a file name must not
// have, and the start of its hash.
func policyFile(id, hash string) string {
	clean := strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-' {
			return r
		}
		return -1
	}, id)
	_, sum, _ := strings.Cut(hash, ":")
	return clean[:min(len(clean), 80)] + "." + sum[:min(len(sum), 16)] + ".xml"
}
