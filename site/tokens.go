package site

import (
	"crypto/subtle"
	"fmt"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/opencmg/opencmg"
	"github.com/opencmg/opencmg/adminservice"
	"github.com/opencmg/opencmg/pki"
	"github.com/opencmg/opencmg/sitedb"
)

func bulkToken(t sitedb.Token) adminservice.BulkRegistrationToken {
	out := adminservice.BulkRegistrationToken{
		ID: strings.ToUpper(t.ID), Issued: t.Issued, Expires: t.Expires, Blocked: t.Blocked,
		Uses: t.MaxUses, Used: t.Used, LastUsed: t.LastUsed, Group: t.Group, Description: t.Description,
	}
	for _, p := range t.Sources {
		out.Sources = append(out.Sources, p.String())
	}
	return out
}

// Limits of bulk registration tokens.
const (
	bulkMaxUses     = 1_000_000
	bulkMaxGroup    = 100  // characters
	maxDescription  = 1000 // characters
	maxTokenSources = 64
)

// bulkLimits checks the options of a new bulk registration token, and takes the
// spaces around its group away.
func bulkLimits(in *adminservice.NewBulkToken) (sitedb.TokenLimits, error) {
	in.Group = strings.TrimSpace(in.Group)
	l := sitedb.TokenLimits{MaxUses: in.Uses, Group: in.Group}
	switch {
	case in.Minutes < 0 || in.Minutes > int(pki.BulkMaxLifetime/time.Minute):
		return l, opencmg.Errorf(opencmg.Invalid, "minutes: the lifetime of a bulk registration token must be 1 to %d minutes, is %d", int(pki.BulkMaxLifetime/time.Minute), in.Minutes).About("minutes")
	case in.Uses < 0 || in.Uses > bulkMaxUses:
		return l, opencmg.Errorf(opencmg.Invalid, "uses: must be 1 to %d, or 0 for any number, is %d", bulkMaxUses, in.Uses).About("uses")
	case !label(l.Group, bulkMaxGroup):
		return l, opencmg.Errorf(opencmg.Invalid, "group: must be at most %d characters without control characters", bulkMaxGroup).About("group")
	case !label(in.Description, maxDescription):
		return l, opencmg.Errorf(opencmg.Invalid, "description: must be at most %d characters without control characters", maxDescription).About("description")
	}
	var err error
	l.Sources, err = parseSources(in.Sources)
	return l, err
}

// label reports whether a text is fit to be shown in one line.
func label(s string, most int) bool {
	return utf8.ValidString(s) && utf8.RuneCountInString(s) <= most && !strings.ContainsFunc(s, unicode.IsControl)
}

// parseSources reads the prefixes of a token.
func parseSources(list []string) (sources []netip.Prefix, err error) {
	if len(list) > maxTokenSources {
		return nil, opencmg.Errorf(opencmg.Invalid, "sources: at most %d prefixes, are %d: use wider ones", maxTokenSources, len(list)).About("sources")
	}
	for _, s := range list {
		p, err := netip.ParsePrefix(s)
		if err != nil || p.Addr().Is4In6() {
			return nil, opencmg.Errorf(opencmg.Invalid, "sources: %q must be a prefix such as 192.0.2.0/24 or 2001:db8::/32", s).About("sources")
		}
		sources = append(sources, p.Masked())
	}
	return sources, nil
}

func (s *Server) listBulkTokens(w http.ResponseWriter, r *http.Request) error {
	return answerRead(w, r, mostObjects, func(offset, limit int) (list []adminservice.BulkRegistrationToken, total int, err error) {
		tokens, total, err := s.db.BulkTokens(r.Context(), r.URL.Query().Get("search"), offset, limit)
		for _, t := range tokens {
			list = append(list, bulkToken(t))
		}
		return list, total, err
	})
}

func (s *Server) addBulkToken(w http.ResponseWriter, r *http.Request) error {
	var in adminservice.NewBulkToken
	if err := decodeBody(r, &in); err != nil {
		return err
	}
	limits, err := bulkLimits(&in)
	if err != nil {
		return err
	}
	t, err := s.keys.signer.Bulk(time.Duration(in.Minutes)*time.Minute, s.cfg.Now())
	if err != nil {
		return err
	}
	rec := sitedb.Token{ID: t.ID, Kind: opencmg.AuthBulkToken, Issued: t.NotBefore, Expires: t.Expires, TokenLimits: limits, Description: in.Description}
	if err := s.db.RecordToken(r.Context(), rec); err != nil {
		return err
	}
	err = s.db.Change(r.Context(), "audit", func(tx *sitedb.Tx) error {
		return s.audit(r.Context(), tx, msgCreated, "bulk-registration-token", t.ID, "made bulk registration token %s, valid until %s%s", t.ID, t.Expires.Format(time.RFC3339), limitsText(in))
	})
	if err != nil {
		return err
	}
	out := bulkToken(rec)
	out.Token = t.Raw
	return answer(w, http.StatusCreated, out)
}

// limitsText says in words what a token is limited to.
func limitsText(in adminservice.NewBulkToken) string {
	var b strings.Builder
	if in.Uses > 0 {
		fmt.Fprintf(&b, ", for %d clients", in.Uses)
	}
	if len(in.Sources) > 0 {
		fmt.Fprintf(&b, ", from %s", strings.Join(in.Sources, ", "))
	}
	if in.Group != "" {
		fmt.Fprintf(&b, ", for the group %s", in.Group)
	}
	return b.String()
}

func (s *Server) blockBulkToken(w http.ResponseWriter, r *http.Request) error {
	return s.setTokenBlocked(w, r, true)
}

func (s *Server) unblockBulkToken(w http.ResponseWriter, r *http.Request) error {
	return s.setTokenBlocked(w, r, false)
}

func (s *Server) setTokenBlocked(w http.ResponseWriter, r *http.Request, blocked bool) error {
	id := r.PathValue("id")
	if err := s.db.BlockToken(r.Context(), id, blocked); err != nil {
		return err
	}
	err := s.db.Change(r.Context(), "audit", func(tx *sitedb.Tx) error {
		return s.audit(r.Context(), tx, msgChanged, "bulk-registration-token", id, "%s bulk registration token %s", map[bool]string{true: "blocked", false: "unblocked"}[blocked], id)
	})
	if err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// Kinds of join tokens beside those of site systems.
const joinGateway = "gateway"

// joinTokenRecord is a join token without its secret.
type joinTokenRecord struct {
	Kind      string    `json:"kind"`
	Hash      string    `json:"hash"` // SHA-256 of the secret
	GatewayID string    `json:"gatewayId,omitempty"`
	Uses      int       `json:"uses"` // left
	Used      int       `json:"used"`
	Expires   time.Time `json:"expires"`
	Sources   []string  `json:"sources,omitempty"`

	// Of a gateway's token: where connection points look for its hosts.
	Hosts      []string `json:"hosts,omitempty"`
	HTTPSPort  int      `json:"httpsPort,omitempty"`
	TunnelPort int      `json:"tunnelPort,omitempty"`
}

func joinToken(r *record[joinTokenRecord]) adminservice.JoinTokenRecord {
	v := r.Value
	return adminservice.JoinTokenRecord{ID: r.ID, Version: r.Version, Kind: v.Kind, GatewayID: v.GatewayID, Uses: v.Uses, Used: v.Used, Expires: v.Expires, Sources: v.Sources, Hosts: v.Hosts, HTTPSPort: v.HTTPSPort, TunnelPort: v.TunnelPort}
}

// Limits of join tokens.
const (
	joinMinutes    = 60
	joinMaxMinutes = 30 * 24 * 60
	joinMaxUses    = 1000
)

func (s *Server) addJoinToken(w http.ResponseWriter, r *http.Request) error {
	var in adminservice.JoinTokenRecord
	if err := decodeBody(r, &in); err != nil {
		return err
	}
	if !slices.Contains([]string{adminservice.SystemConnectionPoint, adminservice.SystemManagementPoint, joinGateway}, in.Kind) {
		return opencmg.Errorf(opencmg.Invalid, "kind %q: must be %s, %s or %s", in.Kind, adminservice.SystemConnectionPoint, adminservice.SystemManagementPoint, joinGateway).About("kind")
	}
	if in.Minutes == 0 {
		in.Minutes = joinMinutes
	}
	if in.Uses == 0 {
		in.Uses = 1
	}
	if in.Minutes < 1 || in.Minutes > joinMaxMinutes || in.Uses < 1 || in.Uses > joinMaxUses {
		field := "minutes"
		if in.Minutes >= 1 && in.Minutes <= joinMaxMinutes {
			field = "uses"
		}
		return opencmg.Errorf(opencmg.Invalid, "minutes must be 1 to %d and uses 1 to %d", joinMaxMinutes, joinMaxUses).About(field)
	}
	if _, err := parseSources(in.Sources); err != nil {
		return err
	}
	if err := checkJoinHosts(&in); err != nil {
		return err
	}
	secret := newSecret()
	rec := &record[joinTokenRecord]{ID: newGUID(), Value: joinTokenRecord{
		Kind: in.Kind, Hash: hashToken(secret), GatewayID: in.GatewayID, Uses: in.Uses, Expires: s.cfg.Now().UTC().Add(time.Duration(in.Minutes) * time.Minute), Sources: in.Sources,
		Hosts: in.Hosts, HTTPSPort: in.HTTPSPort, TunnelPort: in.TunnelPort,
	}}
	rec.Name = rec.ID
	var gateway gatewayRecord
	err := s.db.Change(r.Context(), "add join token", func(tx *sitedb.Tx) error {
		if in.GatewayID != "" {
			g, err := get[gatewayRecord](tx, kindGateway, in.GatewayID)
			if err != nil {
				return opencmg.About("gatewayId", err)
			}
			if in.Kind == joinGateway && g.Value.Model != adminservice.ModelSelfHosted {
				return opencmg.Errorf(opencmg.Conflict, "gatewayId: gateway %s is a %s, and hosts join a gateway of the model %s only", g.Name, g.Value.Model, adminservice.ModelSelfHosted).About("gatewayId")
			}
			gateway = g.Value
		} else if in.Kind == joinGateway {
			return opencmg.Errorf(opencmg.Invalid, "gatewayId: a gateway host joins one gateway of the model %s", adminservice.ModelSelfHosted).About("gatewayId")
		}
		if err := rec.put(tx, kindJoinToken); err != nil {
			return err
		}
		return s.audit(r.Context(), tx, msgCreated, kindJoinToken, rec.ID, "made a join token for %d hosts of kind %s until %s", in.Uses, in.Kind, rec.Value.Expires.Format(time.RFC3339))
	})
	if err != nil {
		return err
	}
	out := joinToken(rec)
	if in.Kind == joinGateway {
		out.Token = adminservice.EncodeGatewayJoinToken(adminservice.GatewayJoinToken{
			Gateway: gateway.Prefix, ServiceName: gateway.ServiceName, Site: s.Code(), SiteCA: string(s.SiteCAPEM()), ID: rec.ID, Secret: secret, HTTPSPort: in.HTTPSPort, TunnelPort: in.TunnelPort,
		})
		return answerOne(w, http.StatusCreated, rec.Version, out)
	}
	out.Token = adminservice.EncodeJoinToken(adminservice.JoinToken{URL: s.cfg.URL, Site: s.Code(), SiteCA: pki.Thumbprint(s.SiteCA()), ID: rec.ID, Secret: secret})
	return answerOne(w, http.StatusCreated, rec.Version, out)
}

func (s *Server) deleteJoinToken(w http.ResponseWriter, r *http.Request) error {
	return remove[joinTokenRecord](s, w, r, kindJoinToken, "join token", nil)
}

// useJoinToken counts one use of a token by a host at addr, if it may be used.
func useJoinToken(tx *sitedb.Tx, id, secret, kind, addr string, now time.Time) (*record[joinTokenRecord], error) {
	rec, err := get[joinTokenRecord](tx, kindJoinToken, id)
	if err != nil || subtle.ConstantTimeCompare([]byte(rec.Value.Hash), []byte(hashToken(secret))) != 1 {
		return nil, opencmg.Errorf(opencmg.Unauthorized, "the join token is not known: it was revoked, or belongs to another site. Make a new one at this site")
	}
	if err := rec.Value.usable(kind, addr, now); err != nil {
		return nil, err
	}
	rec.Value.Uses--
	rec.Value.Used++
	return rec, rec.put(tx, kindJoinToken)
}

func (v *joinTokenRecord) usable(kind, addr string, now time.Time) error {
	switch {
	case v.Kind != kind:
		return opencmg.Errorf(opencmg.Forbidden, "the join token is for a %s, not for a %s: make one of that kind", v.Kind, kind)
	case now.After(v.Expires):
		return opencmg.Errorf(opencmg.Forbidden, "the join token expired at %s: make a new one", v.Expires.Format(time.RFC3339))
	case v.Uses < 1:
		return opencmg.Errorf(opencmg.Forbidden, "the join token is used up: make a new one")
	case len(v.Sources) > 0 && !within(addr, v.Sources):
		return opencmg.Errorf(opencmg.Forbidden, "the join token may not be used from %s, only from %s", addr, strings.Join(v.Sources, ", "))
	}
	return nil
}

func within(addr string, prefixes []string) bool {
	a, err := netip.ParseAddr(addr)
	if err != nil {
		return false
	}
	return slices.ContainsFunc(prefixes, func(s string) bool {
		p, err := netip.ParsePrefix(s)
		return err == nil && p.Contains(a.Unmap())
	})
}
