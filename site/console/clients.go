package console

import (
	"errors"
	"net/url"
	"strconv"

	"github.com/opencmg/opencmg"
	"github.com/opencmg/opencmg/adminservice"
)

// The list of clients. The site's database searches, filters, orders and cuts;
// a page shows and keeps fresh only what is on it.

func clientViews() []view {
	return []view{
		{pattern: "clients", node: "clients", title: "Clients", template: "clients", load: loadClients},
		{pattern: "clients/notify", node: "clients", title: "Send clients a task", template: "notify", load: loadNotify},
		{pattern: "clients/{id}", node: "clients", title: "Client", template: "client", load: loadClient},
		{pattern: "clients/{id}/inventory/{action}", node: "clients", title: "Inventory of a client", template: "inventory", load: loadInventory},
	}
}

// choiceFields are the fields that choose clients, as the query of the page and
// of GET Clients names them.
var choiceFields = []string{"search", "auth", "approval", "online", "group"}

// clientTask is a task that one may send to clients.
type clientTask struct {
	Task   string // of ccm.TaskTypes
	Button string
	What   string // a client does, after "They"
}

var clientTasks = []clientTask{
	{"machine-policy", "Request policy", "fetch their policy"},
	{"hardware-inventory", "Collect inventory", "send their hardware inventory"},
	{"discovery", "Send discovery data", "send their discovery data"},
	{"test", "Test notification", "answer, and do nothing else"},
}

type clientsPage struct {
	Search, Auth, Approval, Online, Group, Order string
	Chosen                                       bool // something is chosen
	Clients                                      []adminservice.RegisteredClient
	Span                                         span
	Groups                                       []string // of bulk registration tokens, to offer
	Tasks                                        []clientTask
	Max                                          int    // clients of one operation
	Unknown                                      string // why nobody can be listed by who is online
}

func loadClients(v *Visit) (any, error) {
	p := clientsPage{
		Search: v.Query("search"), Auth: v.Query("auth"), Approval: v.Query("approval"), Online: v.Query("online"), Group: v.Query("group"), Order: v.Query("order"),
		Tasks: clientTasks, Max: adminservice.MaxOperationClients,
	}
	if p.Order == "" {
		p.Order = "name"
	}
	shown, asked := url.Values{}, url.Values{}
	for _, f := range choiceFields {
		if s := v.Query(f); s != "" {
			p.Chosen = true
			shown.Set(f, s)
			asked.Set(f, s)
		}
	}
	if p.Order != "name" {
		shown.Set("order", p.Order)
	}
	skip := skipOf(v)
	asked.Set("$top", strconv.Itoa(listPage))
	asked.Set("$skip", strconv.Itoa(skip))
	asked.Set("$count", "true")
	asked.Set("$orderby", map[string]string{"lastSeen": "lastSeen desc", "registered": "registered desc"}[p.Order])
	if asked.Get("$orderby") == "" {
		asked.Set("$orderby", "name")
	}
	found, err := get[adminservice.Page[adminservice.RegisteredClient]](v, "Clients?"+asked.Encode())
	switch {
	case err != nil && p.Online != "" && errors.Is(err, opencmg.Unavailable):
		p.Unknown = problemOf(err).Text
	case err != nil:
		return nil, err
	}
	p.Clients = found.Value
	total := 0
	if found.Count != nil {
		total = *found.Count
	}
	p.Span = spanOf("clients", shown, skip, len(found.Value), total, found.Next != "")
	tokens, err := list[adminservice.BulkRegistrationToken](v, "BulkRegistrationTokens")
	if err != nil {
		return nil, err
	}
	seen := map[string]bool{"": true}
	for _, t := range tokens {
		if !seen[t.Group] {
			seen[t.Group] = true
			p.Groups = append(p.Groups, t.Group)
		}
	}
	return p, nil
}

func operationAddress(id int64) string { return "client-operations/" + strconv.FormatInt(id, 10) }

func clientsInWords(n int) string {
	if n == 1 {
		return "1 client"
	}
	return showNumber(n) + " clients"
}
