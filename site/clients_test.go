package site_test

import (
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/opencmg/opencmg"
	"github.com/opencmg/opencmg/adminservice"
	"github.com/opencmg/opencmg/ccm"
	"github.com/opencmg/opencmg/pki"
	"github.com/opencmg/opencmg/sitedb"
)

// registerClient puts a client into the database, as a management point that
// shares it does.
func (r *rig) registerClient(c sitedb.Client) sitedb.Client {
	r.t.Helper()
	if c.Signing == nil {
		pair := must(r.ca.IssueKeyPair(pki.Template{CommonName: c.NetBIOSName, Client: true}, time.Now()))(r.t)
		c.Signing = pair.Leaf
	}
	stored, _, err := r.db.RegisterClient(r.t.Context(), sitedb.Registration{Client: c})
	if err != nil {
		r.t.Fatal(err)
	}
	return stored
}

// reports says that the management point is there.
func (p *point) reportsAsManagementPoint() {
	p.r.t.Helper()
	if err := p.client().Report(p.r.t.Context(), &adminservice.SiteSystemReport{Kind: adminservice.SystemManagementPoint, CertificateEnds: p.r.now()}); err != nil {
		p.r.t.Fatal(err)
	}
}

func (r *rig) fails(kind error, method, path string, in any) {
	r.t.Helper()
	if err := r.c.Do(r.t.Context(), method, path, in, nil); !errors.Is(err, kind) {
		r.t.Errorf("%s %s: %v, want %v", method, path, err, kind)
	}
}

func clientNames(p adminservice.Page[adminservice.RegisteredClient]) (s []string) {
	for _, c := range p.Value {
		s = append(s, c.Name)
	}
	return s
}

func TestListClients(t *testing.T) {
	r := newRig(t)
	for i, c := range []sitedb.Client{
		{NetBIOSName: "PC-B", FQDN: "b.example.com", Auth: opencmg.AuthEntra, Approval: sitedb.ApprovedByEntra},
		{NetBIOSName: "PC-A", FQDN: "a.example.com", Auth: opencmg.AuthPKI, Approval: sitedb.Approved},
		{NetBIOSName: "PC-C", FQDN: "c.example.org", Auth: opencmg.AuthNone, Group: "Branch 1"},
	} {
		r.wait(time.Duration(i+1) * time.Minute)
		r.registerClient(c)
	}
	list := func(query string) adminservice.Page[adminservice.RegisteredClient] {
		t.Helper()
		return do[adminservice.Page[adminservice.RegisteredClient]](r, "GET", "Clients"+query, nil)
	}
	for query, want := range map[string][]string{
		"":                          {"PC-A", "PC-B", "PC-C"},
		"?search=EXAMPLE.com":       {"PC-A", "PC-B"},
		"?auth=pki":                 {"PC-A"},
		"?approval=pending":         {"PC-C"},
		"?approval=refused":         nil,
		"?group=Branch+1":           {"PC-C"},
		"?$orderby=lastSeen desc":   {"PC-C", "PC-A", "PC-B"},
		"?$orderby=registered":      {"PC-B", "PC-A", "PC-C"},
		"?$orderby=name%20desc":     {"PC-C", "PC-B", "PC-A"},
		"?$select=name&$top=1":      {"PC-A"},
		"?auth=entra&search=nobody": nil,
	} {
		if diff := cmp.Diff(want, clientNames(list(strings.ReplaceAll(query, " ", "%20")))); diff != "" {
			t.Errorf("Clients%s:\n%s", query, diff)
		}
	}
	// Page by page, by the addresses that the site gives.
	var names []string
	pages := 0
	for next := "?$top=2&$count=true&search=pc-"; next != ""; pages++ {
		p := list(next)
		if p.Count == nil || *p.Count != 3 {
			t.Errorf("count: %v", p.Count)
		}
		names = append(names, clientNames(p)...)
		_, query, more := strings.Cut(p.Next, "?")
		next = ""
		if more {
			next = "?" + query
		}
	}
	if diff := cmp.Diff([]string{"PC-A", "PC-B", "PC-C"}, names); diff != "" || pages != 2 {
		t.Errorf("%d pages: %s", pages, diff)
	}
	for _, query := range []string{"$filter=name%20eq%20'x'", "$orderby=fqdn", "auth=password", "approval=maybe", "online=perhaps"} {
		r.fails(opencmg.Invalid, "GET", "Clients?"+query, nil)
	}
	r.fails(opencmg.NotFound, "GET", "Clients/GUID:11111111-2222-3333-4444-555555555555", nil)
	r.fails(opencmg.NotFound, "GET", "Clients/nonsense", nil)
	// Nobody can say who is online.
	for _, c := range list("").Value {
		if c.Online != adminservice.OnlineUnknown {
			t.Errorf("%s is online: %s", c.Name, c.Online)
		}
	}
	r.fails(opencmg.Unavailable, "GET", "Clients?online=true", nil)
}

// Other lists say where they go on as well.
func TestNextLink(t *testing.T) {
	r := newRig(t)
	for n := range 3 {
		do[adminservice.BlockedCertificate](r, "POST", "BlockedCertificates", adminservice.BlockedCertificate{ID: fmt.Sprintf("%064d", n)})
	}
	p := do[adminservice.Page[adminservice.BlockedCertificate]](r, "GET", "BlockedCertificates?$top=2&$orderby=id", nil)
	u, err := url.Parse(p.Next)
	if err != nil || u.Query().Get("$skip") != "2" || u.Query().Get("$orderby") != "id" || len(p.Value) != 2 {
		t.Fatalf("%q, %v", p.Next, err)
	}
	path, _ := strings.CutPrefix(p.Next, adminservice.BasePath)
	p = do[adminservice.Page[adminservice.BlockedCertificate]](r, "GET", path, nil)
	if p.Next != "" || len(p.Value) != 1 || p.Value[0].ID != fmt.Sprintf("%064d", 2) {
		t.Errorf("%+v", p)
	}
}

func TestClientsOnline(t *testing.T) {
	r := newRig(t)
	r.s.WaitForOnline(time.Minute)
	a := r.registerClient(sitedb.Client{NetBIOSName: "PC-A", Approval: sitedb.Approved})
	r.registerClient(sitedb.Client{NetBIOSName: "PC-B", Approval: sitedb.Approved})
	since := r.now().UTC().Truncate(time.Second)
	cp, mp1 := r.join("cp1", ""), r.system(adminservice.SystemManagementPoint, "mp1", "")
	cp.says()
	mp1.reportsAsManagementPoint()
	_, cpTag, err := cp.client().Documents(t.Context(), "", 0)
	if err != nil {
		t.Fatal(err)
	}
	var old atomic.Bool
	asked := mp1.answers(func(q adminservice.SystemQuestion) *adminservice.SystemAnswer {
		if q.Kind != adminservice.QuestionOnline {
			return nil
		}
		// One of an older version says how in any case.
		if q.IDsOnly && !old.Load() {
			return &adminservice.SystemAnswer{OnlineIDs: []opencmg.ClientID{a.ID}}
		}
		return &adminservice.SystemAnswer{Online: []adminservice.ListeningClient{{ID: a.ID, Transport: "tcp", Internet: true, Since: since}}}
	})
	online := func(query string) map[string]string {
		t.Helper()
		m := map[string]string{}
		for _, c := range do[adminservice.Page[adminservice.RegisteredClient]](r, "GET", "Clients"+query, nil).Value {
			m[c.Name] = c.Online
			if c.Online == adminservice.OnlineYes {
				want := []adminservice.ClientListening{{ManagementPoint: "mp1", Transport: "tcp", Internet: true, Since: since}}
				if diff := cmp.Diff(want, c.Listening); diff != "" {
					t.Error(diff)
				}
			}
		}
		return m
	}
	if diff := cmp.Diff(map[string]string{"PC-A": "yes", "PC-B": "no"}, online("")); diff != "" {
		t.Error(diff)
	}
	if q := <-asked; len(q.Clients) != 2 {
		t.Errorf("asked %+v", q)
	}
	for _, is := range []bool{false, true} {
		old.Store(is)
		if diff := cmp.Diff(map[string]string{"PC-A": "yes"}, online("?online=true")); diff != "" {
			t.Errorf("old %v: %s", is, diff)
		}
	}
	if diff := cmp.Diff(map[string]string{"PC-B": "no"}, online("?online=false")); diff != "" {
		t.Error(diff)
	}
	if d := do[adminservice.ClientDetails](r, "GET", "Clients/"+string(a.ID), nil); d.Online != "yes" {
		t.Errorf("%+v", d)
	}
	// Whom nobody asks has no reason to fetch documents.
	if docs, tag, err := cp.client().Documents(t.Context(), cpTag, time.Second); err != nil || docs != nil || tag != cpTag {
		t.Errorf("the connection point got %+v, %v", docs, err)
	}
}

// One that keeps silent makes nobody wait for long, and nothing is claimed.
func TestClientsOnlineUnknown(t *testing.T) {
	r := newRig(t)
	r.s.WaitForOnline(time.Millisecond)
	c := r.registerClient(sitedb.Client{NetBIOSName: "PC-A", Approval: sitedb.Approved})
	r.system(adminservice.SystemManagementPoint, "mp1", "").reportsAsManagementPoint()
	if d := do[adminservice.ClientDetails](r, "GET", "Clients/"+string(c.ID), nil); d.Online != adminservice.OnlineUnknown {
		t.Errorf("%+v", d)
	}
	for _, online := range []string{"true", "false"} {
		r.fails(opencmg.Unavailable, "GET", "Clients?online="+online, nil)
	}
}

func TestClientDetails(t *testing.T) {
	r := newRig(t)
	c := r.registerClient(sitedb.Client{NetBIOSName: "PC-A", Auth: opencmg.AuthEntra, TenantID: "t", DeviceID: "d", Approval: sitedb.ApprovedByEntra, Thumbprint: strings.Repeat("a", 64)})
	report := ccm.Report{ClientID: c.ID, NetBIOSName: "PC-A", Content: ccm.ContentInventory, Full: true, Date: r.now(), ActionID: ccm.ActionHardware, Instances: []ccm.Instance{
		{Namespace: `\\.\root\cimv2`, Class: "Win32_Disk", Properties: []ccm.Property{{Name: "Name", Value: "<C:>"}}},
		{Namespace: `\\.\root\cimv2`, Class: "Win32_BIOS", Properties: []ccm.Property{{Name: "Version", Value: "1"}}},
		{Namespace: `\\.\root\cimv2`, Class: "Win32_Disk", Properties: []ccm.Property{{Name: "Name", Value: "D:"}}},
	}}
	ctx := t.Context()
	for _, err := range []error{
		r.db.SaveInventory(ctx, sitedb.Report{ClientID: c.ID, Action: ccm.ActionHardware, Full: true, XML: report.Encode()}),
		r.db.SaveInventory(ctx, sitedb.Report{ClientID: c.ID, Action: ccm.ActionSoftware, Full: true, XML: "<no report"}),
		r.db.SaveStateMessages(ctx, c.ID, []sitedb.StateMessage{{TopicType: 701, TopicID: "x", StateID: 2}}),
		r.db.RecordToken(ctx, sitedb.Token{ID: "0000000a", Kind: opencmg.AuthClientToken, ClientID: c.ID, Issued: r.now(), Expires: r.now().AddDate(0, 3, 0)}),
		r.db.PolicyRequested(ctx, c.ID),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	op := do[adminservice.ClientOperation](r, "POST", "Clients/"+string(c.ID)+"/notify", adminservice.NotifyClient{Task: "discovery"})
	got := do[adminservice.ClientDetails](r, "GET", "Clients/"+strings.TrimPrefix(string(c.ID), "GUID:"), nil)
	if got.ID != c.ID || got.DeviceID != "d" || got.Approval != "approved-by-entra" || got.LastPolicy.IsZero() || got.SigningThumbprint != pki.Thumbprint(c.Signing) || got.CertificateBlocked {
		t.Errorf("%+v", got)
	}
	if len(got.Inventory) != 2 || len(got.States) != 1 || got.States[0].TopicType != 701 || len(got.Tokens) != 1 || got.Tokens[0].ClientName != "PC-A" {
		t.Errorf("%+v", got)
	}
	if len(got.Notifications) != 1 || got.Notifications[0].State != "waiting" || got.Notifications[0].Task != "discovery" || got.Notifications[0].OperationID != op.ID {
		t.Errorf("%+v", got.Notifications)
	}
	inv := do[adminservice.Inventory](r, "GET", "Clients/"+string(c.ID)+"/inventory/hardware", nil)
	if inv.Name != "hardware" || len(inv.Classes) != 2 || inv.Classes[0].Class != "Win32_Disk" || len(inv.Classes[0].Instances) != 2 || inv.Classes[0].Instances[0].Properties[0].Value != "<C:>" {
		t.Errorf("%+v", inv)
	}
	for _, action := range []string{"hardware", "00000000-0000-0000-0000-000000000001", ccm.ActionHardware} {
		text, header, err := r.c.Text(ctx, "Clients/"+string(c.ID)+"/inventory/"+url.PathEscape(action)+"?format=xml")
		if err != nil || string(text) != report.Encode() || !strings.HasPrefix(header.Get("Content-Type"), "text/plain") {
			t.Errorf("%s: %s %v", action, header, err)
		}
	}
	path := "Clients/" + string(c.ID) + "/inventory/"
	r.fails(opencmg.NotFound, "GET", path+"hardware?full=false", nil)
	r.fails(opencmg.NotFound, "GET", path+"files", nil)
	r.fails(opencmg.Conflict, "GET", path+"software", nil)
	r.fails(opencmg.Invalid, "GET", path+"hardware?format=csv", nil)
}

// published is the published configuration that a system of the site is given.
func (p *point) published() *opencmg.PublishedConfiguration {
	p.r.t.Helper()
	d, _, err := p.client().Documents(p.r.t.Context(), "", 0)
	if err != nil {
		p.r.t.Fatal(err)
	}
	c, err := pki.VerifyConfiguration([]byte(d.Published), p.r.s.SiteCA(), "LAB", p.r.now())
	if err != nil {
		p.r.t.Fatal(err)
	}
	return c
}

// A client that is blocked is in the next published configuration, which every
// gateway instance and management point follows.
func TestBlockClient(t *testing.T) {
	r := newRig(t)
	r.connect()
	do[adminservice.Operation](r, "POST", "Gateways", r.newGateway())
	mp1 := r.system(adminservice.SystemManagementPoint, "mp1", "")
	mp1.reportsAsManagementPoint()
	asked := mp1.answers(func(q adminservice.SystemQuestion) *adminservice.SystemAnswer { return &adminservice.SystemAnswer{} })
	thumb := strings.Repeat("ab", 32)
	c := r.registerClient(sitedb.Client{NetBIOSName: "PC-A", Auth: opencmg.AuthPKI, Subject: "CN=pc-a", Approval: sitedb.Approved, Thumbprint: thumb})
	for _, id := range []string{"00000000-0000-4000-8000-00000000000a", "00000000-0000-4000-8000-00000000000b"} {
		if err := r.db.RecordToken(t.Context(), sitedb.Token{ID: id, Kind: opencmg.AuthClientToken, ClientID: c.ID, Issued: r.now(), Expires: r.now().AddDate(0, 3, 0)}); err != nil {
			t.Fatal(err)
		}
	}
	path := "Clients/" + string(c.ID)
	follows := func(want bool) {
		t.Helper()
		for {
			p := mp1.published()
			if slices.Contains(p.Certificates.Blocked, thumb) == want && (len(p.BlockedTokens) == 2) == want {
				return
			}
			if err := t.Context().Err(); err != nil {
				t.Fatalf("published: %v, %v", p.Certificates.Blocked, p.BlockedTokens)
			}
		}
	}
	follows(false)
	for range 2 {
		got := do[adminservice.ClientDetails](r, "POST", path+"/block", adminservice.BlockClient{Reason: "stolen"})
		if got.Approval != "refused" || got.BlockedBy != "administrator" || got.BlockReason != "stolen" || got.Blocked.IsZero() || !got.CertificateBlocked || !got.Tokens[0].Blocked {
			t.Errorf("blocked: %+v", got)
		}
	}
	follows(true)
	for q := range asked {
		if q.Kind == adminservice.QuestionWake && slices.Equal(q.Clients, []opencmg.ClientID{c.ID}) {
			break
		}
	}
	if b := do[adminservice.Page[adminservice.BlockedCertificate]](r, "GET", "BlockedCertificates", nil).Value; len(b) != 1 || b[0].ClientID != c.ID {
		t.Errorf("%+v", b)
	}
	r.fails(opencmg.Conflict, "POST", path+"/approve", nil)
	r.fails(opencmg.Conflict, "POST", path+"/notify", adminservice.NotifyClient{Task: "test"})
	r.fails(opencmg.Conflict, "POST", "SiteTokens/00000000-0000-4000-8000-00000000000a/unblock", nil)
	for range 2 {
		if got := do[adminservice.ClientDetails](r, "POST", path+"/readmit", nil); got.Approval != "approved" || got.CertificateBlocked || got.Tokens[0].Blocked || !got.Blocked.IsZero() {
			t.Errorf("readmitted: %+v", got)
		}
	}
	follows(false)
	if got := r.messages("client " + string(c.ID)); len(got) != 2 || !strings.Contains(got[1], "blocked client") || !strings.Contains(got[1], "stolen") || !strings.Contains(got[0], "readmitted") {
		t.Errorf("audited: %q", got)
	}
	// A certificate that was blocked by itself is not the client's to take back.
	do[adminservice.BlockedCertificate](r, "POST", "BlockedCertificates", adminservice.BlockedCertificate{ID: thumb})
	do[adminservice.ClientDetails](r, "POST", path+"/block", adminservice.BlockClient{})
	if got := do[adminservice.ClientDetails](r, "POST", path+"/readmit", nil); !got.CertificateBlocked || got.Approval != "approved" {
		t.Errorf("readmitted: %+v", got)
	}
	if err := r.c.Do(t.Context(), "DELETE", path, nil, nil); err != nil {
		t.Fatal(err)
	}
	for _, what := range [][2]string{{"GET", path}, {"DELETE", path}, {"POST", path + "/readmit"}, {"POST", path + "/approve"}} {
		r.fails(opencmg.NotFound, what[0], what[1], nil)
	}
	r.fails(opencmg.NotFound, "POST", path+"/block", adminservice.BlockClient{})
	if tokens := do[adminservice.Page[adminservice.SiteToken]](r, "GET", "SiteTokens?blocked=true", nil).Value; len(tokens) != 2 {
		t.Errorf("tokens of the deleted client: %+v", tokens)
	}
}

func TestApproveClient(t *testing.T) {
	r := newRig(t)
	c := r.registerClient(sitedb.Client{NetBIOSName: "PC-A"})
	for range 2 {
		if got := do[adminservice.ClientDetails](r, "POST", "Clients/"+string(c.ID)+"/approve", nil); got.Approval != "approved" {
			t.Errorf("%+v", got)
		}
	}
	if got := r.messages("approved client"); len(got) != 1 {
		t.Errorf("audited: %q", got)
	}
}
