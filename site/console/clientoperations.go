package console

import (
	"net/url"

	"github.com/opencmg/opencmg/adminservice"
)

// Client operations: tasks that administrators sent to clients, and who did
// them.

func clientOperationViews() []view {
	return []view{
		{pattern: "client-operations", node: "client-operations", title: "Client operations", template: "client-operations", load: loadClientOperations},
		{pattern: "client-operations/{id}", node: "client-operations", title: "Client operation", template: "client-operation", load: loadClientOperation},
	}
}

func clientOperationActions() []action {
	return []action{
		{pattern: "client-operations/{id}/cancel", page: "client-operations/{id}", do: func(v *Visit) (string, string, error) {
			return "client-operations/" + v.ID(), "The operation is cancelled: clients that did not get the task yet are not sent it any more.", v.Do("POST", operationResource(v)+"/cancel", nil, nil)
		}},
		{pattern: "client-operations/{id}/delete", page: "client-operations/{id}", do: func(v *Visit) (string, string, error) {
			return "client-operations", "The operation is deleted.", v.Do("DELETE", operationResource(v), nil, nil)
		}},
	}
}

func operationResource(v *Visit) string { return "ClientOperations/" + url.PathEscape(v.ID()) }

func loadClientOperations(v *Visit) (any, error) {
	p, err := some[adminservice.ClientOperation](v, "client-operations", "ClientOperations", nil)
	for _, op := range p.List {
		if op.State == adminservice.ClientOperationActive {
			v.soon()
		}
	}
	p.Span = p.Span.newest()
	return p, err
}

type clientOperationPage struct {
	adminservice.ClientOperation
	Notifications somePage[adminservice.ClientNotification]
}

// Active reports whether somebody may still get the task.
func (p clientOperationPage) Active() bool { return p.State == adminservice.ClientOperationActive }

func loadClientOperation(v *Visit) (any, error) {
	op, err := get[adminservice.ClientOperation](v, operationResource(v))
	if err != nil {
		return nil, err
	}
	if op.State == adminservice.ClientOperationActive {
		v.soon()
	}
	n, err := some[adminservice.ClientNotification](v, operationAddress(op.ID), operationResource(v)+"/notifications", nil)
	return clientOperationPage{op, n}, err
}
