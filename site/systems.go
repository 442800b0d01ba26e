package site

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/opencmg/opencmg"
	"github.com/opencmg/opencmg/adminservice"
	"github.com/opencmg/opencmg/internal/web"
	"github.com/opencmg/opencmg/pki"
	"github.com/opencmg/opencmg/sitedb"
)

// What site systems ask for: adminservice/sitesystem.go.

func (s *Server) systemRoutes(mux *http.ServeMux) {
	mux.Handle("POST "+adminservice.JoinPath, web.Handler(s.log, s.join))
	mux.Handle("GET "+adminservice.DocumentsPath, s.systems(s.getDocuments))
	mux.Handle("POST "+adminservice.ReportPath, s.systems(s.takeReport))
	mux.Handle("POST "+adminservice.AnswersPath, s.systems(s.takeAnswer))
	mux.Handle("POST "+adminservice.RenewPath, s.systems(s.renewSystem))
	mux.Handle("POST "+adminservice.GatewayJoinPath, s.systems(s.joinInstance))
}

// A system is a site system that proved its certificate.
type system struct {
	kind, id, name string
	gatewayID      string         // of a connection point
	roleID         opencmg.RoleID // of a management point
	addresses      []string
}

type systemKey struct{}

// systems lets only site systems in, by a certificate of the site CA.
func (s *Server) systems(serve func(http.ResponseWriter, *http.Request, *system) error) http.Handler {
	return web.Handler(s.log, func(w http.ResponseWriter, r *http.Request) error {
		sys, err := s.identify(r)
		if err != nil {
			return err
		}
		return serve(w, r.WithContext(context.WithValue(r.Context(), systemKey{}, sys)), sys)
	})
}

// identify finds the site system by the identity in its certificate, which must
// still be registered.
func (s *Server) identify(r *http.Request) (*system, error) {
	cert := peerCertificate(r)
	if cert == nil {
		return nil, opencmg.Errorf(opencmg.Unauthorized, "site systems sign in with the certificate that they got when they joined: join with a new token")
	}
	roots := x509.NewCertPool()
	roots.AddCert(s.SiteCA())
	if _, err := cert.Verify(x509.VerifyOptions{Roots: roots, CurrentTime: s.cfg.Now(), KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}); err != nil {
		return nil, opencmg.Errorf(opencmg.Unauthorized, "the certificate %q is not one of site %s: %w", cert.Subject, s.Code(), err)
	}
	has := func(uri string) bool {
		return slices.ContainsFunc(cert.URIs, func(u *url.URL) bool { return u.String() == uri })
	}
	points, err := readAll[pointRecord](r.Context(), s.db, kindPoint)
	if err != nil {
		return nil, err
	}
	for _, p := range points {
		if has(opencmg.ConnectionPointURI(s.Code(), p.Value.ConnectionID)) {
			return &system{kind: adminservice.SystemConnectionPoint, id: p.ID, name: p.Name, gatewayID: p.Value.GatewayID}, nil
		}
	}
	roles, err := readAll[roleRecord](r.Context(), s.db, kindRole)
	if err != nil {
		return nil, err
	}
	for _, o := range roles {
		if o.Value.Own && has(opencmg.RoleURI(s.Code(), o.Value.RoleID)) {
			return &system{kind: adminservice.SystemManagementPoint, id: o.ID, name: o.Name, roleID: o.Value.RoleID, addresses: o.Value.Addresses}, nil
		}
	}
	return nil, opencmg.Errorf(opencmg.Forbidden, "%q is no longer a system of site %s: it was removed; join again with a new join token", cert.Subject, s.Code())
}

// join makes a site system of a host with a join token.
func (s *Server) join(w http.ResponseWriter, r *http.Request) error {
	now := s.cfg.Now()
	addr := remoteHost(r)
	if !s.guard.allow(addr, now) {
		return opencmg.Errorf(opencmg.Unavailable, "too many failed attempts from %s: wait a few seconds", addr)
	}
	var in adminservice.JoinRequest
	if err := decodeBody(r, &in); err != nil {
		return err
	}
	in.Name = strings.TrimSpace(in.Name)
	if in.Name == "" || len(in.Name) > 64 || strings.ContainsAny(in.Name, `/\`) {
		return opencmg.Errorf(opencmg.Invalid, "name %q: must be 1 to 64 characters without slashes", in.Name)
	}
	if in.Kind != adminservice.SystemConnectionPoint && in.Kind != adminservice.SystemManagementPoint {
		return opencmg.Errorf(opencmg.Invalid, "kind %q: must be %s or %s", in.Kind, adminservice.SystemConnectionPoint, adminservice.SystemManagementPoint)
	}
	if _, err := pki.ParseRequest([]byte(in.Request)); err != nil {
		return err
	}
	reply := adminservice.JoinReply{Site: s.Code(), Name: in.Name, SiteCA: string(s.SiteCAPEM())}
	err := s.db.Change(r.Context(), "join", func(tx *sitedb.Tx) error {
		token, err := useJoinToken(tx, in.ID, in.Secret, in.Kind, addr, now)
		if err != nil {
			return err
		}
		var sys *system
		if in.Kind == adminservice.SystemConnectionPoint {
			sys, err = joinPoint(tx, &in, &reply, token.Value.GatewayID)
		} else {
			sys, err = joinManagementPoint(tx, &in, &reply)
		}
		if err != nil {
			return err
		}
		cert, err := s.issueSystem(in.Request, sys, now)
		if err != nil {
			return err
		}
		reply.Certificate = string(pki.EncodeCertificates(cert))
		return tx.AddStatusMessage(sitedb.StatusMessage{
			Component: componentProvider, Severity: sitedb.SeverityInfo, MessageID: msgJoined, SubjectKind: in.Kind, SubjectID: sys.id,
			Text: in.Kind + " " + in.Name + " joined from " + addr + " with join token " + token.ID,
		})
	})
	if err != nil {
		if errors.Is(err, opencmg.Unauthorized) {
			s.guard.failed(addr, now)
		}
		return err
	}
	return answer(w, http.StatusOK, reply)
}

func joinPoint(tx *sitedb.Tx, in *adminservice.JoinRequest, reply *adminservice.JoinReply, gateway string) (*system, error) {
	rec := &record[pointRecord]{ID: newGUID(), Name: in.Name, Value: pointRecord{GatewayID: gateway}}
	rec.Value.ConnectionID = rec.ID
	if err := rec.put(tx, kindPoint); err != nil {
		return nil, nameTaken(err, in)
	}
	reply.ConnectionID = rec.Value.ConnectionID
	return &system{kind: in.Kind, id: rec.ID, name: rec.Name}, nil
}

func joinManagementPoint(tx *sitedb.Tx, in *adminservice.JoinRequest, reply *adminservice.JoinReply) (*system, error) {
	if in.Internal == "" {
		return nil, opencmg.Errorf(opencmg.Invalid, "internal: name the URL by which connection points reach the management point")
	}
	id, err := newRoleID(tx)
	if err != nil {
		return nil, err
	}
	rec := &record[roleRecord]{ID: newGUID(), Name: in.Name, Value: roleRecord{
		Kind: opencmg.KindManagementPoint, RoleID: id, Internal: []string{in.Internal}, Own: true, Addresses: in.Addresses,
	}}
	if u, err := url.Parse(in.Internal); err == nil && !slices.Contains(rec.Value.Addresses, u.Hostname()) {
		rec.Value.Addresses = append(rec.Value.Addresses, u.Hostname())
	}
	if err := rec.Value.check(); err != nil {
		return nil, err
	}
	if err := rec.put(tx, kindRole); err != nil {
		return nil, nameTaken(err, in)
	}
	reply.RoleID = id
	return &system{kind: in.Kind, id: rec.ID, name: rec.Name, roleID: id, addresses: rec.Value.Addresses}, nil
}

func nameTaken(err error, in *adminservice.JoinRequest) error {
	if errors.Is(err, opencmg.Conflict) {
		return opencmg.Errorf(opencmg.Conflict, "the site has a %s %s already: choose another name, or delete the old one first", in.Kind, in.Name)
	}
	return err
}

// firstRoleID is where the numbers of roles begin, as in Configuration Manager:
// the first role of the first site (wire.md 1.1).
const firstRoleID = 72057594037927936

func newRoleID(tx *sitedb.Tx) (opencmg.RoleID, error) {
	n, err := tx.NextNumber("role-id")
	return opencmg.RoleID(strconv.FormatInt(firstRoleID+n, 10)), err
}

// issueSystem signs the request of a site system.
func (s *Server) issueSystem(request string, sys *system, now time.Time) (*x509.Certificate, error) {
	t := pki.Template{CommonName: sys.name}
	if sys.kind == adminservice.SystemConnectionPoint {
		t.URIs = []string{opencmg.ConnectionPointURI(s.Code(), sys.id)}
	} else {
		t.URIs = []string{opencmg.RoleURI(s.Code(), sys.roleID)}
		t.DNSNames, t.IPs = splitHosts(sys.addresses)
	}
	return s.keys.issueFor(request, t, now)
}

func (s *Server) renewSystem(w http.ResponseWriter, r *http.Request, sys *system) error {
	var in adminservice.RenewRequest
	if err := decodeBody(r, &in); err != nil {
		return err
	}
	cert, err := s.issueSystem(in.Request, sys, s.cfg.Now())
	if err != nil {
		return err
	}
	reply := adminservice.JoinReply{Site: s.Code(), Name: sys.name, RoleID: sys.roleID, SiteCA: string(s.SiteCAPEM()), Certificate: string(pki.EncodeCertificates(cert))}
	if sys.kind == adminservice.SystemConnectionPoint {
		reply.ConnectionID = sys.id
	}
	return answer(w, http.StatusOK, reply)
}

// getDocuments answers the system's documents, and waits for a change when the
// caller has them.
func (s *Server) getDocuments(w http.ResponseWriter, r *http.Request, sys *system) error {
	ctx, cancel, err := waiting(r)
	if err != nil {
		return err
	}
	defer cancel()
	ended := s.live.wait(sys.id)
	defer func() { ended(r.Context().Err() != nil) }()
	changes := s.db.Watch(ctx)
	for {
		docs, tag, err := s.documents(r.Context(), sys)
		if err != nil {
			return err
		}
		questions, latest, asked := s.questions.of(sys.id)
		// A question that ended is no reason to fetch all documents again.
		docs.Questions = questions
		tag = strings.TrimSuffix(tag, `"`) + "-" + strconv.FormatInt(latest, 36) + `"`
		if tag != r.Header.Get("If-None-Match") {
			w.Header().Set("ETag", tag)
			return answer(w, http.StatusOK, docs)
		}
		select {
		case <-ctx.Done():
			w.Header().Set("ETag", tag)
			w.WriteHeader(http.StatusNotModified)
			return nil
		case <-changes:
		case <-asked:
		}
		// The link to a gateway may have changed.
		if sys, err = s.identify(r); err != nil {
			return err
		}
	}
}

func (s *Server) takeReport(w http.ResponseWriter, r *http.Request, sys *system) error {
	var in adminservice.SiteSystemReport
	// A newer system may say more than this site knows.
	if err := json.NewDecoder(r.Body).Decode(&in); err != nil {
		return opencmg.Errorf(opencmg.Invalid, "the report can not be read: %v", err)
	}
	if in.Kind != sys.kind {
		return opencmg.Errorf(opencmg.Invalid, "the report is of a %s, and %s is a %s", in.Kind, sys.name, sys.kind)
	}
	bound(in.Probes)
	for i := range in.Instances {
		bound(in.Instances[i].Outside)
	}
	in.Online = boundOnline(sys, in.Online)
	deltas := s.live.put(sys.id, in, s.cfg.Now())
	// Also when what follows fails: what is shown live has changed.
	defer s.shown.tell()
	if err := s.count(r.Context(), sys, deltas); err != nil {
		return err
	}
	s.keepLogs(r.Context(), sys, in.Logs)
	w.WriteHeader(http.StatusNoContent)
	return nil
}
