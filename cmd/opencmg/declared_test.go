package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/opencmg/opencmg"
	"github.com/opencmg/opencmg/adminservice"
)

// TestDeclaredState exports, plans and applies by the command line at a site
// server that is a process of its own.
func TestDeclaredState(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	data, addr := filepath.Join(dir, "opencmg-site"), freeAddress(t)
	site := startSite(t, dir, "--config", quiet(t, dir), "--listen", addr, "--data-dir", data)
	client := site.client(t, "", "https://"+addr)
	signIn := []string{"--site", "https://" + addr, "--ca-file", filepath.Join(data, siteCAFile), "--token-file", filepath.Join(data, siteTokenFile)}
	call := func(want int, args ...string) (stdout, stderr string) {
		t.Helper()
		var out, errs bytes.Buffer
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if code := run(ctx, append(args, signIn...), strings.NewReader(""), &out, &errs); code != want {
			t.Fatalf("%q ended with %d, want %d\n%s\n%s", args, code, want, out.String(), errs.String())
		}
		return out.String(), errs.String()
	}
	file := filepath.Join(dir, "site.yaml")
	call(0, "export", "-f", file)
	if out, _ := call(0, "export"); out != readTestFile(t, file) {
		t.Error("the export to a file is another one")
	}
	if out, _ := call(0, "plan", "-f", file, "--exit-code", "--output", "table"); out != "No changes: site P01 is as declared.\n" {
		t.Errorf("plan after export: %s", out)
	}
	if out, _ := call(0, "plan", "-f", file); out != "" {
		t.Errorf("plan after export, as JSON: %s", out)
	}

	edited := strings.Replace(readTestFile(t, file), "policyMinutes: 60", "policyMinutes: 45", 1)
	edited = strings.Replace(edited, "boundaryGroups: []", "boundaryGroups:\n  - name: Branch\n    boundaries: [10.1.0.0/16]", 1)
	writeTestFile(t, file, edited)
	out, _ := call(3, "plan", "-f", file, "--exit-code", "--output", "table")
	for _, want := range []string{
		"+ create boundary group Branch\n    boundaries: [10.1.0.0/16]\n    cost (none): ",
		"~ change client settings Default Client Agent Settings\n    policyMinutes: 60 → 45\n", "Site P01: 1 to create, 1 to change, 0 to delete.\n",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("the plan has no %q:\n%s", want, out)
		}
	}
	out, _ = call(0, "plan", "-f", file)
	var changes []struct {
		Action, Kind, Name, Cost string
		Fields                   []struct{ Name, Old, New string }
	}
	for d := json.NewDecoder(strings.NewReader(out)); d.More(); {
		changes = append(changes, struct {
			Action, Kind, Name, Cost string
			Fields                   []struct{ Name, Old, New string }
		}{})
		if err := d.Decode(&changes[len(changes)-1]); err != nil {
			t.Fatal(err)
		}
	}
	if len(changes) != 2 || changes[1].Cost != "none" || changes[1].Fields[0].Old != "60" || strings.Count(out, "\n") != 2 {
		t.Errorf("plan as JSON: %s", out)
	}

	// Nobody can be asked in a pipe.
	if _, errs := call(2, "apply", "-f", file); !strings.Contains(errs, "--yes") {
		t.Errorf("apply in a pipe: %s", errs)
	}
	if s, err := adminservice.Get[adminservice.ClientSettings](t.Context(), client, "ClientSettings/0"); err != nil || s.PolicyMinutes != 60 {
		t.Errorf("plans changed the site: %+v %v", s, err)
	}
	out, errs := call(0, "apply", "-f", file, "--yes")
	if strings.Count(out, `"result":"done"`) != 2 || !strings.Contains(errs, "policyMinutes: 60 → 45") || !strings.Contains(errs, "create boundary group Branch ...") {
		t.Errorf("apply: %s\n%s", out, errs)
	}
	if out, errs := call(0, "apply", "-f", file, "--yes", "--output", "table"); out != "" || !strings.Contains(errs, "No changes") {
		t.Errorf("apply again: %s\n%s", out, errs)
	}
	call(0, "plan", "-f", file, "--exit-code")

	// What can not be made, and what is no declared file.
	writeTestFile(t, file, "apiVersion: opencmg/v1\nboundaryGroups:\n  - {name: Branch, siteSystems: [nobody]}\nclientSettings: {policyMinutes: 50}\n")
	for _, command := range [][]string{{"plan"}, {"apply", "--yes"}} {
		if _, errs := call(1, append(command, "-f", file)...); !strings.Contains(errs, `opencmg: boundary group Branch: siteSystems: there is neither a gateway nor a site role "nobody"`) {
			t.Errorf("%v: %s", command, errs)
		}
	}
	writeTestFile(t, file, "apiVersion: opencmg/v1\nclientSettings:\n  policyMinutes: 0\n")
	if _, errs := call(1, "plan", "-f", file); !strings.Contains(errs, "site.yaml:3: clientSettings.policyMinutes: must be 1 to 44640") {
		t.Errorf("plan: %s", errs)
	}
	call(2, "plan")
	call(2, "apply", "--yes")
	call(2, "plan", "-f", file, "--output", "xml")
	call(1, "plan", "-f", filepath.Join(dir, "missing.yaml"))
	if s, err := adminservice.Get[adminservice.ClientSettings](t.Context(), client, "ClientSettings/0"); err != nil || s.PolicyMinutes != 45 {
		t.Errorf("at the end: %+v %v", s, err)
	}

	// A failure says what was done and what was not.
	if err := client.Do(t.Context(), "POST", "SiteRoles", adminservice.SiteRole{Kind: "service", Name: "old", Prefix: "/a/", Internal: []string{"https://old.corp.example"},
		Endpoints: []opencmg.Endpoint{{Name: "a", Auth: []opencmg.AuthMode{opencmg.AuthNone}, Methods: []string{"GET"}}}}, nil); err != nil {
		t.Fatal(err)
	}
	role := func(name string) string {
		return "  - {name: " + name + ", kind: service, prefix: /" + name + "/, internal: [https://x.corp.example], endpoints: [{name: x, auth: [none], methods: [GET]}]}\n"
	}
	writeTestFile(t, file, "apiVersion: opencmg/v1\nsiteRoles:\n"+role("b")+role("a")+"clientSettings: {policyMinutes: 50}\n")
	out, errs = call(1, "apply", "-f", file, "--yes", "--output", "table")
	if out != "done       create site role b\nfailed     create site role a\nnot begun  change client settings Default Client Agent Settings\n" ||
		!strings.Contains(errs, "prefix /a/ belongs to old already") || !strings.Contains(errs, "what is done stays done") {
		t.Errorf("a failure: %s\n%s", out, errs)
	}
	if err := client.Do(t.Context(), "PATCH", "SiteRoles/"+roleID(t, client, "old"), adminservice.SiteRoleChange{Prefix: new("/c/")}, nil); err != nil {
		t.Fatal(err)
	}
	if out, _ := call(0, "apply", "-f", file, "--yes", "--output", "table"); out != "done       create site role a\ndone       change client settings Default Client Agent Settings\n" {
		t.Errorf("apply goes on: %s", out)
	}
	if out, _ := call(0, "apply", "-f", file, "--yes", "--prune", "--output", "table"); out != "done       delete site role old\n" {
		t.Errorf("prune: %s", out)
	}
}

func roleID(t *testing.T, c *adminservice.Client, name string) string {
	t.Helper()
	list, err := adminservice.List[adminservice.SiteRole](t.Context(), c, "SiteRoles", nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range list {
		if r.Name == name {
			return r.ID
		}
	}
	t.Fatalf("there is no role %s", name)
	return ""
}

// TestDeclaredLab: the state of a whole lab as a file is the state of the lab,
// and an edited one makes it another with the processes that it takes.
func TestDeclaredLab(t *testing.T) {
	t.Parallel()
	dir, info := startLab(t)
	signIn := []string{"--site", info.AdminService.URL, "--ca-file", info.AdminService.CAFile, "--token-file", info.AdminService.TokenFile}
	call := func(want int, args ...string) string {
		t.Helper()
		var out, errs bytes.Buffer
		if code := run(t.Context(), append(args, signIn...), strings.NewReader(""), &out, &errs); code != want {
			t.Fatalf("%q ended with %d, want %d\n%s\n%s", args, code, want, out.String(), errs.String())
		}
		return out.String()
	}
	file := filepath.Join(t.TempDir(), "lab.yaml")
	call(0, "export", "-f", file)
	call(0, "plan", "-f", file, "--exit-code")
	text := readTestFile(t, file)
	for _, secret := range []string{"PRIVATE KEY", "secret:", "password:"} {
		if strings.Contains(text, secret) {
			t.Errorf("%q is in the export", secret)
		}
	}
	if strings.Count(text, "instances: 2") != 1 {
		t.Fatalf("the lab has no gateway with two instances:\n%s", text)
	}
	writeTestFile(t, file, strings.Replace(text, "instances: 2", "instances: 3", 1))
	if out := call(3, "plan", "-f", file, "--exit-code", "--output", "table"); !strings.Contains(out, "instances: 2 → 3\n    cost (deployment): 1 instance more") {
		t.Errorf("plan: %s", out)
	}
	call(0, "apply", "-f", file, "--yes")
	call(0, "plan", "-f", file, "--exit-code")
	// What clients are to be told reaches the lab's management point.
	writeTestFile(t, file, "apiVersion: opencmg/v1\ndefaultBoundaryGroup: {preferCloud: true}\nclientSettings: {policyMinutes: 7}\n")
	call(0, "apply", "-f", file, "--yes")
	eventually(t, "the management point to have it", func() error {
		b, err := os.ReadFile(filepath.Join(dir, "state", "mp", "identity", siteWordsFile))
		if err == nil && (!bytes.Contains(b, []byte(`"policyMinutes":7`)) || !bytes.Contains(b, []byte(`"preferCloud":true`))) {
			err = errors.New("the management point has the old one")
		}
		return err
	})
	gateways, err := adminservice.List[adminservice.Gateway](t.Context(), administer(t, info), "Gateways", nil)
	if err != nil || len(gateways) != 1 || gateways[0].State != adminservice.StateReady || len(gateways[0].Machines) != 3 {
		t.Errorf("gateways: %v %+v", err, gateways)
	}
}
