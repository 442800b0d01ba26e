package site_test

import (
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
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
	asked := mp1.answers(func(q adminservice.SystemQuestion) *adminservice.SystemAnswer {
		if q.Kind != adminservice.QuestionOnline {
			return nil
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
	if diff := cmp.Diff(map[string]string{"PC-A": "yes"}, online("?online=true")); diff != "" {
		t.Error(diff)
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

func TestSiteTokens(t *testing.T) {
	r := newRig(t)
	c := r.registerClient(sitedb.Client{NetBIOSName: "PC-A", Approval: sitedb.Approved})
	id := "0000000A-0000-4000-8000-00000000000A"
	if err := r.db.RecordToken(t.Context(), sitedb.Token{ID: id, Kind: opencmg.AuthCCMToken, ClientID: c.ID, Issued: r.now(), Expires: r.now().Add(time.Hour)}); err != nil {
		t.Fatal(err)
	}
	bulk := do[adminservice.BulkRegistrationToken](r, "POST", "BulkRegistrationTokens", adminservice.NewBulkToken{})
	list := func(query string) []adminservice.SiteToken {
		t.Helper()
		return do[adminservice.Page[adminservice.SiteToken]](r, "GET", "SiteTokens"+query, nil).Value
	}
	for _, query := range []string{"", "?search=pc-a", "?client=" + string(c.ID), "?id={" + strings.ToLower(id) + "}", "?kind=ccm-token", "?blocked=false"} {
		if got := list(query); len(got) != 1 || got[0].ID != id || got[0].ClientName != "PC-A" {
			t.Errorf("%s: %+v", query, got)
		}
	}
	for _, query := range []string{"?search=pc-b", "?kind=client-token", "?blocked=true", "?id=" + bulk.ID} {
		if got := list(query); len(got) != 0 {
			t.Errorf("%s: %+v", query, got)
		}
	}
	for _, what := range []string{"block", "block", "unblock", "unblock"} {
		do[any](r, "POST", "SiteTokens/"+id+"/"+what, nil)
		if got := list("?blocked=true"); (len(got) == 1) != (what == "block") {
			t.Errorf("%s: %+v", what, got)
		}
	}
	if got := r.messages("blocked token"); len(got) != 2 {
		t.Errorf("audited: %q", got)
	}
	r.fails(opencmg.NotFound, "POST", "SiteTokens/"+bulk.ID+"/block", nil)
	for _, query := range []string{"kind=bulk-token", "client=x", "blocked=x", "expired=x", "$filter=id%20eq%20'x'", "$count=true"} {
		r.fails(opencmg.Invalid, "GET", "SiteTokens?"+query, nil)
	}
}

func TestClientOperations(t *testing.T) {
	r := newRig(t)
	mp1 := r.system(adminservice.SystemManagementPoint, "mp1", "")
	mp1.reportsAsManagementPoint()
	asked := mp1.answers(func(q adminservice.SystemQuestion) *adminservice.SystemAnswer { return &adminservice.SystemAnswer{} })
	var ids []opencmg.ClientID
	for n := range 3 {
		ids = append(ids, r.registerClient(sitedb.Client{NetBIOSName: fmt.Sprint("PC-", n), Group: "G", Approval: sitedb.Approved}).ID)
	}
	r.registerClient(sitedb.Client{NetBIOSName: "PC-W", Group: "G"}) // waits
	lower := opencmg.ClientID(strings.ToLower(string(ids[0])))
	op := do[adminservice.ClientOperation](r, "POST", "Notifications", adminservice.NotifyClients{Task: "test", Clients: []opencmg.ClientID{lower, ids[1]}})
	if op.Clients != 2 || op.State != "active" || op.Task != "test" || op.Account != "administrator" {
		t.Errorf("%+v", op)
	}
	if q := <-asked; q.Kind != adminservice.QuestionWake || !slices.Equal(q.Clients, ids[:2]) {
		t.Errorf("asked %+v", q)
	}
	byChoice := do[adminservice.ClientOperation](r, "POST", "Notifications", adminservice.NotifyClients{Task: "discovery", Where: &adminservice.ClientChoice{Group: "G"}})
	if byChoice.Clients != 3 || byChoice.Target != `clients with group "G"` {
		t.Errorf("%+v", byChoice)
	}
	path := fmt.Sprint("ClientOperations/", op.ID)
	for i, n := range must(r.db.OperationNotifications(t.Context(), op.ID, 0, 10))(t) {
		if err := r.db.Delivered(t.Context(), n.PushID); err != nil {
			t.Fatal(err)
		}
		if _, err := r.db.Answered(t.Context(), n.ClientID, n.PushID, i); err != nil {
			t.Fatal(err)
		}
	}
	if got := do[adminservice.ClientOperation](r, "GET", path, nil); got.State != "completed" || got.Delivered != 2 || got.Answered != 2 || got.Failed != 1 {
		t.Errorf("%+v", got)
	}
	p := do[adminservice.Page[adminservice.ClientNotification]](r, "GET", path+"/notifications?$top=1", nil)
	if len(p.Value) != 1 || p.Value[0].State != "answered" || p.Next == "" {
		t.Errorf("%+v", p)
	}
	rest, _ := strings.CutPrefix(p.Next, adminservice.BasePath)
	if p = do[adminservice.Page[adminservice.ClientNotification]](r, "GET", rest, nil); len(p.Value) != 1 || p.Value[0].State != "failed" || p.Value[0].ReturnCode != 1 || p.Next != "" {
		t.Errorf("%+v", p)
	}
	r.fails(opencmg.Conflict, "POST", path+"/cancel", nil)
	other := fmt.Sprint("ClientOperations/", byChoice.ID)
	r.fails(opencmg.Conflict, "DELETE", other, nil)
	do[any](r, "POST", other+"/cancel", nil)
	do[any](r, "POST", other+"/cancel", nil)
	if got := do[adminservice.ClientOperation](r, "GET", other, nil); got.State != "cancelled" || got.CancelledBy != "administrator" {
		t.Errorf("%+v", got)
	}
	if waiting := must(r.db.Waiting(t.Context(), ids[2]))(t); len(waiting) != 0 {
		t.Errorf("still waiting: %+v", waiting)
	}
	do[any](r, "DELETE", other, nil)
	if list := do[adminservice.Page[adminservice.ClientOperation]](r, "GET", "ClientOperations?$count=true", nil); *list.Count != 1 || list.Value[0].ID != op.ID {
		t.Errorf("%+v", list)
	}
	third := do[adminservice.ClientOperation](r, "POST", "Clients/"+string(ids[0])+"/notify", adminservice.NotifyClient{Task: "machine-policy"})
	r.wait(25 * time.Hour)
	if got := do[adminservice.ClientOperation](r, "GET", fmt.Sprint("ClientOperations/", third.ID), nil); got.State != "expired" {
		t.Errorf("%+v", got)
	}
	r.wait(31 * 24 * time.Hour)
	r.look("trim")
	if list := do[adminservice.Page[adminservice.ClientOperation]](r, "GET", "ClientOperations", nil); len(list.Value) != 0 {
		t.Errorf("%+v", list)
	}
	for _, in := range []adminservice.NotifyClients{
		{Task: "run-script", Clients: ids}, {Task: "test"}, {Task: "test", Clients: ids, Where: &adminservice.ClientChoice{}},
		{Task: "test", Clients: []opencmg.ClientID{"x"}}, {Task: "test", Where: &adminservice.ClientChoice{Auth: "x"}},
	} {
		r.fails(opencmg.Invalid, "POST", "Notifications", in)
	}
	r.fails(opencmg.NotFound, "POST", "Notifications", adminservice.NotifyClients{Task: "test", Where: &adminservice.ClientChoice{Search: "nobody"}})
	r.fails(opencmg.TooLarge, "POST", "Notifications", adminservice.NotifyClients{Task: "test", Clients: make([]opencmg.ClientID, 10_001)})
	for _, what := range [][2]string{{"GET", path}, {"GET", path + "/notifications"}, {"DELETE", path}, {"POST", path + "/cancel"}, {"GET", "ClientOperations/x"}} {
		r.fails(opencmg.NotFound, what[0], what[1], nil)
	}
}

// Alerts and status messages are cut and filtered by the database.
func TestFilteredRecords(t *testing.T) {
	r := newRig(t)
	ctx := t.Context()
	for n := range 3 {
		if _, _, err := r.db.RaiseAlert(ctx, sitedb.Alert{Kind: "traffic", SubjectKind: "gateway", SubjectID: fmt.Sprint(n), Severity: sitedb.SeverityWarning, Text: "t"}); err != nil {
			t.Fatal(err)
		}
	}
	if _, _, err := r.db.RaiseAlert(ctx, sitedb.Alert{Kind: "storage", SubjectKind: "gateway", SubjectID: "0", Severity: sitedb.SeverityCritical, Text: "s"}); err != nil {
		t.Fatal(err)
	}
	if _, err := r.db.CloseAlert(ctx, "traffic", "gateway", "1"); err != nil {
		t.Fatal(err)
	}
	alerts := func(query string) (s string) {
		t.Helper()
		p := do[adminservice.Page[adminservice.Alert]](r, "GET", "Alerts?"+query, nil)
		for _, a := range p.Value {
			s += a.Kind[:1] + a.Subject[len(a.Subject)-1:]
		}
		if p.Next != "" {
			s += "+"
		}
		return s
	}
	for query, want := range map[string]string{
		"kind=traffic": "t2t1t0", "kind=traffic&open=true": "t2t0", "kind=traffic&open=false": "t1", "severity=critical": "s0", "kind=traffic&$top=2": "t2t1+",
		"kind=traffic&$top=2&$skip=2": "t0", "subject=0": "s0t0", "kind=traffic&$orderby=id": "t0t1t2", "$filter=kind%20eq%20'storage'": "s0",
	} {
		if got := alerts(query); got != want {
			t.Errorf("Alerts?%s: %s, want %s", query, got, want)
		}
	}
	r.fails(opencmg.Invalid, "GET", "Alerts?open=x", nil)
	at := r.now().UTC().Add(time.Hour).Truncate(time.Second)
	for n, text := range []string{"Eins 100% über", "zwei", "DREI"} {
		if err := r.db.AddStatusMessage(ctx, sitedb.StatusMessage{At: at.Add(time.Duration(n) * time.Minute), Component: "c", Severity: sitedb.SeverityInfo, Account: fmt.Sprint("a", n), Text: text}); err != nil {
			t.Fatal(err)
		}
	}
	stamp := func(n int) string { return at.Add(time.Duration(n) * time.Minute).Format(time.RFC3339) }
	for query, want := range map[string]string{
		"":                                      "DREI zwei Eins 100% über",
		"&account=a1":                           "zwei",
		"&search=drei":                          "DREI",
		"&search=" + url.QueryEscape("0% Über"): "", // other letters keep their case
		"&search=" + url.QueryEscape("0% über"): "Eins 100% über",
		"&search=%25":                           "Eins 100% über",
		"&from=" + stamp(1):                     "DREI zwei",
		"&to=" + stamp(1):                       "Eins 100% über",
		"&$top=1":                               "DREI",
	} {
		var got []string
		for _, m := range do[adminservice.Page[adminservice.StatusMessage]](r, "GET", "StatusMessages?component=c"+query, nil).Value {
			got = append(got, m.Text)
		}
		if strings.Join(got, " ") != want {
			t.Errorf("StatusMessages?component=c%s: %q, want %q", query, got, want)
		}
	}
	r.fails(opencmg.Invalid, "GET", "StatusMessages?from=yesterday", nil)
}
