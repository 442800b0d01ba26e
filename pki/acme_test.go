package pki_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/opencmg/opencmg"
	"github.com/opencmg/opencmg/pki"
)

// An authority that misbehaves. What a real one does is tested against Pebble,
// in package gateway.
type rudeAuthority struct {
	url   string
	order func(w http.ResponseWriter)
	authz string // JSON
}

func (a *rudeAuthority) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Replay-Nonce", fmt.Sprint(time.Now().UnixNano()))
	w.Header().Set("Location", a.url+r.URL.Path+"/1")
	switch r.URL.Path {
	case "/dir":
		json.NewEncoder(w).Encode(map[string]string{"newNonce": a.url + "/nonce", "newAccount": a.url + "/account", "newOrder": a.url + "/order"})
	case "/nonce":
	case "/account":
		w.WriteHeader(http.StatusCreated)
		fmt.Fprint(w, `{"status":"valid"}`)
	case "/order":
		a.order(w)
	case "/authz":
		fmt.Fprint(w, a.authz)
	default:
		w.WriteHeader(http.StatusNotFound)
	}
}

func TestACMEErrors(t *testing.T) {
	key := must(pki.NewAccountKey())(t)
	problem := func(status int, kind, detail string, header ...string) func(http.ResponseWriter) {
		return func(w http.ResponseWriter) {
			w.Header().Set("Content-Type", "application/problem+json")
			for i := 0; i < len(header); i += 2 {
				w.Header().Set(header[i], header[i+1])
			}
			w.WriteHeader(status)
			fmt.Fprintf(w, `{"type":"urn:ietf:params:acme:error:%s","detail":%q,"subproblems":[{"type":"urn:ietf:params:acme:error:caa","detail":"no CAA","identifier":{"type":"dns","value":"gw.example.com"}}]}`, kind, detail)
		}
	}
	a := &rudeAuthority{}
	srv := httptest.NewTLSServer(a)
	defer srv.Close()
	a.url = srv.URL
	order := func(w http.ResponseWriter) {
		w.WriteHeader(http.StatusCreated)
		fmt.Fprintf(w, `{"status":"pending","authorizations":[%q],"finalize":%q}`, a.url+"/authz", a.url+"/finalize")
	}
	authz := func(challenges string) string {
		return `{"status":"pending","identifier":{"type":"dns","value":"gw.example.com"},"challenges":[` + challenges + `]}`
	}
	for name, tt := range map[string]struct {
		order func(http.ResponseWriter)
		authz string
		kind  opencmg.Kind
		want  string
	}{
		"rate limit":    {problem(429, "rateLimited", "too many orders", "Retry-After", "3600"), "", opencmg.Unavailable, "rateLimited: too many orders; gw.example.com: caa: no CAA (try again in 1h0m0s)"},
		"refused":       {problem(403, "caa", "CAA forbids"), "", opencmg.Forbidden, "order: the authority refused: caa: CAA forbids"},
		"only dns-01":   {order, authz(`{"type":"dns-01","url":"u","token":"t"}`), opencmg.Forbidden, "offers the challenges dns-01, and we can answer tls-alpn-01, http-01"},
		"hostile token": {order, authz(`{"type":"http-01","url":"u","token":"../../etc/passwd"}`), opencmg.Unavailable, "can not be published"},
	} {
		a.order, a.authz = tt.order, tt.authz
		_, err := (&pki.ACME{Directory: a.url + "/dir", AccountKey: key, HTTP: srv.Client()}).Obtain(t.Context(), []string{"gw.example.com"}, pki.ECDSAP256, nil)
		if !errors.Is(err, tt.kind) || !strings.Contains(err.Error(), tt.want) || !strings.Contains(err.Error(), "certificate for gw.example.com from 127.0.0.1:") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestACMEInput(t *testing.T) {
	key := must(pki.NewAccountKey())(t)
	good := pki.ACME{Directory: "https://127.0.0.1:1/dir", AccountKey: key}
	for want, tt := range map[string]struct {
		change func(*pki.ACME)
		names  []string
		kind   opencmg.Kind
	}{
		"https address":      {func(a *pki.ACME) { a.Directory = "http://ca.example/dir" }, []string{"gw.example.com"}, opencmg.Invalid},
		"account key":        {func(a *pki.ACME) { a.AccountKey = nil }, []string{"gw.example.com"}, opencmg.Invalid},
		`challenge "dns-01"`: {func(a *pki.ACME) { a.Prefer = []string{"dns-01"} }, []string{"gw.example.com"}, opencmg.Invalid},
		"no name":            {nil, nil, opencmg.Invalid},
		"dns-01":             {nil, []string{"*.example.com"}, opencmg.Invalid},
		"not a host name":    {nil, []string{"gw example"}, opencmg.Invalid},
		"directory: Get":     {nil, []string{"gw.example.com"}, opencmg.Unavailable},
	} {
		a := good
		if tt.change != nil {
			tt.change(&a)
		}
		if _, err := a.Obtain(t.Context(), tt.names, pki.ECDSAP256, nil); !errors.Is(err, tt.kind) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
	}
	b := pki.ACMEBinding{KeyID: "id", Key: []byte("geheim")}
	if s := fmt.Sprintf("%v %+v %#v %v", b, b, b, b.LogValue()); strings.Contains(s, "geheim") || strings.Contains(s, "103") {
		t.Errorf("prints %s", s)
	}
}
