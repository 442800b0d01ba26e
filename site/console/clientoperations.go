package console

import (
	"fmt"
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

// somePage is a page of a list that has a page for each part.
type somePage[T any] struct {
	List []T
	Span span
}

// some loads the part of a list that the page at address shows.
func some[T any](v *Visit, address, collection string) (p somePage[T], err error) {
	skip := skipOf(v)
	found, err := get[adminservice.Page[T]](v, fmt.Sprintf("%s?$top=%d&$skip=%d&$count=true", collection, listPage, skip))
	if err != nil {
		return p, err
	}
	total := 0
	if found.Count != nil {
		total = *found.Count
	}
	return somePage[T]{found.Value, spanOf(address, nil, skip, len(found.Value), total, found.Next != "")}, nil
}

func loadClientOperations(v *Visit) (any, error) {
	p, err := some[adminservice.ClientOperation](v, "client-operations", "ClientOperations")
	for _, op := range p.List {
		if op.State == adminservice.ClientOperationActive {
			v.soon()
		}
	}
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
	n, err := some[adminservice.ClientNotification](v, operationAddress(op.ID), operationResource(v)+"/notifications")
	return clientOperationPage{op, n}, err
}
