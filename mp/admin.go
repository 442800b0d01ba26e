package mp

import (
	"context"
	"encoding/json"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/opencmg/opencmg"
	"github.com/opencmg/opencmg/ccm"
	"github.com/opencmg/opencmg/internal/web"
	"github.com/opencmg/opencmg/sitedb"
)

// private is the listener for administration on this machine: what
// internal/web offers, and the routes below.
func (s *Server) private() *web.Private {
	extra := map[string]http.Handler{}
	for pattern, h := range map[string]func(http.ResponseWriter, *http.Request) error{
		"POST /notify":               s.adminNotify,
		"GET /notifications/{id}":    s.adminNotification,
		"GET /clients":               s.adminClients,
		"POST /clients/{id}/approve": s.adminApprove,
	} {
		extra[pattern] = web.Handler(s.log, h)
	}
	return &web.Private{Records: s.records, Registry: s.c.Registry, Log: s.log, Extra: extra, Ready: func() error {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		return s.c.DB.Ping(ctx)
	}}
}

// A NotifyRequest is the body of POST /notify.
type NotifyRequest struct {
	// Client is a client ID, or "*" for all that are online.
	Client string `json:"client"`
	// Task is machine-policy, hardware-inventory, discovery, test, or a task
	// type as a number.
	Task  string `json:"task"`
	Param string `json:"param,omitempty"`
	// Wait is how many seconds to wait for the answers, at most 60.
	Wait float64 `json:"wait,omitempty"`
}

// A NotificationStatus is what became of one notification.
type NotificationStatus struct {
	PushID     int64            `json:"pushId"`
	Client     opencmg.ClientID `json:"client"`
	TaskGUID   string           `json:"taskGuid"`
	TaskType   int              `json:"taskType"`
	Created    time.Time        `json:"created"`
	Delivered  *time.Time       `json:"delivered,omitempty"`
	Answered   *time.Time       `json:"answered,omitempty"`
	ReturnCode int              `json:"returnCode"`
}

// A NotifyReply answers POST /notify.
type NotifyReply struct {
	Notifications []NotificationStatus `json:"notifications"`
	// Answered is how many were answered within the time to wait.
	Answered int `json:"answered"`
}

func notificationStatus(n sitedb.Notification) NotificationStatus {
	st := NotificationStatus{PushID: n.PushID, Client: n.ClientID, TaskGUID: n.TaskGUID, TaskType: n.TaskType, Created: n.Created, ReturnCode: n.ReturnCode}
	if !n.Delivered.IsZero() {
		st.Delivered = &n.Delivered
	}
	if !n.Answered.IsZero() {
		st.Answered = &n.Answered
	}
	return st
}

func (s *Server) adminNotify(w http.ResponseWriter, r *http.Request) error {
	var q NotifyRequest
	d := json.NewDecoder(http.MaxBytesReader(w, r.Body, 64<<10))
	d.DisallowUnknownFields()
	if err := d.Decode(&q); err != nil {
		return &opencmg.Error{Kind: opencmg.Invalid, Msg: "the body must be JSON with client and task", Err: err}
	}
	task, ok := ccm.TaskTypes()[q.Task]
	if !ok {
		n, err := strconv.Atoi(q.Task)
		if err != nil || n <= 0 {
			return opencmg.Errorf(opencmg.Invalid, "task %q: must be a number or one of %s", q.Task, strings.Join(slices.Sorted(maps.Keys(ccm.TaskTypes())), ", "))
		}
		task = n
	}
	var clients []opencmg.ClientID
	if q.Client == "*" {
		for id := range s.hub.online() {
			clients = append(clients, id)
		}
	} else {
		id, err := opencmg.ParseClientID(q.Client)
		if err != nil {
			return err
		}
		if _, err := s.c.DB.Client(r.Context(), id); err != nil {
			return err
		}
		clients = append(clients, id)
	}
	added, err := s.Notify(r.Context(), clients, task, q.Param)
	if err != nil {
		return err
	}
	reply := NotifyReply{Notifications: []NotificationStatus{}}
	waiting, cancel := context.WithTimeout(r.Context(), time.Duration(min(max(q.Wait, 0), 60)*float64(time.Second)))
	defer cancel()
	for _, n := range added {
		if q.Wait > 0 {
			if n, err = s.awaitAnswer(r.Context(), waiting, n); err != nil {
				return err
			}
		}
		if !n.Answered.IsZero() {
			reply.Answered++
		}
		reply.Notifications = append(reply.Notifications, notificationStatus(n))
	}
	return writeJSON(w, reply)
}

// awaitAnswer returns the notification when it is answered or waiting ends.
func (s *Server) awaitAnswer(ctx, waiting context.Context, n sitedb.Notification) (sitedb.Notification, error) {
	answered, forget := s.hub.expect(n.PushID)
	defer forget()
	// The answer may have come before we began to listen.
	now, err := s.c.DB.Notification(ctx, n.PushID)
	if err != nil || !now.Answered.IsZero() {
		return now, err
	}
	select {
	case <-answered:
	case <-waiting.Done():
	}
	return s.c.DB.Notification(ctx, n.PushID)
}

func (s *Server) adminNotification(w http.ResponseWriter, r *http.Request) error {
	id, err := strconv.ParseInt(r.PathValue("id"), 10, 64)
	if err != nil {
		return opencmg.Errorf(opencmg.Invalid, "the push ID must be a number")
	}
	n, err := s.c.DB.Notification(r.Context(), id)
	if err != nil {
		return err
	}
	return writeJSON(w, notificationStatus(n))
}

// A ClientStatus is one client in the answer to GET /clients.
type ClientStatus struct {
	ID           opencmg.ClientID `json:"id"`
	Name         string           `json:"name"`
	FQDN         string           `json:"fqdn"`
	AgentVersion string           `json:"agentVersion"`
	Approval     int              `json:"approval"`
	Auth         opencmg.AuthMode `json:"auth"`
	Group        string           `json:"group,omitempty"` // of its bulk registration token
	Registered   time.Time        `json:"registered"`
	LastSeen     time.Time        `json:"lastSeen"`
	// Online is http or tcp while the client holds a notification channel.
	Online   string `json:"online,omitempty"`
	Internet bool   `json:"internet,omitempty"` // that channel comes through a gateway
}

// adminClients lists clients: ?search= ?group= ?after= ?limit= (default 100, at
// most 1,000).
func (s *Server) adminClients(w http.ResponseWriter, r *http.Request) error {
	q := r.URL.Query()
	limit := 100
	if v := q.Get("limit"); v != "" {
		var err error
		if limit, err = strconv.Atoi(v); err != nil || limit < 1 || limit > 1000 {
			return opencmg.Errorf(opencmg.Invalid, "limit: must be 1 to 1000")
		}
	}
	clients, err := s.c.DB.Clients(r.Context(), q.Get("search"), q.Get("group"), opencmg.ClientID(q.Get("after")), limit)
	if err != nil {
		return err
	}
	online := s.hub.online()
	list := []ClientStatus{}
	for _, c := range clients {
		w, on := online[c.ID]
		st := ClientStatus{ID: c.ID, Name: c.NetBIOSName, FQDN: c.FQDN, AgentVersion: c.AgentVersion, Approval: int(c.Approval), Auth: c.Auth, Group: c.Group, Registered: c.Registered, LastSeen: c.LastSeen}
		if on {
			st.Online, st.Internet = w.transport, w.outside
		}
		list = append(list, st)
	}
	return writeJSON(w, list)
}

func (s *Server) adminApprove(w http.ResponseWriter, r *http.Request) error {
	id, err := opencmg.ParseClientID(r.PathValue("id"))
	if err != nil {
		return err
	}
	if err := s.ApproveClient(r.Context(), id, sitedb.Approved); err != nil {
		return err
	}
	s.log.Info("client approved", "component", "MP_RegistrationManager", "client", string(id))
	w.WriteHeader(http.StatusNoContent)
	return nil
}

func writeJSON(w http.ResponseWriter, v any) error {
	w.Header().Set("Content-Type", "application/json")
	return json.NewEncoder(w).Encode(v)
}
