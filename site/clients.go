package site

import (
	"errors"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/opencmg/opencmg"
	"github.com/opencmg/opencmg/adminservice"
	"github.com/opencmg/opencmg/ccm"
	"github.com/opencmg/opencmg/pki"
	"github.com/opencmg/opencmg/sitedb"
)

// Clients are in the database that the site shares with its management points,
// one row each, and may be very many: the database cuts every page of them, and
// nothing here reads them all.

const (
	// clientPage is the size of a page of clients when nobody says another.
	clientPage = 100
	// maxClientCount bounds the work of counting.
	maxClientCount = 1_000_000

	shownStates        = 200
	shownNotifications = 100
	shownTokens        = 100
)

// clientOrders are what $orderby may name.
var clientOrders = map[string]sitedb.ClientOrder{"name": sitedb.ByName, "lastseen": sitedb.ByLastSeen, "registered": sitedb.ByRegistered}

func approvalName(a sitedb.Approval) string {
	switch a {
	case sitedb.ApprovalRefused:
		return adminservice.ApprovalRefused
	case sitedb.Approved:
		return adminservice.ApprovalApproved
	case sitedb.ApprovedByEntra:
		return adminservice.ApprovalByEntra
	}
	return adminservice.ApprovalPending
}

func registeredClient(c *sitedb.Client) adminservice.RegisteredClient {
	return adminservice.RegisteredClient{
		ID: c.ID, Name: c.NetBIOSName, FQDN: c.FQDN, AgentVersion: c.AgentVersion, Approval: approvalName(c.Approval), Auth: c.Auth, Group: c.Group,
		Registered: c.Registered, LastSeen: c.LastSeen, LastPolicy: c.LastPolicy, Blocked: c.Blocked, BlockedBy: c.BlockedBy, BlockReason: c.BlockReason,
		Online: adminservice.OnlineUnknown,
	}
}

// clientFilter is the database's form of a choice, all but who is online.
func clientFilter(in *adminservice.ClientChoice) (sitedb.ClientFilter, error) {
	f := sitedb.ClientFilter{Text: in.Search, Auth: in.Auth, Group: in.Group}
	if in.Auth != "" && !in.Auth.Valid() {
		return f, opencmg.Errorf(opencmg.Invalid, "auth %q: must be pki, entra, bulk-token, client-token, ccm-token or none", in.Auth).About("auth")
	}
	if in.Approval == "" {
		return f, nil
	}
	for _, a := range []sitedb.Approval{sitedb.ApprovalRefused, sitedb.ApprovalPending, sitedb.Approved, sitedb.ApprovedByEntra} {
		if approvalName(a) == in.Approval {
			f.Approval = &a
			return f, nil
		}
	}
	return f, opencmg.Errorf(opencmg.Invalid, "approval %q: must be pending, approved, approved-by-entra or refused", in.Approval).About("approval")
}

// listClients is GET Clients.
func (s *Server) listClients(w http.ResponseWriter, r *http.Request) error {
	v := r.URL.Query()
	q, err := adminservice.ParseQuery(v)
	if err != nil {
		return err
	}
	if q.Filter != nil {
		return opencmg.Errorf(opencmg.Invalid, "$filter: is not for clients; use search, auth, approval, group and online, which the database answers")
	}
	p := sitedb.ClientPage{Offset: q.Skip, Limit: q.Top}
	if !v.Has("$top") {
		p.Limit = clientPage
	}
	if len(q.OrderBy) > 0 {
		p.Order, p.Descending = clientOrders[strings.ToLower(q.OrderBy[0].Property)], q.OrderBy[0].Descending
		if p.Order == "" || len(q.OrderBy) > 1 {
			return opencmg.Errorf(opencmg.Invalid, "$orderby: must be name, lastSeen or registered, with asc or desc").About("$orderby")
		}
	}
	choice := adminservice.ClientChoice{Search: v.Get("search"), Auth: opencmg.AuthMode(v.Get("auth")), Approval: v.Get("approval"), Group: v.Get("group")}
	if choice.Online, err = queryBool(r, "online"); err != nil {
		return err
	}
	f, err := s.chosen(r.Context(), &choice)
	if err != nil {
		return err
	}
	var found []sitedb.Client
	var more bool
	var total int
	if q.Count {
		found, more, total, err = s.db.ListAndCount(r.Context(), f, p, maxClientCount)
	} else {
		found, more, err = s.db.ListClients(r.Context(), f, p)
	}
	if err != nil {
		return err
	}
	list := make([]adminservice.RegisteredClient, len(found))
	for i := range found {
		list[i] = registeredClient(&found[i])
	}
	if err := s.fillOnline(r.Context(), list); err != nil {
		return err
	}
	objects, err := toMaps(list)
	if err != nil {
		return err
	}
	return answerSome(w, r, q, q.Project(objects), more, total)
}

// clientOf finds the client that the path names, with or without the GUID: in
// front.
func clientOf(r *http.Request) (opencmg.ClientID, error) {
	text := r.PathValue("id")
	if !strings.Contains(text, ":") {
		text = "GUID:" + text
	}
	id, err := opencmg.ParseClientID(text)
	if err != nil {
		return "", opencmg.Errorf(opencmg.NotFound, "there is no client %.80q: its ID is GUID: followed by a GUID, as GET Clients lists it", r.PathValue("id"))
	}
	return id, nil
}

// getClient is GET Clients/{id}.
func (s *Server) getClient(w http.ResponseWriter, r *http.Request) error {
	id, err := clientOf(r)
	if err != nil {
		return err
	}
	return s.answerClient(w, r, id)
}

// answerClient answers all that is known about a client.
func (s *Server) answerClient(w http.ResponseWriter, r *http.Request, id opencmg.ClientID) error {
	ctx := r.Context()
	c, err := s.db.Client(ctx, id)
	if err != nil {
		return noClient(err, id)
	}
	out := adminservice.ClientDetails{
		RegisteredClient: registeredClient(&c), TenantID: c.TenantID, DeviceID: c.DeviceID, Subject: c.Subject, Thumbprint: c.Thumbprint,
		SigningThumbprint: pki.Thumbprint(c.Signing), SigningEnds: c.Signing.NotAfter.UTC(),
		Inventory: []adminservice.ClientReport{}, States: []adminservice.ClientState{}, Notifications: []adminservice.ClientNotification{}, Tokens: []adminservice.SiteToken{},
	}
	one := []adminservice.RegisteredClient{out.RegisteredClient}
	if err := s.fillOnline(ctx, one); err != nil {
		return err
	}
	out.RegisteredClient = one[0]
	switch _, err := read[blockedRecord](ctx, s.db, kindBlocked, certificateOf(&c)); {
	case err == nil:
		out.CertificateBlocked = true
	case !errors.Is(err, opencmg.NotFound):
		return err
	}
	reports, err := s.db.ReportHeads(ctx, id)
	if err != nil {
		return err
	}
	for _, rep := range reports {
		out.Inventory = append(out.Inventory, clientReport(rep))
	}
	states, err := s.db.StateMessages(ctx, id)
	if err != nil {
		return err
	}
	slices.SortStableFunc(states, func(a, b sitedb.StateMessage) int { return b.Received.Compare(a.Received) })
	for _, m := range states[:min(len(states), shownStates)] {
		out.States = append(out.States, adminservice.ClientState{TopicType: m.TopicType, TopicID: m.TopicID, StateID: m.StateID, Parameters: m.Parameters, Written: m.Written, Received: m.Received})
	}
	notifications, err := s.db.ClientNotifications(ctx, id, shownNotifications)
	if err != nil {
		return err
	}
	for _, n := range notifications {
		shown := s.clientNotification(n)
		shown.ClientName = c.NetBIOSName
		out.Notifications = append(out.Notifications, shown)
	}
	tokens, _, err := s.db.SiteTokens(ctx, sitedb.TokenFilter{ClientID: id}, 0, shownTokens)
	if err != nil {
		return err
	}
	for _, t := range tokens {
		out.Tokens = append(out.Tokens, siteToken(t))
	}
	return answer(w, http.StatusOK, out)
}

// noClient says in the words of this service that there is none.
func noClient(err error, id opencmg.ClientID) error {
	if errors.Is(err, opencmg.NotFound) {
		return opencmg.Errorf(opencmg.NotFound, "there is no client %s in the site's database: a management point with a database of its own keeps its clients to itself", id)
	}
	return err
}

// certificateOf is the thumbprint of the certificate that the client presents in
// TLS.
func certificateOf(c *sitedb.Client) string {
	if c.Thumbprint != "" {
		return c.Thumbprint
	}
	return pki.Thumbprint(c.Signing)
}

// actionNames are the inventory actions by the names that paths may have.
var actionNames = map[string]string{
	"hardware": ccm.ActionHardware, "software": ccm.ActionSoftware, "discovery": ccm.ActionDiscovery, "files": ccm.ActionFiles,
}

func clientReport(r sitedb.Report) adminservice.ClientReport {
	out := adminservice.ClientReport{Action: r.Action, Full: r.Full, Written: r.Written, Received: r.Received}
	for name, action := range actionNames {
		if strings.EqualFold(action, r.Action) {
			out.Name = name
		}
	}
	return out
}

// getInventory is GET Clients/{id}/inventory/{action}: the report as an object,
// or with format=xml as the client sent it.
func (s *Server) getInventory(w http.ResponseWriter, r *http.Request) error {
	id, err := clientOf(r)
	if err != nil {
		return err
	}
	action := r.PathValue("action")
	if named, ok := actionNames[strings.ToLower(action)]; ok {
		action = named
	} else {
		action = "{" + strings.ToUpper(strings.Trim(action, "{}")) + "}"
	}
	full := true
	if f, err := queryBool(r, "full"); err != nil {
		return err
	} else if f != nil {
		full = *f
	}
	report, err := s.db.Report(r.Context(), id, action, full)
	if err != nil {
		return err
	}
	switch format := r.URL.Query().Get("format"); format {
	case "xml":
		// Shown by a browser it must be a text and nothing that runs.
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		w.Header().Set("Content-Security-Policy", "sandbox")
		w.Write([]byte(report.XML))
		return nil
	case "", "json":
	default:
		return opencmg.Errorf(opencmg.Invalid, "format %q: must be json or xml", format).About("format")
	}
	parsed, err := ccm.ParseReport(report.XML)
	if err != nil {
		return opencmg.Errorf(opencmg.Conflict, "the report can not be read as an inventory; format=xml gives it as the client sent it: %v", err)
	}
	return answer(w, http.StatusOK, adminservice.Inventory{ClientReport: clientReport(report), Classes: inventoryClasses(parsed.Instances)})
}

// inventoryClasses puts instances of a class together, in the order in which the
// report first names each class.
func inventoryClasses(instances []ccm.Instance) []adminservice.InventoryClass {
	classes := []adminservice.InventoryClass{}
	at := map[[2]string]int{}
	for _, in := range instances {
		key := [2]string{in.Namespace, in.Class}
		i, ok := at[key]
		if !ok {
			i = len(classes)
			at[key] = i
			classes = append(classes, adminservice.InventoryClass{Namespace: in.Namespace, Class: in.Class})
		}
		one := adminservice.InventoryInstance{Properties: []adminservice.InventoryProperty{}}
		for _, p := range in.Properties {
			one.Properties = append(one.Properties, adminservice.InventoryProperty{Name: p.Name, Value: p.Value})
		}
		classes[i].Instances = append(classes[i].Instances, one)
	}
	return classes
}

// clientNotification shows a notification as it is now.
func (s *Server) clientNotification(n sitedb.Notification) adminservice.ClientNotification {
	out := adminservice.ClientNotification{
		ID: n.PushID, ClientID: n.ClientID, OperationID: n.Operation, Task: taskName(n.TaskType), Created: n.Created, Delivered: n.Delivered,
		Answered: n.Answered, ReturnCode: n.ReturnCode, State: adminservice.NotificationWaiting,
	}
	switch {
	case !n.Answered.IsZero() && n.ReturnCode != 0:
		out.State = adminservice.NotificationFailed
	case !n.Answered.IsZero():
		out.State = adminservice.NotificationAnswered
	case n.Cancelled:
		out.State = adminservice.NotificationCancelled
	case s.expired(n.Created):
		out.State = adminservice.NotificationExpired
	case !n.Delivered.IsZero():
		out.State = adminservice.NotificationDelivered
	}
	return out
}

// expired reports whether a notification is sent no more.
func (s *Server) expired(created time.Time) bool {
	return s.cfg.Now().Sub(created) > sitedb.NotificationLife
}
