package console

import (
	"cmp"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/opencmg/opencmg"
	"github.com/opencmg/opencmg/adminservice"
)

func gatewayViews() []view {
	const node = "gateways"
	return []view{
		{pattern: "gateways", node: node, title: "Cloud Management Gateway", template: "gateways", load: loadGateways},
		{pattern: "gateways/new", node: node, title: "Create a cloud management gateway", template: "gateway-new", load: loadGatewayWizard},
		{pattern: "gateways/{id}", node: node, title: "Cloud management gateway", template: "gateway", load: loadGateway},
		{pattern: "gateways/{id}/properties", node: node, title: "Properties of a gateway", template: "gateway-properties", load: loadGatewayProperties},
	}
}

func gatewayActions() []action {
	const page = "gateways/{id}"
	actions := []action{
		{pattern: "gateways/new", page: "gateways/new", do: createGateway, fields: newGatewayFields},
		{pattern: "gateways/{id}/scale", page: page, do: scaleGateway},
		{pattern: "gateways/{id}/delete", page: page, do: deleteGateway},
		{pattern: "gateways/{id}/remove-instance", page: page, do: removeInstance},
		{pattern: "gateways/{id}/properties", page: "gateways/{id}/properties", do: changeGateway, fields: newGatewayFields},
		{pattern: "gateways/{id}/certificate", page: "gateways/{id}/properties", do: replaceCertificate, fields: certificateFields},
	}
	for _, name := range []string{"start", "stop", "synchronize", "upgrade", "convert", "retry", "obtainCertificate"} {
		actions = append(actions, action{pattern: "gateways/{id}/" + name, page: page, do: func(v *Visit) (string, string, error) {
			var op adminservice.Operation
			err := v.Do("POST", gatewayPath(v.ID())+"/"+name, nil, &op)
			return gatewayProgress(v.ID(), op.ID), "", err
		}})
	}
	return actions
}

func gatewayPath(id string) string { return "Gateways/" + url.PathEscape(id) }

// gatewayProgress is the page of a gateway that shows an operation to its end.
func gatewayProgress(id, op string) string {
	next := "gateways/" + url.PathEscape(id)
	if op != "" {
		next += "?operation=" + url.QueryEscape(op)
	}
	return next
}

// A gatewayRow is a gateway in words.
type gatewayRow struct{ adminservice.Gateway }

// A gatewayListRow is one in the list.
type gatewayListRow struct {
	gatewayRow
	CertTone string
}

func loadGateways(v *Visit) (any, error) {
	found, err := some[adminservice.Gateway](v, "gateways", "Gateways", nil)
	p := somePage[gatewayListRow]{Span: found.Span}
	for _, g := range found.List {
		p.List = append(p.List, gatewayListRow{gatewayRow{g}, endTone(g.CertificateEnds, time.Now())})
	}
	return p, err
}

// modelName is a deployment model for people.
func modelName(model string) string {
	switch model {
	case adminservice.ModelScaleSet:
		return "Virtual machine scale set"
	case adminservice.ModelSelfHosted:
		return "Self-hosted"
	case adminservice.ModelClassic:
		return "Classic deployment"
	}
	return model
}

// ModelName is its deployment model.
func (g gatewayRow) ModelName() string { return modelName(g.Model) }

// Programs are the versions of the program that its instances run.
func (g gatewayRow) Programs() string {
	var versions []string
	for _, m := range g.Machines {
		if m.Status != nil && !slices.Contains(versions, m.Status.Version) {
			versions = append(versions, m.Status.Version)
		}
	}
	return strings.Join(versions, ", ")
}

// Held is how many clients wait for notifications at all instances.
func (g gatewayRow) Held() (n int64) {
	for _, m := range g.Machines {
		if m.Status != nil {
			n += m.Status.Held
		}
	}
	return n
}

// Can reports whether the gateway's state allows an action.
func (g gatewayRow) Can(action string) bool { return slices.Contains(g.Actions, action) }

// SelfHosted reports whether its instances are hosts of somebody's own.
func (g gatewayRow) SelfHosted() bool { return g.Model == adminservice.ModelSelfHosted }

// Classic reports whether it is a deployment that waits to be converted.
func (g gatewayRow) Classic() bool { return g.Model == adminservice.ModelClassic }

// endTone is the colour of a certificate's end.
func endTone(ends time.Time, now time.Time) string {
	switch left := ends.Sub(now); {
	case ends.IsZero():
		return "none"
	case left < 7*24*time.Hour:
		return "bad"
	case left < 30*24*time.Hour:
		return "warn"
	}
	return "good"
}

// gatewayPage is what the details page shows.
type gatewayPage struct {
	gatewayRow
	Operation *operationShown // under way, or asked for
	Cards     []instanceCard
	Points    []pointTraffic
	Traffic   []adminservice.GatewayTraffic
	History   []*operationShown
	App       string // name of the server application
	Sizes     []opencmg.VMSizeFacts
	CertTone  string
}

// An instanceCard is an instance with the tunnels to it.
type instanceCard struct {
	adminservice.Instance
	Tunnels []instanceTunnel
	Gateway string // ID
	Stale   bool   // configuration is not the published one
	Busy    bool   // the gateway is being changed
}

type instanceTunnel struct {
	Point string
	opencmg.TunnelStatus
}

// pointTraffic is what a connection point counted.
type pointTraffic struct {
	Name   string
	Status *opencmg.ConnectionPointStatus
	Rows   []opencmg.EndpointTraffic
}

// purposes say what clients want of an endpoint.
var purposes = map[string]string{
	"CCM_STS": "tokens", "ccm_system": "registration, policy, location", "ccm_system_tokenauth": "registration, policy, location (with a token)", "ccm_incoming": "inventory and state messages",
	"SMS_MP": "policy bodies and management point lists", "CCM_Client": "content of the client's installation", "BGB": "notification",
}

func loadGateway(v *Visit) (any, error) {
	g, err := get[adminservice.Gateway](v, gatewayPath(v.ID()))
	if err != nil {
		return nil, err
	}
	p := &gatewayPage{gatewayRow: gatewayRow{g}, Sizes: opencmg.VMSizes(), CertTone: endTone(g.CertificateEnds, time.Now())}
	points, err := list[adminservice.ConnectionPoint](v, "ConnectionPoints")
	if err != nil {
		return nil, err
	}
	for _, m := range g.Machines {
		c := instanceCard{Instance: m, Gateway: g.ID, Busy: len(g.Actions) == 0, Stale: m.Status != nil && m.Status.Configuration != g.Configuration}
		for _, cp := range points {
			if cp.Status == nil {
				continue
			}
			for _, t := range cp.Status.Tunnels {
				if t.Gateway == g.Name && t.Instance == m.Number {
					c.Tunnels = append(c.Tunnels, instanceTunnel{cp.Name, t})
				}
			}
		}
		p.Cards = append(p.Cards, c)
	}
	for _, cp := range points {
		if cp.GatewayID == g.ID {
			p.Points = append(p.Points, trafficOf(&cp, &g))
		}
	}
	if p.Traffic, err = list[adminservice.GatewayTraffic](v, gatewayPath(g.ID)+"/traffic"); err != nil {
		return nil, err
	}
	return p, p.loadOperations(v)
}

// trafficOf are the counts of a connection point for the gateway, role by role.
func trafficOf(cp *adminservice.ConnectionPoint, g *adminservice.Gateway) pointTraffic {
	t := pointTraffic{Name: cp.Name, Status: cp.Status}
	if cp.Status != nil {
		for _, e := range cp.Status.Endpoints {
			if e.ProxyServer == "" || strings.EqualFold(e.ProxyServer, g.ServiceName) {
				t.Rows = append(t.Rows, e)
			}
		}
	}
	slices.SortStableFunc(t.Rows, func(a, b opencmg.EndpointTraffic) int {
		return cmp.Or(cmp.Compare(a.TargetHost, b.TargetHost), cmp.Compare(a.Name, b.Name))
	})
	return t
}

// maxHistory is how many operations of a gateway its page lists.
const maxHistory = 10

func (p *gatewayPage) loadOperations(v *Visit) error {
	ops, err := list[adminservice.Operation](v, "Operations?$top="+strconv.Itoa(maxHistory)+"&subject="+url.QueryEscape(p.ID))
	if err != nil {
		return err
	}
	for _, op := range ops {
		p.History = append(p.History, showOperation(op))
	}
	id := v.Query("operation")
	if p.OperationID != "" && p.State != adminservice.StateError {
		id = p.OperationID
	}
	// An operation of something else has no place on this page.
	if !slices.ContainsFunc(ops, func(op adminservice.Operation) bool { return op.ID == id }) {
		id = ""
	}
	if id != "" {
		if p.Operation, err = loadOperation(v, id); err != nil {
			return err
		}
	}
	if p.ServerAppID == "" {
		return nil
	}
	apps, err := list[adminservice.Application](v, "Applications")
	for _, a := range apps {
		if a.ID == p.ServerAppID {
			p.App = a.Name
		}
	}
	return err
}

func scaleGateway(v *Visit) (string, string, error) {
	n, err := formNumber(v, "instances")
	if err != nil {
		return "", "", err
	}
	change := adminservice.GatewayChange{Instances: &n}
	if size := opencmg.VMSize(v.Form("size")); size != "" {
		change.Size = &size
	}
	var changed gatewayOrOperation
	err = v.Do("PATCH", gatewayPath(v.ID()), change, &changed)
	return gatewayProgress(v.ID(), changed.operation()), "", err
}

// A gatewayOrOperation is either, as the service answers a change.
type gatewayOrOperation struct {
	ID          string `json:"id"`
	Kind        string `json:"kind"`        // of an operation
	Subject     string `json:"subject"`     // of an operation: the gateway's ID
	ServiceName string `json:"serviceName"` // of a gateway
}

// operation is the operation's ID, empty when nothing takes time.
func (g *gatewayOrOperation) operation() string {
	if g.Kind == "" {
		return ""
	}
	return g.ID
}

// gateway is the gateway's ID.
func (g *gatewayOrOperation) gateway() string {
	if g.Kind == "" {
		return g.ID
	}
	return g.Subject
}

func deleteGateway(v *Visit) (string, string, error) {
	g, err := get[adminservice.Gateway](v, gatewayPath(v.ID()))
	if err != nil {
		return "", "", err
	}
	if err := typedName(v, g.ServiceName); err != nil {
		return "", "", err
	}
	var op adminservice.Operation
	err = v.Do("DELETE", gatewayPath(g.ID), nil, &op)
	return "operations/" + url.PathEscape(op.ID), "", err
}

func removeInstance(v *Visit) (string, string, error) {
	n, err := formNumber(v, "number")
	if err != nil {
		return "", "", err
	}
	err = v.Do("POST", gatewayPath(v.ID())+"/removeInstance", adminservice.RemoveInstance{Number: n}, nil)
	return gatewayProgress(v.ID(), ""), "The instance was removed: connection points no longer dial it. End the program on its host.", err
}

// Purpose says what clients want of an endpoint, empty when that is not known.
func (pointTraffic) Purpose(endpoint string) string { return purposes[endpoint] }

// CPU is the instance's load for people.
func (c instanceCard) CPU() string {
	if c.CPUPercent == nil {
		return "not known yet"
	}
	return strconv.FormatFloat(*c.CPUPercent, 'f', 1, 64) + " % of a core"
}

// Rate is how many requests a second it answers, for people.
func (c instanceCard) Rate() string {
	if c.RequestsPerSecond == nil {
		return "not known yet"
	}
	return strconv.FormatFloat(*c.RequestsPerSecond, 'f', 1, 64) + " a second"
}

// Tone is the colour of the instance as a whole.
func (c instanceCard) Tone() string {
	switch {
	case c.Connected && (c.Status == nil || !c.Status.Draining):
		return "good"
	case c.Power != "" && c.Power != "running", c.Status != nil && c.Status.Draining:
		return "warn"
	case c.Busy:
		return "busy"
	}
	return "bad"
}

// ConnectedCount is how many instances a connection point holds tunnels to.
func (p *gatewayPage) ConnectedCount() (n int) {
	for _, c := range p.Cards {
		if c.Connected {
			n++
		}
	}
	return n
}
