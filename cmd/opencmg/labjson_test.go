package main

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/opencmg/opencmg"
)

// TestLabJSON holds the shape that programs rely on. The struct is written
// out here so that a change of the lab's own types shows.
func TestLabJSON(t *testing.T) {
	t.Parallel()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), self, "lab", "--json")
	cmd.Args[0] = "opencmg"
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("lab --json: %v\n%s", err, out)
	}
	var got struct {
		OK               bool   `json:"ok"`
		ServiceName      string `json:"serviceName"`
		Instances        int    `json:"instances"`
		ConnectionPoints int    `json:"connectionPoints"`
		Clients          []struct {
			Name     string           `json:"name"`
			Auth     string           `json:"auth"`
			ClientID opencmg.ClientID `json:"clientId"`
			Steps    []struct {
				Step          string  `json:"step"`
				OK            bool    `json:"ok"`
				Milliseconds  float64 `json:"ms"`
				Detail        string  `json:"detail"`
				CorrelationID string  `json:"correlationId"`
			} `json:"steps"`
		} `json:"clients"`
		Parts []struct {
			Part         int     `json:"part"`
			Name         string  `json:"name"`
			OK           bool    `json:"ok"`
			Milliseconds float64 `json:"ms"`
		} `json:"parts"`
		Deployment struct {
			Model        string  `json:"model"`
			Instances    int     `json:"instances"`
			Milliseconds float64 `json:"ms"`
		} `json:"deployment"`
		Refusals []struct {
			Case          string `json:"case"`
			Status        int    `json:"status"`
			Reason        string `json:"reason"`
			CorrelationID string `json:"correlationId"`
			OK            bool   `json:"ok"`
		} `json:"refusals"`
	}
	d := json.NewDecoder(bytes.NewReader(out))
	d.DisallowUnknownFields()
	if err := d.Decode(&got); err != nil {
		t.Fatalf("%v in %s", err, out)
	}
	if d.More() {
		t.Errorf("more than one object: %s", out)
	}
	if !got.OK || got.ServiceName == "" || got.Instances != 2 || got.ConnectionPoints != 2 {
		t.Errorf("got %s", out)
	}
	for i, p := range got.Parts {
		if p.Part != i+1 || p.Name == "" || !p.OK || p.Milliseconds <= 0 {
			t.Errorf("part %d: %+v", i+1, p)
		}
	}
	if d := got.Deployment; len(got.Parts) != 5 || d.Model != "VirtualMachineScaleSet" || d.Instances != 2 || d.Milliseconds <= 0 {
		t.Errorf("%d parts, deployment %+v", len(got.Parts), d)
	}
	var auths []string
	for _, c := range got.Clients {
		auths = append(auths, c.Auth)
		if err := c.ClientID.Validate(); err != nil {
			t.Errorf("%s: %v", c.Name, err)
		}
		var steps []string
		for _, s := range c.Steps {
			steps = append(steps, s.Step)
			if !s.OK || s.Milliseconds <= 0 {
				t.Errorf("%s, %s: ok %v after %v ms", c.Name, s.Step, s.OK, s.Milliseconds)
			}
			if s.Step == "location" && !strings.Contains(s.Detail, "1 gateway,") {
				t.Errorf("%s was told of %s", c.Name, s.Detail)
			}
		}
		if d := cmp.Diff([]string{"register", "token", "policy", "location", "heartbeat", "inventory", "notification"}, steps); d != "" {
			t.Errorf("%s: (-want +got)\n%s", c.Name, d)
		}
	}
	if d := cmp.Diff([]string{"pki", "entra", "token"}, auths); d != "" {
		t.Errorf("clients: (-want +got)\n%s", d)
	}
	type answer struct {
		Status int
		Reason string
	}
	refused := map[string]answer{}
	for _, r := range got.Refusals {
		refused[r.Case] = answer{r.Status, r.Reason}
		if !r.OK || r.CorrelationID == "" {
			t.Errorf("refusal %q: %+v", r.Case, r)
		}
	}
	if d := cmp.Diff(map[string]answer{
		"revoked certificate":        {401, "Unauthorized"},
		"expired token":              {401, "CMGService_Invalid_Token"},
		"wrong audience":             {401, "CMGService_Invalid_Token"},
		"unknown tenant":             {401, "CMGService_Invalid_Token"},
		"unpublished URL":            {404, "Not Found"},
		"oversized body":             {413, "Request Entity Too Large"},
		"bulk token on a policy URL": {401, "CMGService_Invalid_Token"},
	}, refused); d != "" {
		t.Errorf("refusals: (-want +got)\n%s", d)
	}
}
