package adminservice

import (
	"cmp"
	"slices"

	"github.com/opencmg/opencmg"
)

// Parts of the set-up, in their order (cmg-behaviour 12).
const (
	PartPrerequisites = 0
	PartCertificate   = 1
	PartEntra         = 2
	PartClientAuth    = 3
	PartGateway       = 4
	PartClients       = 5
)

// PartName is the heading of a part of the set-up.
func PartName(part int) string {
	names := []string{"Prerequisites", "Server authentication certificate", "Microsoft Entra ID", "Client authentication", "Gateway, connection points, roles", "Clients"}
	if part < 0 || part >= len(names) {
		return ""
	}
	return names[part]
}

// Who can do what an item of the checklist asks for.
const (
	WhoSiteAdministrator = "site administrator"
	WhoGlobalAdmin       = "Global Administrator of the tenant"
	WhoSubscriptionOwner = "Subscription Owner"
	WhoNetwork           = "network administrator"
	WhoDNS               = "DNS administrator"
	WhoCertificates      = "certificate administrator"
	WhoFullAdministrator = "Full Administrator of the site"
	WhoConnectionPoint   = "administrator of the connection point's host"
	WhoDevice            = "local administrator of the device"
)

// A ChecklistItem is one item of the set-up checklist, checked (GET and POST
// Checklist). Items come in the order in which they are worked off.
type ChecklistItem struct {
	opencmg.Check
	// Part is 0 for what is needed first, and 1 to 5 as in the documented
	// set-up.
	Part int `json:"part"`
	// Who can act on it.
	Who string `json:"who"`
	// Command is the command line to run next, if one helps. Words in
	// capitals stand for what only the administrator knows.
	Command string `json:"command,omitempty"`
}

// Open reports whether somebody has to act: the item failed or is to be done.
func (i *ChecklistItem) Open() bool {
	return i.State == opencmg.CheckFail || i.State == opencmg.CheckTodo
}

// A ChecklistRequest says what a checklist is about. As query options of GET
// Checklist its names are gateway, instances, size, subscription, region and
// serviceName.
type ChecklistRequest struct {
	// Gateway is the name, service name or ID of a gateway; default is the
	// first one.
	Gateway string `json:"gateway,omitempty"`
	// What a gateway that is not there yet would be.
	Instances      int            `json:"instances,omitempty"` // wished
	Size           opencmg.VMSize `json:"size,omitempty"`
	SubscriptionID string         `json:"subscriptionId,omitempty"`
	Region         string         `json:"region,omitempty"`
	ServiceName    string         `json:"serviceName,omitempty"`
	// Planned is a gateway to be looked at before it is created. The answer
	// then holds only what matters before the creation.
	Planned *NewGateway `json:"planned,omitempty"`
	// Probes are what the caller found from the host that is to be a
	// connection point, at the targets of GET ProbeTargets.
	Probes *opencmg.ProbeReport `json:"probes,omitempty"`
}

// CertificateItems turns the checks of a server certificate file into items of
// part 1.
func CertificateItems(checks []opencmg.Check) []ChecklistItem {
	var items []ChecklistItem
	for _, c := range checks {
		who := WhoCertificates
		if c.ID == "dns" {
			who = WhoDNS
		}
		c.ID = "certificate-" + c.ID
		items = append(items, ChecklistItem{Check: c, Part: PartCertificate, Who: who})
	}
	return items
}

// WithItems replaces the item with the ID by others, or adds them behind the
// last item of their part when there is none.
func WithItems(items []ChecklistItem, id string, by []ChecklistItem) []ChecklistItem {
	if i := slices.IndexFunc(items, func(o ChecklistItem) bool { return o.ID == id }); i >= 0 {
		return slices.Replace(slices.Clone(items), i, i+1, by...)
	}
	all := append(slices.Clone(items), by...)
	slices.SortStableFunc(all, func(a, b ChecklistItem) int { return cmp.Compare(a.Part, b.Part) })
	return all
}

// FeatureGateway is the ID of the optional feature without which no gateway is
// created.
const FeatureGateway = "cloud-management-gateway"

// A Feature is an optional feature of the site.
type Feature struct {
	ID      string `json:"id"`
	Version int64  `json:"version"` // 0 until somebody switches it
	Name    string `json:"name"`
	On      bool   `json:"on"`
}

// A FeatureChange switches a feature (PATCH Features/{id}).
type FeatureChange struct {
	On *bool `json:"on"`
}

// A FirewallRule is one connection of this deployment that firewalls must let
// through (GET FirewallSheet).
type FirewallRule struct {
	// From opens the connection; From and To are roles, such as "connection
	// point".
	From string `json:"from"`
	To   string `json:"to"`
	// Direction is outbound when the connection leaves the private network,
	// inbound when it reaches a gateway from the internet, inside when it stays
	// in the private network, cloud when a gateway makes it, and internet when
	// a client makes it to anything but the gateway.
	Direction string `json:"direction"`
	// Host is a DNS name or an address. Words in angle brackets stand for what
	// is known once there is a gateway.
	Host     string `json:"host"`
	Port     int    `json:"port"`
	Protocol string `json:"protocol"` // HTTPS, HTTP, TCP-TLS or TCP
	Purpose  string `json:"purpose"`
	// Note says when the connection is not needed, or what replaces it.
	Note string `json:"note,omitempty"`
}

// Directions of a [FirewallRule].
const (
	DirectionOutbound = "outbound"
	DirectionInbound  = "inbound"
	DirectionInside   = "inside"
	DirectionCloud    = "cloud"
	DirectionInternet = "internet"
)
