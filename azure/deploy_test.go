package azure_test

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/opencmg/opencmg"
	"github.com/opencmg/opencmg/azure"
)

const record = "/providers/Microsoft.Resources/deployments/opencmg-granitefalls"

const opPath = "/subscriptions/" + subID + "/operations/1"

type m = map[string]any

func state(s string, more m) m {
	p := m{"provisioningState": s}
	for k, v := range more {
		p[k] = v
	}
	return m{"id": group(record), "name": "opencmg-granitefalls", "properties": p}
}

// deployable prepares the answers of a deployment that goes well.
func deployable(c *cloud) {
	c.arm("GET", sub("/providers/Microsoft.KeyVault/locations/westeurope/deletedVaults/granitefalls"), notFound())
	c.arm("GET", group(record), notFound(), ok(state("Succeeded", m{"outputResources": []any{m{"id": group("/providers/Microsoft.Network/publicIPAddresses/granitefalls-pip")}}})))
	c.arm("PUT", group(record), c.lro(201, opPath, state("Accepted", nil)))
	c.arm("GET", opPath, ok(m{"status": "Running"}), ok(m{"status": "Running"}), ok(m{"status": "Succeeded"}))
	c.arm("GET", group(record+"/operations"), ok(m{"value": []any{m{"operationId": "1", "properties": m{
		"provisioningState": "Succeeded", "targetResource": m{"id": group("/x"), "resourceType": "Microsoft.Network/loadBalancers", "resourceName": "granitefalls-lb"}}}}}))
}

func TestDeploy(t *testing.T) {
	for _, e := range []opencmg.Environment{opencmg.AzureLab, opencmg.AzurePublicCloud, opencmg.AzureUSGovernmentCloud} {
		t.Run(string(e), func(t *testing.T) { testDeploy(t, e) })
	}
}

func testDeploy(t *testing.T, e opencmg.Environment) {
	c := newCloud(t, e)
	deployable(c)
	var told []string
	made, err := c.client().Deploy(t.Context(), deployment(), func(step, text string) { told = append(told, step+": "+text) })
	if err != nil {
		t.Fatal(err)
	}
	want := []opencmg.DeployedResource{{ID: group("/providers/Microsoft.Network/publicIPAddresses/granitefalls-pip"), Type: "Microsoft.Network/publicIPAddresses", Name: "granitefalls-pip"}}
	if d := cmp.Diff(want, made); d != "" {
		t.Error(d)
	}
	if !strings.Contains(strings.Join(told, "\n"), "granitefalls-lb: succeeded") {
		t.Errorf("told: %q", told)
	}
	puts := c.sent("PUT", record)
	if len(puts) != 1 {
		t.Fatalf("%d deployments", len(puts))
	}
	body := puts[0].json(t)
	if got := at(body, "properties", "mode"); got != "Incremental" {
		t.Errorf("mode %v", got)
	}
	if got, want := at(body, "properties", "parameters", "model", "value"), template(t, deployment()).Model; got != want {
		t.Errorf("model %v, want %v", got, want)
	}
	if got := puts[0].Query.Get("api-version"); got != "2021-04-01" {
		t.Errorf("api-version %s", got)
	}
}

// A caller that died comes back while its deployment runs: nothing is sent
// again.
func TestDeployJoinsItsForerunner(t *testing.T) {
	c := newCloud(t, opencmg.AzureLab)
	deployable(c)
	mine := m{"parameters": m{"model": m{"type": "String", "value": template(t, deployment()).Model}}}
	c.arm("GET", group(record), ok(state("Running", mine)), ok(state("Running", mine)), ok(state("Succeeded", mine)))
	made, err := c.client().Deploy(t.Context(), deployment(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if n := len(c.sent("PUT", record)); n != 0 {
		t.Errorf("%d deployments were sent", n)
	}
	if len(made) != len(template(t, deployment()).Resources) {
		t.Errorf("%d resources", len(made))
	}
}

// A deployment of another template is waited for, and then ours is sent.
func TestDeployAfterAnother(t *testing.T) {
	for _, end := range []string{"Succeeded", "Failed", "Canceled"} {
		c := newCloud(t, opencmg.AzureLab)
		deployable(c)
		other := m{"parameters": m{"model": m{"value": "other"}}}
		c.arm("GET", group(record), ok(state("Running", other)), ok(state(end, other)))
		if _, err := c.client().Deploy(t.Context(), deployment(), nil); err != nil {
			t.Fatalf("%s: %v", end, err)
		}
		if n := len(c.sent("PUT", record)); n != 1 {
			t.Errorf("%s: %d deployments were sent", end, n)
		}
	}
}

func TestDeployWaitsForActive(t *testing.T) {
	c := newCloud(t, opencmg.AzureLab)
	deployable(c)
	c.arm("PUT", group(record), azError(409, "DeploymentActive", "The deployment cannot be saved."), c.lro(201, opPath, state("Accepted", nil)))
	if _, err := c.client().Deploy(t.Context(), deployment(), nil); err != nil {
		t.Fatal(err)
	}
	if n := len(c.sent("PUT", record)); n != 2 {
		t.Errorf("%d tries", n)
	}
}

func cloudErr(t *testing.T, err error) *opencmg.CloudError {
	t.Helper()
	ce, ok := errors.AsType[*opencmg.CloudError](err)
	if !ok {
		t.Fatalf("not the cloud's error: %v", err)
	}
	if ce.NextStep == "" {
		t.Errorf("no next step: %v", err)
	}
	if strings.Contains(err.Error(), clientSecret) {
		t.Errorf("the secret is in %v", err)
	}
	return ce
}

// Every documented refusal at the start of a deployment.
func TestDeployRefused(t *testing.T) {
	for name, tc := range map[string]struct {
		reply  reply
		code   string // somewhere in the error
		next   string
		retry  bool
		after  time.Duration
		status int
	}{
		"provider": {reply: azError(409, "MissingSubscriptionRegistration", "The subscription is not registered to use namespace 'Microsoft.Compute'."),
			code: "MissingSubscriptionRegistration", next: "register the resource providers", status: 409},
		"quota": {reply: reply{status: 400, body: m{"error": m{"code": "InvalidTemplateDeployment", "message": "The template deployment failed with error.", "details": []any{
			m{"code": "QuotaExceeded", "target": "cores", "message": "Operation could not be completed as it results in exceeding approved Total Regional Cores quota."}}}}},
			code: "QuotaExceeded", next: "Usage + quotas", status: 400},
		"policy": {reply: azError(403, "RequestDisallowedByPolicy", "Resource 'granitefalls-pip' was disallowed by policy."),
			code: "RequestDisallowedByPolicy", next: "policy", status: 403},
		"role": {reply: azError(403, "AuthorizationFailed", "The client does not have authorization to perform action 'Microsoft.Resources/deployments/write'."),
			code: "AuthorizationFailed", next: "Contributor", status: 403},
		"bare 403": {reply: reply{status: 403}, code: "HTTP403", next: "right", status: 403},
		"too many": {reply: reply{status: 429, header: map[string]string{"Retry-After": "120"}, body: m{"error": m{"code": "TooManyRequests", "message": "slow down"}}},
			code: "TooManyRequests", next: "tried again later", retry: true, after: 2 * time.Minute, status: 429},
		"no group": {reply: azError(404, "ResourceGroupNotFound", "Resource group 'rg-cmg' could not be found."),
			code: "ResourceGroupNotFound", next: "create it", status: 404},
	} {
		t.Run(name, func(t *testing.T) {
			c := newCloud(t, opencmg.AzureLab)
			deployable(c)
			c.arm("PUT", group(record), tc.reply)
			_, err := c.client().Deploy(t.Context(), deployment(), nil)
			ce := cloudErr(t, err)
			if !ce.Has(tc.code) || !strings.Contains(ce.NextStep, tc.next) || ce.Retryable != tc.retry || ce.RetryAfter != tc.after || ce.Status != tc.status {
				t.Errorf("%+v", ce)
			}
			if n := len(c.sent("PUT", record)); n != 1 {
				t.Errorf("%d tries", n)
			}
			// The same call works when the cause is gone.
			deployable(c)
			if _, err := c.client().Deploy(t.Context(), deployment(), nil); err != nil {
				t.Errorf("again: %v", err)
			}
		})
	}
}

// An operation that fails half-way names the resource and Azure's own reason.
func TestDeployFailsHalfWay(t *testing.T) {
	for name, tc := range map[string]struct {
		message any // of the operation
		code    string
		next    string
		target  string
	}{
		"dns": {m{"error": m{"code": "DnsRecordInUse", "message": "DNS record granitefalls.westeurope.cloudapp.azure.com is already used by another public IP."}},
			"DnsRecordInUse", "choose another name", "granitefalls-pip"},
		"storage":    {m{"error": m{"code": "StorageAccountAlreadyTaken", "message": "The storage account named granitefalls is already taken."}}, "StorageAccountAlreadyTaken", "another deployment name", "granitefalls"},
		"vault":      {m{"error": m{"code": "VaultAlreadyExists", "message": "The vault name 'granitefalls' is already in use."}}, "VaultAlreadyExists", "purge or recover", "granitefalls"},
		"allocation": {m{"status": "Failed", "error": m{"code": "ResourceDeploymentFailure", "details": []any{m{"code": "AllocationFailed", "message": "Allocation failed."}}}}, "AllocationFailed", "no room", "granitefalls"},
		"nested text": {m{"error": m{"code": "Conflict", "message": "{\r\n  \"status\": \"Failed\",\r\n  \"error\": {\"code\": \"SkuNotAvailable\", \"message\": \"not in your subscription\"}\r\n}"}},
			"SkuNotAvailable", "another size", "granitefalls"},
		"text": {`{"error":{"code":"PrincipalNotFound","message":"Principal does not exist."}}`, "PrincipalNotFound", "not yet spread", "granitefalls"},
	} {
		t.Run(name, func(t *testing.T) {
			c := newCloud(t, opencmg.AzureLab)
			deployable(c)
			c.arm("GET", opPath, ok(m{"status": "Running"}), ok(m{"status": "Failed", "error": m{"code": "DeploymentFailed", "message": "At least one resource deployment operation failed."}}))
			c.arm("GET", group(record+"/operations"), ok(m{"value": []any{
				m{"properties": m{"provisioningState": "Succeeded", "targetResource": m{"id": group("/a")}}},
				m{"properties": m{"provisioningState": "Failed", "statusMessage": tc.message, "targetResource": m{"id": group("/b/" + tc.target)}}},
			}}))
			_, err := c.client().Deploy(t.Context(), deployment(), nil)
			ce := cloudErr(t, err)
			if ce.Code != "DeploymentFailed" || !ce.Has(tc.code) || !strings.Contains(ce.NextStep, tc.next) || len(ce.Details) != 1 || !strings.HasSuffix(ce.Details[0].Target, tc.target) || ce.Status != 0 {
				t.Errorf("%+v", ce)
			}
		})
	}
}

// A deployment that fails while it is only joined says why, too.
func TestDeployJoinedFails(t *testing.T) {
	c := newCloud(t, opencmg.AzureLab)
	deployable(c)
	mine := m{"parameters": m{"model": m{"value": template(t, deployment()).Model}}}
	c.arm("GET", group(record), ok(state("Running", mine)), ok(state("Failed", mine)))
	c.arm("GET", group(record+"/operations"), ok(m{"value": []any{m{"properties": m{"provisioningState": "Failed", "statusMessage": m{"error": m{"code": "QuotaExceeded", "message": "no"}}}}}}))
	_, err := c.client().Deploy(t.Context(), deployment(), nil)
	if ce := cloudErr(t, err); !ce.Has("QuotaExceeded") {
		t.Errorf("%+v", ce)
	}
}

// One short Retry-After is obeyed by the pipeline itself.
func TestThrottledOnce(t *testing.T) {
	c := newCloud(t, opencmg.AzureLab)
	deployable(c)
	c.arm("GET", group(record), reply{status: 429, header: map[string]string{"x-ms-retry-after-ms": "3"}}, reply{status: 503}, notFound(), ok(state("Succeeded", nil)))
	if _, err := c.client().Deploy(t.Context(), deployment(), nil); err != nil {
		t.Fatal(err)
	}
}

func TestSignInRefused(t *testing.T) {
	for code, next := range map[string]string{"7000222": "expired", "7000215": "value, not its ID", "700016": "client ID", "90002": "tenant ID", "53003": "conditional access"} {
		c := newCloud(t, opencmg.AzureLab)
		c.signIn = func(url.Values) reply {
			return reply{status: 401, body: m{"error": "invalid_client", "error_codes": []int{1}, "correlation_id": "corr",
				"error_description": "AADSTS" + code + ": The provided client secret " + clientSecret + " is no good. Trace ID: x Correlation ID: y"}}
		}
		err := c.client().SignIn(t.Context())
		ce := cloudErr(t, err)
		if ce.Code != "AADSTS"+code || !strings.Contains(ce.NextStep, next) || ce.RequestID != "corr" || strings.Contains(ce.Message, "Trace") {
			t.Errorf("%+v", ce)
		}
		// Every call says the same, not only the sign-in.
		_, err = c.client().Deploy(t.Context(), deployment(), nil)
		if ce := cloudErr(t, err); ce.Code != "AADSTS"+code {
			t.Errorf("deploy: %+v", ce)
		}
	}
}

func TestUnreachable(t *testing.T) {
	c := newCloud(t, opencmg.AzureLab)
	cfg := c.config()
	cfg.HTTP = &http.Client{Transport: roundTripper(func(r *http.Request) (*http.Response, error) {
		if strings.Contains(r.URL.Host, "management") {
			return nil, errors.New("no route to host")
		}
		return c.http.Transport.RoundTrip(r)
	})}
	client, err := azure.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	_, err = client.Machines(t.Context(), deployment())
	if ce := cloudErr(t, err); ce.Code != azure.CodeUnreachable || !ce.Retryable || !strings.Contains(ce.Message, "no route") {
		t.Errorf("%+v", ce)
	}
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func TestDeployEnds(t *testing.T) {
	c := newCloud(t, opencmg.AzureLab)
	deployable(c)
	c.arm("GET", opPath, ok(m{"status": "Running"}))
	ctx, cancel := context.WithCancel(t.Context())
	_, err := c.client().Deploy(ctx, deployment(), func(step, text string) {
		if strings.Contains(text, "granitefalls-lb") {
			cancel()
		}
	})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("err = %v", err)
	}
}

func TestRecoverVault(t *testing.T) {
	c := newCloud(t, opencmg.AzureLab)
	deployable(c)
	vault := group("/providers/Microsoft.KeyVault/vaults/granitefalls")
	c.arm("GET", sub("/providers/Microsoft.KeyVault/locations/westeurope/deletedVaults/granitefalls"), ok(m{"name": "granitefalls", "properties": m{"vaultId": vault, "location": "westeurope"}}))
	c.arm("PUT", vault, ok(m{"id": vault, "properties": m{"provisioningState": "Succeeded", "tenantId": tenantID}}))
	c.arm("GET", vault, ok(m{"id": vault, "properties": m{"provisioningState": "Succeeded", "tenantId": tenantID}}))
	base := c.env.VaultURL("granitefalls") + "/secrets/"
	c.vault("GET", "/secrets", ok(m{"value": []any{m{"id": base + "instance-0"}, m{"id": base + "service-sas"}}}))
	c.vault("DELETE", "/secrets/instance-0", ok(m{"id": base + "instance-0/1"}))
	if _, err := c.client().Deploy(t.Context(), deployment(), nil); err != nil {
		t.Fatal(err)
	}
	puts := c.sent("PUT", "vaults/granitefalls")
	if len(puts) != 1 || at(puts[0].json(t), "properties", "createMode") != "recover" {
		t.Errorf("%d vaults: %s", len(puts), puts)
	}
	if n := len(c.sent("DELETE", "/secrets/instance-0")); n != 1 {
		t.Errorf("%d secrets of former machines deleted", n)
	}
	// Somebody else's vault of that name is left alone.
	c = newCloud(t, opencmg.AzureLab)
	deployable(c)
	c.arm("GET", sub("/providers/Microsoft.KeyVault/locations/westeurope/deletedVaults/granitefalls"), ok(m{"name": "granitefalls", "properties": m{"vaultId": sub("/resourceGroups/other/providers/Microsoft.KeyVault/vaults/granitefalls")}}))
	if _, err := c.client().Deploy(t.Context(), deployment(), nil); err != nil {
		t.Fatal(err)
	}
}

func TestEnsureGroup(t *testing.T) {
	g := func(region string, tags m) reply {
		return ok(m{"id": group(""), "name": "rg-cmg", "location": region, "tags": tags, "properties": m{"provisioningState": "Succeeded"}})
	}
	path := group("")
	t.Run("new", func(t *testing.T) {
		c := newCloud(t, opencmg.AzureLab)
		c.arm("GET", path, azError(404, "ResourceGroupNotFound", "no"))
		c.arm("PUT", path, reply{status: 201, body: g("westeurope", nil).body})
		created, err := c.client().EnsureGroup(t.Context(), deployment())
		if err != nil || !created {
			t.Errorf("%v, %v", created, err)
		}
		if tag := at(c.sent("PUT", path)[0].json(t), "tags", opencmg.GatewayTag); tag != gatewayID {
			t.Errorf("tag %v", tag)
		}
	})
	t.Run("ours", func(t *testing.T) {
		c := newCloud(t, opencmg.AzureLab)
		c.arm("GET", path, g("West Europe", m{opencmg.GatewayTag: gatewayID}))
		if created, err := c.client().EnsureGroup(t.Context(), deployment()); err != nil || !created {
			t.Errorf("%v, %v", created, err)
		}
	})
	t.Run("another's", func(t *testing.T) {
		c := newCloud(t, opencmg.AzureLab)
		c.arm("GET", path, g("westeurope", nil))
		if created, err := c.client().EnsureGroup(t.Context(), deployment()); err != nil || created {
			t.Errorf("%v, %v", created, err)
		}
	})
	t.Run("wrong region", func(t *testing.T) {
		c := newCloud(t, opencmg.AzureLab)
		c.arm("GET", path, g("eastus", nil))
		_, err := c.client().EnsureGroup(t.Context(), deployment())
		if ce := cloudErr(t, err); ce.Code != "InvalidResourceGroupLocation" || !strings.Contains(ce.Message, "eastus") {
			t.Errorf("%+v", ce)
		}
	})
	t.Run("must exist", func(t *testing.T) {
		c := newCloud(t, opencmg.AzureLab)
		c.arm("GET", path, azError(404, "ResourceGroupNotFound", "no"))
		d := deployment()
		d.CreateGroup = false
		_, err := c.client().EnsureGroup(t.Context(), d)
		if ce := cloudErr(t, err); ce.Code != "ResourceGroupNotFound" {
			t.Errorf("%+v", ce)
		}
	})
	t.Run("policy", func(t *testing.T) {
		c := newCloud(t, opencmg.AzureLab)
		c.arm("GET", path, azError(404, "ResourceGroupNotFound", "no"))
		c.arm("PUT", path, azError(403, "RequestDisallowedByPolicy", "tags are missing"))
		_, err := c.client().EnsureGroup(t.Context(), deployment())
		if ce := cloudErr(t, err); ce.Code != "RequestDisallowedByPolicy" {
			t.Errorf("%+v", ce)
		}
	})
}

func TestGrantContributor(t *testing.T) {
	c := newCloud(t, opencmg.AzureLab)
	var name string
	for i, answer := range []reply{{status: 201, body: m{}}, azError(409, "RoleAssignmentExists", "it exists")} {
		c.any("PUT", group("/providers/Microsoft.Authorization/roleAssignments/"), answer)
		if err := c.client().GrantContributor(t.Context(), deployment(), serverSP); err != nil {
			t.Fatal(err)
		}
		c.mu.Lock()
		r := c.requests[i]
		c.mu.Unlock()
		if name != "" && r.Path != name {
			t.Errorf("names differ: %s, %s", r.Path, name)
		}
		name = r.Path
		if at(r.json(t), "properties", "principalType") != "ServicePrincipal" || !strings.HasSuffix(at(r.json(t), "properties", "roleDefinitionId").(string), "b24988ac-6180-42a0-ab88-20f7382dd24c") {
			t.Errorf("%s", r.Body)
		}
	}
}
