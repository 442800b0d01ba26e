package client_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencmg/opencmg"
	"github.com/opencmg/opencmg/client"
)

func TestParseInstall(t *testing.T) {
	gw := client.InternetMP{Host: gatewayName, Role: role}
	tests := map[string]struct {
		words string
		want  client.Installation
	}{
		"token": {
			`/mp:https://gw.example.com/CCM_Proxy_MutualAuth/72057594037927936 CCMHOSTNAME=gw.example.com/CCM_Proxy_MutualAuth/72057594037927936 SMSSITECODE=lab /regtoken:a.b.c`,
			client.Installation{SiteCode: "LAB", Gateways: []client.InternetMP{gw}, RegistrationToken: "a.b.c"},
		},
		"any case": {
			`/MP:MP.Example.Com /NoCRLCheck ccmHostname=GW.example.com/ccm_proxy_SERVERAUTH/72057594037927936 SMSsiteCode=LAB ccmalwaysinf=1 SMSMP=http://mp2.example.com:8080`,
			client.Installation{SiteCode: "LAB", Gateways: []client.InternetMP{gw}, ManagementPoints: []string{"https://mp.example.com", "http://mp2.example.com:8080"}, NoCRLCheck: true, AlwaysInternet: true},
		},
		"entra": {
			`CCMHOSTNAME="gw.example.com/CCM_Proxy_MutualAuth/72057594037927936" SMSSITECODE=AUTO AADTENANTID=` + strings.ToUpper(tenant) + ` AADCLIENTAPPID=AAAAAAAA-2222-3333-4444-555555555555 AADRESOURCEURI=https://ConfigMgrService`,
			client.Installation{Gateways: []client.InternetMP{gw}, TenantID: tenant, ClientAppID: "aaaaaaaa-2222-3333-4444-555555555555", ResourceURI: "https://ConfigMgrService"},
		},
		"hostname comes first": {
			`/mp:gw2.example.com/CCM_Proxy_MutualAuth/8 CCMHOSTNAME=gw.example.com:8443/CCM_Proxy_MutualAuth/72057594037927936`,
			client.Installation{Gateways: []client.InternetMP{{Host: "gw.example.com:8443", Role: role}, {Host: "gw2.example.com", Role: "8"}}},
		},
		"words without meaning here": {
			`/mp:a;b /logon -UsePKICert CCMCERTSEL=Subject:x SMSCACHESIZE=5120 CMGFQDNs=https://gw.example.com/CCM_Proxy_MutualAuth/72057594037927936`,
			client.Installation{ManagementPoints: []string{"https://a", "https://b"}, GatewayURLs: []client.InternetMP{gw}, Words: []string{"/logon", "-UsePKICert", "CCMCERTSEL=Subject:x", "SMSCACHESIZE=5120"}},
		},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			got, err := client.ParseInstall(strings.Fields(tc.words))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(&tc.want, got); diff != "" {
				t.Errorf("installation (-want +got):\n%s", diff)
			}
		})
	}
}

func TestParseInstallErrors(t *testing.T) {
	const ok = "CCMHOSTNAME=gw.example.com/CCM_Proxy_MutualAuth/8 "
	tests := map[string]struct{ words, want string }{
		"nothing":            {"", "CCMHOSTNAME="},
		"unknown switch":     {ok + "/regtokn:a.b.c", "/regtokn:"},
		"unknown property":   {ok + "SMSSITCODE=LAB", "SMSSITCODE"},
		"bare word":          {ok + "hello", `"hello"`},
		"no role":            {"CCMHOSTNAME=gw.example.com", "role ID"},
		"role not a number":  {"CCMHOSTNAME=gw.example.com/CCM_Proxy_MutualAuth/x8", "decimal"},
		"plain http":         {"CCMHOSTNAME=http://gw.example.com/CCM_Proxy_MutualAuth/8", "https"},
		"host with space":    {"/mp:a%20b/CCM_Proxy_MutualAuth/8", "host name"},
		"empty mp":           {"/mp:", "management point or gateway"},
		"mp with path":       {"/mp:https://mp/x", "host name"},
		"mp ftp":             {"/mp:ftp://mp", "host name"},
		"token malformed":    {ok + "/regtoken:abc", "three parts"},
		"site code":          {ok + "SMSSITECODE=LABX", "three letters"},
		"always internet":    {ok + "CCMALWAYSINF=yes", "must be 1"},
		"tenant":             {ok + "AADTENANTID=x", "GUID"},
		"app":                {ok + "AADCLIENTAPPID=x", "GUID"},
		"resource":           {ok + "AADRESOURCEURI=x", "URI"},
		"nocrlcheck value":   {ok + "/nocrlcheck:1", "no value"},
		"uninstall":          {ok + "/uninstall", "/uninstall"},
		"cmgfqdns malformed": {"CMGFQDNS=x", "role ID"},
	}
	for name, tc := range tests {
		_, err := client.ParseInstall(strings.Fields(tc.words))
		if !errors.Is(err, opencmg.Invalid) || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: got %v, want an error that says %q", name, err, tc.want)
		}
	}
}

func TestSecretIsNotShown(t *testing.T) {
	in := client.Installation{RegistrationToken: "a.b.c"}
	if s := fmt.Sprintf("%v %+v %s", in, in, in.RegistrationToken); strings.Contains(s, "a.b.c") {
		t.Errorf("the token shows: %s", s)
	}
	if b, _ := json.Marshal(in); !strings.Contains(string(b), "a.b.c") {
		t.Errorf("the token is not kept: %s", b)
	}
}
