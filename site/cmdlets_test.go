package site_test

import (
	"bytes"
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/opencmg/opencmg"
	"github.com/opencmg/opencmg/adminservice"
	"github.com/opencmg/opencmg/adminservice/cmdlet"
)

// cmdlet runs a cmdlet at the site and returns the lines of its answer.
func (r *rig) cmdlet(token, name string, call adminservice.CmdletCall) (lines []adminservice.CmdletLine, status int) {
	r.t.Helper()
	body, err := json.Marshal(call)
	if err != nil {
		r.t.Fatal(err)
	}
	req, err := http.NewRequestWithContext(r.t.Context(), "POST", r.c.URL+adminservice.BasePath+"Cmdlets/"+name, bytes.NewReader(body))
	if err != nil {
		r.t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Authorization", "Bearer "+token)
	res, err := r.c.HTTP.Do(req)
	if err != nil {
		r.t.Fatal(err)
	}
	defer res.Body.Close()
	d := json.NewDecoder(res.Body)
	for d.More() {
		if res.StatusCode != http.StatusOK {
			p := adminservice.CmdletLine{}
			if err := d.Decode(&p.Problem); err != nil {
				r.t.Fatal(err)
			}
			return []adminservice.CmdletLine{p}, res.StatusCode
		}
		var l adminservice.CmdletLine
		if err := d.Decode(&l); err != nil {
			r.t.Fatal(err)
		}
		lines = append(lines, l)
	}
	return lines, res.StatusCode
}

// TestCmdletsAtTheSite runs cmdlets as the PowerShell module does.
func TestCmdletsAtTheSite(t *testing.T) {
	r := newRig(t)
	full := string(r.c.Token)
	read := do[adminservice.Account](r, "POST", "Accounts", adminservice.Account{Name: "reader", Role: adminservice.ReadOnlyAnalyst, LocalToken: true}).Token

	// An app is registered and an Azure service made, by the sign-in of the
	// administrator's own app.
	lines, status := r.cmdlet(full, "New-CMAADServerApplication", adminservice.CmdletCall{Parameters: map[string]any{
		"AppName": "FcCmgServer", "TenantId": tenantID, "SignInClientId": deployerID, "SignInSecret": deployerSecret, "AzureEnvironmentOption": "AzureLab",
	}})
	if status != 200 || len(lines) < 2 || lines[0].Progress == nil || lines[len(lines)-1].Object["Name"] != "FcCmgServer" {
		t.Fatalf("%d %+v", status, lines)
	}
	server := lines[len(lines)-1].Object
	lines, _ = r.cmdlet(full, "New-CMAADClientApplication", adminservice.CmdletCall{Parameters: map[string]any{
		"AppName": "FcCmgClient", "InputObject": server, "SignInClientId": deployerID, "SignInSecret": deployerSecret,
	}})
	client := lines[len(lines)-1].Object
	if client["IsClientApp"] != true {
		t.Fatalf("%+v", lines)
	}
	schedule, _ := r.cmdlet(full, "New-CMSchedule", adminservice.CmdletCall{Parameters: map[string]any{"RecurInterval": "Days", "RecurCount": 2.0}})
	lines, status = r.cmdlet(full, "New-CMCloudManagementAzureService", adminservice.CmdletCall{Parameters: map[string]any{
		"Name": "Fourth Coffee", "ServerApp": server, "ClientApp": client, "UserDiscoverySchedule": schedule[0].Object, "EnableUserDeltaDiscovery": false,
	}})
	if status != 200 || lines[0].Object["Name"] != "Fourth Coffee" {
		t.Fatalf("%d %+v", status, lines)
	}
	if svc := do[adminservice.Page[adminservice.AzureService]](r, "GET", "AzureServices", nil).Value[0]; svc.UserFullHours != 48 || svc.GroupFullHours != 24 || svc.UserDeltaMinutes != 1440 {
		t.Errorf("the schedule is %+v", svc)
	}

	// Files are sent along; one of the site's own host is not read.
	pfx := r.pfx("", serviceName)
	own := filepath.Join(t.TempDir(), "gw.pfx")
	if err := os.WriteFile(own, pfx, 0o600); err != nil {
		t.Fatal(err)
	}
	call := adminservice.CmdletCall{Parameters: map[string]any{
		"ServiceCertPath": own, "ServiceCertPassword": "", "Region": "WestEurope", "VMInstanceCount": 2.0, "VMSSVMSize": "B2s", "SubscriptionId": subscriptionID, "WhatIf": true,
	}}
	if lines, status = r.cmdlet(full, "New-CMCloudManagementGateway", call); status != 400 || !strings.Contains(string(lines[0].Problem), "was not sent along") {
		t.Errorf("%d %s", status, lines[0].Problem)
	}
	call.Files = map[string][]byte{own: pfx}
	lines, status = r.cmdlet(full, "New-CMCloudManagementGateway", call)
	if last := lines[len(lines)-1]; status != 200 || last.WhatIf != `What if: Performing the operation "New-CMCloudManagementGateway" on target "`+serviceName+`".` {
		t.Errorf("%d %+v", status, lines)
	}
	delete(call.Parameters, "WhatIf")
	call.Wait = true
	lines, status = r.cmdlet(full, "New-CMCloudManagementGateway", call)
	gateway := lines[len(lines)-1].Object
	if status != 200 || gateway["ServiceCName"] != serviceName || gateway["State"] != 0.0 {
		t.Fatalf("%d %+v", status, lines[len(lines)-1])
	}

	// The role is the caller's, and so is the name in the audit.
	stop := adminservice.CmdletCall{Input: []map[string]any{gateway}, Wait: true}
	if lines, status = r.cmdlet(read, "Get-CMCloudManagementGateway", adminservice.CmdletCall{Parameters: map[string]any{"Name": "granite*"}}); status != 200 || len(lines) != 1 {
		t.Errorf("a reader's Get: %d %+v", status, lines)
	}
	if lines, status = r.cmdlet(read, "Stop-CMCloudManagementGateway", stop); status != 403 || !strings.Contains(string(lines[0].Problem), "reader is Read-only Analyst") {
		t.Errorf("a reader stopped the gateway: %d %+v", status, lines)
	}
	if lines, status = r.cmdlet(full, "Stop-CMCloudManagementGateway", stop); status != 200 || lines[len(lines)-1].Progress == nil {
		t.Errorf("%d %+v", status, lines)
	}
	// What goes wrong after the first line ends the answer.
	if _, err := r.cloud.SetFault(labFault{Kind: "forbidden", Path: "virtualMachineScaleSets/.*/start", Method: "POST"}); err != nil {
		t.Fatal(err)
	}
	lines, status = r.cmdlet(full, "Start-CMCloudManagementGateway", stop)
	if last := lines[len(lines)-1]; status != 200 || last.Problem == nil || !strings.Contains(string(last.Problem), "correlationId") {
		t.Errorf("%d %+v", status, last)
	}
	for name, want := range map[string]int{"Get-Nothing": 404, "Remove-CMCloudManagementGateway": 400} {
		if lines, status = r.cmdlet(full, name, adminservice.CmdletCall{}); status != want {
			t.Errorf("%s: %d %+v", name, status, lines)
		}
	}
}

// TestWhatIf: with -WhatIf every cmdlet that changes something says what it would
// do and changes nothing, in the database and in the cloud.
func TestWhatIf(t *testing.T) {
	r := newRig(t)
	app := r.connect()
	r.finish(do[adminservice.Operation](r, "POST", "Gateways", r.newGateway()))
	r.join("cp1", r.gateway().ID)
	r.join("cp2", "")
	role := do[adminservice.SiteRole](r, "POST", "SiteRoles", adminservice.SiteRole{Kind: opencmg.KindManagementPoint, Name: "mp1", Internal: []string{"https://mp1.corp.example"}})
	sup := do[adminservice.SiteRole](r, "POST", "SiteRoles", adminservice.SiteRole{Kind: opencmg.KindSoftwareUpdatePoint, Name: "sup1", Internal: []string{"http://sup1.corp.example:8530"}})
	token := do[adminservice.BulkRegistrationToken](r, "POST", "BulkRegistrationTokens", adminservice.NewBulkToken{})
	do[any](r, "POST", "BulkRegistrationTokens/"+token.ID+"/block", nil)
	trusted := do[adminservice.TrustedCertificate](r, "POST", "TrustedCertificates", adminservice.TrustedCertificate{Store: adminservice.RootCA, Certificate: r.root("First")})
	do[adminservice.TrustedCertificate](r, "POST", "TrustedCertificates", adminservice.TrustedCertificate{Store: adminservice.RootCA, Certificate: r.root("Second")})
	do[adminservice.BoundaryGroup](r, "POST", "BoundaryGroups", adminservice.BoundaryGroup{Name: "Home"})
	var client adminservice.Application
	for _, a := range do[adminservice.Page[adminservice.Application]](r, "GET", "Applications", nil).Value {
		if a.Kind == adminservice.ClientApplication {
			client = a
		}
	}
	files := map[string][]byte{"gw.pfx": r.pfx("", "other.corp.example"), "same.pfx": r.pfx("", serviceName), "ca.pem": []byte(r.root("Third"))}

	// The values of every changing cmdlet, and the target that it names.
	calls := map[string]struct {
		values map[string]any
		target string
	}{
		"Import-CMAADServerApplication":                  {map[string]any{"TenantName": "T", "TenantId": tenantID, "AppName": "A", "ClientId": tenantID, "SecretKey": "s", "SecretKeyExpiry": "2027-01-01"}, "A"},
		"Import-CMAADClientApplication":                  {map[string]any{"TenantId": tenantID, "AppName": "A", "ClientId": tenantID}, "A"},
		"New-CMAADServerApplication":                     {map[string]any{"AppName": "A"}, "A"},
		"New-CMAADClientApplication":                     {map[string]any{"AppName": "A", "InputObject": app.Name}, "A"},
		"Set-UpdateServerApplication":                    {map[string]any{"TenantId": tenantID}, app.Name},
		"New-CMCloudManagementAzureService":              {map[string]any{"Name": "N", "ServerApp": app.Name, "ClientApp": client.Name}, "N"},
		"Set-CMCloudManagementAzureService":              {map[string]any{"Id": 1.0, "NewName": "N", "AddGroupName": []any{"g"}}, r.service().Name},
		"Remove-CMAzureService":                          {map[string]any{"Id": 1.0}, r.service().Name},
		"New-CMSchedule":                                 {map[string]any{"Nonrecurring": true}, ""},
		"New-CMCloudManagementGateway":                   {map[string]any{"ServiceCertPath": "gw.pfx", "ServiceCertPassword": "", "SubscriptionId": subscriptionID, "Region": "WestUS", "CARootCert": map[string]any{"ca.pem": "RootCA"}}, "other.corp.example"},
		"Set-CMCloudManagementGateway":                   {map[string]any{"Name": "granitefalls", "VMInstanceCount": 3.0, "ServiceCertPath": "same.pfx", "ServiceCertPassword": "", "CARootCert": map[string]any{"ca.pem": "RootCA"}, "RemoveCertThumbprints": []any{trusted.Thumbprint}}, serviceName},
		"Remove-CMCloudManagementGateway":                {map[string]any{"Name": serviceName}, serviceName},
		"Start-CMCloudManagementGateway":                 {map[string]any{"Name": serviceName}, serviceName},
		"Stop-CMCloudManagementGateway":                  {map[string]any{"Name": serviceName}, serviceName},
		"Sync-CMCloudManagementGateway":                  {map[string]any{"Name": serviceName}, serviceName},
		"Add-CMCloudManagementGatewayConnectionPoint":    {map[string]any{"CloudManagementGatewayName": "granitefalls", "SiteSystemServerName": "cp3"}, "cp3"},
		"Set-CMCloudManagementGatewayConnectionPoint":    {map[string]any{"CloudManagementGatewayName": "granitefalls", "SiteSystemServerName": "cp2"}, "cp2"},
		"Remove-CMCloudManagementGatewayConnectionPoint": {map[string]any{"SiteSystemServerName": "cp1"}, "cp1"},
		"Set-CMManagementPoint":                          {map[string]any{"SiteSystemServerName": "mp1", "EnableCloudGateway": true}, role.Name},
		"Add-CMManagementPoint":                          {map[string]any{"SiteSystemServerName": "mp2", "EnableCloudGateway": true}, "mp2"},
		"Set-CMSoftwareUpdatePoint":                      {map[string]any{"SiteSystemServerName": "sup1", "EnableCloudGateway": true, "EnableSsl": true}, sup.Name},
		"Add-CMSoftwareUpdatePoint":                      {map[string]any{"SiteSystemServerName": "sup2"}, "sup2"},
		"Set-CMClientSettingCloudService":                {map[string]any{"DefaultSetting": true, "AllowCloudManagementGateway": false}, adminservice.DefaultClientSettingsName},
		"Set-CMClientSetting":                            {map[string]any{"Name": adminservice.DefaultClientSettingsName, "AllowCloudDistributionPoint": true}, adminservice.DefaultClientSettingsName},
		"New-CMBoundaryGroup":                            {map[string]any{"Name": "Branch"}, "Branch"},
		"Set-CMBoundaryGroup":                            {map[string]any{"Name": "Home", "AddSiteSystemServerName": []any{"granitefalls"}, "PreferCloudDPOverDP": true}, "Home"},
		"Set-CMDefaultBoundaryGroup":                     {map[string]any{"PreferCloudBasedSources": true}, "Default-Site-Boundary-Group<LAB>"},
		"Block-CMCertificate":                            {map[string]any{"Id": strings.Repeat("ab", 32)}, strings.Repeat("ab", 32)},
		"Unblock-CMCertificate":                          {map[string]any{"Id": token.ID}, token.ID},
	}
	before, machines := r.snapshot(), len(r.cloud.State().Machines)
	for _, c := range cmdlet.Table() {
		if !c.Has("WhatIf") || c.Verb() == "Get" {
			continue
		}
		call, ok := calls[c.Name]
		if !ok {
			t.Errorf("%s changes something, and is not tried", c.Name)
			continue
		}
		call.values["WhatIf"] = true
		lines, status := r.cmdlet(string(r.c.Token), c.Name, adminservice.CmdletCall{Parameters: call.values, Files: files})
		if status != 200 {
			t.Errorf("%s: %d %s", c.Name, status, lines[0].Problem)
			continue
		}
		want := `What if: Performing the operation "` + c.Name + `" on target "` + call.target + `".`
		if call.target != "" && (len(lines) == 0 || lines[len(lines)-1].WhatIf != want) {
			t.Errorf("%s said %+v, want %s", c.Name, lines, want)
		}
		if after := r.snapshot(); after != before {
			t.Fatalf("%s -WhatIf changed the site: %s", c.Name, cmp.Diff(before, after))
		}
	}
	if n := len(r.cloud.State().Machines); n != machines {
		t.Errorf("the cloud has %d machines, not %d", n, machines)
	}
	// The same calls without -WhatIf do change it, so that the comparison means
	// something.
	for _, name := range []string{"Set-CMBoundaryGroup", "Set-CMManagementPoint", "Unblock-CMCertificate", "Set-CMDefaultBoundaryGroup", "Set-CMSoftwareUpdatePoint", "Set-CMClientSettingCloudService", "New-CMBoundaryGroup", "Add-CMManagementPoint"} {
		before := r.snapshot()
		delete(calls[name].values, "WhatIf")
		if lines, status := r.cmdlet(string(r.c.Token), name, adminservice.CmdletCall{Parameters: calls[name].values}); status != 200 || r.snapshot() == before {
			t.Errorf("%s changed nothing: %d %+v", name, status, lines)
		}
	}
	sup = do[adminservice.Page[adminservice.SiteRole]](r, "GET", "SiteRoles?$filter=name%20eq%20'sup1'", nil).Value[0]
	if !sup.AllowGatewayTraffic || sup.Internal[0] != "https://sup1.corp.example:8531" {
		t.Errorf("the software update point is %+v", sup)
	}
	groups, _ := r.cmdlet(string(r.c.Token), "Get-CMBoundaryGroupSiteSystem", adminservice.CmdletCall{Parameters: map[string]any{"GroupName": "H*"}})
	if len(groups) != 1 || groups[0].Object["NetworkOSPath"] != `\\`+serviceName {
		t.Errorf("the group refers to %+v", groups)
	}
}
