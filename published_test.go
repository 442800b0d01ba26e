package opencmg_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/opencmg/opencmg"
)

func validConfiguration() *opencmg.PublishedConfiguration {
	return &opencmg.PublishedConfiguration{
		Version: 1, Gateway: "gw", Site: "LAB", ServiceName: "gw.example.com", Instances: 2,
		Roles: []opencmg.PublishedRole{
			{ID: "72057594037927937", Site: "LAB", Kind: opencmg.KindManagementPoint, Name: "mp", Endpoints: opencmg.ManagementPointEndpoints()},
			{ID: "2", Site: "LAB", Kind: opencmg.KindService, Name: "wiki", Prefix: "/wiki/", Endpoints: []opencmg.Endpoint{
				{Name: "wiki", Auth: []opencmg.AuthMode{opencmg.AuthNone}, Methods: []string{"GET"}},
			}},
		},
		ConnectionPoints: []opencmg.RegisteredConnectionPoint{{Name: "cp1", ConnectionID: "cp1", Site: "LAB"}},
		Tenants: []opencmg.Tenant{{
			ID: "6f3b5a0e-8d2c-4c57-9a41-2d1f0e9b7c11", ResourceURI: "api://x", Issuers: []string{"i"}, Authority: "https://a",
		}},
	}
}

func TestPublishedConfigurationValidate(t *testing.T) {
	if err := validConfiguration().Validate(); err != nil {
		t.Fatalf("a valid configuration: %v", err)
	}
	mpEndpoint := func(c *opencmg.PublishedConfiguration) *opencmg.Endpoint { return &c.Roles[0].Endpoints[0] }
	for _, tt := range []struct {
		name   string
		change func(*opencmg.PublishedConfiguration)
		kind   opencmg.Kind
		says   string
	}{
		{"no version", func(c *opencmg.PublishedConfiguration) { c.Version = 0 }, opencmg.Invalid, "version"},
		{"no gateway", func(c *opencmg.PublishedConfiguration) { c.Gateway = "" }, opencmg.Invalid, "gateway"},
		{"site code", func(c *opencmg.PublishedConfiguration) { c.Site = "LONG" }, opencmg.Invalid, "site code"},
		{"17 instances", func(c *opencmg.PublishedConfiguration) { c.Instances = 17 }, opencmg.Invalid, "1 to 16"},
		{"role ID", func(c *opencmg.PublishedConfiguration) { c.Roles[0].ID = "007" }, opencmg.Invalid, "role ID"},
		{"role ID too large", func(c *opencmg.PublishedConfiguration) { c.Roles[0].ID = "18446744073709551616" }, opencmg.Invalid, "role ID"},
		{"same role twice", func(c *opencmg.PublishedConfiguration) { c.Roles[0].ID = "2" }, opencmg.Conflict, "same id"},
		{"unknown kind", func(c *opencmg.PublishedConfiguration) { c.Roles[0].Kind = "printer" }, opencmg.Invalid, "kind"},
		{"prefix on a management point", func(c *opencmg.PublishedConfiguration) { c.Roles[0].Prefix = "/x/" }, opencmg.Invalid, "prefix"},
		{"prefix without slash", func(c *opencmg.PublishedConfiguration) { c.Roles[1].Prefix = "/wiki" }, opencmg.Invalid, "slash"},
		{"reserved prefix", func(c *opencmg.PublishedConfiguration) { c.Roles[1].Prefix = "/CCM_Proxy_MutualAuth/" }, opencmg.Invalid, "reserved"},
		{"WindowsAuth", func(c *opencmg.PublishedConfiguration) { mpEndpoint(c).Path = "ccm_system_WindowsAuth" }, opencmg.Forbidden, "never published"},
		{"WindowsAuth below", func(c *opencmg.PublishedConfiguration) { mpEndpoint(c).Path = "CMUserService_WINDOWSAUTH/x" }, opencmg.Forbidden, "never published"},
		{"AltAuth", func(c *opencmg.PublishedConfiguration) { mpEndpoint(c).Path = "SMS_MP_AltAuth" }, opencmg.Forbidden, "never published"},
		{"dot segment", func(c *opencmg.PublishedConfiguration) { mpEndpoint(c).Path = "a/../b" }, opencmg.Invalid, "path"},
		{"leading slash", func(c *opencmg.PublishedConfiguration) { mpEndpoint(c).Path = "/a" }, opencmg.Invalid, "path"},
		{"path twice", func(c *opencmg.PublishedConfiguration) { mpEndpoint(c).Path = "sms_mp" }, opencmg.Conflict, "twice"},
		{"no auth", func(c *opencmg.PublishedConfiguration) { mpEndpoint(c).Auth = nil }, opencmg.Invalid, "auth"},
		{"unknown auth", func(c *opencmg.PublishedConfiguration) { mpEndpoint(c).Auth = []opencmg.AuthMode{"ntlm"} }, opencmg.Invalid, "ntlm"},
		{"no methods", func(c *opencmg.PublishedConfiguration) { mpEndpoint(c).Methods = nil }, opencmg.Invalid, "method"},
		{"CONNECT", func(c *opencmg.PublishedConfiguration) { mpEndpoint(c).Methods = []string{"CONNECT"} }, opencmg.Invalid, "CONNECT"},
		{"negative length", func(c *opencmg.PublishedConfiguration) { mpEndpoint(c).MaxContentLength = -1 }, opencmg.Invalid, "maxContentLength"},
		{"no name", func(c *opencmg.PublishedConfiguration) { mpEndpoint(c).Name = "" }, opencmg.Invalid, "name"},
		{"connection ID", func(c *opencmg.PublishedConfiguration) { c.ConnectionPoints[0].ConnectionID = "" }, opencmg.Invalid, "connection ID"},
		{"tenant ID", func(c *opencmg.PublishedConfiguration) { c.Tenants[0].ID = "contoso" }, opencmg.Invalid, "GUID"},
		{"tenant without issuers", func(c *opencmg.PublishedConfiguration) { c.Tenants[0].Issuers = nil }, opencmg.Invalid, "issuers"},
		{"TLS 1.1", func(c *opencmg.PublishedConfiguration) { c.TLS.MinVersion = "1.1" }, opencmg.Invalid, "minVersion"},
		{"server certificate", func(c *opencmg.PublishedConfiguration) { c.ServerCertificate = strings.Repeat("AB", 32) }, opencmg.Invalid, "serverCertificate"},
		{"too many challenges", func(c *opencmg.PublishedConfiguration) { c.Challenges = make([]opencmg.ACMEChallenge, 101) }, opencmg.Invalid, "more than 100"},
		{"challenge", func(c *opencmg.PublishedConfiguration) { c.Challenges = []opencmg.ACMEChallenge{{Type: "dns-01"}} }, opencmg.Invalid, "http-01 or tls-alpn-01"},
		{"CRL policy", func(c *opencmg.PublishedConfiguration) { c.Certificates.CRLUnreachable = "maybe" }, opencmg.Invalid, "crlUnreachable"},
	} {
		c := validConfiguration()
		tt.change(c)
		err := c.Validate()
		if !errors.Is(err, tt.kind) || !strings.Contains(err.Error(), tt.says) {
			t.Errorf("%s: got %v, want a %q error that says %q", tt.name, err, tt.kind, tt.says)
		}
	}
}

func TestChallengeValidate(t *testing.T) {
	good := opencmg.ACMEChallenge{
		Type: opencmg.ChallengeHTTP, Domain: "gw.example.com", Token: "to-ken_1", KeyAuthorization: "to-ken_1." + strings.Repeat("a", 43),
	}
	if err := good.Validate(); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		says   string
		change func(*opencmg.ACMEChallenge)
	}{
		{"must be http-01", func(c *opencmg.ACMEChallenge) { c.Type = "HTTP-01" }},
		{"lower case", func(c *opencmg.ACMEChallenge) { c.Domain = "GW.example.com" }},
		{"lower case", func(c *opencmg.ACMEChallenge) { c.Domain = "*.example.com" }},
		{"lower case", func(c *opencmg.ACMEChallenge) { c.Domain = strings.Repeat("a.", 130) + "example" }},
		{"base64url", func(c *opencmg.ACMEChallenge) { c.Token, c.KeyAuthorization = "", "."+strings.Repeat("a", 43) }},
		{"base64url", func(c *opencmg.ACMEChallenge) { c.Token, c.KeyAuthorization = "../a", "../a."+strings.Repeat("a", 43) }},
		{"key authorization", func(c *opencmg.ACMEChallenge) { c.KeyAuthorization = "other." + strings.Repeat("a", 43) }},
		{"key authorization", func(c *opencmg.ACMEChallenge) { c.KeyAuthorization += "a" }},
	} {
		c := good
		tt.change(&c)
		if err := c.Validate(); !errors.Is(err, opencmg.Invalid) || !strings.Contains(err.Error(), tt.says) {
			t.Errorf("%+v: got %v, want %q", c, err, tt.says)
		}
	}
}

func TestManagementPointEndpointsNeverOpenRegistrationTokensWide(t *testing.T) {
	for _, e := range opencmg.ManagementPointEndpoints() {
		bulk, wide := false, true
		for _, m := range e.Auth {
			bulk = bulk || m == opencmg.AuthBulkToken
			if m == opencmg.AuthNone {
				t.Errorf("%s is open to everybody", e.Name)
			}
		}
		wide = e.Name != "ccm_system_tokenauth" && e.Name != "CCM_Client"
		if bulk && wide {
			t.Errorf("%s takes bulk registration tokens", e.Name)
		}
	}
}

func TestIdentityRoundTrip(t *testing.T) {
	for _, id := range []opencmg.Identity{
		{Auth: opencmg.AuthNone},
		{Auth: opencmg.AuthPKI, Thumbprint: "ab", Subject: "CN=a b&c=d;\r\nX: y"},
		{Auth: opencmg.AuthCCMToken, ClientID: "GUID:11111111-2222-3333-4444-555555555555", TenantID: "t", DeviceID: "d", UserID: "u", UserSID: "S-1", TokenID: "i"},
	} {
		s := id.Encode()
		if strings.ContainsAny(s, "\r\n ") {
			t.Errorf("%q can not stand in a header field", s)
		}
		got, err := opencmg.ParseIdentity(s)
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(id, got); d != "" {
			t.Errorf("(-want +got)\n%s", d)
		}
	}
	for _, s := range []string{"", "auth=root", "auth=pki&client=GUID:1", "auth=%zz", "client=GUID:11111111-2222-3333-4444-555555555555"} {
		if id, err := opencmg.ParseIdentity(s); err == nil {
			t.Errorf("%q was read as %+v", s, id)
		}
	}
}

func TestParseClientID(t *testing.T) {
	got, err := opencmg.ParseClientID("guid:aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee")
	if err != nil || got != "GUID:AAAAAAAA-BBBB-CCCC-DDDD-EEEEEEEEEEEE" {
		t.Errorf("got %q, %v", got, err)
	}
	for _, s := range []string{"", "GUID:", "aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee", "GUID:aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeee'", "GUID:{aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeee}", "GUID:aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee;--"} {
		if id, err := opencmg.ParseClientID(s); err == nil {
			t.Errorf("%q was read as %q", s, id)
		}
	}
}
