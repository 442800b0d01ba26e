package labcloud

import (
	"maps"
	"net/http"
	"strings"
	"time"
)

// Long operations. The work may be done at once or in the background; the
// client hears of the end no earlier than with poll Config.MinPolls.

// An operation is what a client polls.
type operation struct {
	ID, Subscription string
	Started, Ended   time.Time
	Polls            int
	Done             bool
	Err              *armError
	Verb             string // what it says while it runs: InProgress or Running
	// Result is what the Location URL answers at the end; nil means the
	// resource Target if it exists, or nothing.
	Result any
	Target string // lower-case resource ID
	URL    string // path of the status, without host
}

// begin makes an operation, whose work the caller finishes with done.
func (s *Server) begin(c *armCall, target string) *operation {
	maps.DeleteFunc(s.st.Operations, func(_ string, o *operation) bool { return o.Done && s.cfg.Now().Sub(o.Ended) > time.Hour })
	o := &operation{ID: newGUID(), Subscription: c.sub.ID, Started: s.cfg.Now().UTC(), Verb: "InProgress", Target: strings.ToLower(target)}
	s.st.Operations[o.ID] = o
	s.dirty = true
	return o
}

func (s *Server) done(o *operation, err *armError) {
	o.Done, o.Err, o.Ended = true, err, s.cfg.Now().UTC()
	s.dirty = true
}

// background runs f without s.world held and then ends the operation.
func (s *Server) background(o *operation, f func() *armError) {
	s.spawn(func() {
		err := f()
		s.change(func() { s.done(o, err) })
	})
}

// accepted answers the first request of an operation with the headers that
// lead to its status, in the style of a provider.
func (s *Server) accepted(c *armCall, o *operation, status int, body any, style asyncStyle) *reply {
	place := "/providers/" + style.provider + "/locations/" + style.location
	if o.URL == "" {
		o.URL = "/subscriptions/" + c.sub.ID + place + "/operations/" + o.ID
	}
	h := http.Header{}
	q := "?api-version=" + c.version
	if style.async {
		h.Set("Azure-AsyncOperation", c.base+o.URL+q)
	}
	if style.result {
		u := "/subscriptions/" + c.sub.ID + place + "/operationResults/" + o.ID + q
		if style.async {
			u += "&monitor=true"
		}
		h.Set("Location", c.base+u)
	}
	s.waitHeaders(h)
	return &reply{status: status, body: body, header: h}
}

// An asyncStyle is how a provider tells of its operations.
type asyncStyle struct {
	provider, location string
	async, result      bool // Azure-AsyncOperation, Location
}

// poll counts and reports whether the client may hear of the end.
func (s *Server) poll(o *operation) bool {
	if o.Polls < s.cfg.MinPolls {
		o.Polls++
		s.dirty = true
	}
	return o.Done && o.Polls >= s.cfg.MinPolls
}

func (s *Server) operation(c *armCall, id string) (*operation, *armError) {
	o := s.st.Operations[strings.ToLower(id)]
	if o == nil || !strings.EqualFold(o.Subscription, c.sub.ID) {
		return nil, armErrorf(http.StatusNotFound, "OperationNotFound", "The operation '%s' is not found.", id)
	}
	if c.method != http.MethodGet {
		return nil, methodNotAllowed(c)
	}
	return o, nil
}

// operationStatus answers an Azure-AsyncOperation URL.
func (s *Server) operationStatus(c *armCall, id string) (*reply, *armError) {
	o, err := s.operation(c, id)
	if err != nil {
		return nil, err
	}
	body := map[string]any{"name": o.ID, "startTime": o.Started.Format(time.RFC3339Nano)}
	rep := &reply{status: http.StatusOK, body: body, header: http.Header{}}
	if !s.poll(o) {
		body["status"] = o.Verb
		s.waitHeaders(rep.header)
		return rep, nil
	}
	body["endTime"] = o.Ended.Format(time.RFC3339Nano)
	body["status"] = "Succeeded"
	if o.Err != nil {
		body["status"], body["error"] = "Failed", o.Err
	}
	return rep, nil
}

// operationResult answers a Location URL: 202 while it runs, then the result.
func (s *Server) operationResult(c *armCall, id string) (*reply, *armError) {
	o, err := s.operation(c, id)
	if err != nil {
		return nil, err
	}
	if !s.poll(o) {
		rep := &reply{status: http.StatusAccepted, header: http.Header{}}
		rep.header.Set("Location", c.base+c.r.URL.RequestURI())
		s.waitHeaders(rep.header)
		return rep, nil
	}
	if o.Err != nil {
		e := *o.Err
		if e.Status < 400 {
			e.Status = http.StatusConflict
		}
		return nil, &e
	}
	if o.Result != nil {
		return ok(o.Result), nil
	}
	if r := s.st.Resources[o.Target]; r != nil {
		return ok(s.show(r)), nil
	}
	return &reply{status: http.StatusOK}, nil
}
