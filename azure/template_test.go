package azure_test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencmg/opencmg"
	"github.com/opencmg/opencmg/azure"
	"github.com/santhosh-tekuri/jsonschema/v6"
)

const (
	tenantID  = "11111111-2222-4333-8444-555555555555"
	subID     = "aaaaaaaa-bbbb-4ccc-8ddd-eeeeeeeeeeee"
	gatewayID = "99999999-8888-4777-8666-555555555555"
	serverSP  = "12121212-3434-4565-8787-909090909090"
	clientID  = "abababab-cdcd-4efe-8f0f-010101010101"
)

func deployment() *opencmg.Deployment {
	return &opencmg.Deployment{
		GatewayID: gatewayID, Environment: opencmg.AzureLab, TenantID: tenantID, SubscriptionID: subID,
		ResourceGroup: "rg-cmg", CreateGroup: true, Region: "westeurope", Name: "granitefalls", ServiceName: "GraniteFalls.Contoso.com",
		Size: opencmg.SizeStandard, Instances: 2, EnforceTLS12: true, ServerPrincipal: serverSP,
		CustomData: []byte("#cloud-config\nwrite_files: []\n"),
	}
}

// matrix are deployments of every shape.
func matrix() map[string]*opencmg.Deployment {
	all := map[string]*opencmg.Deployment{}
	for _, size := range opencmg.VMSizes() {
		for _, n := range []int{1, 2, 16} {
			for _, v6 := range []bool{false, true} {
				d := deployment()
				d.Size, d.Instances, d.IPv6 = size.Size, n, v6
				all[fmt.Sprintf("%s×%d ipv6=%v", size.Size, n, v6)] = d
			}
		}
	}
	d := deployment()
	d.EnforceTLS12, d.CustomData = false, bytes.Repeat([]byte("x"), azure.MaxCustomData)
	all["old TLS, largest custom data"] = d
	d = deployment()
	d.CustomData = nil
	d.Name = "a12"
	all["shortest name, no custom data"] = d
	d = deployment()
	d.Name, d.IPv6 = "abcdefghijklmnopqrstuvwx", true
	all["longest name"] = d
	return all
}

func template(t *testing.T, d *opencmg.Deployment) *azure.Template {
	t.Helper()
	tpl, err := azure.NewTemplate(d)
	if err != nil {
		t.Fatal(err)
	}
	return tpl
}

func TestTemplateAgainstSchemas(t *testing.T) {
	schemas := templateSchemas(t)
	for name, d := range matrix() {
		doc := template(t, d).JSON
		instance, err := jsonschema.UnmarshalJSON(bytes.NewReader(doc))
		if err != nil {
			t.Fatal(err)
		}
		for which, schema := range schemas {
			if err := schema.Validate(instance); err != nil {
				t.Errorf("%s: %s schema: %v", name, which, err)
			}
		}
	}
}

func TestTemplateResolves(t *testing.T) {
	for name, d := range matrix() {
		for _, fault := range resolve(template(t, d).JSON, groupID(d)) {
			t.Errorf("%s: %s", name, fault)
		}
	}
}

func groupID(d *opencmg.Deployment) string {
	return "/subscriptions/" + d.SubscriptionID + "/resourceGroups/" + d.ResourceGroup
}

// Each fault is one that no schema sees; the resolver must.
func TestResolverSeesFaults(t *testing.T) {
	d := deployment()
	d.IPv6 = true
	good := string(template(t, d).JSON)
	for name, c := range map[string]struct{ old, new, want string }{
		"sub-resource of the balancer":  {"/probes/ready", "/probes/raedy", "points nowhere"},
		"subnet":                        {"/subnets/machines", "/subnets/machine", "points nowhere"},
		"another group":                 {groupID(d) + "/providers/Microsoft.Network/networkSecurityGroups", "/subscriptions/" + subID + "/resourceGroups/other/providers/Microsoft.Network/networkSecurityGroups", "points nowhere"},
		"missing dependency":            {`"dependsOn":["` + groupID(d) + `/providers/Microsoft.Network/networkSecurityGroups/granitefalls-nsg"],`, "", "does not depend"},
		"undeclared parameter":          {`"domainNameLabel":"granitefalls"`, `"domainNameLabel":"[parameters('label')]"`, "not declared"},
		"equal priorities":              {`"priority":110`, `"priority":100`, "priority"},
		"basic address":                 {`"sku":{"name":"Standard","tier":"Regional"},"tags":{"opencmg-gateway":"` + gatewayID + `"},"type":"Microsoft.Network/publicIPAddresses"`, `"sku":{"name":"Basic","tier":"Regional"},"tags":{"opencmg-gateway":"` + gatewayID + `"},"type":"Microsoft.Network/publicIPAddresses"`, "SKU"},
		"rolling without health":        {`"mode":"Manual"`, `"mode":"Rolling"`, ""}, // with a probe: fine
		"expression without an end":     {`').principalId]"`, `'.principalId]"`, "syntax"},
		"reference outside of template": {"granitefalls-id', '2023-01-31'", "granitefalls-ix', '2023-01-31'", "points nowhere"},
		"mixed families":                {`"publicIPAddressVersion":"IPv6"`, `"publicIPAddressVersion":"IPv4"`, "IPv6"},
	} {
		broken := strings.ReplaceAll(good, c.old, c.new)
		if broken == good {
			t.Errorf("%s: the fault does not apply", name)
			continue
		}
		faults := strings.Join(resolve(json.RawMessage(broken), groupID(d)), "; ")
		if c.want == "" && faults != "" || c.want != "" && !strings.Contains(faults, c.want) {
			t.Errorf("%s: the resolver says %q, want %q", name, faults, c.want)
		}
	}
	rolling := strings.Replace(good, `"mode":"Manual"`, `"mode":"Rolling"`, 1)
	probe := `"healthProbe":{"id":"` + groupID(d) + `/providers/Microsoft.Network/loadBalancers/granitefalls-lb/probes/ready"},`
	if !strings.Contains(rolling, probe) {
		t.Fatal("the health probe is not where it is looked for")
	}
	if faults := resolve(json.RawMessage(strings.Replace(rolling, probe, "", 1)), groupID(d)); len(faults) != 1 || !strings.Contains(faults[0], "health") {
		t.Errorf("rolling without a health source: %q", faults)
	}
}

func TestTemplateIsStable(t *testing.T) {
	a, b := template(t, deployment()), template(t, deployment())
	if !bytes.Equal(a.JSON, b.JSON) || a.Model != b.Model {
		t.Error("two templates of one deployment differ")
	}
	d := deployment()
	d.CustomData = append(d.CustomData, '\n')
	if template(t, d).Model == a.Model {
		t.Error("other custom data give the same checksum")
	}
}

func TestTemplateFacts(t *testing.T) {
	d := deployment()
	var doc struct {
		Resources []struct {
			Type, Name string
			Tags       map[string]string
			Location   string
			SKU        struct {
				Name     string
				Capacity int
			}
			Properties json.RawMessage
		}
	}
	tpl := template(t, d)
	if err := json.Unmarshal(tpl.JSON, &doc); err != nil {
		t.Fatal(err)
	}
	if len(doc.Resources) != len(tpl.Resources) {
		t.Errorf("%d resources, %d listed", len(doc.Resources), len(tpl.Resources))
	}
	for _, r := range doc.Resources {
		if strings.Count(r.Type, "/") > 1 {
			continue // a child has no tags
		}
		if r.Tags[opencmg.GatewayTag] != gatewayID || r.Location != "westeurope" {
			t.Errorf("%s: tags %v in %q", r.Type, r.Tags, r.Location)
		}
		switch r.Type {
		case "Microsoft.Compute/virtualMachineScaleSets":
			if r.SKU.Name != "Standard_A2_v2" || r.SKU.Capacity != 2 {
				t.Errorf("scale set: %+v", r.SKU)
			}
			if !strings.Contains(string(r.Properties), base64.StdEncoding.EncodeToString(d.CustomData)) {
				t.Error("the scale set has no custom data")
			}
		case "Microsoft.Network/loadBalancers":
			for _, want := range []string{`"frontendPortRangeStart":10124`, `"frontendPortRangeEnd":10139`, `"backendPort":10124`, `"port":9445`, `"requestPath":"/readyz"`, `"disableOutboundSnat":true`} {
				if !strings.Contains(string(r.Properties), want) {
					t.Errorf("load balancer without %s", want)
				}
			}
		case "Microsoft.KeyVault/vaults":
			for _, want := range []string{`"enableRbacAuthorization":false`, `"objectId":"` + serverSP + `"`} {
				if !strings.Contains(string(r.Properties), want) {
					t.Errorf("vault without %s", want)
				}
			}
		case "Microsoft.Storage/storageAccounts":
			if !strings.Contains(string(r.Properties), `"minimumTlsVersion":"TLS1_2"`) {
				t.Error("storage account without TLS 1.2")
			}
		}
	}
}

func TestTemplateRefusals(t *testing.T) {
	for name, change := range map[string]func(*opencmg.Deployment){
		"name":        func(d *opencmg.Deployment) { d.Name = "Granite-Falls" },
		"instances":   func(d *opencmg.Deployment) { d.Instances = 17 },
		"principal":   func(d *opencmg.Deployment) { d.ServerPrincipal = "me" },
		"tenant":      func(d *opencmg.Deployment) { d.TenantID = "" },
		"gateway":     func(d *opencmg.Deployment) { d.GatewayID = "" },
		"custom data": func(d *opencmg.Deployment) { d.CustomData = make([]byte, azure.MaxCustomData+1) },
	} {
		d := deployment()
		change(d)
		if _, err := azure.NewTemplate(d); err == nil {
			t.Errorf("%s: a template was made", name)
		}
	}
}

// schemaDir is where the offline schemas lie beside a checkout.
const schemaDir = "../../shared/spec/arm-schemas"

func templateSchemas(t *testing.T) map[string]*jsonschema.Schema {
	t.Helper()
	if _, err := os.Stat(schemaDir); err != nil {
		t.Skip("the schemas are not here")
	}
	official := jsonschema.NewCompiler()
	official.DefaultDraft(jsonschema.Draft4)
	const base = "https://schema.management.azure.com/schemas/"
	root := filepath.Join(schemaDir, "official")
	err := filepath.WalkDir(root, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		rel, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		return official.AddResource(base+filepath.ToSlash(rel), readJSON(t, path))
	})
	if err != nil {
		t.Fatal(err)
	}
	strict := jsonschema.NewCompiler()
	if err := strict.AddResource("strict.json", readJSON(t, filepath.Join(schemaDir, "strict", "cmg-template.schema.json"))); err != nil {
		t.Fatal(err)
	}
	all := map[string]*jsonschema.Schema{}
	if all["official"], err = official.Compile(base + "2019-04-01/deploymentTemplate.json"); err != nil {
		t.Fatal(err)
	}
	if all["strict"], err = strict.Compile("strict.json"); err != nil {
		t.Fatal(err)
	}
	return all
}

func readJSON(t *testing.T, path string) any {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	v, err := jsonschema.UnmarshalJSON(f)
	if err != nil {
		t.Fatal(err)
	}
	return v
}
