package site

import (
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/opencmg/opencmg"
	"github.com/opencmg/opencmg/adminservice"
	"github.com/opencmg/opencmg/ccm"
	"github.com/opencmg/opencmg/sitedb"
)

// Client operations: tasks that administrators send to clients. The database
// holds a notification for each client, and management points pass them on; the
// site only writes them and asks for haste.

func taskType(name string) (int, error) {
	t, ok := ccm.TaskTypes()[name]
	if !ok {
		return 0, opencmg.Errorf(opencmg.Invalid, "task %q: must be one of %s", name, strings.Join(slices.Sorted(maps.Keys(ccm.TaskTypes())), ", ")).About("task")
	}
	return t, nil
}

// taskName is the name of a task type, or its number.
func taskName(kind int) string {
	for name, t := range ccm.TaskTypes() {
		if t == kind {
			return name
		}
	}
	return strconv.Itoa(kind)
}

func (s *Server) clientOperation(op sitedb.ClientOperation) adminservice.ClientOperation {
	out := adminservice.ClientOperation{
		ID: op.ID, Task: taskName(op.TaskType), Target: op.Target, Account: op.Account, Created: op.Created, Clients: op.Clients,
		Delivered: op.Delivered, Answered: op.Answered, Failed: op.Failed, Cancelled: op.Cancelled, CancelledBy: op.CancelledBy,
		State: adminservice.ClientOperationActive,
	}
	switch {
	case op.Answered >= op.Clients:
		out.State = adminservice.ClientOperationCompleted
	case !op.Cancelled.IsZero():
		out.State = adminservice.ClientOperationCancelled
	case s.expired(op.Created):
		out.State = adminservice.ClientOperationExpired
	}
	return out
}

// notifyClient is POST Clients/{id}/notify.
func (s *Server) notifyClient(w http.ResponseWriter, r *http.Request) error {
	id, err := clientOf(r)
	if err != nil {
		return err
	}
	var in adminservice.NotifyClient
	if err := decodeBody(r, &in); err != nil {
		return err
	}
	c, err := s.db.Client(r.Context(), id)
	if err != nil {
		return noClient(err, id)
	}
	if !c.Approval.Trusted() {
		return opencmg.Errorf(opencmg.Conflict, "client %s is not approved (%s), and can not listen: approve or readmit it first", id, approvalName(c.Approval))
	}
	return s.notify(w, r, in.Task, "client "+c.NetBIOSName, []opencmg.ClientID{id})
}

// notifyClients is POST Notifications.
func (s *Server) notifyClients(w http.ResponseWriter, r *http.Request) error {
	var in adminservice.NotifyClients
	if err := decodeBody(r, &in); err != nil {
		return err
	}
	if (len(in.Clients) > 0) == (in.Where != nil) {
		return opencmg.Errorf(opencmg.Invalid, "name either clients or where; {} for where is all clients")
	}
	if len(in.Clients) > adminservice.MaxOperationClients {
		return opencmg.Errorf(opencmg.TooLarge, "clients: %d are named, and one operation is for at most %d: make several", len(in.Clients), adminservice.MaxOperationClients)
	}
	target := fmt.Sprintf("%d named clients", len(in.Clients))
	for i, id := range in.Clients {
		var err error
		if in.Clients[i], err = opencmg.ParseClientID(string(id)); err != nil {
			return opencmg.Errorf(opencmg.Invalid, "clients: %.80q: %w", string(id), err).About("clients")
		}
	}
	if in.Where != nil {
		target = choiceText(in.Where)
		f, err := s.chosen(r.Context(), in.Where)
		if err != nil {
			return err
		}
		if in.Clients, err = s.db.ClientIDs(r.Context(), f, adminservice.MaxOperationClients+1); err != nil {
			return err
		}
		if len(in.Clients) > adminservice.MaxOperationClients {
			return opencmg.Errorf(opencmg.TooLarge, "where: more than %d clients are chosen, and one operation is for at most so many: choose fewer, for example by group or search", adminservice.MaxOperationClients)
		}
	}
	return s.notify(w, r, in.Task, target, in.Clients)
}

// choiceText says in words which clients were chosen.
func choiceText(c *adminservice.ClientChoice) string {
	var parts []string
	for _, p := range [][2]string{{"search", c.Search}, {"auth", string(c.Auth)}, {"approval", c.Approval}, {"group", c.Group}} {
		if p[1] != "" {
			parts = append(parts, fmt.Sprintf("%s %.100q", p[0], p[1]))
		}
	}
	if c.Online != nil {
		parts = append(parts, map[bool]string{true: "online", false: "not online"}[*c.Online])
	}
	if len(parts) == 0 {
		return "all clients"
	}
	return "clients with " + strings.Join(parts, ", ")
}

// notify records the operation and answers it. Those who listen get the task at
// once.
func (s *Server) notify(w http.ResponseWriter, r *http.Request, task, target string, clients []opencmg.ClientID) error {
	kind, err := taskType(task)
	if err != nil {
		return err
	}
	op := sitedb.ClientOperation{TaskType: kind, Target: target, Account: callerOf(r.Context()).account}
	err = s.db.Change(r.Context(), "notify clients", func(tx *sitedb.Tx) (err error) {
		if op, err = tx.NotifyClients(op, ccm.NewGUID(), clients); err != nil {
			return err
		}
		return s.audit(r.Context(), tx, msgAsked, "client-operation", strconv.FormatInt(op.ID, 10), "sent %s to %s (%d)", task, target, op.Clients)
	})
	if err != nil {
		return err
	}
	s.wake(r.Context(), clients)
	return answer(w, http.StatusCreated, s.clientOperation(op))
}

// listClientOperations is GET ClientOperations.
func (s *Server) listClientOperations(w http.ResponseWriter, r *http.Request) error {
	q, err := adminservice.ParseQuery(r.URL.Query())
	if err != nil {
		return err
	}
	if q.Filter != nil || len(q.OrderBy) > 0 {
		return opencmg.Errorf(opencmg.Invalid, "$filter and $orderby: are not for client operations, which come the newest first")
	}
	ops, total, err := s.db.ClientOperations(r.Context(), r.URL.Query().Get("search"), q.Skip, q.Top)
	if err != nil {
		return err
	}
	var list []adminservice.ClientOperation
	for _, op := range ops {
		list = append(list, s.clientOperation(op))
	}
	return answerCut(w, r, q, list, total)
}

func clientOperationOf(r *http.Request) (int64, error) {
	id, err := strconv.ParseInt(r.PathValue("id"), 10, 64)
	if err != nil {
		return 0, opencmg.Errorf(opencmg.NotFound, "there is no client operation %.80q", r.PathValue("id"))
	}
	return id, nil
}

// getClientOperation is GET ClientOperations/{id}.
func (s *Server) getClientOperation(w http.ResponseWriter, r *http.Request) error {
	id, err := clientOperationOf(r)
	if err != nil {
		return err
	}
	op, err := s.db.ClientOperation(r.Context(), id)
	if err != nil {
		return err
	}
	return answer(w, http.StatusOK, s.clientOperation(op))
}

// listOperationNotifications is GET ClientOperations/{id}/notifications.
func (s *Server) listOperationNotifications(w http.ResponseWriter, r *http.Request) error {
	id, err := clientOperationOf(r)
	if err != nil {
		return err
	}
	q, err := adminservice.ParseQuery(r.URL.Query())
	if err != nil {
		return err
	}
	if q.Filter != nil || len(q.OrderBy) > 0 {
		return opencmg.Errorf(opencmg.Invalid, "$filter and $orderby: are not for the notifications of an operation")
	}
	op, err := s.db.ClientOperation(r.Context(), id)
	if err != nil {
		return err
	}
	found, err := s.db.OperationNotifications(r.Context(), id, q.Skip, q.Top)
	if err != nil {
		return err
	}
	var ids []opencmg.ClientID
	for _, n := range found {
		ids = append(ids, n.ClientID)
	}
	names, err := s.db.ClientNames(r.Context(), ids)
	if err != nil {
		return err
	}
	var list []adminservice.ClientNotification
	for _, n := range found {
		shown := s.clientNotification(n)
		shown.ClientName = names[n.ClientID]
		list = append(list, shown)
	}
	return answerCut(w, r, q, list, op.Clients)
}

// cancelClientOperation is POST ClientOperations/{id}/cancel.
func (s *Server) cancelClientOperation(w http.ResponseWriter, r *http.Request) error {
	return s.changeClientOperation(w, r, func(tx *sitedb.Tx, op *adminservice.ClientOperation) error {
		switch op.State {
		case adminservice.ClientOperationCancelled:
			return nil
		case adminservice.ClientOperationActive:
		default:
			return opencmg.Errorf(opencmg.Conflict, "client operation %d is over (%s): there is nothing to cancel", op.ID, op.State)
		}
		if err := tx.CancelClientOperation(op.ID, callerOf(r.Context()).account); err != nil {
			return err
		}
		return s.audit(r.Context(), tx, msgChanged, "client-operation", strconv.FormatInt(op.ID, 10), "cancelled %s for %s", op.Task, op.Target)
	})
}

// deleteClientOperation is DELETE ClientOperations/{id}.
func (s *Server) deleteClientOperation(w http.ResponseWriter, r *http.Request) error {
	return s.changeClientOperation(w, r, func(tx *sitedb.Tx, op *adminservice.ClientOperation) error {
		if op.State == adminservice.ClientOperationActive {
			return opencmg.Errorf(opencmg.Conflict, "client operation %d is active: cancel it first", op.ID)
		}
		if err := tx.DeleteClientOperation(op.ID); err != nil {
			return err
		}
		return s.audit(r.Context(), tx, msgDeleted, "client-operation", strconv.FormatInt(op.ID, 10), "deleted the client operation %s for %s", op.Task, op.Target)
	})
}

func (s *Server) changeClientOperation(w http.ResponseWriter, r *http.Request, do func(*sitedb.Tx, *adminservice.ClientOperation) error) error {
	id, err := clientOperationOf(r)
	if err != nil {
		return err
	}
	err = s.db.Change(r.Context(), "change client operation", func(tx *sitedb.Tx) error {
		op, err := tx.ClientOperation(id)
		if err != nil {
			return err
		}
		shown := s.clientOperation(op)
		return do(tx, &shown)
	})
	if err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}
