package console

import (
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/opencmg/opencmg/adminservice"
)

// Adding a site system by a join token, which is shown once.

// joinPage is what the page shows that makes a join token.
type joinPage struct {
	Kind     string // of the site system
	Gateways []adminservice.Gateway
	Token    *adminservice.JoinTokenRecord // that was made
	Since    time.Time                     // when
	Joined   []joined                      // since then
}

type joined struct {
	Name, Href string
	At         time.Time
	Connected  bool
}

// Command is the first word after opencmg.
func (p joinPage) Command() string {
	if p.Kind == adminservice.SystemManagementPoint {
		return "mp"
	}
	return p.Kind
}

// ConfigFile is what joining writes.
func (p joinPage) ConfigFile() string { return p.Command() + ".yaml" }

func loadJoin(v *Visit, kind string) (any, error) {
	p := joinPage{Kind: kind}
	var err error
	if p.Gateways, err = list[adminservice.Gateway](v, "Gateways?$orderby=name"); err != nil {
		return nil, err
	}
	id := v.Query("token")
	if id == "" || v.Request.Method == "POST" {
		return p, nil
	}
	tokens, err := list[adminservice.JoinTokenRecord](v, "JoinTokens?search="+url.QueryEscape(id))
	if err != nil {
		return nil, err
	}
	for _, t := range tokens {
		if t.ID == id && t.Kind == kind {
			p.Token = &t
		}
	}
	if p.Token == nil {
		return nil, notThere("join token", id)
	}
	since, err := time.Parse(time.RFC3339, v.Query("since"))
	if err != nil {
		return p, nil
	}
	p.Since = since
	if kind == adminservice.SystemConnectionPoint {
		points, err := list[adminservice.ConnectionPoint](v, "ConnectionPoints?$orderby=joined+desc")
		if err != nil {
			return nil, err
		}
		for _, o := range points {
			if !o.Joined.Before(since) && o.GatewayID == p.Token.GatewayID {
				p.Joined = append(p.Joined, joined{o.Name, "connection-points/" + o.ID, o.Joined, o.Connected})
			}
		}
		slices.Reverse(p.Joined)
		return p, nil
	}
	if p.Token.Used > 0 {
		roles, err := list[adminservice.SiteRole](v, "SiteRoles")
		if err != nil {
			return nil, err
		}
		for _, o := range roles {
			if o.Own && !o.LastReport.Before(since) {
				p.Joined = append(p.Joined, joined{o.Name, "roles/" + o.ID, o.LastReport, true})
			}
		}
	}
	return p, nil
}

// address is the page that waits for those who join with the token.
func (p joinPage) address() string {
	page := "connection-points/new"
	if p.Kind == adminservice.SystemManagementPoint {
		page = "roles/join"
	}
	return page + "?token=" + url.QueryEscape(p.Token.ID) + "&since=" + url.QueryEscape(p.Since.UTC().Format(time.RFC3339))
}

// joinMakers are the forms of the pages that wait for whom they are for.
func joinMakers(c *Console) []maker {
	return []maker{
		{pattern: "connection-points/new", page: "connection-points/new", node: "connection-points", fields: fieldNames{"gatewayId": "gateway"}, make: func(v *Visit) (*once, error) {
			return makeJoinToken(v, c.cfg.Now(), adminservice.SystemConnectionPoint, v.Form("gateway"), "connection-points")
		}},
		{pattern: "roles/join", page: "roles/join", node: "roles", make: func(v *Visit) (*once, error) {
			return makeJoinToken(v, c.cfg.Now(), adminservice.SystemManagementPoint, "", "roles")
		}},
	}
}

// makeJoinToken makes a token by which hosts of a kind join.
func makeJoinToken(v *Visit, now time.Time, kind, gateway, back string) (*once, error) {
	f := &fromForm{v: v}
	in := adminservice.JoinTokenRecord{Kind: kind, GatewayID: gateway, Minutes: f.number("minutes"), Uses: f.number("uses"), Sources: words(v.Form("sources"))}
	if kind == "gateway" {
		in.Hosts, in.HTTPSPort, in.TunnelPort = words(v.Form("hosts")), f.number("httpsPort"), f.number("tunnelPort")
	}
	if f.err != nil {
		return nil, f.err
	}
	var made adminservice.JoinTokenRecord
	if err := v.Do("POST", "JoinTokens", in, &made); err != nil {
		return nil, err
	}
	o := &once{Title: "Join token for a " + strings.ReplaceAll(kind, "-", " "), Secret: made.Token, Back: back}
	until := "The token is good until " + made.Expires.UTC().Format("2006-01-02 15:04 MST") + ": whoever has it can join."
	if kind == "gateway" {
		o.Then = []string{"On the host, put the token into the file gateway.token, which only its administrator can read.", "Write gateway.yaml: serverCertificate names the files of the certificate and its key, identityDir and stateDir are directories of its own.", until}
		o.Commands = []onceCommand{{Text: "opencmg gateway serve --config gateway.yaml --join-token-file gateway.token"}}
		return o, nil
	}
	o.Join = &joinPage{Kind: kind, Token: &made, Since: now.UTC().Truncate(time.Second)}
	program, config := o.Join.Command(), o.Join.ConfigFile()
	o.Then = []string{
		"On the server, run the command for its shell. It writes " + config + " beside a key that never leaves the server.",
		"Look through " + config + ", then start the program, in the long run as a service: opencmg " + program + " serve --config " + config,
		until,
	}
	run := "opencmg " + program + " join --site-token-file -"
	o.Commands = []onceCommand{
		{"Linux and macOS", run + " <<'END'\n" + made.Token + "\nEND"},
		{"Windows PowerShell", "@'\n" + made.Token + "\n'@ | " + run},
	}
	return o, nil
}
