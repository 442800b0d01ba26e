package labcloud

import (
	"encoding/json"
	"net"
	"net/http"
	"strings"
)

// The lab's own way in. All of it wants "Authorization: Bearer <AdminSecret>"
// and a caller on loopback.
//
//	POST /lab/token    TokenOptions as JSON    {"access_token": "..."}
//	POST /lab/rotate   empty                   {}
//	POST /lab/device   Device as JSON          {}

func (s *Server) admin(f func(r *http.Request) (any, error)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		host, _, _ := net.SplitHostPort(r.RemoteAddr)
		ip := net.ParseIP(host)
		if s.cfg.AdminSecret == "" || ip == nil || !ip.IsLoopback() {
			http.NotFound(w, r)
			return
		}
		given, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
		if !ok || !same(given, s.cfg.AdminSecret) {
			http.Error(w, "the lab's admin secret is needed as bearer token", http.StatusUnauthorized)
			return
		}
		answer, err := f(r)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Cache-Control", "no-store")
		json.NewEncoder(w).Encode(answer)
	})
}

// A TokenAnswer is what POST /lab/token answers.
type TokenAnswer struct {
	AccessToken string `json:"access_token"`
}

func (s *Server) adminToken(r *http.Request) (any, error) {
	var o TokenOptions
	if err := decode(r, &o); err != nil {
		return nil, err
	}
	token, err := s.IssueToken(o)
	return TokenAnswer{AccessToken: token}, err
}

func (s *Server) adminRotate(*http.Request) (any, error) {
	return struct{}{}, s.RotateKey()
}

func (s *Server) adminDevice(r *http.Request) (any, error) {
	var d Device
	if err := decode(r, &d); err != nil {
		return nil, err
	}
	return struct{}{}, s.AddDevice(d)
}

func decode(r *http.Request, v any) error {
	d := json.NewDecoder(r.Body)
	d.DisallowUnknownFields()
	return d.Decode(v)
}
