package azure

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
)

// ErrResync says that the directory can not continue from a delta link: the
// caller forgets the link, discovers everything anew, and afterwards removes
// what did not appear.
var ErrResync = errors.New("the directory can not continue from here: a full discovery is needed")

// Removal says how an object left.
type Removal string

// The ways to leave.
const (
	Present Removal = ""        // it is there, new or changed
	Changed Removal = "changed" // removed, and can be restored
	Deleted Removal = "deleted" // gone for good
)

// A User is one of the directory. Fields that a delta leaves out are empty:
// a delta carries what changed, and possibly the same user twice.
type User struct {
	ID                       string  `json:"id"`
	DisplayName              string  `json:"displayName"`
	GivenName                string  `json:"givenName"`
	Surname                  string  `json:"surname"`
	UserPrincipalName        string  `json:"userPrincipalName"`
	Mail                     string  `json:"mail"`
	AccountEnabled           *bool   `json:"accountEnabled"`
	OnPremisesSyncEnabled    *bool   `json:"onPremisesSyncEnabled"`
	OnPremisesSID            string  `json:"onPremisesSecurityIdentifier"`
	OnPremisesSAMAccountName string  `json:"onPremisesSamAccountName"`
	OnPremisesDomainName     string  `json:"onPremisesDomainName"`
	Removed                  Removal `json:"-"`
}

// A Group is one of the directory.
type Group struct {
	ID              string  `json:"id"`
	DisplayName     string  `json:"displayName"`
	Description     string  `json:"description"`
	MailEnabled     *bool   `json:"mailEnabled"`
	SecurityEnabled *bool   `json:"securityEnabled"`
	OnPremisesSID   string  `json:"onPremisesSecurityIdentifier"`
	Removed         Removal `json:"-"`
	// Members came or left; those of a large group come over several pages,
	// with the group each time.
	Members []Member `json:"-"`
}

// A Member of a group, by object ID.
type Member struct {
	ID      string
	Type    string // user, group, device, servicePrincipal or orgContact
	Removed bool
}

const (
	userProperties  = "id,displayName,givenName,surname,userPrincipalName,mail,accountEnabled,onPremisesSyncEnabled,onPremisesSecurityIdentifier,onPremisesSamAccountName,onPremisesDomainName"
	groupProperties = "id,displayName,description,mailEnabled,securityEnabled,onPremisesSecurityIdentifier,members"
)

// DiscoverUsers reads the users that changed since deltaLink, or all when it
// is empty. each gets them page by page; a page may be empty. The caller
// stores newDelta only after the call returned without an error, and starts
// over from deltaLink otherwise. An error that is [ErrResync] means that
// deltaLink is too old.
func (c *Client) DiscoverUsers(ctx context.Context, deltaLink string, each func([]User) error) (newDelta string, err error) {
	return discover(ctx, c, "users", deltaLink, userProperties, each, func(raw json.RawMessage) (u User, err error) {
		err = json.Unmarshal(raw, &u)
		u.Removed = removal(raw)
		return u, err
	})
}

// DiscoverGroups does for groups and their members what
// [Client.DiscoverUsers] does for users.
func (c *Client) DiscoverGroups(ctx context.Context, deltaLink string, each func([]Group) error) (newDelta string, err error) {
	return discover(ctx, c, "groups", deltaLink, groupProperties, each, func(raw json.RawMessage) (g Group, err error) {
		var wire struct {
			Group
			Members []json.RawMessage `json:"members@delta"`
		}
		if err := json.Unmarshal(raw, &wire); err != nil {
			return g, err
		}
		g = wire.Group
		g.Removed = removal(raw)
		for _, m := range wire.Members {
			var member struct {
				ID   string `json:"id"`
				Type string `json:"@odata.type"`
			}
			if err := json.Unmarshal(m, &member); err != nil {
				return g, err
			}
			g.Members = append(g.Members, Member{ID: member.ID, Type: trimType(member.Type), Removed: removal(m) != Present})
		}
		return g, nil
	})
}

func trimType(t string) string {
	const prefix = "#microsoft.graph."
	if len(t) > len(prefix) && t[:len(prefix)] == prefix {
		return t[len(prefix):]
	}
	return t
}

func removal(raw json.RawMessage) Removal {
	var r struct {
		Removed *struct {
			Reason Removal `json:"reason"`
		} `json:"@removed"`
	}
	if json.Unmarshal(raw, &r) != nil || r.Removed == nil {
		return Present
	}
	if r.Removed.Reason == Changed {
		return Changed
	}
	return Deleted
}

func discover[T any](ctx context.Context, c *Client, what, deltaLink, properties string, each func([]T) error, decode func(json.RawMessage) (T, error)) (string, error) {
	doing := "discover " + what
	next := deltaLink
	if next == "" {
		next = c.graphURL("/"+what+"/delta", "$select", properties)
	}
	// Pages follow each other without end only if the service is broken.
	const maxPages = 1_000_000
	for range maxPages {
		if err := c.graphLink(next); err != nil {
			return "", fmt.Errorf("%s: %w", doing, err)
		}
		var page struct {
			Value     []json.RawMessage `json:"value"`
			NextLink  string            `json:"@odata.nextLink"`
			DeltaLink string            `json:"@odata.deltaLink"`
		}
		if err := c.graphGet(ctx, next, &page); err != nil {
			if status(err) == http.StatusGone || isCode(err, "syncStateNotFound", "resyncRequired", "Directory_ResyncRequired", "Directory_ExpiredPageToken") {
				return "", fmt.Errorf("%s: %w", doing, ErrResync)
			}
			return "", c.fail(ctx, doing, err)
		}
		found := make([]T, 0, len(page.Value))
		for _, raw := range page.Value {
			v, err := decode(raw)
			if err != nil {
				return "", fmt.Errorf("%s: the directory's answer: %w", doing, err)
			}
			found = append(found, v)
		}
		if err := each(found); err != nil {
			return "", err
		}
		switch {
		case page.NextLink != "":
			next = page.NextLink
		case page.DeltaLink != "":
			return page.DeltaLink, c.graphLink(page.DeltaLink)
		default:
			return "", fmt.Errorf("%s: the directory's last page has no link to continue from", doing)
		}
	}
	return "", fmt.Errorf("%s: there are more than %d pages", doing, maxPages)
}
