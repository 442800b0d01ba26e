package declared

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"strings"

	"github.com/goccy/go-yaml"

	"github.com/opencmg/opencmg"
	"github.com/opencmg/opencmg/adminservice"
)

// An Event is told while a plan is applied.
type Event struct {
	Change *Change
	// State is begun, progress, done or failed.
	State string
	Text  string // of progress
	Err   error  // of failed
}

// States of an [Event].
const (
	Begun    = "begun"
	Progress = "progress"
	Done     = "done"
	Failed   = "failed"
)

// Apply makes the changes of the plan in their order, and waits for each to
// end. It stops at the first that fails. What somebody else changed since the
// plan was made is not overwritten: the error is Stale, and a new plan shows
// what to do. A plan with refusals is not begun.
//
// A process that ends in the middle leaves whole changes, and operations that the
// site goes on with: a new plan shows the rest.
func (p *Plan) Apply(ctx context.Context, c *adminservice.Client, tell func(Event)) error {
	if n := len(p.Refusals()); n > 0 {
		return opencmg.Errorf(opencmg.Invalid, "nothing was changed: %s of the plan can not be made", count(n, "change"))
	}
	if tell == nil {
		tell = func(Event) {}
	}
	r := &run{c: c, state: p.state, own: map[string]object{}}
	for _, change := range p.Pending() {
		tell(Event{Change: change, State: Begun})
		r.say = func(text string) { tell(Event{Change: change, State: Progress, Text: text}) }
		if err := change.do(ctx, r); err != nil {
			tell(Event{Change: change, State: Failed, Err: err})
			return fmt.Errorf("%s %s %s: %w", change.Action, change.Kind, change.Name, err)
		}
		tell(Event{Change: change, State: Done})
	}
	return nil
}

// An object is one of the site's, as it was seen.
type object struct {
	key     string // see objectKey
	path    string // e.g. "Gateways/16777217"
	version int64
	// print is the object as it would be declared: the site raises the version
	// for reasons of its own too.
	print string
}

// objects are all that can be changed.
func (s *state) objects() map[string]object {
	all := map[string]object{}
	add := func(kind, key, path string, version int64, entry any) {
		b, err := yaml.Marshal(entry)
		if err != nil {
			panic(fmt.Sprintf("declared: %T: %v", entry, err)) // it is ours
		}
		k := objectKey(kind, key)
		all[k] = object{k, path, version, string(b)}
	}
	for i := range s.tenants {
		v := &s.tenants[i]
		add(kindTenant, v.ID, "Tenants/"+url.PathEscape(v.ID), v.Version, s.tenant(v))
	}
	for i := range s.applications {
		v := &s.applications[i]
		add(kindApplication, v.ClientID, "Applications/"+url.PathEscape(v.ID), v.Version, s.application(v))
	}
	for i := range s.services {
		v := &s.services[i]
		add(kindAzureService, v.Name, "AzureServices/"+url.PathEscape(v.ID), v.Version, s.service(v))
	}
	for i := range s.trusted {
		v := &s.trusted[i]
		add(kindTrusted, v.Thumbprint, "TrustedCertificates/"+url.PathEscape(v.ID), v.Version, s.trustedCertificate(v))
	}
	for i := range s.issuers {
		v := &s.issuers[i]
		add(kindIssuer, thumbprint(v.Certificate), "TokenIssuers/"+url.PathEscape(v.ID), v.Version, s.issuer(v))
	}
	for i := range s.roles {
		v := &s.roles[i]
		add(kindRole, v.Name, "SiteRoles/"+url.PathEscape(v.ID), v.Version, s.role(v))
	}
	for i := range s.gateways {
		v := &s.gateways[i]
		// What the certificate is belongs to what was seen, though it is not
		// declared.
		add(kindGateway, v.Name, "Gateways/"+url.PathEscape(v.ID), v.Version, []any{s.gateway(v), v.CertificateThumbprint})
	}
	for i := range s.points {
		v := &s.points[i]
		add(kindPoint, v.Name, "ConnectionPoints/"+url.PathEscape(v.ID), v.Version, s.point(v))
	}
	for i := range s.groups {
		v := &s.groups[i]
		add(kindGroup, v.Name, "BoundaryGroups/"+url.PathEscape(v.ID), v.Version, []any{s.group(v), v.IncludeCloudSources})
	}
	add(kindSettings, s.settings.Name, "ClientSettings/"+url.PathEscape(s.settings.ID), s.settings.Version, s.clientSettings())
	return all
}

// A run is a plan being applied.
type run struct {
	c     *adminservice.Client
	state *state
	own   map[string]object // what this run changed, as it is since
	say   func(string)
}

// send makes a request, waits for the operation that it may begin, and reads the
// site again, since what comes next may refer to what was made.
func (r *run) send(ctx context.Context, method, path string, version int64, body any) error {
	var answer json.RawMessage
	if err := r.c.Change(ctx, method, path, version, body, &answer); err != nil {
		return err
	}
	// An operation is known by its progress; no object has one.
	var op struct {
		ID      string `json:"id"`
		Percent *int   `json:"percent"`
	}
	if len(answer) > 0 {
		if err := json.Unmarshal(answer, &op); err != nil {
			return fmt.Errorf("read the answer to %s %s: %w", method, path, err)
		}
	}
	if op.Percent != nil {
		if err := r.wait(ctx, op.ID); err != nil {
			return err
		}
	}
	return r.refresh(ctx)
}

func (r *run) wait(ctx context.Context, operation string) error {
	_, err := r.c.Wait(ctx, operation, func(op adminservice.Operation, l adminservice.OperationLog) {
		r.say(fmt.Sprintf("%d%% %s: %s", op.Percent, l.Step, l.Text))
	})
	return err
}

func (r *run) refresh(ctx context.Context) error {
	s, err := readState(ctx, r.c)
	if err == nil {
		r.state = s
	}
	return err
}

// adopt takes an object as it is now for what this run made of it.
func (r *run) adopt(ctx context.Context, key string) error {
	if err := r.refresh(ctx); err != nil {
		return err
	}
	if o, ok := r.state.objects()[key]; ok {
		r.own[key] = o
	}
	return nil
}

// tries bounds how often a change is repeated because the site raised the
// object's version by itself.
const tries = 10

// change makes a request for an object that was seen when the plan was made.
func (r *run) change(ctx context.Context, seen object, method, below string, body any) error {
	if o, ok := r.own[seen.key]; ok {
		seen = o
	}
	for range tries {
		err := r.send(ctx, method, seen.path+below, seen.version, body)
		if err == nil {
			return r.adopt(ctx, seen.key)
		}
		if !errors.Is(err, opencmg.Stale) {
			return err
		}
		if err := r.refresh(ctx); err != nil {
			return err
		}
		now, ok := r.state.objects()[seen.key]
		if !ok || now.path != seen.path || now.print != seen.print {
			return opencmg.Errorf(opencmg.Stale, "somebody else changed it since the plan was made: look at a new plan (opencmg plan), then apply again")
		}
		seen.version = now.version
	}
	return opencmg.Errorf(opencmg.Stale, "the site changes it all the time: apply again")
}

// delete deletes an object that was seen when the plan was made.
func (r *run) delete(ctx context.Context, seen object) error {
	if err := r.change(ctx, seen, "DELETE", "", nil); err != nil {
		return err
	}
	// The site takes what is gone out of other objects.
	for key, o := range r.state.objects() {
		if strings.HasPrefix(key, kindGroup+"/") || strings.HasPrefix(key, kindPoint+"/") {
			r.own[key] = o
		}
	}
	return nil
}
