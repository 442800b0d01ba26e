package console

// The navigation has the workspaces and nodes of cmg-behaviour 11.1.

type navGroup struct {
	Name  string
	Nodes []navNode
}

type navNode struct {
	Name, Href string // the latter below Path
	Here       bool
}

var workspaces = []navGroup{
	{Name: "Administration", Nodes: []navNode{
		{Name: "Checklist", Href: ""},
		{Name: "Azure Services", Href: "azure-services"},
		{Name: "Cloud Management Gateway", Href: "gateways"},
		{Name: "Connection points", Href: "connection-points"},
		{Name: "Site system roles", Href: "roles"},
		{Name: "Boundary groups", Href: "boundary-groups"},
		{Name: "Client settings", Href: "client-settings"},
		{Name: "Certificates and tokens", Href: "certificates"},
		{Name: "Administrators", Href: "accounts"},
	}},
	{Name: "Monitoring", Nodes: []navNode{
		{Name: "Cloud Management", Href: "dashboard"},
		{Name: "Connection analyzer", Href: "analyzer"},
		{Name: "Explain a request", Href: "explain"},
		{Name: "Client operations", Href: "client-operations"},
		{Name: "Alerts", Href: "alerts"},
		{Name: "Status messages", Href: "status-messages"},
		{Name: "Logs", Href: "logs"},
	}},
	{Name: "Assets and Compliance", Nodes: []navNode{
		{Name: "Clients", Href: "clients"},
	}},
}

// navigation is the navigation of a page that belongs to the node.
func navigation(node string) []navGroup {
	var all []navGroup
	for _, g := range workspaces {
		n := navGroup{Name: g.Name}
		for _, one := range g.Nodes {
			one.Here = one.Href == node
			n.Nodes = append(n.Nodes, one)
		}
		all = append(all, n)
	}
	return all
}
