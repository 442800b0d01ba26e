package console

import (
	"net/url"
	"strconv"

	"github.com/opencmg/opencmg/adminservice"
)

// Tokens that the site issued to clients.

func siteTokenViews() []view {
	return []view{{pattern: "site-tokens", node: "certificates", title: "Tokens of clients", template: "site-tokens", load: loadSiteTokens}}
}

func siteTokenActions() []action {
	change := func(verb, said string) action {
		return action{pattern: "site-tokens/{id}/" + verb, page: "site-tokens", do: func(v *Visit) (string, string, error) {
			id := url.PathEscape(v.ID())
			next := backTo(v, "site-tokens")
			if next == "site-tokens" { // from another page, or from the whole list
				next += "?id=" + url.QueryEscape(v.ID())
			}
			return next, said, v.Do("POST", "SiteTokens/"+id+"/"+verb, nil, nil)
		}}
	}
	return []action{
		change("block", "The token is blocked: management points and gateways refuse it from now on."),
		change("unblock", "The token is accepted again."),
	}
}

type siteTokensPage struct {
	Search, Kind, Blocked, Expired, Client, Token string
	Chosen                                        bool
	Tokens                                        []adminservice.SiteToken
	Span                                          span
}

func loadSiteTokens(v *Visit) (any, error) {
	p := siteTokensPage{Search: v.Query("search"), Kind: v.Query("kind"), Blocked: v.Query("blocked"), Expired: v.Query("expired"), Client: v.Query("client"), Token: v.Query("id")}
	shown, asked := url.Values{}, url.Values{}
	for _, name := range []string{"search", "kind", "blocked", "expired", "client", "id"} {
		if s := v.Query(name); s != "" {
			p.Chosen = true
			shown.Set(name, s)
			asked.Set(name, s)
		}
	}
	skip := skipOf(v)
	asked.Set("$top", strconv.Itoa(listPage))
	asked.Set("$skip", strconv.Itoa(skip))
	found, err := get[adminservice.Page[adminservice.SiteToken]](v, "SiteTokens?"+asked.Encode())
	if err != nil {
		return nil, err
	}
	p.Tokens = found.Value
	p.Span = spanOf("site-tokens", shown, skip, len(found.Value), -1, found.Next != "").newest()
	return p, nil
}
