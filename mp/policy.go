package mp

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/opencmg/opencmg"
	"github.com/opencmg/opencmg/ccm"
	"github.com/opencmg/opencmg/sitedb"
)

// Settings are what the default policies tell every client. Zero fields have
// the defaults that administrators know (cmg-behaviour 7.1).
type Settings struct {
	DenyGateway       bool          // clients may not use a cloud management gateway
	CloudContent      bool          // clients may have content from gateways
	EntraJoin         bool          // Windows clients of a domain register with Entra ID
	PolicyInterval    time.Duration // between policy requests; default 60 min
	LocationInterval  time.Duration // between location requests; default 24 h
	InventoryInterval time.Duration // between hardware inventories; default 7 days
	DiscoveryInterval time.Duration // between heartbeats; default 7 days
	StateInterval     time.Duration // between state reports; default 15 min
	KeepAlive         time.Duration // of notification; default 15 min
	// NotificationPort is the TCP port of the fast channel; 0 means none.
	NotificationPort int
}

// defaultPolicies are one policy per subject, so that a change of one setting
// is one small download.
func (s *Server) defaultPolicies(c Settings) []ccm.Policy {
	minutes := func(name string, d, fallback time.Duration) ccm.PolicyProperty {
		if d == 0 {
			d = fallback
		}
		return ccm.NumberSetting(name, max(1, int(d/time.Minute)))
	}
	keepAlive := c.KeepAlive
	if keepAlive == 0 {
		keepAlive = 15 * time.Minute
	}
	var policies []ccm.Policy
	for _, p := range []struct {
		name       string
		properties []ccm.PolicyProperty
	}{
		{"gateway", []ccm.PolicyProperty{ccm.BooleanSetting(ccm.SettingUseGateway, !c.DenyGateway), ccm.BooleanSetting(ccm.SettingUseCloudContent, c.CloudContent), ccm.BooleanSetting(ccm.SettingEntraJoin, c.EntraJoin), minutes(ccm.SettingLocationInterval, c.LocationInterval, 24*time.Hour)}},
		{"policy", []ccm.PolicyProperty{minutes(ccm.SettingPolicyInterval, c.PolicyInterval, time.Hour)}},
		{"inventory", []ccm.PolicyProperty{minutes(ccm.SettingInventoryInterval, c.InventoryInterval, 7*24*time.Hour), minutes(ccm.SettingDiscoveryInterval, c.DiscoveryInterval, 7*24*time.Hour)}},
		{"state", []ccm.PolicyProperty{minutes(ccm.SettingStateInterval, c.StateInterval, 15*time.Minute)}},
		{"notification", []ccm.PolicyProperty{ccm.NumberSetting(ccm.SettingNotificationKeepAlive, max(1, int(keepAlive/time.Second))), ccm.NumberSetting(ccm.SettingNotificationTCPPort, c.NotificationPort)}},
	} {
		policies = append(policies, ccm.Policy{
			ID: s.stableGUID("policy " + p.name), Version: "1.00", Type: "Machine", Source: "SMS:" + string(s.c.Site),
			Rules: []ccm.PolicyRule{{ID: s.stableGUID("rule " + p.name), Actions: []ccm.PolicyAction{{Type: "WMI-XML", Instances: []ccm.PolicyInstance{{Class: ccm.SettingsClass, Properties: p.properties}}}}}},
		})
	}
	return policies
}

// stableGUID is a name-based GUID (RFC 9562 version 8), the same at every
// start.
func (s *Server) stableGUID(name string) string {
	b := sha256.Sum256([]byte("opencmg " + string(s.c.Site) + " " + name))
	b[6], b[8] = b[6]&0x0f|0x80, b[8]&0x3f|0x80
	return fmt.Sprintf("{%X-%X-%X-%X-%X}", b[:4], b[4:6], b[6:8], b[8:10], b[10:16])
}

// UseSettings replaces Config.Settings: clients have them with their next policy
// request.
func (s *Server) UseSettings(ctx context.Context, settings Settings) error {
	for _, p := range s.defaultPolicies(settings) {
		if err := s.AssignPolicy(ctx, p, ccm.CategoryClientSettings, ccm.PolicyPersistWhole, ""); err != nil {
			return err
		}
	}
	return nil
}

// AssignPolicy gives a policy to a client, or to all clients when client is
// empty.
func (s *Server) AssignPolicy(ctx context.Context, p ccm.Policy, category string, flags ccm.PolicyFlags, client opencmg.ClientID) error {
	body := p.Encode()
	return s.c.DB.AssignPolicy(ctx, s.stableGUID("assignment "+p.ID+" "+string(client)),
		sitedb.Policy{ID: p.ID, Version: p.Version, Type: p.Type, Category: category, Flags: uint32(flags), Hash: ccm.PolicyHash(body), Body: body}, client)
}

// assignments answers MP_PolicyManager (wire.md 6.1).
func (s *Server) assignments(ctx context.Context, l *letter) (string, error) {
	x, c := l.x, l.client
	r, err := ccm.ParseAssignmentRequest(l.Text)
	if err != nil {
		x.refuse("silent: %v", err)
		return "", errSilent
	}
	if r.ClientID != "" && r.ClientID != c.ID {
		x.refuse("silent: client %s asked for policy of %s", c.ID, r.ClientID)
		return "", errSilent
	}
	// Who asks again and again costs the database nothing more.
	if s.now().Sub(c.LastPolicy) >= time.Minute {
		if err := s.c.DB.PolicyRequested(ctx, c.ID); err != nil {
			s.log.Warn("the policy request is not noted", "component", "MP_Policy", "request_id", x.id, "client", string(c.ID), "err", err)
		}
	}
	reply := ccm.AssignmentReply{ClientID: c.ID, PolicySource: "SMS:" + string(s.c.Site), ResourceType: r.ResourceType, ServerCookie: r.ServerCookie}
	var since time.Time
	if r.OnUpdate && !r.ServerCookie.IsZero() {
		reply.Delta, since = true, r.ServerCookie
	}
	// There is no user policy yet; the empty list is the right answer.
	if !strings.EqualFold(r.ResourceType, "User") {
		list, latest, err := s.c.DB.Assignments(ctx, c.ID, since)
		if err != nil {
			return "", err
		}
		reply.ServerCookie = latest
		for _, a := range list {
			flags := ccm.PolicyFlags(a.Policy.Flags)
			if x.outside() && flags&ccm.PolicyIntranetOnly != 0 {
				continue
			}
			y := ccm.Assignment{ID: a.ID, Policy: ccm.PolicyReference{
				ID: a.Policy.ID, Version: a.Policy.Version, Type: a.Policy.Type, Category: a.Policy.Category, Flags: flags,
				Hash: a.Policy.Hash, Location: ccm.PolicyLocation(a.Policy.ID, a.Policy.Hash),
			}}
			if a.Removed {
				y.Action = ccm.ActionDelete
			}
			reply.Assignments = append(reply.Assignments, y)
		}
	}
	if reply.ServerCookie.IsZero() {
		reply.ServerCookie = s.now()
	}
	s.log.Info("policy assignments", "component", "MP_Policy", "request_id", x.id, "client", string(c.ID), "count", len(reply.Assignments), "delta", reply.Delta)
	x.note("%d policy assignments, delta=%v", len(reply.Assignments), reply.Delta)
	return reply.Encode(), nil
}

// policyBody answers .sms_pol (wire.md 6.2). Policy that is assigned to
// everybody and not secret is given to every caller; anything else to its
// client, who proves itself by signed header fields or by its identity.
func (s *Server) policyBody(w http.ResponseWriter, r *http.Request) error {
	x := exchangeOf(r)
	if err := s.refuseBulk(x); err != nil {
		return err
	}
	id, suffix, err := ccm.ParsePolicyQuery(r.URL.RawQuery)
	if err != nil {
		x.refuse("refused: %v", err)
		return err
	}
	p, err := s.c.DB.Policy(r.Context(), id)
	if err != nil {
		x.refuse("refused: %v", err)
		return err
	}
	proved, err := s.headerProof(r, x)
	if err != nil {
		return err
	}
	log := s.log.With("component", "MP_Policy", "request_id", x.id, "client", string(x.client), "policy", id)
	if ccm.PolicyFlags(p.Flags).NeedsProof() && !proved {
		if x.verdict == "" {
			x.refuse("refused: the policy is secret and the request has no proof of identity")
		}
		log.Info("secret policy refused", "reason", x.verdict)
		w.Header().Set("Content-Type", "text/html")
		_, err := io.WriteString(w, ccm.SecretPolicyRefusal)
		return err
	}
	if !proved && x.caller.Auth != opencmg.AuthNone {
		if c, err := s.registered(r.Context(), x); err == nil {
			x.client = c.ID
		}
		x.verdict = "" // being nobody is no refusal yet
	}
	if p, err = s.c.DB.PolicyFor(r.Context(), x.client, id); err != nil {
		x.refuse("refused: policy %s is not assigned to the caller (%q)", id, x.client)
		return opencmg.Errorf(opencmg.NotFound, "there is no such policy for this caller")
	}
	if !strings.EqualFold(suffix, p.Hash) && suffix != strings.ReplaceAll(p.Version, ".", "_") && suffix != p.Version {
		// A client that asks for an old body gets the new one and will find
		// that its hash differs, unless told that there is none.
		x.refuse("refused: policy %s has no body %.100s", id, suffix)
		return opencmg.Errorf(opencmg.NotFound, "this version of the policy is gone; ask for assignments again")
	}
	log.Info("policy body", "bytes", len(p.Body))
	w.Header().Set("Content-Type", "text/plain; charset=UTF-16")
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(p.Body))
	return nil
}

// headerProof checks the signed header fields, if there are any, and notes
// the client that they prove. A wrong proof counts as none.
func (s *Server) headerProof(r *http.Request, x *exchange) (bool, error) {
	proof, err := ccm.ParseClientProof(r.Header.Get)
	if proof == nil && err == nil {
		return false, nil
	}
	if err != nil {
		x.refuse("refused: proof of identity: %v", err)
		return false, nil
	}
	c, err := s.c.DB.Client(r.Context(), proof.ClientID)
	switch {
	case err != nil && errors.Is(err, opencmg.NotFound):
		x.refuse("refused: proof of identity: client %s is not registered", proof.ClientID)
		return false, nil
	case err != nil:
		return false, err
	}
	if err := proof.Verify(publicKey(c.Signing), s.now()); err != nil {
		x.refuse("refused: proof of identity of %s: %v", c.ID, err)
		return false, nil
	}
	if why := contradicts(x.caller, c); why != "" || !c.Approval.Trusted() {
		x.refuse("refused: proof of identity of %s: approval %d %s", c.ID, c.Approval, why)
		return false, nil
	}
	x.client = c.ID
	return true, nil
}

// document answers .sms_dcm: configuration items are not served yet.
func (s *Server) document(w http.ResponseWriter, r *http.Request) error {
	x := exchangeOf(r)
	if err := s.refuseBulk(x); err != nil {
		return err
	}
	x.refuse("refused: this management point serves no configuration-item documents")
	return opencmg.Errorf(opencmg.NotFound, "this management point serves no configuration-item documents")
}
