package console

import (
	"errors"
	"fmt"
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
	value := v.Query
	if v.Request.Method == "POST" { // the form for all of them, which carries what chose them
		value = v.Form
	}
	p := clientsPage{
		Search: value("search"), Auth: value("auth"), Approval: value("approval"), Online: value("online"), Group: value("group"), Order: value("order"),
		Tasks: clientTasks, Max: adminservice.MaxOperationClients,
	}
	if p.Order == "" {
		p.Order = "name"
	}
	shown, asked := url.Values{}, url.Values{}
	for _, f := range choiceFields {
		if s := value(f); s != "" {
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

// notifyChosen sends a task to all clients that the filter of the page chooses.
func notifyChosen(v *Visit) (string, string, error) {
	in := adminservice.NotifyClients{Task: v.Form("task"), Where: &adminservice.ClientChoice{
		Search: v.Form("search"), Auth: opencmg.AuthMode(v.Form("auth")), Approval: v.Form("approval"), Group: v.Form("group"),
	}}
	if s := v.Form("online"); s != "" {
		online := s == "true"
		in.Where.Online = &online
	}
	var op adminservice.ClientOperation
	if err := v.Do("POST", "Notifications", in, &op); err != nil {
		return "", "", err
	}
	return operationAddress(op.ID), fmt.Sprintf("The task is on its way to %s: this page shows who got it.", clientsInWords(op.Clients)), nil
}

func operationAddress(id int64) string { return "client-operations/" + strconv.FormatInt(id, 10) }

func clientsInWords(n int) string {
	if n == 1 {
		return "1 client"
	}
	return showNumber(n) + " clients"
}
