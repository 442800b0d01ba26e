package admincli

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/opencmg/opencmg"
	"github.com/opencmg/opencmg/adminservice"
)

func TestBulkTokenSwitches(t *testing.T) {
	for _, tt := range []struct {
		in, want string
		asked    bool
	}{
		{"/new", "", true},
		{"/NEW /lifetime 60", "--lifetime 60", true},
		{"/Lifetime 60 /New", "--lifetime 60", true},
		{"/lifetime:60 --uses 1 /new", "--lifetime=60 --uses 1", true},
		{"/LIFETIME=60", "--lifetime=60", false},
		{"/?", "--help", false},
		{"--to /new-token /new", "--to /new-token", true},
		{"--dir /lifetimes/site", "--dir /lifetimes/site", false},
	} {
		got, asked := BulkTokenSwitches(strings.Fields(tt.in))
		if strings.Join(got, " ") != tt.want || asked != tt.asked {
			t.Errorf("%s: %q %v, want %q %v", tt.in, got, asked, tt.want, tt.asked)
		}
	}
}

func TestBulkState(t *testing.T) {
	now := time.Now()
	for want, tok := range map[string]adminservice.BulkRegistrationToken{
		"valid":   {Expires: now.Add(1), Uses: 2, Used: 1},
		"blocked": {Expires: now.Add(-1), Blocked: true},
		"expired": {Expires: now.Add(-1)},
		"used up": {Expires: now.Add(1), Uses: 2, Used: 2},
	} {
		if got := bulkState(tok, now); got != want {
			t.Errorf("%+v: %s, want %s", tok, got, want)
		}
	}
}

// A token that nobody can keep is not made, and a file that got none goes away.
func TestSecretFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "token")
	s := secretFile{path}
	asked := 0
	ask := func(token string, err error) func() (string, error) {
		return func() (string, error) { asked++; return token, err }
	}
	if err := s.fill(ask("", opencmg.Forbidden)); !errors.Is(err, opencmg.Forbidden) {
		t.Error(err)
	}
	if err := s.fill(ask("", nil)); err == nil {
		t.Error("no token, and no error")
	}
	if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the file stays: %v", err)
	}
	if err := s.fill(ask("secret", nil)); err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(path); err != nil || string(b) != "secret\n" {
		t.Errorf("%q %v", b, err)
	}
	before := asked
	if err := s.fill(ask("another", nil)); !errors.Is(err, opencmg.Conflict) || asked != before {
		t.Errorf("%v, asked %d times", err, asked-before)
	}
	if err := (&secretFile{filepath.Join(path, "below")}).fill(ask("another", nil)); err == nil || asked != before {
		t.Errorf("%v, asked %d times", err, asked-before)
	}
}
