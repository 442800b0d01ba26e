package client

import (
	"context"
	"crypto"
	"fmt"
	"time"

	"github.com/opencmg/opencmg"
	"github.com/opencmg/opencmg/ccm"
	"github.com/opencmg/opencmg/pki"
)

// AgentVersion is what clients report as their version.
const AgentVersion = "5.00.9128.1000"

// confirmations is how often a client asks how its pending registration went
// before it goes on without an answer (wire.md 5.3).
const confirmations = 6

// key signs messages.
func (c *Client) key() crypto.Signer { return c.identity.PrivateKey.(crypto.Signer) }

// Register makes the device known to the site, or confirms that it is.
// Repeating it is safe: the site knows the client by its key.
func (c *Client) Register(ctx context.Context) (StepResult, error) {
	const component = "ClientIDManagerStartup"
	return c.step(StepRegister, component, func(r *StepResult) error {
		st := c.state()
		c.log.Info("sending registration", "component", component, "client", string(st.ClientID), "auth", string(c.Auth()))
		text, err := c.registrationRequest(ccm.Registration, st.ClientID)
		if err != nil {
			return err
		}
		c.at("registration sent")
		reply, a, err := c.post(ctx, letter{endpoint: ccm.EndpointRegistration, text: text, need: anyToken, replyTo: "ClientRegistration", component: component})
		if err != nil {
			return err
		}
		r.CorrelationID = a.correlationID
		resp, err := ccm.ParseRegistrationResponse(reply)
		if err != nil {
			return err
		}
		if resp.Status == ccm.Pending {
			if resp, err = c.confirm(ctx, resp); err != nil {
				return err
			}
		}
		switch {
		case resp.Status != ccm.Registered && resp.Status != ccm.Pending:
			return opencmg.Errorf(opencmg.Forbidden, "the site refused to register this client (status %d); its log MP_RegistrationManager says why", resp.Status)
		case resp.SMSID == "":
			return opencmg.Errorf(opencmg.Invalid, "the site registered this client without giving it an ID")
		}
		if st.ClientID != "" && st.ClientID != resp.SMSID {
			c.log.Warn("the site gave this client a new ID", "component", component, "client", string(resp.SMSID), "old", string(st.ClientID))
		}
		auth, shown := c.Auth(), c.shown()
		err = c.update(func(s *state) {
			if s.ClientID != resp.SMSID {
				s.ClientToken, s.ServerCookie, s.Policies = nil, time.Time{}, nil
			}
			s.ClientID, s.Approval, s.Registered = resp.SMSID, resp.ApprovalStatus, c.cfg.Now()
			s.RegisteredAuth, s.RegisteredCertificate = auth, shown
		})
		if err != nil {
			return err
		}
		c.at("registration saved")
		c.log.Info("client is registered", "component", component, "client", string(resp.SMSID), "Approval status", int(resp.ApprovalStatus))
		r.Detail = fmt.Sprintf("%s, %s", resp.SMSID, approvalText(resp.ApprovalStatus))
		return nil
	})
}

// shown is the thumbprint of the certificate that servers see in TLS now.
func (c *Client) shown() string {
	if c.Auth() == AuthPKI {
		return pki.Thumbprint(c.pki.Load().Leaf)
	}
	return c.thumbprint()
}

// confirm asks until the site has decided. A registration that is still pending
// then is no failure: an administrator has to approve it, and the next
// registration will tell.
func (c *Client) confirm(ctx context.Context, resp ccm.RegistrationResponse) (ccm.RegistrationResponse, error) {
	ticker := time.NewTicker(c.settings().Confirm)
	defer ticker.Stop()
	for n := 0; n < confirmations && resp.Status == ccm.Pending && resp.SMSID != ""; n++ {
		select {
		case <-ctx.Done():
			return resp, ctx.Err()
		case <-ticker.C:
		}
		text, err := c.registrationRequest(ccm.Confirmation, resp.SMSID)
		if err != nil {
			return resp, err
		}
		reply, _, err := c.post(ctx, letter{endpoint: ccm.EndpointRegistration, text: text, need: anyToken, replyTo: "ClientRegistration", component: "ClientIDManagerStartup"})
		if err != nil {
			return resp, err
		}
		if resp, err = ccm.ParseRegistrationResponse(reply); err != nil {
			return resp, err
		}
	}
	return resp, nil
}

func (c *Client) registrationRequest(kind string, id opencmg.ClientID) (string, error) {
	cert := ccm.Certificate{KeyType: ccm.KeySelfSigned, Certificate: c.identity.Leaf}
	internet := "1"
	if c.state().Installation.AlwaysInternet {
		internet = "2"
	}
	r := ccm.RegistrationRequest{
		RequestType: kind, SMSID: id, TimeStamp: c.cfg.Now(),
		AgentIdentity: "OpenCMG", AgentVersion: AgentVersion,
		Signing: cert, Encryption: cert,
		Properties: []ccm.Property{
			{Name: "Netbios Name", Value: c.host.NetBIOSName},
			{Name: "FQ Name", Value: c.host.FQDN},
			{Name: "Locale ID", Value: "1033"},
			{Name: "InternetFlag", Value: internet},
		},
	}
	return r.Encode(c.key())
}

// Token gets or renews the token that later requests carry: from the token
// service for Entra and PKI clients, from MP_TokenManager otherwise. A PKI
// client's requests need none; it asks to show that the exchange works.
func (c *Client) Token(ctx context.Context) (StepResult, error) {
	const component = "ClientIDManagerStartup"
	return c.step(StepToken, component, func(r *StepResult) error {
		id, err := c.registered()
		if err != nil {
			return err
		}
		routes, err := c.routes()
		if err != nil {
			return err
		}
		if !routes[0].internet && (routes[0].auth != AuthToken || len(c.state().gateways()) == 0) {
			r.Detail = "none needed inside"
			return nil
		}
		// A token client gets its token inside as well, for the day it leaves.
		if routes[0].auth == AuthToken {
			return c.clientToken(ctx, id, r)
		}
		var t *siteToken
		var last error
		for i := range routes {
			c.tokens.Lock()
			var a *answer
			t, a, last = c.exchange(ctx, &routes[i])
			c.tokens.Unlock()
			if last == nil {
				r.CorrelationID = a.correlationID
				r.Detail = "CCM token until " + t.Expires.UTC().Format(time.RFC3339)
				return nil
			}
			if ctx.Err() != nil {
				break
			}
		}
		return last
	})
}

// clientToken asks for the 90-day token. Its request may carry the bulk token,
// which is forgotten once a token of the client's own is on disk.
func (c *Client) clientToken(ctx context.Context, id opencmg.ClientID, r *StepResult) error {
	c.tokens.Lock()
	defer c.tokens.Unlock()
	if t := c.state().ClientToken; t != nil && t.ClientID == id && c.cfg.Now().Before(t.Renew) {
		r.Detail = "client token until " + t.Expires.UTC().Format(time.RFC3339)
		return nil
	}
	text := ccm.TokenManagerRequest{RequestType: ccm.TokenRequestIssue, ClientID: id}.Encode()
	reply, a, err := c.post(ctx, letter{endpoint: ccm.EndpointToken, text: text, need: anyToken, signed: true, component: "ClientIDManagerStartup"})
	if err != nil {
		return err
	}
	r.CorrelationID = a.correlationID
	t, err := ccm.ParseTokenManagerReply(reply)
	if err != nil {
		return err
	}
	if t.ClientID != id {
		return opencmg.Errorf(opencmg.Invalid, "the site gave this client a token of %s", t.ClientID)
	}
	if t.Renew.IsZero() {
		t.Renew = c.cfg.Now().Add(ccm.ClientTokenRenewal)
	}
	c.at("token received")
	err = c.update(func(s *state) {
		s.ClientToken = &siteToken{Token: Secret(t.Token), ID: t.ID, Expires: t.Expires, Renew: t.Renew, ClientID: id}
		s.Installation.RegistrationToken = ""
	})
	if err != nil {
		return err
	}
	c.at("token saved")
	r.Detail = "client token until " + t.Expires.UTC().Format(time.RFC3339)
	return nil
}

// thumbprint is that of the identity, for logs.
func (c *Client) thumbprint() string { return pki.Thumbprint(c.identity.Leaf) }
