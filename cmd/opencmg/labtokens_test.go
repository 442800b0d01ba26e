package main

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/opencmg/opencmg"
	"github.com/opencmg/opencmg/adminservice"
)

// asAdministrator makes the commands of this process those of a lab's
// administrator.
func asAdministrator(t *testing.T, info labInfo) {
	t.Setenv("OPENCMG_SITE", info.AdminService.URL)
	t.Setenv("OPENCMG_CA_FILE", info.AdminService.CAFile)
	t.Setenv("OPENCMG_TOKEN_FILE", info.AdminService.TokenFile)
}

// opencmgCommand runs a command line as main does.
func opencmgCommand(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	return opencmgCommandIn(t.Context(), args...)
}

// opencmgCommandIn is opencmgCommand for a command that ends with ctx.
func opencmgCommandIn(ctx context.Context, args ...string) (code int, stdout, stderr string) {
	var out, errs bytes.Buffer
	code = run(ctx, args, strings.NewReader(""), &out, &errs)
	return code, out.String(), errs.String()
}

// succeed runs a command that must not fail and returns its standard output and
// standard error.
func succeed(t *testing.T, args ...string) (stdout, stderr string) {
	t.Helper()
	code, stdout, stderr := opencmgCommand(t, args...)
	if code != 0 {
		t.Fatalf("opencmg %s: %d\n%s%s", strings.Join(args, " "), code, stdout, stderr)
	}
	return stdout, stderr
}

// wantFailure runs a command that must fail with the code and a text.
func wantFailure(t *testing.T, code int, text string, args ...string) {
	t.Helper()
	got, stdout, stderr := opencmgCommand(t, args...)
	if got != code || !strings.Contains(stdout+stderr, text) {
		t.Errorf("opencmg %s: %d, want %d and %q\n%s%s", strings.Join(args, " "), got, code, text, stdout, stderr)
	}
}

// TestTokensOfALab makes bulk registration tokens by the documented tool's
// switches and by ours, and registers clients through the gateway with them.
func TestTokensOfALab(t *testing.T) {
	_, info := startLab(t)
	asAdministrator(t, info)
	dir := t.TempDir()
	guid := func(stderr string) string {
		t.Helper()
		_, rest, _ := strings.Cut(stderr, "GUID:")
		id := strings.TrimSpace(strings.SplitN(rest, "\n", 2)[0])
		if len(id) != 36 {
			t.Fatalf("no GUID in %s", stderr)
		}
		return id
	}
	install := func(name, token string) (int, string) {
		t.Helper()
		file := filepath.Join(dir, name+".token")
		if err := os.WriteFile(file, []byte(token), 0o600); err != nil {
			t.Fatal(err)
		}
		code, stdout, stderr := opencmgCommand(t, "client", "install", "--state-dir", filepath.Join(dir, name), "--ca-file", info.CAFile,
			"--connect-to", info.ServiceName+":443:"+info.PublicAddress, "--connect-to", info.ServiceName+":443:"+info.PublicAddress, "--regtoken-file", file,
			"CCMHOSTNAME="+info.ServiceName+info.MutualAuthBase[strings.Index(info.MutualAuthBase, "/CCM_Proxy"):], "SMSSITECODE="+labSite, "CCMALWAYSINF=1")
		return code, stdout + stderr
	}
	list := func() map[string]adminservice.BulkRegistrationToken {
		t.Helper()
		stdout, _ := succeed(t, "bulk-token", "list")
		all := map[string]adminservice.BulkRegistrationToken{}
		for d := json.NewDecoder(strings.NewReader(stdout)); d.More(); {
			var tok adminservice.BulkRegistrationToken
			if err := d.Decode(&tok); err != nil {
				t.Fatal(err)
			}
			all[tok.ID] = tok
		}
		return all
	}

	// One use, by the tool's own name and switches.
	file := filepath.Join(dir, "one")
	_, stderr := succeed(t, "BulkRegistrationTokenTool.exe", "--to", file, "/NEW", "--uses", "1", "--group", "Branch", "/Lifetime", "60")
	one := guid(stderr)
	token := strings.TrimSpace(readTestFile(t, file))
	if st, err := os.Stat(file); err != nil || runtime.GOOS != "windows" && st.Mode().Perm() != 0o600 {
		t.Errorf("%v %v", st.Mode(), err)
	}
	if strings.Contains(stderr, token) || strings.Count(token, ".") != 2 {
		t.Errorf("token %q, standard error %s", token, stderr)
	}
	if code, said := install("first", token); code != 0 {
		t.Fatalf("first client: %s", said)
	}
	if code, said := install("second", token); code == 0 || !strings.Contains(said, opencmg.ReasonConnectionPrefix+"Unauthorized") {
		t.Errorf("second client: %d %s", code, said)
	}
	if got := list()[one]; got.Used != 1 || got.Uses != 1 || got.LastUsed.IsZero() || got.Group != "Branch" || got.Expires.Sub(got.Issued).Minutes() != 60 || got.Token != "" {
		t.Errorf("listed: %+v", got)
	}

	// Source ranges: the gateway sees this host's loopback address.
	stdout, _ := succeed(t, "bulk-token", "new", "--source", "192.0.2.0/24", "--source", "2001:db8::/32")
	if code, said := install("elsewhere", strings.TrimSpace(stdout)); code == 0 {
		t.Errorf("a client from elsewhere: %s", said)
	}
	stdout, stderr = succeed(t, "bulk-token", "/new", "/lifetime:10080", "--source", "127.0.0.0/8", "--source", "::1/128")
	here := guid(stderr)
	if code, said := install("here", strings.TrimSpace(stdout)); code != 0 {
		t.Errorf("a client from here: %s", said)
	}

	// Blocked everywhere, and open again.
	succeed(t, "bulk-token", "block", "{"+strings.ToLower(here)+"}")
	if !list()[here].Blocked {
		t.Error("not listed as blocked")
	}
	eventually(t, "the gateway refuses the blocked token", func() error {
		code, said := install("blocked", strings.TrimSpace(stdout))
		if code == 0 {
			t.Fatalf("a client with a blocked token registers")
		}
		if !strings.Contains(said, opencmg.ReasonInvalidToken) {
			return &answerError{said}
		}
		return nil
	})
	succeed(t, "bulk-token", "unblock", here)
	eventually(t, "the gateway takes the token again", func() error {
		if code, said := install("unblocked", strings.TrimSpace(stdout)); code != 0 {
			return &answerError{said}
		}
		return nil
	})
	table, _ := succeed(t, "bulk-token", "list", "--output", "table")
	for _, want := range []string{"GUID", "1 of 1", "used up", "Branch", "127.0.0.0/8 ::1/128", "valid"} {
		if !strings.Contains(table, want) {
			t.Errorf("the table has no %q:\n%s", want, table)
		}
	}

	// What is asked wrongly.
	wantFailure(t, 2, "1 to 10,080 minutes", "bulk-token", "new", "/lifetime", "10081")
	wantFailure(t, 2, "1 to 10,080 minutes", "bulk-token", "new", "/new", "/LIFETIME=0")
	wantFailure(t, 2, "say what to do", "BulkRegistrationTokenTool", "/lifetime", "60")
	wantFailure(t, 1, "sources", "bulk-token", "new", "--source", "192.0.2.1")
	before := len(list())
	wantFailure(t, 1, "there is such a file already", "bulk-token", "new", "--to", file)
	if after := len(list()); after != before {
		t.Errorf("a token was made that nobody has: %d, %d", before, after)
	}
	wantFailure(t, 1, "there is no token", "bulk-token", "block", "00000000-0000-4000-8000-000000000000")

	// Join tokens.
	file = filepath.Join(dir, "join")
	_, stderr = succeed(t, "join-token", "new", "--kind", "Connection-Point", "--gateway", onlyGateway(t, administer(t, info)).Name, "--uses", "3", "--lifetime", "5", "--source", "10.0.0.0/8", "--to", file)
	joined, err := adminservice.ParseJoinToken(readTestFile(t, file))
	if err != nil || !strings.Contains(stderr, joined.ID) {
		t.Errorf("%v %s", err, stderr)
	}
	stdout, _ = succeed(t, "join-token", "list", "--output", "table")
	if !strings.Contains(stdout, joined.ID) || !strings.Contains(stdout, "10.0.0.0/8") {
		t.Errorf("join tokens:\n%s", stdout)
	}
	succeed(t, "join-token", "delete", joined.ID)
	if stdout, _ = succeed(t, "join-token", "list"); strings.Contains(stdout, joined.ID) {
		t.Errorf("revoked, and still there:\n%s", stdout)
	}
	wantFailure(t, 1, "there is no gateway", "join-token", "new", "--kind", "connection-point", "--gateway", "nowhere")
	wantFailure(t, 2, "--kind is needed", "join-token", "new")

	t.Run("people", func(t *testing.T) { signInPeople(t, info) })
	// Administrators: one for each way to sign in.
	const user = "a1100000-0000-4000-8000-00000000000a"
	succeed(t, "account", "add", "--name", "entra", "--role", "read-only analyst", "--entra-tenant", labTenant, "--entra-user", user)
	succeed(t, "account", "add", "--name", "cert", "--role", "OperationsAdministrator", "--certificate", info.SpareClient.CertFile)
	file = filepath.Join(dir, "account")
	succeed(t, "account", "add", "--name", "local", "--role", "Infrastructure Administrator", "--local-token", "--to", file)
	local := *administer(t, info)
	local.Token = adminservice.Secret(strings.TrimSpace(readTestFile(t, file)))
	if me, err := adminservice.Get[adminservice.Site](t.Context(), &local, "Site"); err != nil || me.Account != "local" || me.Role != adminservice.InfrastructureAdministrator {
		t.Errorf("%+v %v", me, err)
	}
	stdout, _ = succeed(t, "account", "list", "--output", "table")
	for _, want := range []string{"Entra user " + user + " of tenant " + labTenant, "certificate ", "Operations Administrator"} {
		if !strings.Contains(stdout, want) {
			t.Errorf("accounts lack %q:\n%s", want, stdout)
		}
	}
	for _, name := range []string{"entra", "CERT", "local"} {
		succeed(t, "account", "remove", name)
	}
	wantFailure(t, 1, "0 accounts are called", "account", "remove", "local")
	wantFailure(t, 2, "must be one of", "account", "add", "--name", "x", "--role", "emperor", "--local-token")
	wantFailure(t, 2, "one way to sign in", "account", "add", "--name", "x", "--role", "ReadOnlyAnalyst")
	wantFailure(t, 2, "--to is for", "account", "add", "--name", "x", "--role", "ReadOnlyAnalyst", "--entra-tenant", labTenant, "--entra-user", user, "--to", file)
}

// onlyGateway returns the only gateway of a site.
func onlyGateway(t *testing.T, c *adminservice.Client) adminservice.Gateway {
	t.Helper()
	all, err := adminservice.List[adminservice.Gateway](t.Context(), c, "Gateways", nil)
	if err != nil || len(all) != 1 {
		t.Fatal(err, all)
	}
	return all[0]
}
