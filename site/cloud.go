package site

import (
	"context"
	"io"
	"time"

	"github.com/opencmg/opencmg"
	"github.com/opencmg/opencmg/azure"
)

// A CloudSignIn says which cloud to speak to, and as whom. Exactly one way to
// sign in is set.
type CloudSignIn struct {
	Environment     opencmg.Environment
	TenantID        string
	SubscriptionID  string
	ClientID        string
	Secret          string
	CertificatePEM  []byte
	FederatedFile   string // a file with the present token
	ManagedIdentity bool
	// DeviceCode is called with what the administrator has to do.
	DeviceCode func(message string)
}

// A Cloud is what the site needs of a cloud. Package azure has it; every
// method that makes or changes something may be called again after the process
// was killed in the middle, and then finishes or finds the work done. Errors of
// the cloud are [*opencmg.CloudError].
type Cloud interface {
	SignIn(ctx context.Context) error
	Check(ctx context.Context, d *opencmg.Deployment) ([]opencmg.Check, error)
	RegisterProviders(ctx context.Context, p opencmg.Progress) error
	// Subscriptions, Regions and ResourceGroups list what may be chosen, at most
	// [azure.MaxListed] of each; the latter two are of the sign-in's subscription.
	Subscriptions(ctx context.Context) ([]azure.Subscription, error)
	Regions(ctx context.Context) ([]azure.Region, error)
	ResourceGroups(ctx context.Context) ([]azure.ResourceGroup, error)

	EnsureGroup(ctx context.Context, d *opencmg.Deployment) (created bool, err error)
	Deploy(ctx context.Context, d *opencmg.Deployment, p opencmg.Progress) ([]opencmg.DeployedResource, error)
	UploadService(ctx context.Context, d *opencmg.Deployment, name string, content io.ReadSeeker, size int64, sha256 string) (url string, expires time.Time, err error)
	SetSecret(ctx context.Context, d *opencmg.Deployment, name, value, contentType string) (version string, err error)
	DeleteSecret(ctx context.Context, d *opencmg.Deployment, name string) error
	Machines(ctx context.Context, d *opencmg.Deployment) ([]opencmg.Machine, error)
	Addresses(ctx context.Context, d *opencmg.Deployment) (addresses []string, fqdn string, err error)
	Scale(ctx context.Context, d *opencmg.Deployment, p opencmg.Progress) error
	Resize(ctx context.Context, d *opencmg.Deployment, p opencmg.Progress) error
	Stop(ctx context.Context, d *opencmg.Deployment, p opencmg.Progress) error
	Start(ctx context.Context, d *opencmg.Deployment, p opencmg.Progress) error
	Upgrade(ctx context.Context, d *opencmg.Deployment, h azure.Hooks, p opencmg.Progress) error
	Delete(ctx context.Context, d *opencmg.Deployment, groupCreatedByUs bool, p opencmg.Progress) error
	Egress(ctx context.Context, d *opencmg.Deployment, from, to time.Time) (gateway, storage int64, err error)
	StorageUsed(ctx context.Context, d *opencmg.Deployment) (int64, error)
	// RotateStorageKeys replaces a key of the storage account when one is due;
	// longest is how long a signature by a key may last.
	RotateStorageKeys(ctx context.Context, d *opencmg.Deployment, longest time.Duration) (azure.Rotation, error)
	// PrincipalID is the object ID of the service principal that is signed in.
	PrincipalID(ctx context.Context) (string, error)
}

// A Directory is what the site needs of Microsoft Entra ID through Graph.
type Directory interface {
	SignInGraph(ctx context.Context) error
	Tenant(ctx context.Context) (azure.TenantInfo, error)
	CreateServerApp(ctx context.Context, r azure.ServerAppRequest, p opencmg.Progress) (azure.ServerApp, error)
	RenewSecret(ctx context.Context, appID string, term azure.SecretTerm) (azure.NewSecret, error)
	RemoveSecret(ctx context.Context, objectID, keyID string) error
	UpdateApplicationSettings(ctx context.Context, appID string, s azure.AppSettings, p opencmg.Progress) (*opencmg.Check, error)
	// DiscoverUsers and DiscoverGroups tell what changed since a delta link; see
	// [azure.Client.DiscoverUsers].
	DiscoverUsers(ctx context.Context, deltaLink string, each func([]azure.User) error) (newDelta string, err error)
	DiscoverGroups(ctx context.Context, deltaLink string, each func([]azure.Group) error) (newDelta string, err error)
	CreateClientApp(ctx context.Context, r azure.ClientAppRequest, p opencmg.Progress) (azure.ClientApp, error)
	// SignInURL and RedeemCode sign a person in through the app; see
	// [azure.WebSignIn].
	SignInURL(w azure.WebSignIn) string
	RedeemCode(ctx context.Context, w azure.WebSignIn, code string) (idToken string, err error)
	// CheckConsent looks whether an administrator consented; see
	// [azure.Client.CheckConsent].
	CheckConsent(ctx context.Context, serverAppID, clientAppID string, directory bool) ([]opencmg.Check, error)
}
