package admincli_test

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/csv"
	"encoding/json"
	"encoding/pem"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"software.sslmate.com/src/go-pkcs12"

	"github.com/opencmg/opencmg"
	"github.com/opencmg/opencmg/adminservice"
	"github.com/opencmg/opencmg/internal/admincli"
	"github.com/opencmg/opencmg/pki"
)

// A fakeSite answers with what a test says, over real TLS.
type fakeSite struct {
	*httptest.Server
	t       *testing.T
	answers map[string]any // by method and path below the base
	asked   map[string][]byte
	dir     string
}

func newFakeSite(t *testing.T, answers map[string]any) *fakeSite {
	f := &fakeSite{t: t, answers: answers, asked: map[string][]byte{}, dir: t.TempDir()}
	f.Server = httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		key := r.Method + " " + strings.TrimPrefix(r.URL.Path, adminservice.BasePath)
		f.asked[key], _ = io.ReadAll(r.Body)
		if r.URL.RawQuery != "" {
			f.asked[key] = []byte(r.URL.RawQuery)
		}
		a, ok := f.answers[key]
		if !ok {
			t.Errorf("nobody expected %s", key)
			w.WriteHeader(http.StatusNotFound)
			return
		}
		json.NewEncoder(w).Encode(a)
	}))
	t.Cleanup(f.Close)
	f.write("ca.pem", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: f.Certificate().Raw})))
	f.write("token", "secret\n")
	return f
}

func (f *fakeSite) write(name, content string) string {
	f.t.Helper()
	file := filepath.Join(f.dir, name)
	if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
		f.t.Fatal(err)
	}
	return file
}

type command func(context.Context, *admincli.Env, []string) error

// run runs a command against the site and returns what it printed.
func (f *fakeSite) run(c command, args ...string) (stdout, stderr string, err error) {
	return run(f.t, c, append([]string{"--site", f.URL, "--ca-file", filepath.Join(f.dir, "ca.pem"), "--token-file", filepath.Join(f.dir, "token")}, args...)...)
}

func run(t *testing.T, c command, args ...string) (stdout, stderr string, err error) {
	t.Helper()
	var out, errs bytes.Buffer
	// No profile of the user who runs the test.
	t.Setenv("HOME", t.TempDir())
	t.Setenv("XDG_CONFIG_HOME", t.TempDir())
	t.Setenv("AppData", t.TempDir())
	e := &admincli.Env{Stdin: strings.NewReader(""), Stdout: &out, Stderr: &errs, Getenv: func(string) string { return "" }}
	err = c(t.Context(), e, args)
	return out.String(), errs.String(), err
}

func item(id string, part int, state opencmg.CheckState) adminservice.ChecklistItem {
	i := adminservice.ChecklistItem{Check: opencmg.Check{ID: id, Name: "Name of " + id, State: state, Evidence: "seen | <here>"}, Part: part, Who: adminservice.WhoNetwork}
	if state != opencmg.CheckPass {
		i.NextStep, i.Command = "open the port", "opencmg firewall-sheet"
	}
	return i
}

func page[T any](list ...T) adminservice.Page[T] { return adminservice.Page[T]{Value: list} }

// TestChecklistOutput prints the same items in each way, and ends with 1 when
// somebody has to act.
func TestChecklistOutput(t *testing.T) {
	good := []adminservice.ChecklistItem{item("a", 0, opencmg.CheckPass), item("b", 0, opencmg.CheckWarn), item("c", 1, opencmg.CheckPass)}
	for _, tt := range []struct {
		way   string
		items []adminservice.ChecklistItem
		want  string
		open  bool
	}{
		{"table", good, `Prerequisites
  ok    Name of a: seen | <here>
  warn  Name of b: seen | <here>
        network administrator: open the port
        $ opencmg firewall-sheet

Part 1: Server authentication certificate
  ok    Name of c: seen | <here>
`, false},
		{"table", []adminservice.ChecklistItem{item("a", 4, opencmg.CheckTodo)}, `Part 4: Gateway, connection points, roles
  todo  Name of a: seen | <here>
        network administrator: open the port
        $ opencmg firewall-sheet
`, true},
		{"json", []adminservice.ChecklistItem{item("a", 4, opencmg.CheckFail), item("b", 5, opencmg.CheckPass)},
			`{"id":"a","name":"Name of a","state":"fail","evidence":"seen | <here>","nextStep":"open the port","part":4,"who":"network administrator","command":"opencmg firewall-sheet"}
{"id":"b","name":"Name of b","state":"pass","evidence":"seen | <here>","part":5,"who":"network administrator"}
`, true},
		{"markdown", good[1:], "## Prerequisites\n\n| State | Item | Evidence | Who | Next step |\n| --- | --- | --- | --- | --- |\n| warn | Name of b | seen \\| &lt;here&gt; | network administrator | open the port `opencmg firewall-sheet` |\n", false},
	} {
		f := newFakeSite(t, map[string]any{"POST Checklist": page(tt.items...)})
		out, errs, err := f.run(admincli.Checklist, "--output", tt.way)
		if tt.open != errors.Is(err, admincli.ErrReported) || !tt.open && err != nil {
			t.Errorf("%s: %v, want somebody to act: %v", tt.way, err, tt.open)
		}
		if tt.way == "markdown" {
			_, out, _ = strings.Cut(out, "\n\n")
			out, _, _ = strings.Cut(out, "\n\n## Part")
			out += "\n"
			out = strings.Replace(out, "\n\n|", "\n\n|", 1)
			if !strings.Contains(out, strings.TrimSuffix(tt.want, "\n")) {
				t.Errorf("markdown:\n%s\nwant\n%s", out, tt.want)
			}
		} else if out != tt.want {
			t.Errorf("%s:\n%s\nwant\n%s", tt.way, out, tt.want)
		}
		if !strings.Contains(errs, "items pass") {
			t.Errorf("standard error: %q", errs)
		}
	}
}

// TestChecklistAsks: what the flags say gets to the site.
func TestChecklistAsks(t *testing.T) {
	f := newFakeSite(t, map[string]any{"POST Checklist": page(item("a", 0, opencmg.CheckPass))})
	if _, _, err := f.run(admincli.Checklist, "--gateway", "gw", "--instances", "3", "--size", "Large", "--region", "westus", "--subscription", "s", "--output", "json"); err != nil {
		t.Fatal(err)
	}
	if got := strings.TrimSpace(string(f.asked["POST Checklist"])); got != `{"gateway":"gw","instances":3,"size":"Large","subscriptionId":"s","region":"westus"}` {
		t.Error(got)
	}
	for _, args := range [][]string{{"--output", "xml"}, {"surplus"}, {"--proxy", "no"}, {"--connect-to", "x"}} {
		if _, _, err := f.run(admincli.Checklist, args...); err == nil {
			t.Errorf("%v: no error", args)
		} else if _, ok := errors.AsType[*admincli.UsageError](err); !ok {
			t.Errorf("%v: %v is no usage error", args, err)
		}
	}
}

// serverPFX is a server certificate as an administrator has it.
func (f *fakeSite) serverPFX(password string, names ...string) string {
	f.t.Helper()
	return serverPFX(f.t, f.dir, password, names...)
}

func serverPFX(t *testing.T, dir, password string, names ...string) string {
	t.Helper()
	ca, err := pki.NewAuthority("Some Public CA", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	pair, err := ca.IssueKeyPair(pki.Template{CommonName: names[0], DNSNames: names, Server: true, Key: pki.RSA2048}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	b, err := pkcs12.Modern.Encode(pair.PrivateKey, pair.Leaf, []*x509.Certificate{ca.Certificate()}, password)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "gw.pfx")
	if err := os.WriteFile(file, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// TestServerCertificateWithoutASite looks at a file where no site is known, and
// says what was not looked at.
func TestServerCertificateWithoutASite(t *testing.T) {
	dir := t.TempDir()
	pfx := serverPFX(t, dir, "word", "gw.example.com")
	word := filepath.Join(dir, "word")
	if err := os.WriteFile(word, []byte("word\nmore\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	out, errs, err := run(t, admincli.Checklist, "--service-cert", pfx, "--password-file", word, "--output", "table")
	if err != nil || !strings.Contains(out, "ok    Server authentication") || !strings.Contains(errs, "Only the certificate was looked at") {
		t.Errorf("%v\n%s%s", err, out, errs)
	}
	out, _, err = run(t, admincli.Checklist, "--service-cert", pfx, "--output", "table")
	if !errors.Is(err, admincli.ErrReported) || !strings.Contains(out, "FAIL  PFX file") || !strings.Contains(out, "password") {
		t.Errorf("without the password: %v\n%s", err, out)
	}
	out, _, err = run(t, admincli.Checklist, "--service-cert", pfx, "--password-file", word, "--service-name", "other.example.com", "--output", "json")
	if !errors.Is(err, admincli.ErrReported) || !strings.Contains(out, `"id":"certificate-service-name","name":"Service name","state":"fail"`) {
		t.Errorf("another name: %v\n%s", err, out)
	}
	if _, _, err = run(t, admincli.Checklist, "--service-cert", filepath.Join(dir, "missing")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no file: %v", err)
	}
	if _, _, err = run(t, admincli.Checklist); !errors.Is(err, opencmg.NotFound) {
		t.Errorf("neither a site nor a file: %v", err)
	}
}

// TestServerCertificateWithASite puts the file's checks into part 1, and sends
// the key nowhere.
func TestServerCertificateWithASite(t *testing.T) {
	items := page(item("optional-feature", 0, opencmg.CheckPass), item("certificate", 1, opencmg.CheckTodo), item("azure-service", 2, opencmg.CheckPass))
	f := newFakeSite(t, map[string]any{"POST Checklist": items, "GET Gateways": page[adminservice.Gateway]()})
	pfx := f.serverPFX("", "gw.example.com")
	out, _, err := f.run(admincli.Checklist, "--service-cert", pfx, "--output", "json")
	if err != nil {
		t.Fatal(err, out)
	}
	if strings.Contains(out, `"id":"certificate"`) || !strings.Contains(out, `"id":"certificate-key"`) || strings.Index(out, "certificate-key") > strings.Index(out, "azure-service") {
		t.Error(out)
	}
	if strings.Contains(string(f.asked["POST Checklist"]), "pfx") {
		t.Error("the certificate left the host")
	}
	// A gateway that is there keeps the verdict on its own certificate, and
	// says for which name the new one must be.
	f.answers["GET Gateways"] = page(adminservice.Gateway{Name: "gw", ServiceName: "other.example.com", DeploymentName: "gw.westus.cloudapp.azure.com"})
	out, _, err = f.run(admincli.Checklist, "--service-cert", pfx, "--output", "json")
	if !errors.Is(err, admincli.ErrReported) || !strings.Contains(out, `"id":"certificate"`) || !strings.Contains(out, `"id":"certificate-service-name","name":"Service name","state":"fail"`) {
		t.Error(err, out)
	}
}

// TestFromHere looks at the site's targets from this host.
func TestFromHere(t *testing.T) {
	ca, err := pki.NewAuthority("Site CA", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	f := newFakeSite(t, map[string]any{
		"POST Checklist":   page(item("a", 0, opencmg.CheckPass)),
		"GET Site":         adminservice.Site{SiteCA: string(ca.CertificatePEM())},
		"GET ProbeTargets": page(opencmg.ProbeTarget{Kind: opencmg.ProbeTunnel, Host: "gw.example.com", Port: 10124, Transport: "https"}),
	})
	// The fake site itself answers in the gateway's place: its certificate is
	// not one of the site CA.
	if _, _, err := f.run(admincli.Checklist, "--from-here", "--gateway", "gw", "--connect-to", "gw.example.com:10124:"+f.Listener.Addr().String(), "--output", "json"); err != nil {
		t.Fatal(err)
	}
	var in adminservice.ChecklistRequest
	if err := json.Unmarshal(f.asked["POST Checklist"], &in); err != nil || in.Probes == nil || len(in.Probes.Probes) != 1 {
		t.Fatalf("%v: %s", err, f.asked["POST Checklist"])
	}
	if p := in.Probes.Probes[0]; p.OK || p.Via != opencmg.ViaConnectTo || !strings.Contains(p.Inspector, "Acme Co") {
		t.Errorf("%+v", p)
	}
	if got := string(f.asked["GET ProbeTargets"]); got != "gateway=gw" {
		t.Error(got)
	}
}

// TestPreflight puts a plan together from a file and flags.
func TestPreflight(t *testing.T) {
	f := newFakeSite(t, map[string]any{"POST Checklist": page(item("plan", 0, opencmg.CheckFail))})
	plan := f.write("plan.yaml", "region: westus\ninstances: 4\ndescription: from the file\n")
	pfx := f.serverPFX("word", "gw.example.com")
	_, _, err := f.run(admincli.Preflight, "-f", plan, "--service-cert", pfx, "--password-file", f.write("word", "word\r\n"), "--region", "eastus", "--subscription", "s",
		"--resource-group", "g", "--existing-group", "--deployment-name", "gw2", "--size", "Large", "--service-name", "gw.example.com", "--environment", "AzurePublicCloud", "--output", "json")
	if !errors.Is(err, admincli.ErrReported) {
		t.Fatal(err)
	}
	var in adminservice.ChecklistRequest
	if err := json.Unmarshal(f.asked["POST Checklist"], &in); err != nil || in.Planned == nil {
		t.Fatal(err)
	}
	g := *in.Planned
	if len(g.Certificate.PFX) == 0 || g.Certificate.Password != "word" {
		t.Error("the certificate did not get there")
	}
	if g.Region != "eastus" || g.Instances != 4 || g.Description != "from the file" || g.SubscriptionID != "s" || g.ResourceGroup != "g" || !g.ExistingGroup ||
		g.DeploymentName != "gw2" || g.Size != opencmg.SizeLarge || g.Certificate.ServiceName != "gw.example.com" || g.Environment != opencmg.AzurePublicCloud {
		t.Errorf("%+v", g)
	}
	if _, _, err := f.run(admincli.Preflight, "-f", f.write("bad.yaml", "regoin: westus\n")); !errors.Is(err, opencmg.Invalid) || !strings.Contains(err.Error(), "regoin") {
		t.Errorf("a misspelt key: %v", err)
	}
}

// TestFirewallSheetOutput prints rules in each way; names that look like
// formulas do no harm in a spreadsheet.
func TestFirewallSheetOutput(t *testing.T) {
	f := newFakeSite(t, map[string]any{"GET FirewallSheet": page(
		adminservice.FirewallRule{From: "client", To: "gateway", Direction: "inbound", Host: "<service name>", Port: 443, Protocol: "HTTPS", Purpose: "all, really"},
		adminservice.FirewallRule{From: "=cmd|' /C calc'!A0", To: "@x", Direction: "-1", Host: "+1", Port: 80, Protocol: "HTTP", Purpose: "\tx", Note: `"quoted"`},
	)})
	out, _, err := f.run(admincli.FirewallSheet, "--output", "csv", "--gateway", "gw")
	if err != nil || string(f.asked["GET FirewallSheet"]) != "gateway=gw" {
		t.Fatal(err)
	}
	rows, err := csv.NewReader(strings.NewReader(out)).ReadAll()
	if err != nil || len(rows) != 3 || rows[1][3] != "<service name>" || rows[1][6] != "all, really" {
		t.Fatalf("%v: %q", err, rows)
	}
	for _, cell := range rows[2] {
		if strings.ContainsAny(cell[:1], "=+-@\t") {
			t.Errorf("%q is a formula", cell)
		}
	}
	for way, want := range map[string]string{
		"table":    "client              gateway  inbound    <service name>  443   HTTPS",
		"markdown": "| client | gateway | inbound | &lt;service name&gt; | 443 | HTTPS | all, really |",
		"json":     `{"from":"client","to":"gateway","direction":"inbound","host":"<service name>","port":443,"protocol":"HTTPS","purpose":"all, really"}` + "\n",
	} {
		if out, _, err := f.run(admincli.FirewallSheet, "--output", way); err != nil || !strings.Contains(out, want) {
			t.Errorf("%s: %v\n%s", way, err, out)
		}
	}
}

// TestPrerequisites switches the optional feature, registers providers, and lists
// subscriptions.
func TestPrerequisites(t *testing.T) {
	const subscription = "9a41c7d2-0b63-4f18-8e2d-57c3a1f0b6e4"
	on := adminservice.Feature{ID: adminservice.FeatureGateway, Name: "Cloud Management Gateway", On: true}
	f := newFakeSite(t, map[string]any{
		"GET Features": page(on), "PATCH Features/" + on.ID: on,
		"GET Applications":                                                     page(adminservice.Application{ID: "A", Kind: adminservice.ServerApplication}, adminservice.Application{ID: "B", Kind: adminservice.ClientApplication}),
		"POST Applications/A/registerProviders":                                adminservice.Operation{ID: "1"},
		"GET Applications/A/subscriptions":                                     page(adminservice.Subscription{ID: subscription, Name: "Lab", State: "Enabled"}),
		"GET Applications/A/subscriptions/" + subscription + "/regions":        page(adminservice.Region{Name: "westeurope", DisplayName: "West Europe"}),
		"GET Applications/A/subscriptions/" + subscription + "/resourceGroups": page(adminservice.ResourceGroup{Name: "rg", Region: "westeurope"}),
		"GET Operations/1":                                                     adminservice.Operation{ID: "1", State: adminservice.OperationCompleted, Log: []adminservice.OperationLog{{Text: "Microsoft.KeyVault is registered"}}},
	})
	if out, _, err := f.run(admincli.Feature, "--output", "table"); err != nil || !strings.Contains(out, "Cloud Management Gateway  on") {
		t.Error(err, out)
	}
	if _, _, err := f.run(admincli.Feature, on.ID, "off"); err != nil || string(f.asked["PATCH Features/"+on.ID]) != `{"on":false}` {
		t.Errorf("%v: %s", err, f.asked["PATCH Features/"+on.ID])
	}
	if _, errs, err := f.run(admincli.RegisterProviders, "--subscription", subscription); err != nil || !strings.Contains(errs, "is registered") {
		t.Error(err, errs)
	}
	if got := string(f.asked["POST Applications/A/registerProviders"]); got != `{"subscriptionId":"`+subscription+`"}` {
		t.Error(got)
	}
	for _, c := range []struct {
		run  command
		args []string
		want string
	}{
		{admincli.SubscriptionList, []string{"--output", "table"}, subscription + "  Lab   Enabled"},
		{admincli.SubscriptionList, []string{"--output", "json"}, `{"id":"` + subscription + `","name":"Lab","state":"Enabled"}` + "\n"},
		{admincli.SubscriptionShow, []string{subscription, "--output", "table"}, "westeurope  West Europe\n\nRESOURCE GROUP  REGION\nrg"},
		{admincli.SubscriptionShow, []string{subscription, "--output", "json"}, `{"regions":[{"name":"westeurope","displayName":"West Europe"}],"resourceGroups":[{"name":"rg","region":"westeurope"}]}` + "\n"},
	} {
		if out, _, err := f.run(c.run, c.args...); err != nil || !strings.Contains(out, c.want) {
			t.Errorf("%v: %v\n%s", c.args, err, out)
		}
	}
	for _, c := range []struct {
		run  command
		args []string
	}{{admincli.SubscriptionShow, nil}, {admincli.SubscriptionShow, []string{"Lab"}}, {admincli.Feature, []string{"x"}}, {admincli.Feature, []string{"x", "maybe"}}, {admincli.RegisterProviders, nil}} {
		if _, _, err := f.run(c.run, c.args...); err == nil {
			t.Errorf("%v: no error", c.args)
		} else if _, ok := errors.AsType[*admincli.UsageError](err); !ok {
			t.Errorf("%v: %v", c.args, err)
		}
	}
}
