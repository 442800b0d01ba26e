package client

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"

	"github.com/opencmg/opencmg"
	"github.com/opencmg/opencmg/ccm"
	"github.com/opencmg/opencmg/pki"
)

// Policy asks for assignments and downloads the body of every policy whose
// body is not on disk. Bodies are checked against the hash of their
// assignment; what the site took away is deleted.
func (c *Client) Policy(ctx context.Context) (StepResult, error) {
	const component = "PolicyAgent"
	return c.step(StepPolicy, component, func(r *StepResult) error {
		id, err := c.registered()
		if err != nil {
			return err
		}
		st := c.state()
		request := ccm.AssignmentRequest{
			OnUpdate: !st.ServerCookie.IsZero(), ServerCookie: st.ServerCookie,
			ClientID: id, FQDN: c.host.FQDN, NetBIOSName: c.host.NetBIOSName,
			PolicySource: "SMS:" + string(st.siteCode()),
		}
		text, a, err := c.post(ctx, letter{endpoint: ccm.EndpointPolicy, text: request.Encode(), need: clientProof, signed: true, replyTo: "PolicyAgent_ReplyAssignments", component: component})
		if err != nil {
			return err
		}
		r.CorrelationID = a.correlationID
		reply, err := ccm.ParseAssignmentReply(text)
		if err != nil {
			return err
		}
		if reply.ClientID != id {
			return opencmg.Errorf(opencmg.Invalid, "the management point answered with the policy of %s", reply.ClientID)
		}
		next := map[string]policyRecord{}
		if reply.Delta {
			for k, v := range st.Policies {
				next[k] = v
			}
		}
		fresh, skipped := 0, 0
		for _, as := range reply.Assignments {
			p := as.Policy
			if as.Action == ccm.ActionDelete {
				delete(next, p.ID)
				continue
			}
			if p.Flags&ccm.PolicyIntranetOnly != 0 && !st.Intranet && p.Flags&ccm.PolicySecret == 0 {
				skipped++
				continue
			}
			record := policyRecord{Version: p.Version, Hash: p.Hash, Assignment: as.ID, File: policyFile(p.ID, p.Hash)}
			path := filepath.Join(c.cfg.StateDir, policyDir, record.File)
			if old, ok := st.Policies[p.ID]; !ok || old.Hash != p.Hash || old.File != record.File || !exists(path) {
				body, err := c.policyBody(ctx, id, p)
				if err != nil {
					return err
				}
				if err := pki.WriteFile(path, body, 0o600); err != nil {
					return opencmg.Errorf(opencmg.Unavailable, "keep policy: %w", err)
				}
				fresh++
				c.log.Info("downloaded policy", "component", component, "policy", p.ID, "version", p.Version, "bytes", len(body))
			}
			next[p.ID] = record
		}
		c.at("policies downloaded")
		if err := c.update(func(s *state) {
			s.Policies, s.ServerCookie, s.LastPolicy = next, reply.ServerCookie, c.cfg.Now()
		}); err != nil {
			return err
		}
		c.loadSettings()
		for k, old := range st.Policies {
			if next[k].File != old.File {
				os.Remove(filepath.Join(c.cfg.StateDir, policyDir, old.File))
			}
		}
		r.Detail = fmt.Sprintf("%s, %d new", plural(len(next), "policy"), fresh)
		if skipped > 0 {
			r.Detail += fmt.Sprintf(", %d for the intranet only", skipped)
		}
		return nil
	})
}

// policyBody downloads one body.
func (c *Client) policyBody(ctx context.Context, id opencmg.ClientID, p ccm.PolicyReference) ([]byte, error) {
	a, _, err := c.send(ctx, clientProof, func(r *route) (*call, error) {
		u, err := p.URL(r.base)
		if err != nil {
			return nil, err
		}
		q := &call{method: http.MethodGet, url: u, component: "DataTransferService"}
		// The proof does no harm where none is needed, and saves a second
		// request where it is.
		q.header, err = ccm.ProofHeaders(c.key(), id, c.cfg.Now())
		return q, err
	})
	if err != nil {
		return nil, fmt.Errorf("policy %s: %w", p.ID, err)
	}
	if p.Hash != "" && ccm.PolicyHash(a.body) != p.Hash {
		return nil, opencmg.Errorf(opencmg.Invalid, "policy %s: the body that arrived does not have the assigned hash", p.ID)
	}
	if _, err := ccm.ParsePolicy(a.body); err != nil {
		return nil, fmt.Errorf("policy %s: %w", p.ID, err)
	}
	return a.body, nil
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}
