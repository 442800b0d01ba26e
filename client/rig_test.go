package client_test

import (
	"context"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/opencmg/opencmg"
	"github.com/opencmg/opencmg/ccm"
	"github.com/opencmg/opencmg/client"
	"github.com/opencmg/opencmg/pki"
)

const (
	gatewayName = "gw.example.com"
	mpName      = "mp.example.com"
	role        = "72057594037927936"
	site        = "LAB"
	bulkToken   = "bulk.token.signature"
	tenant      = "11111111-2222-3333-4444-555555555555"
	resource    = "api://11111111-2222-3333-4444-555555555555/opencmg"
	base        = gatewayName + "/CCM_Proxy_MutualAuth/" + role
)

// A rig is a scripted gateway with its management point, over real TLS, in as
// few words as the client can be tested with. It checks what it is sent.
type rig struct {
	t      *testing.T
	ca     *pki.Authority
	caFile string
	log    *slog.Logger
	issued []*x509.Certificate // of serve

	mu       sync.Mutex
	clients  map[string]opencmg.ClientID // by thumbprint of the signing certificate
	keys     map[opencmg.ClientID]*rsa.PublicKey
	tokens   map[string]tokenKind
	sessions map[opencmg.ClientID]chan ccm.Task // notification
	policies map[string]ccm.Policy
	calls    []string // "<method> <path> <what>"
	reports  []*ccm.Report
	answers  chan ccm.TaskResponse
	approval ccm.ApprovalStatus
	pending  int // confirmations to answer with pending
	tokenFor time.Duration
	// refuse, when it returns a status, ends a request before it is looked at.
	refuse func(r *http.Request) (status int, reason string)
	// signedIn is told each client ID whose channel is open.
	signedIn chan opencmg.ClientID
}

type tokenKind struct {
	kind   string // bulk, entra, ccm, client
	bound  string // thumbprint of the TLS certificate, empty for none
	client opencmg.ClientID
}

func newRig(t *testing.T) *rig {
	t.Helper()
	ca, err := pki.NewAuthority("Lab root", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	r := &rig{
		t: t, ca: ca, caFile: filepath.Join(t.TempDir(), "ca.pem"),
		clients: map[string]opencmg.ClientID{}, keys: map[opencmg.ClientID]*rsa.PublicKey{},
		tokens:   map[string]tokenKind{bulkToken: {kind: "bulk"}, "entra": {kind: "entra"}},
		sessions: map[opencmg.ClientID]chan ccm.Task{}, policies: map[string]ccm.Policy{},
		answers: make(chan ccm.TaskResponse, 16), approval: ccm.Approved, tokenFor: 8 * time.Hour, signedIn: make(chan opencmg.ClientID, 64),
	}
	if os.Getenv("OPENCMG_TEST_LOG") != "" {
		r.log = slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug}))
	}
	if err := os.WriteFile(r.caFile, ca.CertificatePEM(), 0o600); err != nil {
		t.Fatal(err)
	}
	r.policies["{AAAA}"] = ccm.Policy{ID: "{AAAA}", Version: "1.00", Type: "Machine", Source: "SMS:LAB", Rules: []ccm.PolicyRule{{ID: "{1}", Actions: []ccm.PolicyAction{{Type: "WMI-XML", Instances: []ccm.PolicyInstance{{Class: "CCM_ClientAgentConfig", Properties: []ccm.PolicyProperty{{Name: "BrandingTitle", Type: "8", Value: "IT"}}}}}}}}}
	r.policies["LAB20000-LAB00003-6F6BCC28"] = ccm.Policy{ID: "LAB20000-LAB00003-6F6BCC28", Version: "2.00", Type: "Machine", Source: "SMS:LAB"}
	return r
}

// serve answers TLS on loopback and returns the address and a function that
// cuts everything off.
func (r *rig) serve(h http.Handler, names ...string) (addr string, kill func()) {
	r.t.Helper()
	cert, err := r.ca.IssueKeyPair(pki.Template{CommonName: names[0], DNSNames: names, IPs: []net.IP{net.IPv4(127, 0, 0, 1)}, Server: true, NotAfter: time.Now().Add(time.Hour)}, time.Now())
	if err != nil {
		r.t.Fatal(err)
	}
	r.issued = append(r.issued, cert.Leaf)
	ln, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{cert}, ClientAuth: tls.RequestClientCert, MinVersion: tls.VersionTLS12})
	if err != nil {
		r.t.Fatal(err)
	}
	srv := &http.Server{Handler: h, ErrorLog: slog.NewLogLogger(slog.DiscardHandler, 0), BaseContext: func(net.Listener) context.Context { return r.t.Context() }}
	done := make(chan struct{})
	go func() { defer close(done); srv.Serve(ln) }()
	kill = sync.OnceFunc(func() { srv.Close(); <-done })
	r.t.Cleanup(kill)
	return ln.Addr().String(), kill
}

func to(t *testing.T, name, addr string) opencmg.ConnectTo {
	t.Helper()
	c, err := opencmg.ParseConnectTo(name + ":443:" + addr)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// config is that of a client with a name of its own.
func (r *rig) config(t *testing.T, connect ...opencmg.ConnectTo) client.Config {
	return client.Config{
		StateDir: filepath.Join(t.TempDir(), "state"), CAFile: r.caFile, ConnectTo: connect, Log: r.log,
		Host: &client.HostFacts{NetBIOSName: "PC01", FQDN: "pc01.example.com", OS: "linux", Architecture: "amd64", CPUs: 2, Addresses: []client.NetworkAddress{{Interface: "eth0", Address: "192.0.2.7", Subnet: "192.0.2.0/24", MAC: "00:11:22:33:44:55"}}},
	}
}

func (r *rig) note(format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.calls = append(r.calls, fmt.Sprintf(format, args...))
}

func (r *rig) seen() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]string(nil), r.calls...)
}

// refused writes a status with a reason phrase of its own, as the gateway does.
func refused(w http.ResponseWriter, status int, reason string) {
	conn, _, err := w.(http.Hijacker).Hijack()
	if err != nil {
		panic(err)
	}
	defer conn.Close()
	extra := ""
	if status == http.StatusServiceUnavailable {
		extra = "Retry-After: 3600\r\n"
	}
	fmt.Fprintf(conn, "HTTP/1.1 %d %s\r\nX-Correlation-ID: corr-1\r\nContent-Length: 0\r\n%sConnection: close\r\n\r\n", status, reason, extra)
}

// gateway is the handler for internet clients.
func (r *rig) gateway() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if f := r.refuse; f != nil {
			if status, reason := f(req); status != 0 {
				refused(w, status, reason)
				return
			}
		}
		w.Header().Set(opencmg.HeaderCorrelationID, "corr-"+ccm.NewGUID())
		path := req.URL.Path
		if path == opencmg.ServerAuthPrefix+"AADAuthInfo" {
			if req.URL.Query().Get("TenantID") != tenant {
				refused(w, 404, "Not Found")
				return
			}
			json.NewEncoder(w).Encode(map[string]string{"tenantId": tenant, "clientAppId": "app", "resourceUri": resource})
			return
		}
		who := caller{thumbprint: peer(req)}
		switch {
		case strings.HasPrefix(path, opencmg.MutualAuthPrefix+role):
			path = strings.TrimPrefix(path, opencmg.MutualAuthPrefix+role)
			if len(req.TLS.PeerCertificates) == 0 || req.TLS.PeerCertificates[0].CheckSignatureFrom(r.ca.Certificate()) != nil {
				refused(w, 401, "Unauthorized")
				return
			}
			who.auth = "pki"
		case strings.HasPrefix(path, opencmg.ServerAuthPrefix+role):
			path = strings.TrimPrefix(path, opencmg.ServerAuthPrefix+role)
			token := strings.TrimPrefix(req.Header.Get("Authorization"), "Bearer ")
			r.mu.Lock()
			k, ok := r.tokens[token]
			r.mu.Unlock()
			if !ok || k.bound != "" && k.bound != who.thumbprint || k.kind == "bulk" && !strings.HasPrefix(path, "/ccm_system_tokenauth/") {
				refused(w, 401, opencmg.ReasonInvalidToken)
				return
			}
			who.auth, who.client = k.kind, k.client
		default:
			refused(w, 404, "Not Found")
			return
		}
		r.answer(w, req, path, who)
	})
}

// inside is the management point as clients on the intranet see it.
func (r *rig) inside() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		r.answer(w, req, req.URL.Path, caller{auth: "inside", thumbprint: peer(req)})
	})
}

type caller struct {
	auth       string
	thumbprint string
	client     opencmg.ClientID
}

func peer(req *http.Request) string {
	if len(req.TLS.PeerCertificates) == 0 {
		return ""
	}
	return pki.Thumbprint(req.TLS.PeerCertificates[0])
}

func (r *rig) answer(w http.ResponseWriter, req *http.Request, path string, who caller) {
	body, err := io.ReadAll(req.Body)
	if err != nil {
		return
	}
	path, _, _ = strings.Cut(path, "?")
	switch {
	case path == ccm.PathSTS:
		r.note("sts %s", who.auth)
		reply := ccm.TokenReply{AccessToken: "ccm-" + ccm.NewGUID(), TokenType: "Bearer", ExpiresIn: int(r.tokenFor.Seconds())}
		r.mu.Lock()
		reply.ClientID = r.clients[who.thumbprint]
		r.tokens[reply.AccessToken] = tokenKind{kind: "ccm", bound: who.thumbprint, client: reply.ClientID}
		r.mu.Unlock()
		json.NewEncoder(w).Encode(reply)
	case path == ccm.PathLocation:
		r.note("sms_aut %s", req.URL.RawQuery)
		io.WriteString(w, ccm.MPList{{Name: "MP", SiteCode: site, IntranetName: mpName}}.Encode())
	case path == ccm.PathPolicy:
		r.policyBody(w, req)
	case path == ccm.PathRequest, path == ccm.PathTokenRequest, strings.HasPrefix(path, ccm.PathIncoming):
		if want := map[bool]string{true: ccm.MethodBITSPost, false: ccm.MethodCCMPost}[strings.HasPrefix(path, ccm.PathIncoming)]; req.Method != want {
			refused(w, 405, "Method Not Allowed")
			return
		}
		r.message(w, req, body, who)
	case path == ccm.PathNotification:
		r.notification(w, req, body)
	default:
		refused(w, 404, "Not Found")
	}
}

func (r *rig) message(w http.ResponseWriter, req *http.Request, body []byte, who caller) {
	m, err := ccm.ParseMessage(req.Header.Get("Content-Type"), body, ccm.Limits{})
	if err != nil {
		r.t.Errorf("message: %v", err)
		refused(w, 400, "Bad Request")
		return
	}
	signed := false
	if m.SourceID != "" {
		r.mu.Lock()
		key := r.keys[m.SourceID]
		r.mu.Unlock()
		signed = key != nil && m.VerifyPayload(key) == nil
	}
	r.note("%s %s signed=%t", m.TargetEndpoint, who.auth, signed)
	reply := ""
	switch m.TargetEndpoint {
	case ccm.EndpointRegistration:
		reply = r.register(m.Text, who)
	case ccm.EndpointToken:
		if signed {
			token := "client-" + ccm.NewGUID()
			r.mu.Lock()
			r.tokens[token] = tokenKind{kind: "client", bound: who.thumbprint, client: m.SourceID}
			r.mu.Unlock()
			reply = ccm.TokenManagerReply{ClientID: m.SourceID, ID: "id", Token: token, Expires: time.Now().Add(r.tokenFor), Renew: time.Now().Add(r.tokenFor / 3)}.Encode()
		}
	case ccm.EndpointPolicy:
		if signed {
			reply = r.assignments(m)
		}
	case ccm.EndpointLocation:
		q, err := ccm.ParseLocationRequest(m.Text)
		if err != nil {
			r.t.Error(err)
		}
		if q.Kind == ccm.SiteInformation {
			reply = ccm.SiteInfoReply(ccm.Site{Code: site, Version: "5.00.9128.1000", DefaultMP: mpName})
		} else {
			reply = ccm.MPLocations{SiteCode: site, Records: []ccm.ManagementPoint{{Name: "MP", IntranetName: mpName, InternetName: base}}}.Encode()
		}
	case ccm.EndpointDDR, ccm.EndpointHardware, ccm.EndpointRelay:
		text, err := ccm.LastReport(m.Text)
		if err == nil && signed {
			var report *ccm.Report
			if report, err = ccm.ParseReport(text); err == nil {
				r.mu.Lock()
				r.reports = append(r.reports, report)
				r.mu.Unlock()
			}
		}
		if err != nil || !signed {
			r.t.Errorf("report to %s: signed %t, %v", m.TargetEndpoint, signed, err)
		}
	}
	if reply == "" {
		return // 200 with an empty body
	}
	ct, b, err := m.Reply("MP", reply)
	if err != nil {
		r.t.Error(err)
	}
	w.Header().Set("Content-Type", ct)
	w.Write(b)
}

func (r *rig) register(text string, who caller) string {
	q, err := ccm.ParseRegistration(text)
	if err != nil {
		r.t.Errorf("registration: %v", err)
		return ""
	}
	resp := ccm.RegistrationResponse{ResponseType: q.RequestType, TimeStamp: time.Now(), ApprovalStatus: r.approval, SMSID: q.SMSID}
	r.mu.Lock()
	defer r.mu.Unlock()
	if q.RequestType == ccm.Registration {
		if err := q.Verify(nil); err != nil {
			r.t.Errorf("registration: %v", err)
		}
		id, ok := r.clients[pki.Thumbprint(q.Signing.Certificate)]
		if !ok {
			id = ccm.NewClientID()
			r.clients[pki.Thumbprint(q.Signing.Certificate)] = id
			r.keys[id] = q.Signing.Certificate.PublicKey.(*rsa.PublicKey)
		}
		resp.SMSID = id
	}
	if r.pending > 0 {
		r.pending--
		resp.Status, resp.ApprovalStatus = ccm.Pending, ccm.ApprovalPending
	}
	return resp.Encode()
}

func (r *rig) assignments(m *ccm.Message) string {
	q, err := ccm.ParseAssignmentRequest(m.Text)
	if err != nil {
		r.t.Error(err)
	}
	reply := ccm.AssignmentReply{ClientID: m.SourceID, PolicySource: "SMS:LAB", ServerCookie: time.Now(), Delta: q.OnUpdate}
	r.mu.Lock()
	defer r.mu.Unlock()
	for id, p := range r.policies {
		hash := ccm.PolicyHash(p.Encode())
		ref := ccm.PolicyReference{ID: id, Version: p.Version, Type: "Machine", Category: "ClientSettings", Flags: ccm.PolicyPersistWhole | ccm.PolicyRequiresAuth, Hash: hash, Location: ccm.PolicyLocation(id, hash)}
		reply.Assignments = append(reply.Assignments, ccm.Assignment{ID: "{C}", Policy: ref})
	}
	return reply.Encode()
}

func (r *rig) policyBody(w http.ResponseWriter, req *http.Request) {
	id, _, err := ccm.ParsePolicyQuery(req.URL.RawQuery)
	if err != nil {
		r.t.Errorf("policy query %q: %v", req.URL.RawQuery, err)
	}
	proof, err := ccm.ParseClientProof(func(name string) string { return req.Header.Get(name) })
	if err != nil || proof == nil {
		r.t.Errorf("policy request without proof: %v", err)
		io.WriteString(w, ccm.SecretPolicyRefusal)
		return
	}
	r.mu.Lock()
	key, p := r.keys[proof.ClientID], r.policies[id]
	r.mu.Unlock()
	if err := proof.Verify(key, time.Now()); err != nil {
		r.t.Errorf("policy proof: %v", err)
	}
	r.note("policy %s", id)
	w.Write(p.Encode())
}

func (r *rig) channel(id opencmg.ClientID) chan ccm.Task {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.sessions[id] == nil {
		r.sessions[id] = make(chan ccm.Task, 8)
	}
	return r.sessions[id]
}

func (r *rig) push(id opencmg.ClientID, kind int) {
	r.channel(id) <- ccm.Task{Time: time.Now(), PushID: 7, TaskID: 8, TaskGUID: ccm.NewGUID(), Type: kind}
}

func (r *rig) notification(w http.ResponseWriter, req *http.Request, body []byte) {
	switch req.URL.Query().Get("RequestType") {
	case "LogIn":
		if length := req.Header.Get("Content-Length"); length != "0" {
			r.t.Errorf("LogIn: Content-Length is %q, want 0", length)
		}
		w.Write(ccm.EncodeLogIn([]byte("session")))
	case "Test":
		q, err := ccm.ParseContinue(body)
		if err != nil {
			r.t.Errorf("test: %v", err)
			return
		}
		task, err := ccm.ParseTask(q.Frame)
		if err != nil || q.Frame.Type != ccm.FrameRequest {
			r.t.Errorf("test: %v", err)
		}
		task.PushID, task.TaskGUID = 99, ccm.NewGUID()
		r.channel(q.SourceID) <- task
	case "Continue":
		q, err := ccm.ParseContinue(body)
		if err != nil {
			r.t.Errorf("continue: %v", err)
			return
		}
		r.mu.Lock()
		key := r.keys[q.SourceID]
		r.mu.Unlock()
		if string(q.Session) != "session" || key == nil || ccm.VerifyNotification(key, q.Frame.Payload, q.Signature) != nil {
			r.t.Errorf("continue: session %q or signature is wrong", q.Session)
		}
		if q.Frame.Type == ccm.FrameResponse {
			a, err := ccm.ParseTaskResponse(q.Frame)
			if err != nil {
				r.t.Error(err)
			}
			r.answers <- a
		}
		if q.Frame.Type == ccm.FrameSignIn {
			r.signedIn <- q.SourceID
		}
		hold := time.NewTimer(q.KeepAlive)
		defer hold.Stop()
		select {
		case task := <-r.channel(q.SourceID):
			answer := task.Frame().Append(nil)
			for more := true; more; {
				select {
				case task := <-r.channel(q.SourceID):
					answer = task.Frame().Append(answer)
				default:
					more = false
				}
			}
			w.Write(answer)
		case <-hold.C:
		case <-req.Context().Done():
		}
	}
}

// fastChannel is the TCP form of notification.
func (r *rig) fastChannel() (port int) {
	r.t.Helper()
	cert, err := r.ca.IssueKeyPair(pki.Template{CommonName: mpName, DNSNames: []string{mpName}, Server: true}, time.Now())
	if err != nil {
		r.t.Fatal(err)
	}
	ln, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{cert}})
	if err != nil {
		r.t.Fatal(err)
	}
	var wg sync.WaitGroup
	ctx, cancel := context.WithCancel(r.t.Context())
	r.t.Cleanup(func() { cancel(); ln.Close(); wg.Wait() })
	wg.Go(func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				defer conn.Close()
				defer context.AfterFunc(ctx, func() { conn.Close() })()
				r.fastConn(ctx, conn)
			})
		}
	})
	return ln.Addr().(*net.TCPAddr).Port
}

func (r *rig) fastConn(ctx context.Context, conn net.Conn) {
	f, err := ccm.ReadFrame(conn)
	if err != nil {
		return
	}
	in, err := ccm.ParseSignIn(f)
	if err != nil || f.Type != ccm.FrameSignIn {
		r.t.Errorf("sign-in: type %d, %v", f.Type, err)
		return
	}
	conn.Write(ccm.SignInConfirm(time.Now()).Append(nil))
	r.note("fast channel")
	r.signedIn <- in.ClientID
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		for {
			f, err := ccm.ReadFrame(conn)
			if err != nil {
				return
			}
			if f.Type == ccm.FrameResponse {
				if a, err := ccm.ParseTaskResponse(f); err == nil {
					r.answers <- a
				}
			}
		}
	}()
	for {
		select {
		case task := <-r.channel(in.ClientID):
			conn.Write(task.Frame().Append(nil))
		case <-gone:
			return
		case <-ctx.Done():
			conn.Close()
			<-gone
			return
		}
	}
}

// pkiFiles issues a PKI certificate for a client.
func (r *rig) pkiFiles(t *testing.T, lifetime time.Duration) (cert, key string) {
	t.Helper()
	dir := t.TempDir()
	cert, key = filepath.Join(dir, "c.pem"), filepath.Join(dir, "c.key")
	pair, err := r.ca.IssueKeyPair(pki.Template{CommonName: "pc01.example.com", Client: true, NotBefore: time.Now().Add(-2 * time.Hour), NotAfter: time.Now().Add(lifetime)}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	if err := pki.SaveKeyPair(cert, key, pair); err != nil {
		t.Fatal(err)
	}
	return cert, key
}
