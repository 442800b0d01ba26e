package sitedb_test

import (
	"errors"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/opencmg/opencmg"
	"github.com/opencmg/opencmg/sitedb"
)

func TestTokenLimits(t *testing.T) { onEachEngine(t, testTokenLimits) }

func testTokenLimits(t *testing.T, e engine) {
	db, clock := e.open(t)
	ctx := t.Context()
	inside, outside := netip.MustParseAddr("192.0.2.77"), netip.MustParseAddr("198.51.100.1")
	record := func(id string, l sitedb.TokenLimits) {
		t.Helper()
		if err := db.RecordToken(ctx, sitedb.Token{ID: id, Kind: opencmg.AuthBulkToken, Issued: start, Expires: start.Add(time.Hour), TokenLimits: l, Description: "for the branch"}); err != nil {
			t.Fatal(err)
		}
	}
	registration := func(token string, source netip.Addr) sitedb.Registration {
		return sitedb.Registration{Client: sitedb.Client{Auth: opencmg.AuthBulkToken, Approval: sitedb.Approved, Signing: certificate(t)}, TokenID: token, Source: source}
	}
	token := func(id string) sitedb.Token {
		t.Helper()
		list, err := db.Tokens(ctx, opencmg.AuthBulkToken, 10)
		if err != nil {
			t.Fatal(err)
		}
		for _, tok := range list {
			if tok.ID == id {
				return tok
			}
		}
		t.Fatalf("no token %s in %+v", id, list)
		return sitedb.Token{}
	}
	accept := func(r sitedb.Registration) sitedb.Client {
		t.Helper()
		c, _, err := db.RegisterClient(ctx, r)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	refuse := func(r sitedb.Registration, cause string) {
		t.Helper()
		_, _, err := db.RegisterClient(ctx, r)
		refusal, ok := errors.AsType[*sitedb.TokenRefusal](err)
		if !ok || !errors.Is(err, opencmg.Unauthorized) || !strings.Contains(refusal.Cause, cause) {
			t.Errorf("got %v, want a refusal for %q", err, cause)
		}
		if _, err := db.ClientByKey(ctx, sitedb.KeyID(r.Signing)); !errors.Is(err, opencmg.NotFound) {
			t.Errorf("refused for %q, and stored all the same: %v", cause, err)
		}
	}

	limits := sitedb.TokenLimits{MaxUses: 2, Group: "Branch", Sources: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24"), netip.MustParsePrefix("2001:db8::/32")}}
	record("ONE", limits)
	if got := token("one"); !cmp.Equal(got.TokenLimits, limits, cmpopts.EquateComparable(netip.Prefix{})) || got.Description != "for the branch" || got.Used != 0 || !got.LastUsed.IsZero() {
		t.Errorf("recorded: %+v", got)
	}
	refuse(registration("One", outside), "may not be used from 198.51.100.1, only from 192.0.2.0/24, 2001:db8::/32")
	refuse(registration("one", netip.Addr{}), "address is not known")
	clock.advance(time.Minute)
	first := registration("ONE", inside)
	if c := accept(first); c.Group != "Branch" {
		t.Errorf("client: %+v", c)
	}
	accept(first) // the same key again
	if got := token("one"); got.Used != 1 || !got.LastUsed.Equal(start.Add(time.Minute)) {
		t.Errorf("after one key came twice: %+v", got)
	}
	accept(registration("one", netip.MustParseAddr("2001:db8::1")))
	refuse(registration("one", inside), "is used up")
	clock.advance(time.Minute)
	accept(first) // a registered client may ask again
	if got := token("one"); got.Used != 2 || !got.LastUsed.Equal(start.Add(2*time.Minute)) {
		t.Errorf("used up: %+v", got)
	}
	accept(sitedb.Registration{Client: sitedb.Client{Auth: opencmg.AuthClientToken, Approval: sitedb.Approved, Signing: first.Signing}})
	list, _, err := db.ListClients(ctx, sitedb.ClientFilter{Group: "Branch"}, sitedb.ClientPage{Limit: 10})
	if err != nil || len(list) != 2 || list[0].Group != "Branch" {
		t.Errorf("clients of the group: %+v, %v", list, err)
	}

	// An address that IPv6 carries is the IPv4 address.
	record("mapped", sitedb.TokenLimits{Sources: limits.Sources})
	accept(registration("mapped", netip.MustParseAddr("::ffff:192.0.2.1")))

	record("any", sitedb.TokenLimits{})
	for range 3 {
		if c := accept(registration("any", netip.Addr{})); c.Group != "" {
			t.Errorf("client of no group: %+v", c)
		}
	}
	if got := token("any"); got.Used != 3 {
		t.Errorf("without limits: %+v", got)
	}
	if err := db.BlockToken(ctx, "any", true); err != nil {
		t.Fatal(err)
	}
	refuse(registration("any", inside), "is blocked")
	accept(registration("of-files", netip.Addr{})) // never recorded here
}

// TestTokenCountUnderLoad lets many clients register at once, by two connections
// to the database.
func TestTokenCountUnderLoad(t *testing.T) { onEachEngine(t, testTokenCountUnderLoad) }

func testTokenCountUnderLoad(t *testing.T, e engine) {
	c := e.config(t)
	dbs := []*sitedb.DB{openConfig(t, c), openConfig(t, c)}
	const uses, clients = 5, 24
	if err := dbs[0].RecordToken(t.Context(), sitedb.Token{ID: "t", Kind: opencmg.AuthBulkToken, Expires: time.Now().Add(time.Hour), TokenLimits: sitedb.TokenLimits{MaxUses: uses}}); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	errs := make(chan error, clients)
	for i := range clients {
		cert := certificate(t)
		wg.Go(func() {
			_, _, err := dbs[i%2].RegisterClient(t.Context(), sitedb.Registration{Client: sitedb.Client{Signing: cert}, TokenID: "t"})
			errs <- err
		})
	}
	wg.Wait()
	close(errs)
	accepted := 0
	for err := range errs {
		if err == nil {
			accepted++
		} else if _, ok := errors.AsType[*sitedb.TokenRefusal](err); !ok {
			t.Error(err)
		}
	}
	list, err := dbs[1].Tokens(t.Context(), opencmg.AuthBulkToken, 1)
	if err != nil || accepted != uses || list[0].Used != uses {
		t.Errorf("%d clients were accepted, %+v, %v", accepted, list, err)
	}
}
