package console

import (
	"net/http"
	"strings"

	"github.com/opencmg/opencmg/adminservice"
)

// The page that somebody gets whose role may not see or do what was asked for.

type forbiddenPage struct {
	Text string // which role it needs
	// Givers are the names of those who can give it.
	Givers []string
}

// refuse answers with that page, in its place of the navigation.
func (c *Console) refuse(w http.ResponseWriter, v *Visit, text string) error {
	accounts, err := list[adminservice.Account](v, "Accounts")
	if err != nil {
		return err
	}
	p := forbiddenPage{Text: text}
	for _, a := range accounts {
		if a.Role == adminservice.FullAdministrator {
			p.Givers = append(p.Givers, a.Name)
		}
	}
	node, _, _ := strings.Cut(strings.TrimPrefix(v.Request.URL.Path, Path), "/")
	return c.render(w, v, view{template: "forbidden", title: "Not with your role", node: node}, p, http.StatusForbidden)
}
