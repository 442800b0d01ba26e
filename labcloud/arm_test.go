package labcloud_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestDeployment(t *testing.T) {
	c := newCloud(t, nil)
	d := c.deploy(templateOptions{})
	if got := field(d.body, "properties", "provisioningState"); got != "Succeeded" {
		t.Fatalf("deployment %v: %s", got, d.raw)
	}
	if got := len(field(d.body, "properties", "outputResources").([]any)); got != 9 {
		t.Errorf("%d resources, want 9", got)
	}
	if got, want := field(d.body, "properties", "outputs", "fqdn", "value"), prefix+"."+region+"."+c.hosts.CloudApp; got != want {
		t.Errorf("output fqdn %v, want %s", got, want)
	}
	view := c.arm("GET", resourcePath(setType, prefix)+"/virtualMachines?$expand=instanceView", "2024-07-01", nil).want(t, 200, "")
	if diff := cmp.Diff([]string{"0", "1"}, names(view.body["value"], "instanceId")); diff != "" {
		t.Errorf("machines (-want +got):\n%s", diff)
	}
	if !contains(view.body, "PowerState/running") {
		t.Errorf("no machine runs: %s", view.raw)
	}
	set := c.arm("GET", resourcePath(setType, prefix), "2024-07-01", nil).want(t, 200, "")
	if contains(set.body, "customData") {
		t.Error("a scale set shows its custom data")
	}
	// The same again changes nothing.
	c.finish(c.put(template(templateOptions{}, nil)).want(t, 200, ""))
	again := c.arm("GET", resourcePath(setType, prefix)+"/virtualMachines?$expand=instanceView", "2024-07-01", nil)
	if diff := cmp.Diff(field(view.body, "value", 0, "properties", "vmId"), field(again.body, "value", 0, "properties", "vmId")); diff != "" {
		t.Errorf("machine after a second deployment (-want +got):\n%s", diff)
	}
}
