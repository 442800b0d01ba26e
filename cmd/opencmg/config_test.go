package main

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestConnectTo(t *testing.T) {
	to, err := parseConnectTo([]string{"gw.example.com:443:127.0.0.1:8443", "gw.example.com:443:[::1]:9443", "::proxy.example.com:", "[fe80::1]:1:a:2"})
	if err != nil {
		t.Fatal(err)
	}
	for addr, want := range map[string][]string{
		"GW.example.com:443": {"127.0.0.1:8443", "[::1]:9443", "proxy.example.com:443"},
		"other:80":           {"proxy.example.com:80"},
		"[fe80::1]:1":        {"proxy.example.com:1", "a:2"},
	} {
		if d := cmp.Diff(want, to.addresses(addr)); d != "" {
			t.Errorf("%s: (-want +got)\n%s", addr, d)
		}
	}
	if got := (connectTo)(nil).addresses("a:1"); len(got) != 1 || got[0] != "a:1" {
		t.Errorf("without rules: %v", got)
	}
	for _, s := range []string{"", "a", "a:1", "a:1:b", "a:1:b:2:3", "[::1:1:a:2", "a:1:b:2]"} {
		if _, err := parseConnectTo([]string{s}); err == nil || !strings.Contains(err.Error(), "HOST:PORT:HOST:PORT") {
			t.Errorf("%q: %v", s, err)
		}
	}
}

func TestNewGUID(t *testing.T) {
	a, b := newGUID(), newGUID()
	if len(a) != 36 || a == b || a[14] != '4' || strings.ToUpper(a) != a {
		t.Errorf("got %s and %s", a, b)
	}
}
