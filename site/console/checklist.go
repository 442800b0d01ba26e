package console

import (
	"strings"

	"github.com/opencmg/opencmg"
	"github.com/opencmg/opencmg/adminservice"
)

// The start page: the set-up checklist, with the five parts as steps.

func checklistViews() []view {
	return []view{{pattern: "{$}", node: "", title: "Checklist", template: "checklist", load: loadChecklist}}
}

func checklistActions() []action {
	return []action{{pattern: "features/{id}/on", page: "{$}", do: func(v *Visit) (string, string, error) {
		on := true
		err := v.Do("PATCH", "Features/"+v.ID(), adminservice.FeatureChange{On: &on}, nil)
		return "", "The optional feature is on.", err
	}}}
}

// checklistPage is what the start page shows.
type checklistPage struct {
	Parts   []checklistPart
	Current int // the part that is to be done next; 6 when all is done
	Done    int // items
	Total   int
	Gateway string
}

type checklistPart struct {
	Number int
	Name   string
	Items  []checklistRow
	State  string // done, current, later
	Open   int
	Next   *nextStep // what to do next in this part, nil when nothing is open
}

type checklistRow struct {
	adminservice.ChecklistItem
	Step *nextStep
}

// A nextStep is a button: a page to go to, or a form to post.
type nextStep struct {
	Label string
	Href  string // below Path
	Post  bool
	May   []adminservice.Role // who can do it
}

// steps lead from an item of the checklist to where one does something about
// it.
var steps = map[string]nextStep{
	"optional-feature":           {"Switch the feature on", "features/" + adminservice.FeatureGateway + "/on", true, build},
	"environment":                {"Open the Azure Services wizard", "azure-services/new", false, build},
	"global-administrator":       {"Open the Azure Services wizard", "azure-services/new", false, build},
	"resource-providers":         {"Register them", "azure-services", false, build},
	"certificate":                {"Check a certificate", "gateways/new", false, build},
	"azure-service":              {"Open the Azure Services wizard", "azure-services/new", false, build},
	"server-app":                 {"Open the Azure Services wizard", "azure-services/new", false, build},
	"client-app":                 {"Open the Azure Services wizard", "azure-services/new", false, build},
	"sign-in":                    {"Look at the applications", "azure-services", false, build},
	"consent-users":              {"Look at the applications", "azure-services", false, build},
	"consent-directory":          {"Look at the applications", "azure-services", false, build},
	"client-authentication":      {"Add certificates or tokens", "certificates", false, build},
	"client-revocation":          {"Look at the certificates", "certificates", false, build},
	"gateway":                    {"Create a gateway", "gateways/new", false, build},
	"gateway-instances":          {"Look at the gateway", "gateways", false, operate},
	"connection-point":           {"Add a connection point", "connection-points/new", false, build},
	"connection-point-host":      {"Add a connection point", "connection-points/new", false, build},
	"outward-ports":              {"See the tunnels", "connection-points", false, operate},
	"management-point":           {"Switch gateway traffic on", "roles", false, build},
	"software-update-point":      {"Add or switch one on", "roles", false, build},
	"boundary-groups":            {"Look at the boundary groups", "boundary-groups", false, build},
	"client-settings":            {"Look at the client settings", "client-settings", false, build},
	"clients":                    {"Make a bulk registration token", "certificates", false, operate},
	"dns-outside":                {"Run the connection analyzer", "analyzer", false, operate},
	"connection-point-endpoints": {"See the connection points", "connection-points", false, operate},
}

func loadChecklist(v *Visit) (any, error) {
	// What the cloud said lately is good enough for a page that comes again by
	// itself.
	items, err := list[adminservice.ChecklistItem](v, "Checklist?kept=60")
	if err != nil {
		return nil, err
	}
	p := checklistPage{Current: adminservice.PartClients + 1}
	for part := adminservice.PartPrerequisites; part <= adminservice.PartClients; part++ {
		c := checklistPart{Number: part, Name: adminservice.PartName(part), State: "done"}
		for _, i := range items {
			if i.Part != part {
				continue
			}
			row := checklistRow{ChecklistItem: i}
			p.Total++
			if s, ok := steps[strings.TrimPrefix(i.ID, "certificate-")]; ok && (i.Open() || i.State == opencmg.CheckWarn) {
				row.Step = &s
			}
			if i.Open() {
				c.Open++
				if c.Next == nil {
					c.Next = row.Step
				}
			} else {
				p.Done++
			}
			c.Items = append(c.Items, row)
		}
		if c.Open > 0 {
			c.State = "later"
			if part < p.Current {
				c.State, p.Current = "current", part
			}
		}
		p.Parts = append(p.Parts, c)
	}
	return p, nil
}
