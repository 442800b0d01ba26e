package site_test

import (
	"strings"
	"sync"
	"testing"

	"github.com/opencmg/opencmg"
	"github.com/opencmg/opencmg/adminservice"
	"github.com/opencmg/opencmg/labcloud"
)

// TestPublicCloudOnLoopback runs a whole deployment in AzurePublicCloud: the
// code uses Azure's own host names, and connect-to rules send every call to
// loopback. What no rule maps is refused, so nothing can leave.
func TestPublicCloudOnLoopback(t *testing.T) {
	var (
		mu    sync.Mutex // guards kinds
		kinds = map[string]int{}
	)
	r := newRig(t, func(r *rig) {
		r.env = opencmg.AzurePublicCloud
		r.hosts = labcloud.Hosts{
			Login: "login.microsoftonline.com", STS: "sts.windows.net", ARM: "management.azure.com", Graph: "graph.microsoft.com",
			Vault: "vault.azure.net", Blob: "blob.core.windows.net", CloudApp: "cloudapp.azure.com",
			ARMAudiences: []string{"https://management.core.windows.net/", "https://management.azure.com"}, VaultAudience: "https://vault.azure.net",
		}
		r.lab = func(c *labcloud.Config) {
			c.Observe = func(kind string, _ []byte) {
				mu.Lock()
				defer mu.Unlock()
				kinds[kind]++
			}
		}
	})
	r.connect()
	r.finish(do[adminservice.Operation](r, "POST", "Gateways", r.newGateway()))
	g := do[adminservice.Gateway](r, "GET", "Gateways/granitefalls", nil)
	if g.State != adminservice.StateReady || g.Environment != opencmg.AzurePublicCloud || g.DeploymentName != "granitefalls.westeurope.cloudapp.azure.com" {
		t.Errorf("%+v", g)
	}
	r.finish(do[adminservice.Operation](r, "DELETE", "Gateways/"+g.ID, nil))
	mu.Lock()
	defer mu.Unlock()
	for _, want := range []string{"template", "graph.createApplication"} {
		if kinds[want] == 0 {
			t.Errorf("the stand-in got no %s, only %v", want, kinds)
		}
	}
	if strings.Contains(r.log.String(), "lab.opencmg.example") {
		t.Error("a name of the lab in a log of the public cloud")
	}
}
