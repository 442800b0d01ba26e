package azure

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"
	"github.com/opencmg/opencmg"
)

// A Secret is text that must not be seen: printing, logging and encoding it
// as JSON give a placeholder. string(s) is the value.
type Secret string

const redacted = "[redacted]"

// String hides the value.
func (s Secret) String() string { return redacted }

// GoString hides the value from %#v.
func (s Secret) GoString() string { return redacted }

// Format hides the value from every verb.
func (s Secret) Format(f fmt.State, _ rune) { fmt.Fprint(f, redacted) }

// LogValue hides the value from logs.
func (s Secret) LogValue() slog.Value { return slog.StringValue(redacted) }

// MarshalText hides the value from encoders.
func (s Secret) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// A Credential is one way to sign in; exactly one of Secret, CertificatePEM,
// FederatedToken, ManagedIdentity and DeviceCode must be set.
type Credential struct {
	// ClientID is the app's ID: of the server app, of the public client for a
	// device code (empty means Microsoft Azure CLI, which every tenant has), or of
	// a user-assigned identity (optional).
	ClientID string
	// Secret is the app's secret.
	Secret Secret
	// CertificatePEM holds the app's certificate and its key.
	CertificatePEM []byte
	// FederatedToken returns a fresh token of an issuer that the app trusts.
	// It is called whenever a new access token is needed.
	FederatedToken func(ctx context.Context) (string, error)
	// ManagedIdentity uses the identity of the machine this runs on.
	ManagedIdentity bool
	// DeviceCode is called with what the person must type and where.
	DeviceCode func(ctx context.Context, userCode, verificationURL, message string) error
}

// LogValue names the way and the app, never the secret.
func (c Credential) LogValue() slog.Value {
	return slog.GroupValue(slog.String("client_id", c.ClientID), slog.String("with", c.way()))
}

// String names the way and the app.
func (c Credential) String() string { return c.way() + " of app " + c.ClientID }

// GoString hides the parts from %#v.
func (c Credential) GoString() string { return c.String() }

func (c Credential) way() string {
	switch {
	case c.Secret != "":
		return "client secret"
	case len(c.CertificatePEM) > 0:
		return "certificate"
	case c.FederatedToken != nil:
		return "federated credential"
	case c.ManagedIdentity:
		return "managed identity"
	case c.DeviceCode != nil:
		return "device code"
	}
	return "nothing"
}

// azureCLI is the client ID of Microsoft Azure CLI: a public client that every
// tenant has, and by which a person may do in the directory and in Azure what the
// person has the right to do.
const azureCLI = "04b07795-8ddb-461a-bbee-02f9e1bf7b46"

func (c Credential) token(tenant string, base policy.ClientOptions) (azcore.TokenCredential, error) {
	ways := 0
	for _, set := range []bool{c.Secret != "", len(c.CertificatePEM) > 0, c.FederatedToken != nil, c.ManagedIdentity, c.DeviceCode != nil} {
		if set {
			ways++
		}
	}
	if ways != 1 {
		return nil, opencmg.Errorf(opencmg.Invalid, "sign-in to Azure: exactly one of client secret, certificate, federated credential, managed identity and device code must be given, not %d", ways)
	}
	if c.DeviceCode != nil && c.ClientID == "" {
		c.ClientID = azureCLI
	}
	if !c.ManagedIdentity && !opencmg.IsGUID(c.ClientID) {
		return nil, opencmg.Errorf(opencmg.Invalid, "client ID %q: must be a GUID; the portal shows it as Application (client) ID", c.ClientID)
	}
	// Without instance discovery no authority is looked up at the public
	// cloud; the table of environments is what is trusted.
	switch {
	case c.Secret != "":
		return azidentity.NewClientSecretCredential(tenant, c.ClientID, string(c.Secret), &azidentity.ClientSecretCredentialOptions{
			ClientOptions: base, DisableInstanceDiscovery: true})
	case len(c.CertificatePEM) > 0:
		certs, key, err := azidentity.ParseCertificates(c.CertificatePEM, nil)
		if err != nil {
			// The library's text may quote the input.
			return nil, opencmg.Errorf(opencmg.Invalid, "certificate of app %s: holds no certificate with its key in PEM form", c.ClientID)
		}
		return azidentity.NewClientCertificateCredential(tenant, c.ClientID, certs, key, &azidentity.ClientCertificateCredentialOptions{
			ClientOptions: base, DisableInstanceDiscovery: true})
	case c.FederatedToken != nil:
		return azidentity.NewClientAssertionCredential(tenant, c.ClientID, c.FederatedToken, &azidentity.ClientAssertionCredentialOptions{
			ClientOptions: base, DisableInstanceDiscovery: true})
	case c.ManagedIdentity:
		o := &azidentity.ManagedIdentityCredentialOptions{ClientOptions: base}
		if c.ClientID != "" {
			o.ID = azidentity.ClientID(c.ClientID)
		}
		return azidentity.NewManagedIdentityCredential(o)
	default:
		return azidentity.NewDeviceCodeCredential(&azidentity.DeviceCodeCredentialOptions{
			ClientOptions: base, DisableInstanceDiscovery: true, TenantID: tenant, ClientID: c.ClientID,
			UserPrompt: func(ctx context.Context, m azidentity.DeviceCodeMessage) error {
				return c.DeviceCode(ctx, m.UserCode, m.VerificationURL, m.Message)
			}})
	}
}

// SignIn gets a token for Resource Manager and so proves that the credential
// works. With a device code it waits for the person.
func (c *Client) SignIn(ctx context.Context) error { return c.signIn(ctx, c.env.armScope()) }

// SignInGraph does the same for the directory.
func (c *Client) SignInGraph(ctx context.Context) error { return c.signIn(ctx, c.env.graphScope()) }

func (c *Client) signIn(ctx context.Context, scope string) error {
	_, err := c.accessToken(ctx, scope)
	return err
}

func (c *Client) accessToken(ctx context.Context, scope string) (string, error) {
	// Every request of the SDK asks for tokens that can be evaluated continuously,
	// and those are kept apart from others: without that, a person who signed in
	// here would be asked again at the first request.
	t, err := c.cred.GetToken(ctx, policy.TokenRequestOptions{Scopes: []string{scope}, EnableCAE: true})
	if err != nil {
		return "", c.fail(ctx, "sign in to "+string(c.env.Environment)+" with the "+c.how.way(), err)
	}
	if t.Token == "" {
		return "", c.fail(ctx, "sign in", errors.New("the identity service answered without a token"))
	}
	return t.Token, nil
}
