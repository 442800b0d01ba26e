package labcloud_test

import (
	"encoding/base64"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencmg/opencmg/labcloud"
)

func TestDeployment(t *testing.T) {
	c := newCloud(t, nil)
	d := c.deploy(templateOptions{})
	if got := field(d.body, "properties", "provisioningState"); got != "Succeeded" {
		t.Fatalf("deployment %v: %s", got, d.raw)
	}
	if got := len(field(d.body, "properties", "outputResources").([]any)); got != 9 {
		t.Errorf("%d resources, want 9", got)
	}
	if got, want := field(d.body, "properties", "outputs", "fqdn", "value"), prefix+"."+region+"."+c.hosts.CloudApp; got != want {
		t.Errorf("output fqdn %v, want %s", got, want)
	}
	view := c.arm("GET", resourcePath(setType, prefix)+"/virtualMachines?$expand=instanceView", "2024-07-01", nil).want(t, 200, "")
	if diff := cmp.Diff([]string{"0", "1"}, names(view.body["value"], "instanceId")); diff != "" {
		t.Errorf("machines (-want +got):\n%s", diff)
	}
	if !contains(view.body, "PowerState/running") {
		t.Errorf("no machine runs: %s", view.raw)
	}
	set := c.arm("GET", resourcePath(setType, prefix), "2024-07-01", nil).want(t, 200, "")
	if contains(set.body, "customData") {
		t.Error("a scale set shows its custom data")
	}
	// The same again changes nothing.
	c.finish(c.put(template(templateOptions{}, nil)).want(t, 200, ""))
	again := c.arm("GET", resourcePath(setType, prefix)+"/virtualMachines?$expand=instanceView", "2024-07-01", nil)
	if diff := cmp.Diff(field(view.body, "value", 0, "properties", "vmId"), field(again.body, "value", 0, "properties", "vmId")); diff != "" {
		t.Errorf("machine after a second deployment (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff("NoChange", field(c.finish(c.arm("POST", deploymentPath+"/whatIf", "2025-04-01", j{"properties": j{"mode": "Incremental", "template": template(templateOptions{}, nil)}}).want(t, 202, "")).body, "properties", "changes", 0, "changeType")); diff != "" {
		t.Errorf("what-if (-want +got):\n%s", diff)
	}
}

func TestDeploymentRepeatedWhileActive(t *testing.T) {
	c := newCloud(t, nil)
	c.makeGroup()
	c.put(template(templateOptions{}, nil)).want(t, 201, "")
	c.put(template(templateOptions{}, nil)).want(t, 409, "DeploymentActive")
	// Somebody who lost the operation's URL looks at the deployment.
	states := map[string]int{}
	for states["Succeeded"] == 0 {
		s := field(c.arm("GET", deploymentPath, "2025-04-01", nil).want(t, 200, "").body, "properties", "provisioningState").(string)
		states[s]++
	}
	if states["Failed"] != 0 {
		t.Errorf("states %v", states)
	}
	c.put(template(templateOptions{}, nil)).want(t, 200, "")
}

// TestTemplateStrictness plants one fault each in a template that is right
// otherwise.
func TestTemplateStrictness(t *testing.T) {
	c := newCloud(t, func(cfg *labcloud.Config) { cfg.Observe = nil })
	c.makeGroup()
	at := func(kind string, f func(r j)) func(string, j) {
		return func(k string, r j) {
			if k == kind {
				f(r)
			}
		}
	}
	props := func(r j) j { return r["properties"].(j) }
	list := func(m j, key string) j { return props(m)[key].(l)[0].(j) }
	profile := func(r j) j { return props(r)["virtualMachineProfile"].(j) }
	tests := map[string]struct {
		change func(string, j)
		code   string // of the refusal, or of its first detail
	}{
		"misspelt deep inside":   {at(lbType, func(r j) { props(list(r, "loadBalancingRules"))["enableTcpresett"] = true }), "InvalidRequestContent"},
		"misspelt properties":    {at(nsgType, func(r j) { r["propertys"] = r["properties"] }), "InvalidTemplate"},
		"misplaced":              {at(storageType, func(r j) { r["accessTier"] = "Hot" }), "InvalidTemplate"},
		"no location":            {at(vnetType, func(r j) { delete(r, "location") }), "LocationRequired"},
		"no such location":       {at(vnetType, func(r j) { r["location"] = "atlantis" }), "LocationNotAvailableForResourceType"},
		"text for a number":      {at(nsgType, func(r j) { props(list(r, "securityRules"))["priority"] = "100" }), "InvalidRequestContent"},
		"priority too low":       {at(nsgType, func(r j) { props(list(r, "securityRules"))["priority"] = 50 }), "InvalidRequestContent"},
		"priority twice":         {at(nsgType, func(r j) { props(list(r, "securityRules"))["priority"] = 110 }), "SecurityRuleConflict"},
		"wrong enumeration":      {at(setType, func(r j) { props(r)["upgradePolicy"] = j{"mode": "Slow"} }), "InvalidRequestContent"},
		"unknown size":           {at(setType, func(r j) { r["sku"].(j)["name"] = "Standard_D64" }), "InvalidRequestContent"},
		"17 instances":           {at(setType, func(r j) { r["sku"].(j)["capacity"] = 17 }), "InvalidRequestContent"},
		"custom data not base64": {at(setType, func(r j) { profile(r)["osProfile"].(j)["customData"] = "#cloud-config" }), "InvalidRequestContent"},
		"custom data too long": {at(setType, func(r j) {
			profile(r)["osProfile"].(j)["customData"] = base64.StdEncoding.EncodeToString(make([]byte, 65<<10))
		}), "InvalidParameter"},
		"rolling without health": {at(setType, func(r j) { delete(profile(r)["networkProfile"].(j), "healthProbe") }), "InvalidParameter"},
		"generation 2 on Av2":    {at(setType, func(r j) { profile(r)["storageProfile"].(j)["imageReference"].(j)["sku"] = "12-gen2" }), "BadRequest"},
		"no way to sign in":      {at(setType, func(r j) { delete(profile(r)["osProfile"].(j)["linuxConfiguration"].(j), "ssh") }), "InvalidParameter"},
		"label with a dot":       {at(pipType, func(r j) { props(r)["dnsSettings"].(j)["domainNameLabel"] = "a.b" }), "InvalidRequestContent"},
		"dynamic address":        {at(pipType, func(r j) { props(r)["publicIPAllocationMethod"] = "Dynamic" }), "InvalidRequestContent"},
		"storage name":           {at(storageType, func(r j) { r["name"] = "Granite-Falls" }), "InvalidTemplate"}, // the container's dependsOn misses it
		"vault tenant":           {at(vaultType, func(r j) { props(r)["tenantId"] = other }), "BadRequest"},
		"secret permission":      {at(vaultType, func(r j) { list(r, "accessPolicies")["permissions"] = j{"secrets": l{"read"}} }), "InvalidRequestContent"},
		"unknown version":        {at(vaultType, func(r j) { r["apiVersion"] = "1999-01-01" }), "NoRegisteredProviderFound"},
		"unknown type":           {at(vaultType, func(r j) { r["type"] = "Microsoft.KeyVault/safes" }), "InvalidTemplate"},
		"segments":               {at(vaultType, func(r j) { r["name"] = "a/b" }), "InvalidTemplate"},
		"dependency nowhere":     {at(vnetType, func(r j) { r["dependsOn"] = l{id(nsgType, "other")} }), "InvalidTemplate"},
		"dependency in a circle": {at(nsgType, func(r j) { r["dependsOn"] = l{id(vnetType, prefix+"-vnet")} }), "InvalidTemplate"},
		"expression":             {at(vnetType, func(r j) { r["dependsOn"] = l{"[resourceId('" + nsgType + "', 'x'"} }), "InvalidTemplate"},
		"unknown function":       {at(pipType, func(r j) { r["tags"] = j{"x": "[uniqueString('x')]"} }), "InvalidTemplate"},
		"unknown parameter":      {at(pipType, func(r j) { r["tags"] = j{"x": "[parameters('x')]"} }), "InvalidTemplate"},
		"reference nowhere":      {at(pipType, func(r j) { r["tags"] = j{"x": "[reference('x').y]"} }), "InvalidTemplate"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			c.t = t
			a := c.put(template(templateOptions{}, tc.change))
			code := a.code()
			if code == "InvalidTemplateDeployment" {
				code, _ = field(a.body, "error", "details", 0, "code").(string)
			}
			if a.status != 400 || code != tc.code {
				t.Errorf("got %d %s, want 400 %s: %.600s", a.status, code, tc.code, a.raw)
			}
			if v := c.arm("POST", deploymentPath+"/validate", "2025-04-01", j{"properties": j{"mode": "Incremental", "template": template(templateOptions{}, tc.change)}}); v.status != 400 {
				t.Errorf("validate: %d", v.status)
			}
			w := c.finish(c.arm("POST", deploymentPath+"/whatIf", "2025-04-01", j{"properties": j{"mode": "Incremental", "template": template(templateOptions{}, tc.change)}}).want(t, 202, "")).want(t, 200, "")
			if w.body["status"] != "Failed" {
				t.Errorf("what-if: %s", w.raw)
			}
		})
	}
	c.t = t
	right := template(templateOptions{}, nil)
	for name, body := range map[string]any{
		"complete mode":      j{"properties": j{"mode": "Complete", "template": right}},
		"misplaced mode":     j{"mode": "Incremental", "properties": j{"template": right}},
		"unknown value":      j{"properties": j{"mode": "Incremental", "template": right, "parameters": j{"x": j{"value": 1}}}},
		"location at group":  j{"location": region, "properties": j{"mode": "Incremental", "template": right}},
		"not JSON":           `{`,
		"two values":         `{}{}`,
		"nothing":            `null`,
		"parameter no value": j{"properties": j{"mode": "Incremental", "template": with(right, "parameters", j{"p": j{"type": "string"}})}},
		"parameter type":     j{"properties": j{"mode": "Incremental", "template": with(right, "parameters", j{"p": j{"type": "int"}}), "parameters": j{"p": j{"value": "1"}}}},
		"no schema":          j{"properties": j{"mode": "Incremental", "template": with(right, "$schema", nil)}},
	} {
		if a := c.arm("PUT", deploymentPath, "2025-04-01", body); a.status != 400 || a.code() == "" {
			t.Errorf("%s: %d %.300s", name, a.status, a.raw)
		}
	}
	if r := c.arm("GET", "/resourcegroups/"+group+"/resources", "2021-04-01", nil); len(field(r.body, "value").([]any)) != 0 {
		t.Errorf("a refused template left something: %s", r.raw)
	}
}

func with(m j, key string, v any) j {
	out := j{}
	for k, e := range m {
		out[k] = e
	}
	out[key] = v
	if v == nil {
		delete(out, key)
	}
	return out
}

func TestExpressionsAndSecureParameters(t *testing.T) {
	c := newCloud(t, nil)
	c.makeGroup()
	out := func(v string) j { return j{"type": "string", "value": v} }
	tpl := j{"$schema": "https://schema.management.azure.com/schemas/2019-04-01/deploymentTemplate.json#", "contentVersion": "1.0.0.0",
		"parameters": j{"name": j{"type": "string"}, "secret": j{"type": "securestring"}, "count": j{"type": "int", "defaultValue": 3}},
		"variables":  j{"full": "[concat(parameters('name'), '-id')]"},
		"resources":  l{j{"type": identityType, "apiVersion": "2023-01-31", "name": "[variables('full')]", "location": "[resourceGroup().location]", "tags": j{"literal": "[[x]"}}},
		"outputs": j{"a": out("[format('{0}/{1} {{}}', parameters('name'), parameters('count'))]"), "b": out("[resourceId('" + identityType + "', variables('full'))]"),
			"c": out("[toLower(concat('IT''S ', string(1)))]"), "d": out("[reference(variables('full')).tenantId]"), "e": out("[subscription().subscriptionId]")}}
	a := c.arm("PUT", deploymentPath, "2025-04-01", j{"properties": j{"mode": "Incremental", "template": tpl, "parameters": j{"name": j{"value": "some"}, "secret": j{"value": "planted secret"}}}})
	a.want(t, 201, "")
	if strings.Contains(string(a.raw), "planted secret") {
		t.Error("the first answer shows the secret")
	}
	// reference() by bare name is an ID that does not exist.
	p := c.finish(a)
	if p.body["status"] != "Failed" || !contains(p.body, "DeploymentOutputEvaluationFailed") {
		t.Fatalf("got %s", p.raw)
	}
	field(tpl, "outputs").(j)["d"] = out("[reference(resourceId('" + identityType + "', variables('full'))).tenantId]")
	p = c.finish(c.arm("PUT", deploymentPath, "2025-04-01", j{"properties": j{"mode": "Incremental", "template": tpl, "parameters": j{"name": j{"value": "some"}, "secret": j{"value": "planted secret"}}}}).want(t, 200, ""))
	if p.body["status"] != "Succeeded" {
		t.Fatalf("got %s", p.raw)
	}
	d := c.arm("GET", deploymentPath, "2025-04-01", nil).want(t, 200, "")
	if contains(d.body, "planted secret") {
		t.Error("the deployment shows the secret")
	}
	got := j{}
	for k, v := range field(d.body, "properties", "outputs").(map[string]any) {
		got[k] = field(v, "value")
	}
	base := "/subscriptions/" + subscription + "/resourceGroups/" + group
	if diff := cmp.Diff(j{"a": "some/3 {}", "b": base + "/providers/" + identityType + "/some-id", "c": "it's 1", "d": tenant, "e": subscription}, got); diff != "" {
		t.Errorf("outputs (-want +got):\n%s", diff)
	}
	if i := c.arm("GET", resourcePath(identityType, "some-id"), "2023-01-31", nil); field(i.body, "tags", "literal") != "[x]" {
		t.Errorf("identity: %s", i.raw)
	}
}

// TestFailureHalfWay fails the load balancer: what depends on it is not tried,
// the rest is there, and the same deployment again repairs it.
func TestFailureHalfWay(t *testing.T) {
	c := newCloud(t, nil)
	c.makeGroup()
	c.fault(labcloud.Fault{Kind: "failResource", Name: lbType, Code: "AllocationFailed", Message: "no room", Times: 1})
	p := c.finish(c.put(template(templateOptions{}, nil)).want(t, 201, ""))
	if p.body["status"] != "Failed" || field(p.body, "error", "code") != "DeploymentFailed" || field(p.body, "error", "details", 0, "code") != "AllocationFailed" {
		t.Fatalf("operation: %s", p.raw)
	}
	d := c.arm("GET", deploymentPath, "2025-04-01", nil).want(t, 200, "")
	if field(d.body, "properties", "provisioningState") != "Failed" || !contains(field(d.body, "properties", "error"), "no room") {
		t.Errorf("deployment: %s", d.raw)
	}
	ops := c.arm("GET", deploymentPath+"/operations", "2025-04-01", nil).want(t, 200, "")
	failed := 0
	for _, o := range ops.body["value"].([]any) {
		if field(o, "properties", "statusMessage", "error", "code") == "AllocationFailed" && field(o, "properties", "targetResource", "resourceType") == lbType {
			failed++
		}
	}
	if failed != 1 {
		t.Errorf("operations: %s", ops.raw)
	}
	c.arm("GET", resourcePath(setType, prefix), "2024-07-01", nil).want(t, 404, "ResourceNotFound")
	c.arm("GET", resourcePath(storageType, prefix), "2024-01-01", nil).want(t, 200, "")
	if p := c.finish(c.put(template(templateOptions{}, nil)).want(t, 200, "")); p.body["status"] != "Succeeded" {
		t.Errorf("second try: %s", p.raw)
	}
}

// TestMissingDependency: a reference to a resource of the template without
// dependsOn fails, although the resource is made by the same deployment.
func TestMissingDependency(t *testing.T) {
	c := newCloud(t, nil)
	c.makeGroup()
	p := c.finish(c.put(template(templateOptions{}, func(kind string, r j) {
		if kind == lbType {
			delete(r, "dependsOn")
		}
	})).want(t, 201, ""))
	if field(p.body, "error", "details", 0, "code") != "InvalidResourceReference" {
		t.Errorf("got %s", p.raw)
	}
}

func TestChecks(t *testing.T) {
	c := newCloud(t, func(cfg *labcloud.Config) {
		cfg.Subscriptions[0].Unregistered = []string{"Microsoft.KeyVault"}
		cfg.Subscriptions[0].Limits = map[string]int{"standardAv2Family": 4}
	})
	subs := c.do("GET", "https://"+c.hosts.ARM+"/subscriptions?api-version=2022-12-01", c.token(c.hosts.ARMAudiences[0]+"/.default"), nil).want(t, 200, "")
	if field(subs.body, "value", 0, "subscriptionId") != subscription || field(subs.body, "value", 0, "tenantId") != tenant {
		t.Errorf("subscriptions %s", subs.raw)
	}
	if a := c.arm("GET", "/locations", "2022-12-01", nil).want(t, 200, ""); !contains(a.body, "Logical") || !contains(a.body, `"westeurope"`) {
		t.Errorf("locations %s", a.raw)
	}
	compute := c.arm("GET", "/providers/Microsoft.Compute", "2021-04-01", nil).want(t, 200, "")
	for _, rt := range compute.body["resourceTypes"].([]any) {
		if field(rt, "resourceType") == "virtualMachineScaleSets" && (!contains(rt, "West Europe") || contains(rt, "Jio India") || !contains(rt, "2024-07-01")) {
			t.Errorf("scale sets: %v", rt)
		}
	}
	if a := c.arm("GET", "/providers/Microsoft.KeyVault", "2021-04-01", nil); a.body["registrationState"] != "NotRegistered" {
		t.Errorf("vault provider %v", a.body["registrationState"])
	}
	c.makeGroup()
	c.put(template(templateOptions{}, nil)).want(t, 409, "MissingSubscriptionRegistration")
	c.arm("POST", "/providers/Microsoft.KeyVault/register", "2021-04-01", nil).want(t, 200, "")
	var states []string
	for range 2 {
		states = append(states, c.arm("GET", "/providers/Microsoft.KeyVault", "2021-04-01", nil).body["registrationState"].(string))
	}
	if diff := cmp.Diff([]string{"Registering", "Registered"}, states); diff != "" {
		t.Errorf("registration (-want +got):\n%s", diff)
	}

	c.arm("HEAD", "/resourcegroups/"+group, "2021-04-01", nil).want(t, 204, "")
	c.arm("HEAD", "/resourcegroups/none", "2021-04-01", nil).want(t, 404, "")
	c.arm("GET", "/resourcegroups/none", "2021-04-01", nil).want(t, 404, "ResourceGroupNotFound")
	c.arm("PUT", "/resourcegroups/"+group, "2021-04-01", j{"location": region, "tags": j{"a": "b"}}).want(t, 200, "")
	c.arm("PUT", "/resourcegroups/"+group, "2021-04-01", j{"location": "eastus"}).want(t, 409, "InvalidResourceGroupLocation")
	c.arm("PUT", "/resourcegroups/bad.", "2021-04-01", j{"location": region}).want(t, 400, "InvalidResourceGroupName")
	c.arm("PUT", "/resourcegroups/x", "2021-04-01", j{"location": region, "wrong": 1}).want(t, 400, "InvalidRequestContent")

	dns := "/providers/Microsoft.Network/locations/" + region + "/CheckDnsNameAvailability?domainNameLabel="
	available := func(want bool) {
		t.Helper()
		if got := c.arm("GET", dns+prefix, "2024-05-01", nil).want(t, 200, "").body["available"]; got != want {
			t.Errorf("DNS label available: %v", got)
		}
		for ns, kind := range map[string]string{"Microsoft.Storage": storageType, "Microsoft.KeyVault": vaultType} {
			version := map[string]string{"Microsoft.Storage": "2024-01-01", "Microsoft.KeyVault": "2023-07-01"}[ns]
			a := c.arm("POST", "/providers/"+ns+"/checkNameAvailability", version, j{"name": prefix, "type": kind}).want(t, 200, "")
			if a.body["nameAvailable"] != want || !want && a.body["reason"] != "AlreadyExists" {
				t.Errorf("%s: %s", kind, a.raw)
			}
		}
	}
	available(true)
	c.fault(labcloud.Fault{Kind: "nameTaken", Name: prefix})
	available(false)
	c.clear()
	if a := c.arm("POST", "/providers/Microsoft.Storage/checkNameAvailability", "2024-01-01", j{"name": "Bad-Name", "type": storageType}); a.body["reason"] != "AccountNameInvalid" {
		t.Errorf("bad name: %s", a.raw)
	}

	if a := c.arm("GET", "/providers/Microsoft.Compute/locations/"+region+"/usages", "2024-07-01", nil).want(t, 200, ""); field(a.body, "value", 2, "limit") != 4.0 {
		t.Errorf("usages: %s", a.raw)
	}
	c.put(template(templateOptions{instances: 3}, nil)).want(t, 400, "InvalidTemplateDeployment")
	sku := "/providers/Microsoft.Compute/skus?$filter=location%20eq%20'" + region + "'"
	if a := c.arm("GET", sku, "2021-07-01", nil).want(t, 200, ""); !contains(a.body, "Standard_A2_v2") || contains(a.body, "NotAvailableForSubscription") {
		t.Errorf("skus: %s", a.raw)
	}
	c.fault(labcloud.Fault{Kind: "skuRestricted", Name: "Standard_B2s"})
	if a := c.arm("GET", sku, "2021-07-01", nil); !contains(a.body, "NotAvailableForSubscription") {
		t.Errorf("skus: %s", a.raw)
	}
	if a := c.arm("GET", "/resourcegroups/"+group+"/providers/Microsoft.Authorization/permissions", "2022-04-01", nil).want(t, 200, ""); field(a.body, "value", 0, "actions", 0) != "*" {
		t.Errorf("permissions: %s", a.raw)
	}
	c.arm("GET", "/locations", "1999-01-01", nil).want(t, 400, "InvalidApiVersionParameter")
	c.do("GET", "https://"+c.hosts.ARM+"/subscriptions/"+subscription+"/locations", c.token(c.hosts.ARMAudiences[0]+"//.default"), nil).want(t, 400, "MissingApiVersionParameter")
	c.arm("GET", resourcePath(setType, prefix), "1999-01-01", nil).want(t, 400, "NoRegisteredProviderFound")
	c.arm("GET", resourcePath("Microsoft.Compute/robots", prefix), "2024-07-01", nil).want(t, 404, "InvalidResourceType")
	c.arm("GET", "/nonsense", "2021-04-01", nil).want(t, 404, "")
}

func TestFaults(t *testing.T) {
	c := newCloud(t, nil)
	c.makeGroup()
	deploy := func() answer { return c.finish(c.put(template(templateOptions{}, nil))) }
	for kind, code := range map[string]string{pipType: "DnsRecordInUse"} {
		c.fault(labcloud.Fault{Kind: "nameTaken", Name: prefix})
		if p := deploy(); !contains(p.body, code) || !contains(p.body, "StorageAccountAlreadyTaken") || !contains(p.body, "VaultAlreadyExists") {
			t.Errorf("%s: %s", kind, p.raw)
		}
		c.clear()
	}
	c.fault(labcloud.Fault{Kind: "softDeletedVault", Name: prefix, Times: 1})
	if p := deploy(); !contains(p.body, "deleted state") {
		t.Errorf("soft-deleted vault: %s", p.raw)
	}
	c.fault(labcloud.Fault{Kind: "policy", Name: pipType})
	if a := c.put(template(templateOptions{}, nil)).want(t, 400, "InvalidTemplateDeployment"); field(a.body, "error", "details", 0, "code") != "RequestDisallowedByPolicy" {
		t.Errorf("policy: %s", a.raw)
	}
	c.clear()
	c.fault(labcloud.Fault{Kind: "quota", Name: "cores", Limit: 3})
	if a := c.put(template(templateOptions{}, nil)).want(t, 400, "InvalidTemplateDeployment"); field(a.body, "error", "details", 0, "code") != "QuotaExceeded" {
		t.Errorf("quota: %s", a.raw)
	}
	c.clear()
	c.fault(labcloud.Fault{Kind: "providerUnregistered", Name: "Microsoft.Network"})
	c.put(template(templateOptions{}, nil)).want(t, 409, "MissingSubscriptionRegistration")
	c.arm("POST", "/providers/Microsoft.Network/register", "2021-04-01", nil).want(t, 200, "")
	for range 2 {
		c.arm("GET", "/providers/Microsoft.Network", "2021-04-01", nil)
	}
	c.fault(labcloud.Fault{Kind: "forbidden", Method: "PUT", Path: "/deployments/", Times: 1})
	c.put(template(templateOptions{}, nil)).want(t, 403, "AuthorizationFailed")
	c.fault(labcloud.Fault{Kind: "status", Method: "PUT", Path: "management.*deployments", Status: 503, Code: "ServerBusy", RetryAfter: 3, Times: 2})
	for range 2 {
		if a := c.put(template(templateOptions{}, nil)).want(t, 503, "ServerBusy"); a.header.Get("Retry-After") != "3" {
			t.Errorf("Retry-After %q", a.header.Get("Retry-After"))
		}
	}
	if p := deploy(); p.body["status"] != "Succeeded" {
		t.Errorf("after all faults: %s", p.raw)
	}
	for name, f := range map[string]labcloud.Fault{"kind": {Kind: "x"}, "path": {Kind: "forbidden", Path: "("}, "status": {Kind: "status", Status: 200}} {
		if a := c.admin("POST", "/lab/fault", f); a.status != 400 {
			t.Errorf("fault with a bad %s: %d", name, a.status)
		}
	}
	if a := c.admin("GET", "/lab/fault", nil).want(t, 200, ""); !contains(a.body, "ServerBusy") {
		t.Errorf("faults: %s", a.raw)
	}
}

// TestDelete goes in the wrong order first, then in the right one.
func TestDelete(t *testing.T) {
	c := newCloud(t, nil)
	c.deploy(templateOptions{})
	network, compute := "2024-05-01", "2024-07-01"
	c.arm("DELETE", resourcePath(nsgType, prefix+"-nsg"), network, nil).want(t, 400, "InUseNetworkSecurityGroupCannotBeDeleted")
	c.arm("DELETE", resourcePath(pipType, prefix+"-pip"), network, nil).want(t, 400, "PublicIPAddressCannotBeDeleted")
	c.arm("DELETE", resourcePath(vnetType, prefix+"-vnet"), network, nil).want(t, 400, "InUseSubnetCannotBeDeleted")
	c.arm("DELETE", resourcePath(lbType, prefix+"-lb"), network, nil).want(t, 400, "LoadBalancerInUseByVirtualMachineScaleSet")
	c.fault(labcloud.Fault{Kind: "failResource", Name: setType, Method: "DELETE", Code: "OperationNotAllowed", Times: 1})
	if p := c.finish(c.arm("DELETE", resourcePath(setType, prefix), compute, nil).want(t, 202, "")); field(p.body, "error", "code") != "OperationNotAllowed" {
		t.Errorf("failed delete: %s", p.raw)
	}
	for _, r := range []struct{ kind, name, version string }{
		{setType, prefix, compute}, {lbType, prefix + "-lb", network}, {pipType, prefix + "-pip", network}, {vnetType, prefix + "-vnet", network}, {nsgType, prefix + "-nsg", network},
	} {
		a := c.arm("DELETE", resourcePath(r.kind, r.name), r.version, nil).want(t, 202, "")
		if a.header.Get("Location") == "" || a.header.Get("Azure-AsyncOperation") == "" {
			t.Errorf("%s: headers %v", r.kind, a.header)
		}
		if p := c.finish(a); p.body["status"] != "Succeeded" {
			t.Errorf("%s: %s", r.kind, p.raw)
		}
		c.arm("GET", resourcePath(r.kind, r.name), r.version, nil).want(t, 404, "ResourceNotFound")
		c.arm("DELETE", resourcePath(r.kind, r.name), r.version, nil).want(t, 204, "")
	}
	c.arm("DELETE", resourcePath(vaultType, prefix), "2023-07-01", nil).want(t, 200, "")
	c.arm("DELETE", resourcePath(identityType, prefix+"-id"), "2023-01-31", nil).want(t, 200, "")
	c.arm("DELETE", resourcePath(storageType, prefix), "2024-01-01", nil).want(t, 200, "")
	if r := c.arm("GET", "/resourcegroups/"+group+"/resources", "2021-04-01", nil); len(field(r.body, "value").([]any)) != 0 {
		t.Errorf("left behind: %s", r.raw)
	}
	// The vault's name stays taken until it is purged.
	deleted := "/providers/Microsoft.KeyVault/locations/" + region + "/deletedVaults/" + prefix
	c.arm("GET", deleted, "2023-07-01", nil).want(t, 200, "")
	if a := c.arm("POST", "/providers/Microsoft.KeyVault/checkNameAvailability", "2023-07-01", j{"name": prefix, "type": vaultType}); a.body["nameAvailable"] != false {
		t.Errorf("name of a deleted vault: %s", a.raw)
	}
	if p := c.finish(c.put(template(templateOptions{}, nil))); !contains(p.body, "ConflictError") {
		t.Errorf("deployment over a deleted vault: %s", p.raw)
	}
	if p := c.finish(c.put(template(templateOptions{}, func(kind string, r j) {
		if kind == vaultType {
			r["properties"].(j)["createMode"] = "recover"
		}
	}))); p.body["status"] != "Succeeded" {
		t.Errorf("recovery: %s", p.raw)
	}
	c.arm("DELETE", resourcePath(vaultType, prefix), "2023-07-01", nil).want(t, 200, "")
	purge := c.finish(c.arm("POST", deleted+"/purge", "2023-07-01", nil).want(t, 202, ""))
	purge.want(t, 200, "")
	c.arm("GET", deleted, "2023-07-01", nil).want(t, 404, "DeletedVaultNotFound")
	// The group takes the rest with it.
	if c.finish(c.arm("DELETE", "/resourcegroups/"+group, "2021-04-01", nil).want(t, 202, "")).status != 200 {
		t.Error("the group's deletion does not end with 200")
	}
	c.arm("GET", "/resourcegroups/"+group, "2021-04-01", nil).want(t, 404, "ResourceGroupNotFound")
	if s := c.State(); len(s.Machines) != 0 || len(s.Frontends) != 0 {
		t.Errorf("state after all: %+v", s)
	}
}

func TestDirectResources(t *testing.T) {
	c := newCloud(t, nil)
	c.makeGroup()
	a := c.arm("PUT", resourcePath(storageType, "other"), "2024-01-01", j{"location": region, "kind": "StorageV2", "sku": j{"name": "Standard_LRS"}}).want(t, 202, "")
	if len(a.raw) != 0 {
		t.Errorf("body %s", a.raw)
	}
	if got := c.finish(a).want(t, 200, ""); field(got.body, "properties", "primaryEndpoints", "blob") != "https://other."+c.hosts.Blob+"/" {
		t.Errorf("account: %s", got.raw)
	}
	nsg := c.arm("PUT", resourcePath(nsgType, "n"), "2024-05-01", j{"location": region, "properties": j{}}).want(t, 201, "")
	if field(nsg.body, "properties", "provisioningState") != "Updating" || c.finish(nsg).body["status"] != "Succeeded" {
		t.Errorf("security group: %s", nsg.raw)
	}
	c.arm("PUT", resourcePath(nsgType, "n")+"/securityRules/r", "2024-05-01", j{"properties": j{"access": "Allow", "direction": "Inbound", "protocol": "Tcp", "priority": 200}}).want(t, 201, "")
	c.arm("GET", resourcePath(nsgType, "n")+"/securityRules/r", "2024-05-01", nil).want(t, 200, "")
	c.arm("DELETE", resourcePath(nsgType, "n")+"/securityRules/r", "2024-05-01", nil).want(t, 202, "")
	c.arm("GET", resourcePath(nsgType, "n")+"/securityRules/r", "2024-05-01", nil).want(t, 404, "ResourceNotFound")
	c.arm("PUT", resourcePath(vaultType, "n"), "2023-07-01", j{"location": region, "properties": j{}}).want(t, 400, "VaultNameNotValid")
	c.arm("PUT", resourcePath(storageType, "other"), "2024-01-01", j{"location": "eastus", "kind": "StorageV2", "sku": j{"name": "Standard_LRS"}}).want(t, 409, "InvalidResourceLocation")
	c.arm("PATCH", resourcePath(nsgType, "n"), "2024-05-01", j{"tags": j{"a": "b"}}).want(t, 200, "")
	c.arm("PATCH", resourcePath(nsgType, "n"), "2024-05-01", j{"properties": j{}}).want(t, 400, "InvalidRequestContent")
	list := c.arm("GET", "/resources?$filter=tagName%20eq%20'a'%20and%20tagValue%20eq%20'b'", "2021-04-01", nil).want(t, 200, "")
	if diff := cmp.Diff([]string{"n"}, names(list.body["value"], "name")); diff != "" {
		t.Errorf("by tag (-want +got):\n%s", diff)
	}
	c.arm("GET", "/resources?$filter=nonsense", "2021-04-01", nil).want(t, 400, "InvalidFilterInQueryString")
	keys := c.arm("POST", resourcePath(storageType, "other")+"/listKeys", "2024-01-01", nil).want(t, 200, "")
	renewed := c.arm("POST", resourcePath(storageType, "other")+"/regenerateKey", "2024-01-01", j{"keyName": "key2"}).want(t, 200, "")
	if field(keys.body, "keys", 0, "value") != field(renewed.body, "keys", 0, "value") || field(keys.body, "keys", 1, "value") == field(renewed.body, "keys", 1, "value") {
		t.Error("regenerateKey did not change key2 alone")
	}
	c.arm("POST", resourcePath(storageType, "other")+"/regenerateKey", "2024-01-01", j{"keyName": "key3"}).want(t, 400, "InvalidRequestContent")
	c.arm("POST", resourcePath(storageType, "other")+"/explode", "2024-01-01", nil).want(t, 404, "InvalidResourceType")
	c.arm("GET", resourcePath(storageType, "other")+"/listKeys", "2024-01-01", nil).want(t, 405, "MethodNotAllowed")
}

func TestRoles(t *testing.T) {
	const limited = "dddddddd-0000-0000-0000-000000000009"
	c := newCloud(t, func(cfg *labcloud.Config) {
		cfg.Subscriptions[0].Owners = []string{adminApp}
		cfg.Apps = append(cfg.Apps, labcloud.App{Tenant: tenant, ID: limited, Secret: "limited"})
	})
	c.makeGroup()
	mine := func(method, path, version string, body any) answer {
		token := c.signIn(limited, "limited", c.hosts.ARMAudiences[0]+"//.default").want(t, 200, "").body["access_token"].(string)
		return c.do(method, "https://"+c.hosts.ARM+"/subscriptions/"+subscription+path+"?api-version="+version, token, body)
	}
	mine("GET", "/resourcegroups/"+group, "2021-04-01", nil).want(t, 403, "AuthorizationFailed")
	assign := "/resourcegroups/" + group + "/providers/Microsoft.Authorization/roleAssignments/" + scopeID
	role := "/subscriptions/" + subscription + "/providers/Microsoft.Authorization/roleDefinitions/b24988ac-6180-42a0-ab88-20f7382dd24c"
	c.arm("PUT", assign, "2022-04-01", j{"properties": j{"roleDefinitionId": role, "principalId": device}}).want(t, 400, "PrincipalNotFound")
	c.arm("PUT", assign, "2022-04-01", j{"properties": j{"roleDefinitionId": role, "principalId": labcloud.PrincipalID(tenant, limited), "principalType": "ServicePrincipal"}}).want(t, 201, "")
	mine("GET", "/resourcegroups/"+group, "2021-04-01", nil).want(t, 200, "")
	mine("PUT", "/resourcegroups/"+group+"/providers/"+nsgType+"/n", "2024-05-01", j{"location": region}).want(t, 201, "")
	mine("PUT", "/resourcegroups/other", "2021-04-01", j{"location": region}).want(t, 403, "AuthorizationFailed")
	mine("DELETE", assign, "2022-04-01", nil).want(t, 403, "AuthorizationFailed")
	mine("POST", "/providers/Microsoft.KeyVault/locations/"+region+"/deletedVaults/x/purge", "2023-07-01", nil).want(t, 403, "AuthorizationFailed")
	if a := mine("GET", "/resourcegroups/"+group+"/providers/Microsoft.Authorization/permissions", "2022-04-01", nil).want(t, 200, ""); !contains(a.body, "Microsoft.Authorization/*/Write") {
		t.Errorf("permissions: %s", a.raw)
	}
	// The role goes with the group, but its deletion can be followed.
	gone := mine("DELETE", "/resourcegroups/"+group, "2021-04-01", nil).want(t, 202, "")
	token := c.signIn(limited, "limited", c.hosts.ARMAudiences[0]+"//.default").body["access_token"].(string)
	for status := 202; status != 200; {
		if status = c.do("GET", gone.header.Get("Location"), token, nil).status; status >= 400 {
			t.Fatalf("polling: %d", status)
		}
	}
	mine("GET", "/resourcegroups/"+group, "2021-04-01", nil).want(t, 403, "AuthorizationFailed")
}
