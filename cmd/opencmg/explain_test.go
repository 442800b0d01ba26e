package main

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencmg/opencmg"
	"github.com/opencmg/opencmg/pki"
)

// TestExplain follows one request through every hop: by the program that
// explains it, and in the logs.
func TestExplain(t *testing.T) {
	dir, info := startLab(t, "--log-level", "debug")
	ca, err := pki.LoadCertificates(info.CAFile)
	if err != nil {
		t.Fatal(err)
	}
	spare, err := pki.LoadKeyPair(info.SpareClient.CertFile, info.SpareClient.KeyFile)
	if err != nil {
		t.Fatal(err)
	}
	c := trusting(ca[0], &spare, strings.TrimPrefix(info.GatewayURLs[0], "https://"))
	defer c.CloseIdleConnections()
	ask := func(url string) (*http.Response, string) {
		t.Helper()
		res, err := c.Get(url)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		return res, res.Header.Get(opencmg.HeaderCorrelationID)
	}

	res, id := ask(info.MutualAuthBase + "/SMS_MP/.sms_aut?MPLIST")
	if res.StatusCode != http.StatusOK {
		t.Fatalf("MPLIST: %s", res.Status)
	}
	out := startAndWait(t, "explain", "--data-dir", dir, id)
	last := -1
	for _, hop := range []string{"1. gateway gateway/0", "2. connection-point cp", "3. management-point "} {
		i := strings.Index(out, hop)
		if i <= last {
			t.Errorf("%q is not in its place in:\n%s", hop, out)
		}
		last = i
	}
	if !strings.Contains(out, "CN=spare-client") {
		t.Errorf("the explanation does not name the client:\n%s", out)
	}
	for _, file := range []string{"gateway-0/*.log", "connection-point-*/SMS_Cloud_ProxyConnector.log", "mp/*.log"} {
		eventually(t, "correlation ID in "+file, func() error {
			names, err := filepath.Glob(filepath.Join(info.LogDir, file))
			if err != nil {
				return err
			}
			for _, name := range names {
				if b, err := os.ReadFile(name); err == nil && strings.Contains(string(b), id) {
					return nil
				}
			}
			return os.ErrNotExist
		})
	}

	// The same file of roots serves those who try the management point inside.
	if len(ca) != 2 {
		t.Fatalf("%d certificates in the CA file, want two", len(ca))
	}
	inside := trusting(ca[1], nil, strings.TrimPrefix(info.ManagementPoint, "https://"))
	defer inside.CloseIdleConnections()
	if res, err := inside.Get(info.ManagementPoint + "/SMS_MP/.sms_aut?MPLIST"); err != nil || res.StatusCode != http.StatusOK {
		t.Errorf("MPLIST inside: %v", err)
	} else {
		res.Body.Close()
	}

	res, id = ask(info.MutualAuthBase + "/CCM_System_WindowsAuth/request")
	if res.StatusCode != http.StatusNotFound {
		t.Errorf("unpublished path: %s", res.Status)
	}
	if out := startAndWait(t, "explain", "--data-dir", dir, id); !strings.Contains(out, "no endpoint publishes this path") || strings.Contains(out, "management-point") {
		t.Errorf("unpublished path: explained as\n%s", out)
	}
	if out := startAndWait(t, "explain", "--data-dir", dir, "--json", id); !strings.Contains(out, `"status":404`) {
		t.Errorf("as JSON:\n%s", out)
	}
}
