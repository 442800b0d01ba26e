package azure

import (
	"context"
	"crypto/md5"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"net/url"
	"strings"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/streaming"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/blob"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/blockblob"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/sas"
	"github.com/opencmg/opencmg"
)

const (
	// ServiceLinkLife is how long the signed address of the gateway's binary
	// works. A machine needs it at each boot from a fresh disk, also when
	// Azure moves it while the site is down; so it is longer than the day of
	// content. The caller renews it in the vault at half of it.
	ServiceLinkLife = 7 * 24 * time.Hour
	// clockSkew is how far back a signature's start lies.
	clockSkew = 15 * time.Minute
	// maxService is what is sent as one request.
	maxService = 1 << 30
)

// UploadService puts the gateway's binary into the storage account, unless a
// blob of that name and checksum is there, and returns an address from which
// it, and nothing else, can be read until expires. sha256hex is checked
// against content first. The address is a secret.
func (c *Client) UploadService(ctx context.Context, d *opencmg.Deployment, name string, content io.ReadSeeker, size int64, sha256hex string) (sasURL string, expires time.Time, err error) {
	doing := "upload " + name + " to storage account " + d.Name
	if size <= 0 || size > maxService {
		return "", time.Time{}, opencmg.Errorf(opencmg.Invalid, "%s: has %d bytes, must be 1 to %d", doing, size, maxService)
	}
	key, err := c.SigningKey(ctx, d)
	if err != nil {
		return "", time.Time{}, err
	}
	cred, err := blob.NewSharedKeyCredential(d.Name, string(key.Value))
	if err != nil { // the text could quote the key
		return "", time.Time{}, opencmg.Errorf(opencmg.Unavailable, "%s: the storage account's key is not base64", doing)
	}
	address := c.env.BlobURL(d.Name) + ServiceContainer + "/" + url.PathEscape(name)
	client, err := blockblob.NewClientWithSharedKeyCredential(address, cred, &blockblob.ClientOptions{ClientOptions: c.options("")})
	if err != nil {
		return "", time.Time{}, err
	}
	there, err := client.GetProperties(ctx, nil)
	switch {
	case err == nil && metadata(there.Metadata, "sha256") == strings.ToLower(sha256hex) && deref(there.ContentLength) == size:
	case err == nil || isNotFound(err):
		if err := c.upload(ctx, client, content, size, strings.ToLower(sha256hex), doing); err != nil {
			return "", time.Time{}, err
		}
	default:
		return "", time.Time{}, c.fail(ctx, doing, err, string(key.Value))
	}
	now := c.now().UTC().Truncate(time.Second)
	expires = now.Add(ServiceLinkLife)
	query, err := sas.BlobSignatureValues{
		Protocol:  sas.ProtocolHTTPS,
		StartTime: now.Add(-clockSkew), ExpiryTime: expires,
		Permissions:   (&sas.BlobPermissions{Read: true}).String(),
		ContainerName: ServiceContainer, BlobName: name,
	}.SignWithSharedKey(cred)
	if err != nil {
		return "", time.Time{}, err
	}
	return address + "?" + query.Encode(), expires, nil
}

func (c *Client) upload(ctx context.Context, client *blockblob.Client, content io.ReadSeeker, size int64, sha256hex, doing string) error {
	if _, err := content.Seek(0, io.SeekStart); err != nil {
		return err
	}
	sum, check := sha256.New(), md5.New() // MD5 is what Azure stores and downloaders compare
	n, err := io.Copy(io.MultiWriter(sum, check), content)
	if err != nil {
		return err
	}
	if got := hex.EncodeToString(sum.Sum(nil)); n != size || got != sha256hex {
		return opencmg.Errorf(opencmg.Invalid, "%s: has %d bytes and SHA-256 %s, not %d and %s", doing, n, got, size, sha256hex)
	}
	if _, err := content.Seek(0, io.SeekStart); err != nil {
		return err
	}
	_, err = client.Upload(ctx, streaming.NopCloser(content), &blockblob.UploadOptions{
		HTTPHeaders: &blob.HTTPHeaders{BlobContentType: ptr("application/octet-stream"), BlobContentMD5: check.Sum(nil)},
		Metadata:    map[string]*string{"sha256": &sha256hex},
	})
	return c.fail(ctx, doing, err)
}

// metadata finds a value without regard to case, which HTTP headers lose.
func metadata(m map[string]*string, name string) string {
	for k, v := range m {
		if strings.EqualFold(k, name) {
			return deref(v)
		}
	}
	return ""
}
