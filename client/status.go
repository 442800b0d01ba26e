package client

import (
	"fmt"
	"strings"
	"time"

	"github.com/opencmg/opencmg"
)

// Status is what a client knows about itself: the answer to "opencmg client
// status".
type Status struct {
	Location        string           `json:"location"` // CurrentlyIntranet or CurrentlyInternet
	ClientID        opencmg.ClientID `json:"clientId,omitempty"`
	Auth            Auth             `json:"auth"`
	Approval        string           `json:"approval"`
	Site            opencmg.SiteCode `json:"site,omitempty"`
	Gateway         string           `json:"gateway,omitempty"`         // e.g. gw.example.com/CCM_Proxy_MutualAuth/8
	Gateways        []string         `json:"gateways,omitempty"`        // all known
	ManagementPoint string           `json:"managementPoint,omitempty"` // inside, in use
	TokenExpires    time.Time        `json:"tokenExpires,omitzero"`
	Policies        int              `json:"policies"`
	LastPolicy      time.Time        `json:"lastPolicy,omitzero"`
	LastLocation    time.Time        `json:"lastLocation,omitzero"`
	LastHeartbeat   time.Time        `json:"lastHeartbeat,omitzero"`
	LastInventory   time.Time        `json:"lastInventory,omitzero"`
	StateDir        string           `json:"stateDir"`
	// Thumbprint is the SHA-256 of the client's own certificate.
	Thumbprint string `json:"thumbprint"`
}

// Status tells what the client knows, without asking anybody.
func (c *Client) Status() Status {
	st := c.state()
	s := Status{
		Location: c.where(), ClientID: st.ClientID, Auth: c.Auth(), Approval: approvalText(st.Approval), Site: st.siteCode(),
		Policies: len(st.Policies), LastPolicy: st.LastPolicy, LastLocation: st.LastLocation, LastHeartbeat: st.LastHeartbeat, LastInventory: st.LastInventory,
		StateDir: c.cfg.StateDir, Thumbprint: c.thumbprint(),
	}
	for _, g := range st.gateways() {
		s.Gateways = append(s.Gateways, g.String())
	}
	if st.Intranet {
		s.ManagementPoint = st.MP
	} else if len(s.Gateways) > 0 {
		s.Gateway = s.Gateways[0]
	}
	switch {
	case s.Auth == AuthEntra && st.CCMToken != nil:
		s.TokenExpires = st.CCMToken.Expires
	case s.Auth == AuthToken && st.ClientToken != nil:
		s.TokenExpires = st.ClientToken.Expires
	}
	return s
}

// String is the status as lines for people.
func (s Status) String() string {
	var b strings.Builder
	line := func(name, value string) {
		if value != "" {
			fmt.Fprintf(&b, "%-18s %s\n", name, value)
		}
	}
	at := func(name string, t time.Time) {
		if t.IsZero() {
			line(name, "never")
		} else {
			line(name, t.Local().Format("2006-01-02 15:04:05"))
		}
	}
	line("Connection", s.Location)
	line("Client ID", orElse(string(s.ClientID), "not registered"))
	line("Approval", s.Approval)
	line("Signs in by", map[Auth]string{AuthPKI: "PKI certificate", AuthEntra: "Microsoft Entra", AuthToken: "site token"}[s.Auth])
	if !s.TokenExpires.IsZero() {
		at("Token valid until", s.TokenExpires)
	}
	line("Site", string(s.Site))
	line("Gateway", s.Gateway)
	line("Management point", s.ManagementPoint)
	line("Policies", fmt.Sprint(s.Policies))
	at("Last policy", s.LastPolicy)
	at("Last location", s.LastLocation)
	at("Last heartbeat", s.LastHeartbeat)
	at("Last inventory", s.LastInventory)
	line("State", s.StateDir)
	return b.String()
}
