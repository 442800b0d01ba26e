package console

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"net/url"
	"slices"
	"time"

	"github.com/opencmg/opencmg"
	"github.com/opencmg/opencmg/adminservice"
)

// Certificates and tokens: what clients and site systems are known by.

func certificateViews() []view {
	const node = "certificates"
	return []view{
		{pattern: "certificates", node: node, title: "Certificates and tokens", template: "certificates", load: loadCertificates("expiry")},
		{pattern: "certificates/trusted", node: node, title: "Trusted CAs", template: "certificates", load: loadCertificates("trusted")},
		{pattern: "certificates/bulk-tokens", node: node, title: "Bulk registration tokens", template: "certificates", load: loadCertificates("bulk-tokens")},
		{pattern: "certificates/join-tokens", node: node, title: "Join tokens", template: "certificates", load: loadCertificates("join-tokens")},
		{pattern: "certificates/blocked", node: node, title: "Blocked certificates", template: "certificates", load: loadCertificates("blocked")},
		{pattern: "certificates/issuers", node: node, title: "Token issuers", template: "certificates", load: loadCertificates("issuers")},
	}
}

func certificateActions() []action {
	const trusted, bulk, join, blocked, issuers = "certificates/trusted", "certificates/bulk-tokens", "certificates/join-tokens", "certificates/blocked", "certificates/issuers"
	return []action{
		{pattern: trusted, page: trusted, do: func(v *Visit) (string, string, error) {
			ids, err := addTrustedFiles(v, "caFiles")
			if err == nil && len(ids) == 0 {
				err = opencmg.Errorf(opencmg.Invalid, "choose the file of a root or intermediate CA").About("caFiles")
			}
			return trusted, "The certificate is trusted. Gateways that trust all of the site's take it over within seconds.", err
		}},
		{pattern: trusted + "/{id}/delete", page: trusted, do: remover("TrustedCertificates", trusted, "The certificate is not trusted any more.")},
		{pattern: bulk + "/{id}/block", page: bulk, do: poster("BulkRegistrationTokens", "block", bulk, "The token is blocked: no client can register with it.")},
		{pattern: bulk + "/{id}/unblock", page: bulk, do: poster("BulkRegistrationTokens", "unblock", bulk, "Clients can register with the token again.")},
		{pattern: join + "/{id}/delete", page: join, do: remover("JoinTokens", join, "The join token was deleted: no host can join with it.")},
		{pattern: blocked, page: blocked, do: blockCertificate, fields: fieldNames{"id": "thumbprint"}},
		{pattern: blocked + "/{id}/delete", page: blocked, do: remover("BlockedCertificates", blocked, "The certificate is not blocked any more.")},
		{pattern: issuers, page: issuers, do: addIssuer, fields: fieldNames{"certificate": "file"}},
		{pattern: issuers + "/{id}/delete", page: issuers, do: remover("TokenIssuers", issuers, "Tokens of that issuer are not accepted any more.")},
	}
}

// remover deletes an object of a collection.
func remover(collection, page, said string) func(*Visit) (string, string, error) {
	return func(v *Visit) (string, string, error) {
		return backTo(v, page), said, v.Do("DELETE", collection+"/"+url.PathEscape(v.ID()), nil, nil)
	}
}

// poster does something with an object of a collection.
func poster(collection, verb, page, said string) func(*Visit) (string, string, error) {
	return func(v *Visit) (string, string, error) {
		return backTo(v, page), said, v.Do("POST", collection+"/"+url.PathEscape(v.ID())+"/"+verb, nil, nil)
	}
}

// certificatesPage is what all tabs show; only the fields of the tab are set.
type certificatesPage struct {
	Tab      string
	Tabs     []certificateTab
	Span     span
	Expiry   []adminservice.Expiry
	Trusted  []adminservice.TrustedCertificate
	Bulk     []bulkRow
	Join     []joinRow
	Blocked  []adminservice.BlockedCertificate
	Issuers  []adminservice.TokenIssuer
	Gateways []adminservice.Gateway
}

// A certificateTab is a tab. Its search looks at what Find names.
type certificateTab struct{ ID, Name, Href, Find string }

var certificateTabs = []certificateTab{
	{"expiry", "Expiry watch", "certificates", "Kind or name"},
	{"trusted", "Trusted CAs", "certificates/trusted", "Subject or thumbprint"},
	{"bulk-tokens", "Bulk registration tokens", "certificates/bulk-tokens", "ID, group or text"},
	{"join-tokens", "Join tokens", "certificates/join-tokens", "Kind, ID or address"},
	{"blocked", "Blocked certificates", "certificates/blocked", "Thumbprint or reason"},
	{"issuers", "Token issuers", "certificates/issuers", "Issuer or audience"},
}

// Here is the tab that is shown.
func (p *certificatesPage) Here() certificateTab {
	return certificateTabs[slices.IndexFunc(certificateTabs, func(t certificateTab) bool { return t.ID == p.Tab })]
}

// A bulkRow is a bulk registration token with its state.
type bulkRow struct {
	adminservice.BulkRegistrationToken
	State, Tone string
}

// A joinRow is a join token with its state and its gateway.
type joinRow struct {
	adminservice.JoinTokenRecord
	State, Tone, Gateway string
}

func loadCertificates(tab string) func(*Visit) (any, error) {
	return func(v *Visit) (any, error) {
		p := &certificatesPage{Tab: tab, Tabs: certificateTabs}
		var err error
		switch now := time.Now(); tab {
		case "expiry":
			p.Expiry, p.Span, err = ofTab[adminservice.Expiry](v, p, "Expiry", url.Values{"$orderby": {"ends"}})
		case "trusted":
			p.Trusted, p.Span, err = ofTab[adminservice.TrustedCertificate](v, p, "TrustedCertificates", nil)
		case "bulk-tokens":
			var tokens []adminservice.BulkRegistrationToken
			tokens, p.Span, err = ofTab[adminservice.BulkRegistrationToken](v, p, "BulkRegistrationTokens", nil)
			p.Span = p.Span.newest()
			for _, t := range tokens {
				r := bulkRow{BulkRegistrationToken: t}
				r.State, r.Tone = tokenState(t.Blocked, now.After(t.Expires), t.Uses > 0 && t.Used >= t.Uses)
				p.Bulk = append(p.Bulk, r)
			}
		case "join-tokens":
			err = p.loadJoinTokens(v, now)
		case "blocked":
			p.Blocked, p.Span, err = ofTab[adminservice.BlockedCertificate](v, p, "BlockedCertificates", nil)
			p.Span = p.Span.newest()
		case "issuers":
			p.Issuers, p.Span, err = ofTab[adminservice.TokenIssuer](v, p, "TokenIssuers", nil)
		}
		return p, err
	}
}

// ofTab loads the part of the tab's list that is shown.
func ofTab[T any](v *Visit, p *certificatesPage, collection string, asked url.Values) ([]T, span, error) {
	found, err := some[T](v, p.Here().Href, collection, asked)
	return found.List, found.Span, err
}

func (p *certificatesPage) loadJoinTokens(v *Visit, now time.Time) error {
	tokens, span, err := ofTab[adminservice.JoinTokenRecord](v, p, "JoinTokens", nil)
	p.Span = span.newest()
	if err != nil {
		return err
	}
	p.Gateways, err = list[adminservice.Gateway](v, "Gateways")
	for _, t := range tokens {
		r := joinRow{JoinTokenRecord: t, Gateway: t.GatewayID}
		r.State, r.Tone = tokenState(false, now.After(t.Expires), t.Uses < 1)
		for _, g := range p.Gateways {
			if g.ID == t.GatewayID {
				r.Gateway = g.ServiceName
			}
		}
		p.Join = append(p.Join, r)
	}
	return err
}

// tokenState is whether a token may be used, with its colour.
func tokenState(blocked, over, used bool) (state, tone string) {
	switch {
	case blocked:
		return "blocked", "bad"
	case over:
		return "expired", "none"
	case used:
		return "used up", "none"
	}
	return "usable", "good"
}

// readCertificates takes PEM or DER.
func readCertificates(b []byte) ([]*x509.Certificate, error) {
	var certs []*x509.Certificate
	for rest := b; ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			continue
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, opencmg.Errorf(opencmg.Invalid, "the file holds a certificate that can not be read: %v", err)
		}
		certs = append(certs, c)
	}
	if len(certs) > 0 {
		return certs, nil
	}
	certs, err := x509.ParseCertificates(b)
	if err != nil || len(certs) == 0 {
		return nil, opencmg.Errorf(opencmg.Invalid, "the file holds no certificate: choose a PEM or DER file (.pem, .cer, .crt)")
	}
	return certs, nil
}

func encodeCertificate(c *x509.Certificate) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw}))
}

// addTrustedFiles makes the CAs in the files of a field trusted, and returns
// their IDs. One that is trusted already stays.
func addTrustedFiles(v *Visit, field string) (ids []string, err error) {
	if v.Request.MultipartForm == nil {
		return nil, nil
	}
	var all []*x509.Certificate
	for _, h := range v.Request.MultipartForm.File[field] {
		if h.Size == 0 {
			continue
		}
		f, err := h.Open()
		if err != nil {
			return nil, err
		}
		b, err := readUpload(f, h.Filename)
		f.Close()
		if err != nil {
			return nil, &formError{err, field}
		}
		certs, err := readCertificates(b)
		if err != nil {
			return nil, opencmg.Errorf(opencmg.Invalid, "%s: %v", h.Filename, err).About(field)
		}
		all = append(all, certs...)
	}
	if len(all) == 0 {
		return nil, nil
	}
	known, err := list[adminservice.TrustedCertificate](v, "TrustedCertificates")
	if err != nil {
		return nil, err
	}
	for _, c := range all {
		sum := sha256.Sum256(c.Raw)
		if i := slices.IndexFunc(known, func(k adminservice.TrustedCertificate) bool { return k.Thumbprint == hex.EncodeToString(sum[:]) }); i >= 0 {
			ids = append(ids, known[i].ID)
			continue
		}
		store := adminservice.IntermediateCA
		if string(c.RawIssuer) == string(c.RawSubject) {
			store = adminservice.RootCA
		}
		var made adminservice.TrustedCertificate
		if err := v.Do("POST", "TrustedCertificates", adminservice.TrustedCertificate{Store: store, Certificate: encodeCertificate(c), RevocationList: v.Form("revocationList")}, &made); err != nil {
			return ids, inForm(err, fieldNames{"certificate": field, "store": field})
		}
		ids = append(ids, made.ID)
	}
	return ids, nil
}

func blockCertificate(v *Visit) (string, string, error) {
	in := adminservice.BlockedCertificate{ID: v.Form("thumbprint"), Reason: v.Form("reason")}
	b, err := upload(v, "file")
	if err != nil {
		return "", "", err
	}
	if len(b) > 0 {
		certs, err := readCertificates(b)
		if err != nil {
			return "", "", opencmg.About("file", err)
		}
		sum := sha256.Sum256(certs[0].Raw)
		in.ID = hex.EncodeToString(sum[:])
	}
	err = v.Do("POST", "BlockedCertificates", in, nil)
	return "certificates/blocked", "The certificate is blocked at every gateway and management point.", err
}

func addIssuer(v *Visit) (string, string, error) {
	b, err := upload(v, "file")
	if err != nil {
		return "", "", err
	}
	if len(b) == 0 {
		return "", "", opencmg.Errorf(opencmg.Invalid, "choose the file of the token-signing certificate").About("file")
	}
	certs, err := readCertificates(b)
	if err != nil {
		return "", "", opencmg.About("file", err)
	}
	in := adminservice.TokenIssuer{Certificate: encodeCertificate(certs[0]), Issuer: v.Form("issuer"), Audience: v.Form("audience"), AllowUnbound: v.Checked("allowUnbound")}
	return "certificates/issuers", "Tokens of that issuer are accepted.", v.Do("POST", "TokenIssuers", in, nil)
}

// certificateMakers make tokens.
func certificateMakers(c *Console) []maker {
	return []maker{
		{pattern: "certificates/bulk-tokens", page: "certificates/bulk-tokens", node: "certificates", make: makeBulkToken},
		{pattern: "certificates/join-tokens", page: "certificates/join-tokens", node: "certificates", make: func(v *Visit) (*once, error) {
			return makeJoinToken(v, c.cfg.Now(), v.Form("kind"), v.Form("gatewayId"), "certificates/join-tokens")
		}},
		{pattern: "gateways/{id}/join-token", page: "gateways/{id}", node: "gateways", make: func(v *Visit) (*once, error) {
			return makeJoinToken(v, c.cfg.Now(), "gateway", v.ID(), gatewayProgress(v.ID(), ""))
		}},
	}
}

func makeBulkToken(v *Visit) (*once, error) {
	f := &fromForm{v: v}
	in := adminservice.NewBulkToken{Minutes: f.number("minutes"), Uses: f.number("uses"), Sources: words(v.Form("sources")), Group: v.Form("group"), Description: v.Form("description")}
	if f.err != nil {
		return nil, f.err
	}
	var made adminservice.BulkRegistrationToken
	if err := v.Do("POST", "BulkRegistrationTokens", in, &made); err != nil {
		return nil, err
	}
	return &once{
		Title: "Bulk registration token", Secret: made.Token, Back: "certificates/bulk-tokens",
		Then: []string{
			"Put the token into a file that only administrators of the device can read, for example regtoken.txt.",
			"Install the client with the two properties that the gateway's clients need (opencmg client-properties prints them).",
			"The token is good until " + made.Expires.UTC().Format("2006-01-02 15:04 MST") + ". Block it when it gets into wrong hands: its ID is " + made.ID + ".",
		},
		Commands: []onceCommand{{Text: "opencmg client install --regtoken-file regtoken.txt --state-dir client $(cat properties.txt)"}},
	}, nil
}
