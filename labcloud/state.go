package labcloud

import (
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// state is all that survives a restart: one JSON document, written whole after
// each change, readable by its owner only because keys and secrets are in it.
// Blobs are files of their own beside it. Map keys that come from Azure names
// or IDs are in lower case.
type state struct {
	Keys []storedKey

	// Directory.
	Applications map[string]*application // by object ID
	Principals   map[string]*principal   // by object ID
	Grants       map[string]*grant
	RoleGrants   map[string]*roleGrant // app role assignments
	Objects      map[string]*dirObject // users and groups, by object ID
	Seq          int                   // of the newest change to Objects
	SeqFloor     int                   // delta tokens below it are gone
	DeviceCodes  map[string]*deviceCode
	Codes        map[string]*authorizationCode // by hash
	Passwords    map[string]string             // their hashes, by user's object ID
	Refresh      map[string]*refreshToken

	// Resource Manager.
	Providers   map[string]string // "subscription/namespace": registration state
	Groups      map[string]*group
	Resources   map[string]*resource
	Deployments map[string]*deployment
	Operations  map[string]*operation
	Deleted     map[string]*deletedVault // soft-deleted vaults, by name
	Created     int                      // counts resources, for their order

	// Data planes and machines.
	Vaults    map[string]*vaultData    // by vault name
	Accounts  map[string]*accountData  // by storage account name
	Machines  map[string]*machine      // by VMID
	Frontends map[string]string        // frontend key to loopback address
	Metrics   map[string]hourlyMetrics // by resource ID
	Faults    []*Fault
}

func newState() *state {
	return &state{
		Applications: map[string]*application{}, Principals: map[string]*principal{}, Grants: map[string]*grant{},
		RoleGrants: map[string]*roleGrant{}, Objects: map[string]*dirObject{}, DeviceCodes: map[string]*deviceCode{},
		Codes: map[string]*authorizationCode{}, Passwords: map[string]string{},
		Refresh: map[string]*refreshToken{}, Providers: map[string]string{}, Groups: map[string]*group{},
		Resources: map[string]*resource{}, Deployments: map[string]*deployment{}, Operations: map[string]*operation{},
		Deleted: map[string]*deletedVault{}, Vaults: map[string]*vaultData{}, Accounts: map[string]*accountData{},
		Machines: map[string]*machine{}, Frontends: map[string]string{}, Metrics: map[string]hourlyMetrics{},
	}
}

func (s *Server) stateFile() string { return filepath.Join(s.cfg.StateDir, "state.json") }

// load reads the state, or makes a new one with a first signing key.
func (s *Server) load() error {
	s.st = newState()
	if s.cfg.StateDir != "" {
		if err := os.MkdirAll(s.cfg.StateDir, 0o700); err != nil {
			return fmt.Errorf("lab cloud: state: %w", err)
		}
		b, err := os.ReadFile(s.stateFile())
		if err == nil {
			err = json.Unmarshal(b, s.st)
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("lab cloud: state: %w", err)
		}
	}
	if len(s.st.Keys) > 0 {
		return s.keys.restore(s.st.Keys)
	}
	return s.keys.rotate()
}

// save writes the state. The caller holds s.world.
func (s *Server) save() error {
	s.dirty = false
	if s.cfg.StateDir == "" {
		return nil
	}
	s.st.Keys = s.keys.stored()
	b, err := json.Marshal(s.st)
	if err != nil {
		return fmt.Errorf("lab cloud: state: %w", err)
	}
	f, err := os.CreateTemp(s.cfg.StateDir, "state-*") // mode 0600
	if err != nil {
		return fmt.Errorf("lab cloud: state: %w", err)
	}
	_, err = f.Write(b)
	if e := f.Close(); err == nil {
		err = e
	}
	if err == nil {
		err = os.Rename(f.Name(), s.stateFile())
	}
	if err != nil {
		os.Remove(f.Name())
		return fmt.Errorf("lab cloud: state: %w", err)
	}
	return nil
}

// change runs f with the state locked and saves it when f marked it dirty.
func (s *Server) change(f func()) {
	s.world.Lock()
	defer s.world.Unlock()
	f()
	s.saveIfDirty()
}

func (s *Server) saveIfDirty() {
	if !s.dirty {
		return
	}
	if err := s.save(); err != nil {
		s.cfg.Log.Error("state not saved", "err", err)
	}
}

// dir returns a directory below the state's, or below a temporary one.
func (s *Server) dir(elem ...string) (string, error) {
	root := s.cfg.StateDir
	if root == "" {
		if s.dirName == "" {
			d, err := os.MkdirTemp("", "labcloud-")
			if err != nil {
				return "", fmt.Errorf("lab cloud: %w", err)
			}
			s.dirName = d
		}
		root = s.dirName
	}
	d := filepath.Join(append([]string{root}, elem...)...)
	return d, os.MkdirAll(d, 0o700)
}

func (s *Server) closeState() error {
	s.world.Lock()
	defer s.world.Unlock()
	err := s.save()
	if s.dirName != "" {
		os.RemoveAll(s.dirName)
	}
	return err
}

// seed puts what the configuration names into the directory. What the state
// already has of it keeps its changes, apart from an app's credentials.
func (s *Server) seed() error {
	s.world.Lock()
	defer s.world.Unlock()
	for id := range s.tenants {
		for appID, name := range wellKnown {
			s.seedPrincipal(id, appID, name)
		}
	}
	for _, a := range s.cfg.Apps {
		tenant := strings.ToLower(a.Tenant)
		if _, ok := s.tenants[tenant]; !ok {
			return fmt.Errorf("lab cloud: app %s: tenant %q is not configured", a.ID, a.Tenant)
		}
		certs := [][]byte{}
		for _, c := range a.Certificates {
			certs = append(certs, c.Raw)
		}
		name := a.Name
		if name == "" {
			name = a.ID
		}
		id := derived("application", tenant, a.ID)
		app := s.st.Applications[id]
		if app == nil {
			app = &application{ID: id, AppID: a.ID, Tenant: tenant, Created: s.cfg.Now().UTC(), Body: map[string]any{"displayName": name, "signInAudience": "AzureADMyOrg"}}
			if a.ResourceURI != "" {
				app.Body["identifierUris"] = []any{a.ResourceURI}
			}
			app.Body["isFallbackPublicClient"] = a.Public
			app.Body["api"] = map[string]any{"requestedAccessTokenVersion": max(a.TokenVersion, 1)}
			s.st.Applications[id] = app
		}
		app.Configured, app.Certificates, app.Federated = true, certs, a.Federated
		app.Secrets = nil
		if a.Secret != "" {
			end := a.SecretExpires
			if end.IsZero() {
				end = s.cfg.Now().Add(365 * 24 * time.Hour)
			}
			app.Secrets = []appSecret{{KeyID: derived("secret", tenant, a.ID), Hash: secretHash(a.Secret), Hint: a.Secret[:min(3, len(a.Secret))], Start: s.cfg.Now().UTC(), End: end.UTC()}}
		}
		sp := s.seedPrincipal(tenant, a.ID, name)
		sp.GraphRoles = a.GraphRoles
	}
	for _, u := range s.cfg.Users {
		if err := s.putUser(u, ""); err != nil {
			return err
		}
	}
	for _, g := range s.cfg.Groups {
		if err := s.putGroup(g, ""); err != nil {
			return err
		}
	}
	return s.save()
}

func (s *Server) seedPrincipal(tenant, appID, name string) *principal {
	id := derived("servicePrincipal", tenant, appID)
	if s.st.Principals[id] == nil {
		s.st.Principals[id] = &principal{ID: id, AppID: appID, Tenant: tenant, Name: name, Type: "Application"}
	}
	return s.st.Principals[id]
}

// An App is an app registration that the configuration names: a resource that
// tokens can be asked for, a client that signs in, or both. Its object ID and
// its service principal's are made up from tenant and ID.
type App struct {
	Tenant string // tenant ID
	ID     string // application (client) ID
	Name   string // empty means ID
	// ResourceURI is what clients ask tokens for, and their aud.
	ResourceURI string
	// TokenVersion is 1 (default) or 2, the resource's choice in Entra.
	TokenVersion int
	// Secret lets the app itself sign in; empty forbids that. SecretExpires
	// zero means in a year.
	Secret        string
	SecretExpires time.Time
	// Certificates let the app sign in with an assertion.
	Certificates []*x509.Certificate
	// Federated lets it sign in with another issuer's token.
	Federated []Federated
	// Public lets users sign in through it by device code.
	Public bool
	// GraphRoles are Graph application permissions it has been granted, such
	// as Directory.Read.All and Application.ReadWrite.All.
	GraphRoles []string
}

// PrincipalID returns the object ID of the service principal that an app of
// the configuration has in a tenant.
func PrincipalID(tenant, appID string) string {
	return derived("servicePrincipal", strings.ToLower(tenant), appID)
}

// A Device is a device registered in a tenant. It signs in with its ID and a
// secret where a real one uses its workplace-join certificate: that exchange
// belongs to Windows and is not rebuilt here.
type Device struct {
	Tenant   string `json:"tenant"`
	ID       string `json:"id"`       // device ID, a GUID
	ObjectID string `json:"objectId"` // oid; empty means ID
	Secret   string `json:"secret"`
}
