package site_test

import (
	"bytes"
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencmg/opencmg/adminservice"
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
