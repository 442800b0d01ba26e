package opencmg

import "net/url"

// ParseInternalURL reads the root of a role inside the network, such as
// https://mp1.corp.example or http://wiki.internal:8080/base.
func ParseInternalURL(s string) (*url.URL, error) {
	u, err := url.Parse(s)
	if err != nil {
		return nil, Errorf(Invalid, "internal %q: %w", s, err).About("internal")
	}
	switch {
	case u.Scheme != "http" && u.Scheme != "https", u.Hostname() == "":
		return nil, Errorf(Invalid, "internal %q: must be a URL that starts with http:// or https:// and a host", s).About("internal")
	case u.User != nil, u.RawQuery != "", u.Fragment != "":
		return nil, Errorf(Invalid, "internal %q: must not have credentials, a query or a fragment", s).About("internal")
	case !plainText(u.EscapedPath()):
		return nil, Errorf(Invalid, "internal %q: the path is not plain", s).About("internal")
	}
	return u, nil
}

// plainText reports whether s has printable ASCII only, without spaces.
func plainText(s string) bool {
	for i := range len(s) {
		if s[i] <= ' ' || s[i] >= 0x7f {
			return false
		}
	}
	return true
}
