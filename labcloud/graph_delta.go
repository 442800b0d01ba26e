package labcloud

import (
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// Delta queries over users and groups. Each change to an object gets the next
// number; a delta link carries the number up to which its reader knows. A
// page holds up to deltaPage objects; members come apart from their group in
// pages of their own, so that one group can appear several times, and the
// first page of a full reading is empty, as Graph's may be.

const deltaPage = 3

// A dirObject is a user or a group.
type dirObject struct {
	ID, Tenant, Kind string // users or groups
	Body             map[string]any
	Seq              int
	Removed          string         // changed or deleted
	Members          map[string]int // of a group: member ID to the change that added it
	Gone             map[string]int // removed members
}

// A User is a person of a tenant, as Graph's delta query tells of it.
type User struct {
	Tenant        string `json:"tenant"`
	ID            string `json:"id"` // object ID, a GUID
	UPN           string `json:"upn"`
	DisplayName   string `json:"displayName"`
	GivenName     string `json:"givenName,omitempty"`
	Surname       string `json:"surname,omitempty"`
	Mail          string `json:"mail,omitempty"`
	Disabled      bool   `json:"disabled,omitempty"`
	OnPremSID     string `json:"onPremSid,omitempty"` // a synchronised user
	OnPremAccount string `json:"onPremAccount,omitempty"`
	OnPremDomain  string `json:"onPremDomain,omitempty"`
	// Removed is empty, changed (restorable) or deleted.
	Removed string `json:"removed,omitempty"`
	// Password lets the user sign in on the page; empty leaves it as it is, at
	// first none, so that only a device code does.
	Password string `json:"password,omitempty"`
}

// A Group is a group of a tenant.
type Group struct {
	Tenant      string   `json:"tenant"`
	ID          string   `json:"id"` // object ID, a GUID
	DisplayName string   `json:"displayName"`
	Description string   `json:"description,omitempty"`
	MailEnabled bool     `json:"mailEnabled,omitempty"`
	OnPremSID   string   `json:"onPremSid,omitempty"`
	Members     []string `json:"members"` // object IDs
	Removed     string   `json:"removed,omitempty"`
}

// putUser adds or changes a user; a change is visible to delta queries. The
// caller holds s.world.
func (s *Server) putUser(u User, removed string) error {
	body := map[string]any{"displayName": u.DisplayName, "userPrincipalName": u.UPN, "givenName": orNull(u.GivenName), "surname": orNull(u.Surname), "mail": orNull(u.Mail), "accountEnabled": !u.Disabled,
		"onPremisesSyncEnabled": nil, "onPremisesSecurityIdentifier": orNull(u.OnPremSID), "onPremisesSamAccountName": orNull(u.OnPremAccount), "onPremisesDomainName": orNull(u.OnPremDomain)}
	if u.OnPremSID != "" {
		body["onPremisesSyncEnabled"] = true
	}
	o, err := s.putObject(u.Tenant, "users", u.ID, body, removed)
	if err != nil {
		return err
	}
	if u.Password != "" {
		s.st.Passwords[o.ID] = secretHash(u.Password)
	}
	return nil
}

func (s *Server) putGroup(g Group, removed string) error {
	body := map[string]any{"displayName": g.DisplayName, "description": orNull(g.Description), "mailEnabled": g.MailEnabled, "securityEnabled": true, "onPremisesSecurityIdentifier": orNull(g.OnPremSID)}
	o, err := s.putObject(g.Tenant, "groups", g.ID, body, removed)
	if err != nil {
		return err
	}
	for _, m := range g.Members {
		m = strings.ToLower(m)
		if _, ok := o.Members[m]; !ok {
			delete(o.Gone, m)
			o.Members[m] = s.nextSeq()
		}
	}
	for m := range o.Members {
		if !slices.ContainsFunc(g.Members, func(k string) bool { return strings.EqualFold(k, m) }) {
			delete(o.Members, m)
			o.Gone[m] = s.nextSeq()
		}
	}
	return nil
}

func orNull(s string) any {
	if s == "" {
		return nil
	}
	return s
}

func (s *Server) nextSeq() int {
	s.st.Seq++
	s.dirty = true
	return s.st.Seq
}

func (s *Server) putObject(tenant, kind, id string, body map[string]any, removed string) (*dirObject, error) {
	tenant, id = strings.ToLower(tenant), strings.ToLower(id)
	if _, ok := s.tenants[tenant]; !ok || !isGUID(id) {
		return nil, labErrorf("%s %q: the ID must be a GUID and tenant %q be configured", kind, id, tenant)
	}
	if removed != "" && removed != "changed" && removed != "deleted" {
		return nil, labErrorf("removed %q: must be changed or deleted", removed)
	}
	o := s.st.Objects[id]
	if o == nil {
		o = &dirObject{ID: id, Tenant: tenant, Kind: kind, Members: map[string]int{}, Gone: map[string]int{}}
		s.st.Objects[id] = o
	} else if o.Removed == removed && sameJSON(o.Body, body) {
		return o, nil
	}
	o.Body, o.Removed, o.Seq = body, removed, s.nextSeq()
	return o, nil
}

func (s *Server) findUser(tenant, name string) *dirObject {
	for _, o := range s.st.Objects {
		if o.Tenant == tenant && o.Kind == "users" && o.Removed == "" && (strings.EqualFold(o.ID, name) || strings.EqualFold(text(o.Body, "userPrincipalName"), name)) {
			return o
		}
	}
	return nil
}

// delta answers GET /users/delta and /groups/delta. Tokens are
// "<known>.<until>.<offset>.<select>": all changes after known up to until, of
// which offset entries were already given.
func (s *Server) delta(c *graphCall) (int, any, *graphError) {
	kind := strings.ToLower(c.args[0])
	known, until, offset, first := 0, s.st.Seq, 0, true
	sel := c.query.Get("$select")
	for _, name := range []string{"$deltatoken", "$skiptoken"} {
		token := c.query.Get(name)
		if token == "" {
			continue
		}
		first = false
		parts := strings.SplitN(token, ".", 5)
		bad := len(parts) != 5 || parts[3] != kind
		if !bad {
			var err1, err2, err3 error
			known, err1 = strconv.Atoi(parts[0])
			until, err2 = strconv.Atoi(parts[1])
			offset, err3 = strconv.Atoi(parts[2])
			sel = parts[4]
			bad = err1 != nil || err2 != nil || err3 != nil || known > s.st.Seq
		}
		if name == "$deltatoken" {
			until, offset = s.st.Seq, 0
		}
		if bad {
			return 0, nil, badRequest("Badly formed token.")
		}
		if known != 0 && known < s.st.SeqFloor || s.fault("deltaGone", kind) != nil {
			return 0, nil, refuse(http.StatusGone, "syncStateNotFound", "The sync state generation is not found; a full synchronization is needed. Start again without a token.")
		}
	}
	props := strings.Split(sel, ",")
	if sel == "" {
		props = nil
	}
	entries := s.deltaEntries(c.Tenant, kind, known, until, props)
	out := map[string]any{"@odata.context": "https://" + s.hosts.Graph + "/v1.0/$metadata#" + kind}
	end := min(offset+deltaPage, len(entries))
	if first {
		end = 0 // an empty page with a next link
	}
	out["value"] = append([]any{}, entries[min(offset, end):end]...)
	link := func(name string, known, until, offset int) string {
		v := url.Values{}
		v.Set(name, strings.Join([]string{strconv.Itoa(known), strconv.Itoa(until), strconv.Itoa(offset), kind, sel}, "."))
		return "https://" + s.hosts.Graph + "/v1.0/" + kind + "/delta?" + v.Encode()
	}
	if end < len(entries) || first {
		out["@odata.nextLink"] = link("$skiptoken", known, until, end)
	} else {
		out["@odata.deltaLink"] = link("$deltatoken", until, until, 0)
	}
	return http.StatusOK, out, nil
}

func (s *Server) deltaEntries(tenant, kind string, known, until int, props []string) []any {
	within := func(seq int) bool { return seq > known && seq <= until }
	var objects []*dirObject
	for _, o := range s.st.Objects {
		if o.Tenant == tenant && o.Kind == kind {
			objects = append(objects, o)
		}
	}
	slices.SortFunc(objects, func(a, b *dirObject) int { return strings.Compare(a.ID, b.ID) })
	var out []any
	for _, o := range objects {
		switch {
		case within(o.Seq) && o.Removed != "":
			if known > 0 { // a full reading does not tell of what is gone
				out = append(out, map[string]any{"id": o.ID, "@removed": map[string]any{"reason": o.Removed}})
			}
			continue
		case within(o.Seq):
			e := map[string]any{"id": o.ID}
			for k, v := range o.Body {
				if props == nil || slices.Contains(props, k) {
					e[k] = v
				}
			}
			out = append(out, e)
		}
		if o.Removed != "" || props != nil && !slices.Contains(props, "members") {
			continue
		}
		for _, m := range sortedKeys(o.Members) {
			if within(o.Members[m]) {
				out = append(out, memberEntry(o.ID, m, ""))
			}
		}
		for _, m := range sortedKeys(o.Gone) {
			if within(o.Gone[m]) && known > 0 {
				out = append(out, memberEntry(o.ID, m, "deleted"))
			}
		}
	}
	return out
}

func memberEntry(group, member, removed string) map[string]any {
	m := map[string]any{"@odata.type": "#microsoft.graph.user", "id": member}
	if removed != "" {
		m["@removed"] = map[string]any{"reason": removed}
	}
	return map[string]any{"id": group, "members@delta": []any{m}}
}
