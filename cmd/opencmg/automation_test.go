package main

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/opencmg/opencmg"
	"github.com/opencmg/opencmg/adminservice"
)

// shell runs a script of the documentation against a bare lab, in a directory of
// its own with this program as opencmg, and returns what it printed.
func shell(t *testing.T, info labInfo, script string) string {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	bin, dir := t.TempDir(), t.TempDir()
	if err := os.Symlink(self, filepath.Join(bin, "opencmg")); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	c := exec.CommandContext(ctx, "sh", "-c", ". "+info.SetUp.EnvFile+"\n"+script)
	c.WaitDelay = 5 * time.Second // what it left running does not hold the test up
	c.Dir, c.Stdout, c.Stderr = dir, &out, &out
	c.Env = append(os.Environ(), "PATH="+bin+":"+os.Getenv("PATH"))
	if err := c.Run(); err != nil {
		t.Fatalf("%v\n%s", err, tail(out.String(), 6000))
	}
	return out.String()
}

// TestAutomation runs both scripts of the documented automation, one after the
// other against the same site: the first leaves nothing behind.
func TestAutomation(t *testing.T) {
	_, info := startLab(t, "--bare")
	c := administer(t, info)
	for _, name := range []string{"automate.sh", "automate-cmdlets.sh"} {
		t.Run(name, func(t *testing.T) {
			before := len(statusTexts(t, c))
			out := shell(t, info, readTestFile(t, filepath.Join("..", "..", "docs", "setup", name)))
			for _, secret := range []string{readTestFile(t, info.SetUp.Registered.ServerApp.SecretFile)} {
				if strings.Contains(out, strings.TrimSpace(secret)) {
					t.Error("the output shows a secret")
				}
			}
			// What was asked for was done.
			texts := strings.Join(statusTexts(t, c)[before:], "\n")
			for _, want := range []string{
				"added Azure service Lab", "created gateway " + labServiceName + " (VirtualMachineScaleSet, 2 instances of size Lab)", "create completed",
				"connection-point cp01 joined", "changed management-point mp, gateway traffic on", "stop completed", "start completed", "scale completed", "delete completed",
			} {
				if !strings.Contains(texts, want) {
					t.Errorf("no status message says %q:\n%s", want, texts)
				}
			}
			for _, collection := range []string{"Gateways", "ConnectionPoints", "AzureServices"} {
				left, err := adminservice.List[map[string]any](t.Context(), c, collection, nil)
				if err != nil || len(left) > 0 {
					t.Errorf("%s that are left: %v %v", collection, left, err)
				}
			}
			// The next script begins from the start.
			roles, err := adminservice.List[adminservice.SiteRole](t.Context(), c, "SiteRoles", nil)
			if err != nil || len(roles) != 1 || roles[0].Kind != opencmg.KindManagementPoint || !roles[0].AllowGatewayTraffic {
				t.Fatalf("roles: %v %+v", err, roles)
			}
			if err := c.Do(t.Context(), "PATCH", "SiteRoles/"+roles[0].ID, map[string]bool{"allowGatewayTraffic": false}, nil); err != nil {
				t.Fatal(err)
			}
			apps, err := adminservice.List[adminservice.Application](t.Context(), c, "Applications", nil)
			if err != nil || len(apps) != 2 {
				t.Fatalf("applications: %v %+v", err, apps)
			}
			for _, a := range apps {
				if err := c.Do(t.Context(), "DELETE", "Applications/"+a.ID, nil, nil); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}

// statusTexts are the texts of the status messages, the oldest first.
func statusTexts(t *testing.T, c *adminservice.Client) []string {
	t.Helper()
	all, err := adminservice.List[adminservice.StatusMessage](t.Context(), c, "StatusMessages", nil)
	if err != nil {
		t.Fatal(err)
	}
	var texts []string
	for _, m := range slices.Backward(all) {
		texts = append(texts, m.Text)
	}
	return texts
}
