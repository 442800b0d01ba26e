package labcloud

import (
	"fmt"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// A Fault is one thing that goes wrong on purpose, until it is cleared or has
// happened Times times. Kind says what, Name whom:
//
//	status                Status, Code, Message and RetryAfter on requests that Method and Path select
//	nameTaken             the DNS label, storage account or vault Name belongs to somebody else
//	softDeletedVault      the vault Name was deleted by somebody and not purged
//	providerUnregistered  the resource provider Name is not registered in any subscription, until it is registered
//	quota                 usage Name (cores, standardAv2Family, ...) has the limit Limit
//	skuRestricted         the VM size Name is not available for the subscription
//	policy                a policy forbids creating resources of type Name
//	forbidden             403 for requests that Method and Path select, as for a missing role
//	failResource          creating or changing a resource of type Name fails half-way, with Code and Message
//	slowReplication       each new app, principal and secret is unknown to its next Limit uses
//	deltaGone             delta links are answered 410
//
// A region that is wrong for an existing group needs no switch.
type Fault struct {
	ID     string `json:"id,omitempty"` // given by the server
	Kind   string `json:"kind"`
	Name   string `json:"name,omitempty"`
	Method string `json:"method,omitempty"` // empty: all
	// Path is a regular expression on "host/path", without regard to case.
	Path    string `json:"path,omitempty"`
	Status  int    `json:"status,omitempty"`
	Code    string `json:"code,omitempty"`
	Message string `json:"message,omitempty"`
	// RetryAfter in seconds is sent as Retry-After if it is 1 or more.
	RetryAfter int `json:"retryAfter,omitempty"`
	Limit      int `json:"limit,omitempty"`
	// Times is how often it happens; 0: always.
	Times int `json:"times,omitempty"`
	// Happened counts.
	Happened int `json:"happened,omitempty"`
}

var faultKinds = map[string]bool{"status": true, "nameTaken": true, "softDeletedVault": true, "providerUnregistered": true, "quota": true, "skuRestricted": true, "policy": true, "forbidden": true, "failResource": true, "slowReplication": true, "deltaGone": true}

type labError string

func (e labError) Error() string { return "lab cloud: " + string(e) }

func labErrorf(format string, args ...any) error { return labError(fmt.Sprintf(format, args...)) }

// SetFault switches a fault on and returns its ID.
func (s *Server) SetFault(f Fault) (string, error) {
	if !faultKinds[f.Kind] {
		return "", labErrorf("fault kind %q is not known", f.Kind)
	}
	if _, err := regexp.Compile(f.Path); err != nil {
		return "", labErrorf("fault path: %v", err)
	}
	if f.Kind == "status" && (f.Status < 400 || f.Status > 599) {
		return "", labErrorf("fault status %d: must be 400 to 599", f.Status)
	}
	f.ID, f.Happened = newGUID(), 0
	s.world.Lock()
	defer s.world.Unlock()
	if f.Kind == "providerUnregistered" {
		for _, sub := range s.cfg.Subscriptions {
			s.st.Providers[strings.ToLower(sub.ID+"/"+f.Name)] = notRegistered
		}
		return f.ID, s.save()
	}
	s.st.Faults = append(s.st.Faults, &f)
	return f.ID, s.save()
}

// ClearFault switches one fault off, or all with an empty ID. A provider that
// was made unregistered stays so until it is registered.
func (s *Server) ClearFault(id string) error {
	s.world.Lock()
	defer s.world.Unlock()
	var kept []*Fault
	for _, f := range s.st.Faults {
		if id != "" && f.ID != id {
			kept = append(kept, f)
		}
	}
	s.st.Faults = kept
	return s.save()
}

// fault finds a switched-on fault of a kind and a name and counts it. The
// caller holds s.world.
func (s *Server) fault(kind, name string) *Fault {
	for _, f := range s.st.Faults {
		if f.Kind == kind && (f.Name == "" || strings.EqualFold(f.Name, name)) && f.left() {
			f.Happened++
			s.dirty = true
			return f
		}
	}
	return nil
}

func (f *Fault) left() bool { return f.Times == 0 || f.Happened < f.Times }

func (f *Fault) selects(r *http.Request) bool {
	if f.Method != "" && !strings.EqualFold(f.Method, r.Method) {
		return false
	}
	return pattern("(?i)" + f.Path).MatchString(r.Host + r.URL.Path)
}

// requestFault finds a fault of a kind that selects the request, and counts
// it.
func (s *Server) requestFault(kind string, r *http.Request) *Fault {
	s.world.Lock()
	defer s.world.Unlock()
	for _, f := range s.st.Faults {
		if f.Kind == kind && f.left() && f.selects(r) {
			f.Happened++
			return f
		}
	}
	return nil
}

func (s *Server) statusFault(r *http.Request) *Fault { return s.requestFault("status", r) }

// write answers a status fault; body writes the service's own error shape.
func (f *Fault) write(w http.ResponseWriter, body func(http.ResponseWriter)) {
	if f.RetryAfter > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(f.RetryAfter))
	}
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.WriteHeader(f.Status)
	body(w)
}

// lag is how many uses a new directory object stays unknown for.
func (s *Server) lag() int {
	if f := s.fault("slowReplication", ""); f != nil {
		return max(f.Limit, 1)
	}
	return 0
}

// waitHeaders tells a client when to poll again.
func (s *Server) waitHeaders(h http.Header) {
	if d := s.cfg.RetryAfter; d >= time.Second {
		h.Set("Retry-After", strconv.Itoa(int(d/time.Second)))
	} else {
		h.Set("x-ms-retry-after-ms", strconv.FormatInt(max(d.Milliseconds(), 1), 10))
	}
}
