package mp

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/opencmg/opencmg"
	"github.com/opencmg/opencmg/ccm"
	"github.com/opencmg/opencmg/pki"
	"github.com/opencmg/opencmg/sitedb"
)

// noUser is the user ID in the log of a token that is about a device only.
const noUser = "00000000-0000-0000-0000-000000000000"

// sts answers CCM_STS: it exchanges a proved identity for a CCM token, bound to
// the key that the caller proved in TLS (wire.md 2.4). Its log lines carry the
// fields of wire.md 11.4.
func (s *Server) sts(w http.ResponseWriter, r *http.Request) error {
	x := exchangeOf(r)
	id := x.caller
	log := s.log.With("component", "CCM_STS", "request_id", x.id)
	log.Info("starting", "url", r.URL.Path)
	fail := func(err error) error {
		if x.verdict == "" {
			x.refuse("refused: %v", err)
		}
		log.Warn("no token issued", "Return code", 1, "Description", x.verdict)
		return err
	}
	if err := s.refuseBulk(x); err != nil {
		return fail(err)
	}
	if id.Auth == opencmg.AuthNone {
		return fail(opencmg.Errorf(opencmg.Unauthorized, "the token service needs a token or a client certificate"))
	}
	if id.Thumbprint == "" {
		return fail(opencmg.Errorf(opencmg.Forbidden, "tokens are bound to a key: present a client certificate in TLS, a self-signed one will do"))
	}
	tokenType := "Device"
	if id.UserID != "" {
		tokenType = "UDA"
	}
	userID := id.UserID
	if userID == "" {
		userID = noUser
	}
	log.Info("validated token", "TokenType", tokenType, "TenantId", id.TenantID, "UserId", userID, "DeviceId", id.DeviceID, "OnPrem_UserSid", id.UserSID, "OnPrem_DeviceSid", "", "auth", string(id.Auth))
	if id.Auth == opencmg.AuthEntra {
		// Before registration nobody is known by this key, and that is fine.
		c, err := s.c.DB.ClientByThumbprint(r.Context(), id.Thumbprint)
		if err != nil && !errors.Is(err, opencmg.NotFound) {
			return fail(err)
		}
		switch {
		case err != nil || !proves(id, c):
		case c.Approval == sitedb.ApprovalRefused:
			x.refuse("refused: client %s is blocked", c.ID)
			return fail(opencmg.Errorf(opencmg.Forbidden, "the caller is no approved client of this site; register first"))
		case c.Approval.Trusted():
			id.ClientID = c.ID
		}
	} else if id.ClientID != "" || id.Auth == opencmg.AuthPKI {
		c, err := s.registered(r.Context(), x)
		if err != nil {
			return fail(err)
		}
		id.ClientID = c.ID
	}
	signer := s.signing.Load()
	t, err := signer.CCM(id, s.now())
	if err != nil {
		return fail(err)
	}
	if err := s.c.DB.RecordToken(r.Context(), sitedb.Token{ID: t.ID, Kind: opencmg.AuthCCMToken, ClientID: id.ClientID, Thumbprint: id.Thumbprint, Issued: t.NotBefore, Expires: t.Expires}); err != nil {
		return fail(err)
	}
	hierarchy := strings.TrimPrefix(signer.TokenIssuer().Issuer, pki.SiteIssuer(""))
	log.Info("created token", "token type", tokenType, "hierarchyId", hierarchy, "userId", userID, "deviceId", string(id.ClientID), "token", t.ID, "expires", t.Expires)
	s.metrics.tokens.WithLabelValues(string(opencmg.AuthCCMToken)).Inc()
	x.client = id.ClientID
	x.note("issued CCM token %s", t.ID)
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	log.Info("issued token; returning it", "token", t.ID)
	return json.NewEncoder(w).Encode(ccm.TokenReply{AccessToken: t.Raw, TokenType: ccm.TokenScheme, ExpiresIn: int(t.Expires.Sub(s.now()).Seconds()), ID: t.ID, ClientID: id.ClientID})
}

// clientToken answers MP_TokenManager: it gives a registered client the token
// that it authenticates with from now on, bound to the key that it proved when
// it registered. Asking again renews (wire.md 2.2).
func (s *Server) clientToken(ctx context.Context, l *letter) (string, error) {
	x, c := l.x, l.client
	log := s.log.With("component", "CCM_STS", "request_id", x.id, "client", string(c.ID))
	refuse := func(format string, args ...any) (string, error) {
		x.refuse("silent: "+format, args...)
		log.Warn("no client token issued", "Return code", 1, "Description", x.verdict)
		return "", errSilent
	}
	r, err := ccm.ParseTokenManagerRequest(l.Text)
	if err != nil {
		return refuse("%v", err)
	}
	if r.ClientID != c.ID {
		return refuse("client %s asked for a token of %s", c.ID, r.ClientID)
	}
	thumbprint := c.Thumbprint
	if thumbprint == "" {
		// It registered without a certificate in TLS; the key that it proves by
		// its messages is in its signing certificate.
		thumbprint = pki.Thumbprint(c.Signing)
	}
	if x.caller.Thumbprint != "" && x.caller.Thumbprint != thumbprint {
		// A token for the registered key would be of no use to this caller.
		return refuse("client %s presented another certificate in TLS than when it registered; it has to register again", c.ID)
	}
	now := s.now()
	t, err := s.signing.Load().Client(c.ID, thumbprint, now)
	if err != nil {
		return "", err
	}
	if err := s.c.DB.RecordToken(ctx, sitedb.Token{ID: t.ID, Kind: opencmg.AuthClientToken, ClientID: c.ID, Thumbprint: thumbprint, Issued: t.NotBefore, Expires: t.Expires}); err != nil {
		return "", err
	}
	log.Info("created token", "token type", "PreAuth", "deviceId", string(c.ID), "token", t.ID, "expires", t.Expires.Format(time.RFC3339))
	s.metrics.tokens.WithLabelValues(string(opencmg.AuthClientToken)).Inc()
	x.note("issued client token %s", t.ID)
	return ccm.TokenManagerReply{ClientID: c.ID, ID: t.ID, Token: t.Raw, Expires: t.Expires, Renew: now.Add(ccm.ClientTokenRenewal)}.Encode(), nil
}
