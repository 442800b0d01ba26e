package main

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/opencmg/opencmg"
	"github.com/opencmg/opencmg/adminservice"
)

// administrate runs an administrator's command as a process and returns its
// standard output and exit code.
func administrate(t *testing.T, args ...string) (string, int) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), self, args...)
	cmd.Args[0], cmd.Dir = "opencmg", t.TempDir()
	// No profile of whoever runs the test.
	cmd.Env = append(os.Environ(), "HOME="+cmd.Dir, "XDG_CONFIG_HOME="+cmd.Dir, "AppData="+cmd.Dir)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err = cmd.Run()
	if exit, ok := errors.AsType[*exec.ExitError](err); err != nil && !ok {
		t.Fatal(err)
	} else if ok && exit.ExitCode() > 1 {
		t.Fatalf("%v: %v\n%s", args, err, errs.String())
	}
	return out.String(), cmd.ProcessState.ExitCode()
}

// jsonLines decodes objects, one on each line.
func jsonLines[T any](t *testing.T, text string) (list []T) {
	t.Helper()
	for line := range strings.SplitSeq(strings.TrimSpace(text), "\n") {
		var v T
		if err := json.Unmarshal([]byte(line), &v); err != nil {
			t.Fatalf("%v in %q", err, line)
		}
		list = append(list, v)
	}
	return list
}

// TestChecklistOfTheLab: after the lab has run every item passes, each process
// having looked from where it runs; and the firewall sheet has what connection
// points really dial.
func TestChecklistOfTheLab(t *testing.T) {
	t.Parallel()
	dir, info := startLab(t)
	site := []string{"--site", info.AdminService.URL, "--ca-file", info.AdminService.CAFile, "--token-file", info.AdminService.TokenFile}
	var items []adminservice.ChecklistItem
	eventually(t, "every item passes", func() error {
		out, code := administrate(t, append([]string{"checklist", "--output", "json"}, site...)...)
		items = jsonLines[adminservice.ChecklistItem](t, out)
		for _, i := range items {
			if i.State != opencmg.CheckPass {
				return fmt.Errorf("%+v", i)
			}
		}
		if code != 0 {
			t.Errorf("exit code %d although every item passes", code)
		}
		return nil
	})
	evidence := map[string]string{}
	for _, i := range items {
		evidence[i.ID] = i.Evidence
	}
	for id, wants := range map[string][]string{
		"dns-inside":                 {"the site server", "connection point cp1", "connection point cp2", "DNS was not asked"},
		"dns-outside":                {"instance 0", "instance 1", "the gateway answers at " + info.ServiceName + ":443"},
		"outward-ports":              {"cp1 has a tunnel by HTTPS", "cp1 reaches " + info.ServiceName + ":1012"},
		"connection-point-endpoints": {"gateway.blob.lab.opencmg.example:443", "gateway.vault.lab.opencmg.example:443"},
		"tls-inspection":             {"none of "},
		"clients":                    {"3 clients"},
	} {
		for _, want := range wants {
			if !strings.Contains(evidence[id], want) {
				t.Errorf("%s: no %q in %q", id, want, evidence[id])
			}
		}
	}

	out, code := administrate(t, append([]string{"firewall-sheet", "--output", "json"}, site...)...)
	rules := jsonLines[adminservice.FirewallRule](t, out)
	if code != 0 || len(rules) < 10 {
		t.Fatalf("exit code %d, %d rules", code, len(rules))
	}
	jws := strings.Split(strings.TrimSpace(readTestFile(t, filepath.Join(dir, "state", "cp1", "identity", mappingsFile))), ".")
	payload, err := base64.RawURLEncoding.DecodeString(jws[1])
	if err != nil {
		t.Fatal(err)
	}
	m, err := opencmg.ParseURLMappings(payload)
	if err != nil {
		t.Fatal(err)
	}
	dialled := 0
	for _, i := range m.Gateways[0].Instances {
		dialled++
		if !slices.ContainsFunc(rules, func(r adminservice.FirewallRule) bool {
			return r.From == "connection point" && net.JoinHostPort(r.Host, strconv.Itoa(r.Port)) == i.HTTPS
		}) {
			t.Errorf("the sheet lacks %s, which a connection point dials", i.HTTPS)
		}
	}
	for _, r := range m.Mappings {
		dialled++
		if !slices.ContainsFunc(rules, func(f adminservice.FirewallRule) bool {
			return f.From == "connection point" && "https://"+net.JoinHostPort(f.Host, strconv.Itoa(f.Port)) == r.Internal[0]
		}) {
			t.Errorf("the sheet lacks %s, which a connection point dials", r.Internal[0])
		}
	}
	if dialled != 3 {
		t.Errorf("%d addresses are dialled, want two instances and a management point", dialled)
	}

	// The subscription of the lab has a hundred cores.
	out, code = administrate(t, append([]string{"checklist", "--output", "json", "--instances", "16", "--size", "Large"}, site...)...)
	items = jsonLines[adminservice.ChecklistItem](t, out)
	if i := slices.IndexFunc(items, func(i adminservice.ChecklistItem) bool { return i.ID == "quota" }); code != 0 || items[i].State != opencmg.CheckPass {
		t.Errorf("exit code %d: %+v", code, items[i])
	}
	pfx := filepath.Join(dir, "pki", "server.pfx")
	out, code = administrate(t, append([]string{"preflight", "--output", "json", "--service-cert", pfx, "--service-name", info.ServiceName, "--subscription", labSubscription, "--region", labRegion, "--instances", "2"}, site...)...)
	items = jsonLines[adminservice.ChecklistItem](t, out)
	if code != 1 || items[0].ID != "plan" || !strings.Contains(items[0].Evidence, "has the service name") {
		t.Errorf("preflight of a gateway that is there: exit code %d, %+v", code, items[0])
	}
}

// TestChecklistOfAFreshSite starts a site and asks it at once: every item is
// listed, in its state, with the next step.
func TestChecklistOfAFreshSite(t *testing.T) {
	t.Parallel()
	dir, addr := t.TempDir(), freeAddress(t)
	p := startSite(t, dir, "--listen", addr, "--config", quiet(t, dir))
	p.client(t, "", "https://"+addr) // waits until it can be asked
	profile := filepath.Join(p.dir, "opencmg-site", "administrator.yaml")
	out, code := administrate(t, "checklist", "--output", "json", "--profile", profile)
	items := jsonLines[adminservice.ChecklistItem](t, out)
	if code != 1 || len(items) < 35 {
		t.Fatalf("exit code %d, %d items", code, len(items))
	}
	parts := map[int]int{}
	for _, i := range items {
		parts[i.Part]++
		if i.State != opencmg.CheckPass && (i.NextStep == "" || i.Who == "") {
			t.Errorf("nothing to do: %+v", i)
		}
	}
	for part := range 6 {
		if parts[part] == 0 {
			t.Errorf("part %d has no item", part)
		}
	}
	out, code = administrate(t, "checklist", "--output", "table", "--profile", profile)
	if code != 1 || !strings.Contains(out, "Part 4: Gateway") || !strings.Contains(out, "$ opencmg New-CMCloudManagementGateway ") {
		t.Errorf("exit code %d\n%s", code, out)
	}
	if out, code = administrate(t, "firewall-sheet", "--output", "csv", "--profile", profile); code != 0 || !strings.Contains(out, "management.azure.com,443,HTTPS") {
		t.Errorf("exit code %d\n%s", code, out)
	}
}
