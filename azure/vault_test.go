package azure_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/opencmg/opencmg"
	"github.com/opencmg/opencmg/azure"
)

const planted = "planted-secret-value"

func vaultSecret(c *cloud, value, version string) m {
	return m{"value": value, "contentType": "text/plain", "id": c.env.VaultURL("granitefalls") + "/secrets/service-sas/" + version, "attributes": m{"enabled": true}}
}

func TestSetSecret(t *testing.T) {
	c := newCloud(t, opencmg.AzureLab)
	d := deployment()
	c.vault("GET", "/secrets/service-sas/", azError(404, "SecretNotFound", "no"))
	c.vault("PUT", "/secrets/service-sas", ok(vaultSecret(c, planted, "v1")))
	client := c.client()
	version, err := client.SetSecret(t.Context(), d, azure.SecretService, planted, "text/plain")
	if err != nil || version != "v1" {
		t.Fatalf("%q, %v", version, err)
	}
	put := c.sent("PUT", "service-sas")[0]
	if put.json(t)["value"] != planted || put.json(t)["contentType"] != "text/plain" || put.Query.Get("api-version") != "7.4" {
		t.Errorf("%s %v", put.Body, put.Query)
	}
	// The same value again makes no new version.
	c.vault("GET", "/secrets/service-sas/", ok(vaultSecret(c, planted, "v1")))
	if version, err := client.SetSecret(t.Context(), d, azure.SecretService, planted, "text/plain"); err != nil || version != "v1" || len(c.sent("PUT", "service-sas")) != 1 {
		t.Errorf("%q, %v", version, err)
	}
	value, version, err := client.GetSecret(t.Context(), d, azure.SecretService)
	if err != nil || string(value) != planted || version != "v1" || strings.Contains(fmt.Sprintf("%v %+v %#v %s %q", value, value, value, value, value), planted) {
		t.Errorf("%v, %q, %v", value, version, err)
	}
}

// A deleted secret is brought back, which takes the vault a while.
func TestSetSecretAfterDeletion(t *testing.T) {
	c := newCloud(t, opencmg.AzureLab)
	inner := func(code string) reply {
		return reply{status: 409, body: m{"error": m{"code": "Conflict", "message": "Secret is in a state", "innererror": m{"code": code}}}}
	}
	c.vault("GET", "/secrets/service-sas/", azError(404, "SecretNotFound", "no"))
	c.vault("PUT", "/secrets/service-sas", inner("ObjectIsBeingDeleted"), inner("ObjectIsDeletedButRecoverable"), inner("ObjectIsBeingRecovered"), ok(vaultSecret(c, planted, "v2")))
	c.vault("POST", "/deletedsecrets/service-sas/recover", ok(m{"id": "https://x/secrets/service-sas/v1"}))
	version, err := c.client().SetSecret(t.Context(), deployment(), azure.SecretService, planted, "")
	if err != nil || version != "v2" || len(c.sent("POST", "/recover")) != 1 {
		t.Errorf("%q, %v", version, err)
	}
}

func TestSecretRefused(t *testing.T) {
	c := newCloud(t, opencmg.AzureLab)
	forbidden := reply{status: 403, body: m{"error": m{"code": "Forbidden", "message": "The user has no secrets set permission; you sent " + planted, "innererror": m{"code": "ForbiddenByPolicy"}}}}
	c.vault("GET", "/secrets/service-sas/", forbidden)
	c.vault("PUT", "/secrets/service-sas", forbidden)
	_, err := c.client().SetSecret(t.Context(), deployment(), azure.SecretService, planted, "")
	ce := cloudErr(t, err)
	if !ce.Has("ForbiddenByPolicy") || !strings.Contains(ce.NextStep, "deploy again") || strings.Contains(err.Error(), planted) {
		t.Errorf("%+v", ce)
	}
	_, _, err = c.client().GetSecret(t.Context(), deployment(), azure.SecretService)
	cloudErr(t, err)
	c.vault("DELETE", "/secrets/service-sas", azError(404, "SecretNotFound", "no"))
	if err := c.client().DeleteSecret(t.Context(), deployment(), azure.SecretService); err != nil {
		t.Error(err)
	}
	c.vault("DELETE", "/secrets/service-sas", forbidden)
	cloudErr(t, c.client().DeleteSecret(t.Context(), deployment(), azure.SecretService))
	if strings.Contains(c.logs.String(), planted) || strings.Contains(c.logs.String(), clientSecret) {
		t.Error("a secret is in the log")
	}
	if !strings.Contains(c.logs.String(), "azure request") {
		t.Error("the log is empty")
	}
}

func TestEgress(t *testing.T) {
	c := newCloud(t, opencmg.AzureLab)
	points := func(values ...any) reply {
		var data []any
		for i, v := range values {
			p := m{"timeStamp": fmt.Sprintf("2026-01-01T%02d:00:00Z", i)}
			if v != nil {
				p["total"], p["average"] = v, v
			}
			data = append(data, p)
		}
		return ok(m{"value": []any{m{"name": m{"value": "x"}, "timeseries": []any{m{"data": data}}}}})
	}
	set, account := owned[0]+"/providers/Microsoft.Insights/metrics", owned[8]+"/providers/Microsoft.Insights/metrics"
	c.arm("GET", group(set), points(1000, nil, 2.5e9))
	c.arm("GET", group(account), ok(m{"value": []any{m{"timeseries": []any{}}}}))
	from := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	gateway, storage, err := c.client().Egress(t.Context(), deployment(), from, from.Add(14*day))
	if err != nil || gateway != 2500001000 || storage != 0 {
		t.Errorf("%d, %d, %v", gateway, storage, err)
	}
	q := c.sent("GET", set)[0].Query
	got := map[string]string{}
	for k := range q {
		got[k] = q.Get(k)
	}
	if d := cmp.Diff(map[string]string{"api-version": "2023-10-01", "metricnames": "Network Out Total", "aggregation": "Total", "interval": "PT1H", "timespan": "2026-01-01T00:00:00Z/2026-01-15T00:00:00Z"}, got); d != "" {
		t.Error(d)
	}
	c.arm("GET", group(account), points(5, 7, nil))
	if used, err := c.client().StorageUsed(t.Context(), deployment()); err != nil || used != 7 {
		t.Errorf("%d, %v", used, err)
	}
	c.arm("GET", group(account), notFound())
	if used, err := c.client().StorageUsed(t.Context(), deployment()); err != nil || used != 0 {
		t.Errorf("%d, %v", used, err)
	}
	c.arm("GET", group(set), azError(403, "AuthorizationFailed", "no"))
	_, _, err = c.client().Egress(t.Context(), deployment(), from, from.Add(day))
	cloudErr(t, err)
}

func TestAddresses(t *testing.T) {
	c := newCloud(t, opencmg.AzureLab)
	d := deployment()
	d.IPv6 = true
	c.arm("GET", group(owned[2]), ok(m{"properties": m{"ipAddress": "203.0.113.7", "dnsSettings": m{"fqdn": "granitefalls.westeurope.cloudapp.example"}}}))
	c.arm("GET", group(owned[3]), ok(m{"properties": m{"ipAddress": "2001:db8::7", "dnsSettings": m{"fqdn": "granitefalls-v6.westeurope.cloudapp.example"}}}))
	ips, fqdn, err := c.client().Addresses(t.Context(), d)
	if d := cmp.Diff([]string{"203.0.113.7", "2001:db8::7"}, ips); err != nil || d != "" || fqdn != "granitefalls.westeurope.cloudapp.example" {
		t.Error(d, fqdn, err)
	}
	c.arm("GET", group(owned[3]), notFound())
	_, _, err = c.client().Addresses(t.Context(), d)
	cloudErr(t, err)
}
