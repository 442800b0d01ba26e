package main

import (
	"bytes"
	"errors"
	"net/http"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/opencmg/opencmg/pki"
)

// A person who registers the two apps from the command line needs nothing but the
// code that is shown, once for each command.
func TestSignInByDeviceCode(t *testing.T) {
	t.Parallel()
	dir, info := startLab(t, "--bare")
	ca, err := pki.LoadCertificates(info.CAFile)
	if err != nil {
		t.Fatal(err)
	}
	_, cloud, ok := strings.Cut(info.Entra.ConnectTo, ":443:")
	if !ok {
		t.Fatalf("connectTo %q", info.Entra.ConnectTo)
	}
	secret := strings.TrimSpace(readTestFile(t, filepath.Join(dir, "config", "cloud-admin-secret")))
	approve := func(code string) {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), "POST", "https://"+cloud+"/lab/approve", bytes.NewReader([]byte(`{"userCode":"`+code+`","user":"otto@lab.example"}`)))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+secret)
		res, err := trusting(ca[0], nil, cloud).Do(req)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		if res.StatusCode != http.StatusOK {
			t.Fatalf("approve: %s", res.Status)
		}
	}
	asks := regexp.MustCompile(`enter the code (\S+) to authenticate`)
	for _, args := range [][]string{
		{"application", "create-server", "--tenant-id", info.SetUp.TenantID, "--app-name", "By code", "--azure-environment-option", "AzureLab"},
		{"application", "create-client", "--app-name", "By code too", "--input-object", "By code"},
		{"application", "update-server", "--tenant-id", info.SetUp.TenantID},
	} {
		name := strings.Join(args[:2], " ")
		p := startProgram(t, append(args, "--profile", filepath.Join(dir, "site", "administrator.yaml"))...)
		eventually(t, "the code of "+name, func() error {
			if asks.MatchString(p.String()) {
				return nil
			}
			select {
			case <-p.done:
				t.Fatalf("%s ended without a code", name)
			default:
			}
			return errors.New("no code yet")
		})
		approve(asks.FindStringSubmatch(p.String())[1])
		eventually(t, "the end of "+name, func() error {
			codes := map[string]bool{}
			for _, m := range asks.FindAllStringSubmatch(p.String(), -1) {
				codes[m[1]] = true
			}
			if len(codes) != 1 {
				t.Fatalf("%s asks a second time", name)
			}
			select {
			case <-p.done:
				return nil
			default:
				return errors.New("it still runs")
			}
		})
		if !p.cmd.ProcessState.Success() {
			t.Errorf("%s failed: %s", name, p)
		}
	}
}
