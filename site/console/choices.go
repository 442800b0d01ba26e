package console

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/opencmg/opencmg"
	"github.com/opencmg/opencmg/adminservice"
)

// What fields for a subscription, a region and a resource group offer to choose
// from. They take any text, so that a form can be sent when the cloud does not
// answer; beside them stands why there is no list then.

// azureChoices are the lists of one application, of which each may be missing,
// and a sentence about each.
type azureChoices struct {
	Subscriptions []adminservice.Subscription
	Regions       []adminservice.Region
	Groups        []adminservice.ResourceGroup

	SubscriptionNote, RegionNote, GroupNote string

	// Pending says that the cloud has not answered yet.
	Pending bool
	// Subscription is the one in the form; nil when it is not in the list.
	Subscription *adminservice.Subscription
}

// wantedChoices says what a form asks for.
type wantedChoices struct {
	app, subscription, region string
	places                    bool // regions too
	groups                    bool // resource groups too
}

// Ways in which a list is asked for, as the query of its resource.
const (
	atOnce   = "?wait=0"
	inAWhile = "" // the service bounds it
)

// choose asks for what a form wants. Whoever may not build anything is offered
// nothing, and the cloud is not asked.
func choose(v *Visit, want wantedChoices, how string) *azureChoices {
	c := &azureChoices{}
	if want.app == "" || !v.May(build) {
		return c
	}
	path := "Applications/" + url.PathEscape(want.app) + "/subscriptions"
	of := path + "/" + url.PathEscape(want.subscription)
	known := opencmg.IsGUID(want.subscription)
	if how != atOnce {
		// All begin before one waits for the first.
		choose(v, want, atOnce)
	}
	c.SubscriptionNote = choicesFrom(v, c, path+how, &c.Subscriptions, "subscriptions", "The application sees no subscription: give it a role in the one that is to be used, or type its ID.")
	for i, s := range c.Subscriptions {
		if strings.EqualFold(s.ID, want.subscription) {
			c.Subscription = &c.Subscriptions[i]
			c.SubscriptionNote = "Subscription " + s.Name
			if s.State != "Enabled" {
				c.SubscriptionNote += " is " + s.State
			}
		}
	}
	if n := len(c.Subscriptions); known && c.Subscription == nil && n > 0 && n < adminservice.MaxPage {
		c.SubscriptionNote = fmt.Sprintf("This is none of those that the application sees (%s): give it a role in the subscription, or choose another.", showNumber(n))
	}
	if known && want.places {
		c.RegionNote = choicesFrom(v, c, of+"/regions"+how, &c.Regions, "regions", "The subscription offers no region for scale sets.")
	}
	if known && want.groups {
		c.GroupNote = choicesFrom(v, c, of+"/resourceGroups"+how, &c.Groups, "resource groups", "The application may read no resource group: give it a role in one, or create a new one.")
		c.groupsOf(want.region)
	}
	return c
}

// groupsOf leaves the groups of the region, when the form has one.
func (c *azureChoices) groupsOf(region string) {
	name := opencmg.RegionName(region)
	known := slices.ContainsFunc(c.Groups, func(g adminservice.ResourceGroup) bool { return g.Region == name }) ||
		slices.ContainsFunc(c.Regions, func(r adminservice.Region) bool { return opencmg.RegionName(r.Name) == name })
	if len(c.Groups) == 0 || !known {
		return
	}
	c.Groups = slices.DeleteFunc(c.Groups, func(g adminservice.ResourceGroup) bool { return g.Region != name })
	c.GroupNote = fmt.Sprintf("%s in %s to choose from: open the list of the field.", showNumber(len(c.Groups)), region)
	if len(c.Groups) == 0 {
		c.GroupNote = "The application may read no resource group in " + region + ": choose another region, or create a new group."
	}
}

// choicesFrom fills a list, and says what stands beside the field.
func choicesFrom[T any](v *Visit, c *azureChoices, path string, to *[]T, what, none string) string {
	var err error
	*to, err = list[T](v, path)
	switch n := len(*to); {
	case errors.Is(err, opencmg.Unavailable):
		c.Pending = true
		return "Azure is being asked for the " + what + "…"
	case err != nil:
		return "No list to choose from: " + problemOf(err).Text
	case n == 0:
		return none
	case n >= adminservice.MaxPage:
		return fmt.Sprintf("The first %s %s to choose from: open the list of the field, or type part of a name. Others can be typed.", showNumber(n), what)
	case n == 1:
		return "There is one to choose: open the list of the field."
	default:
		return fmt.Sprintf("%s %s to choose from: open the list of the field, or type part of a name.", showNumber(n), what)
	}
}

// RegionName is how people call a region.
func (c *azureChoices) RegionName(name string) string {
	for _, r := range c.Regions {
		if r.Name == name {
			return r.DisplayName
		}
	}
	return name
}

// fill renders the lists and sentences for a form that is open, by where they
// go. digest names them: a form that has them is not sent them again.
func (c *Console) fill(v *Visit, choices *azureChoices) (parts map[string]string, digest string, err error) {
	parts = map[string]string{}
	p := &Page{Visit: v, Console: c.cfg, c: c, blocks: new([]block)}
	for _, name := range []string{"subscription-options", "subscription-note", "region-options", "region-note", "group-options", "group-note"} {
		html, err := p.part(name, choices)
		if err != nil {
			return nil, "", err
		}
		parts[name] = string(html)
	}
	sum := sha256.New()
	for _, name := range slices.Sorted(maps.Keys(parts)) {
		fmt.Fprintf(sum, "%d %s", len(parts[name]), parts[name])
	}
	return parts, hex.EncodeToString(sum.Sum(nil)[:8]), nil
}

// checkRegisterProviders offers subscriptions to the form that registers resource
// providers.
func (c *Console) checkRegisterProviders(w http.ResponseWriter, v *Visit) error {
	how := atOnce
	if v.Form("thorough") != "" {
		how = inAWhile
	}
	f := found{}
	if id := v.Form("subscriptionId"); id != "" && !opencmg.IsGUID(id) {
		f.say("subscriptionId", "must be the subscription's ID, a GUID", "choose one from the list, or look on the page Subscriptions of the portal")
	}
	choices := choose(v, wantedChoices{app: v.ID(), subscription: v.Form("subscriptionId")}, how)
	return c.answerChecks(w, v, checkAnswer{found: f, choices: choices, more: choices.Pending && how == atOnce})
}
