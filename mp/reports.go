package mp

import (
	"context"
	"errors"
	"strings"

	"github.com/opencmg/opencmg"
	"github.com/opencmg/opencmg/ccm"
	"github.com/opencmg/opencmg/sitedb"
)

// accepted is the answer to a stored report: nothing, unless the sender waits.
func accepted(l *letter) (string, error) {
	if strings.EqualFold(l.ReplyMode, ccm.ReplySync) {
		return ccm.ReportAccepted, nil
	}
	return "", nil
}

// report reads the last complete report of a message (wire.md 8.2) and demands
// that it is about the client that signed it.
func (l *letter) report() (string, *ccm.Report, error) {
	text, err := ccm.LastReport(l.Text)
	if err != nil {
		l.x.refuse("refused: %v", err)
		return "", nil, err
	}
	r, err := ccm.ParseReport(text)
	if err != nil {
		l.x.refuse("refused: %v", err)
		return "", nil, err
	}
	if r.ClientID != "" && r.ClientID != l.client.ID {
		l.x.refuse("refused: %s sent a report of %s", l.client.ID, r.ClientID)
		return "", nil, opencmg.Errorf(opencmg.Forbidden, "the report is about another client")
	}
	return text, r, nil
}

// discovery answers MP_DdrEndpoint: the heartbeat.
func (s *Server) discovery(ctx context.Context, l *letter) (string, error) {
	text, r, err := l.report()
	if err != nil {
		return "", err
	}
	if err := s.c.DB.SaveDDR(ctx, sitedb.Report{ClientID: l.client.ID, Action: ccm.ActionDiscovery, Full: r.Full, Written: r.Date, XML: text}, clip(r.NetBIOSName), clip(r.ClientVersion)); err != nil {
		return "", err
	}
	s.log.Info("discovery data stored", "component", "MP_Ddr", "request_id", l.x.id, "client", string(l.client.ID), "instances", len(r.Instances))
	l.x.note("discovery data, %d instances", len(r.Instances))
	return accepted(l)
}

// inventory answers MP_HinvEndpoint and MP_SinvEndpoint.
func (s *Server) inventory(ctx context.Context, l *letter) (string, error) {
	text, r, err := l.report()
	if err != nil {
		return "", err
	}
	action := ccm.ActionHardware
	if strings.EqualFold(l.TargetEndpoint, ccm.EndpointSoftware) {
		action = ccm.ActionSoftware
	}
	if err := s.c.DB.SaveInventory(ctx, sitedb.Report{ClientID: l.client.ID, Action: action, Full: r.Full, Written: r.Date, XML: text}); err != nil {
		return "", err
	}
	s.log.Info("inventory stored", "component", "MP_Hinv", "request_id", l.x.id, "client", string(l.client.ID), "action", action, "instances", len(r.Instances), "full", r.Full)
	l.x.note("inventory %s, %d instances", action, len(r.Instances))
	return accepted(l)
}

// relay answers MP_RelayEndpoint: state messages. The vendor's library does not
// sign them (wire.md 8.3); such a message counts when the caller's identity
// shows that it is its client.
func (s *Server) relay(ctx context.Context, l *letter) (string, error) {
	if l.Auth != nil {
		if err := s.verifySender(ctx, l); err != nil {
			return "", err
		}
	} else {
		c, err := s.c.DB.Client(ctx, l.SourceID)
		if err != nil && !errors.Is(err, opencmg.NotFound) {
			return "", err
		}
		unproved := s.c.AcceptUnsignedState && !l.x.outside() && contradicts(l.x.caller, c) == ""
		if err != nil || !c.Approval.Trusted() || !proves(l.x.caller, c) && !unproved {
			l.x.refuse("silent: an unsigned state message of %q from a caller that does not prove to be it", l.SourceID)
			return "", errSilent
		}
		l.client, l.x.client = c, c.ID
	}
	_, r, err := l.report()
	if err != nil {
		return "", err
	}
	messages := make([]sitedb.StateMessage, 0, len(r.States))
	for _, m := range r.States {
		messages = append(messages, sitedb.StateMessage{TopicType: m.TopicType, TopicID: clip(m.TopicID), StateID: m.StateID, Criticality: m.Criticality, Serial: m.SerialNumber, Parameters: m.Parameters, Written: m.Time})
	}
	if err := s.c.DB.SaveStateMessages(ctx, l.client.ID, messages); err != nil {
		return "", err
	}
	s.log.Info("state messages stored", "component", "MP_Relay", "request_id", l.x.id, "client", string(l.client.ID), "count", len(messages))
	l.x.note("%d state messages", len(messages))
	return accepted(l)
}

// status answers StatusReceiver.
func (s *Server) status(ctx context.Context, l *letter) (string, error) {
	m, err := ccm.ParseStatus(l.Text)
	if err != nil {
		l.x.refuse("refused: %v", err)
		return "", err
	}
	properties := map[string]string{}
	for _, p := range m.Properties {
		if len(properties) < 64 {
			properties[clip(p.Name)] = p.Value
		}
	}
	if err := s.c.DB.SaveStatusMessage(ctx, l.client.ID, clip(m.Type), properties); err != nil {
		return "", err
	}
	s.log.Info("status message stored", "component", "MP_Status", "request_id", l.x.id, "client", string(l.client.ID), "type", m.Type)
	return accepted(l)
}
