package mp_test

import (
	"bytes"
	"crypto"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/opencmg/opencmg"
	"github.com/opencmg/opencmg/ccm"
	"github.com/opencmg/opencmg/mp"
	"github.com/opencmg/opencmg/pki"
)

var (
	bulk  = opencmg.Identity{Auth: opencmg.AuthBulkToken, TokenID: "b"}
	entra = opencmg.Identity{Auth: opencmg.AuthEntra, TenantID: tenant, DeviceID: "33333333-aaaa-bbbb-cccc-444444444444"}
)

func (d *device) clientToken() ccm.TokenManagerReply {
	d.g.t.Helper()
	reply := d.ask(ccm.EndpointToken, ccm.TokenManagerRequest{ClientID: d.id}.Encode())
	if reply == "" {
		d.g.t.Fatalf("no token: %s", d.why())
	}
	token, err := ccm.ParseTokenManagerReply(reply)
	if err != nil {
		d.g.t.Fatal(err)
	}
	return token
}

// The whole way of a client that starts with a bulk registration token.
func TestBulkTokenClient(t *testing.T) {
	g := start(t, nil)
	token, err := g.signer.Bulk(0, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	d := g.inside(0)
	d.path = ccm.PathTokenRequest
	d.header.Set("Authorization", "Bearer "+token.Raw)
	resp := d.register()
	if resp.Status != ccm.Registered || resp.ApprovalStatus != ccm.Approved {
		t.Errorf("registration: %+v", resp)
	}
	if reply := d.ask(ccm.EndpointPolicy, ccm.AssignmentRequest{ClientID: d.id}.Encode()); reply != "" || d.lastCode != http.StatusForbidden {
		t.Errorf("policy with a bulk token: %d %q", d.lastCode, reply)
	}
	d.wantWhy("opens registration only")
	for _, path := range []string{ccm.PathSTS, ccm.PathLocation + "?MPLIST", ccm.PathPolicy + "?a.b", ccm.PathDocument} {
		if code, _, _ := d.do("GET", path, "", nil); code != http.StatusForbidden {
			t.Errorf("GET %s with a bulk token: %d", path, code)
		}
	}
	for _, path := range []string{ccm.PathIncoming + "x", ccm.PathNotification + "?RequestType=LogIn"} {
		if code, _, _ := d.do("POST", path, "", strings.NewReader("x")); code != http.StatusForbidden {
			t.Errorf("POST %s with a bulk token: %d", path, code)
		}
	}

	client := d.clientToken()
	if life := time.Until(client.Expires); life < 89*24*time.Hour || life > 91*24*time.Hour {
		t.Errorf("client token lives %s", life)
	}
	d.header.Set("Authorization", "Bearer "+client.Token)
	reply, err := ccm.ParseAssignmentReply(d.ask(ccm.EndpointPolicy, ccm.AssignmentRequest{ClientID: d.id}.Encode()))
	if err != nil {
		t.Fatalf("%v: %s", err, d.why())
	}
	if len(reply.Assignments) == 0 || reply.Delta {
		t.Fatalf("assignments: %+v", reply)
	}
	found := false
	for _, a := range reply.Assignments {
		u, err := a.Policy.URL("")
		if err != nil {
			t.Fatal(err)
		}
		code, body, _ := d.do("GET", u, "", nil)
		if code != 200 || ccm.PolicyHash([]byte(body)) != a.Policy.Hash {
			t.Errorf("policy %s: %d, hash differs %v", a.Policy.ID, code, ccm.PolicyHash([]byte(body)) != a.Policy.Hash)
		}
		p, err := ccm.ParsePolicy([]byte(body))
		if err != nil {
			t.Fatal(err)
		}
		if v, ok := p.Setting(ccm.SettingsClass, ccm.SettingUseGateway); ok {
			found = v == "TRUE"
		}
	}
	if !found {
		t.Error("no policy allows the gateway")
	}
	// Hexadecimal is the same number in either case.
	p := reply.Assignments[0].Policy
	if code, _, _ := d.do("GET", ccm.PathPolicy+"?"+p.ID+".SHA256:"+strings.ToLower(strings.TrimPrefix(p.Hash, "SHA256:")), "", nil); code != 200 {
		t.Errorf("hash in small letters: %d", code)
	}

	// A delta has what changed since, and what was taken away.
	delta := func() ccm.AssignmentReply {
		t.Helper()
		r, err := ccm.ParseAssignmentReply(d.ask(ccm.EndpointPolicy, ccm.AssignmentRequest{ClientID: d.id, OnUpdate: true, ServerCookie: reply.ServerCookie}.Encode()))
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	if r := delta(); !r.Delta || len(r.Assignments) != 0 {
		t.Errorf("nothing changed, but: %+v", r)
	}
	if err := g.db.RemovePolicy(t.Context(), reply.Assignments[0].Policy.ID, ""); err != nil {
		t.Fatal(err)
	}
	if r := delta(); len(r.Assignments) != 1 || r.Assignments[0].Action != ccm.ActionDelete {
		t.Errorf("one was taken away, but: %+v", r)
	}

	// The token of another key is worth nothing, and neither is a blocked one.
	thief := g.inside(1)
	thief.header.Set("Authorization", "Bearer "+client.Token)
	if code, _, _ := thief.do("GET", ccm.PathLocation+"?MPLIST", "", nil); code != http.StatusUnauthorized {
		t.Errorf("stolen token: %d", code)
	}
	thief.wantWhy("token")
	renewed := d.clientToken()
	if renewed.ID == client.ID {
		t.Error("renewal gave the same token")
	}
	if err := g.db.BlockToken(t.Context(), client.ID, true); err != nil {
		t.Fatal(err)
	}
	if code, _, _ := d.do("GET", ccm.PathLocation+"?MPLIST", "", nil); code != http.StatusUnauthorized {
		t.Errorf("blocked token: %d", code)
	}
	d.wantWhy("is blocked")
}

func TestEntraAndSTS(t *testing.T) {
	g := start(t, nil)
	d := g.through(0, entra)
	exchange := func(d *device) ccm.TokenReply {
		t.Helper()
		code, body, header := d.do("POST", "/ccm_sts", "", nil)
		if code != 200 {
			t.Fatalf("token service: %d %s", code, d.why())
		}
		if header.Get("Cache-Control") != "no-store" {
			t.Error("a cache could keep the token")
		}
		r, err := ccm.ParseTokenReply([]byte(body))
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	first := exchange(d)
	if first.ClientID != "" || first.ExpiresIn < 8*3600-60 || first.ExpiresIn > 8*3600 {
		t.Errorf("token before registration: %+v", first)
	}
	// Registering with the CCM token, directly for a change.
	in := g.inside(0)
	in.path = ccm.PathTokenRequest
	in.header.Set("Authorization", "Bearer "+first.AccessToken)
	resp := in.register()
	if resp.ApprovalStatus != ccm.ApprovedByEntra || resp.Status != ccm.Registered {
		t.Errorf("registration: %+v", resp)
	}
	d.id = in.id
	second := exchange(d)
	if second.ClientID != d.id {
		t.Errorf("token after registration names %q, want %q", second.ClientID, d.id)
	}
	in.header.Set("Authorization", "Bearer "+second.AccessToken)
	if third := exchange(in); third.ClientID != d.id {
		t.Errorf("renewal by CCM token: %+v", third)
	}
	if reply := in.ask(ccm.EndpointPolicy, ccm.AssignmentRequest{}.Encode()); reply == "" {
		t.Errorf("policy: %s", in.why())
	}
	// Through the gateway by Entra token, message signed.
	if reply := d.ask(ccm.EndpointPolicy, ccm.AssignmentRequest{}.Encode()); reply == "" {
		t.Errorf("policy: %s", d.why())
	}
	other := entra
	other.DeviceID = "99999999-aaaa-bbbb-cccc-444444444444"
	wrong := g.through(0, other)
	wrong.id = d.id
	if reply := wrong.ask(ccm.EndpointPolicy, ccm.AssignmentRequest{}.Encode()); reply != "" {
		t.Error("another device got policy")
	}
	wrong.wantWhy("another device")

	for name, id := range map[string]opencmg.Identity{
		"nobody":              {Auth: opencmg.AuthNone},
		"unregistered PKI":    {Auth: opencmg.AuthPKI, Subject: "CN=x"},
		"unregistered client": {Auth: opencmg.AuthClientToken, ClientID: "GUID:11111111-2222-3333-4444-555555555555"},
	} {
		x := g.through(1, id)
		if code, _, _ := x.do("POST", ccm.PathSTS, "", nil); code != 401 && code != 403 {
			t.Errorf("%s got %d from the token service", name, code)
		}
		x.wantWhy("refused")
	}
	if err := g.db.RemoveClient(t.Context(), d.id); err != nil {
		t.Fatal(err)
	}
	if code, _, _ := in.do("POST", ccm.PathSTS, "", nil); code != 401 && code != 403 {
		t.Errorf("a removed client got %d from the token service", code)
	}
}

func TestPKIClient(t *testing.T) {
	g := start(t, nil)
	d := g.through(0, opencmg.Identity{Auth: opencmg.AuthPKI, Subject: "CN=pc01", Thumbprint: strings.Repeat("ab", 32)})
	if resp := d.register(); resp.ApprovalStatus != ccm.Approved {
		t.Errorf("registration: %+v", resp)
	}
	if reply := d.ask(ccm.EndpointPolicy, ccm.AssignmentRequest{}.Encode()); reply == "" {
		t.Errorf("policy: %s", d.why())
	}
	if code, body, _ := d.do("GET", ccm.PathSTS, "", nil); code != 200 {
		t.Errorf("token service: %d %s", code, body)
	}
	// Reinstalled: same certificate, new signing key, old ID.
	again := g.through(1, opencmg.Identity{Auth: opencmg.AuthPKI, Subject: "CN=pc01", Thumbprint: strings.Repeat("cd", 32)})
	resp := again.sendRegistration(again.registration(d.id), again.key())
	if resp.SMSID != d.id || resp.ApprovalStatus != ccm.Approved {
		t.Errorf("reinstalled: %+v", resp)
	}
	if reply := d.ask(ccm.EndpointPolicy, ccm.AssignmentRequest{}.Encode()); reply != "" {
		t.Error("the old key still gets policy")
	}
	d.wantWhy("signature does not fit")
	// The token path is not for certificates, nor this one for tokens.
	d.path = ccm.PathTokenRequest
	if d.ask(ccm.EndpointPolicy, "<a/>"); d.lastCode != http.StatusUnauthorized {
		t.Errorf("token path with a certificate: %d", d.lastCode)
	}
	e := g.through(2, entra)
	e.path = ccm.PathRequest
	if e.ask(ccm.EndpointLocation, "<a/>"); e.lastCode != http.StatusForbidden {
		t.Errorf("certificate path with a token: %d", e.lastCode)
	}
}

func TestPendingClient(t *testing.T) {
	g := start(t, nil)
	d := g.inside(0)
	resp := d.register()
	if resp.Status != ccm.Pending || resp.ApprovalStatus != ccm.ApprovalPending {
		t.Errorf("registration: %+v", resp)
	}
	policy := func() string { return d.ask(ccm.EndpointPolicy, ccm.AssignmentRequest{}.Encode()) }
	if policy() != "" {
		t.Error("a client that waits for approval got policy")
	}
	d.wantWhy("not approved")
	confirm := func(id opencmg.ClientID, key crypto.Signer) ccm.RegistrationResponse {
		t.Helper()
		return d.sendRegistration(&ccm.RegistrationRequest{RequestType: ccm.Confirmation, SMSID: id}, key)
	}
	if r := confirm(d.id, d.key()); r.Status != ccm.Pending || r.ResponseType != ccm.Confirmation {
		t.Errorf("confirmation: %+v", r)
	}
	if r := confirm(d.id, g.inside(1).key()); r.Status != ccm.Failed {
		t.Errorf("confirmation with another key: %+v", r)
	}
	d.wantWhy("signature does not fit")
	if r := confirm("GUID:11111111-2222-3333-4444-555555555555", d.key()); r.Status != ccm.Failed {
		t.Errorf("confirmation of nobody: %+v", r)
	}
	if code, _ := g.post("/clients/"+string(d.id)+"/approve", nil); code != http.StatusNoContent {
		t.Errorf("approve: %d", code)
	}
	if r := confirm(d.id, d.key()); r.Status != ccm.Registered || r.ApprovalStatus != ccm.Approved {
		t.Errorf("confirmation after approval: %+v", r)
	}
	if policy() == "" {
		t.Errorf("approved, but: %s", d.why())
	}
	if code, _ := g.post("/clients/GUID:11111111-2222-3333-4444-555555555555/approve", nil); code != http.StatusNotFound {
		t.Errorf("approve nobody: %d", code)
	}
	if code, _ := g.post("/clients/x/approve", nil); code != http.StatusBadRequest {
		t.Errorf("approve nonsense: %d", code)
	}
	// Registering again keeps ID and approval; a stranger with the ID gets his own.
	if resp := d.sendRegistration(d.registration(d.id), d.key()); resp.SMSID != d.id || resp.ApprovalStatus != ccm.Approved {
		t.Errorf("registered again: %+v", resp)
	}
	stranger := g.inside(1)
	if resp := stranger.sendRegistration(stranger.registration(d.id), stranger.key()); resp.SMSID == d.id || resp.Status != ccm.Pending {
		t.Errorf("stranger: %+v", resp)
	}
}

// Clients that nobody here wrote present no certificate on the token path: the
// signature of their messages proves their key (wire.md 2.2 and 4).
func TestTokenWithoutCertificate(t *testing.T) {
	g := start(t, nil)
	for n, identity := range []opencmg.Identity{bulk, {Auth: opencmg.AuthEntra, TenantID: tenant, DeviceID: "d1"}} {
		d := g.through(n, identity)
		identity.Thumbprint = ""
		d.header.Set(opencmg.HeaderIdentity, identity.Encode())
		if resp := d.register(); resp.Status != ccm.Registered || !resp.ApprovalStatus.Trusted() {
			t.Errorf("%s: registration: %+v, %s", identity.Auth, resp, d.why())
		}
		token := d.clientToken()
		// The token is bound to the registered key.
		direct := g.inside(n)
		direct.id, direct.path = d.id, ccm.PathTokenRequest
		direct.header.Set("Authorization", "Bearer "+token.Token)
		if reply := direct.ask(ccm.EndpointPolicy, ccm.AssignmentRequest{ClientID: d.id}.Encode()); reply == "" {
			t.Errorf("%s: no policy with the client token: %s", identity.Auth, direct.why())
		}
		thief := g.inside(2)
		thief.id, thief.path, thief.header = d.id, direct.path, direct.header
		if thief.ask(ccm.EndpointPolicy, ccm.AssignmentRequest{ClientID: d.id}.Encode()); thief.lastCode != http.StatusUnauthorized {
			t.Errorf("%s: the token works with another key: %d", identity.Auth, thief.lastCode)
		}
	}
}

// Administrators search the token service's log for these fields (wire.md 11.4).
func TestTokenServiceLog(t *testing.T) {
	var log bytes.Buffer
	g := start(t, func(c *mp.Config) { c.Log = slog.New(slog.NewTextHandler(&log, nil)) })
	if code, _, _ := g.through(0, entra).do("GET", ccm.PathSTS, "", nil); code != 200 {
		t.Fatalf("token service: %d", code)
	}
	g.stop()
	for _, want := range []string{
		"msg=starting ", "url=/CCM_STS", "TokenType=Device TenantId=" + tenant + " UserId=00000000-0000-0000-0000-000000000000 DeviceId=" + entra.DeviceID,
		"OnPrem_UserSid=\"\" OnPrem_DeviceSid=\"\"", "\"token type\"=Device hierarchyId=" + hierarchy, "returning it",
	} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("the log lacks %s:\n%s", want, log.String())
		}
	}
}

func TestApproveAll(t *testing.T) {
	g := start(t, func(c *mp.Config) { c.ApproveAll = true })
	if resp := g.inside(0).register(); resp.ApprovalStatus != ccm.Approved || resp.Status != ccm.Registered {
		t.Errorf("registration: %+v", resp)
	}
}

func TestRegistrationRefusals(t *testing.T) {
	g := start(t, nil)
	d := g.through(0, bulk)
	// Signed with another key than the one it brings.
	if r := d.sendRegistration(d.registration(""), keys().devices[1].PrivateKey.(crypto.Signer)); r.Status != ccm.Failed || r.SMSID != "" {
		t.Errorf("wrong signature: %+v", r)
	}
	d.wantWhy("signature does not fit")
	// Whoever saw the token on somebody else's connection.
	other := bulk
	other.Thumbprint = pki.Thumbprint(keys().devices[1].Leaf)
	d = g.through(0, other)
	if r := d.sendRegistration(d.registration(""), d.key()); r.Status != ccm.Failed {
		t.Errorf("another certificate in TLS: %+v", r)
	}
	d.wantWhy("is not the signing certificate")
	d = g.through(0, bulk)
	m := d.message(ccm.EndpointRegistration, "<ClientRegistrationRequest/>")
	if reply := d.send(m, nil); !strings.Contains(reply, `Status="3"`) {
		t.Errorf("nonsense: %s", reply)
	}
	if list := getJSON[[]mp.ClientStatus](g, "/clients"); len(list) != 0 {
		t.Errorf("refused registrations left clients: %+v", list)
	}
}

// The identity field counts from a connection point of this site only.
func TestIdentityFieldIsNotBelieved(t *testing.T) {
	g := start(t, nil)
	forged := opencmg.Identity{Auth: opencmg.AuthEntra, TenantID: tenant, DeviceID: tenant, Thumbprint: pki.Thumbprint(keys().devices[0].Leaf)}
	for name, cert := range map[string]int{"a client": 0, "a connection point of another site CA": 1, "nobody": 2} {
		d := g.inside(0)
		switch cert {
		case 1:
			other := keys().other
			d.http = g.clientWith(&other)
		case 2:
			d.http = g.clientWith(nil)
		}
		d.header.Set(opencmg.HeaderIdentity, forged.Encode())
		d.path = ccm.PathRequest
		if resp := d.register(); resp.ApprovalStatus != ccm.ApprovalPending {
			t.Errorf("%s was believed: %+v", name, resp)
		}
		if code, _, _ := d.do("POST", ccm.PathSTS, "", nil); code != http.StatusUnauthorized {
			t.Errorf("%s got %d from the token service", name, code)
		}
	}
	d := g.through(0, entra)
	d.header.Set(opencmg.HeaderCorrelationID, "from-the-gateway")
	d.do("GET", ccm.PathLocation+"?MPLIST", "", nil)
	if d.lastID != "from-the-gateway" {
		t.Errorf("correlation ID of the gateway became %q", d.lastID)
	}
	d.header.Set(opencmg.HeaderIdentity, "auth=king")
	if code, _, _ := d.do("GET", ccm.PathLocation+"?MPLIST", "", nil); code != http.StatusBadRequest {
		t.Errorf("malformed identity: %d", code)
	}
	d.header[opencmg.HeaderIdentity] = nil
	d.header[http.CanonicalHeaderKey(opencmg.HeaderIdentity)] = []string{entra.Encode(), entra.Encode()}
	if code, _, _ := d.do("GET", ccm.PathLocation+"?MPLIST", "", nil); code != http.StatusBadRequest {
		t.Errorf("two identities: %d", code)
	}
	in := g.inside(0)
	in.header.Set(opencmg.HeaderCorrelationID, "mine")
	if in.do("GET", ccm.PathLocation+"?MPLIST", "", nil); in.lastID == "mine" {
		t.Error("a client chose its correlation ID")
	}
	in.header.Set("Authorization", "Bearer nonsense")
	if code, _, _ := in.do("GET", ccm.PathLocation+"?MPLIST", "", nil); code != http.StatusUnauthorized {
		t.Errorf("nonsense token: %d", code)
	}
}

func TestSilence(t *testing.T) {
	g := start(t, nil)
	d := g.through(0, bulk)
	d.register()
	other := g.through(1, bulk)
	other.register()
	d.header.Set(opencmg.HeaderIdentity, opencmg.Identity{Auth: opencmg.AuthClientToken, ClientID: d.id, Thumbprint: pki.Thumbprint(d.cert.Leaf)}.Encode())
	for name, c := range map[string]struct {
		source opencmg.ClientID
		key    crypto.Signer
		text   string
		why    string
	}{
		"unsigned":        {d.id, nil, "<a/>", "no payload signature"},
		"no source":       {"", d.key(), "<a/>", "no SourceID"},
		"unknown client":  {"GUID:11111111-2222-3333-4444-555555555555", d.key(), "<a/>", "not registered"},
		"wrong key":       {d.id, other.key(), "<a/>", "signature does not fit"},
		"token of others": {other.id, other.key(), "<a/>", "the token names"},
		"nonsense":        {d.id, d.key(), "<a/>", "policy request"},
		"policy of other": {d.id, d.key(), ccm.AssignmentRequest{ClientID: other.id}.Encode(), "asked for policy of"},
	} {
		m := d.message(ccm.EndpointPolicy, c.text)
		m.SourceID = c.source
		if reply := d.send(m, c.key); reply != "" || d.lastCode != http.StatusOK {
			t.Errorf("%s: %d %q", name, d.lastCode, reply)
		}
		d.wantWhy(c.why)
	}
	if reply := d.ask(ccm.EndpointToken, ccm.TokenManagerRequest{ClientID: other.id}.Encode()); reply != "" {
		t.Error("got a token of another client")
	}
	d.wantWhy("asked for a token of")
	if d.ask(ccm.EndpointToken, "<a/>"); d.lastCode != http.StatusOK {
		t.Errorf("nonsense to the token manager: %d", d.lastCode)
	}
	if d.ask("MP_Nobody", "<a/>"); d.lastCode != http.StatusNotFound {
		t.Errorf("unknown target endpoint: %d", d.lastCode)
	}
	for name, c := range map[string]struct {
		contentType, body string
		code              int
	}{
		"empty":      {"multipart/mixed; boundary=b", "", 400},
		"no parts":   {"multipart/mixed; boundary=b", "hello", 400},
		"plain text": {"text/plain", "hello", 400},
	} {
		if code, _, _ := d.do(ccm.MethodCCMPost, d.path, c.contentType, strings.NewReader(c.body)); code != c.code {
			t.Errorf("%s: %d", name, code)
		}
	}
	if code, _, _ := d.do(ccm.MethodCCMPost, d.path, "multipart/mixed; boundary=b", bytes.NewReader(make([]byte, 17<<20))); code != http.StatusRequestEntityTooLarge {
		t.Errorf("17 MiB: %d", code)
	}
	if code, _, _ := d.do(ccm.MethodCCMPost, d.path, "multipart/mixed; boundary=b", &endless{17 << 20}); code != http.StatusRequestEntityTooLarge {
		t.Errorf("17 MiB in chunks: %d", code)
	}
	if code, _, header := d.do("GET", ccm.PathRequest, "", nil); code != http.StatusMethodNotAllowed || header.Get("Allow") != "CCM_POST" {
		t.Errorf("GET: %d, Allow %q", code, header.Get("Allow"))
	}
	if code, _, _ := d.do("GET", "/elsewhere", "", nil); code != http.StatusNotFound {
		t.Errorf("elsewhere: %d", code)
	}
}

// endless reads as n bytes of unknown length.
type endless struct{ n int }

func (e *endless) Read(p []byte) (int, error) {
	if e.n <= 0 {
		return 0, io.EOF
	}
	n := min(len(p), e.n)
	e.n -= n
	return n, nil
}

func TestSecretPolicy(t *testing.T) {
	g := start(t, nil)
	d := g.through(0, opencmg.Identity{Auth: opencmg.AuthPKI, Subject: "CN=a"})
	d.register()
	other := g.through(1, opencmg.Identity{Auth: opencmg.AuthPKI, Subject: "CN=b"})
	other.register()
	p := ccm.Policy{ID: "{SECRET}", Version: "2.00", Type: "Machine"}
	if err := g.server.AssignPolicy(t.Context(), p, "NAAConfig", ccm.PolicyRequiresAuth|ccm.PolicySecret|ccm.PolicyPersistWhole, d.id); err != nil {
		t.Fatal(err)
	}
	path := ccm.PathPolicy + "?%7BSECRET%7D.2_00"
	get := func(d *device, proof map[string]string) (int, string) {
		header := d.header.Clone()
		defer func() { d.header = header }()
		d.header = header.Clone()
		for name, v := range proof {
			d.header.Set(name, v)
		}
		code, body, _ := d.do("GET", path, "", nil)
		return code, body
	}
	if code, body := get(d, nil); code != 200 || !strings.HasPrefix(body, "<HTML>") {
		t.Errorf("without proof: %d %.40q", code, body)
	}
	d.wantWhy("no proof")
	prove := func(d *device, when time.Time) map[string]string {
		h, err := ccm.ProofHeaders(d.key(), d.id, when)
		if err != nil {
			t.Fatal(err)
		}
		return h
	}
	if code, body := get(d, prove(d, time.Now())); code != 200 || !strings.HasPrefix(body, "\xff\xfe<\x00") {
		t.Errorf("with proof: %d %.40q", code, body)
	}
	if code, body := get(d, prove(d, time.Now().Add(-3*time.Hour))); code != 200 || !strings.HasPrefix(body, "<HTML>") {
		t.Errorf("with an old proof: %d %.40q", code, body)
	}
	d.wantWhy("check the clocks")
	if code, _ := get(other, prove(other, time.Now())); code != 404 {
		t.Errorf("another client's proof: %d", code)
	}
	forged := prove(other, time.Now())
	forged[ccm.HeaderClientToken] = strings.Replace(forged[ccm.HeaderClientToken], string(other.id), string(d.id), 1)
	if code, body := get(other, forged); code != 200 || !strings.HasPrefix(body, "<HTML>") {
		t.Errorf("forged proof: %d %.40q", code, body)
	}
	other.wantWhy("signature does not fit")
	if code, _ := get(d, map[string]string{ccm.HeaderClientToken: "nonsense"}); code != 200 {
		t.Errorf("nonsense: %d", code)
	}
	if code, _, _ := d.do("GET", ccm.PathPolicy+"?{NONE}.1_00", "", nil); code != 404 {
		t.Errorf("no such policy: %d", code)
	}
	if code, _, _ := d.do("GET", ccm.PathPolicy+"?", "", nil); code != 400 {
		t.Errorf("no query: %d", code)
	}
	path = ccm.PathPolicy + "?{SECRET}.1_00"
	if code, _ := get(d, prove(d, time.Now())); code != 404 {
		t.Errorf("old version: %d", code)
	}
	if code, body, _ := d.do("GET", ccm.PathDocument+"?Id&DocumentId=a/b/1/MANIFEST", "", nil); code != 404 || !strings.Contains(body, "configuration-item") {
		t.Errorf("document: %d %s", code, body)
	}
}

func TestReports(t *testing.T) {
	g := start(t, nil)
	d := g.through(0, bulk)
	d.register()
	d.header.Set(opencmg.HeaderIdentity, opencmg.Identity{Auth: opencmg.AuthClientToken, ClientID: d.id, Thumbprint: pki.Thumbprint(d.cert.Leaf)}.Encode())
	report := &ccm.Report{ClientID: d.id, NetBIOSName: "PC77", ClientVersion: "5.1", Content: ccm.ContentInventory, Full: true, Date: time.Now(), ActionID: ccm.ActionDiscovery, ActionName: "Discovery",
		Instances: []ccm.Instance{{Namespace: `\\PC77\root\ccm`, Class: "CCM_DiscoveryData", Properties: []ccm.Property{{Name: "PlatformID", Value: "Linux"}}}}}
	empty := *report
	empty.Instances = nil
	for _, endpoint := range []string{ccm.EndpointDDR, ccm.EndpointHardware, ccm.EndpointSoftware} {
		// As the library sends it: an empty report, then the full one.
		if reply := d.ask(endpoint, empty.Encode()+"\ufeff"+report.Encode()); reply != ccm.ReportAccepted {
			t.Errorf("%s: %q, %s", endpoint, reply, d.why())
		}
	}
	m := d.message(ccm.EndpointDDR, report.Encode())
	m.ReplyMode = ccm.ReplyAsync
	if reply := d.send(m, d.key()); reply != "" || d.lastCode != 200 {
		t.Errorf("asynchronous: %d %q", d.lastCode, reply)
	}
	d.wantWhy("answered")
	for name, key := range map[string]crypto.Signer{"taken": d.key(), "refused": keys().devices[1].PrivateKey.(crypto.Signer)} {
		contentType, body, err := m.Encode(key)
		if err != nil {
			t.Fatal(err)
		}
		_, _, header := d.do(ccm.MethodCCMPost, d.path, contentType, bytes.NewReader(body))
		if got := header.Get(ccm.HeaderRefused); (got != "") != (name == "refused") {
			t.Errorf("an empty answer for %s says %q", name, got)
		}
	}
	stored, err := g.db.Reports(t.Context(), d.id)
	if err != nil || len(stored) != 3 || stored[0].XML != report.Encode() {
		t.Errorf("stored %d reports, %v", len(stored), err)
	}
	if c, err := g.db.Client(t.Context(), d.id); err != nil || c.NetBIOSName != "PC77" {
		t.Errorf("client is now %+v, %v", c.NetBIOSName, err)
	}
	state := &ccm.Report{ClientID: d.id, Content: ccm.ContentState, Date: time.Now(), States: []ccm.StateMessage{{Time: time.Now(), SerialNumber: 1, StateID: 1, TopicID: "x", TopicType: 701}}}
	if reply := d.ask(ccm.EndpointRelay, state.Encode()); reply != ccm.ReportAccepted {
		t.Errorf("state: %q, %s", reply, d.why())
	}
	// The library does not sign state messages; the token shows who it is.
	state.States[0].SerialNumber, state.States[0].StateID = 2, 2
	if reply := d.send(d.message(ccm.EndpointRelay, state.Encode()), nil); reply != ccm.ReportAccepted {
		t.Errorf("unsigned state: %q, %s", reply, d.why())
	}
	states, err := g.db.StateMessages(t.Context(), d.id)
	if err != nil || len(states) != 1 || states[0].StateID != 2 {
		t.Errorf("states: %+v, %v", states, err)
	}
	if reply := d.ask(ccm.EndpointStatus, ccm.Status{Properties: []ccm.Property{{Name: "a", Value: "b"}}}.Encode()); reply != ccm.ReportAccepted {
		t.Errorf("status: %q, %s", reply, d.why())
	}
	if n, err := g.db.StatusMessages(t.Context(), d.id); err != nil || n != 1 {
		t.Errorf("%d status messages, %v", n, err)
	}
	if reply := d.ask(ccm.EndpointClientID, "<ClientIDRequest/>"); !strings.Contains(reply, "<ClientIDReply>") {
		t.Errorf("client ID by hardware: %q", reply)
	}

	in := g.inside(1)
	in.id = d.id
	if reply := in.send(in.message(ccm.EndpointRelay, state.Encode()), nil); reply != "" {
		t.Error("an unsigned state message of nobody was taken")
	}
	in.wantWhy("unsigned state message")
	foreign := *report
	foreign.ClientID = "GUID:11111111-2222-3333-4444-555555555555"
	if d.ask(ccm.EndpointHardware, foreign.Encode()); d.lastCode != http.StatusForbidden {
		t.Errorf("report of another client: %d", d.lastCode)
	}
	for _, endpoint := range []string{ccm.EndpointDDR, ccm.EndpointHardware, ccm.EndpointRelay, ccm.EndpointStatus, ccm.EndpointClientID} {
		if d.ask(endpoint, "<nonsense/>"); d.lastCode != http.StatusBadRequest {
			t.Errorf("nonsense to %s: %d", endpoint, d.lastCode)
		}
	}
}

func TestUnsignedStateByConfiguration(t *testing.T) {
	g := start(t, func(c *mp.Config) { c.ApproveAll, c.AcceptUnsignedState = true, true })
	d := g.inside(0)
	d.register()
	state := &ccm.Report{ClientID: d.id, Content: ccm.ContentState, Date: time.Now(), States: []ccm.StateMessage{{TopicID: "x", TopicType: 701}}}
	d.http = g.clientWith(nil)
	if reply := d.send(d.message(ccm.EndpointRelay, state.Encode()), nil); reply != ccm.ReportAccepted {
		t.Errorf("unsigned state: %q, %s", reply, d.why())
	}
}

func TestLocations(t *testing.T) {
	g := start(t, func(c *mp.Config) {
		c.SoftwareUpdatePoints = []mp.SoftwareUpdatePoint{{URL: "https://sup.example.com:8531", RoleID: "9"}}
	})
	out, in := g.through(0, entra), g.inside(1)
	ask := func(d *device, r ccm.LocationRequest) string {
		t.Helper()
		m := d.message(ccm.EndpointLocation, r.Encode())
		return d.send(m, nil)
	}
	info, err := ccm.ParseSiteInfoReply(ask(out, ccm.LocationRequest{Kind: ccm.SiteInformation, SiteCode: site}))
	if err != nil || info.Code != site || info.HTTPSPort != 443 || info.SigningCertificate != ccm.FormatCertificate(keys().signing.Leaf) {
		t.Errorf("site: %+v, %v", info, err)
	}
	l, err := ccm.ParseMPLocations(ask(out, ccm.LocationRequest{Kind: ccm.EnumerateMP, SiteCode: site, RequestType: "Assigned", OnInternet: true}))
	if err != nil || len(l.Records) != 1 || l.Records[0].InternetName != gateway+"/CCM_Proxy_MutualAuth/"+string(role) || l.Records[0].IntranetName != "mp.example.com" {
		t.Errorf("management points: %+v, %v", l, err)
	}
	if reply := ask(in, ccm.LocationRequest{Kind: ccm.LocalMP, SiteCode: site}); !strings.Contains(reply, "<LocalMPLocationReply") {
		t.Errorf("local: %s", reply)
	}
	if reply := ask(in, ccm.LocationRequest{Kind: ccm.AssignedSite}); !strings.Contains(reply, `SiteCode="LAB"`) {
		t.Errorf("assigned site: %s", reply)
	}
	for _, c := range []struct {
		d    *device
		r    ccm.LocationRequest
		want string
	}{
		{out, ccm.LocationRequest{Kind: ccm.WSUSLocation, SiteCode: site}, "https://gw.example.com/CCM_Proxy_ServerAuth/9"},
		{in, ccm.LocationRequest{Kind: ccm.WSUSLocation, SiteCode: site}, "https://sup.example.com:8531"},
		{out, ccm.LocationRequest{Kind: ccm.ContentLocation, SiteCode: site, ClientPackage: true}, "https://gw.example.com/CCM_Proxy_ServerAuth/" + string(role) + "/CCM_Client"},
		{in, ccm.LocationRequest{Kind: ccm.ContentLocation, SiteCode: site, ClientPackage: true}, "https://mp.example.com/CCM_Client"},
		{in, ccm.LocationRequest{Kind: ccm.ContentLocation, SiteCode: site, PackageID: "LAB00001"}, ""},
	} {
		urls, err := ccm.ParseLocationURLs(ask(c.d, c.r))
		if got := strings.Join(urls, " "); err != nil || got != c.want {
			t.Errorf("%s: %q, %v; want %q", c.r.Kind, got, err, c.want)
		}
	}
	if reply := ask(out, ccm.LocationRequest{Kind: ccm.SiteInformation, SiteCode: "XYZ"}); reply != "" {
		t.Errorf("another site: %s", reply)
	}
	if reply := ask(out, ccm.LocationRequest{Kind: "TokenServicesRequest"}); reply != "" {
		t.Errorf("unknown request: %s", reply)
	}
	out.wantWhy("not known")

	for query, want := range map[string]string{
		"mplist": `FQDN="mp.example.com"`, "MPLIST1&LAB": `FQDN="mp.example.com"`, "MPLIST1&XYZ": "<MPList></MPList>",
		"MPLIST2&LAB": "CCM_Proxy_MutualAuth/" + string(role), "MPCERT": "<Certificate>" + ccm.FormatCertificate(keys().server.Leaf), "MPCERT2": "<Certificate2>",
		"MPKEYINFORMATION": "<SITECODE>LAB<", "MPKEYINFORMATIONEX": "<TRUSTEDROOTKEY", "MPTRK": "<TRUSTEDROOTKEY", "SITESIGNCERT": ccm.FormatCertificate(keys().signing.Leaf),
		"GETCLIENTAFFINITY&GUID:1": "<MachineAffinity>",
	} {
		for _, path := range []string{"/SMS_MP/.sms_aut?", "/sms_mp/.SMS_AUT?"} {
			code, body, _ := in.do("GET", path+query, "", nil)
			if code != 200 || !strings.Contains(body, want) {
				t.Errorf("%s: %d %.200s", query, code, body)
			}
		}
	}
	if code, _, _ := in.do("GET", "/SMS_MP/.sms_aut?SMSTRC", "", nil); code != 404 {
		t.Errorf("trace page: %d", code)
	}
}

func TestClientFiles(t *testing.T) {
	g := start(t, nil)
	d := g.through(0, bulk) // setup runs before registration
	code, body, _ := d.do("GET", "/ccm_client/ccmsetup.cab", "", nil)
	if code != 200 || len(body) != 10000 {
		t.Errorf("file: %d, %d bytes", code, len(body))
	}
	d.header.Set("Range", "bytes=10-14")
	if code, body, _ = d.do("GET", "/CCM_Client/ccmsetup.cab", "", nil); code != 206 || body != "01234" {
		t.Errorf("range: %d %q", code, body)
	}
	d.header.Del("Range")
	for _, path := range []string{"", "none", "../secret", "%2e%2e/secret", "..%2fsecret", "..%5csecret", "/etc/passwd", "C:/x"} {
		if code, body, _ := d.do("GET", "/CCM_Client/"+path, "", nil); code != 404 || strings.Contains(body, "secret\n") {
			t.Errorf("%q: %d %s", path, code, body)
		}
	}
}

func TestUpload(t *testing.T) {
	g := start(t, nil)
	d := g.through(0, bulk)
	d.register()
	d.header.Set(opencmg.HeaderIdentity, opencmg.Identity{Auth: opencmg.AuthClientToken, ClientID: d.id, Thumbprint: pki.Thumbprint(d.cert.Leaf)}.Encode())
	folder := filepath.Join(g.dir, "incoming", string(d.id)[5:])
	put := func(d *device, name, body string) int {
		t.Helper()
		code, _, _ := d.do(ccm.MethodBITSPost, ccm.PathIncoming+name, "", strings.NewReader(body))
		return code
	}
	if code := put(d, "log.zip", "hello"); code != 200 {
		t.Fatalf("upload: %d %s", code, d.why())
	}
	b, err := os.ReadFile(filepath.Join(folder, "log.zip"))
	if err != nil || string(b) != "hello" {
		t.Errorf("stored %q, %v", b, err)
	}
	if info, err := os.Stat(filepath.Join(folder, "log.zip")); err != nil || info.Mode().Perm()&0o077 != 0 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	if code := put(d, "big", strings.Repeat("x", 1<<20)); code != http.StatusRequestEntityTooLarge {
		t.Errorf("over quota: %d", code)
	}
	if code, _, _ := d.do("POST", ccm.PathIncoming+"big", "", &endless{2 << 20}); code != http.StatusRequestEntityTooLarge {
		t.Errorf("over quota in chunks: %d", code)
	}
	if code := put(d, "fits", strings.Repeat("x", 900<<10)); code != 200 {
		t.Errorf("within quota: %d %s", code, d.why())
	}
	for range 3 { // an upload that replaces one needs no room of its own
		if code := put(d, "log.zip", strings.Repeat("x", 40<<10)); code != 200 {
			t.Errorf("again: %d %s", code, d.why())
		}
	}
	for _, name := range []string{"", ".", "..", "a/b", "a%2fb", "a%5cb", "x.part", strings.Repeat("a", 200), ".hidden", "a%00b"} {
		if code := put(d, name, "x"); code != http.StatusBadRequest {
			t.Errorf("name %.20q: %d", name, code)
		}
	}
	d.header.Set("BITS-Packet-Type", "Create-Session")
	if code := put(d, "x", ""); code != http.StatusBadRequest {
		t.Errorf("BITS session: %d", code)
	}
	d.header.Del("BITS-Packet-Type")
	nobody := g.inside(1)
	if code := put(nobody, "x", "x"); code != http.StatusUnauthorized {
		t.Errorf("nobody: %d", code)
	}
	unknown := g.through(1, entra)
	if code := put(unknown, "x", "x"); code != http.StatusForbidden {
		t.Errorf("unregistered: %d", code)
	}
	// By signed fields, without any other identity.
	signed := g.inside(0)
	signed.http = g.clientWith(nil)
	proof, err := ccm.ProofHeaders(d.key(), d.id, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	for name, v := range proof {
		signed.header.Set(name, v)
	}
	if code := put(signed, "signed", "x"); code != 200 {
		t.Errorf("signed fields: %d %s", code, signed.why())
	}

	// A large message comes as a file and is delivered from there.
	report := &ccm.Report{ClientID: d.id, Content: ccm.ContentInventory, Full: true, Date: time.Now(), Instances: []ccm.Instance{{Class: "C", Properties: []ccm.Property{{Name: "a", Value: "b"}}}}}
	contentType, body, err := d.message(ccm.EndpointHardware, report.Encode()).Encode(d.key())
	if err != nil {
		t.Fatal(err)
	}
	if code, answer, _ := d.do(ccm.MethodBITSPost, ccm.PathIncoming+"message", contentType, bytes.NewReader(body)); code != 200 || answer == "" {
		t.Errorf("message: %d %q %s", code, answer, d.why())
	}
	if stored, err := g.db.Reports(t.Context(), d.id); err != nil || len(stored) != 1 {
		t.Errorf("stored %d reports, %v", len(stored), err)
	}
	entries, err := os.ReadDir(folder)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	if got := strings.Join(names, " "); got != "fits log.zip signed" {
		t.Errorf("the folder holds %s", got)
	}
}

func TestNewRefusals(t *testing.T) {
	g := start(t, nil)
	k := keys()
	good := mp.Config{Site: site, RoleID: role, SiteCA: k.site.Certificate(), Certificate: k.server, Signer: g.signer, DB: g.db, Host: "mp"}
	for name, change := range map[string]func(*mp.Config){
		"site":        func(c *mp.Config) { c.Site = "X" },
		"role":        func(c *mp.Config) { c.RoleID = "x" },
		"site CA":     func(c *mp.Config) { c.SiteCA = nil },
		"signer":      func(c *mp.Config) { c.Signer = nil },
		"database":    func(c *mp.Config) { c.DB = nil },
		"host":        func(c *mp.Config) { c.Host = "" },
		"certificate": func(c *mp.Config) { c.Certificate.Certificate = nil },
		"uploads":     func(c *mp.Config) { c.Incoming = filepath.Join(g.dir, "secret") },
	} {
		c := good
		change(&c)
		if _, err := mp.New(t.Context(), c); !errors.Is(err, opencmg.Invalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
	g.stop()
	if _, err := mp.New(t.Context(), good); err == nil {
		t.Error("a closed database was accepted")
	}
}

// A database that fails is an honest 503, not silence.
func TestDatabaseGone(t *testing.T) {
	g := start(t, nil)
	d := g.through(0, bulk)
	d.header.Set(opencmg.HeaderIdentity, opencmg.Identity{Auth: opencmg.AuthEntra, DeviceID: tenant, TenantID: tenant, Thumbprint: pki.Thumbprint(d.cert.Leaf)}.Encode())
	text, err := d.registration("").Encode(d.key())
	if err != nil {
		t.Fatal(err)
	}
	if err := g.db.Close(); err != nil {
		t.Fatal(err)
	}
	d.send(d.message(ccm.EndpointRegistration, text), nil)
	if d.lastCode < 500 {
		t.Errorf("registration without a database: %d", d.lastCode)
	}
	res, err := http.Get(g.private + "/readyz")
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	if res.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("/readyz: %d", res.StatusCode)
	}
}
