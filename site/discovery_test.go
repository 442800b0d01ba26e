package site_test

import (
	"encoding/json"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/opencmg/opencmg"
	"github.com/opencmg/opencmg/adminservice"
	"github.com/opencmg/opencmg/labcloud"
)

func directoryID(n int) string { return fmt.Sprintf("00000000-0000-4000-8000-%012d", n) }

// discovering makes a rig whose Azure service discovers a directory of users and
// groups of several pages.
func discovering(t *testing.T) (*rig, adminservice.AzureService) {
	t.Helper()
	r := newRig(t, func(r *rig) {
		r.lab = func(c *labcloud.Config) {
			for n := range 10 {
				c.Users = append(c.Users, labcloud.User{Tenant: tenantID, ID: directoryID(n), UPN: fmt.Sprintf("user%d@corp.example", n), DisplayName: fmt.Sprintf("User %d", n), Mail: fmt.Sprintf("mail%d@corp.example", n)})
			}
			for n := range 5 {
				g := labcloud.Group{Tenant: tenantID, ID: directoryID(100 + n), DisplayName: fmt.Sprintf("Group %d", n)}
				for m := range n {
					g.Members = append(g.Members, directoryID(m))
				}
				c.Groups = append(c.Groups, g)
			}
		}
	})
	op := r.finish(do[adminservice.Operation](r, "POST", "Applications/create", adminservice.CreateApplications{
		Environment: opencmg.AzureLab, TenantID: tenantID, ServerName: "FcCmgServer", ClientName: "FcCmgClient", DirectoryRead: true,
		SignIn: adminservice.SignIn{ClientID: deployerID, Secret: deployerSecret},
	}))
	var made struct{ ServerAppID, ClientAppID string }
	if err := json.Unmarshal(op.Result, &made); err != nil {
		t.Fatal(err)
	}
	svc := do[adminservice.AzureService](r, "POST", "AzureServices", adminservice.AzureService{Name: "Fourth Coffee", ServerAppID: made.ServerAppID, ClientAppID: made.ClientAppID, UserDiscovery: true, GroupDiscovery: true})
	return r, svc
}

func (r *rig) service() adminservice.AzureService {
	r.t.Helper()
	return do[adminservice.Page[adminservice.AzureService]](r, "GET", "AzureServices", nil).Value[0]
}

// TestDiscovery reads a directory, follows its changes, and begins anew when the
// directory wants that.
func TestDiscovery(t *testing.T) {
	r, svc := discovering(t)
	r.look("discovery")
	svc = r.service()
	if svc.DiscoveredUsers != 10 || svc.DiscoveredGroupsCount != 5 || !strings.HasPrefix(svc.LastUserDiscovery, "full at ") {
		t.Fatalf("%+v", svc)
	}
	users := func(query string) (names []string, count int) {
		t.Helper()
		p := do[adminservice.Page[adminservice.User]](r, "GET", "Users?"+query, nil)
		for _, u := range p.Value {
			names = append(names, u.DisplayName)
		}
		if p.Count != nil {
			count = *p.Count
		}
		return names, count
	}
	if names, n := users("$count=true&$skip=8&$top=5"); n != 10 || !slices.Equal(names, []string{"User 8", "User 9"}) {
		t.Errorf("a page: %v of %d", names, n)
	}
	if names, _ := users("$orderby=" + url.QueryEscape("displayName desc") + "&$top=1"); !slices.Equal(names, []string{"User 9"}) {
		t.Errorf("in the other order: %v", names)
	}
	if names, n := users("$count=true&search=MAIL7"); n != 1 || !slices.Equal(names, []string{"User 7"}) {
		t.Errorf("search: %v of %d", names, n)
	}
	if names, _ := users("group=" + directoryID(103)); !slices.Equal(names, []string{"User 0", "User 1", "User 2"}) {
		t.Errorf("members: %v", names)
	}
	groups := do[adminservice.Page[adminservice.Group]](r, "GET", "Groups?search="+url.QueryEscape("group 4"), nil).Value
	if len(groups) != 1 || groups[0].Members != 4 || groups[0].TenantID != tenantID || groups[0].SecurityEnabled == nil {
		t.Errorf("%+v", groups)
	}
	for _, query := range []string{"$filter=" + url.QueryEscape("mail eq 'x'"), "$orderby=mail"} {
		if err := r.c.Do(t.Context(), "GET", "Users?"+query, nil, nil); err == nil {
			t.Errorf("%s was taken", query)
		}
	}

	// Changes, not before the interval is over.
	put := func(n int, name, removed string) {
		t.Helper()
		if err := r.cloud.PutUser(labcloud.User{Tenant: tenantID, ID: directoryID(n), UPN: "changed@corp.example", DisplayName: name, Removed: removed}); err != nil {
			t.Fatal(err)
		}
	}
	put(1, "Renamed", "")
	put(2, "", "deleted")
	put(3, "", "changed")
	put(11, "Newcomer", "")
	if err := r.cloud.PutGroup(labcloud.Group{Tenant: tenantID, ID: directoryID(104), DisplayName: "Group 4", Members: []string{directoryID(9)}}); err != nil {
		t.Fatal(err)
	}
	r.look("discovery")
	if svc = r.service(); svc.DiscoveredUsers != 10 || !strings.HasPrefix(svc.LastUserDiscovery, "full at ") {
		t.Errorf("too early: %+v", svc)
	}
	r.wait(6 * time.Minute)
	r.look("discovery")
	if svc = r.service(); svc.DiscoveredUsers != 9 || !strings.HasPrefix(svc.LastUserDiscovery, "delta at ") || !strings.HasSuffix(svc.LastUserDiscovery, ": 4 read, 2 removed") {
		t.Errorf("after the delta: %+v", svc)
	}
	if names, _ := users("$top=2"); !slices.Equal(names, []string{"Newcomer", "Renamed"}) {
		t.Errorf("after the delta: %v", names)
	}
	if names, _ := users("group=" + directoryID(104)); !slices.Equal(names, []string{"User 9"}) {
		t.Errorf("members after the delta: %v", names)
	}

	// The directory forgot the link: everything anew, in the same attempt.
	put(4, "", "deleted")
	if err := r.cloud.ExpireDeltaLinks(); err != nil {
		t.Fatal(err)
	}
	r.wait(6 * time.Minute)
	r.look("discovery")
	if svc = r.service(); svc.DiscoveredUsers != 8 || !strings.HasPrefix(svc.LastUserDiscovery, "full at ") || !strings.HasSuffix(svc.LastUserDiscovery, "8 read, 1 removed") {
		t.Errorf("after the resync: %+v", svc)
	}
	// Once a day everything anew, in any case; and when somebody wants it.
	r.wait(6 * time.Minute)
	r.look("discovery")
	if svc = r.service(); !strings.HasPrefix(svc.LastUserDiscovery, "delta at ") {
		t.Errorf("%+v", svc)
	}
	r.wait(25 * time.Hour)
	r.look("discovery")
	if svc = r.service(); !strings.HasPrefix(svc.LastUserDiscovery, "full at ") {
		t.Errorf("after a day: %+v", svc)
	}
	do[adminservice.AzureService](r, "PATCH", "AzureServices/"+svc.ID, map[string]any{"userFullHours": 72})
	r.wait(25 * time.Hour)
	r.look("discovery")
	if svc = r.service(); svc.UserFullHours != 72 || !strings.HasPrefix(svc.LastUserDiscovery, "delta at ") {
		t.Errorf("a day of three: %+v", svc)
	}
	refused(t, r.c.Do(t.Context(), "PATCH", "AzureServices/"+svc.ID, map[string]any{"groupFullHours": 1000}, nil), opencmg.Invalid, "1 to 720 hours")
	put(5, "", "deleted")
	r.finish(do[adminservice.Operation](r, "POST", "AzureServices/"+svc.ID+"/discover", nil))
	if svc = r.service(); svc.DiscoveredUsers != 7 {
		t.Errorf("on demand: %+v", svc)
	}

	// Only some groups.
	do[adminservice.AzureService](r, "PATCH", "AzureServices/"+svc.ID, map[string]any{"discoveredGroups": []string{"group 1", "Group 3"}})
	r.look("discovery")
	if svc = r.service(); svc.DiscoveredGroupsCount != 2 {
		t.Errorf("chosen groups: %+v", svc)
	}
	do[any](r, "DELETE", "AzureServices/"+svc.ID, nil)
	if names, n := users("$count=true"); n != 0 {
		t.Errorf("still there: %v", names)
	}
}

// TestDiscoveryProblems: the directory's wish to be left alone is obeyed, and
// what it says is shown.
func TestDiscoveryProblems(t *testing.T) {
	r, _ := discovering(t)
	fault, err := r.cloud.SetFault(labFault{Kind: "status", Path: "/users/delta", Status: 403, Code: "Authorization_RequestDenied", Message: "Insufficient privileges to complete the operation."})
	if err != nil {
		t.Fatal(err)
	}
	r.wait(time.Hour) // whatever the start of the site did
	if err := r.s.Look(t.Context(), "discovery"); err == nil || !strings.Contains(err.Error(), "Authorization_RequestDenied") {
		t.Errorf("got %v", err)
	}
	svc := r.service()
	if !strings.Contains(svc.LastUserDiscovery, "Insufficient privileges") || svc.DiscoveredGroupsCount != 5 {
		t.Errorf("%+v", svc)
	}
	if err := r.cloud.ClearFault(fault); err != nil {
		t.Fatal(err)
	}
	r.look("discovery") // not yet
	if svc := r.service(); svc.DiscoveredUsers != 0 {
		t.Errorf("it was tried again at once: %+v", svc)
	}
	r.wait(11 * time.Minute)
	r.look("discovery")
	if svc := r.service(); svc.DiscoveredUsers != 10 {
		t.Errorf("%+v", svc)
	}
	// The directory asks for two hours.
	fault, err = r.cloud.SetFault(labFault{Kind: "status", Path: "/users/delta", Status: 429, Code: "TooManyRequests", RetryAfter: 7200})
	if err != nil {
		t.Fatal(err)
	}
	r.wait(6 * time.Minute)
	if err := r.s.Look(t.Context(), "discovery"); err == nil || !strings.Contains(err.Error(), "TooManyRequests") {
		t.Errorf("got %v", err)
	}
	if err := r.cloud.ClearFault(fault); err != nil {
		t.Fatal(err)
	}
	before := r.service().LastUserDiscovery
	r.wait(119 * time.Minute)
	r.look("discovery")
	if after := r.service().LastUserDiscovery; after != before || !strings.Contains(after, "TooManyRequests") {
		t.Errorf("asked before its time: %s", after)
	}
	r.wait(2 * time.Minute)
	r.look("discovery")
	if after := r.service().LastUserDiscovery; !strings.HasPrefix(after, "delta at ") {
		t.Errorf("after two hours: %s", after)
	}
}
