package opencmg_test

import (
	"errors"
	"net"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/opencmg/opencmg"
)

func TestParseConnectTo(t *testing.T) {
	for s, want := range map[string]opencmg.ConnectTo{
		"gw.example.com:443:127.0.0.1:8443": {FromHost: "gw.example.com", FromPort: "443", ToHost: "127.0.0.1", ToPort: "8443"},
		"::127.0.0.1:8443":                  {ToHost: "127.0.0.1", ToPort: "8443"},
		"[2001:db8::1]:443:[::1]:":          {FromHost: "2001:db8::1", FromPort: "443", ToHost: "::1"},
		"GW:::":                             {FromHost: "gw"},
	} {
		got, err := opencmg.ParseConnectTo(s)
		if err != nil {
			t.Errorf("%s: %v", s, err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", s, diff)
		}
	}
	for _, s := range []string{"", "a", "a:1", "a:1:b", "a:x:b:1", "a:1:b:99999", "a:1:b:2:3", "[::1:1:a:2", "[::1:1:b:2", "a:1:b:2]"} {
		if _, err := opencmg.ParseConnectTo(s); !errors.Is(err, opencmg.Invalid) || !strings.Contains(err.Error(), "HOST:PORT:HOST:PORT") {
			t.Errorf("%q: got %v, want an error that says the form", s, err)
		}
	}
}

func TestConnectAddresses(t *testing.T) {
	var rules []opencmg.ConnectTo
	for _, s := range []string{"gw.example.com:443:127.0.0.1:8443", "gw.example.com:443:[::1]:9443", "::proxy.example.com:", "[fe80::1]:1:a:2"} {
		r, err := opencmg.ParseConnectTo(s)
		if err != nil {
			t.Fatal(err)
		}
		rules = append(rules, r)
	}
	for addr, want := range map[string][]string{
		"GW.example.com:443": {"127.0.0.1:8443", "[::1]:9443", "proxy.example.com:443"},
		"other:80":           {"proxy.example.com:80"},
		"[fe80::1]:1":        {"proxy.example.com:1", "a:2"},
	} {
		host, port, err := net.SplitHostPort(addr)
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(want, opencmg.ConnectAddresses(rules, host, port)); d != "" {
			t.Errorf("%s: (-want +got)\n%s", addr, d)
		}
	}
	if got := opencmg.ConnectAddresses(nil, "a", "1"); len(got) != 0 {
		t.Errorf("without rules: %v", got)
	}
}
