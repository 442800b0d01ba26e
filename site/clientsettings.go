package site

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"github.com/opencmg/opencmg"
	"github.com/opencmg/opencmg/adminservice"
	"github.com/opencmg/opencmg/sitedb"
)

// defaultSettingsID is that of the default client settings in Configuration
// Manager.
const defaultSettingsID = "0"

// clientSettingsRecord holds adminservice.ClientSettings without ID, version and
// name.
type clientSettingsRecord adminservice.ClientSettings

// longestInterval bounds the intervals of client settings, in minutes.
const longestInterval = 31 * 24 * 60

// makeDefaults makes what every site has, where it is missing.
func (s *Server) makeDefaults(ctx context.Context) error {
	return s.db.Change(ctx, "make defaults", func(tx *sitedb.Tx) error {
		_, err := tx.Object(kindClientSettings, defaultSettingsID)
		if errors.Is(err, opencmg.NotFound) {
			err = (&record[clientSettingsRecord]{ID: defaultSettingsID, Name: adminservice.DefaultClientSettingsName, Value: clientSettingsRecord{
				AllowCloudManagementGateway: true, AutoAzureADJoin: true,
				PolicyMinutes: 60, LocationMinutes: 1440, InventoryMinutes: 10080, DiscoveryMinutes: 10080, StateMinutes: 15, KeepAliveMinutes: 15,
			}}).put(tx, kindClientSettings)
		}
		if err != nil {
			return fmt.Errorf("default client settings: %w", err)
		}
		if err := s.makeDefaultGroup(tx); err != nil {
			return fmt.Errorf("default boundary group: %w", err)
		}
		return nil
	})
}

func clientSettings(r *record[clientSettingsRecord]) adminservice.ClientSettings {
	c := adminservice.ClientSettings(r.Value)
	c.ID, c.Version, c.Name = r.ID, r.Version, r.Name
	return c
}

func (s *Server) getClientSettings(w http.ResponseWriter, r *http.Request) error {
	if err := defaultSettings(r); err != nil {
		return err
	}
	rec, err := read[clientSettingsRecord](r.Context(), s.db, kindClientSettings, defaultSettingsID)
	if err != nil {
		return err
	}
	return answerOne(w, http.StatusOK, rec.Version, clientSettings(rec))
}

// defaultSettings refuses every ID but that of the default settings, which go by
// their name too.
func defaultSettings(r *http.Request) error {
	if id := r.PathValue("id"); id != defaultSettingsID && !sameName(id, adminservice.DefaultClientSettingsName) {
		return opencmg.Errorf(opencmg.NotFound, "there are no client settings %q: a site has %s (ID %s) for all clients; custom ones would need collections, which OpenCMG does not have", id, adminservice.DefaultClientSettingsName, defaultSettingsID)
	}
	return nil
}

// addClientSettings refuses custom settings with the reason.
func (s *Server) addClientSettings(http.ResponseWriter, *http.Request) error {
	return opencmg.Errorf(opencmg.Invalid, "custom client settings are deployed to collections, which OpenCMG does not have: change %s, which hold for every client", adminservice.DefaultClientSettingsName)
}

func (s *Server) changeClientSettings(w http.ResponseWriter, r *http.Request) error {
	if err := defaultSettings(r); err != nil {
		return err
	}
	var in adminservice.ClientSettingsChange
	version, err := decodeChange(r, &in)
	if err != nil {
		return err
	}
	rec, err := update(r.Context(), s.db, kindClientSettings, defaultSettingsID, func(tx *sitedb.Tx, rec *record[clientSettingsRecord]) error {
		if err := rec.expect(version); err != nil {
			return err
		}
		v := &rec.Value
		set(&v.AllowCloudManagementGateway, in.AllowCloudManagementGateway)
		set(&v.AllowCloudDistributionPoint, in.AllowCloudDistributionPoint)
		set(&v.AutoAzureADJoin, in.AutoAzureADJoin)
		for _, f := range []struct {
			name string
			to   *int
			from *int
		}{
			{"policyMinutes", &v.PolicyMinutes, in.PolicyMinutes}, {"locationMinutes", &v.LocationMinutes, in.LocationMinutes},
			{"inventoryMinutes", &v.InventoryMinutes, in.InventoryMinutes}, {"discoveryMinutes", &v.DiscoveryMinutes, in.DiscoveryMinutes},
			{"stateMinutes", &v.StateMinutes, in.StateMinutes}, {"keepAliveMinutes", &v.KeepAliveMinutes, in.KeepAliveMinutes},
		} {
			if set(f.to, f.from); *f.to < 1 || *f.to > longestInterval {
				return opencmg.Errorf(opencmg.Invalid, "%s: must be 1 to %d, is %d", f.name, longestInterval, *f.to).About(f.name)
			}
		}
		return s.audit(r.Context(), tx, msgChanged, kindClientSettings, rec.ID, "changed client settings %s, cloud management gateway %s", rec.Name, onOff(v.AllowCloudManagementGateway))
	})
	if err != nil {
		return err
	}
	return answerOne(w, http.StatusOK, rec.Version, clientSettings(rec))
}
