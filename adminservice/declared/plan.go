package declared

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/opencmg/opencmg"
	"github.com/opencmg/opencmg/adminservice"
)

// An Action is what a plan does with an object, or does not.
type Action string

// The actions. The last three are shown and nothing is done.
const (
	Create   Action = "create"
	Update   Action = "change"
	Delete   Action = "delete"
	Continue Action = "continue" // wait for, or begin again, an operation that is under way or failed

	Undeclared Action = "undeclared" // the file does not have it: it is left alone
	Waiting    Action = "waiting"    // it can not be made from here: somebody has to join a host
	Refused    Action = "refused"    // can not be made so
)

// A Cost is what a change means for those who use the gateways.
type Cost string

// The costs, the least first.
const (
	CostNone          Cost = "none"
	CostConfiguration Cost = "configuration" // a new published configuration within a second
	CostDeployment    Cost = "deployment"    // machines are made; those that run go on
	CostRolling       Cost = "rolling"       // machines are replaced or go, one after the other, without failed requests
	CostOutage        Cost = "outage"        // somebody is not served for a while, or any more
)

var costs = []Cost{CostNone, CostConfiguration, CostDeployment, CostRolling, CostOutage}

// A Change is one object of a plan.
type Change struct {
	Action Action  `json:"action"`
	Kind   string  `json:"kind"` // e.g. "gateway"
	Name   string  `json:"name"`
	Fields []Field `json:"fields,omitempty"`
	Cost   Cost    `json:"cost"`
	// Effect says what the cost consists of.
	Effect string `json:"effect,omitempty"`
	// Reason says why nothing is done, and what to do.
	Reason string `json:"reason,omitempty"`

	do func(context.Context, *run) error // nil when nothing is done
}

// costs adds an effect; the dearest one counts.
func (c *Change) costs(cost Cost, effect string) {
	if c.Effect != "" {
		effect = c.Effect + "; " + effect
	}
	c.Effect = effect
	if slices.Index(costs, cost) > slices.Index(costs, c.Cost) || c.Cost == "" {
		c.Cost = cost
	}
}

// A Plan is what would be done, in this order.
type Plan struct {
	Site    opencmg.SiteCode `json:"site"`
	Changes []Change         `json:"changes"`

	state *state // that it was made from
}

// Pending are the changes that would be made.
func (p *Plan) Pending() (list []*Change) {
	for i := range p.Changes {
		if p.Changes[i].do != nil {
			list = append(list, &p.Changes[i])
		}
	}
	return list
}

// Refusals are what can not be made. A plan with any is not applied.
func (p *Plan) Refusals() (list []*Change) {
	for i := range p.Changes {
		if p.Changes[i].Action == Refused {
			list = append(list, &p.Changes[i])
		}
	}
	return list
}

// Options say how a plan is made.
type Options struct {
	// Dir is what files in the document are relative to.
	Dir string
	// Prune deletes what the site has beyond the sections of the document.
	Prune bool
}

// Make compares a document with the site. It changes nothing.
func Make(ctx context.Context, c *adminservice.Client, d *Document, o Options) (*Plan, error) {
	s, err := readState(ctx, c)
	if err != nil {
		return nil, err
	}
	p := &planner{ctx: ctx, c: c, d: d, s: s, cur: s.document(), o: o, objects: s.objects()}
	p.prepare()
	p.tenants()
	p.applications()
	p.azureServices()
	p.trustedCertificates()
	p.tokenIssuers()
	p.siteRoles()
	if err := p.gateways(); err != nil {
		return nil, err
	}
	p.connectionPoints()
	p.boundaryGroups()
	p.clientSettings()
	slices.Reverse(p.late)
	return &Plan{Site: s.site.Code, Changes: slices.Concat(p.early, p.main, p.late, p.notes), state: s}, nil
}

// A planner makes a plan. What is deleted early makes room for what is made;
// what others refer to is deleted late, in the reverse order.
type planner struct {
	ctx     context.Context
	c       *adminservice.Client
	d, cur  *Document
	s       *state
	o       Options
	objects map[string]object

	early, main, late, notes []Change

	names map[string]bool // of what will be there, by kind and key
}

// Kinds of objects, as people read them.
const (
	kindTenant       = "tenant"
	kindApplication  = "application"
	kindAzureService = "Azure service"
	kindTrusted      = "trusted certificate"
	kindIssuer       = "token issuer"
	kindRole         = "site role"
	kindGateway      = "gateway"
	kindPoint        = "connection point"
	kindGroup        = "boundary group"
	kindSettings     = "client settings"
)

func objectKey(kind, key string) string { return kind + "/" + strings.ToLower(key) }

// A section is one of the document's lists.
type section[E any] struct {
	kind              string
	declared, current []E
	key               func(*E) string
	name              func(*E) string // nil: the key
	// create and change fill in what a change costs and how it is made; a change
	// that is refused or waits gets its reason.
	create func(*E, *Change)
	change func(v, cur *E, c *Change)
	remove func(cur *E, c *Change)
	early  bool // deletions come first
	// fixed says how to get another value of a field that can not be changed.
	fixed string
}

// compare plans a section.
func compare[E any](p *planner, s section[E]) {
	if s.declared == nil {
		return
	}
	name := s.name
	if name == nil {
		name = s.key
	}
	declared := map[string]bool{}
	for i := range s.declared {
		v := &s.declared[i]
		key := s.key(v)
		declared[strings.ToLower(key)] = true
		n := slices.IndexFunc(s.current, func(e E) bool { return strings.EqualFold(s.key(&e), key) })
		c := Change{Kind: s.kind, Name: name(v), Cost: CostNone}
		if n < 0 {
			c.Action, c.Fields = Create, fieldsOf(v)
			s.create(v, &c)
			p.add(c)
			continue
		}
		cur := &s.current[n]
		c.Action, c.Name = Update, name(cur)
		fields, fixed := differences(v, cur)
		if c.Fields = fields; len(fixed) > 0 {
			for _, f := range fixed {
				p.refuse(s.kind, c.Name, []Field{f}, "%s can not be changed: %s", f.Name, s.fixed)
			}
			continue
		}
		s.change(v, cur, &c)
		if len(c.Fields) > 0 || c.Action != Update {
			p.add(c)
		}
	}
	for i := range s.current {
		cur := &s.current[i]
		if declared[strings.ToLower(s.key(cur))] {
			continue
		}
		c := Change{Action: Delete, Kind: s.kind, Name: name(cur), Cost: CostNone}
		if !p.o.Prune {
			c.Action, c.Reason = Undeclared, "the site has it and the file does not: left alone; --prune deletes it"
			p.notes = append(p.notes, c)
			continue
		}
		obj := p.objects[objectKey(s.kind, s.key(cur))]
		c.do = func(ctx context.Context, r *run) error { return r.delete(ctx, obj) }
		s.remove(cur, &c)
		if s.early {
			p.early = append(p.early, c)
		} else {
			p.late = append(p.late, c)
		}
	}
}

// add takes a change into the plan.
func (p *planner) add(c Change) {
	if c.Action == Refused || c.Action == Waiting {
		c.do, c.Cost, c.Effect = nil, CostNone, ""
		p.notes = append(p.notes, c)
		return
	}
	p.main = append(p.main, c)
}

func (p *planner) refuse(kind, name string, fields []Field, format string, args ...any) {
	p.notes = append(p.notes, Change{Action: Refused, Kind: kind, Name: name, Fields: fields, Cost: CostNone, Reason: fmt.Sprintf(format, args...)})
}

// refused turns a change into a refusal.
func (c *Change) refused(format string, args ...any) {
	c.Action, c.Reason = Refused, fmt.Sprintf(format, args...)
}

// prepare notes what will be there when everything is done, which others may
// refer to.
func (p *planner) prepare() {
	p.names = map[string]bool{}
	note := func(kind, key string) { p.names[objectKey(kind, key)] = true }
	for _, d := range []*Document{p.d, p.cur} {
		current := d == p.cur
		if !current || !p.o.Prune || p.d.Applications == nil {
			for i := range d.Applications {
				note(kindApplication, d.Applications[i].ClientID)
				if t := d.Applications[i].TenantID; t != nil {
					note(kindTenant, *t)
				}
			}
		}
		if !current || !p.o.Prune || p.d.TrustedCertificates == nil {
			for i := range d.TrustedCertificates {
				note(kindTrusted, thumbprint(d.TrustedCertificates[i].Certificate))
			}
		}
		if !current || !p.o.Prune || p.d.SiteRoles == nil {
			for i := range d.SiteRoles {
				note(kindRole, d.SiteRoles[i].Name)
			}
		}
		if !current || !p.o.Prune || p.d.Gateways == nil {
			for i := range d.Gateways {
				note(kindGateway, d.Gateways[i].Name)
			}
		}
	}
}

func (p *planner) has(kind, key string) bool { return p.names[objectKey(kind, key)] }

// publishes adds what every change costs that gateways are told of.
func (p *planner) publishes(c *Change, what string) {
	if len(p.s.gateways) == 0 {
		c.costs(CostNone, "nothing: the site has no gateway yet")
		return
	}
	c.costs(CostConfiguration, what)
}

const newConfiguration = "a new published configuration within a second, nothing restarts"

// readFile reads a file that the document names.
func (p *planner) readFile(path string) ([]byte, error) {
	if !filepath.IsAbs(path) {
		path = filepath.Join(p.o.Dir, path)
	}
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if info.Size() > MaxFile {
		return nil, errors.New(path + " is larger than " + fmt.Sprint(MaxFile) + " bytes")
	}
	return os.ReadFile(path)
}

// readLine is the first line of a file, which holds a secret.
func (p *planner) readLine(path *string) (string, error) {
	if path == nil {
		return "", nil
	}
	b, err := p.readFile(*path)
	line, _, _ := strings.Cut(string(b), "\n")
	return strings.TrimSuffix(line, "\r"), err
}
