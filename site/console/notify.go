package console

import (
	"errors"
	"fmt"
	"maps"
	"net/url"
	"slices"

	"github.com/opencmg/opencmg"
	"github.com/opencmg/opencmg/adminservice"
)

// Sending a task to all clients that a filter chooses. A page says how many that
// are before anybody is asked anything, with a script and without.

// A notifyPage asks whether clients are to be sent a task.
type notifyPage struct {
	clientTask
	Chosen  []chosenField
	Matches int // clients that the filter chooses
	Reach   int // those that are approved, and will be sent the task
	Online  int // of them, those that listen now; -1: nobody knows
	Max     int // clients of one operation
	Back    string
}

// A chosenField is a part of the filter that chooses the clients.
type chosenField struct{ Name, Label, Value string }

// choiceLabels are what people call the fields of choiceFields.
var choiceLabels = map[string]string{"search": "name, DNS name or ID has", "auth": "authenticated by", "approval": "approval", "online": "online", "group": "group"}

func loadNotify(v *Visit) (any, error) {
	value := v.Query
	if v.Request.Method == "POST" { // it was not done
		value = v.Form
	}
	p := notifyPage{Max: adminservice.MaxOperationClients, Back: "clients"}
	i := slices.IndexFunc(clientTasks, func(t clientTask) bool { return t.Task == value("task") })
	if i < 0 {
		return nil, invalid("task %q: choose one on the page of the clients", value("task"))
	}
	p.clientTask = clientTasks[i]
	q := url.Values{}
	for _, name := range choiceFields {
		if s := value(name); s != "" {
			q.Set(name, s)
			p.Chosen = append(p.Chosen, chosenField{name, choiceLabels[name], s})
		}
	}
	if len(q) > 0 {
		p.Back += "?" + q.Encode()
	}
	var err error
	if p.Matches, err = countClients(v, q); err != nil {
		return nil, err
	}
	online := q.Get("online")
	for _, approval := range []string{adminservice.ApprovalApproved, adminservice.ApprovalByEntra} {
		if asked := q.Get("approval"); asked != "" && asked != approval {
			continue
		}
		of := maps.Clone(q)
		of.Set("approval", approval)
		n, err := countClients(v, of)
		if err != nil {
			return nil, err
		}
		p.Reach += n
		switch {
		case online == "true":
			p.Online += n
		case online == "" && p.Online >= 0:
			of.Set("online", "true")
			n, err := countClients(v, of)
			switch {
			case errors.Is(err, opencmg.Unavailable):
				p.Online = -1
			case err != nil:
				return nil, err
			default:
				p.Online += n
			}
		}
	}
	return p, nil
}

// countClients counts the clients that a query of GET Clients chooses.
func countClients(v *Visit, q url.Values) (int, error) {
	of := url.Values{"$count": {"true"}, "$top": {"0"}}
	maps.Copy(of, q)
	found, err := get[adminservice.Page[adminservice.RegisteredClient]](v, "Clients?"+of.Encode())
	if err != nil || found.Count == nil {
		return 0, err
	}
	return *found.Count, nil
}

// notifyChosen sends a task to all clients that the filter chooses, once its
// person said so on the page that asks.
func notifyChosen(v *Visit) (string, string, error) {
	if v.Form("sure") == "" {
		return "", "", invalid("nothing was sent: look at who gets the task, and send it from this page")
	}
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
