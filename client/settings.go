package client

import (
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/opencmg/opencmg/ccm"
)

const defaultFastChannelPort = 10123

// settings are what counts now: the configuration first, then the site's
// policies, then the product's defaults.
type settings struct {
	Intervals
	fastChannelPort int // 0: none
	denyGateway     bool
}

// settings returns what counts now.
func (c *Client) settings() *settings { return c.effective.Load() }

// loadSettings reads the policies on disk anew.
func (c *Client) loadSettings() {
	s := &settings{Intervals: c.cfg.Intervals, fastChannelPort: c.cfg.FastChannelPort}
	policies := c.policies()
	number := func(name string) (int, bool) {
		v, ok := setting(policies, ccm.SettingsClass, name)
		if !ok {
			return 0, false
		}
		n, err := strconv.Atoi(strings.TrimSpace(v))
		return n, err == nil && n >= 0 && n < 1<<24
	}
	for _, f := range []struct {
		name     string
		unit     time.Duration
		interval *time.Duration
		fallback time.Duration
	}{
		{ccm.SettingPolicyInterval, time.Minute, &s.Policy, time.Hour},
		{ccm.SettingLocationInterval, time.Minute, &s.Location, 24 * time.Hour},
		{ccm.SettingDiscoveryInterval, time.Minute, &s.Heartbeat, 7 * 24 * time.Hour},
		{ccm.SettingInventoryInterval, time.Minute, &s.Inventory, 7 * 24 * time.Hour},
		{ccm.SettingNotificationKeepAlive, time.Second, &s.KeepAlive, 15 * time.Minute},
		{"", 0, &s.GatewaySearch, 25 * time.Hour},
		{"", 0, &s.Confirm, 5 * time.Second},
		{"", 0, &s.Retry, 30 * time.Second},
	} {
		if *f.interval > 0 {
			continue
		}
		if *f.interval = f.fallback; f.name == "" {
			continue
		}
		if n, ok := number(f.name); ok && n > 0 {
			*f.interval = time.Duration(n) * f.unit
		}
	}
	if s.fastChannelPort == 0 {
		s.fastChannelPort = defaultFastChannelPort
		if n, ok := number(ccm.SettingNotificationTCPPort); ok && n < 1<<16 {
			s.fastChannelPort = n
		}
	}
	if v, ok := setting(policies, ccm.SettingsClass, ccm.SettingUseGateway); ok {
		s.denyGateway = strings.EqualFold(v, "FALSE") || v == "0"
	}
	c.effective.Store(s)
}

// Setting returns a setting from the policies on disk, and whether one of them
// has it.
func (c *Client) Setting(class, property string) (string, bool) {
	return setting(c.policies(), class, property)
}

func setting(policies []ccm.Policy, class, property string) (string, bool) {
	for _, p := range policies {
		if v, ok := p.Setting(class, property); ok {
			return v, true
		}
	}
	return "", false
}

// policies reads the bodies on disk, in the order of their IDs. One that is
// gone will be downloaded again.
func (c *Client) policies() []ccm.Policy {
	records := c.state().Policies
	var out []ccm.Policy
	for _, id := range slices.Sorted(maps.Keys(records)) {
		body, err := os.ReadFile(filepath.Join(c.cfg.StateDir, policyDir, records[id].File))
		if err != nil {
			continue
		}
		if p, err := ccm.ParsePolicy(body); err == nil {
			out = append(out, p)
		}
	}
	return out
}
