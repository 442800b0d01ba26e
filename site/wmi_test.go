package site_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/opencmg/opencmg/adminservice"
	"github.com/opencmg/opencmg/pki"
)

// wmi asks the view.
func (r *rig) wmi(path string, status int) []map[string]any {
	r.t.Helper()
	res := r.raw("GET", "/AdminService/wmi"+path, "", nil)
	if res.StatusCode != status {
		r.t.Fatalf("%s: %s, want %d", path, res.Status, status)
	}
	if status != http.StatusOK {
		problem(r.t, res)
		return nil
	}
	var page adminservice.Page[map[string]any]
	if err := json.NewDecoder(res.Body).Decode(&page); err != nil {
		r.t.Fatal(err)
	}
	return page.Value
}

// azureServiceProperties are the documented names and types of SMS_AzureService
// (cmdlets.md, "Objects and their properties"). any: the type is not known.
var azureServiceProperties = map[string]string{
	"AzureServiceID": "uint32", "Name": "string", "Fqdn": "string", "ServiceCName": "string", "ServiceType": "string", "SiteCode": "string", "Description": "string",
	"Region": "string", "NumberOfInstances": "uint32", "SubscriptionID": "string", "State": "uint32", "StatusDetails": "uint32", "DeploymentSlot": "string", "Flags": "uint32",
	"NALPath": "string", "ServiceCertificate": "string", "ServiceThumbprint": "string", "ServiceThumbprintAlgorithm": "string",
	"ManagementCertificate": "string", "ManagementCertificateType": "uint32", "ManagementThumbprint": "string", "StorageServiceName": "string",
	"StorageQuotaInGB": "uint32", "StorageWarningThreshold": "uint32", "StorageCriticalThreshold": "uint32", "StorageUsage": "uint32", "StorageQuotaGrow": "bool",
	"TrafficOutInGB": "uint32", "TrafficWarningThreshold": "uint32", "TrafficCriticalThreshold": "uint32", "TrafficOutUsage": "uint32", "TrafficOutStopService": "bool",
	"AffinityGroup": "any", "DeploymentModel": "any", "AzureEnvironmentId": "any", "AADApplicationId": "any", "CreationTime": "any",
	"RootCertificate": "any", "SubCACertificate": "any", "SubCACertThumbprint": "string", "ProxyCertificateConfig": "any", "SerializedServiceCertificate": "any",
}

func typeName(v any) string {
	switch v := v.(type) {
	case string:
		return "string"
	case bool:
		return "bool"
	case float64:
		if v >= 0 && v < 1<<32 && v == float64(uint32(v)) {
			return "uint32"
		}
	}
	return fmt.Sprintf("%T", v)
}

// TestWMIGateway follows SMS_AzureService through the life of a gateway.
func TestWMIGateway(t *testing.T) {
	r := newRig(t)
	app := r.connect()
	root := must(pki.ParseCertificates([]byte(r.root("Clients"))))(t)[0]
	do[any](r, "POST", "TrustedCertificates", adminservice.TrustedCertificate{Store: adminservice.RootCA, Certificate: string(pki.EncodeCertificates(root))})
	// The states while operations run are seen at their first steps.
	seen := map[string]float64{}
	r.onStep = func(op, _ string) {
		if _, ok := seen[op]; !ok {
			seen[op] = r.wmi("/SMS_AzureService", 200)[0]["State"].(float64)
		}
	}
	in := r.newGateway()
	in.Description = "main"
	r.finish(do[adminservice.Operation](r, "POST", "Gateways", in))
	one := r.wmi("/SMS_AzureService(16777217)", 200)
	if len(one) != 1 {
		t.Fatalf("%d with the key", len(one))
	}
	got := map[string]string{}
	for name, v := range one[0] {
		got[name] = typeName(v)
		if azureServiceProperties[name] == "any" {
			got[name] = "any"
		}
	}
	if diff := cmp.Diff(azureServiceProperties, got); diff != "" {
		t.Errorf("properties and types:\n%s", diff)
	}
	want := map[string]any{
		"AzureServiceID": 16777217.0, "Name": "granitefalls", "Fqdn": "granitefalls.westeurope.cloudapp.lab.opencmg.example", "ServiceCName": serviceName, "ServiceType": "CloudProxyService",
		"SiteCode": "LAB", "Description": "main", "Region": "westeurope", "NumberOfInstances": 2.0, "SubscriptionID": subscriptionID, "State": 0.0, "StatusDetails": 1.0,
		"DeploymentSlot": "Production", "DeploymentModel": 1.0, "AADApplicationId": app.ClientID, "TrafficOutInGB": 10000.0, "StorageQuotaInGB": 2000.0, "TrafficCriticalThreshold": 90.0,
		"AffinityGroup": "granitefalls", "SubCACertThumbprint": "", "RootCertificate": string(pki.EncodeCertificates(root)),
		"NALPath": `["Display=\\granitefalls.westeurope.cloudapp.lab.opencmg.example\"]MSWNET:["SMS_SITE=LAB"]\\granitefalls.westeurope.cloudapp.lab.opencmg.example\`,
	}
	for name, v := range want {
		if one[0][name] != v {
			t.Errorf("%s is %v, want %v", name, one[0][name], v)
		}
	}
	if diff := cmp.Diff([]map[string]any{{"Name": "granitefalls", "State": 0.0}}, r.wmi("/SMS_AzureService?$select=Name,State&$filter=State%20eq%200%20and%20CreationTime%20gt%202020-01-01T00:00:00Z", 200)); diff != "" {
		t.Error(diff)
	}
	state := func(want float64) {
		t.Helper()
		if got := r.wmi("/SMS_AzureService('16777217')", 200)[0]["State"]; got != want {
			t.Errorf("State %v, want %v", got, want)
		}
	}
	r.finish(do[adminservice.Operation](r, "POST", "Gateways/granitefalls/stop", nil))
	state(6)
	r.finish(do[adminservice.Operation](r, "POST", "Gateways/granitefalls/start", nil))
	state(0)
	tasks := r.wmi("/SMS_AzureServicesTask?$filter=TaskTypeId%20eq%204", 200)
	if len(tasks) != 1 || tasks[0]["TaskStateId"] != 3.0 || tasks[0]["AzureServiceId"] != 16777217.0 || tasks[0]["TaskEndTime"] == nil {
		t.Errorf("tasks: %v", tasks)
	}
	r.finish(do[adminservice.Operation](r, "DELETE", "Gateways/granitefalls", nil))
	r.wmi("/SMS_AzureService(16777217)", 404)
	if diff := cmp.Diff(map[string]float64{"create": 1, "stop": 5, "start": 4, "delete": 99}, seen); diff != "" {
		t.Errorf("states of operations:\n%s", diff)
	}
}

func TestWMIClasses(t *testing.T) {
	r := newRig(t)
	app := r.connect()
	point := r.join("cp1", "")
	var names []string
	for _, path := range []string{"", "/"} {
		names = nil
		for _, c := range r.wmi(path, 200) {
			names = append(names, c["name"].(string))
			if c["kind"] != "EntitySet" || c["url"] != c["name"] {
				t.Errorf("%v", c)
			}
		}
	}
	if diff := cmp.Diff([]string{"SMS_AzureService", "SMS_AzureServicesTask", "SMS_AAD_Application_Ex", "SMS_AAD_Tenant_Ex", "SMS_Azure_CloudService", "SMS_SCI_SysResUse"}, names); diff != "" {
		t.Error(diff)
	}
	for _, name := range names {
		r.wmi("/"+name, 200)
		r.wmi("/"+strings.ToLower(name), 404) // upper and lower case count
		r.wmi("/"+name+"(x", 404)
		r.wmi("/"+name+"('x')", 404)
	}
	r.wmi("/SMS_Site", 404)
	r.wmi("/SMS_AzureService?$expand=x", 400)
	if res := r.raw("POST", "/AdminService/wmi/SMS_AzureService", "{}", nil); res.StatusCode != http.StatusMethodNotAllowed {
		t.Errorf("POST: %s", res.Status)
	}
	apps := r.wmi("/SMS_AAD_Application_Ex?$select=ClientID,SecretKey&$filter=IsClientApp%20eq%20false", 200)
	if diff := cmp.Diff([]map[string]any{{"ClientID": app.ClientID, "SecretKey": nil}}, apps); diff != "" {
		t.Error(diff)
	}
	secret := string(must(r.db.Secret(t.Context(), "application/"+app.ID))(t))
	for _, name := range names {
		if strings.Contains(fmt.Sprint(r.wmi("/"+name, 200)), secret) {
			t.Errorf("%s shows the secret", name)
		}
	}
	if diff := cmp.Diff([]map[string]any{{"Name": "Fourth Coffee", "TenantID": tenantID}}, r.wmi("/SMS_AAD_Tenant_Ex("+tenantID+")?$select=Name,TenantID", 200)); diff != "" {
		t.Error(diff)
	}
	if s := r.wmi("/SMS_Azure_CloudService(1)", 200); s[0]["Name"] != "Fourth Coffee" {
		t.Errorf("%v", s)
	}
	roles := r.wmi("/SMS_SCI_SysResUse?$orderby=RoleName", 200)
	if len(roles) != 2 || roles[0]["RoleName"] != "SMS Cloud Proxy Connector" || roles[0]["NetworkOSPath"] != `\\cp1` || roles[1]["RoleName"] != "SMS Dmp Connector" {
		t.Errorf("%s: %v", point.name, roles)
	}
}
