package mp_test

import (
	"net/http"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/opencmg/opencmg"
	"github.com/opencmg/opencmg/ccm"
	"github.com/opencmg/opencmg/mp"
	"github.com/opencmg/opencmg/pki"
	"github.com/opencmg/opencmg/sitedb"
)

func (g *rig) block(id opencmg.ClientID) {
	g.t.Helper()
	if err := g.db.Change(g.t.Context(), "block", func(tx *sitedb.Tx) error { _, err := tx.BlockClient(id, "ada", "stolen"); return err }); err != nil {
		g.t.Fatal(err)
	}
}

func (g *rig) readmit(id opencmg.ClientID) {
	g.t.Helper()
	if err := g.db.Change(g.t.Context(), "readmit", func(tx *sitedb.Tx) error { _, err := tx.ReadmitClient(id); return err }); err != nil {
		g.t.Fatal(err)
	}
}

// assignments asks for policy and reports whether it got any.
func (d *device) assignments() bool {
	d.g.t.Helper()
	return d.ask(ccm.EndpointPolicy, ccm.AssignmentRequest{ClientID: d.id, ResourceType: "Machine"}.Encode()) != ""
}

// A blocked client gets nothing by any way, and all of it again once it is
// readmitted.
func TestBlockedClient(t *testing.T) {
	g := start(t, nil)
	d := g.through(0, opencmg.Identity{Auth: opencmg.AuthBulkToken, TokenID: "b0000000-0000-0000-0000-000000000001"})
	d.register()
	token := d.clientToken()
	signed := func(id opencmg.Identity) *device {
		id.Thumbprint = pki.Thumbprint(d.cert.Leaf)
		c := g.through(0, id)
		c.id = d.id
		return c
	}
	byToken := signed(opencmg.Identity{Auth: opencmg.AuthClientToken, TokenID: token.ID, ClientID: d.id})
	sts := func(c *device) int {
		code, _, _ := c.do(http.MethodGet, ccm.PathSTS, "", nil)
		return code
	}
	works := func() (got []bool) {
		code, _ := byToken.continues(0, byToken.signIn().Frame())
		return []bool{byToken.assignments(), sts(byToken) == 200, code == 200}
	}
	if d := cmp.Diff([]bool{true, true, true}, works()); d != "" {
		t.Fatal("before:", d)
	}
	g.block(d.id)
	g.block(d.id)
	if d := cmp.Diff([]bool{false, false, false}, works()); d != "" {
		t.Error("policy, token service, notification of a blocked client:", d)
	}
	if resp := d.sendRegistration(d.registration(d.id), d.key()); resp.SMSID != d.id || resp.Status != ccm.Failed {
		t.Errorf("registering again: %+v", resp)
	}
	g.readmit(d.id)
	if d := cmp.Diff([]bool{true, true, true}, works()); d != "" {
		t.Error("after readmission:", d)
	}
}

// An Entra device that is blocked can neither exchange its token nor come back
// with a new key.
func TestBlockedEntraDevice(t *testing.T) {
	g := start(t, nil)
	entra := opencmg.Identity{Auth: opencmg.AuthEntra, TenantID: tenant, DeviceID: "22222222-aaaa-bbbb-cccc-333333333333"}
	d := g.through(0, entra)
	d.register()
	g.block(d.id)
	if code, _, _ := d.do(http.MethodGet, ccm.PathSTS, "", nil); code != http.StatusForbidden {
		t.Errorf("token service: %d", code)
	}
	d.wantWhy("is blocked")
	again := g.through(1, entra)
	if resp := again.sendRegistration(again.registration(""), again.key()); resp.SMSID != d.id || resp.Status != ccm.Failed {
		t.Errorf("with a new key: %+v", resp)
	}
	g.readmit(d.id)
	if resp := again.sendRegistration(again.registration(""), again.key()); resp.SMSID != d.id || resp.Status == ccm.Failed {
		t.Errorf("readmitted: %+v", resp)
	}
}

// The site asks who listens, and wakes who does; a client that was blocked
// while it listened loses its connection.
func TestListenersAndWake(t *testing.T) {
	g := start(t, nil)
	d := g.approved(0)
	stranger := opencmg.ClientID("GUID:11111111-2222-3333-4444-555555555555")
	if l := g.server.Listeners([]opencmg.ClientID{d.id}); len(l) != 0 {
		t.Errorf("nobody listens: %+v", l)
	}
	type answer struct {
		code int
		body string
	}
	held := make(chan answer, 1)
	listen := func() {
		go func() {
			code, body := d.continues(time.Hour, d.signIn().Frame())
			held <- answer{code, body}
		}()
		g.online(1)
	}
	listen()
	want := []mp.Listener{{ClientID: d.id, Transport: "http"}}
	for _, ask := range [][]opencmg.ClientID{nil, {d.id, stranger}} {
		got := g.server.Listeners(ask)
		if diff := cmp.Diff(want, got, cmpopts.IgnoreFields(mp.Listener{}, "Since")); diff != "" || got[0].Since.IsZero() {
			t.Errorf("asked for %v: %+v %s", ask, got, diff)
		}
	}
	// The row comes from elsewhere: nobody woke the listener.
	notify := func() {
		if err := g.db.Change(t.Context(), "notify", func(tx *sitedb.Tx) error {
			_, err := tx.NotifyClients(sitedb.ClientOperation{TaskType: ccm.TaskTest}, ccm.NewGUID(), []opencmg.ClientID{d.id})
			return err
		}); err != nil {
			t.Fatal(err)
		}
	}
	for _, ask := range [][]opencmg.ClientID{nil, {d.id, stranger}} {
		notify()
		if err := g.server.Wake(t.Context(), ask); err != nil {
			t.Fatal(err)
		}
		task := oneTask(t, (<-held).body)
		if code, _ := d.continues(0, ccm.TaskResponse{Time: time.Now(), PushID: task.PushID, TaskID: task.TaskID}.Frame()); code != http.StatusOK {
			t.Errorf("woken by %v: the answer gets %d", ask, code)
		}
		listen()
	}
	g.block(d.id)
	if err := g.server.Wake(t.Context(), []opencmg.ClientID{d.id}); err != nil {
		t.Fatal(err)
	}
	if got := <-held; got.code != http.StatusForbidden {
		t.Errorf("a blocked listener: %d", got.code)
	}
}

// The last policy request is noted once a minute.
func TestPolicyRequestIsNoted(t *testing.T) {
	now := time.Now()
	g := start(t, func(c *mp.Config) { c.Now = func() time.Time { return now } })
	d := g.approved(0)
	last := func() time.Time {
		if !d.assignments() {
			t.Fatal("no policy:", d.why())
		}
		c, err := g.db.Client(t.Context(), d.id)
		if err != nil {
			t.Fatal(err)
		}
		return c.LastPolicy
	}
	first := last()
	if first.IsZero() {
		t.Fatal("not noted")
	}
	if again := last(); !again.Equal(first) {
		t.Errorf("noted again at once: %v after %v", again, first)
	}
	now = now.Add(2 * time.Minute)
	if again := last(); again.Equal(first) {
		t.Error("not noted again")
	}
}
