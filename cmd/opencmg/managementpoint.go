package main

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/opencmg/opencmg"
)

// A ManagementPointConfig is the configuration file of a management point.
// Relative paths are relative to the file.
type ManagementPointConfig struct {
	Site   opencmg.SiteCode `yaml:"site"`   // required
	RoleID opencmg.RoleID   `yaml:"roleId"` // as published; required
	// IdentityDir holds what "opencmg publish" made for this role:
	// site-ca.pem, identity.pem, identity.key, the token-signing key, and
	// published.jws. Required.
	IdentityDir string `yaml:"identityDir"`
	// StateDir holds the database and uploads. Required; it is made when
	// missing.
	StateDir string `yaml:"stateDir"`
	// HostName is the name or address by which clients inside reach this
	// server; default is the system's name.
	HostName string `yaml:"hostName,omitempty"`
	// ClientFilesDir is served below /CCM_Client/; empty serves nothing.
	ClientFilesDir string                `yaml:"clientFilesDir,omitempty"`
	Listen         ManagementPointListen `yaml:"listen"`
	// Gateways lists the service names that location replies offer to clients
	// on the internet.
	Gateways []string       `yaml:"gateways,omitempty"`
	Outbound OutboundConfig `yaml:"outbound,omitempty"`
	Log      LogConfig      `yaml:"log,omitempty"`
}

// ManagementPointListen are the listeners of a management point, as host:port.
type ManagementPointListen struct {
	// HTTPS takes clients inside and connection points; default ":443".
	HTTPS string `yaml:"https,omitempty"`
	// FastChannel takes notification connections inside; default ":10123".
	// "off" opens none.
	FastChannel string `yaml:"fastChannel,omitempty"`
	// Private serves metrics, health, explanations and notification; default
	// "127.0.0.1:9442". "off" opens none.
	Private string `yaml:"private,omitempty"`
}

func serveManagementPoint(ctx context.Context, e *env, args []string) error {
	flags, err := parseServe(e, "mp serve", args)
	if err != nil {
		return err
	}
	var c ManagementPointConfig
	if err := loadYAML(flags.config, &c); err != nil {
		return err
	}
	if err := c.fill(); err != nil {
		return fmt.Errorf("configuration file %s: %w", flags.config, err)
	}
	return errors.New("not wired yet")
}

func (c *ManagementPointConfig) fill() error {
	if err := c.Site.Validate(); err != nil {
		return fmt.Errorf("site: %w", err)
	}
	if err := c.RoleID.Validate(); err != nil {
		return fmt.Errorf("roleId: %w", err)
	}
	if c.HostName == "" {
		name, err := os.Hostname()
		if err != nil {
			return fmt.Errorf("hostName: %w", err)
		}
		c.HostName = name
	}
	setDefault(&c.Listen.HTTPS, ":443")
	setDefault(&c.Listen.FastChannel, ":10123")
	setDefault(&c.Listen.Private, "127.0.0.1:9442")
	return nil
}
