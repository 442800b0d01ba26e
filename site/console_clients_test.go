package site_test

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/opencmg/opencmg"
	"github.com/opencmg/opencmg/adminservice"
	"github.com/opencmg/opencmg/ccm"
	"github.com/opencmg/opencmg/sitedb"
)

// tells fails the test unless a posted form led to a page of the status that
// holds every text.
func (v *visitor) tells(path string, form url.Values, want int, texts ...string) string {
	v.t.Helper()
	status, page := v.post(path, form)
	if status != want {
		v.t.Errorf("%s: %d, want %d\n%s", path, status, want, page)
	}
	for _, text := range texts {
		if !strings.Contains(page, text) {
			v.t.Errorf("%s does not say %q:\n%s", path, text, page)
		}
	}
	return page
}

func lacks(t *testing.T, page string, texts ...string) {
	t.Helper()
	for _, text := range texts {
		if strings.Contains(page, text) {
			t.Errorf("the page says %q:\n%s", text, page)
		}
	}
}

func TestConsoleClients(t *testing.T) {
	r := newRig(t)
	v := r.console(r.c.Token)
	v.see("clients", "No client has registered yet", "Make a bulk registration token", "Microsoft Entra ID", `<a href="/console/clients" aria-current="page">`)
	r.registerClient(sitedb.Client{NetBIOSName: "PC-000", FQDN: "pc-000.example.com", Auth: opencmg.AuthEntra, Approval: sitedb.ApprovedByEntra})
	for i := 1; i < 60; i++ {
		r.registerClient(sitedb.Client{NetBIOSName: fmt.Sprintf("PC-%03d", i), Auth: opencmg.AuthPKI, Approval: sitedb.Approved, Group: map[bool]string{true: "Branch & 1"}[i%2 == 0]})
	}
	waiting := r.registerClient(sitedb.Client{NetBIOSName: "QC-1", Auth: opencmg.AuthNone})
	page := v.see("clients", "1 to 50 of 61", ">PC-000</a>", "pc-000.example.com", ">PC-049</a>", `href="/console/clients?skip=50"`, "by Entra<", "PKI certificate", "All 61 clients", `<button name="task" value="discovery">Send discovery data…`)
	lacks(t, page, ">PC-050</a>", "Previous")
	page = v.see("clients?skip=50", "51 to 61 of 61", ">PC-050</a>", `href="/console/clients" rel="prev"`, `<span class="state warn">pending</span>`)
	lacks(t, page, ">PC-049</a>", "Next</a>")
	v.see("clients?skip=100", "no clients on this page any more")
	page = v.see("clients?search=pc-00", "1 to 10 of 10", `value="pc-00"`, "All 10 that match")
	lacks(t, page, "PC-010")
	v.see("clients?group=Branch+%26+1", "1 to 29 of 29")
	v.see("clients?approval=pending", "1 to 1 of 1", string(waiting.ID), "The client that matches")
	v.see("clients?auth=entra", "1 to 1 of 1", "PC-000")
	lacks(t, v.see("clients?auth=pki&skip=50", "51 to 59 of 59", `href="/console/clients?auth=pki"`), "PC-000")
	v.see("clients?search=nobody", "No client matches.")
	// Nobody can say who is online, and the page says so instead of failing.
	v.see("clients?online=true", "who is online is not known", `<option value="true" selected>`)
	if status, _ := v.get("clients?auth=password"); status != http.StatusBadRequest {
		t.Errorf("a way to authenticate that does not exist: %d", status)
	}
	// What is on the page stays fresh.
	events := v.watch("clients?search=QC-")
	v.until(events, "client-list", "pending")
	do[any](r, "POST", "Clients/"+string(waiting.ID)+"/approve", nil)
	v.until(events, "client-list", `<span class="state good">approved</span>`)
	// A task for all that match.
	// It is asked for first, and nothing is sent before somebody says so.
	r.registerClient(sitedb.Client{NetBIOSName: "QC-2", Auth: opencmg.AuthNone})
	v.see("clients/notify?task=discovery", "<strong>61 clients will be asked to send their discovery data.</strong>", "not approved are left out", "all clients of the site", `<div class="figure">61</div>`, `name="sure" value="yes"`)
	v.see("clients/notify?task=test&search=QC-", "<strong>1 client will be asked to answer")
	form := url.Values{"task": {"discovery"}, "search": {"pc-00"}, "auth": {"pki"}}
	page = v.tells("clients/notify", form, http.StatusBadRequest, "nothing was sent", "<strong>9 clients will be asked to", "name, DNS name or ID has", `name="search" value="pc-00"`, `name="auth" value="pki"`, `href="/console/clients?auth=pki&amp;search=pc-00">Cancel`)
	lacks(t, page, "listen now", "left out")
	v.see("client-operations", "Nobody sent clients a task")
	v.see("clients/notify?task=test&search=nobody", "Nobody can be sent this task: no client matches")
	v.see("clients/notify?task=test&approval=refused", "Nobody can be sent this task")
	if status, page := v.get("clients/notify?task=format-disk"); status != http.StatusBadRequest || !strings.Contains(page, "choose one on the page of the clients") {
		t.Errorf("no such task: %d\n%s", status, page)
	}
	form.Set("sure", "yes")
	v.tells("clients/notify", form, http.StatusOK,
		"on its way to 9 clients", "Send discovery data: clients with", "0 of 9 answered", ">PC-001</a>")
	v.tells("clients/notify", url.Values{"task": {"format-disk"}, "search": {"pc-00"}, "sure": {"yes"}}, http.StatusBadRequest, "must be one of")
	v.tells("clients/notify", url.Values{"task": {"test"}, "online": {"true"}, "sure": {"yes"}}, http.StatusServiceUnavailable, "who is online is not known")
}

func TestConsoleClientDetails(t *testing.T) {
	r := newRig(t)
	v := r.console(r.c.Token)
	c := r.registerClient(sitedb.Client{NetBIOSName: "PC-<A>", FQDN: "a.example.com", Auth: opencmg.AuthEntra, TenantID: "tenant-1", DeviceID: "device-1", Approval: sitedb.ApprovedByEntra, Thumbprint: strings.Repeat("a", 64)})
	report := ccm.Report{ClientID: c.ID, NetBIOSName: "PC-A", Content: ccm.ContentInventory, Full: true, Date: r.now(), ActionID: ccm.ActionHardware, Instances: []ccm.Instance{
		{Namespace: `\\.\root\cimv2`, Class: "Win32_Disk", Properties: []ccm.Property{{Name: "Name", Value: "<C:>"}}},
		{Namespace: `\\.\root\cimv2`, Class: "Win32_BIOS", Properties: []ccm.Property{{Name: "Version", Value: "1.2.3"}}},
		{Namespace: `\\.\root\cimv2`, Class: "Win32_Disk", Properties: []ccm.Property{{Name: "Name", Value: "D:"}, {Name: "Size", Value: "42"}}},
	}}
	const token = "00000000-0000-4000-8000-00000000000a"
	ctx := t.Context()
	for _, err := range []error{
		r.db.SaveInventory(ctx, sitedb.Report{ClientID: c.ID, Action: ccm.ActionHardware, Full: true, XML: report.Encode()}),
		r.db.SaveInventory(ctx, sitedb.Report{ClientID: c.ID, Action: ccm.ActionHardware, Full: false, XML: report.Encode()}),
		r.db.SaveInventory(ctx, sitedb.Report{ClientID: c.ID, Action: "{00000000-0000-0000-0000-0000000000FF}", Full: true, XML: report.Encode()}),
		r.db.SaveStateMessages(ctx, c.ID, []sitedb.StateMessage{{TopicType: 701, TopicID: "topic-x", StateID: 2, Parameters: []string{"p1", "p2"}}}),
		r.db.RecordToken(ctx, sitedb.Token{ID: token, Kind: opencmg.AuthClientToken, ClientID: c.ID, Issued: r.now(), Expires: r.now().AddDate(0, 3, 0)}),
		r.db.PolicyRequested(ctx, c.ID),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	path := "clients/" + string(c.ID)
	page := v.see(path, "<h1>PC-&lt;A&gt;</h1>", "a.example.com", "tenant-1", "device-1", strings.Repeat("a", 64), "by Entra<", "topic-x", "p1, p2", strings.ToUpper(token),
		`href="/console/`+path+`/inventory/hardware"`, `href="/console/`+path+`/inventory/hardware?full=false"`, "Nobody sent this client a task")
	lacks(t, page, "Approve</button>", "Readmit</button>", "<A>")
	if status, page := v.get("clients/GUID:11111111-2222-3333-4444-555555555555"); status != http.StatusNotFound || !strings.Contains(page, "there is no client") {
		t.Errorf("no such client: %d\n%s", status, page)
	}

	// Inventory.
	inventory := path + "/inventory/"
	v.see(inventory+"hardware", "Win32_Disk", "2 instances", "&lt;C:&gt;", `<th scope="col">Size</th>`, "<dt>Version</dt><dd>1.2.3</dd>", "Changes since")
	lacks(t, v.see(inventory+"hardware?find=1.2.3", "Win32_BIOS", "1 instance"), "Win32_Disk")
	v.see(inventory+"hardware?find=zebra", "Nothing in the report holds “zebra”.")
	v.see(inventory+"hardware?full=false", "what changed since")
	v.see(inventory+"%7B00000000-0000-0000-0000-0000000000FF%7D", "Win32_BIOS")
	res := must(v.http.Get(v.url + "/console/" + inventory + "hardware/download"))(t)
	if _, text := v.answer(res, nil); text != report.Encode() || !strings.HasPrefix(res.Header.Get("Content-Disposition"), "attachment") {
		t.Errorf("the download is %s %q", res.Header, text)
	}

	// Notifications, with answers.
	events := v.watch(path)
	v.until(events, "client", "Nobody sent this client a task")
	v.tells(path+"/notify", url.Values{"task": {"machine-policy"}}, http.StatusOK, "The task is on its way")
	v.until(events, "client", ">waiting</span>")
	n := do[adminservice.ClientDetails](r, "GET", "Clients/"+string(c.ID), nil).Notifications[0]
	operation := fmt.Sprintf("client-operations/%d", n.OperationID)
	op := v.watch(operation)
	v.until(op, "operation", "0 of 1 answered")
	if err := r.db.Delivered(ctx, n.ID); err != nil {
		t.Fatal(err)
	}
	v.until(events, "client", ">delivered</span>")
	v.until(op, "operation", ">delivered</span>")
	if _, err := r.db.Answered(ctx, c.ID, n.ID, 7); err != nil {
		t.Fatal(err)
	}
	v.until(events, "client", `class="number">7<`)
	v.until(op, "operation", "1 of 1 answered")

	// Block and readmit by form.
	page = v.tells(path+"/block", url.Values{"reason": {"stolen & sold"}}, http.StatusOK, "The client is blocked, with its tokens", "by administrator: stolen &amp; sold", "Readmit</button>", `<span class="state bad">blocked</span>`)
	lacks(t, page, "Block this client", `name="task"`)
	v.tells(path+"/approve", nil, http.StatusConflict, "readmit it")
	v.tells(path+"/notify", url.Values{"task": {"test"}}, http.StatusConflict, "is not approved")
	v.tells("site-tokens/"+token+"/unblock", nil, http.StatusConflict, "readmit the client")
	v.tells(path+"/readmit", nil, http.StatusOK, "The client is admitted again", "Block this client")
	v.tells(path+"/block", url.Values{"reason": {strings.Repeat("x", 1001)}}, http.StatusBadRequest, "reason: must be at most", strings.Repeat("x", 1001))

	// Delete.
	v.tells(path+"/delete", url.Values{"typed": {"PC-B"}}, http.StatusBadRequest, "type its name")
	do[adminservice.ClientDetails](r, "GET", "Clients/"+string(c.ID), nil)
	v.tells(path+"/delete", url.Values{"typed": {"PC-<A>"}}, http.StatusOK, "is deleted, and its tokens are blocked", "No client has registered yet")
	r.fails(opencmg.NotFound, "GET", "Clients/"+string(c.ID), nil)
	v.see(operation, "None of the clients is registered any more")
}

func TestConsoleClientOperations(t *testing.T) {
	r := newRig(t)
	v := r.console(r.c.Token)
	v.see("client-operations", "Nobody sent clients a task", "Choose clients")
	r.registerClient(sitedb.Client{NetBIOSName: "PC-00", Approval: sitedb.Approved})
	for i := 1; i < 52; i++ {
		r.registerClient(sitedb.Client{NetBIOSName: fmt.Sprintf("PC-%02d", i), Approval: sitedb.Approved})
	}
	op := do[adminservice.ClientOperation](r, "POST", "Notifications", adminservice.NotifyClients{Task: "test", Where: &adminservice.ClientChoice{Search: "PC"}})
	path := fmt.Sprintf("client-operations/%d", op.ID)
	v.see("client-operations", "Test notification", "clients with search", ">active</span>", `class="number">52<`, "administrator", "1 to 1 of 1")
	v.see(path, "0 of 52 answered", "1 to 50 of 52", `href="/console/`+path+`?skip=50"`, "Cancel the operation")
	v.see(path+"?skip=50", "51 to 52 of 52")
	v.tells(path+"/delete", nil, http.StatusConflict, "cancel it first")
	lacks(t, v.tells(path+"/cancel", nil, http.StatusOK, "The operation is cancelled", "Cancelled by administrator", "Delete</button>"), "Cancel the operation")
	v.tells(path+"/delete", nil, http.StatusOK, "The operation is deleted.", "Nobody sent clients a task")
	if status, _ := v.get(path); status != http.StatusNotFound {
		t.Errorf("a deleted operation: %d", status)
	}
}

func TestConsoleSiteTokens(t *testing.T) {
	r := newRig(t)
	v := r.console(r.c.Token)
	v.see("site-tokens", "The site issued no token that is still good")
	a := r.registerClient(sitedb.Client{NetBIOSName: "PC-A", Approval: sitedb.Approved})
	b := r.registerClient(sitedb.Client{NetBIOSName: "PC-B", Approval: sitedb.Approved})
	id := func(i int) string { return fmt.Sprintf("00000000-0000-4000-8000-%012d", i) }
	for i := range 53 {
		tok := sitedb.Token{ID: id(i), Kind: opencmg.AuthCCMToken, ClientID: a.ID, Issued: r.now().Add(time.Duration(i) * time.Second), Expires: r.now().Add(8 * time.Hour)}
		if i == 52 {
			tok.Kind, tok.ClientID = opencmg.AuthClientToken, b.ID
		}
		if err := r.db.RecordToken(t.Context(), tok); err != nil {
			t.Fatal(err)
		}
	}
	v.see("site-tokens", "1 to 50<", id(52), `href="/console/site-tokens?skip=50"`, "client token")
	v.see("site-tokens?skip=50", "51 to 53<", id(0))
	lacks(t, v.see("site-tokens?search=pc-b", id(52), "1 to 1<"), id(51))
	lacks(t, v.see("site-tokens?kind=ccm-token", id(51)), id(52))
	v.see("site-tokens?client="+string(b.ID), id(52), "1 to 1<")
	v.see("site-tokens?blocked=true", "No token matches.")
	v.tells("site-tokens/"+id(52)+"/block", nil, http.StatusOK, "The token is blocked", ">blocked</span>", "Unblock</button>", "1 to 1<")
	v.see("site-tokens?blocked=true", id(52), "1 to 1<")
	v.tells("site-tokens/"+id(52)+"/unblock", nil, http.StatusOK, "The token is accepted again", ">accepted</span>")
	v.tells("site-tokens/"+id(99)+"/block", nil, http.StatusNotFound, "there is no site token")
}

// A Read-only Analyst sees all of it and changes nothing, neither by a button
// nor by a request made by hand.
func TestConsoleClientsReadOnly(t *testing.T) {
	r := newRig(t)
	c := r.registerClient(sitedb.Client{NetBIOSName: "PC-A", Approval: sitedb.Approved})
	const token = "00000000-0000-4000-8000-00000000000a"
	if err := r.db.RecordToken(t.Context(), sitedb.Token{ID: token, Kind: opencmg.AuthClientToken, ClientID: c.ID, Issued: r.now(), Expires: r.now().AddDate(0, 3, 0)}); err != nil {
		t.Fatal(err)
	}
	op := do[adminservice.ClientOperation](r, "POST", "Clients/"+string(c.ID)+"/notify", adminservice.NotifyClient{Task: "test"})
	before := do[adminservice.ClientDetails](r, "GET", "Clients/"+string(c.ID), nil)
	operation, client := fmt.Sprintf("client-operations/%d", op.ID), "clients/"+string(c.ID)
	v := r.analyst()
	for page, text := range map[string]string{"clients": "PC-A", client: "Test notification", "client-operations": "Test notification", operation: "PC-A", "site-tokens": strings.ToUpper(token)} {
		_, main, _ := strings.Cut(v.see(page, text), "<main")
		lacks(t, main, `method="post"`)
	}
	for path, form := range map[string]url.Values{
		"clients/notify": {"task": {"test"}, "sure": {"yes"}}, client + "/notify": {"task": {"test"}}, client + "/approve": nil, client + "/block": {"reason": {"x"}}, client + "/readmit": nil,
		client + "/delete": {"typed": {"PC-A"}}, operation + "/cancel": nil, operation + "/delete": nil, "site-tokens/" + token + "/block": nil, "site-tokens/" + token + "/unblock": nil,
	} {
		v.tells(path, form, http.StatusForbidden, "Read-only Analyst")
	}
	v.tells(client+"/delete", nil, http.StatusForbidden, "Read-only Analyst")
	after := do[adminservice.ClientDetails](r, "GET", "Clients/"+string(c.ID), nil)
	if after.Approval != before.Approval || len(after.Notifications) != 1 || after.Notifications[0].State != "waiting" || after.Tokens[0].Blocked {
		t.Errorf("something changed: %+v", after)
	}
}
