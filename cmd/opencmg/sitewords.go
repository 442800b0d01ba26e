package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"time"

	"github.com/opencmg/opencmg"
	"github.com/opencmg/opencmg/adminservice"
	"github.com/opencmg/opencmg/mp"
	"github.com/opencmg/opencmg/pki"
)

// siteWords are what the site wants clients to be told. They are kept in the
// identity directory, so that a start without the site does not fall back to the
// configuration file.
type siteWords struct {
	ClientSettings *adminservice.ClientSettings `json:"clientSettings,omitempty"`
	Locations      *adminservice.Locations      `json:"locations,omitempty"`
}

// siteWordsFile is a file of the identity directory.
const siteWordsFile = "site-settings.json"

// useWords hands over what the site says, when that is new. s.mu is held.
func (s *siteRole) useWords() error {
	b, err := json.Marshal(s.told)
	if err != nil || string(b) == s.used {
		return err
	}
	if c := s.told.ClientSettings; c != nil {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if err := s.server.UseSettings(ctx, s.settings(c)); err != nil {
			return fmt.Errorf("client settings: %w", err)
		}
	}
	l, err := locations(s.told.Locations)
	if err != nil {
		return fmt.Errorf("boundary groups: %w", err)
	}
	s.server.UseLocations(l)
	s.used = string(b)
	s.log.Info("client settings and boundary groups received")
	return nil
}

// keepWords keeps what the site says. s.mu is held.
func (s *siteRole) keepWords(w siteWords) error {
	if w.ClientSettings == nil && w.Locations == nil {
		return nil // a site that knows of neither
	}
	before, err := json.Marshal(s.told)
	if err != nil {
		return err
	}
	after, err := json.Marshal(w)
	if err != nil || bytes.Equal(before, after) {
		return err
	}
	if _, err := locations(w.Locations); err != nil {
		return fmt.Errorf("boundary groups: %w", err)
	}
	s.told = w
	return pki.WriteFile(filepath.Join(s.dir, siteWordsFile), after, 0o644)
}

// loadWords takes up what the site said before the last stop.
func (s *siteRole) loadWords() error {
	b, err := os.ReadFile(filepath.Join(s.dir, siteWordsFile))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	var w siteWords
	if err == nil {
		err = json.Unmarshal(b, &w)
	}
	if err != nil {
		return fmt.Errorf("%s: %w; remove it, and the site sends it again", siteWordsFile, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.told = w
	return nil
}

// initial are the settings to begin with: the site's, if it ever gave any.
func (s *siteRole) initial(file mp.Settings) mp.Settings {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.told.ClientSettings == nil {
		return file
	}
	return s.settings(s.told.ClientSettings)
}

// settings are the site's client settings for a management point.
func (s *siteRole) settings(c *adminservice.ClientSettings) mp.Settings {
	minutes := func(n int) time.Duration { return time.Duration(n) * time.Minute }
	return mp.Settings{
		DenyGateway: !c.AllowCloudManagementGateway, CloudContent: c.AllowCloudDistributionPoint, EntraJoin: c.AutoAzureADJoin,
		PolicyInterval: minutes(c.PolicyMinutes), LocationInterval: minutes(c.LocationMinutes), InventoryInterval: minutes(c.InventoryMinutes),
		DiscoveryInterval: minutes(c.DiscoveryMinutes), StateInterval: minutes(c.StateMinutes), KeepAlive: minutes(c.KeepAliveMinutes),
		NotificationPort: s.port,
	}
}

// locations are the site's boundary groups for a management point.
func locations(l *adminservice.Locations) (*mp.Locations, error) {
	if l == nil {
		return nil, nil
	}
	group := func(g *adminservice.LocationGroup) (mp.LocationGroup, error) {
		out := mp.LocationGroup{Name: g.Name, Gateways: g.Gateways, PreferCloud: g.PreferCloud}
		for _, b := range g.Boundaries {
			p, err := netip.ParsePrefix(b)
			if err != nil {
				return out, opencmg.Errorf(opencmg.Invalid, "group %s: %w", g.Name, err)
			}
			out.Boundaries = append(out.Boundaries, p)
		}
		return out, nil
	}
	out := &mp.Locations{}
	var err error
	if out.Default, err = group(&l.Default); err != nil {
		return nil, err
	}
	for i := range l.Groups {
		g, err := group(&l.Groups[i])
		if err != nil {
			return nil, err
		}
		out.Groups = append(out.Groups, g)
	}
	return out, nil
}
