package site

import (
	"context"
	"encoding/json"
)

// What the checklist needs of boundary groups and client settings. Both are
// objects of the site's database; a site without any has the documented
// defaults.

// Kinds and keys of these objects.
const (
	boundaryGroupKind  = "boundary-group"
	clientSettingsKind = "client-settings"
)

// A groupReferences is a boundary group with the names of the site systems that
// it refers to.
type groupReferences struct {
	name    string
	servers []string
}

func (s *Server) boundaryGroupReferences(ctx context.Context) (list []groupReferences, err error) {
	objects, err := s.db.Objects(ctx, boundaryGroupKind)
	for _, o := range objects {
		var v struct {
			SiteSystems []string `json:"siteSystems"`
		}
		if err := json.Unmarshal(o.Body, &v); err != nil {
			return nil, err
		}
		list = append(list, groupReferences{o.Name, v.SiteSystems})
	}
	return list, err
}

// A cloudSetting is one set of client settings as far as it concerns gateways.
type cloudSetting struct {
	name             string
	isDefault, allow bool
}

func (s *Server) gatewayClientSettings(ctx context.Context) (list []cloudSetting, err error) {
	objects, err := s.db.Objects(ctx, clientSettingsKind)
	for _, o := range objects {
		var v struct {
			Default bool  `json:"default"`
			Allow   *bool `json:"allowCloudManagementGateway"`
		}
		if err := json.Unmarshal(o.Body, &v); err != nil {
			return nil, err
		}
		// The documented default is yes (cmg-behaviour K1).
		list = append(list, cloudSetting{o.Name, v.Default, v.Allow == nil || *v.Allow})
	}
	return list, err
}
