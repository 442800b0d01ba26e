// Package keyvault reads secrets of an Azure key vault from a machine in that
// cloud, with the machine's managed identity and without a cloud SDK: a gateway
// instance needs two calls of the instance metadata service and one of the
// vault, and links nothing else.
//
// [Metadata] says which machine this is and gets tokens; a [Client] reads
// secrets with them. Neither repeats a failed call: errors are [opencmg.Error]
// and their kind says whether that makes sense (Unavailable, Timeout, and
// NotFound while somebody has yet to write the secret).
package keyvault

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/opencmg/opencmg"
)

// APIVersion is that of the vault's secrets.
const APIVersion = "7.4"

// maxAnswer bounds an answer: a secret has at most 25 KiB, a certificate chain
// in base64 may come near that.
const maxAnswer = 256 << 10

// A Secret is a secret as the vault holds it. It prints without its value.
type Secret struct {
	Value       string
	ContentType string
	Version     string // the vault's ID of this version
}

// String leaves the value out.
func (s Secret) String() string { return "secret version " + s.Version }

// GoString leaves the value out.
func (s Secret) GoString() string { return s.String() }

// LogValue leaves the value out.
func (s Secret) LogValue() slog.Value { return slog.StringValue(s.String()) }

// A Client reads secrets of one vault. It is safe for concurrent use.
type Client struct {
	vault, audience, clientID string
	metadata                  *Metadata
	http                      *http.Client

	mu      sync.Mutex // guards what follows
	token   string
	expires time.Time
}

// Config says which vault a [Client] reads, and how.
type Config struct {
	// Vault is the vault's address, e.g. https://example.vault.azure.net.
	Vault string
	// Audience is what tokens are asked for; default is Vault without the
	// vault's own name, e.g. https://vault.azure.net.
	Audience string
	// ClientID chooses one of several identities of the machine.
	ClientID string
	Metadata *Metadata
	HTTP     *http.Client // for the vault
}

// ValidateVault checks the address of a vault.
func ValidateVault(vault string) error {
	u, err := url.Parse(vault)
	if err != nil || u.Scheme != "https" || u.Hostname() == "" || strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.User != nil || !strings.Contains(u.Hostname(), ".") {
		return opencmg.Errorf(opencmg.Invalid, "vault %q: must be an address such as https://example.vault.azure.net", vault)
	}
	return nil
}

// Audience returns the audience of a vault's tokens: its address without its
// own name.
func Audience(vault string) string {
	u, err := url.Parse(vault)
	if err != nil {
		return ""
	}
	_, suffix, _ := strings.Cut(u.Hostname(), ".")
	return "https://" + suffix
}

// New makes a client.
func New(c Config) (*Client, error) {
	if err := ValidateVault(c.Vault); err != nil {
		return nil, err
	}
	if c.Audience == "" {
		c.Audience = Audience(c.Vault)
	}
	return &Client{
		vault: strings.TrimRight(c.Vault, "/"), audience: c.Audience, clientID: c.ClientID,
		metadata: c.Metadata, http: noRedirects(c.HTTP),
	}, nil
}

// noRedirects keeps tokens from going anywhere else.
func noRedirects(c *http.Client) *http.Client {
	if c == nil {
		c = http.DefaultClient
	}
	n := *c
	n.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return &n
}

// Secret reads the newest version of a secret. NotFound means that it is not
// there, Forbidden that this machine's identity may not read it.
func (c *Client) Secret(ctx context.Context, name string) (Secret, error) {
	s, err := c.secret(ctx, name)
	if errors.Is(err, opencmg.Unauthorized) {
		// The vault no longer takes the token that we kept.
		c.forgetToken()
		s, err = c.secret(ctx, name)
	}
	if err != nil {
		return Secret{}, fmt.Errorf("secret %s of %s: %w", name, c.vault, err)
	}
	return s, nil
}

func (c *Client) secret(ctx context.Context, name string) (Secret, error) {
	token, err := c.bearer(ctx)
	if err != nil {
		return Secret{}, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.vault+"/secrets/"+url.PathEscape(name)+"?api-version="+APIVersion, nil)
	if err != nil {
		return Secret{}, err
	}
	req.Header.Set("Authorization", "Bearer "+token)
	var answer struct {
		Value       *string `json:"value"`
		ID          string  `json:"id"`
		ContentType string  `json:"contentType"`
	}
	if err := call(c.http, req, &answer); err != nil {
		return Secret{}, err
	}
	if answer.Value == nil {
		return Secret{}, opencmg.Errorf(opencmg.Unavailable, "the vault's answer holds no value")
	}
	return Secret{Value: *answer.Value, ContentType: answer.ContentType, Version: answer.ID[strings.LastIndex(answer.ID, "/")+1:]}, nil
}

// tokenMargin is how long before its end a token is no longer used.
const tokenMargin = 5 * time.Minute

func (c *Client) bearer(ctx context.Context) (string, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.token != "" && time.Until(c.expires) > tokenMargin {
		return c.token, nil
	}
	token, expires, err := c.metadata.Token(ctx, c.audience, c.clientID)
	if err != nil {
		return "", err
	}
	c.token, c.expires = token, expires
	return token, nil
}

func (c *Client) forgetToken() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.token = ""
}

// call makes a request and decodes a JSON answer.
func call(c *http.Client, req *http.Request, to any) error {
	res, err := c.Do(req)
	if err != nil {
		var own *opencmg.Error
		if errors.As(err, &own) {
			return own // says more than the URL around it
		}
		return opencmg.Errorf(opencmg.Unavailable, "%s can not be reached: %w", req.URL.Host, bare(err))
	}
	defer res.Body.Close()
	body, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer+1))
	switch {
	case err != nil:
		return opencmg.Errorf(opencmg.Unavailable, "the answer of %s broke off: %w", req.URL.Host, err)
	case res.StatusCode != http.StatusOK:
		return refusal(req.URL.Host, res, body)
	case len(body) > maxAnswer:
		return opencmg.Errorf(opencmg.TooLarge, "the answer of %s is larger than %d bytes", req.URL.Host, maxAnswer)
	}
	if err := json.Unmarshal(body, to); err != nil {
		// The error of encoding/json may quote the body, which may be secret.
		return opencmg.Errorf(opencmg.Unavailable, "the answer of %s is not the JSON that was expected: is something on the way answering instead?", req.URL.Host)
	}
	return nil
}

// bare takes the URL off an error of net/http: it holds nothing that the rest
// of the message does not say.
func bare(err error) error {
	if u, ok := errors.AsType[*url.Error](err); ok {
		return u.Err
	}
	return err
}

// refusal turns an answer that is not 200 into an error, with the cloud's own
// code and text.
func refusal(host string, res *http.Response, body []byte) error {
	kind := opencmg.Unavailable // of other 4xx we can not tell whether they last
	switch res.StatusCode {
	case http.StatusNotFound:
		kind = opencmg.NotFound
	case http.StatusForbidden:
		kind = opencmg.Forbidden
	case http.StatusUnauthorized:
		kind = opencmg.Unauthorized
	case http.StatusBadRequest:
		kind = opencmg.Invalid
	}
	said := res.Status
	// The vault nests its error, the metadata service does not.
	var vault struct {
		Error struct{ Code, Message string } `json:"error"`
	}
	var metadata struct {
		Error       string `json:"error"`
		Description string `json:"error_description"`
	}
	if json.Unmarshal(body, &vault) == nil && vault.Error.Code != "" {
		said = vault.Error.Code + ": " + vault.Error.Message
	} else if json.Unmarshal(body, &metadata) == nil && metadata.Error != "" {
		said = metadata.Error + ": " + metadata.Description
	}
	return opencmg.Errorf(kind, "%s answered %d, %s", host, res.StatusCode, said)
}
