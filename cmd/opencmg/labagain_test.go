package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/opencmg/opencmg/adminservice"
)

// labUntil starts a lab on a directory and waits until it has written text: into
// its log, or onto the screen.
func labUntil(t *testing.T, dir, text string, args ...string) *testProcess {
	t.Helper()
	log := filepath.Join(dir, "lab.log")
	before, _ := os.ReadFile(log)
	lab := startProgram(t, append([]string{"lab", "--data-dir", dir}, args...)...)
	eventually(t, "the lab until "+text, func() error {
		if b, err := os.ReadFile(log); err == nil && strings.Contains(string(b[min(len(b), len(before)):]), text) || strings.Contains(lab.String(), text) {
			return nil
		}
		select {
		case <-lab.done:
			t.Fatalf("the lab ended")
		default:
		}
		return errors.New("not yet")
	})
	return lab
}

const labIsUp = "Ctrl-C ends the lab"

// labFacts are what must be the same when a lab goes on.
type labFacts struct {
	Clients                                                  []string
	Gateways, Applications, Services, Points, Roles, Trusted []string
	Accounts                                                 []string
	SiteCA, Token, Console                                   string
}

func factsOf(t *testing.T, dir string, lab *testProcess) (f labFacts, messages []string) {
	t.Helper()
	var info labInfo
	if err := json.Unmarshal([]byte(readTestFile(t, filepath.Join(dir, labInfoFile))), &info); err != nil {
		t.Fatal(err)
	}
	c := administer(t, info)
	for path, to := range map[string]*[]string{
		"Gateways": &f.Gateways, "Applications": &f.Applications, "AzureServices": &f.Services, "ConnectionPoints": &f.Points, "SiteRoles": &f.Roles,
		"TrustedCertificates": &f.Trusted, "Accounts": &f.Accounts, "StatusMessages": &messages,
	} {
		list, err := adminservice.List[map[string]any](t.Context(), c, path, url.Values{"$top": {"1000"}})
		if err != nil {
			t.Fatal(err)
		}
		for _, o := range list {
			*to = append(*to, fmt.Sprint(o["id"]))
		}
		slices.Sort(*to)
	}
	f.Clients = regexp.MustCompile(`GUID:[-0-9A-F]{36}`).FindAllString(lab.String(), -1)
	f.SiteCA, f.Token, f.Console = readTestFile(t, info.AdminService.CAFile), readTestFile(t, info.AdminService.TokenFile), info.Console.URL
	return f, messages
}

// TestLabGoesOn kills a lab while it sets up, and when it is up, and starts it
// again on the same directory.
func TestLabGoesOn(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	kill := func(lab *testProcess) {
		t.Helper()
		if err := lab.cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		<-lab.done
	}
	// Within parts 2, 3 and 4.
	for _, moment := range []string{"step=client-app", "part 2: ", "step=deploy", "step=instances"} {
		kill(labUntil(t, dir, moment))
	}
	lab := labUntil(t, dir, labIsUp)
	first, messages := factsOf(t, dir, lab)
	if d := cmp.Diff([]int{3, 1, 2, 1, 2, 1, 2}, []int{len(first.Clients), len(first.Gateways), len(first.Applications), len(first.Services), len(first.Points), len(first.Roles), len(first.Trusted)}); d != "" || len(messages) == 0 {
		t.Fatalf("%d messages, and how many there are of each: (-want +got)\n%s", len(messages), d)
	}
	if !strings.Contains(lab.String(), "Everything worked") {
		t.Fatal("not everything worked")
	}
	wantFailure(t, 1, fmt.Sprintf("a lab is running there with process %d", lab.cmd.Process.Pid), "lab", "--data-dir", dir)
	wantFailure(t, 1, "a lab is running there", "lab", "--data-dir", dir, "--fresh")

	for _, how := range []struct {
		name string
		end  func(*testProcess)
	}{
		{"killed", kill},
		{"interrupted", func(lab *testProcess) {
			lab.cmd.Process.Signal(os.Interrupt)
			<-lab.done
		}},
	} {
		how.end(lab)
		lab = labUntil(t, dir, labIsUp)
		again, later := factsOf(t, dir, lab)
		if d := cmp.Diff(first, again); d != "" {
			t.Errorf("%s: (-first +again)\n%s", how.name, d)
		}
		for _, id := range messages {
			if !slices.Contains(later, id) {
				t.Errorf("%s: status message %s is gone", how.name, id)
			}
		}
		if len(later) <= len(messages) || !strings.Contains(lab.String(), "Everything worked") {
			t.Errorf("%s: %d status messages, then %d", how.name, len(messages), len(later))
		}
	}

	// A lab that can not go on says so and loses nothing.
	kill(lab)
	kept := filepath.Join(dir, "state", "lab.yaml")
	if err := os.Rename(kept, kept+".lost"); err != nil {
		t.Fatal(err)
	}
	wantFailure(t, 1, "--fresh", "lab", "--data-dir", dir)
	if err := os.Rename(kept+".lost", kept); err != nil {
		t.Fatal(err)
	}
	mine := filepath.Join(dir, "mine")
	writeTestFile(t, mine, "not the lab's")
	lab = labUntil(t, dir, labIsUp, "--bare", "--fresh")
	anew, _ := factsOf(t, dir, lab)
	if len(anew.Gateways) != 0 || anew.SiteCA == first.SiteCA || readTestFile(t, mine) == "" {
		t.Errorf("after --fresh: %+v", anew)
	}
	kill(lab)
	lab = labUntil(t, dir, labIsUp, "--bare")
	bare, _ := factsOf(t, dir, lab)
	if d := cmp.Diff(anew, bare); d != "" {
		t.Errorf("a bare lab: (-first +again)\n%s", d)
	}
}
