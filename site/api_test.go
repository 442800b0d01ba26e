package site_test

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/opencmg/opencmg"
	"github.com/opencmg/opencmg/adminservice"
	"github.com/opencmg/opencmg/labcloud"
	"github.com/opencmg/opencmg/pki"
	"github.com/opencmg/opencmg/site"
	"github.com/opencmg/opencmg/sitedb"
)

// as is a client that signs in by a token.
func (r *rig) as(token string) *adminservice.Client {
	c := *r.c
	c.Token = adminservice.Secret(token)
	return &c
}

// withCertificate is a client that signs in by a certificate, or by nothing.
func (r *rig) withCertificate(certs ...tls.Certificate) *adminservice.Client {
	pool := x509.NewCertPool()
	pool.AddCert(r.s.SiteCA())
	t := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool, Certificates: certs, Time: r.now}}
	r.t.Cleanup(t.CloseIdleConnections)
	return &adminservice.Client{URL: r.c.URL, HTTP: &http.Client{Transport: &contract{t: r.t, next: t}}}
}

// account makes an account with a local token.
func (r *rig) account(name string, role adminservice.Role) *adminservice.Client {
	r.t.Helper()
	return r.as(do[adminservice.Account](r, "POST", "Accounts", adminservice.Account{Name: name, Role: role, LocalToken: true}).Token)
}

// refused wants an error of a kind that says something.
func refused(t testing.TB, err error, kind opencmg.Kind, says string) {
	t.Helper()
	if !errors.Is(err, kind) || !strings.Contains(err.Error(), says) {
		t.Errorf("got %v, want %s with %q", err, kind, says)
	}
}

// snapshot is everything that routes can change.
func (r *rig) snapshot() string {
	r.t.Helper()
	var b strings.Builder
	for _, kind := range []string{"account", "tenant", "application", "azure-service", "gateway", "connection-point", "role", "client-settings", "boundary-group", "trusted-certificate", "token-issuer", "blocked-certificate", "join-token", "published", "url-mappings", "feature"} {
		for _, o := range must(r.db.Objects(r.t.Context(), kind))(r.t) {
			fmt.Fprintf(&b, "%s %s %d %s\n", kind, o.ID, o.Version, o.Body)
		}
	}
	ops := must(r.db.Operations(r.t.Context(), sitedb.OperationFilter{}, 1000))(r.t)
	tokens, _, err := r.db.BulkTokens(r.t.Context(), "", 0, 1000)
	if err != nil {
		r.t.Fatal(err)
	}
	_, messages, err := r.db.SiteMessages(r.t.Context(), sitedb.MessageFilter{}, 0, 1)
	if err != nil {
		r.t.Fatal(err)
	}
	alerts, _, err := r.db.Alerts(r.t.Context(), sitedb.AlertFilter{}, 0, 1000)
	if err != nil {
		r.t.Fatal(err)
	}
	fmt.Fprintln(&b, len(ops), tokens, messages, alerts)
	return b.String()
}

// TestRoles asks every route as every role. Who may not is told so whatever the
// object is; who may gets past that. A new route is covered by being in the
// table.
func TestRoles(t *testing.T) {
	r := newRig(t)
	clients := map[adminservice.Role]*adminservice.Client{adminservice.FullAdministrator: r.c}
	for _, role := range adminservice.Roles()[1:] {
		clients[role] = r.account(string(role), role)
	}
	before := r.snapshot()
	for _, role := range adminservice.Roles() {
		for _, route := range site.RouteTable() {
			path := strings.ReplaceAll(route.Path, "{id}", "missing")
			var body any
			if route.Method != "GET" {
				body = map[string]any{"noSuchKey": true}
			}
			err := clients[role].Do(t.Context(), route.Method, path, body, nil)
			if _, refused := errors.AsType[*adminservice.ProblemError](err); !refused && (path == "openapi.yaml" || strings.HasPrefix(path, "Site/")) {
				err = nil // no JSON
			}
			what := fmt.Sprintf("%s: %s %s", role, route.Method, route.Path)
			if may := slices.Contains(route.Roles, role); may == errors.Is(err, opencmg.Forbidden) {
				t.Errorf("%s: %v, want allowed %v", what, err, may)
			} else if !may && !strings.Contains(err.Error(), string(role)) {
				t.Errorf("%s: %v does not name the role", what, err)
			}
			p, _ := errors.AsType[*adminservice.ProblemError](err)
			switch {
			case route.Method == "GET" && slices.Contains(route.Roles, role) && !strings.Contains(path, "missing"):
				if err != nil {
					t.Errorf("%s: %v", what, err)
				}
			case p == nil:
				t.Errorf("%s: %v, want a refusal of the key or the object", what, err)
			case p.Status != 400 && p.Status != 403 && p.Status != 404:
				t.Errorf("%s: %d %v", what, p.Status, err)
			}
		}
	}
	if diff := cmp.Diff(before, r.snapshot()); diff != "" {
		t.Errorf("something changed:\n%s", diff)
	}
	// A Read-only Analyst with the right body changes nothing either.
	before = r.snapshot()
	analyst := clients[adminservice.ReadOnlyAnalyst]
	for _, route := range site.RouteTable() {
		if route.Method == "GET" {
			continue
		}
		accounts := do[adminservice.Page[adminservice.Account]](r, "GET", "Accounts", nil).Value
		analyst.Do(t.Context(), route.Method, strings.ReplaceAll(route.Path, "{id}", accounts[0].ID), map[string]any{"name": "x", "localToken": true, "role": "Full Administrator"}, nil)
	}
	if diff := cmp.Diff(before, r.snapshot()); diff != "" {
		t.Errorf("a Read-only Analyst changed something:\n%s", diff)
	}
	// Without any proof nothing is answered, not even what there is.
	for _, route := range site.RouteTable()[:5] {
		refused(t, r.withCertificate().Do(t.Context(), route.Method, strings.ReplaceAll(route.Path, "{id}", "x"), nil, nil), opencmg.Unauthorized, "sign in")
	}
}

func TestSignInByToken(t *testing.T) {
	r := newRig(t)
	s := do[adminservice.Site](r, "GET", "Site", nil)
	if s.Account != "administrator" || s.Role != adminservice.FullAdministrator || s.Code != "LAB" {
		t.Errorf("%+v", s)
	}
	bob := r.account("bob", adminservice.OperationsAdministrator)
	if s, err := adminservice.Get[adminservice.Site](t.Context(), bob, "Site"); err != nil || s.Account != "bob" || s.Role != adminservice.OperationsAdministrator {
		t.Errorf("%+v %v", s, err)
	}
	for _, token := range []string{"x", string(bob.Token)[1:], strings.ToLower(string(bob.Token))} {
		refused(t, r.as(token).Do(t.Context(), "GET", "Site", nil, nil), opencmg.Unauthorized, "no administrator")
	}
	for _, field := range []string{"Basic " + string(bob.Token), string(bob.Token), "Bearer ", "Bearer"} {
		res := r.raw("GET", adminservice.BasePath+"Site", "", http.Header{"Authorization": {field}})
		if res.StatusCode != http.StatusUnauthorized || res.Header.Get("WWW-Authenticate") != "Bearer" {
			t.Errorf("%q: %s", field, res.Status)
		}
	}
	if res := r.raw("GET", adminservice.BasePath+"Site", "", http.Header{"Authorization": {"bearer " + string(bob.Token)}}); res.StatusCode != http.StatusOK {
		t.Errorf("the scheme in lower case: %s", res.Status)
	}
	accounts := do[adminservice.Page[adminservice.Account]](r, "GET", "Accounts?$filter="+url.QueryEscape("name eq 'bob'"), nil).Value
	if len(accounts) != 1 || accounts[0].Token != "" || !accounts[0].LocalToken {
		t.Fatalf("%+v", accounts)
	}
	do[any](r, "DELETE", "Accounts/"+accounts[0].ID, nil)
	refused(t, bob.Do(t.Context(), "GET", "Site", nil, nil), opencmg.Unauthorized, "")
}

func TestSignInByCertificate(t *testing.T) {
	r := newRig(t)
	issue := func(name string, from, to time.Time) tls.Certificate {
		return must(r.ca.IssueKeyPair(pki.Template{CommonName: name, Client: true, NotAfter: to}, from))(t)
	}
	now := time.Now()
	good, old, strange := issue("ann", now, now.AddDate(1, 0, 0)), issue("old", now.AddDate(-1, 0, 0), now.Add(-time.Minute)), issue("strange", now, now.AddDate(1, 0, 0))
	colons := strings.ToUpper(pki.Thumbprint(good.Leaf))
	for i := len(colons) - 2; i > 0; i -= 2 {
		colons = colons[:i] + ":" + colons[i:]
	}
	do[adminservice.Account](r, "POST", "Accounts", adminservice.Account{Name: "ann", Role: adminservice.InfrastructureAdministrator, CertificateThumbprint: colons})
	do[adminservice.Account](r, "POST", "Accounts", adminservice.Account{Name: "old", Role: adminservice.FullAdministrator, CertificateThumbprint: pki.Thumbprint(old.Leaf)})
	if s, err := adminservice.Get[adminservice.Site](t.Context(), r.withCertificate(good), "Site"); err != nil || s.Account != "ann" || s.Role != adminservice.InfrastructureAdministrator {
		t.Errorf("%+v %v", s, err)
	}
	refused(t, r.withCertificate(old).Do(t.Context(), "GET", "Site", nil, nil), opencmg.Unauthorized, "not valid now")
	refused(t, r.withCertificate(strange).Do(t.Context(), "GET", "Site", nil, nil), opencmg.Unauthorized, "belongs to no administrator")
	// The certificate of a site system signs in no administrator.
	p := r.join("cp1", "")
	refused(t, r.withCertificate(p.cert).Do(t.Context(), "GET", "Site", nil, nil), opencmg.Unauthorized, "belongs to no administrator")
	// A token decides when there are both.
	both := r.withCertificate(good)
	both.Token = "wrong"
	refused(t, both.Do(t.Context(), "GET", "Site", nil, nil), opencmg.Unauthorized, "the token")
}

func TestSignInByEntra(t *testing.T) {
	r := newRig(t)
	user, other := "c1a5b8f0-0d3e-4f6b-9a77-1e2d3c4b5a69", "d2b6c9a1-1e4f-4a7c-8b88-2f3e4d5c6b7a"
	token := func(change func(*labcloud.TokenOptions), app adminservice.Application) string {
		o := labcloud.TokenOptions{Tenant: tenantID, Version: 2, Audience: app.ClientID, ObjectID: user, UPN: "ann@fourthcoffee.example"}
		change(&o)
		return must(r.cloud.IssueToken(o))(t)
	}
	same := func(*labcloud.TokenOptions) {}
	refused(t, r.as(token(same, adminservice.Application{ClientID: "x"})).Do(t.Context(), "GET", "Site", nil, nil), opencmg.Unauthorized, "Entra")
	app := r.connect()
	do[adminservice.Account](r, "POST", "Accounts", adminservice.Account{Name: "ann", Role: adminservice.OperationsAdministrator, EntraTenantID: strings.ToUpper(tenantID), EntraObjectID: strings.ToUpper(user)})
	for name, change := range map[string]func(*labcloud.TokenOptions){"version 2": same, "version 1": func(o *labcloud.TokenOptions) { o.Version, o.Audience = 1, app.IdentifierURI }} {
		if s, err := adminservice.Get[adminservice.Site](t.Context(), r.as(token(change, app)), "Site"); err != nil || s.Account != "ann" || s.Role != adminservice.OperationsAdministrator {
			t.Errorf("%s: %+v %v", name, s, err)
		}
	}
	for _, tt := range []struct {
		name   string
		change func(*labcloud.TokenOptions)
		says   string
	}{
		{"another user", func(o *labcloud.TokenOptions) { o.ObjectID = other }, "no administrator"},
		{"another audience", func(o *labcloud.TokenOptions) { o.Audience = "api://other" }, "not accepted"},
		{"another tenant", func(o *labcloud.TokenOptions) { o.Tenant = other }, "not accepted"},
		{"expired", func(o *labcloud.TokenOptions) { o.NotBefore, o.ExpiresIn = -7200, 3600 }, "not accepted"},
		{"another key", func(o *labcloud.TokenOptions) { o.UnknownKey = true }, "not accepted"},
	} {
		err := r.as(token(tt.change, app)).Do(t.Context(), "GET", "Site", nil, nil)
		if !errors.Is(err, opencmg.Unauthorized) || !strings.Contains(err.Error(), tt.says) {
			t.Errorf("%s: %v", tt.name, err)
		}
	}
	do[adminservice.Tenant](r, "PATCH", "Tenants/"+tenantID, adminservice.TenantChange{DisableAuthentication: new(true)})
	refused(t, r.as(token(same, app)).Do(t.Context(), "GET", "Site", nil, nil), opencmg.Unauthorized, "not accepted")
	do[adminservice.Tenant](r, "PATCH", "Tenants/"+tenantID, adminservice.TenantChange{DisableAuthentication: new(false)})
	if err := r.as(token(same, app)).Do(t.Context(), "GET", "Site", nil, nil); err != nil {
		t.Errorf("enabled again: %v", err)
	}
}

// TestGuessing: ten wrong tokens are answered, then the address has to wait; the
// clock is the rig's.
func TestGuessing(t *testing.T) {
	stopped := time.Now()
	var later atomic.Int64
	r := newRig(t, func(r *rig) {
		r.config = func(c *site.Config) {
			c.Now = func() time.Time { return stopped.Add(time.Duration(later.Load())) }
		}
	})
	wrong := r.as("wrong")
	for i := range 10 {
		if err := wrong.Do(t.Context(), "GET", "Site", nil, nil); !errors.Is(err, opencmg.Unauthorized) {
			t.Fatalf("guess %d: %v", i+1, err)
		}
	}
	refused(t, wrong.Do(t.Context(), "GET", "Site", nil, nil), opencmg.Unavailable, "too many")
	res := r.raw("GET", adminservice.BasePath+"Site", "", nil)
	if res.StatusCode != http.StatusServiceUnavailable || res.Header.Get("Retry-After") == "" {
		t.Errorf("%s, Retry-After %q", res.Status, res.Header.Get("Retry-After"))
	}
	// Guessing join tokens and administrators is one thing.
	later.Store(int64(time.Second))
	refused(t, wrong.Do(t.Context(), "GET", "Site", nil, nil), opencmg.Unauthorized, "")
	refused(t, wrong.Do(t.Context(), "GET", "Site", nil, nil), opencmg.Unavailable, "")
	later.Store(int64(time.Minute))
	if err := r.c.Do(t.Context(), "GET", "Site", nil, nil); err != nil {
		t.Errorf("a minute later: %v", err)
	}
}

// raw sends a request as it is, as the first administrator unless the fields
// say otherwise.
func (r *rig) raw(method, path, body string, fields http.Header) *http.Response {
	r.t.Helper()
	req := must(http.NewRequestWithContext(r.t.Context(), method, r.c.URL, strings.NewReader(body)))(r.t)
	req.URL = must(req.URL.Parse(path))(r.t)
	req.Header.Set("Authorization", "Bearer "+string(r.c.Token))
	for k, v := range fields {
		req.Header[k] = v
	}
	res := must(r.c.HTTP.Do(req))(r.t)
	defer res.Body.Close()
	b := must(io.ReadAll(res.Body))(r.t)
	res.Body = io.NopCloser(bytes.NewReader(b))
	return res
}

func problem(t testing.TB, res *http.Response) adminservice.ProblemError {
	t.Helper()
	var p adminservice.ProblemError
	if err := json.NewDecoder(res.Body).Decode(&p); err != nil {
		t.Fatal(err)
	}
	if ct := res.Header.Get("Content-Type"); ct != "application/problem+json" || p.Status != res.StatusCode || p.Title != http.StatusText(p.Status) || p.CorrelationID == "" || p.CorrelationID != res.Header.Get(opencmg.HeaderCorrelationID) {
		t.Errorf("%s %q: %+v", res.Status, ct, p)
	}
	return p
}

func TestProblems(t *testing.T) {
	r := newRig(t)
	const id = "0123456789abcdef0123456789abcdef"
	for _, tt := range []struct {
		name, method, path, body string
		status                   int
		says                     string
	}{
		{"unknown key", "POST", "Accounts", `{"nmae": "x"}`, 400, `unknown field "nmae"`},
		{"wrong type", "POST", "Accounts", `{"name": 3}`, 400, `"name" can not be a number`},
		{"no JSON", "POST", "Accounts", `name=x`, 400, "not what this resource takes"},
		{"two documents", "POST", "Accounts", `{} {}`, 400, "follows"},
		{"nothing", "POST", "Accounts", ``, 400, "empty"},
		{"too large", "POST", "Accounts", `{"name": "` + strings.Repeat("x", 5<<20) + `"}`, 413, "larger than"},
		{"no such collection", "GET", "Gatewys", ``, 404, "openapi.yaml"},
		{"no such object", "GET", "Gateways/x", ``, 404, `no gateway "x"`},
		{"wrong method", "DELETE", "Gateways", ``, 405, "GET, HEAD, POST"},
		{"a bad filter", "GET", "Gateways?$filter=x", ``, 400, "$filter"},
		{"an unknown option", "GET", "Gateways?$expand=x", ``, 400, "$expand"},
		{"If-Match", "DELETE", "Accounts/x", ``, 400, "If-Match"},
	} {
		fields := http.Header{opencmg.HeaderCorrelationID: {id}}
		if tt.name == "If-Match" {
			fields.Set("If-Match", `W/"1"`)
		}
		res := r.raw(tt.method, adminservice.BasePath+tt.path, tt.body, fields)
		p := problem(t, res)
		if p.Status != tt.status || !strings.Contains(p.Detail, tt.says) || p.CorrelationID != id {
			t.Errorf("%s: %+v, want %d %q", tt.name, p, tt.status, tt.says)
		}
	}
	if got := r.raw("DELETE", adminservice.BasePath+"Gateways", "", nil).Header.Get("Allow"); got != "GET, HEAD, POST" {
		t.Errorf("Allow: %q", got)
	}
	// A correlation ID that would forge a line of a log is not taken.
	res := r.raw("GET", adminservice.BasePath+"Gateways/x", "", http.Header{opencmg.HeaderCorrelationID: {"x level=ERROR"}})
	if p := problem(t, res); strings.Contains(p.CorrelationID, "level") {
		t.Errorf("%q", p.CorrelationID)
	}
	// A page elsewhere that uses the administrator's browser gets nothing done.
	res = r.raw("POST", adminservice.BasePath+"Accounts", `{}`, http.Header{"Origin": {"https://evil.example"}, "Sec-Fetch-Site": {"cross-site"}})
	if p := problem(t, res); p.Status != http.StatusForbidden || !strings.Contains(p.Detail, "origin") {
		t.Errorf("%+v", p)
	}
}

func TestVersions(t *testing.T) {
	r := newRig(t)
	role := do[adminservice.SiteRole](r, "POST", "SiteRoles", adminservice.SiteRole{Kind: opencmg.KindManagementPoint, Name: "mp1", Internal: []string{"https://mp1.corp.example"}})
	on := adminservice.SiteRoleChange{AllowGatewayTraffic: new(true)}
	var changed adminservice.SiteRole
	if err := r.c.Change(t.Context(), "PATCH", "SiteRoles/"+role.ID, role.Version, on, &changed); err != nil || changed.Version != role.Version+1 {
		t.Fatalf("%+v %v", changed, err)
	}
	refused(t, r.c.Change(t.Context(), "PATCH", "SiteRoles/"+role.ID, role.Version, on, nil), opencmg.Stale, "changed meanwhile")
	refused(t, r.c.Change(t.Context(), "DELETE", "SiteRoles/"+role.ID, role.Version, nil, nil), opencmg.Stale, "changed meanwhile")
	for _, tt := range []struct {
		field string
		want  int
	}{{`"1"`, 412}, {`"7"`, 412}, {`2`, 400}, {`"x"`, 400}, {`*`, 200}, {`"3"`, 200}} {
		if res := r.raw("PATCH", adminservice.BasePath+"SiteRoles/"+role.ID, `{"allowGatewayTraffic":false}`, http.Header{"If-Match": {tt.field}}); res.StatusCode != tt.want {
			t.Errorf("If-Match %s: %s, want %d", tt.field, res.Status, tt.want)
		}
	}
	// Changes of Gateways are refused the same way, also when they are
	// operations.
	in := r.newGateway()
	in.Model = adminservice.ModelSelfHosted
	g := do[adminservice.Gateway](r, "POST", "Gateways", in)
	do[adminservice.Gateway](r, "PATCH", "Gateways/"+g.ID, adminservice.GatewayChange{Description: new("first")})
	refused(t, r.c.Change(t.Context(), "PATCH", "Gateways/"+g.ID, g.Version, adminservice.GatewayChange{Description: new("second")}, nil), opencmg.Stale, "")
	refused(t, r.c.Change(t.Context(), "PUT", "Gateways/"+g.ID+"/certificate", g.Version, in.Certificate, nil), opencmg.Stale, "")
	refused(t, r.c.Change(t.Context(), "DELETE", "Gateways/"+g.ID, g.Version, nil, nil), opencmg.Stale, "")
	res := r.raw("GET", adminservice.BasePath+"Gateways/"+g.ID, "", nil)
	if res.Header.Get("ETag") != `"2"` {
		t.Errorf("ETag %s", res.Header.Get("ETag"))
	}
	if res := r.raw("DELETE", adminservice.BasePath+"SiteRoles/"+role.ID, "", http.Header{"If-Match": {"*"}}); res.StatusCode != http.StatusNoContent {
		t.Errorf("delete any: %s", res.Status)
	}
}
