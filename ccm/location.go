package ccm

import (
	"encoding/xml"
	"fmt"
	"strings"

	"github.com/opencmg/opencmg"
)

// Root elements of location requests (endpoint MP_LocationManager, wire.md 7.2).
const (
	SiteInformation = "SiteInformationRequest"
	AssignedSite    = "AssignedSiteRequest"
	EnumerateMP     = "EnumerateMPLocationRequest"
	LocalMP         = "LocalMPLocationRequest"
	ContentLocation = "ContentLocationRequest"
	WSUSLocation    = "WSUSLocationRequest"
)

// A LocationRequest is any of the location requests; the fields that a kind
// does not have are empty.
type LocationRequest struct {
	Kind     string // root element, one of the constants
	SiteCode opencmg.SiteCode
	// RequestType of EnumerateMP: Assigned, Proxy, Local or Internet.
	RequestType string
	// OnInternet is where the client believes to be.
	OnInternet bool

	PackageID, PackageVersion string // of ContentLocation
	// ClientPackage of ContentLocation: client setup asks for the client
	// itself.
	ClientPackage             bool
	ContentID, ContentVersion string // of WSUSLocation
}

type locationRequestXML struct {
	XMLName       xml.Name
	SchemaVersion string           `xml:"SchemaVersion,attr"`
	RequestType   string           `xml:"RequestType,attr,omitempty"`
	SiteCode      *siteNameXML     `xml:",omitempty"`
	AssignedSite  *siteCodeAttrXML `xml:",omitempty"`
	Package       *packageXML      `xml:",omitempty"`
	ClientPackage *struct {
		RequestForLatest string `xml:"RequestForLatest,attr"`
		DeploymentFlags  string `xml:"DeploymentFlags,attr"`
	} `xml:",omitempty"`
	Content            *packageXML `xml:",omitempty"`
	ClientLocationInfo *struct {
		OnInternet string `xml:"OnInternet,attr"`
		UseAzure   string `xml:"UseAzure,attr,omitempty"`
	} `xml:",omitempty"`
}

type siteNameXML struct {
	Name string `xml:"Name,attr"`
}

type siteCodeAttrXML struct {
	SiteCode string `xml:"SiteCode,attr"`
}

type packageXML struct {
	ID      string `xml:"ID,attr"`
	Version string `xml:"Version,attr"`
}

// Encode writes the request.
func (r LocationRequest) Encode() string {
	x := locationRequestXML{XMLName: xml.Name{Local: r.Kind}, SchemaVersion: "1.00"}
	switch r.Kind {
	case SiteInformation, EnumerateMP:
		x.SiteCode = &siteNameXML{string(r.SiteCode)}
		x.RequestType = r.RequestType
	case LocalMP, ContentLocation, WSUSLocation:
		x.AssignedSite = &siteCodeAttrXML{string(r.SiteCode)}
	}
	switch {
	case r.Kind == ContentLocation && r.ClientPackage:
		x.ClientPackage = &struct {
			RequestForLatest string `xml:"RequestForLatest,attr"`
			DeploymentFlags  string `xml:"DeploymentFlags,attr"`
		}{"1", "0"}
	case r.Kind == ContentLocation:
		x.Package = &packageXML{r.PackageID, r.PackageVersion}
	case r.Kind == WSUSLocation:
		x.Content = &packageXML{r.ContentID, r.ContentVersion}
	}
	if r.Kind != SiteInformation {
		x.ClientLocationInfo = &struct {
			OnInternet string `xml:"OnInternet,attr"`
			UseAzure   string `xml:"UseAzure,attr,omitempty"`
		}{OnInternet: "0"}
		if r.OnInternet {
			x.ClientLocationInfo.OnInternet = "1"
		}
	}
	return formatXML(x)
}

// ParseLocationRequest reads any location request. Kinds without a constant
// are returned too, for the caller to refuse.
func ParseLocationRequest(text string) (LocationRequest, error) {
	var x locationRequestXML
	if err := parseXML(text, &x); err != nil {
		return LocationRequest{}, fmt.Errorf("location request: %w", err)
	}
	r := LocationRequest{Kind: x.XMLName.Local, RequestType: x.RequestType}
	if x.SiteCode != nil {
		r.SiteCode = opencmg.SiteCode(x.SiteCode.Name)
	}
	if x.AssignedSite != nil {
		r.SiteCode = opencmg.SiteCode(x.AssignedSite.SiteCode)
	}
	if r.SiteCode != "" {
		if err := r.SiteCode.Validate(); err != nil {
			return LocationRequest{}, fmt.Errorf("location request: %w", err)
		}
	}
	if x.Package != nil {
		r.PackageID, r.PackageVersion = x.Package.ID, x.Package.Version
	}
	r.ClientPackage = x.ClientPackage != nil
	if x.Content != nil {
		r.ContentID, r.ContentVersion = x.Content.ID, x.Content.Version
	}
	if i := x.ClientLocationInfo; i != nil {
		r.OnInternet = i.OnInternet == "1" || strings.EqualFold(i.OnInternet, "true")
	}
	return r, nil
}

// A ManagementPoint is one entry of a list of management points.
type ManagementPoint struct {
	Name     string // NetBIOS or service name
	SiteCode opencmg.SiteCode
	Version  string // site build, e.g. 9128
	// IntranetName is the host inside. InternetName is
	// <gateway>/CCM_Proxy_MutualAuth/<role ID>; a client that authenticates by
	// token uses the CCM_Proxy_ServerAuth twin (wire.md 1.1).
	IntranetName, InternetName string
}

// ServerAuthName returns an InternetName with the token prefix instead of the
// certificate prefix.
func ServerAuthName(internetName string) string {
	i := strings.Index(strings.ToLower(internetName), strings.ToLower(opencmg.MutualAuthPrefix))
	if i < 0 {
		return internetName
	}
	return internetName[:i] + opencmg.ServerAuthPrefix + internetName[i+len(opencmg.MutualAuthPrefix):]
}

type capabilitiesXML struct {
	SchemaVersion string `xml:"SchemaVersion,attr"`
	Property      []Property
}

type valueXML struct {
	Value string `xml:"Value,attr"`
}

func capabilities() capabilitiesXML {
	return capabilitiesXML{"1.0", []Property{{"SSLState", sslState}}}
}

// A Site is what a site tells clients about itself.
type Site struct {
	Code      opencmg.SiteCode
	Version   string // e.g. 5.00.9128.1000
	Build     string // e.g. 9128
	DefaultMP string
	HTTPSPort int
	// SigningCertificate, in hexadecimal DER, signs site policy.
	SigningCertificate string
}

type siteXML struct {
	SiteCode                  siteCodeXML
	Version                   string
	BuildNumber               string
	DefaultMP                 string
	Capabilities              capabilitiesXML
	ClientOperationalSettings struct {
		Version               string
		SecurityConfiguration struct {
			SecurityModeMask             string
			SecurityModeMaskEx           string
			HTTPPort                     string
			HTTPSPort                    string
			CertificateStoreName         string
			CertificateSelectionCriteria string
			CertificateSelectFirstFlag   string
			SiteSigningCert              string
		}
	}
}

type siteCodeXML struct {
	Text string `xml:",chardata"`
}

type siteInfoReplyXML struct {
	XMLName       xml.Name `xml:"SiteInfoReply"`
	SchemaVersion string   `xml:"SchemaVersion,attr"`
	Sites         struct{ Site []siteXML }
}

// SiteInfoReply answers SiteInformation.
func SiteInfoReply(s Site) string {
	var y siteXML
	y.SiteCode.Text, y.Version, y.BuildNumber, y.DefaultMP, y.Capabilities = string(s.Code), s.Version, s.Build, s.DefaultMP, capabilities()
	y.ClientOperationalSettings.Version = s.Version
	c := &y.ClientOperationalSettings.SecurityConfiguration
	// Readers take the ports as numbers, so the one that is not served has its
	// well-known value.
	c.SecurityModeMask, c.SecurityModeMaskEx, c.HTTPPort, c.HTTPSPort = "0", sslState, "80", fmt.Sprint(s.HTTPSPort)
	c.CertificateStoreName, c.CertificateSelectFirstFlag, c.SiteSigningCert = "My", "1", s.SigningCertificate
	x := siteInfoReplyXML{SchemaVersion: "1.00"}
	x.Sites.Site = []siteXML{y}
	return formatXML(x)
}

// ParseSiteInfoReply reads a reply to SiteInformation.
func ParseSiteInfoReply(text string) (Site, error) {
	var x siteInfoReplyXML
	if err := parseXML(text, &x); err != nil {
		return Site{}, fmt.Errorf("site information: %w", err)
	}
	if len(x.Sites.Site) == 0 {
		return Site{}, opencmg.Errorf(opencmg.NotFound, "site information: the management point does not know the site")
	}
	y := x.Sites.Site[0]
	c := y.ClientOperationalSettings.SecurityConfiguration
	return Site{Code: opencmg.SiteCode(y.SiteCode.Text), Version: y.Version, Build: y.BuildNumber, DefaultMP: y.DefaultMP, HTTPSPort: number(c.HTTPSPort), SigningCertificate: c.SiteSigningCert}, nil
}

// AssignedSiteReply answers AssignedSite.
func AssignedSiteReply(code opencmg.SiteCode) string {
	return `<AssignedSiteReply SchemaVersion="1.00"><Site SiteCode="` + string(code) + `"/></AssignedSiteReply>`
}

// MPLocations answers EnumerateMP and LocalMP: the management points of a site,
// each by its name inside and by its name on the internet.
type MPLocations struct {
	SiteCode opencmg.SiteCode
	Records  []ManagementPoint
}

type mpSiteXML struct {
	SiteCode           string `xml:"SiteCode,attr"`
	MasterSiteCode     string `xml:"MasterSiteCode,attr"`
	SiteLocality       string `xml:"SiteLocality,attr"`
	IISPreferedPort    string `xml:"IISPreferedPort,attr"`
	IISSSLPreferedPort string `xml:"IISSSLPreferedPort,attr"`
}

type mpLocationsXML struct {
	XMLName         xml.Name
	SchemaVersion   string `xml:"SchemaVersion,attr"`
	MPSite          mpSiteXML
	LocationRecords struct {
		LocationRecord []mpRecordXML
	}
}

type mpRecordXML struct {
	IntranetName valueXML
	InternetName valueXML
	Version      string
	Capabilities capabilitiesXML
	Windows      trustXML
}

// trustXML says that the caller and the server share no Windows domain trust
// on which the caller could rely.
type trustXML struct {
	Trust string `xml:"Trust,attr"`
}

type localMPXML struct {
	XMLName       xml.Name `xml:"LocalMPLocationReply"`
	SchemaVersion string   `xml:"SchemaVersion,attr"`
	Sites         struct {
		Site struct {
			MPSite          mpSiteXML
			LocationRecords struct {
				LocationRecord []mpRecordXML
			}
		}
	}
}

func (l MPLocations) records() (r []mpRecordXML) {
	for _, m := range l.Records {
		r = append(r, mpRecordXML{valueXML{m.IntranetName}, valueXML{m.InternetName}, m.Version, capabilities(), trustXML{"0"}})
	}
	return r
}

func mpSite(code opencmg.SiteCode) mpSiteXML {
	return mpSiteXML{SiteCode: string(code), MasterSiteCode: string(code), SiteLocality: "LOCAL", IISPreferedPort: "80", IISSSLPreferedPort: "443"}
}

// Encode writes the answer to EnumerateMP.
func (l MPLocations) Encode() string {
	x := mpLocationsXML{XMLName: xml.Name{Local: "EnumerateMPLocationReply"}, SchemaVersion: "1.00", MPSite: mpSite(l.SiteCode)}
	x.LocationRecords.LocationRecord = l.records()
	return formatXML(x)
}

// EncodeLocal writes the answer to LocalMP.
func (l MPLocations) EncodeLocal() string {
	x := localMPXML{SchemaVersion: "1.00"}
	x.Sites.Site.MPSite = mpSite(l.SiteCode)
	x.Sites.Site.LocationRecords.LocationRecord = l.records()
	return formatXML(x)
}

// ParseMPLocations reads the answer to EnumerateMP.
func ParseMPLocations(text string) (MPLocations, error) {
	var x mpLocationsXML
	if err := parseXML(text, &x); err != nil {
		return MPLocations{}, fmt.Errorf("management point locations: %w", err)
	}
	l := MPLocations{SiteCode: opencmg.SiteCode(x.MPSite.SiteCode)}
	for _, r := range x.LocationRecords.LocationRecord {
		l.Records = append(l.Records, ManagementPoint{SiteCode: l.SiteCode, Version: r.Version, IntranetName: r.IntranetName.Value, InternetName: r.InternetName.Value})
	}
	return l, nil
}

type sitesReplyXML struct {
	XMLName       xml.Name
	SchemaVersion string `xml:"SchemaVersion,attr"`
	Sites         struct {
		Site struct {
			MPSite          mpSiteXML
			LocationRecords struct {
				LocationRecord []locationRecordXML
			}
		}
	}
}

type locationRecordXML struct {
	WSUSURL    string  `xml:"WSUSURL,attr,omitempty"`
	ServerName string  `xml:"ServerName,attr,omitempty"`
	Version    string  `xml:"Version,attr,omitempty"`
	URL        *urlXML `xml:",omitempty"`
	Locality   string  `xml:",omitempty"`
	DPType     string  `xml:",omitempty"`
}

type urlXML struct {
	Name      string `xml:"Name,attr"`
	Signature string `xml:"Signature,attr"`
}

// WSUSLocationReply answers WSUSLocation with the software update points' URLs.
func WSUSLocationReply(code opencmg.SiteCode, contentVersion string, urls []string) string {
	x := sitesReplyXML{XMLName: xml.Name{Local: "WSUSLocationReply"}, SchemaVersion: "1.00"}
	x.Sites.Site.MPSite = mpSite(code)
	for _, u := range urls {
		x.Sites.Site.LocationRecords.LocationRecord = append(x.Sites.Site.LocationRecords.LocationRecord, locationRecordXML{WSUSURL: u, ServerName: hostOf(u), Version: contentVersion})
	}
	return formatXML(x)
}

// ContentLocationReply answers ContentLocation with the URLs of the folders
// that hold the content; none means that it is not distributed here.
func ContentLocationReply(code opencmg.SiteCode, urls []string) string {
	x := sitesReplyXML{XMLName: xml.Name{Local: "ContentLocationReply"}, SchemaVersion: "1.00"}
	x.Sites.Site.MPSite = mpSite(code)
	for _, u := range urls {
		x.Sites.Site.LocationRecords.LocationRecord = append(x.Sites.Site.LocationRecords.LocationRecord, locationRecordXML{URL: &urlXML{Name: u}, Locality: "LOCAL", DPType: "SERVER"})
	}
	return formatXML(x)
}

// ParseLocationURLs reads the URLs of a WSUSLocation or ContentLocation answer.
func ParseLocationURLs(text string) ([]string, error) {
	var x sitesReplyXML
	if err := parseXML(text, &x); err != nil {
		return nil, fmt.Errorf("location reply: %w", err)
	}
	var urls []string
	for _, r := range x.Sites.Site.LocationRecords.LocationRecord {
		switch {
		case r.WSUSURL != "":
			urls = append(urls, r.WSUSURL)
		case r.URL != nil:
			urls = append(urls, r.URL.Name)
		}
	}
	return urls, nil
}

func hostOf(u string) string {
	_, rest, _ := strings.Cut(u, "://")
	host, _, _ := strings.Cut(rest, "/")
	return host
}

// A ClientIDQuery asks MP_ClientIdManager for a client by its hardware
// (wire.md 7.4).
type ClientIDQuery struct {
	SMBIOS     string
	MACAddress string
}

// ParseClientIDQuery reads the query.
func ParseClientIDQuery(text string) (ClientIDQuery, error) {
	var x struct {
		XMLName        xml.Name `xml:"ClientIDRequest"`
		Identification struct {
			Machine struct{ SMBIOS, MacAddress string }
		}
	}
	if err := parseXML(text, &x); err != nil {
		return ClientIDQuery{}, fmt.Errorf("client ID request: %w", err)
	}
	return ClientIDQuery{strings.TrimSpace(x.Identification.Machine.SMBIOS), strings.TrimSpace(x.Identification.Machine.MacAddress)}, nil
}

// ClientIDReply answers the query; an empty id means that nobody is known.
func ClientIDReply(id opencmg.ClientID, netBIOSName string) string {
	return formatXML(struct {
		XMLName     xml.Name
		ClientID    string
		NetbiosName string
	}{xml.Name{Local: clientIDReplyRoot}, string(id), netBIOSName})
}
