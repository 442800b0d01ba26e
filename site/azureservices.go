package site

import (
	"cmp"
	"context"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/opencmg/opencmg"
	"github.com/opencmg/opencmg/adminservice"
	"github.com/opencmg/opencmg/sitedb"
)

// azureServiceRecord connects the site to a tenant.
type azureServiceRecord struct {
	Description string              `json:"description,omitempty"`
	Environment opencmg.Environment `json:"environment"`
	TenantID    string              `json:"tenantId"`
	ServerAppID string              `json:"serverAppId"`
	ClientAppID string              `json:"clientAppId"`

	UserDiscovery     bool     `json:"userDiscovery"`
	UserDeltaMinutes  int      `json:"userDeltaMinutes"`
	GroupDiscovery    bool     `json:"groupDiscovery"`
	GroupDeltaMinutes int      `json:"groupDeltaMinutes"`
	UserFullHours     int      `json:"userFullHours,omitempty"` // between full discoveries; 0 is 24
	GroupFullHours    int      `json:"groupFullHours,omitempty"`
	Groups            []string `json:"groups,omitempty"`
}

func azureService(r *record[azureServiceRecord]) adminservice.AzureService {
	v := r.Value
	return adminservice.AzureService{
		ID: r.ID, Version: r.Version, Name: r.Name, Description: v.Description, Environment: v.Environment, TenantID: v.TenantID,
		ServerAppID: v.ServerAppID, ClientAppID: v.ClientAppID, UserDiscovery: v.UserDiscovery, UserDeltaMinutes: v.UserDeltaMinutes,
		GroupDiscovery: v.GroupDiscovery, GroupDeltaMinutes: v.GroupDeltaMinutes, DiscoveredGroups: v.Groups,
		UserFullHours: cmp.Or(v.UserFullHours, fullHours), GroupFullHours: cmp.Or(v.GroupFullHours, fullHours),
	}
}

func (s *Server) listAzureServices(w http.ResponseWriter, r *http.Request) error {
	records, err := readAll[azureServiceRecord](r.Context(), s.db, kindAzureService)
	if err != nil {
		return err
	}
	var list []adminservice.AzureService
	for _, rec := range records {
		v, err := s.showService(r.Context(), rec)
		if err != nil {
			return err
		}
		list = append(list, v)
	}
	return answerList(w, r, list)
}

// check fills the record from the request and looks at its applications.
func (v *azureServiceRecord) check(tx *sitedb.Tx, in *adminservice.AzureService) error {
	*v = azureServiceRecord{
		Description: in.Description, ServerAppID: in.ServerAppID, ClientAppID: in.ClientAppID,
		UserDiscovery: in.UserDiscovery, UserDeltaMinutes: in.UserDeltaMinutes, GroupDiscovery: in.GroupDiscovery, GroupDeltaMinutes: in.GroupDeltaMinutes, Groups: in.DiscoveredGroups,
		UserFullHours: in.UserFullHours, GroupFullHours: in.GroupFullHours,
	}
	if err := v.checkIntervals(); err != nil {
		return err
	}
	server, err := get[applicationRecord](tx, kindApplication, v.ServerAppID)
	if err != nil || server.Value.Kind != adminservice.ServerApplication {
		return opencmg.Errorf(opencmg.Invalid, "serverAppId: there is no server application %q: import or create one", v.ServerAppID).About("serverAppId")
	}
	client, err := get[applicationRecord](tx, kindApplication, v.ClientAppID)
	if err != nil || client.Value.Kind != adminservice.ClientApplication {
		return opencmg.Errorf(opencmg.Invalid, "clientAppId: there is no client application %q: import or create one", v.ClientAppID).About("clientAppId")
	}
	if server.Value.TenantID != client.Value.TenantID {
		return opencmg.Errorf(opencmg.Invalid, "%s and %s are of different tenants: choose two of one tenant", server.Name, client.Name).About("clientAppId")
	}
	t, err := get[tenantRecord](tx, kindTenant, server.Value.TenantID)
	if err != nil {
		return err
	}
	v.TenantID, v.Environment = t.ID, t.Value.Environment
	return nil
}

func (s *Server) addAzureService(w http.ResponseWriter, r *http.Request) error {
	var in adminservice.AzureService
	if err := decodeBody(r, &in); err != nil {
		return err
	}
	if in.Name = strings.TrimSpace(in.Name); in.Name == "" {
		return opencmg.Errorf(opencmg.Invalid, "name: give the Azure service a name").About("name")
	}
	rec := &record[azureServiceRecord]{Name: in.Name}
	err := s.db.Change(r.Context(), "add Azure service", func(tx *sitedb.Tx) error { return s.insertAzureService(r.Context(), tx, rec, &in) })
	if err != nil {
		return err
	}
	return answerOne(w, http.StatusCreated, rec.Version, azureService(rec))
}

// insertAzureService makes the record of a new service.
func (s *Server) insertAzureService(ctx context.Context, tx *sitedb.Tx, rec *record[azureServiceRecord], in *adminservice.AzureService) error {
	if err := rec.Value.check(tx, in); err != nil {
		return err
	}
	if err := onlyServiceOfTenant(tx, rec); err != nil {
		return err
	}
	n, err := tx.NextNumber(kindAzureService)
	if err != nil {
		return err
	}
	rec.ID = strconv.FormatInt(n, 10)
	if err := rec.put(tx, kindAzureService); err != nil {
		return err
	}
	return s.audit(ctx, tx, msgCreated, kindAzureService, rec.ID, "added Azure service %s for tenant %s", rec.Name, rec.Value.TenantID)
}

// checkIntervals looks at when the service discovers.
func (v *azureServiceRecord) checkIntervals() error {
	for _, f := range []struct {
		name  string
		hours int
	}{{"userFullHours", v.UserFullHours}, {"groupFullHours", v.GroupFullHours}} {
		if f.hours < 0 || f.hours > maxFullHours {
			return opencmg.Errorf(opencmg.Invalid, "full discovery: the interval must be 1 to %d hours", maxFullHours).About(f.name)
		}
	}
	for _, f := range []struct {
		name    string
		minutes *int
	}{{"userDeltaMinutes", &v.UserDeltaMinutes}, {"groupDeltaMinutes", &v.GroupDeltaMinutes}} {
		if *f.minutes == 0 {
			*f.minutes = 5
		}
		if *f.minutes < 5 || *f.minutes > 60*24 {
			return opencmg.Errorf(opencmg.Invalid, "delta discovery: the interval must be 5 to 1440 minutes").About(f.name)
		}
	}
	return nil
}

func (s *Server) changeAzureService(w http.ResponseWriter, r *http.Request) error {
	var change adminservice.AzureServiceChange
	version, err := decodeChange(r, &change)
	if err != nil {
		return err
	}
	rec, err := update(r.Context(), s.db, kindAzureService, r.PathValue("id"), func(tx *sitedb.Tx, rec *record[azureServiceRecord]) error {
		if err := rec.expect(version); err != nil {
			return err
		}
		if err := rename(&rec.Name, change.Name); err != nil {
			return err
		}
		in, groups := azureService(rec), rec.Value.Groups
		set(&in.Description, change.Description)
		set(&in.ServerAppID, change.ServerAppID)
		set(&in.ClientAppID, change.ClientAppID)
		set(&in.UserDiscovery, change.UserDiscovery)
		set(&in.UserDeltaMinutes, change.UserDeltaMinutes)
		set(&in.GroupDiscovery, change.GroupDiscovery)
		set(&in.GroupDeltaMinutes, change.GroupDeltaMinutes)
		set(&in.UserFullHours, change.UserFullHours)
		set(&in.GroupFullHours, change.GroupFullHours)
		set(&in.DiscoveredGroups, change.DiscoveredGroups)
		if err := rec.Value.check(tx, &in); err != nil {
			return err
		}
		if !slices.Equal(groups, rec.Value.Groups) {
			// Another choice: only a full discovery finds what is missing.
			if err := forgetDiscovery(tx, rec.ID, sitedb.DirectoryGroup); err != nil {
				return err
			}
		}
		if err := onlyServiceOfTenant(tx, rec); err != nil {
			return err
		}
		return s.audit(r.Context(), tx, msgChanged, kindAzureService, rec.ID, "changed Azure service %s", rec.Name)
	})
	if err != nil {
		return err
	}
	v, err := s.showService(r.Context(), rec)
	if err != nil {
		return err
	}
	return answerOne(w, http.StatusOK, rec.Version, v)
}

// onlyServiceOfTenant refuses a second Azure service for a tenant: gateways
// are told about a tenant once.
func onlyServiceOfTenant(tx *sitedb.Tx, rec *record[azureServiceRecord]) error {
	others, err := all[azureServiceRecord](tx, kindAzureService)
	if err != nil {
		return err
	}
	for _, o := range others {
		if o.ID != rec.ID && o.Value.TenantID == rec.Value.TenantID {
			return opencmg.Errorf(opencmg.Conflict, "tenant %s is connected already, by Azure service %s: change that one, or delete it first", o.Value.TenantID, o.Name).About("serverAppId")
		}
	}
	return nil
}

func (s *Server) deleteAzureService(w http.ResponseWriter, r *http.Request) error {
	return remove[azureServiceRecord](s, w, r, kindAzureService, "Azure service", func(tx *sitedb.Tx, rec *record[azureServiceRecord]) error {
		for _, kind := range []string{sitedb.DirectoryUser, sitedb.DirectoryGroup} {
			if err := forgetDiscovery(tx, rec.ID, kind); err != nil {
				return err
			}
		}
		return tx.RemoveDirectory(rec.Value.TenantID)
	})
}
