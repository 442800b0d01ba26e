package mp

import (
	"context"
	"crypto/rsa"
	"crypto/x509"
	"errors"
	"net/netip"

	"github.com/opencmg/opencmg"
	"github.com/opencmg/opencmg/ccm"
	"github.com/opencmg/opencmg/pki"
	"github.com/opencmg/opencmg/sitedb"
)

// publicKey returns a client certificate's key; registrations with another kind
// of key are refused when they are read.
func publicKey(cert *x509.Certificate) *rsa.PublicKey {
	key, ok := cert.PublicKey.(*rsa.PublicKey)
	if !ok {
		return &rsa.PublicKey{}
	}
	return key
}

// register answers MP_ClientRegistration (wire.md 5).
func (s *Server) register(ctx context.Context, l *letter) (string, error) {
	x := l.x
	log := s.log.With("component", "MP_RegistrationManager", "request_id", x.id)
	fail := func(kind string, format string, args ...any) (string, error) {
		x.refuse("refused registration: "+format, args...)
		log.Warn("registration refused", "reason", x.verdict, "auth", string(x.caller.Auth))
		s.metrics.registrations.WithLabelValues("refused").Inc()
		return ccm.RegistrationResponse{ResponseType: kind, TimeStamp: s.now(), Status: ccm.Failed, ApprovalStatus: ccm.ApprovalUnknown}.Encode(), nil
	}
	r, err := ccm.ParseRegistration(l.Text)
	if err != nil {
		return fail(ccm.Registration, "%v", err)
	}
	if r.RequestType == ccm.Confirmation {
		return s.confirm(ctx, l, r, fail)
	}
	if err := r.Verify(nil); err != nil {
		return fail(r.RequestType, "%v, by the key that it brings", err)
	}
	signing := pki.Thumbprint(r.Signing.Certificate)
	// Tokens are bound to the key that is registered here, so a caller that
	// proved another one in TLS would get tokens that it can not use. Vendor's
	// clients prove none on the token path: the signature above is their proof
	// (wire.md 2.2), and bulk and Entra tokens are bearer tokens either way.
	if x.caller.Auth.ByToken() && x.caller.Thumbprint != "" && x.caller.Thumbprint != signing {
		return fail(r.RequestType, "the certificate presented in TLS is not the signing certificate of the registration")
	}
	c := sitedb.Client{
		ID: r.SMSID, NetBIOSName: clip(r.NetBIOSName()), FQDN: clip(r.FQDN()), AgentVersion: clip(r.AgentVersion), Auth: x.caller.Auth,
		TenantID: x.caller.TenantID, DeviceID: x.caller.DeviceID, Subject: x.caller.Subject, Thumbprint: x.caller.Thumbprint,
		Signing: r.Signing.Certificate, Encryption: r.Encryption.Certificate, Approval: s.approval(x.caller),
	}
	if x.caller.Auth == opencmg.AuthEntra {
		log.Info("registering by Entra", "DeviceId", x.caller.DeviceID, "TenantId", x.caller.TenantID)
	}
	reg := sitedb.Registration{Client: c}
	if x.caller.Auth == opencmg.AuthBulkToken {
		reg.TokenID = x.caller.TokenID
		reg.Source, _ = netip.ParseAddr(x.caller.Source) // the zero value is in no prefix
	}
	stored, outcome, err := s.c.DB.RegisterClient(ctx, reg)
	if refusal, ok := errors.AsType[*sitedb.TokenRefusal](err); ok {
		// The caller sees what it would see for a token that is blocked.
		x.refuse("refused registration: %v", refusal)
		log.Warn("registration refused", "reason", x.verdict, "auth", string(x.caller.Auth), "token", reg.TokenID, "source", x.caller.Source)
		s.metrics.registrations.WithLabelValues("refused").Inc()
		return "", errTokenRefused
	}
	if err != nil {
		return "", err
	}
	x.client = stored.ID
	x.note("registration: %s, approval %d", outcome, stored.Approval)
	log.Info("client registered", "client", string(stored.ID), "outcome", string(outcome), "approval", int(stored.Approval), "auth", string(x.caller.Auth), "name", stored.NetBIOSName, "group", stored.Group)
	s.metrics.registrations.WithLabelValues(string(outcome)).Inc()
	return s.registrationResponse(ccm.Registration, stored), nil
}

// approval decides how far a newcomer is trusted (wire.md 5.2).
func (s *Server) approval(id opencmg.Identity) sitedb.Approval {
	switch {
	case id.Auth == opencmg.AuthEntra, id.Auth == opencmg.AuthCCMToken && id.TenantID != "":
		return sitedb.ApprovedByEntra
	case id.Auth == opencmg.AuthPKI, id.Auth.ByToken(), s.c.ApproveAll:
		return sitedb.Approved
	}
	return sitedb.ApprovalPending
}

// confirm answers a client that asks how its registration went.
func (s *Server) confirm(ctx context.Context, l *letter, r *ccm.RegistrationRequest, fail func(string, string, ...any) (string, error)) (string, error) {
	c, err := s.c.DB.Client(ctx, r.SMSID)
	if errors.Is(err, opencmg.NotFound) {
		return fail(ccm.Confirmation, "client %s is not registered", r.SMSID)
	}
	if err != nil {
		return "", err
	}
	if err := r.Verify(publicKey(c.Signing)); err != nil {
		return fail(ccm.Confirmation, "%v, by the key that %s registered", err, c.ID)
	}
	l.x.client = c.ID
	return s.registrationResponse(ccm.Confirmation, c), nil
}

func (s *Server) registrationResponse(kind string, c sitedb.Client) string {
	r := ccm.RegistrationResponse{ResponseType: kind, TimeStamp: s.now(), SMSID: c.ID, ApprovalStatus: ccm.ApprovalStatus(c.Approval)}
	switch c.Approval {
	case sitedb.ApprovalPending:
		r.Status = ccm.Pending
	case sitedb.ApprovalRefused:
		r.Status = ccm.Failed
	}
	return r.Encode()
}

// clientID answers MP_ClientIdManager. The hardware inventory is not searched
// yet, so nobody is found.
func (s *Server) clientID(ctx context.Context, l *letter) (string, error) {
	if _, err := ccm.ParseClientIDQuery(l.Text); err != nil {
		l.x.refuse("refused: %v", err)
		return "", err
	}
	return ccm.ClientIDReply("", ""), nil
}

// clip bounds a name that a client gives itself.
func clip(s string) string {
	if len(s) > 256 {
		return s[:256]
	}
	return s
}
