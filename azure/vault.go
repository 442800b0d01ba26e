package azure

import (
	"context"
	"net/http"
	"strings"

	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azsecrets"
	"github.com/opencmg/opencmg"
)

// Names of the vault's secrets that the machines read.
const (
	SecretService     = "service-sas"        // address of the gateway's binary
	SecretCertificate = "server-certificate" // base64 of a PKCS #12 file without password
)

// SecretInstance is the name of the secret of one machine, by its ID.
func SecretInstance(id string) string { return instancePrefix + id }

const instancePrefix = "instance-"

// CertificateType is the content type of [SecretCertificate].
const CertificateType = "application/x-pkcs12"

func (c *Client) secrets(d *opencmg.Deployment) (*azsecrets.Client, error) {
	return azsecrets.NewClient(c.env.VaultURL(d.Name), c.cred, &azsecrets.ClientOptions{ClientOptions: c.options(versionSecrets)})
}

// SetSecret writes a secret into the deployment's vault and returns its
// version. A secret that already has this value keeps its version, so that a
// repeated call does not make the machines reload. One that was deleted is
// brought back first.
func (c *Client) SetSecret(ctx context.Context, d *opencmg.Deployment, name, value, contentType string) (version string, err error) {
	doing := "write secret " + name + " into vault " + d.Name
	client, err := c.secrets(d)
	if err != nil {
		return "", err
	}
	old, err := client.GetSecret(ctx, name, "", nil)
	switch {
	case err == nil && deref(old.Value) == value && deref(old.ContentType) == contentType && (old.Attributes == nil || old.Attributes.Enabled == nil || *old.Attributes.Enabled):
		return secretVersion(old.Secret), nil
	case err != nil && status(err) != http.StatusNotFound && status(err) != http.StatusForbidden: // a disabled one is forbidden to read
		return "", c.fail(ctx, doing, err, value)
	}
	parameters := azsecrets.SetSecretParameters{Value: &value}
	if contentType != "" {
		parameters.ContentType = &contentType
	}
	const tries = 30
	for try := 1; ; try++ {
		set, err := client.SetSecret(ctx, name, parameters, nil)
		if err == nil {
			return secretVersion(set.Secret), nil
		}
		switch {
		case try == tries:
			return "", c.fail(ctx, doing, err, value)
		case isCode(err, "ObjectIsDeletedButRecoverable"):
			if _, rerr := client.RecoverDeletedSecret(ctx, name, nil); rerr != nil && status(rerr) != http.StatusNotFound && status(rerr) != http.StatusConflict {
				return "", c.fail(ctx, doing, rerr, value)
			}
		case isCode(err, "ObjectIsBeingDeleted", "ObjectIsBeingRecovered"):
		default:
			return "", c.fail(ctx, doing, err, value)
		}
		if err := sleep(ctx, c.poll); err != nil {
			return "", c.fail(ctx, doing, err)
		}
	}
}

// GetSecret reads the newest version of a secret. A missing one is an error
// with status 404.
func (c *Client) GetSecret(ctx context.Context, d *opencmg.Deployment, name string) (value Secret, version string, err error) {
	client, err := c.secrets(d)
	if err != nil {
		return "", "", err
	}
	r, err := client.GetSecret(ctx, name, "", nil)
	if err != nil {
		return "", "", c.fail(ctx, "read secret "+name+" of vault "+d.Name, err)
	}
	return Secret(deref(r.Value)), secretVersion(r.Secret), nil
}

// DeleteSecret deletes a secret; a missing one is fine.
func (c *Client) DeleteSecret(ctx context.Context, d *opencmg.Deployment, name string) error {
	client, err := c.secrets(d)
	if err != nil {
		return err
	}
	if _, err = client.DeleteSecret(ctx, name, nil); isNotFound(err) || isCode(err, "ObjectIsBeingDeleted", "ObjectIsDeletedButRecoverable") {
		return nil
	}
	return c.fail(ctx, "delete secret "+name+" of vault "+d.Name, err)
}

// Secrets lists the names of the vault's secrets.
func (c *Client) Secrets(ctx context.Context, d *opencmg.Deployment) ([]string, error) {
	client, err := c.secrets(d)
	if err != nil {
		return nil, err
	}
	names := []string{}
	for pager := client.NewListSecretPropertiesPager(nil); pager.More(); {
		page, err := pager.NextPage(ctx)
		if err != nil {
			return nil, c.fail(ctx, "list the secrets of vault "+d.Name, err)
		}
		for _, s := range page.Value {
			if s.ID != nil {
				names = append(names, s.ID.Name())
			}
		}
	}
	return names, nil
}

// forgetMachines deletes the secrets of machines from a vault that was
// recovered: a new scale set counts its machines from 0 again, and a machine
// must not take the identity of a former one. The credential may have no right
// in the old vault; that is said in the log, and the gateway's site refuses
// identities of former machines anyway.
func (c *Client) forgetMachines(ctx context.Context, d *opencmg.Deployment) {
	names, err := c.Secrets(ctx, d)
	for _, name := range names {
		if strings.HasPrefix(name, instancePrefix) && err == nil {
			err = c.DeleteSecret(ctx, d, name)
		}
	}
	if err != nil {
		c.log.WarnContext(ctx, "secrets of former machines stay in the recovered vault", "gateway", d.Name, "err", err)
	}
}

func secretVersion(s azsecrets.Secret) string {
	if s.ID == nil {
		return ""
	}
	return s.ID.Version()
}
