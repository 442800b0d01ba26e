package client

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/opencmg/opencmg"
	"github.com/opencmg/opencmg/ccm"
)

// Where a client is, in the words of the client's control panel.
const (
	CurrentlyIntranet = "Currently intranet"
	CurrentlyInternet = "Currently Internet"
)

// probeTimeout bounds the question whether a management point inside answers.
const probeTimeout = 3 * time.Second

// Locate finds out where the client is: on the intranet when a management
// point inside answers, else on the internet (cmg-behaviour K3, K4). All are
// asked at once; the first to answer is used.
func (c *Client) Locate(ctx context.Context) string {
	st := c.state()
	mp := ""
	if !st.Installation.AlwaysInternet {
		mp = c.probe(ctx, st.managementPoints())
	}
	if ctx.Err() != nil {
		return c.where()
	}
	if st.LastProbe.IsZero() || st.Intranet != (mp != "") || st.MP != mp {
		if err := c.update(func(s *state) { s.Intranet, s.MP, s.LastProbe = mp != "", mp, c.cfg.Now() }); err != nil {
			c.log.Error("save location", "component", "ClientLocation", "err", err)
		}
	}
	where := c.where()
	c.log.Info(where, "component", "ClientLocation", "management_point", mp, "always_internet", st.Installation.AlwaysInternet)
	return where
}

func (c *Client) where() string {
	if c.state().Intranet {
		return CurrentlyIntranet
	}
	return CurrentlyInternet
}

// probe returns the first management point that answers.
func (c *Client) probe(ctx context.Context, mps []string) string {
	if len(mps) == 0 {
		return ""
	}
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	t := c.byIdentity
	if c.Auth() == AuthPKI {
		t = c.byPKI
	}
	found := make(chan string, len(mps))
	var wg sync.WaitGroup
	for _, mp := range mps {
		wg.Go(func() {
			a, _, err := t.attempt(ctx, &call{method: http.MethodGet, url: mp + ccm.PathLocation + "?MPLIST", component: "LocationServices", timeout: probeTimeout})
			if err == nil {
				_, err = ccm.ParseMPList(string(a.body))
			}
			if err != nil {
				c.log.Debug("management point did not answer", "component", "LocationServices", "management_point", mp, "err", err)
				return
			}
			found <- mp
			cancel()
		})
	}
	wg.Wait()
	close(found)
	return <-found
}

// Location asks for the site's information and its management points, and
// keeps the gateways and the inside names it learns (cmg-behaviour K2, K6).
func (c *Client) Location(ctx context.Context) (StepResult, error) {
	const component = "LocationServices"
	return c.step(StepLocation, component, func(r *StepResult) error {
		st := c.state()
		text, a, err := c.post(ctx, c.locationLetter(ccm.LocationRequest{Kind: ccm.SiteInformation, SiteCode: st.siteCode()}))
		if err != nil {
			return err
		}
		r.CorrelationID = a.correlationID
		site, err := ccm.ParseSiteInfoReply(text)
		if err != nil {
			return err
		}
		if want := st.Installation.SiteCode; want != "" && site.Code != want {
			return opencmg.Errorf(opencmg.Conflict, "the management point belongs to site %s, and this client to site %s; check SMSSITECODE= and CCMHOSTNAME=", site.Code, want)
		}
		text, a, err = c.post(ctx, c.locationLetter(ccm.LocationRequest{Kind: ccm.EnumerateMP, RequestType: "Assigned", SiteCode: site.Code, OnInternet: !st.Intranet}))
		if err != nil {
			return err
		}
		r.CorrelationID = a.correlationID
		list, err := ccm.ParseMPLocations(text)
		if err != nil {
			return err
		}
		gateways, inside := c.namesOf(list)
		sources, prefer := sourcesOf(list)
		if err := c.update(func(s *state) {
			// Only a management point that sees this device inside knows its
			// boundary groups.
			if !a.internet {
				s.Sources, s.PreferCloud = sources, prefer
			}
			s.Site, s.SiteInfo, s.LastLocation = site.Code, site.Version, c.cfg.Now()
			if len(gateways) > 0 {
				s.Gateways = gateways
				s.Installation.GatewayURLs = gateways // K5: rewritten once one is learned
			}
			if len(inside) > 0 {
				s.ManagementPoints = inside
			}
		}); err != nil {
			return err
		}
		r.Detail = fmt.Sprintf("site %s, %s, %s", site.Code, plural(len(gateways), "gateway"), plural(len(inside), "management point"))
		return nil
	})
}

func (c *Client) locationLetter(q ccm.LocationRequest) letter {
	return letter{endpoint: ccm.EndpointLocation, text: q.Encode(), need: clientProof, signed: c.state().ClientID != "", inside: true, replyTo: "LS_ReplyLocations", component: "LocationServices"}
}

// sourcesOf returns the gateways that a client inside may use there, which have
// records without a name inside, and whether they go first.
func sourcesOf(list ccm.MPLocations) (gateways []InternetMP, first bool) {
	for i, m := range list.Records {
		if m.InternetName == "" || m.IntranetName != "" {
			continue
		}
		if g, err := ParseInternetMP(m.InternetName); err == nil {
			gateways = appendNew(gateways, g)
			first = first || i == 0
		}
	}
	return gateways, first
}

func (c *Client) namesOf(list ccm.MPLocations) (gateways []InternetMP, inside []string) {
	for _, m := range list.Records {
		if m.InternetName != "" {
			g, err := ParseInternetMP(m.InternetName)
			if err != nil {
				c.log.Warn("location reply names a gateway that is no valid name", "component", "LocationServices", "err", err)
				continue
			}
			gateways = appendNew(gateways, g)
		}
		if m.IntranetName != "" && !strings.ContainsAny(m.IntranetName, "/@?# ") {
			inside = appendNew(inside, "https://"+strings.ToLower(m.IntranetName))
		}
	}
	return gateways, inside
}

// searchGateways asks the gateways named by CMGFQDNs, when no other is known,
// for the site's list (cmg-behaviour K5). A client that is not registered yet
// takes them as they are.
func (c *Client) searchGateways(ctx context.Context) error {
	c.log.Info("no gateway is known; asking those of CMGFQDNs", "component", "LocationServices")
	err := c.update(func(s *state) { s.Gateways, s.LastSearch = s.Installation.GatewayURLs, c.cfg.Now() })
	if err != nil || c.state().ClientID == "" {
		return err
	}
	if _, err := c.Location(ctx); err != nil {
		return errors.Join(err, c.update(func(s *state) { s.Gateways = nil }))
	}
	return nil
}
