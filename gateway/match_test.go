package gateway

import (
	"net"
	"strings"
	"testing"
	"time"

	"github.com/opencmg/opencmg"
)

func matchConfiguration() *opencmg.PublishedConfiguration {
	get := []string{"GET"}
	pkiOnly, none := []opencmg.AuthMode{opencmg.AuthPKI}, []opencmg.AuthMode{opencmg.AuthNone}
	return &opencmg.PublishedConfiguration{Roles: []opencmg.PublishedRole{
		{ID: "8", Site: "LAB", Kind: opencmg.KindManagementPoint, Endpoints: opencmg.ManagementPointEndpoints()},
		{ID: "9", Site: "LAB", Kind: opencmg.KindSoftwareUpdatePoint, Endpoints: []opencmg.Endpoint{
			{Name: "all", Path: "", Auth: pkiOnly, Methods: get},
			{Name: "content", Path: "Content", Auth: none, Methods: get},
			{Name: "deep", Path: "Content/Deep", Auth: pkiOnly, Methods: get},
		}},
		{ID: "10", Site: "LAB", Kind: opencmg.KindService, Prefix: "/Team/", Endpoints: []opencmg.Endpoint{{Name: "team", Path: "", Auth: none, Methods: get}}},
		{ID: "11", Site: "LAB", Kind: opencmg.KindService, Prefix: "/team/inner/", Endpoints: []opencmg.Endpoint{{Name: "inner", Path: "a", Auth: none, Methods: get}}},
	}}
}

func testMatcher(t testing.TB) *matcher {
	m, err := newMetrics(noRegisterer{})
	if err != nil {
		t.Fatal(err)
	}
	return newMatcher(matchConfiguration(), 1000, &trafficTable{m: m, all: map[string]*traffic{}})
}

func TestMatcher(t *testing.T) {
	m := testMatcher(t)
	for _, tt := range []struct {
		path, want string
		door       door
	}{
		{"/CCM_Proxy_MutualAuth/8/SMS_MP", "8/SMS_MP", mutualAuth},
		{"/ccm_proxy_mutualauth/8/sms_mp/.sms_aut", "8/SMS_MP", mutualAuth},
		{"/CCM_PROXY_SERVERAUTH/8/CCM_System_TokenAuth/request", "8/ccm_system_tokenauth", serverAuth},
		{"/CCM_Proxy_MutualAuth/8/CCM_System_TokenAuth/request", "", mutualAuth},
		{"/CCM_Proxy_ServerAuth/8/CCM_System/request", "", serverAuth},
		{"/CCM_Proxy_MutualAuth/8/", "", mutualAuth},
		{"/CCM_Proxy_MutualAuth/8", "", mutualAuth},
		{"/CCM_Proxy_MutualAuth/08/SMS_MP", "", mutualAuth},
		{"/CCM_Proxy_MutualAuth/8/SMS_MP_AltAuth", "", mutualAuth},
		{"/CCM_Proxy_MutualAuth/9", "9/all", mutualAuth},
		{"/CCM_Proxy_MutualAuth/9/x/y", "9/all", mutualAuth},
		{"/CCM_Proxy_MutualAuth/9/contents", "9/all", mutualAuth},
		{"/CCM_Proxy_MutualAuth/9/content/x", "9/content", mutualAuth},
		{"/CCM_Proxy_ServerAuth/9/content/x", "9/content", serverAuth},
		{"/CCM_Proxy_ServerAuth/9/content/deep", "", serverAuth},
		{"/CCM_Proxy_MutualAuth/9/content/deep/er", "9/deep", mutualAuth},
		{"/CCM_Proxy_MutualAuth/9/X_WINDOWSAUTH/y", "", mutualAuth},
		{"/team", "10/team", service},
		{"/TEAM/", "10/team", service},
		{"/team/x", "10/team", service},
		{"/team/inner/a/b", "11/inner", service},
		{"/team/inner/b", "", service},
		{"/team/innermost", "10/team", service},
		{"/teams/x", "", service},
		{"/", "", service},
		{"", "", service},
		{"/" + strings.Repeat("x", 100) + "/y", "", service},
	} {
		ep, d := m.match([]byte(tt.path))
		got := ""
		if ep != nil {
			got = ep.name
		}
		if got != tt.want || d != tt.door {
			t.Errorf("%s: got %q door %d, want %q door %d", tt.path, got, d, tt.want, tt.door)
		}
	}
	path := []byte("/ccm_proxy_serverauth/8/ccm_system_tokenauth/request")
	if n := testing.AllocsPerRun(100, func() { m.match(path) }); n != 0 {
		t.Errorf("a match allocates %v times", n)
	}
}

// FuzzMatcher: whatever is found lies where its configuration says, and the
// applications that are never published are never found.
func FuzzMatcher(f *testing.F) {
	f.Add("/CCM_Proxy_MutualAuth/8/SMS_MP/x")
	f.Add("/CCM_Proxy_ServerAuth/9/content")
	f.Add("/team/inner/a")
	m := testMatcher(f)
	f.Fuzz(func(t *testing.T, path string) {
		ep, d := m.match([]byte(path))
		if ep == nil {
			return
		}
		base := ep.role.Prefix
		switch d {
		case mutualAuth:
			base = opencmg.MutualAuthPrefix + string(ep.role.ID) + "/"
		case serverAuth:
			base = opencmg.ServerAuthPrefix + string(ep.role.ID) + "/"
		}
		lower, want := asciiLower(path)+"/", asciiLower(base+ep.published)
		if !strings.HasSuffix(want, "/") {
			want += "/"
		}
		if !strings.HasPrefix(lower, want) {
			t.Errorf("%q was matched to %q", path, want)
		}
		first, _, _ := strings.Cut(strings.TrimPrefix(lower, asciiLower(base)), "/")
		if strings.Contains(first, "_altauth") || strings.Contains(first, "_windowsauth") {
			t.Errorf("%q is published", path)
		}
	})
}

func asciiLower(s string) string {
	b := []byte(s)
	for i, c := range b {
		b[i] = toLower(c)
	}
	return string(b)
}

func TestRateLimiterIsBounded(t *testing.T) {
	var l rateLimiter
	now := time.Unix(1e9, 0)
	allowed := 0
	for i := range 3 * maxBuckets {
		if l.allow(&net.TCPAddr{IP: net.IPv4(10, byte(i>>16), byte(i>>8), byte(i))}, now) {
			allowed++
		}
	}
	if len(l.buckets) > maxBuckets || allowed != maxBuckets {
		t.Errorf("%d buckets, %d newcomers allowed; want at most %d", len(l.buckets), allowed, maxBuckets)
	}
	if !l.allow(&net.TCPAddr{IP: net.IPv4(11, 0, 0, 1)}, now.Add(time.Minute)) {
		t.Error("no room after everybody calmed down")
	}
	one, two := &net.TCPAddr{IP: net.ParseIP("2001:db8::1")}, &net.TCPAddr{IP: net.ParseIP("2001:db8::2")}
	if rateKey(one) != rateKey(two) {
		t.Error("addresses of one /64 have buckets of their own")
	}
}
