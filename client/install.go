package client

import (
	"net/url"
	"strings"

	"github.com/opencmg/opencmg"
)

// An Installation is what ccmsetup's words say: where the site is, and how
// this device may prove itself to it (cmg-behaviour K20). It is kept in the
// state directory, so that later runs know it.
type Installation struct {
	// SiteCode is that of SMSSITECODE; empty after SMSSITECODE=AUTO until a
	// location reply tells it.
	SiteCode opencmg.SiteCode `json:"siteCode,omitempty"`
	// Gateways are the internet management points known from the start:
	// CCMHOSTNAME first, then gateways named by /mp:.
	Gateways []InternetMP `json:"gateways,omitempty"`
	// ManagementPoints are the inside ones of /mp: and SMSMP, as base URLs
	// without a slash at the end.
	ManagementPoints []string `json:"managementPoints,omitempty"`
	// GatewayURLs is what a device that knows no gateway asks for one:
	// CMGFQDNs, cmg-behaviour K5.
	GatewayURLs []InternetMP `json:"gatewayUrls,omitempty"`
	// RegistrationToken is the bulk registration token of /regtoken:. It is
	// forgotten once the site has given the client a token of its own.
	RegistrationToken Secret `json:"registrationToken,omitempty"`
	// NoCRLCheck switches off the revocation check of the gateway's
	// certificate.
	NoCRLCheck bool `json:"noCrlCheck,omitempty"`
	// AlwaysInternet is CCMALWAYSINF=1: never look for the intranet (K4).
	AlwaysInternet bool `json:"alwaysInternet,omitempty"`
	// TenantID, ClientAppID and ResourceURI are AADTENANTID, AADCLIENTAPPID
	// and AADRESOURCEURI. What is missing comes from the gateway's AADAuthInfo.
	TenantID    string `json:"tenantId,omitempty"`
	ClientAppID string `json:"clientAppId,omitempty"`
	ResourceURI string `json:"resourceUri,omitempty"`
	// Words are properties that mean something to ccmsetup and nothing here.
	// They are kept to be shown.
	Words []string `json:"words,omitempty"`
}

// A Secret is text that log records and printed values do not show.
type Secret string

// String hides the secret.
func (s Secret) String() string {
	if s == "" {
		return ""
	}
	return "(secret)"
}

// An InternetMP is a management point behind a gateway, as clients name it:
// <gateway>/CCM_Proxy_MutualAuth/<role ID> (wire.md 1.1, cmg-behaviour K6).
type InternetMP struct {
	Host string         `json:"host"` // with a port when it is not 443
	Role opencmg.RoleID `json:"role"`
}

// String returns the name in the form of CCMHOSTNAME.
func (m InternetMP) String() string {
	return m.Host + opencmg.MutualAuthPrefix + string(m.Role)
}

// MutualAuthURL is the base URL for callers with a client certificate.
func (m InternetMP) MutualAuthURL() string {
	return "https://" + m.Host + opencmg.MutualAuthPrefix + string(m.Role)
}

// ServerAuthURL is the base URL for callers with a token (wire.md 1.1).
func (m InternetMP) ServerAuthURL() string {
	return "https://" + m.Host + opencmg.ServerAuthPrefix + string(m.Role)
}

// ParseInternetMP reads gw.example.com/CCM_Proxy_MutualAuth/72057594037927936,
// with or without https://, in any case, and also the ServerAuth twin.
func ParseInternetMP(s string) (InternetMP, error) {
	bad := func(why string) (InternetMP, error) {
		return InternetMP{}, opencmg.Errorf(opencmg.Invalid, "gateway %q: %s; it must look like gw.example.com/CCM_Proxy_MutualAuth/72057594037927936", s, why)
	}
	rest := s
	if i := strings.Index(rest, "://"); i >= 0 {
		if !strings.EqualFold(rest[:i], "https") {
			return bad("a gateway speaks https only")
		}
		rest = rest[i+3:]
	}
	host, path, _ := strings.Cut(rest, "/")
	if !validHostPort(host) {
		return bad("the host name is not valid")
	}
	prefix, role, _ := strings.Cut(strings.TrimSuffix(path, "/"), "/")
	if !strings.EqualFold("/"+prefix+"/", opencmg.MutualAuthPrefix) && !strings.EqualFold("/"+prefix+"/", opencmg.ServerAuthPrefix) {
		return bad("CCM_Proxy_MutualAuth and a role ID must follow the host name")
	}
	m := InternetMP{Host: strings.TrimSuffix(strings.ToLower(host), ":443"), Role: opencmg.RoleID(role)}
	if err := m.Role.Validate(); err != nil {
		return bad("the role ID must be a decimal number")
	}
	return m, nil
}

func validHostPort(s string) bool {
	u, err := url.Parse("https://" + s)
	return err == nil && u.Host == s && u.Hostname() != "" && !strings.ContainsAny(s, " @?#")
}

// Words of ccmsetup that change nothing here. A word outside this list and
// the ones ParseInstall reads is refused, because a typing error would
// otherwise leave a device unmanaged.
var (
	ignoredSwitches = map[string]bool{
		"usepkicert": true, "nocrl": true, "service": true, "noservice": true, "forceinstall": true, "logon": true,
		"allowmetered": true, "excludefeatures": true, "alwaysexcludeupgrade": true, "bitspriority": true,
		"downloadtimeout": true, "retry": true, "source": true, "forcereboot": true, "skipprereq": true,
		"suppressreboot": true, "ignoreskipupgrade": true, "uninstall": false,
	}
	ignoredProperties = map[string]bool{
		"CCMCERTSEL": true, "CCMCERTSTORE": true, "CCMFIRSTCERT": true, "CCMCERTISSUERS": true, "CCMADMINS": true,
		"CCMALLOWSILENTREBOOT": true, "CCMDEBUGLOGGING": true, "CCMENABLELOGGING": true, "CCMEVALINTERVAL": true,
		"CCMEVALHOUR": true, "CCMINSTALLDIR": true, "CCMLOGLEVEL": true, "CCMLOGMAXHISTORY": true, "CCMLOGMAXSIZE": true,
		"CCMHTTPPORT": true, "CCMHTTPSPORT": true, "DISABLESITEOPT": true, "DISABLECACHEOPT": true, "DNSSUFFIX": true,
		"FSP": true, "MANAGEDINSTALLER": true, "NOTIFYONLY": true, "PROVISIONTS": true, "PROVISIONTSTIMEOUT": true,
		"RESETKEYINFORMATION": true, "SITEREASSIGN": true, "SMSCACHEDIR": true, "SMSCACHEFLAGS": true,
		"SMSCACHESIZE": true, "SMSCONFIGSOURCE": true, "SMSDIRECTORYLOOKUP": true, "SMSROOTKEYPATH": true,
		"SMSSIGNCERT": true, "UPGRADETOLATEST": true, "IGNOREAPPVVERSIONCHECK": true, "SMSPUBLICROOTKEY": true,
	}
)

// ParseInstall reads ccmsetup's own words, without regard to case: switches
// such as /mp: and /regtoken: and properties such as CCMHOSTNAME=. Switches may
// start with - as well. Every error names the word and says what to do.
func ParseInstall(args []string) (*Installation, error) {
	in := &Installation{}
	var named *InternetMP
	for _, arg := range args {
		var err error
		switch {
		case arg == "":
			continue
		case arg[0] == '/' || arg[0] == '-':
			err = in.parseSwitch(arg)
		case strings.Contains(arg, "="):
			name, value, _ := strings.Cut(arg, "=")
			name, value = strings.ToUpper(strings.TrimSpace(name)), unquote(value)
			if name == "CCMHOSTNAME" {
				var m InternetMP
				if m, err = ParseInternetMP(value); err == nil {
					named = &m
				}
				break
			}
			err = in.parseProperty(name, value, arg)
		default:
			err = opencmg.Errorf(opencmg.Invalid, "%q: is no switch (/word) and no property (NAME=value) of ccmsetup", arg)
		}
		if err != nil {
			return nil, err
		}
	}
	if named != nil { // comes first wherever it stood
		in.Gateways = appendNew([]InternetMP{*named}, in.Gateways...)
	}
	return in, in.check()
}

func (in *Installation) parseSwitch(arg string) error {
	word, value, hasValue := strings.Cut(strings.TrimLeft(arg, "/-"), ":")
	value = unquote(value)
	switch word := strings.ToLower(word); word {
	case "mp":
		if value == "" {
			return opencmg.Errorf(opencmg.Invalid, "%s: needs the name or URL of a management point or gateway", arg)
		}
		for v := range strings.SplitSeq(value, ";") {
			if err := in.addMP(strings.TrimSpace(v)); err != nil {
				return err
			}
		}
	case "regtoken":
		if strings.Count(value, ".") != 2 {
			return opencmg.Errorf(opencmg.Invalid, "/regtoken: needs the bulk registration token that the site made, three parts with dots between them")
		}
		in.RegistrationToken = Secret(value)
	case "nocrlcheck":
		if hasValue {
			return opencmg.Errorf(opencmg.Invalid, "/nocrlcheck takes no value")
		}
		in.NoCRLCheck = true
	default:
		if !ignoredSwitches[word] {
			return opencmg.Errorf(opencmg.Invalid, "/%s: is not a known switch; known are /mp: /regtoken: /nocrlcheck and those of ccmsetup that need nothing here", word)
		}
		in.Words = append(in.Words, arg)
	}
	return nil
}

func (in *Installation) parseProperty(name, value, arg string) error {
	switch name {
	case "SMSSITECODE":
		if strings.EqualFold(value, "AUTO") {
			return nil
		}
		in.SiteCode = opencmg.SiteCode(strings.ToUpper(value))
		if err := in.SiteCode.Validate(); err != nil {
			return opencmg.Errorf(opencmg.Invalid, "SMSSITECODE: %w", err)
		}
	case "SMSMP":
		return in.addMP(value)
	case "CMGFQDNS":
		for v := range strings.SplitSeq(value, ";") {
			m, err := ParseInternetMP(strings.TrimSpace(v))
			if err != nil {
				return err
			}
			in.GatewayURLs = appendNew(in.GatewayURLs, m)
		}
	case "CCMALWAYSINF":
		switch value {
		case "0", "1":
			in.AlwaysInternet = value == "1"
		default:
			return opencmg.Errorf(opencmg.Invalid, "CCMALWAYSINF=%s: must be 1 (always internet) or 0", value)
		}
	case "AADTENANTID":
		if !opencmg.IsGUID(value) {
			return opencmg.Errorf(opencmg.Invalid, "AADTENANTID=%s: must be the GUID of the tenant", value)
		}
		in.TenantID = strings.ToLower(value)
	case "AADTENANTNAME":
		in.Words = append(in.Words, arg)
	case "AADCLIENTAPPID":
		if !opencmg.IsGUID(value) {
			return opencmg.Errorf(opencmg.Invalid, "AADCLIENTAPPID=%s: must be the GUID of the client app", value)
		}
		in.ClientAppID = strings.ToLower(value)
	case "AADRESOURCEURI":
		if u, err := url.Parse(value); err != nil || u.Scheme == "" {
			return opencmg.Errorf(opencmg.Invalid, "AADRESOURCEURI=%s: must be the URI of the server app, such as api://<tenant>/<name>", value)
		}
		in.ResourceURI = value
	default:
		if !ignoredProperties[name] {
			return opencmg.Errorf(opencmg.Invalid, "%s: is not a known property of ccmsetup; look for a typing error", name)
		}
		in.Words = append(in.Words, arg)
	}
	return nil
}

// addMP takes a gateway's name or an inside management point: a host name, or
// a URL when the port or plain http matters.
func (in *Installation) addMP(s string) error {
	if strings.Contains(strings.ToLower(s), strings.ToLower(opencmg.MutualAuthPrefix)) || strings.Contains(strings.ToLower(s), strings.ToLower(opencmg.ServerAuthPrefix)) {
		m, err := ParseInternetMP(s)
		if err != nil {
			return err
		}
		in.Gateways = appendNew(in.Gateways, m)
		return nil
	}
	full := s
	if !strings.Contains(s, "://") {
		full = "https://" + s
	}
	u, err := url.Parse(full)
	if err != nil || (u.Scheme != "https" && u.Scheme != "http") || u.Hostname() == "" || strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.User != nil {
		return opencmg.Errorf(opencmg.Invalid, "management point %q: must be a host name such as mp.example.com, its URL, or gw.example.com/CCM_Proxy_MutualAuth/<role ID>", s)
	}
	in.ManagementPoints = appendNew(in.ManagementPoints, u.Scheme+"://"+strings.ToLower(u.Host))
	return nil
}

func (in *Installation) check() error {
	if len(in.Gateways) == 0 && len(in.ManagementPoints) == 0 && len(in.GatewayURLs) == 0 {
		return opencmg.Errorf(opencmg.Invalid, "no way to the site is named; give CCMHOSTNAME=gw.example.com/CCM_Proxy_MutualAuth/<role ID> for a gateway, or /mp: for a management point inside")
	}
	return nil
}

func unquote(s string) string {
	s = strings.TrimSpace(s)
	if len(s) >= 2 && s[0] == '"' && s[len(s)-1] == '"' {
		s = s[1 : len(s)-1]
	}
	return s
}

// appendNew appends the values that are not there yet.
func appendNew[T comparable](to []T, values ...T) []T {
next:
	for _, v := range values {
		for _, have := range to {
			if have == v {
				continue next
			}
		}
		to = append(to, v)
	}
	return to
}
