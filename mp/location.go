package mp

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"

	"github.com/opencmg/opencmg"
	"github.com/opencmg/opencmg/ccm"
)

// managementPoints lists this server once per gateway, or once by its name
// inside when nothing publishes it.
func (s *Server) managementPoints() []ccm.ManagementPoint {
	var list []ccm.ManagementPoint
	for _, g := range s.gateways() {
		list = append(list, s.here(g))
	}
	if list == nil {
		here := s.here(Gateway{})
		here.InternetName = ""
		list = append(list, here)
	}
	return list
}

// here is this server behind a gateway.
func (s *Server) here(g Gateway) ccm.ManagementPoint {
	return ccm.ManagementPoint{Name: strings.ToUpper(s.hostName()), SiteCode: s.c.Site, Version: siteBuild, IntranetName: s.c.Host, InternetName: g.ServiceName + opencmg.MutualAuthPrefix + string(g.RoleID)}
}

// locationQuery answers .sms_aut (wire.md 7.1). Queries are matched without
// regard to case; parameters follow '&' without names.
func (s *Server) locationQuery(w http.ResponseWriter, r *http.Request) error {
	x := exchangeOf(r)
	if err := s.refuseBulk(x); err != nil {
		return err
	}
	query, err := url.PathUnescape(r.URL.RawQuery)
	if err != nil {
		return opencmg.Errorf(opencmg.Invalid, "the query is malformed")
	}
	name, parameter, _ := strings.Cut(query, "&")
	x.note("query %.100s", query)
	var text string
	switch strings.ToUpper(name) {
	case "MPLIST", "MPLIST1":
		text = ccm.MPList{{Name: strings.ToUpper(s.hostName()), SiteCode: s.c.Site, Version: siteBuild, IntranetName: s.c.Host}}.Encode()
		if parameter != "" && !strings.EqualFold(parameter, string(s.c.Site)) {
			text = ccm.MPList{}.Encode()
		}
	case "MPLIST2":
		var list ccm.MPList
		for _, m := range s.managementPoints() {
			if m.InternetName != "" && (parameter == "" || strings.EqualFold(parameter, string(s.c.Site))) {
				list = append(list, m)
			}
		}
		text = list.Encode()
	case "MPCERT", "MPCERT2":
		cert, err := s.serverCertificate()
		if err != nil {
			return err
		}
		if strings.EqualFold(name, "MPCERT") {
			text = ccm.MPCert(cert)
		} else {
			text = ccm.MPCert2(cert, cert)
		}
	case "MPKEYINFORMATION", "MPKEYINFORMATIONEX", "MPKEYINFORMATIONMEDIA":
		cert, err := s.serverCertificate()
		if err != nil {
			return err
		}
		host, _, err := net.SplitHostPort(s.c.Host)
		if err != nil {
			host = s.c.Host
		}
		text = ccm.KeyInformation{SiteCode: s.c.Site, MachineName: strings.ToUpper(s.hostName()), FQDN: host, MPCertificate: cert, TrustedRoot: ccm.MarshalPublicKey(publicKey(s.signing.Load().cert))}.Encode()
	case "MPTRK":
		text = ccm.TrustedRootKey(ccm.MarshalPublicKey(publicKey(s.signing.Load().cert)))
	case "SITESIGNCERT":
		text = ccm.SiteSignCert(s.signing.Load().cert)
	case "GETCLIENTAFFINITY":
		text = ccm.NoAffinity
	default:
		x.refuse("refused: unknown query %.100q", name)
		return opencmg.Errorf(opencmg.NotFound, "this management point does not know the query")
	}
	s.log.Info("location query", "component", "MP_Location", "request_id", x.id, "query", strings.ToUpper(name))
	w.Header().Set("Content-Type", "text/xml; charset=utf-8")
	_, err = io.WriteString(w, text)
	return err
}

// locate answers MP_LocationManager (wire.md 7.2). Anyone may ask.
func (s *Server) locate(ctx context.Context, l *letter) (string, error) {
	x := l.x
	r, err := ccm.ParseLocationRequest(l.Text)
	if err != nil {
		x.refuse("silent: %v", err)
		return "", errSilent
	}
	s.log.Info("location request", "component", "MP_Location", "request_id", x.id, "kind", r.Kind, "client", string(l.SourceID), "on_internet", x.outside())
	x.note("location request %s", r.Kind)
	if r.SiteCode != "" && !strings.EqualFold(string(r.SiteCode), string(s.c.Site)) && r.Kind != ccm.AssignedSite {
		x.refuse("silent: site %s was asked for, this is %s", r.SiteCode, s.c.Site)
		return "", errSilent
	}
	switch r.Kind {
	case ccm.SiteInformation:
		return ccm.SiteInfoReply(ccm.Site{Code: s.c.Site, Version: siteVersion, Build: siteBuild, DefaultMP: s.c.Host, HTTPSPort: s.port(), SigningCertificate: ccm.FormatCertificate(s.signing.Load().cert)}), nil
	case ccm.AssignedSite:
		return ccm.AssignedSiteReply(s.c.Site), nil
	case ccm.EnumerateMP:
		return ccm.MPLocations{SiteCode: s.c.Site, Records: s.managementPointsFor(x)}.Encode(), nil
	case ccm.LocalMP:
		return ccm.MPLocations{SiteCode: s.c.Site, Records: s.managementPoints()}.EncodeLocal(), nil
	case ccm.ContentLocation:
		var urls []string
		if r.ClientPackage && s.c.ClientFiles != "" {
			urls = s.bases(x, s.c.RoleID, "https://"+s.c.Host, strings.TrimSuffix(ccm.PathClient, "/"))
		}
		return ccm.ContentLocationReply(s.c.Site, urls), nil
	case ccm.WSUSLocation:
		var urls []string
		for _, p := range s.c.SoftwareUpdatePoints {
			urls = append(urls, s.bases(x, p.RoleID, p.URL, "")...)
		}
		return ccm.WSUSLocationReply(s.c.Site, r.ContentVersion, urls), nil
	}
	x.refuse("silent: location request %.80q is not known", r.Kind)
	return "", errSilent
}

// bases returns the URLs of a role for this caller: on each gateway for one on
// the internet; the inside one otherwise, with those of the gateways that the
// caller's boundary groups have.
func (s *Server) bases(x *exchange, role opencmg.RoleID, inside, path string) []string {
	gateways, first := s.gateways(), true
	prefix := opencmg.MutualAuthPrefix
	if x.outside() {
		if x.caller.Auth.ByToken() {
			prefix = opencmg.ServerAuthPrefix
		}
	} else {
		if gateways, first = s.sourcesInside(x); x.caller.Auth != opencmg.AuthPKI {
			prefix = opencmg.ServerAuthPrefix
		}
	}
	var urls []string
	for _, g := range gateways {
		if role != "" {
			urls = append(urls, "https://"+g.ServiceName+prefix+string(role)+path)
		}
	}
	switch {
	case x.outside():
		return urls
	case first:
		return append(urls, inside+path)
	}
	return append([]string{inside + path}, urls...)
}

func (s *Server) port() int {
	_, port, err := net.SplitHostPort(s.c.Host)
	if err != nil {
		return 443
	}
	n, err := net.LookupPort("tcp", port)
	if err != nil {
		return 443
	}
	return n
}

func (s *Server) serverCertificate() (*x509.Certificate, error) {
	pair, err := s.c.GetCertificate(&tls.ClientHelloInfo{})
	if err != nil {
		return nil, fmt.Errorf("server certificate: %w", err)
	}
	if pair.Leaf != nil {
		return pair.Leaf, nil
	}
	return x509.ParseCertificate(pair.Certificate[0])
}
