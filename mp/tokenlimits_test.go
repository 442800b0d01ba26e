package mp_test

import (
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/opencmg/opencmg"
	"github.com/opencmg/opencmg/ccm"
	"github.com/opencmg/opencmg/mp"
	"github.com/opencmg/opencmg/sitedb"
)

// limited makes a bulk registration token with limits and returns it with the
// identity that a gateway makes of it.
func (g *rig) limited(l sitedb.TokenLimits) (raw string, id opencmg.Identity) {
	g.t.Helper()
	token, err := g.signer.Bulk(0, time.Now())
	if err != nil {
		g.t.Fatal(err)
	}
	if err := g.db.RecordToken(g.t.Context(), sitedb.Token{ID: token.ID, Kind: opencmg.AuthBulkToken, Issued: token.NotBefore, Expires: token.Expires, TokenLimits: l}); err != nil {
		g.t.Fatal(err)
	}
	return token.Raw, opencmg.Identity{Auth: opencmg.AuthBulkToken, TokenID: token.ID}
}

// tryRegister sends a registration that is to be refused.
func (d *device) tryRegister(why string) {
	d.g.t.Helper()
	text, err := d.registration("").Encode(d.key())
	if err != nil {
		d.g.t.Fatal(err)
	}
	m := d.message(ccm.EndpointRegistration, text)
	m.SourceID = ""
	if reply := d.send(m, nil); reply != "" || d.lastCode != http.StatusUnauthorized {
		d.g.t.Errorf("registration that should be refused: %d %q", d.lastCode, reply)
	}
	d.wantWhy(why)
}

func TestBulkTokenUses(t *testing.T) {
	g := start(t, nil)
	_, id := g.limited(sitedb.TokenLimits{MaxUses: 1, Group: "Branch"})
	first := g.through(0, id)
	first.register()
	if again := first.register(); again.SMSID != first.id {
		t.Errorf("the same key again: %+v", again)
	}
	g.through(1, id).tryRegister("is used up")
	// Who is registered still gets its own token.
	first.clientToken()
	list := getJSON[[]mp.ClientStatus](g, "/clients?group=Branch")
	if len(list) != 1 || list[0].ID != first.id || list[0].Group != "Branch" {
		t.Errorf("clients of the group: %+v", list)
	}
	if list := getJSON[[]mp.ClientStatus](g, "/clients?group=branch"); len(list) != 0 {
		t.Errorf("clients of another group: %+v", list)
	}
}

func TestBulkTokenSources(t *testing.T) {
	g := start(t, nil)
	raw, id := g.limited(sitedb.TokenLimits{Sources: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24"), netip.MustParsePrefix("2001:db8::/32")}})
	from := func(n int, source string) *device {
		id := id
		id.Source = source
		return g.through(n, id)
	}
	from(0, "198.51.100.7").tryRegister("may not be used from 198.51.100.7")
	from(0, "").tryRegister("address is not known")
	from(0, "nonsense").tryRegister("address is not known")
	from(0, "192.0.2.9").register()
	from(1, "2001:db8::9").register()
	// Inside the network the management point sees the address itself, and
	// believes no field about it.
	d := g.inside(2)
	d.path = ccm.PathTokenRequest
	d.header.Set("Authorization", "Bearer "+raw)
	forged := id
	forged.Source = "192.0.2.9"
	d.header.Set(opencmg.HeaderIdentity, forged.Encode())
	d.header.Set("X-Forwarded-For", "192.0.2.9")
	d.tryRegister("may not be used from 127.0.0.1")

	raw, _ = g.limited(sitedb.TokenLimits{Sources: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}})
	d.header.Set("Authorization", "Bearer "+raw)
	d.register()
}

func TestBulkTokenBlockedAfterwards(t *testing.T) {
	g := start(t, nil)
	_, id := g.limited(sitedb.TokenLimits{})
	if err := g.db.BlockToken(t.Context(), strings.ToUpper(id.TokenID), true); err != nil {
		t.Fatal(err)
	}
	g.through(0, id).tryRegister("is blocked")
	if err := g.db.BlockToken(t.Context(), id.TokenID, false); err != nil {
		t.Fatal(err)
	}
	g.through(0, id).register()
}
