package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencmg/opencmg/adminservice"
)

// TestCommandLine goes through what a shell does with cmdlets, on a site that
// has everything.
func TestCommandLine(t *testing.T) {
	t.Parallel()
	dir, info := startLab(t)
	// shell wants what a bare lab has.
	info.SetUp.EnvFile = filepath.Join(t.TempDir(), "env")
	writeTestFile(t, info.SetUp.EnvFile, "export OPENCMG_PROFILE="+filepath.Join(dir, "site", "administrator.yaml")+"\nset -eu\n")
	c := administer(t, info)
	gateway := func() adminservice.Gateway {
		t.Helper()
		g, err := adminservice.Get[adminservice.Gateway](t.Context(), c, "Gateways/"+labServiceName)
		if err != nil {
			t.Fatal(err)
		}
		return g
	}

	// Objects in a pipe are JSON, one on each line, with the documented names.
	var o struct {
		Name, ServiceCName, ObjectClass string
		NumberOfInstances               int
		State                           *int
	}
	out := shell(t, info, "opencmg get-cmcloudmanagementgateway -name 'GATE*'")
	if err := json.Unmarshal([]byte(out), &o); err != nil || o.ServiceCName != labServiceName || o.NumberOfInstances != 2 || o.ObjectClass != "SMS_AzureService" || o.State == nil {
		t.Errorf("%v %+v in %s", err, o, out)
	}
	if out := shell(t, info, "opencmg gateway list -Name 'nothing*'; opencmg Get-CMCloudManagementGateway -Name 'GATE*' -DisableWildcardHandling"); out != "" {
		t.Errorf("a pattern that matches nothing printed %s", out)
	}
	if out := shell(t, info, "opencmg gateway list --output table"); !strings.Contains(out, "SERVICECNAME") || !strings.Contains(out, "Ready") {
		t.Errorf("the table is\n%s", out)
	}

	// Several objects are bound one after the other; what is not waited for
	// goes on.
	before := gateway()
	out = shell(t, info, `opencmg connection-point list -SiteSystemServerName 'cp?' | opencmg Get-CMCloudManagementGatewayConnectionPoint
		opencmg Get-CMSiteSystemServer -Name cp2 </dev/null | opencmg Get-CMCloudManagementGatewayConnectionPoint`)
	if n := strings.Count(out, "SMS Cloud Proxy Connector"); n != 3 {
		t.Errorf("%d connection points in\n%s", n, out)
	}
	out = shell(t, info, "opencmg Get-CMCloudManagementGateway | opencmg Stop-CMCloudManagementGateway -WhatIf")
	if want := "What if: Performing the operation \"Stop-CMCloudManagementGateway\" on target \"" + labServiceName + "\".\n"; out != want {
		t.Errorf("printed %q", out)
	}
	out = shell(t, info, "opencmg gateway set --name gateway --description 'a new one' --traffic-out-gb 50 --enable-traffic-out true --pass-thru")
	after := gateway()
	if after.Description != "a new one" || !after.Traffic.Enabled || after.Traffic.GB != 50 || after.Traffic.WarningPct != 50 || after.Instances != before.Instances || !strings.Contains(out, `"TrafficOutInGB":50`) {
		t.Errorf("%+v, printed %s", after.GatewaySettings, out)
	}

	// Nothing is removed without a yes, and nobody can say it here.
	out = shell(t, info, "opencmg Get-CMCloudManagementGateway | opencmg Remove-CMCloudManagementGateway || echo refused with $?")
	if !strings.Contains(out, "-Force") || !strings.Contains(out, "refused with 1") || gateway().State != adminservice.StateReady {
		t.Errorf("printed %s", out)
	}
	// An object of another class is no gateway.
	out = shell(t, info, "opencmg connection-point list | opencmg Stop-CMCloudManagementGateway || echo refused with $?")
	if !strings.Contains(out, "SMS_SCI_SysResUse") || !strings.Contains(out, "refused with 2") && !strings.Contains(out, "refused with 1") {
		t.Errorf("printed %s", out)
	}

	// CAs: what one adds, one can remove by either thumbprint.
	trusted, err := adminservice.List[adminservice.TrustedCertificate](t.Context(), c, "TrustedCertificates", nil)
	if err != nil || len(trusted) != 2 {
		t.Fatalf("%v %+v", err, trusted)
	}
	shell(t, info, "opencmg Set-CMCloudManagementGateway -Name gateway -CARootCert "+filepath.Join(dir, "pki", "client-root.pem")+"=RootCA")
	if g := gateway(); len(g.Certificates) != 0 {
		t.Errorf("adding a CA that the site trusts narrowed the gateway to %v", g.Certificates)
	}
	shell(t, info, "opencmg Set-CMCloudManagementGateway -Name gateway -RemoveCertThumbprints "+strings.ToUpper(trusted[0].Thumbprint))
	if g := gateway(); len(g.Certificates) != 1 || g.Certificates[0] != trusted[1].ID {
		t.Errorf("after the removal the gateway trusts %v", g.Certificates)
	}
	out = shell(t, info, "opencmg Set-CMCloudManagementGateway -Name gateway -RemoveCertThumbprints "+trusted[1].Thumbprint+" || echo refused")
	if !strings.Contains(out, "left without any CA") || len(gateway().Certificates) != 1 {
		t.Errorf("printed %s", out)
	}

	// Secrets: from a file, from the environment, and not in what is printed.
	pfx := filepath.Join(dir, "pki", "server.pfx")
	writeTestFile(t, filepath.Join(dir, "password"), "wrong-planted-password\n")
	for _, how := range []string{
		"-ServiceCertPasswordFile " + filepath.Join(dir, "password"),
		"--service-cert-password=wrong-planted-password", "-ServiceCertPasswordEnv PLANTED",
	} {
		out = shell(t, info, "export PLANTED=wrong-planted-password; opencmg New-CMCloudManagementGateway -ServiceCertPath "+pfx+" -Region westeurope "+how+" || echo refused with $?")
		if !strings.Contains(out, "the password does not open the file") || !strings.Contains(out, "refused with 1") || strings.Contains(out, "planted") {
			t.Errorf("%s printed %s", how, out)
		}
	}
	out = shell(t, info, "OPENCMG_SERVICE_CERT_PASSWORD=wrong-planted-password opencmg gateway create --service-cert-path "+pfx+" || true")
	if !strings.Contains(out, "the password does not open the file") {
		t.Errorf("from the environment: %s", out)
	}

	// Names that the site has are completed.
	for words, want := range map[string]string{
		"gateway stop --name ga": labServiceName + "\twesteurope\n", "Set-CMCloudManagementGatewayConnectionPoint -SiteSystemServerName cp": "cp1\tSMS Cloud Proxy Connector\ncp2\tSMS Cloud Proxy Connector\n",
		"application list -TenantName ''": "Lab\t" + labTenant + "\n",
	} {
		if out := shell(t, info, "opencmg __complete "+words); out != want {
			t.Errorf("%s is completed to %q", words, out)
		}
	}
	if bash, err := os.Stat("/bin/bash"); err == nil && !bash.IsDir() {
		out = shell(t, info, `bash -c 'source <(opencmg completion bash); COMP_WORDS=(opencmg gateway stop --name ga); COMP_CWORD=4; _opencmg; printf "%s" "${COMPREPLY[@]}"'`)
		if out != labServiceName {
			t.Errorf("bash completes to %q", out)
		}
	}
	if out := shell(t, info, "opencmg client-properties"); !strings.HasPrefix(out, "CCMHOSTNAME="+labServiceName+"/CCM_Proxy_MutualAuth/7205") || !strings.HasSuffix(out, " SMSSITECODE=LAB\n") {
		t.Errorf("client-properties printed %q", out)
	}

	// How to sign in is kept.
	out = shell(t, info, "unset OPENCMG_PROFILE; export XDG_CONFIG_HOME=$PWD HOME=$PWD; opencmg connect --site "+info.AdminService.URL+" --ca-file "+info.AdminService.CAFile+" --token-file "+info.AdminService.TokenFile+" && opencmg tenant list && stat -c %a opencmg/site.yaml")
	if !strings.Contains(out, "Full Administrator") || !strings.Contains(out, labTenant) || !strings.HasSuffix(out, "600\n") {
		t.Errorf("connect printed %s", out)
	}
}
