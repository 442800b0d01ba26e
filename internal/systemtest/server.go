// Package systemtest is the site's side of what a site and its systems say to
// each other, for tests: a server with a site CA, join tokens, documents that
// change, and reports that are kept. It speaks real TLS and checks what a site
// checks; it has no database and no administrators.
package systemtest

import (
	"context"
	"crypto/subtle"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/opencmg/opencmg"
	"github.com/opencmg/opencmg/adminservice"
	"github.com/opencmg/opencmg/internal/web"
	"github.com/opencmg/opencmg/pki"
)

// A Server is a site as its systems see it.
type Server struct {
	Site opencmg.SiteCode
	CA   *pki.Authority
	URL  string
	// Term is how long the certificates live that it gives; default a year.
	Term time.Duration
	// Reports gets every report with the name of its sender.
	Reports chan Report
	// Answers gets every answer to a question of the documents.
	Answers chan adminservice.SystemAnswer

	t    testing.TB
	addr string
	tls  *tls.Config

	mu        sync.Mutex // guards what follows
	http      *http.Server
	tokens    map[string]*token
	documents map[string]*adminservice.Documents // by system name
	versions  map[string]int                     // of documents
	changed   chan struct{}                      // closed at every change
	refusal   map[string]int                     // status by path
	blocked   map[string]bool                    // system names
	waiting   int                                // requests for documents that wait
	issued    int                                // certificates
	joined    []adminservice.JoinRequest         // with secrets removed
	roleID    int
}

// A Report is a report and who sent it.
type Report struct {
	From string // name of the system
	adminservice.SiteSystemReport
}

type token struct {
	secret string
	uses   int

	// Of a gateway's token.
	gateway   string
	source    string         // address that it is good for; empty: any
	instances map[string]int // by the request's public key
}

// New starts a server on loopback that ends with the test.
func New(t testing.TB, ca *pki.Authority, site opencmg.SiteCode) *Server {
	t.Helper()
	s := &Server{
		Site: site, CA: ca, Reports: make(chan Report, 1000), Answers: make(chan adminservice.SystemAnswer, 1000), t: t,
		tokens: map[string]*token{}, documents: map[string]*adminservice.Documents{}, versions: map[string]int{},
		changed: make(chan struct{}), refusal: map[string]int{}, blocked: map[string]bool{}, roleID: 72057594037927936,
	}
	pair, err := ca.IssueKeyPair(pki.Template{CommonName: "site server", URIs: []string{opencmg.SiteServerURI(site)}, Server: true}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	s.UseCertificate(pair)
	s.Start()
	t.Cleanup(s.Stop)
	return s
}

// UseCertificate makes the server present another certificate after the next
// Start.
func (s *Server) UseCertificate(pair tls.Certificate) {
	roots := x509.NewCertPool()
	roots.AddCert(s.CA.Certificate())
	s.tls = &tls.Config{MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{pair}, ClientAuth: tls.VerifyClientCertIfGiven, ClientCAs: roots}
}

// Start listens; after Stop at the same address as before.
func (s *Server) Start() {
	s.t.Helper()
	if s.addr == "" {
		s.addr = "127.0.0.1:0"
	}
	ln, err := net.Listen("tcp", s.addr)
	for deadline := time.Now().Add(20 * time.Second); err != nil; ln, err = net.Listen("tcp", s.addr) {
		// A connection of somebody else may have got the port meanwhile.
		if time.Now().After(deadline) {
			s.t.Fatal(err)
		}
		runtime.Gosched()
	}
	s.addr = ln.Addr().String()
	s.URL = "https://" + s.addr
	srv := &http.Server{Handler: s.routes(), TLSConfig: s.tls, ErrorLog: log.New(io.Discard, "", 0)}
	s.mu.Lock()
	s.http = srv
	s.mu.Unlock()
	go srv.ServeTLS(ln, "", "")
}

// Move makes the next Start choose another address.
func (s *Server) Move() { s.addr = "" }

// Stop drops the listener and every connection, as a killed process does.
func (s *Server) Stop() {
	s.mu.Lock()
	srv := s.http
	s.http = nil
	s.mu.Unlock()
	if srv != nil {
		srv.Close()
	}
}

// Token makes a join token that opens the door a number of times.
func (s *Server) Token(uses int) adminservice.JoinToken {
	s.mu.Lock()
	defer s.mu.Unlock()
	id := fmt.Sprintf("token-%d", len(s.tokens)+1)
	s.tokens[id] = &token{secret: "planted-secret-of-" + id, uses: uses}
	return adminservice.JoinToken{URL: s.URL, Site: s.Site, SiteCA: pki.Thumbprint(s.CA.Certificate()), ID: id, Secret: s.tokens[id].secret}
}

// GatewayToken makes a join token for instances of a gateway.
func (s *Server) GatewayToken(gateway, serviceName, source string, uses int) adminservice.GatewayJoinToken {
	s.mu.Lock()
	defer s.mu.Unlock()
	id := fmt.Sprintf("token-%d", len(s.tokens)+1)
	t := &token{secret: "planted-secret-of-" + id, uses: uses, gateway: gateway, source: source, instances: map[string]int{}}
	s.tokens[id] = t
	return adminservice.GatewayJoinToken{Gateway: gateway, ServiceName: serviceName, Site: s.Site, SiteCA: string(s.CA.CertificatePEM()), ID: id, Secret: t.secret}
}

func (s *Server) joinGateway(w http.ResponseWriter, r *http.Request) error {
	if _, err := s.caller(r); err != nil {
		return err
	}
	var q adminservice.GatewayJoinRequest
	if err := decode(r, &q); err != nil {
		return err
	}
	refuse := func(why string) error { return answer(w, adminservice.GatewayJoinReply{Refused: why}) }
	s.mu.Lock()
	t := s.tokens[q.TokenID]
	s.mu.Unlock()
	if t == nil || t.gateway != q.Gateway || !opencmg.VerifyGatewayJoin(opencmg.GatewayJoinKey(t.secret), q.Exporter, q.Gateway, q.GatewayJoinProof) {
		return refuse("the join token is not known")
	}
	if host, _, err := net.SplitHostPort(q.Address); err != nil || t.source != "" && host != t.source {
		return refuse("the join token is not for a host at this address")
	}
	key, err := publicKey(q.Request)
	if err != nil {
		return err
	}
	s.mu.Lock()
	n, again := t.instances[string(key)]
	if !again {
		if n = len(t.instances); n == t.uses {
			s.mu.Unlock()
			return refuse("the join token is used up")
		}
		t.instances[string(key)] = n
	}
	s.mu.Unlock()
	cert, err := s.issue(q.Request, pki.Template{CommonName: fmt.Sprintf("%s instance %d", q.Gateway, n),
		URIs: []string{opencmg.GatewayInstanceURI(s.Site, q.Gateway, n)}, Client: true, Server: true})
	if err != nil {
		return err
	}
	return answer(w, adminservice.GatewayJoinReply{Instance: n, Certificate: cert})
}

// publicKey returns the public key of a certificate request.
func publicKey(request string) ([]byte, error) {
	block, _ := pem.Decode([]byte(request))
	if block == nil {
		return nil, opencmg.Errorf(opencmg.Invalid, "request: must be a PEM certificate request")
	}
	csr, err := x509.ParseCertificateRequest(block.Bytes)
	if err != nil {
		return nil, opencmg.Errorf(opencmg.Invalid, "request: %w", err)
	}
	return csr.RawSubjectPublicKeyInfo, nil
}

// Set replaces the documents of a system.
func (s *Server) Set(name string, d adminservice.Documents) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.documents[name] = &d
	s.versions[name]++
	s.wake()
}

// wake lets requests go on that wait for a change. s.mu is held.
func (s *Server) wake() {
	close(s.changed)
	s.changed = make(chan struct{})
}

// Refuse answers a path with a status from now on; 0 takes that back.
func (s *Server) Refuse(path string, status int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.refusal[path] = status
	s.wake()
}

// Block refuses a system's certificate from now on.
func (s *Server) Block(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.blocked[name] = true
	s.wake()
}

// Waiting is the number of requests for documents that wait for a change.
func (s *Server) Waiting() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.waiting
}

// Issued is the number of certificates given.
func (s *Server) Issued() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.issued
}

// Joined lists the requests that were granted, without their secrets.
func (s *Server) Joined() []adminservice.JoinRequest {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]adminservice.JoinRequest(nil), s.joined...)
}

func (s *Server) routes() http.Handler {
	mux := http.NewServeMux()
	for pattern, f := range map[string]func(http.ResponseWriter, *http.Request) error{
		"POST " + adminservice.JoinPath:     s.join,
		"GET " + adminservice.DocumentsPath: s.get,
		"POST " + adminservice.ReportPath:   s.report,
		"POST " + adminservice.RenewPath:    s.renew,
		"POST " + adminservice.AnswersPath:  s.takeAnswer,

		"POST " + adminservice.GatewayJoinPath: s.joinGateway,
	} {
		mux.Handle(pattern, web.Handler(nil, func(w http.ResponseWriter, r *http.Request) error {
			s.mu.Lock()
			status := s.refusal[r.URL.Path]
			s.mu.Unlock()
			if status != 0 {
				w.WriteHeader(status)
				return nil
			}
			return f(w, r)
		}))
	}
	return mux
}

// caller returns the name of the system that signed in.
func (s *Server) caller(r *http.Request) (string, error) {
	if len(r.TLS.VerifiedChains) == 0 {
		return "", opencmg.Errorf(opencmg.Unauthorized, "site systems sign in with a certificate of the site CA")
	}
	leaf := r.TLS.PeerCertificates[0]
	s.mu.Lock()
	defer s.mu.Unlock()
	name := leaf.Subject.CommonName
	if s.blocked[name] {
		return "", opencmg.Errorf(opencmg.Forbidden, "the certificate of %s is blocked", name)
	}
	return name, nil
}

func decode(r *http.Request, v any) error {
	d := json.NewDecoder(io.LimitReader(r.Body, 64<<20))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		return opencmg.Errorf(opencmg.Invalid, "the body is not what this path takes: %w", err)
	}
	return nil
}

func answer(w http.ResponseWriter, v any) error {
	w.Header().Set("Content-Type", "application/json")
	return json.NewEncoder(w).Encode(v)
}

func (s *Server) join(w http.ResponseWriter, r *http.Request) error {
	var q adminservice.JoinRequest
	if err := decode(r, &q); err != nil {
		return err
	}
	s.mu.Lock()
	t := s.tokens[q.ID]
	ok := t != nil && subtle.ConstantTimeCompare([]byte(t.secret), []byte(q.Secret)) == 1
	used := ok && t.uses == 0
	if ok && !used {
		t.uses--
	}
	s.roleID++
	role := opencmg.RoleID(strconv.Itoa(s.roleID))
	s.mu.Unlock()
	switch {
	case !ok:
		return opencmg.Errorf(opencmg.Unauthorized, "the join token is not known")
	case used:
		return opencmg.Errorf(opencmg.Forbidden, "the join token %s is used up: make another one", q.ID)
	}
	reply := adminservice.JoinReply{Site: s.Site, Name: q.Name, SiteCA: string(s.CA.CertificatePEM())}
	t2 := pki.Template{CommonName: q.Name, Client: true}
	switch q.Kind {
	case adminservice.SystemConnectionPoint:
		reply.ConnectionID = "id-of-" + q.Name
		t2.URIs = []string{opencmg.ConnectionPointURI(s.Site, reply.ConnectionID)}
	case adminservice.SystemManagementPoint:
		reply.RoleID = role
		t2.URIs, t2.Server = []string{opencmg.RoleURI(s.Site, role)}, true
		for _, a := range q.Addresses {
			if ip := net.ParseIP(a); ip != nil {
				t2.IPs = append(t2.IPs, ip)
			} else {
				t2.DNSNames = append(t2.DNSNames, a)
			}
		}
	default:
		return opencmg.Errorf(opencmg.Invalid, "kind %q is not known", q.Kind)
	}
	cert, err := s.issue(q.Request, t2)
	if err != nil {
		return err
	}
	reply.Certificate = cert
	q.Secret = ""
	s.mu.Lock()
	s.joined = append(s.joined, q)
	s.mu.Unlock()
	return answer(w, reply)
}

func (s *Server) issue(request string, t pki.Template) (string, error) {
	block, _ := pem.Decode([]byte(request))
	if block == nil || block.Type != "CERTIFICATE REQUEST" {
		return "", opencmg.Errorf(opencmg.Invalid, "request: must be a PEM certificate request")
	}
	csr, err := x509.ParseCertificateRequest(block.Bytes)
	if err == nil {
		err = csr.CheckSignature()
	}
	if err != nil {
		return "", opencmg.Errorf(opencmg.Invalid, "request: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	term := s.Term
	if term == 0 {
		term = 365 * 24 * time.Hour
	}
	t.NotAfter = time.Now().Add(term)
	cert, err := s.CA.Issue(t, csr.PublicKey, time.Now())
	if err != nil {
		return "", err
	}
	s.issued++
	return string(pki.EncodeCertificates(cert)), nil
}

// SetTerm changes how long certificates live that are given from now on.
func (s *Server) SetTerm(d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.Term = d
}

func (s *Server) renew(w http.ResponseWriter, r *http.Request) error {
	name, err := s.caller(r)
	if err != nil {
		return err
	}
	var q adminservice.RenewRequest
	if err := decode(r, &q); err != nil {
		return err
	}
	leaf := r.TLS.PeerCertificates[0]
	t := pki.Template{CommonName: name, DNSNames: leaf.DNSNames, IPs: leaf.IPAddresses, Client: true}
	for _, u := range leaf.ExtKeyUsage {
		t.Server = t.Server || u == x509.ExtKeyUsageServerAuth
	}
	for _, u := range leaf.URIs {
		t.URIs = append(t.URIs, u.String())
	}
	reply := adminservice.JoinReply{Site: s.Site, Name: name, SiteCA: string(s.CA.CertificatePEM())}
	if reply.Certificate, err = s.issue(q.Request, t); err != nil {
		return err
	}
	return answer(w, reply)
}

func (s *Server) get(w http.ResponseWriter, r *http.Request) error {
	seconds, err := strconv.Atoi(r.URL.Query().Get("wait"))
	if err != nil {
		seconds = 0
	}
	ctx, cancel := context.WithTimeout(r.Context(), time.Duration(min(seconds, 60))*time.Second)
	defer cancel()
	for {
		name, err := s.caller(r) // again after a wait: it may be blocked by now
		if err != nil {
			return err
		}
		s.mu.Lock()
		d, etag, changed := s.documents[name], strconv.Quote(strconv.Itoa(s.versions[name])), s.changed
		refused := s.refusal[r.URL.Path]
		s.waiting++
		s.mu.Unlock()
		ended := false
		if refused == 0 && strings.TrimSpace(r.Header.Get("If-None-Match")) == etag {
			select {
			case <-changed:
			case <-ctx.Done():
				ended = true
			}
		} else {
			changed = nil
		}
		s.mu.Lock()
		s.waiting--
		s.mu.Unlock()
		switch {
		case refused != 0:
			w.WriteHeader(refused)
			return nil
		case ended:
			w.Header().Set("ETag", etag)
			w.WriteHeader(http.StatusNotModified)
			return nil
		case changed != nil:
			continue
		}
		if d == nil {
			d = new(adminservice.Documents)
		}
		w.Header().Set("ETag", etag)
		return answer(w, d)
	}
}

func (s *Server) takeAnswer(w http.ResponseWriter, r *http.Request) error {
	if _, err := s.caller(r); err != nil {
		return err
	}
	var a adminservice.SystemAnswer
	if err := decode(r, &a); err != nil {
		return err
	}
	select {
	case s.Answers <- a:
	default: // nobody looks
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

func (s *Server) report(w http.ResponseWriter, r *http.Request) error {
	name, err := s.caller(r)
	if err != nil {
		return err
	}
	var q adminservice.SiteSystemReport
	if err := decode(r, &q); err != nil {
		return err
	}
	select {
	case s.Reports <- Report{name, q}:
	default: // nobody looks
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}
