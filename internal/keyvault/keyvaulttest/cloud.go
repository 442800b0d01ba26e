// Package keyvaulttest is a machine's view of its cloud, on loopback: instance
// metadata by plain HTTP, and a key vault and a blob store by TLS under their
// real host names. It is strict about what the real services are strict about.
package keyvaulttest

import (
	"crypto/rand"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/opencmg/opencmg/pki"
)

// The host names of the cloud, and its only user-assigned identity.
const (
	VaultHost = "granitefalls.vault.azure.net"
	Vault     = "https://" + VaultHost
	Audience  = "https://vault.azure.net"
	BlobHost  = "granitefalls.blob.core.windows.net"
	ClientID  = "5a1b2c3d-0000-4000-8000-1234567890ab"
)

// A Cloud is the stand-in. Its exported fields are set before it is used.
type Cloud struct {
	MetadataURL string // plain HTTP
	TLSAddress  string // of the vault and the blobs, as host:port
	CAPEM       string // of their certificates

	mu      sync.Mutex // guards what follows
	name    string
	secrets map[string]secret
	blobs   map[string][]byte
	tokens  map[string]bool
	fail    func(*http.Request) int
	calls   []string
	changed chan struct{} // closed and replaced with every call
}

type secret struct {
	value   string
	version int
}

// Start starts a cloud in which this machine is number 3 of its scale set.
func Start(t testing.TB) *Cloud {
	t.Helper()
	c := &Cloud{name: "granitefalls_3", secrets: map[string]secret{}, blobs: map[string][]byte{}, tokens: map[string]bool{}, changed: make(chan struct{})}
	ca, err := pki.NewAuthority("Cloud CA", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	pair, err := ca.IssueKeyPair(pki.Template{CommonName: VaultHost, DNSNames: []string{VaultHost, BlobHost}, Server: true}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	metadata := httptest.NewServer(c.counted(c.metadata))
	t.Cleanup(metadata.Close)
	outside := httptest.NewUnstartedServer(c.counted(c.outside))
	outside.TLS = &tls.Config{Certificates: []tls.Certificate{pair}}
	outside.Config.ErrorLog = nil
	outside.StartTLS()
	t.Cleanup(outside.Close)
	c.MetadataURL, c.TLSAddress, c.CAPEM = metadata.URL, outside.Listener.Addr().String(), string(ca.CertificatePEM())
	return c
}

// ConnectTo are the rules that bring a process to this cloud.
func (c *Cloud) ConnectTo() []string {
	host, port, _ := net.SplitHostPort(strings.TrimPrefix(c.MetadataURL, "http://"))
	return []string{
		VaultHost + ":443:" + c.TLSAddress, BlobHost + ":443:" + c.TLSAddress,
		host + ":" + port + ":" + host + ":" + port,
		"169.254.169.254:80:" + host + ":" + port,
	}
}

// Rename changes the name of this machine.
func (c *Cloud) Rename(name string) { c.locked(func() { c.name = name }) }

// SetSecret writes a new version of a secret.
func (c *Cloud) SetSecret(name, value string) {
	c.locked(func() { c.secrets[name] = secret{value, c.secrets[name].version + 1} })
}

// SetBlob puts a file into the blob store.
func (c *Cloud) SetBlob(path string, content []byte) { c.locked(func() { c.blobs[path] = content }) }

// RevokeTokens makes the vault refuse every token given so far.
func (c *Cloud) RevokeTokens() { c.locked(func() { c.tokens = map[string]bool{} }) }

// Fail lets f answer a request with a status instead; 0 lets it pass.
func (c *Cloud) Fail(f func(*http.Request) int) { c.locked(func() { c.fail = f }) }

func (c *Cloud) locked(f func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	f()
}

// Calls counts the calls whose path begins with prefix.
func (c *Cloud) Calls(prefix string) (n int) {
	c.locked(func() { n = c.count(prefix) })
	return n
}

func (c *Cloud) count(prefix string) (n int) {
	for _, p := range c.calls {
		if strings.HasPrefix(p, prefix) {
			n++
		}
	}
	return n
}

// Await returns when there were n calls of a path that begins with prefix.
func (c *Cloud) Await(t testing.TB, prefix string, n int) {
	t.Helper()
	for {
		c.mu.Lock()
		have, changed := c.count(prefix), c.changed
		c.mu.Unlock()
		if have >= n {
			return
		}
		select {
		case <-changed:
		case <-t.Context().Done():
			t.Fatalf("%d calls of %s, want %d", have, prefix, n)
		}
	}
}

func (c *Cloud) counted(next http.HandlerFunc) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c.mu.Lock()
		fail := c.fail
		c.mu.Unlock()
		defer c.locked(func() {
			c.calls = append(c.calls, r.URL.Path)
			close(c.changed)
			c.changed = make(chan struct{})
		})
		if fail != nil {
			if status := fail(r); status != 0 {
				w.WriteHeader(status)
				return
			}
		}
		next(w, r)
	})
}

func (c *Cloud) metadata(w http.ResponseWriter, r *http.Request) {
	refuse := func(status int, code, text string) {
		w.WriteHeader(status)
		json.NewEncoder(w).Encode(map[string]string{"error": code, "error_description": text})
	}
	q := r.URL.Query()
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case r.Method != http.MethodGet:
		refuse(http.StatusMethodNotAllowed, "invalid_request", "Method not allowed")
	case r.Header.Get("Metadata") != "true" || r.Header.Get("X-Forwarded-For") != "":
		refuse(http.StatusBadRequest, "invalid_request", "Required metadata header not specified")
	case r.URL.Path == "/metadata/instance/compute" && q.Get("api-version") == "2021-02-01":
		scaleSet, _, _ := strings.Cut(c.name, "_")
		json.NewEncoder(w).Encode(map[string]string{
			"vmId": "c3e0f1a2-0000-4000-8000-000000000003", "name": c.name, "vmScaleSetName": scaleSet, "location": "westeurope",
			"subscriptionId": "11111111-2222-4333-8444-555555555555", "resourceGroupName": "cmg",
		})
	case r.URL.Path == "/metadata/identity/oauth2/token" && q.Get("api-version") == "2018-02-01":
		switch {
		case q.Get("resource") != Audience:
			refuse(http.StatusBadRequest, "invalid_resource", "AADSTS500011: the resource principal was not found")
		case q.Get("client_id") != "" && q.Get("client_id") != ClientID:
			refuse(http.StatusBadRequest, "invalid_request", "Identity not found")
		default:
			token := rand.Text()
			c.tokens[token] = true
			json.NewEncoder(w).Encode(map[string]string{
				"access_token": token, "client_id": ClientID, "expires_in": "86399", "token_type": "Bearer", "resource": Audience,
				"expires_on": strconv.FormatInt(time.Now().Add(24*time.Hour).Unix(), 10),
			})
		}
	default:
		refuse(http.StatusBadRequest, "Bad request. api-version is invalid or was not specified in the request.", "")
	}
}

func (c *Cloud) outside(w http.ResponseWriter, r *http.Request) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if r.Host == BlobHost {
		b, ok := c.blobs[r.URL.Path]
		switch {
		case r.URL.Query().Get("sig") == "":
			w.WriteHeader(http.StatusConflict) // PublicAccessNotPermitted
		case !ok:
			w.WriteHeader(http.StatusNotFound)
		default:
			w.Write(b)
		}
		return
	}
	refuse := func(status int, code, text string) {
		w.WriteHeader(status)
		json.NewEncoder(w).Encode(map[string]any{"error": map[string]string{"code": code, "message": text}})
	}
	token, _ := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	name, found := strings.CutPrefix(r.URL.Path, "/secrets/")
	name = strings.TrimSuffix(name, "/")
	s, ok := c.secrets[name]
	switch {
	case r.Host != VaultHost:
		refuse(http.StatusMisdirectedRequest, "WrongHost", r.Host)
	case r.URL.Query().Get("api-version") == "":
		refuse(http.StatusBadRequest, "BadParameter", "api-version must be specified")
	case !c.tokens[token]:
		refuse(http.StatusUnauthorized, "Unauthorized", "AKV10000: Request is missing a Bearer or PoP token.")
	case !found || !ok:
		refuse(http.StatusNotFound, "SecretNotFound", fmt.Sprintf("A secret with (name/id) %s was not found in this key vault.", name))
	default:
		json.NewEncoder(w).Encode(map[string]any{
			"value": s.value, "id": fmt.Sprintf("%s/secrets/%s/%032x", Vault, name, s.version), "attributes": map[string]any{"enabled": true},
		})
	}
}
