package console

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"github.com/opencmg/opencmg"
	"github.com/opencmg/opencmg/adminservice"
)

// One client: all that the site knows of it, and what one can do about it.

func clientActions() []action {
	change := func(verb, said string) action {
		return action{pattern: "clients/{id}/" + verb, page: "clients/{id}", do: func(v *Visit) (string, string, error) {
			return clientPage(v), said, v.Do("POST", clientResource(v)+"/"+verb, nil, nil)
		}}
	}
	return []action{
		{pattern: "clients/notify", page: "clients/notify", do: notifyChosen},
		{pattern: "clients/{id}/notify", page: "clients/{id}", do: func(v *Visit) (string, string, error) {
			err := v.Do("POST", clientResource(v)+"/notify", adminservice.NotifyClient{Task: v.Form("task")}, nil)
			return clientPage(v) + "#notifications", "The task is on its way. Under Notifications you see when the client got it, and what it answered.", err
		}},
		change("approve", "The client is approved."),
		{pattern: "clients/{id}/block", page: "clients/{id}", do: func(v *Visit) (string, string, error) {
			err := v.Do("POST", clientResource(v)+"/block", adminservice.BlockClient{Reason: v.Form("reason")}, nil)
			return clientPage(v), "The client is blocked, with its tokens and its certificate.", err
		}},
		change("readmit", "The client is admitted again, with its tokens and its certificate."),
		{pattern: "clients/{id}/delete", page: "clients/{id}", do: deleteClient},
	}
}

func clientAnswers() []rawAnswer {
	return []rawAnswer{{"GET", "clients/{id}/inventory/{action}/download", downloadInventory}}
}

func clientResource(v *Visit) string { return "Clients/" + url.PathEscape(v.ID()) }

func clientPage(v *Visit) string { return "clients/" + v.ID() }

func deleteClient(v *Visit) (string, string, error) {
	c, err := get[adminservice.ClientDetails](v, clientResource(v))
	if err != nil {
		return "", "", err
	}
	// Whom the service refuses anyway is told so, whatever was typed.
	if v.May(adminservice.Roles()[:3]) && v.Form("typed") != c.Name {
		return "", "", opencmg.Errorf(opencmg.Invalid, "the client was not deleted: type its name, %s, to confirm", c.Name).About("typed")
	}
	return "clients", fmt.Sprintf("Client %s is deleted, and its tokens are blocked.", c.Name), v.Do("DELETE", clientResource(v), nil, nil)
}

type clientView struct {
	adminservice.ClientDetails
	Tasks []clientTask
}

func loadClient(v *Visit) (any, error) {
	c, err := get[adminservice.ClientDetails](v, clientResource(v))
	for _, n := range c.Notifications {
		if n.State == adminservice.NotificationWaiting || n.State == adminservice.NotificationDelivered {
			v.soon()
		}
	}
	return clientView{ClientDetails: c, Tasks: clientTasks}, err
}

const (
	// shownInstances bounds what a page shows of one class of an inventory, and
	// shownOfAll what it shows of all of them: the rest is found by search, and
	// in the download.
	shownInstances = 100
	shownOfAll     = 2000
)

type inventoryPage struct {
	adminservice.ClientReport
	Client  adminservice.ClientDetails
	Action  string // as in the address
	Find    string
	Full    bool
	Both    bool // the client sent a full report and changes
	Classes []inventoryTable
}

// An inventoryTable is a class of an inventory: a row for each instance.
type inventoryTable struct {
	Class, Namespace string
	Columns          []string
	Rows             [][]string
	Total            int // instances in the report, or those that were found
}

func loadInventory(v *Visit) (any, error) {
	c, err := get[adminservice.ClientDetails](v, clientResource(v))
	if err != nil {
		return nil, err
	}
	p := inventoryPage{Client: c, Action: v.Request.PathValue("action"), Find: strings.TrimSpace(v.Query("find")), Full: v.Query("full") != "false"}
	inv, err := get[adminservice.Inventory](v, inventoryResource(v, p.Full, ""))
	if err != nil {
		return nil, err
	}
	p.ClientReport = inv.ClientReport
	for _, r := range c.Inventory {
		p.Both = p.Both || strings.EqualFold(r.Action, inv.Action) && r.Full != inv.Full
	}
	left := shownOfAll
	for _, class := range inv.Classes {
		t := tableOf(class, p.Find, min(left, shownInstances))
		if t.Total == 0 {
			continue
		}
		left -= len(t.Rows)
		p.Classes = append(p.Classes, t)
	}
	return p, nil
}

func inventoryResource(v *Visit, full bool, format string) string {
	q := url.Values{}
	if !full {
		q.Set("full", "false")
	}
	if format != "" {
		q.Set("format", format)
	}
	return clientResource(v) + "/inventory/" + url.PathEscape(v.Request.PathValue("action")) + "?" + q.Encode()
}

// tableOf makes a table of the instances that hold the text find, of which it
// keeps at most limit.
func tableOf(class adminservice.InventoryClass, find string, limit int) inventoryTable {
	t := inventoryTable{Class: class.Class, Namespace: class.Namespace}
	at := map[string]int{}
	var kept []adminservice.InventoryInstance
	for _, in := range class.Instances {
		if !holds(class.Class, in, find) {
			continue
		}
		t.Total++
		if len(kept) == limit {
			continue
		}
		kept = append(kept, in)
		for _, p := range in.Properties {
			if _, ok := at[p.Name]; !ok {
				at[p.Name] = len(t.Columns)
				t.Columns = append(t.Columns, p.Name)
			}
		}
	}
	for _, in := range kept {
		row := make([]string, len(t.Columns))
		for _, p := range in.Properties {
			row[at[p.Name]] = p.Value
		}
		t.Rows = append(t.Rows, row)
	}
	return t
}

func holds(class string, in adminservice.InventoryInstance, find string) bool {
	find = strings.ToLower(find)
	if strings.Contains(strings.ToLower(class), find) {
		return true
	}
	for _, p := range in.Properties {
		if strings.Contains(strings.ToLower(p.Name), find) || strings.Contains(strings.ToLower(p.Value), find) {
			return true
		}
	}
	return false
}

// downloadInventory gives a report as the client sent it.
func downloadInventory(w http.ResponseWriter, v *Visit) error {
	text, _, err := v.Client.Text(v.Context(), inventoryResource(v, v.Query("full") != "false", "xml"))
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/xml")
	w.Header().Set("Content-Disposition", `attachment; filename="inventory.xml"`)
	w.Write(text)
	return nil
}
