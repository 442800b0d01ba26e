package main

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/opencmg/opencmg"
	"github.com/opencmg/opencmg/adminservice"
	"github.com/opencmg/opencmg/internal/admincli"
)

// analyzed is what "opencmg analyze" ended with.
type analyzed struct {
	adminservice.Analysis
	code   int
	output string
}

// failing are the IDs of the rows that failed, each once.
func (a analyzed) failing() (ids []string) {
	for _, r := range a.Rows {
		if r.State == opencmg.CheckFail && !slices.Contains(ids, r.ID) {
			ids = append(ids, r.ID)
		}
	}
	return ids
}

// row is the first failing row with the ID.
func (a analyzed) row(id string) adminservice.AnalysisRow {
	i := slices.IndexFunc(a.Rows, func(r adminservice.AnalysisRow) bool { return r.ID == id && r.State == opencmg.CheckFail })
	if i < 0 {
		return adminservice.AnalysisRow{}
	}
	return a.Rows[i]
}

// TestAnalyze runs the connection analyzer on a lab in which all is well, by every
// way to sign in, and then on one in which more and more is not.
func TestAnalyze(t *testing.T) {
	t.Parallel()
	dir, info := startLab(t)
	profile := filepath.Join(dir, "site", admincli.SiteProfileFile)
	analyze := func(args ...string) analyzed {
		t.Helper()
		p := startProgram(t, append([]string{"analyze", "gateway", "--profile", profile, "--output", "json"}, args...)...)
		<-p.done
		a := analyzed{code: p.cmd.ProcessState.ExitCode(), output: p.String()}
		for line := range strings.Lines(a.output) {
			if strings.HasPrefix(line, "{") {
				if err := json.Unmarshal([]byte(line), &a.Analysis); err != nil {
					t.Fatal(err)
				}
			}
		}
		if strings.Contains(a.output, info.Entra.Token) {
			t.Error("the output holds the token")
		}
		return a
	}
	wantFailing := func(what string, a analyzed, ids ...string) {
		t.Helper()
		if diff := cmp.Diff(append(ids, "summary"), a.failing()); diff != "" || a.code != 1 {
			t.Fatalf("%s: ended with %d; failing rows (-want +got):\n%s\n%s", what, a.code, diff, a.output)
		}
	}

	entraToken := filepath.Join(t.TempDir(), "entra-token")
	if err := os.WriteFile(entraToken, []byte(info.Entra.Token+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for signIn, args := range map[string][]string{
		"token":              nil,
		"client-certificate": {"--client-cert-file", info.SpareClient.CertFile, "--client-key-file", info.SpareClient.KeyFile},
		"entra-user":         {"--entra-token-file", entraToken},
	} {
		a := analyze(append(args, "--sign-in", signIn)...)
		count := map[string]int{}
		for _, r := range a.Rows {
			count[r.ID]++
			if r.State != opencmg.CheckPass {
				t.Errorf("by %s: %+v", signIn, r)
			}
		}
		want := map[string]int{"state": 1, "resolve": 1, "certificate": 2, "configuration": 2, "sign-in": 2, "tunnel": 4, "token-exchange": 2, "location": 2, "summary": 1}
		if signIn == "client-certificate" {
			delete(want, "token-exchange")
		}
		if diff := cmp.Diff(want, count); diff != "" || a.code != 0 || a.Failed != 0 {
			t.Errorf("by %s: ended with %d, rows (-want +got):\n%s\n%s", signIn, a.code, diff, a.output)
		}
	}
	if out := startAndWait(t, "analyze", "gateway", "--profile", profile, "--output", "table"); !strings.Contains(out, "STATE") || !strings.Contains(out, "gateway/1") {
		t.Errorf("as a table:\n%s", out)
	}

	// By itself, from now on.
	out := startAndWait(t, "analyze", "gateway", "--profile", profile, "--every", "7", "--output", "table")
	s, err := adminservice.Get[adminservice.AnalysisSchedule](t.Context(), administer(t, info), "Gateways/gateway/analysisSchedule")
	if want := "every 7 minutes, next " + s.Next.Format(time.RFC3339) + "\n"; err != nil || s.Minutes != 7 || out != want {
		t.Errorf("%q, want %q; the schedule is %+v, %v", out, want, s, err)
	}

	// A certificate that the site does not trust.
	site := filepath.Join(dir, "state", "cp1", "identity")
	a := analyze("--sign-in", "client-certificate", "--client-cert-file", filepath.Join(site, "identity.pem"), "--client-key-file", filepath.Join(site, "identity.key"))
	wantFailing("a strange certificate", a, "sign-in")
	if r := a.row("sign-in"); r.HTTPStatus != 401 || r.Reason == "" || r.CorrelationID == "" || r.NextStep == "" || !strings.Contains(r.Evidence, "client certificate refused") {
		t.Errorf("a strange certificate: %+v", r)
	}

	admin := administer(t, info)
	role := func() adminservice.SiteRole {
		t.Helper()
		roles, err := adminservice.List[adminservice.SiteRole](t.Context(), admin, "SiteRoles", nil)
		if err != nil || len(roles) != 1 {
			t.Fatalf("roles %+v, %v", roles, err)
		}
		return roles[0]
	}
	allow := func(on bool) {
		t.Helper()
		r := role()
		if err := admin.Change(t.Context(), "PATCH", "SiteRoles/"+r.ID, r.Version, map[string]bool{"allowGatewayTraffic": on}, nil); err != nil {
			t.Fatal(err)
		}
	}
	allow(false)
	wantFailing("without the traffic switch", analyze(), "location")
	allow(true)
	eventually(t, "the role to be published again", func() error {
		if a := analyze(); a.code != 0 {
			return errors.New(a.output)
		}
		return nil
	})

	kill := func(name string) {
		t.Helper()
		// It can not start again without its configuration.
		if err := os.Remove(filepath.Join(dir, "config", name+".yaml")); err != nil {
			t.Fatal(err)
		}
		now, err := findLab(dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range now.Processes {
			if p.Name == name {
				victim, err := os.FindProcess(p.PID)
				if err == nil {
					err = victim.Kill()
				}
				if err != nil {
					t.Fatal(err)
				}
				return
			}
		}
		t.Fatalf("no process %s", name)
	}
	kill("connection-point-cp1")
	a = analyze()
	wantFailing("without a connection point", a, "tunnel")
	if r := a.row("tunnel"); !strings.Contains(r.Name, "cp1") || !strings.Contains(r.Evidence, "did not answer") {
		t.Errorf("without a connection point: %+v", r)
	}
	if strings.Contains(a.row("tunnel").Name, "cp2") {
		t.Errorf("the other connection point fails too:\n%s", a.output)
	}

	kill("mp")
	a = analyze()
	wantFailing("without the management point", a, "tunnel", "token-exchange")
	r := a.row("token-exchange")
	if r.HTTPStatus != 502 || r.Reason == "" || r.RoleName != "mp" || r.Role != role().RoleID || r.Instance == nil || r.CorrelationID == "" || !strings.Contains(r.Evidence, "connection-point cp2") || !strings.Contains(r.NextStep, "mp") {
		t.Errorf("without the management point: %+v", r)
	}

	// The history is kept, the latest first.
	kept, err := adminservice.List[adminservice.Analysis](t.Context(), admin, "Gateways/gateway/analyses", nil)
	if err != nil || len(kept) < 7 || kept[0].ID != a.ID || len(kept[0].Rows) != len(a.Rows) {
		t.Errorf("history: %d analyses, %v", len(kept), err)
	}
}

// TestAnalyzeEvery changes the schedule of a gateway that has no host yet from the
// command line, and turns it off.
func TestAnalyzeEvery(t *testing.T) {
	t.Parallel()
	dir, info := startLab(t, "--bare")
	profile := filepath.Join(dir, "site", admincli.SiteProfileFile)
	c := administer(t, info)
	if err := c.Do(t.Context(), "POST", "Gateways", adminservice.NewGateway{Model: adminservice.ModelSelfHosted, Certificate: adminservice.ServerCertificate{ServiceName: labServiceName}}, nil); err != nil {
		t.Fatal(err)
	}
	every := func(minutes string, more ...string) string {
		t.Helper()
		return startAndWait(t, append([]string{"analyze", labGateway, "--profile", profile, "--every", minutes}, more...)...)
	}
	wantSchedule := func(minutes int) {
		t.Helper()
		s, err := adminservice.Get[adminservice.AnalysisSchedule](t.Context(), c, "Gateways/"+labGateway+"/analysisSchedule")
		if err != nil || s.Minutes != minutes {
			t.Errorf("%+v, %v, want every %d minutes", s, err, minutes)
		}
	}
	if out := every("15", "--output", "table"); !strings.HasPrefix(out, "every 15 minutes, waiting: no host has joined") {
		t.Errorf("every 15: %q", out)
	}
	wantSchedule(15)
	var s adminservice.AnalysisSchedule
	if out := every("30", "--output", "json"); json.Unmarshal([]byte(out), &s) != nil || s.Minutes != 30 || s.Waiting == "" {
		t.Errorf("as JSON: %q", out)
	}
	for _, wrong := range []string{"0", "often", "1.5"} {
		wantFailure(t, 2, "must be a number of minutes, or off", "analyze", labGateway, "--profile", profile, "--every", wrong)
	}
	wantFailure(t, 1, "must be from 5 to 10080", "analyze", labGateway, "--profile", profile, "--every", "4")
	wantFailure(t, 1, "nothing", "analyze", "nothing", "--profile", profile, "--every", "10")
	wantSchedule(30)
	if out := every("off", "--output", "table"); out != "off\n" {
		t.Errorf("off: %q", out)
	}
	wantSchedule(0)
}
