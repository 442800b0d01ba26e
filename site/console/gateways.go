package console

import "github.com/opencmg/opencmg/adminservice"

func gatewayViews() []view {
	return []view{{pattern: "gateways", node: "gateways", title: "Cloud Management Gateway", template: "gateways", load: func(v *Visit) (any, error) {
		return list[adminservice.Gateway](v, "Gateways")
	}}}
}

func gatewayActions() []action { return nil }
