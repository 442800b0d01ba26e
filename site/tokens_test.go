package site_test

import (
	"crypto/x509"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/opencmg/opencmg"
	"github.com/opencmg/opencmg/adminservice"
	"github.com/opencmg/opencmg/pki"
	"github.com/opencmg/opencmg/sitedb"
)

func TestBulkTokenLimits(t *testing.T) {
	r := newRig(t)
	in := adminservice.NewBulkToken{Minutes: 30, Uses: 2, Sources: []string{"192.0.2.77/24", "2001:db8::/32"}, Group: " Branch Oslo ", Description: "laptops that arrive in May"}
	made := do[adminservice.BulkRegistrationToken](r, "POST", "BulkRegistrationTokens", in)
	if made.Token == "" || made.Uses != 2 || made.Used != 0 || !made.LastUsed.IsZero() || made.Group != "Branch Oslo" || made.Description != in.Description ||
		!cmp.Equal(made.Sources, []string{"192.0.2.0/24", "2001:db8::/32"}) || made.Expires.Sub(made.Issued) != 30*time.Minute {
		t.Errorf("made: %+v", made)
	}
	if strings.Contains(r.log.String(), made.Token) {
		t.Error("the token is in the log")
	}
	if got := r.messages("made bulk registration token"); len(got) != 1 || !strings.Contains(got[0], "for 2 clients, from 192.0.2.77/24, 2001:db8::/32, for the group Branch Oslo") {
		t.Errorf("status messages: %q", got)
	}

	// A management point shares the database.
	signing := must(pki.NewSelfSigned("SMS", time.Now()))(t).Leaf
	register := func(cert *x509.Certificate, source string) error {
		_, _, err := r.db.RegisterClient(t.Context(), sitedb.Registration{Client: sitedb.Client{Auth: opencmg.AuthBulkToken, Signing: cert}, TokenID: made.ID, Source: netip.MustParseAddr(source)})
		return err
	}
	if err := register(signing, "192.0.2.1"); err != nil {
		t.Fatal(err)
	}
	if err := register(signing, "198.51.100.1"); err == nil {
		t.Error("another source is accepted")
	}
	list := do[adminservice.Page[adminservice.BulkRegistrationToken]](r, "GET", "BulkRegistrationTokens", nil).Value
	if len(list) != 1 || list[0].Token != "" || list[0].Used != 1 || list[0].LastUsed.IsZero() || list[0].Group != "Branch Oslo" {
		t.Errorf("list: %+v", list)
	}
	do[any](r, "POST", "BulkRegistrationTokens/"+made.ID+"/block", nil)
	if err := register(signing, "192.0.2.1"); err == nil || !strings.Contains(err.Error(), "is blocked") {
		t.Errorf("blocked: %v", err)
	}
}
