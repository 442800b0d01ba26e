package site

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/opencmg/opencmg"
	"github.com/opencmg/opencmg/adminservice"
	"github.com/opencmg/opencmg/azure"
	"github.com/opencmg/opencmg/sitedb"
)

// fullHours is how often everything is read anew unless the Azure service says
// another interval, of at most maxFullHours. A delta can not tell that a property
// was emptied, nor what happened while the site was away for long.
const (
	fullHours    = 24
	maxFullHours = 30 * 24
)

// mostDiscoveryPause bounds the pause after failures that name none.
const mostDiscoveryPause = time.Hour

// discoveryRecord is where the discovery of one kind goes on.
type discoveryRecord struct {
	Link     string    `json:"link,omitempty"` // delta link of the directory
	Full     time.Time `json:"full,omitzero"`  // the last that was complete
	Next     time.Time `json:"next,omitzero"`
	Failures int       `json:"failures,omitempty"`
	Text     string    `json:"text,omitempty"` // what the last one did
}

func discoveryID(service, kind string) string { return service + "/" + kind }

func forgetDiscovery(tx *sitedb.Tx, service, kind string) error {
	err := tx.Delete(kindDiscovery, discoveryID(service, kind), 0)
	if errors.Is(err, opencmg.NotFound) {
		return nil
	}
	return err
}

// kinds lists what an Azure service discovers.
func (v *azureServiceRecord) kinds() []string {
	var list []string
	if v.UserDiscovery {
		list = append(list, sitedb.DirectoryUser)
	}
	if v.GroupDiscovery {
		list = append(list, sitedb.DirectoryGroup)
	}
	return list
}

// discoverDue does every discovery whose time has come.
func (s *Server) discoverDue(ctx context.Context) error {
	services, err := readAll[azureServiceRecord](ctx, s.db, kindAzureService)
	if err != nil {
		return err
	}
	var failed []error
	for _, svc := range services {
		for _, kind := range svc.Value.kinds() {
			st, err := s.discoveryState(ctx, svc.ID, kind)
			if err != nil {
				return err
			}
			if s.cfg.Now().Before(st.Next) {
				continue
			}
			if err := s.discover(ctx, svc, kind, false); err != nil {
				failed = append(failed, fmt.Errorf("%ss of tenant %s: %w", kind, svc.Value.TenantID, err))
			}
		}
	}
	return errors.Join(failed...)
}

func (s *Server) discoveryState(ctx context.Context, service, kind string) (st discoveryRecord, err error) {
	rec, err := read[discoveryRecord](ctx, s.db, kindDiscovery, discoveryID(service, kind))
	if errors.Is(err, opencmg.NotFound) {
		return st, nil
	}
	if err != nil {
		return st, err
	}
	return rec.Value, nil
}

// discover reads what changed since the last time, or everything when that is
// asked for, is due, or is all that the directory offers. What it reads is kept
// page by page, and the delta link only at the end: a discovery that was cut off
// begins again where it began.
func (s *Server) discover(ctx context.Context, svc *record[azureServiceRecord], kind string, full bool) error {
	s.discovering.Lock()
	defer s.discovering.Unlock()
	st, err := s.discoveryState(ctx, svc.ID, kind)
	if err != nil {
		return err
	}
	now := s.cfg.Now().UTC()
	minutes, hours := svc.Value.UserDeltaMinutes, svc.Value.UserFullHours
	if kind == sitedb.DirectoryGroup {
		minutes, hours = svc.Value.GroupDeltaMinutes, svc.Value.GroupFullHours
	}
	full = full || st.Link == "" || now.Sub(st.Full) >= time.Duration(cmp.Or(hours, fullHours))*time.Hour
	d := &discovery{s: s, tenant: svc.Value.TenantID, kind: kind, groups: svc.Value.Groups}
	link, err := d.read(ctx, svc, st.Link, full)
	if errors.Is(err, azure.ErrResync) {
		full = true
		link, err = d.read(ctx, svc, "", full)
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	pause := time.Duration(minutes) * time.Minute
	if err != nil {
		pause = min(pause<<min(st.Failures, 8), max(pause, mostDiscoveryPause))
		if ce, ok := errors.AsType[*opencmg.CloudError](err); ok {
			pause = max(pause, ce.RetryAfter) // the directory knows better
		}
		st.Failures++
		st.Text = "failed at " + now.Format(time.RFC3339) + ": " + err.Error()
	} else {
		st.Link, st.Failures = link, 0
		word := "delta"
		if full {
			word, st.Full = "full", now
		}
		st.Text = fmt.Sprintf("%s at %s: %d read, %d removed", word, now.Format(time.RFC3339), d.seen, d.removed)
		s.log.Info("discovery", "component", componentManager, "tenant", d.tenant, "kind", kind, "way", word, "read", d.seen, "removed", d.removed)
	}
	st.Next = now.Add(pause)
	return errors.Join(err, s.keepDiscovery(ctx, svc, kind, st))
}

// keepDiscovery records where to go on, unless the Azure service went meanwhile.
func (s *Server) keepDiscovery(ctx context.Context, svc *record[azureServiceRecord], kind string, st discoveryRecord) error {
	return s.db.Change(ctx, "record discovery", func(tx *sitedb.Tx) error {
		now, err := get[azureServiceRecord](tx, kindAzureService, svc.ID)
		if errors.Is(err, opencmg.NotFound) {
			return tx.RemoveDirectory(svc.Value.TenantID)
		}
		if err != nil {
			return err
		}
		if kind == sitedb.DirectoryGroup && !slices.Equal(now.Value.Groups, svc.Value.Groups) {
			return nil // another choice was made: begin anew
		}
		rec, err := get[discoveryRecord](tx, kindDiscovery, discoveryID(svc.ID, kind))
		if errors.Is(err, opencmg.NotFound) {
			rec, err = &record[discoveryRecord]{ID: discoveryID(svc.ID, kind), Name: discoveryID(svc.ID, kind)}, nil
		}
		if err != nil {
			return err
		}
		rec.Value = st
		return rec.put(tx, kindDiscovery)
	})
}

// A discovery is one that is going on.
type discovery struct {
	s             *Server
	tenant, kind  string
	groups        []string // that are wanted; empty: all
	pass          int64
	seen, removed int64
}

// read reads to the end and returns the next delta link.
func (d *discovery) read(ctx context.Context, svc *record[azureServiceRecord], link string, full bool) (string, error) {
	app, err := read[applicationRecord](ctx, d.s.db, kindApplication, svc.Value.ServerAppID)
	if err != nil {
		return "", err
	}
	in, err := d.s.signInAs(ctx, app, "")
	if err != nil {
		return "", err
	}
	dir, err := d.s.cfg.Directory(in)
	if err != nil {
		return "", err
	}
	d.pass, d.seen, d.removed = 0, 0, 0
	if full {
		link = ""
		err := d.s.db.Change(ctx, "begin discovery", func(tx *sitedb.Tx) (err error) {
			d.pass, err = tx.NextNumber("discovery-pass")
			return err
		})
		if err != nil {
			return "", err
		}
	}
	if d.kind == sitedb.DirectoryUser {
		link, err = dir.DiscoverUsers(ctx, link, func(users []azure.User) error {
			return keepPage(ctx, d, users, func(u azure.User) sitedb.DirectoryChange {
				return sitedb.DirectoryChange{ID: strings.ToLower(u.ID), Removed: u.Removed != azure.Present}
			})
		})
	} else {
		link, err = dir.DiscoverGroups(ctx, link, func(groups []azure.Group) error {
			return keepPage(ctx, d, groups, func(g azure.Group) sitedb.DirectoryChange {
				c := sitedb.DirectoryChange{ID: strings.ToLower(g.ID), Removed: g.Removed != azure.Present}
				for _, m := range g.Members {
					c.Members = append(c.Members, sitedb.DirectoryMember{ID: strings.ToLower(m.ID), Type: m.Type, Removed: m.Removed})
				}
				return c
			})
		})
	}
	if err != nil || !full {
		return link, err
	}
	gone, err := d.s.db.EndDirectoryPass(ctx, d.tenant, d.kind, d.pass)
	d.removed += gone
	return link, err
}

// keepPage stores a page.
func keepPage[T any](ctx context.Context, d *discovery, page []T, change func(T) sitedb.DirectoryChange) error {
	b := sitedb.DirectoryBatch{
		TenantID: d.tenant, Kind: d.kind, Pass: d.pass, Name: "displayName", Search: []string{"displayName", "userPrincipalName", "mail", "onPremisesSamAccountName"},
	}
	if d.kind == sitedb.DirectoryGroup && len(d.groups) > 0 {
		b.Keep = func(name string) bool {
			return slices.ContainsFunc(d.groups, func(g string) bool { return sameName(g, name) })
		}
	}
	for _, o := range page {
		c := change(o)
		if d.seen++; c.Removed {
			d.removed++
		}
		// A delta leaves out what did not change.
		if err := json.Unmarshal(mustJSON(o), &c.Fields); err != nil {
			return err
		}
		for k, v := range c.Fields {
			if v == nil || v == "" || k == "id" {
				delete(c.Fields, k)
			}
		}
		b.Changes = append(b.Changes, c)
	}
	if len(b.Changes) == 0 {
		return nil
	}
	return d.s.db.SaveDirectory(ctx, b)
}

// discoverNow asks for a full discovery.
func (s *Server) discoverNow(w http.ResponseWriter, r *http.Request) error {
	svc, err := read[azureServiceRecord](r.Context(), s.db, kindAzureService, r.PathValue("id"))
	if err != nil {
		return err
	}
	if len(svc.Value.kinds()) == 0 {
		return opencmg.Errorf(opencmg.Conflict, "Azure service %s discovers neither users nor groups: turn userDiscovery or groupDiscovery on", svc.Name)
	}
	op, err := s.manager.begin(r.Context(), opDiscover, kindAzureService, svc.ID, func(tx *sitedb.Tx, _ *sitedb.Operation) error {
		return s.audit(r.Context(), tx, msgAsked, kindAzureService, svc.ID, "asked for a full discovery of tenant %s", svc.Value.TenantID)
	})
	if err != nil {
		return err
	}
	return accepted(w, op)
}

func (s *Server) performDiscover(ctx context.Context, r *run) error {
	svc, err := read[azureServiceRecord](ctx, s.db, kindAzureService, r.op.SubjectID)
	if err != nil {
		return err
	}
	for i, kind := range svc.Value.kinds() {
		if err := r.step(ctx, kind+"s", 10+40*i, "discover the "+kind+"s of tenant "+svc.Value.TenantID); err != nil {
			return err
		}
		if err := s.discover(ctx, svc, kind, true); err != nil {
			return err
		}
	}
	return nil
}

// showService is an Azure service with what it discovered.
func (s *Server) showService(ctx context.Context, rec *record[azureServiceRecord]) (adminservice.AzureService, error) {
	v := azureService(rec)
	for kind, to := range map[string]struct {
		count *int
		text  *string
	}{sitedb.DirectoryUser: {&v.DiscoveredUsers, &v.LastUserDiscovery}, sitedb.DirectoryGroup: {&v.DiscoveredGroupsCount, &v.LastGroupDiscovery}} {
		st, err := s.discoveryState(ctx, rec.ID, kind)
		if err != nil {
			return v, err
		}
		*to.text = st.Text
		if _, *to.count, err = s.db.Directory(ctx, sitedb.DirectoryFilter{Kind: kind, TenantID: rec.Value.TenantID}, false, 0, 0); err != nil {
			return v, err
		}
	}
	return v, nil
}

func (s *Server) listUsers(w http.ResponseWriter, r *http.Request) error {
	return listDirectory(s, w, r, sitedb.DirectoryUser, func(o sitedb.DirectoryObject) (u adminservice.User, err error) {
		err = json.Unmarshal(o.Body, &u)
		u.ID, u.TenantID, u.Changed = o.ID, o.TenantID, o.Changed
		return u, err
	})
}

func (s *Server) listGroups(w http.ResponseWriter, r *http.Request) error {
	return listDirectory(s, w, r, sitedb.DirectoryGroup, func(o sitedb.DirectoryObject) (g adminservice.Group, err error) {
		err = json.Unmarshal(o.Body, &g)
		g.ID, g.TenantID, g.Changed, g.Members = o.ID, o.TenantID, o.Changed, o.Members
		return g, err
	})
}

// listDirectory answers a page, which the database cuts: a tenant may have a
// million users.
func listDirectory[T any](s *Server, w http.ResponseWriter, r *http.Request, kind string, show func(sitedb.DirectoryObject) (T, error)) error {
	v := r.URL.Query()
	q, err := adminservice.ParseQuery(v)
	if err != nil {
		return err
	}
	if q.Filter != nil {
		return opencmg.Errorf(opencmg.Invalid, "$filter: is not for users and groups; search=TEXT looks in names, mail addresses and IDs")
	}
	if len(q.OrderBy) > 1 || len(q.OrderBy) == 1 && !strings.EqualFold(q.OrderBy[0].Property, "displayName") {
		return opencmg.Errorf(opencmg.Invalid, "$orderby: must be displayName, with asc or desc").About("$orderby")
	}
	f := sitedb.DirectoryFilter{Kind: kind, Text: v.Get("search"), TenantID: strings.ToLower(v.Get("tenant")), Group: strings.ToLower(v.Get("group"))}
	list, total, err := s.db.Directory(r.Context(), f, len(q.OrderBy) == 1 && q.OrderBy[0].Descending, q.Skip, q.Top)
	if err != nil {
		return err
	}
	shown := []T{}
	for _, o := range list {
		one, err := show(o)
		if err != nil {
			return fmt.Errorf("%s %s in the database: %w", kind, o.ID, err)
		}
		shown = append(shown, one)
	}
	return answerCut(w, r, q, shown, total)
}
