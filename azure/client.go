package azure

import (
	"context"
	"log/slog"
	"net/http"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/arm"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"
	"github.com/opencmg/opencmg"
)

// Config is what a [Client] needs. Environment, TenantID and Credential must
// be set.
type Config struct {
	Environment opencmg.Environment
	TenantID    string
	// SubscriptionID may stay empty when only the directory is used, and to
	// list the subscriptions.
	SubscriptionID string
	Credential     Credential
	// HTTP makes every request, those of the identity library too; nil means
	// http.DefaultClient.
	HTTP *http.Client
	Log  *slog.Logger     // nil discards
	Now  func() time.Time // nil means time.Now
	// PollFrequency is the pause between two looks at a long-running operation
	// when the cloud names none, and bounds the pause before the first retry
	// of a call; 0 means 10 seconds.
	PollFrequency time.Duration
}

// A Client talks to Azure as one identity in one tenant. It is safe for
// concurrent use.
type Client struct {
	env    Endpoints
	tenant string
	sub    string
	how    Credential
	cred   azcore.TokenCredential
	http   *http.Client
	log    *slog.Logger
	now    func() time.Time
	poll   time.Duration
	arm    runtime.Pipeline
	graph  runtime.Pipeline
}

// The module name and version stand in the User-Agent header of small clients
// that have no SDK module of their own.
const (
	moduleName    = "opencmg"
	moduleVersion = "v1.0.0"
)

// New makes a client. It sends nothing yet.
func New(cfg Config) (*Client, error) {
	env, err := EndpointsOf(cfg.Environment)
	if err != nil {
		return nil, err
	}
	c := &Client{env: env, tenant: cfg.TenantID, sub: cfg.SubscriptionID, how: cfg.Credential,
		http: cfg.HTTP, log: cfg.Log, now: cfg.Now, poll: cfg.PollFrequency}
	if !opencmg.IsGUID(c.tenant) {
		return nil, opencmg.Errorf(opencmg.Invalid, "tenant %q: must be a GUID; the portal shows it on the overview of Microsoft Entra ID", c.tenant)
	}
	if c.sub != "" && !opencmg.IsGUID(c.sub) {
		return nil, opencmg.Errorf(opencmg.Invalid, "subscription %q: must be a GUID", c.sub)
	}
	if c.http == nil {
		c.http = http.DefaultClient
	}
	if c.log == nil {
		c.log = slog.New(slog.DiscardHandler)
	}
	if c.now == nil {
		c.now = time.Now
	}
	if c.poll <= 0 {
		c.poll = 10 * time.Second
	}
	if c.cred, err = c.how.token(c.tenant, c.options("")); err != nil {
		return nil, err
	}
	a, err := arm.NewClient(moduleName, moduleVersion, c.cred, c.armOptions(""))
	if err != nil {
		return nil, err
	}
	c.arm = a.Pipeline()
	opts := c.options("")
	c.graph = runtime.NewPipeline(moduleName, moduleVersion, runtime.PipelineOptions{
		PerRetry: []policy.Policy{runtime.NewBearerTokenPolicy(c.cred, []string{env.graphScope()}, nil)},
	}, &opts)
	return c, nil
}

// Endpoints returns the addresses that the client uses.
func (c *Client) Endpoints() Endpoints { return c.env }

// options is the one set of options of every client of the SDK. version
// replaces the API version that the SDK would send; empty keeps it.
func (c *Client) options(version string) policy.ClientOptions {
	return policy.ClientOptions{
		APIVersion: version,
		Cloud:      c.env.sdk(),
		Transport:  c.http,
		// The SDK's log is global to the process; ours is one policy instead.
		PerRetryPolicies: []policy.Policy{traffic{c.log}},
		Retry: policy.RetryOptions{
			MaxRetries: 3,
			RetryDelay: min(c.poll, 800*time.Millisecond),
			// A longer Retry-After becomes an error that says so, and the
			// caller decides.
			MaxRetryDelay: 30 * time.Second,
		},
		Telemetry: policy.TelemetryOptions{ApplicationID: "opencmg"},
	}
}

func (c *Client) armOptions(version string) *arm.ClientOptions {
	return &arm.ClientOptions{
		ClientOptions: c.options(version),
		// Providers are registered only when the administrator says so.
		DisableRPRegistration: true,
	}
}

// typed makes a client of the SDK for a subscription.
func typed[T any](c *Client, subscription, version string, ctor func(string, azcore.TokenCredential, *arm.ClientOptions) (*T, error)) (*T, error) {
	if subscription == "" {
		subscription = c.sub
	}
	if subscription == "" {
		return nil, opencmg.Errorf(opencmg.Invalid, "subscription: must be set for this call")
	}
	return ctor(subscription, c.cred, c.armOptions(version))
}

// traffic writes each request to the log: never headers, bodies or queries,
// which hold tokens, secrets and signatures.
type traffic struct{ log *slog.Logger }

func (t traffic) Do(r *policy.Request) (*http.Response, error) {
	raw := r.Raw()
	resp, err := r.Next()
	status := 0
	if resp != nil {
		status = resp.StatusCode
	}
	t.log.DebugContext(raw.Context(), "azure request", "method", raw.Method, "host", raw.URL.Host, "path", raw.URL.Path, "status", status)
	return resp, err
}

// wait follows a long-running operation to its end. tick, if set, is called
// before each look.
func wait[T any](ctx context.Context, c *Client, p *runtime.Poller[T], tick func()) (T, error) {
	var zero T
	for !p.Done() {
		resp, err := p.Poll(ctx)
		if err != nil {
			return zero, err
		}
		if p.Done() {
			break
		}
		if tick != nil {
			tick()
		}
		pause := c.poll
		if resp != nil {
			if d := retryAfter(resp.Header, c.now()); d > 0 {
				pause = d
			}
		}
		if err := sleep(ctx, pause); err != nil {
			return zero, err
		}
	}
	return p.Result(ctx)
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}

// tell calls p, which may be nil.
func tell(p opencmg.Progress, step, text string) {
	if p != nil {
		p(step, text)
	}
}
