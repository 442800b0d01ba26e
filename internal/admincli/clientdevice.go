package admincli

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"unicode"

	"github.com/opencmg/opencmg"
	"github.com/opencmg/opencmg/adminservice"
)

// "opencmg client" is the client on this device; "opencmg client-device" is the
// site's view of its clients.

// ClientDeviceList lists the clients of the site.
func ClientDeviceList(ctx context.Context, e *Env, args []string) error {
	var c asking
	options := url.Values{}
	fs := e.newFlags("client-device list [flags]", "List the clients that the site's database knows, by name.")
	c.register(fs, outputTable, outputJSON)
	for name, about := range map[string]string{
		"search":   "`part` of the name, the DNS name or the ID",
		"auth":     "only those that registered by this `mode`: pki, entra, bulk-token, client-token, ccm-token or none",
		"approval": "only those in this `state`: pending, approved, approved-by-entra or refused",
		"group":    "only those of the `group` of a bulk registration token",
		"online":   "`true` or false: only those that listen for notification now, or only the others",
	} {
		fs.Func(name, about, func(s string) error { options.Set(name, s); return nil })
	}
	top := fs.Int("top", adminservice.MaxPage, "at most so `many`, 1 to 1000")
	if _, err := c.parse(e, fs, args, 0, 0); err != nil {
		return err
	}
	options.Set("$top", strconv.Itoa(*top))
	client, err := c.client(e)
	if err != nil {
		return err
	}
	var page adminservice.Page[adminservice.RegisteredClient]
	if err := client.Do(ctx, http.MethodGet, "Clients?"+options.Encode(), nil, &page); err != nil {
		return err
	}
	if page.Next != "" {
		fmt.Fprintf(e.Stderr, "only the first %d are shown: narrow them, for example with --search\n", len(page.Value))
	}
	if c.way == outputJSON {
		return printJSON(e.Stdout, page.Value...)
	}
	var rows [][]string
	for _, d := range page.Value {
		rows = append(rows, []string{oneLine(d.Name), string(d.ID), d.Approval, string(d.Auth), d.Online, stamp(d.LastSeen), oneLine(d.Group)})
	}
	return printTable(e.Stdout, []string{"name", "id", "approval", "auth", "online", "last seen", "group"}, rows)
}

// clientDevice finds one client by its ID, or by a name that only one has.
func clientDevice(ctx context.Context, client *adminservice.Client, name string) (opencmg.ClientID, error) {
	if id, err := opencmg.ParseClientID(name); err == nil {
		return id, nil
	}
	found, err := adminservice.List[adminservice.RegisteredClient](ctx, client, "Clients", url.Values{"search": {name}, "$top": {"1000"}})
	if err != nil {
		return "", err
	}
	var ids []string
	for _, d := range found {
		if strings.EqualFold(d.Name, name) || strings.EqualFold(d.FQDN, name) {
			ids = append(ids, string(d.ID))
		}
	}
	switch len(ids) {
	case 0:
		return "", opencmg.Errorf(opencmg.NotFound, "there is no client %q: opencmg client-device list --search %s lists those whose name has it", name, name)
	case 1:
		return opencmg.ClientID(ids[0]), nil
	}
	return "", opencmg.Errorf(opencmg.Conflict, "%d clients are called %q: name one by its ID: %s", len(ids), name, strings.Join(ids[:min(len(ids), 10)], ", "))
}

// oneLine takes out of a name that a client gave itself what would move the
// cursor of a terminal.
func oneLine(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return '\uFFFD'
		}
		return r
	}, s)
}

// ClientDeviceShow prints all that the site knows of a client, as JSON.
func ClientDeviceShow(ctx context.Context, e *Env, args []string) error {
	var c connection
	fs := e.newFlags("client-device show CLIENT [flags]", "Print all that the site knows of a client, named by ID or name, as JSON.")
	c.register(fs)
	name, client, err := c.one(e, fs, args)
	if err != nil {
		return err
	}
	id, err := clientDevice(ctx, client, name)
	if err != nil {
		return err
	}
	d, err := adminservice.Get[adminservice.ClientDetails](ctx, client, "Clients/"+string(id))
	if err != nil {
		return err
	}
	return printJSON(e.Stdout, d)
}

// ClientDeviceNotify sends a task to clients.
func ClientDeviceNotify(ctx context.Context, e *Env, args []string) error {
	var c connection
	var in adminservice.NotifyClients
	fs := e.newFlags("client-device notify CLIENT ... [flags]", "Send a task to clients, named by ID or name. Those that listen get it at once, others when they listen again within a day.")
	c.register(fs)
	fs.StringVar(&in.Task, "task", "machine-policy", "`task`: machine-policy, hardware-inventory, discovery or test")
	names, err := parse(fs, args, 1, adminservice.MaxOperationClients)
	if err != nil {
		return err
	}
	client, err := c.client(e)
	if err != nil {
		return err
	}
	for _, name := range names {
		id, err := clientDevice(ctx, client, name)
		if err != nil {
			return err
		}
		in.Clients = append(in.Clients, id)
	}
	var op adminservice.ClientOperation
	if err := client.Do(ctx, http.MethodPost, "Notifications", in, &op); err != nil {
		return err
	}
	fmt.Fprintf(e.Stderr, "client operation %d: %s for %d clients\n", op.ID, op.Task, op.Clients)
	return nil
}

// ClientDeviceBlock refuses a client everywhere.
func ClientDeviceBlock(ctx context.Context, e *Env, args []string) error {
	return clientDeviceAct(ctx, e, args, "block", "blocked", "Refuse a client at every management point and gateway: its approval, its tokens and its certificate.")
}

// ClientDeviceReadmit takes the blocking back.
func ClientDeviceReadmit(ctx context.Context, e *Env, args []string) error {
	return clientDeviceAct(ctx, e, args, "readmit", "readmitted", "Take the blocking of a client back, with what was blocked with it.")
}

// ClientDeviceApprove lets a client in that waits.
func ClientDeviceApprove(ctx context.Context, e *Env, args []string) error {
	return clientDeviceAct(ctx, e, args, "approve", "approved", "Approve a client that waits for it.")
}

func clientDeviceAct(ctx context.Context, e *Env, args []string, act, done, about string) error {
	var c connection
	var reason string
	fs := e.newFlags("client-device "+act+" CLIENT [flags]", about+" It is named by ID or name.")
	c.register(fs)
	var in any
	if act == "block" {
		fs.StringVar(&reason, "reason", "", "`text` that is kept with it")
	}
	names, err := parse(fs, args, 1, 1)
	if err != nil {
		return err
	}
	if act == "block" {
		in = adminservice.BlockClient{Reason: reason}
	}
	client, err := c.client(e)
	if err != nil {
		return err
	}
	id, err := clientDevice(ctx, client, names[0])
	if err != nil {
		return err
	}
	var d adminservice.ClientDetails
	if err := client.Do(ctx, http.MethodPost, "Clients/"+string(id)+"/"+act, in, &d); err != nil {
		return err
	}
	fmt.Fprintf(e.Stderr, "%s client %s (%s): %s\n", done, id, oneLine(d.Name), d.Approval)
	if act == "readmit" && d.CertificateBlocked {
		fmt.Fprintf(e.Stderr, "its certificate was blocked by itself, and stays so: opencmg Unblock-CMCertificate -Id %s\n", d.Thumbprint)
	}
	return nil
}
