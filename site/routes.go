package site

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/opencmg/opencmg"
	"github.com/opencmg/opencmg/adminservice"
	"github.com/opencmg/opencmg/internal/web"
	"github.com/opencmg/opencmg/site/console"
)

// A route is one operation of the administration service. openapi.yaml of
// package adminservice describes each of them, and a test holds the two
// together.
type route struct {
	method, path string // below adminservice.BasePath
	allowed      []adminservice.Role
	serve        func(http.ResponseWriter, *http.Request) error
}

func (s *Server) routeTable() []route {
	return []route{
		{"GET", "openapi.yaml", anybody, getDescription},
		{"GET", "Site", anybody, s.getSite},
		{"GET", "Site/configuration", operations, s.getConfiguration},
		{"GET", "Site/metrics", operations, s.getMetrics},

		{"GET", "Accounts", anybody, list(s, kindAccount, account)},
		{"POST", "Accounts", fullOnly, s.addAccount},
		{"DELETE", "Accounts/{id}", fullOnly, s.deleteAccount},

		{"GET", "Tenants", anybody, list(s, kindTenant, tenant)},
		{"PATCH", "Tenants/{id}", infrastructure, s.changeTenant},
		{"DELETE", "Tenants/{id}", infrastructure, s.deleteTenant},
		{"GET", "Applications", anybody, s.listApplications},
		{"POST", "Applications/import", infrastructure, s.importApplication},
		{"POST", "Applications/create", infrastructure, s.createApplications},
		{"POST", "Applications/{id}/renewSecret", infrastructure, s.renewSecret},
		{"POST", "Applications/{id}/updateSettings", infrastructure, s.updateAppSettings},
		{"POST", "Applications/{id}/verify", infrastructure, s.verifyApplication},
		{"POST", "Applications/{id}/registerProviders", infrastructure, s.registerProviders},
		{"GET", "Applications/{id}/subscriptions", infrastructure, s.listSubscriptions},
		{"GET", "Applications/{id}/subscriptions/{subscription}/regions", infrastructure, s.listRegions},
		{"GET", "Applications/{id}/subscriptions/{subscription}/resourceGroups", infrastructure, s.listResourceGroups},
		{"DELETE", "Applications/{id}", infrastructure, s.deleteApplication},
		{"GET", "AzureServices", anybody, s.listAzureServices},
		{"POST", "AzureServices", infrastructure, s.addAzureService},
		{"PATCH", "AzureServices/{id}", infrastructure, s.changeAzureService},
		{"DELETE", "AzureServices/{id}", infrastructure, s.deleteAzureService},

		{"POST", "AzureServices/{id}/discover", operations, s.discoverNow},
		{"GET", "Users", anybody, s.listUsers},
		{"GET", "Groups", anybody, s.listGroups},

		{"POST", "ServerCertificates/check", anybody, s.checkServerCertificate},
		{"GET", "TrustedCertificates", anybody, list(s, kindTrusted, trusted)},
		{"POST", "TrustedCertificates", infrastructure, s.addTrusted},
		{"DELETE", "TrustedCertificates/{id}", infrastructure, s.deleteTrusted},
		{"GET", "TokenIssuers", anybody, list(s, kindTokenIssuer, tokenIssuer)},
		{"POST", "TokenIssuers", infrastructure, s.addTokenIssuer},
		{"DELETE", "TokenIssuers/{id}", infrastructure, s.deleteTokenIssuer},
		{"GET", "BlockedCertificates", anybody, list(s, kindBlocked, blockedCertificate)},
		{"POST", "BlockedCertificates", operations, s.blockCertificate},
		{"DELETE", "BlockedCertificates/{id}", operations, s.unblockCertificate},
		{"GET", "BulkRegistrationTokens", anybody, s.listBulkTokens},
		{"POST", "BulkRegistrationTokens", operations, s.addBulkToken},
		{"POST", "BulkRegistrationTokens/{id}/block", operations, s.blockBulkToken},
		{"POST", "BulkRegistrationTokens/{id}/unblock", operations, s.unblockBulkToken},
		{"GET", "JoinTokens", anybody, list(s, kindJoinToken, joinToken)},
		{"POST", "JoinTokens", infrastructure, s.addJoinToken},
		{"DELETE", "JoinTokens/{id}", infrastructure, s.deleteJoinToken},

		{"GET", "Gateways", anybody, s.listGateways},
		{"POST", "Gateways", infrastructure, s.createGateway},
		{"POST", "Gateways/check", anybody, s.checkGateway},
		{"GET", "Gateways/{id}", anybody, s.getGateway},
		{"GET", "Gateways/{id}/traffic", anybody, s.gatewayTraffic},
		{"PATCH", "Gateways/{id}", infrastructure, s.changeGateway},
		{"PUT", "Gateways/{id}/certificate", infrastructure, s.renewGatewayCertificate},
		{"POST", "Gateways/{id}/obtainCertificate", infrastructure, s.gatewayAction(opObtain)},
		{"POST", "Gateways/{id}/removeInstance", infrastructure, s.removeInstance},
		{"POST", "Gateways/{id}/start", operations, s.gatewayAction(opStart)},
		{"POST", "Gateways/{id}/stop", operations, s.gatewayAction(opStop)},
		{"POST", "Gateways/{id}/synchronize", operations, s.gatewayAction(opSynchronize)},
		{"POST", "Gateways/{id}/upgrade", infrastructure, s.gatewayAction(opUpgrade)},
		{"POST", "Gateways/{id}/convert", infrastructure, s.gatewayAction(opConvert)},
		{"POST", "Gateways/{id}/retry", infrastructure, s.retryGateway},
		{"POST", "Gateways/{id}/analyze", operations, s.startAnalysis},
		{"GET", "Gateways/{id}/analyses", anybody, s.listAnalyses},
		{"GET", "Gateways/{id}/analysisSchedule", anybody, s.getAnalysisSchedule},
		{"PUT", "Gateways/{id}/analysisSchedule", operations, s.putAnalysisSchedule},
		{"GET", "Analyses/{id}", anybody, s.getAnalysis},
		{"DELETE", "Gateways/{id}", infrastructure, s.deleteGateway},

		{"GET", "ConnectionPoints", anybody, list(s, kindPoint, s.point)},
		{"GET", "ConnectionPoints/{id}", anybody, one(s, kindPoint, s.point)},
		{"PATCH", "ConnectionPoints/{id}", infrastructure, s.changePoint},
		{"DELETE", "ConnectionPoints/{id}", infrastructure, s.deletePoint},
		{"GET", "SiteRoles", anybody, list(s, kindRole, s.siteRole)},
		{"POST", "SiteRoles", infrastructure, s.addRole},
		{"GET", "SiteRoles/{id}", anybody, one(s, kindRole, s.siteRole)},
		{"PATCH", "SiteRoles/{id}", infrastructure, s.changeRole},
		{"DELETE", "SiteRoles/{id}", infrastructure, s.deleteRole},

		{"POST", "Cmdlets/{name}", anybody, s.runCmdlet},
		{"GET", "ClientSettings", anybody, list(s, kindClientSettings, clientSettings)},
		{"POST", "ClientSettings", infrastructure, s.addClientSettings},
		{"GET", "ClientSettings/{id}", anybody, s.getClientSettings},
		{"PATCH", "ClientSettings/{id}", infrastructure, s.changeClientSettings},
		{"GET", "BoundaryGroups", anybody, s.listBoundaryGroups},
		{"POST", "BoundaryGroups", infrastructure, s.addBoundaryGroup},
		{"GET", "BoundaryGroups/{id}", anybody, s.getBoundaryGroup},
		{"PATCH", "BoundaryGroups/{id}", infrastructure, s.changeBoundaryGroup},
		{"DELETE", "BoundaryGroups/{id}", infrastructure, s.deleteBoundaryGroup},
		{"GET", "Explanations/{id}", anybody, s.getExplanation},
		{"GET", "Checklist", anybody, s.getChecklist},
		{"POST", "Checklist", anybody, s.askChecklist},
		{"GET", "ProbeTargets", anybody, s.listProbeTargets},
		{"GET", "FirewallSheet", anybody, s.getFirewallSheet},
		{"GET", "Features", anybody, s.listFeatures},
		{"PATCH", "Features/{id}", infrastructure, s.changeFeature},

		{"GET", "Clients", anybody, s.listClients},
		{"GET", "Clients/{id}", anybody, s.getClient},
		{"GET", "Clients/{id}/inventory/{action}", anybody, s.getInventory},
		{"POST", "Clients/{id}/approve", operations, s.approveClient},
		{"POST", "Clients/{id}/block", operations, s.blockClient},
		{"POST", "Clients/{id}/readmit", operations, s.readmitClient},
		{"POST", "Clients/{id}/notify", operations, s.notifyClient},
		{"DELETE", "Clients/{id}", operations, s.deleteClient},
		{"POST", "Notifications", operations, s.notifyClients},
		{"GET", "ClientOperations", anybody, s.listClientOperations},
		{"GET", "ClientOperations/{id}", anybody, s.getClientOperation},
		{"GET", "ClientOperations/{id}/notifications", anybody, s.listOperationNotifications},
		{"POST", "ClientOperations/{id}/cancel", operations, s.cancelClientOperation},
		{"DELETE", "ClientOperations/{id}", operations, s.deleteClientOperation},
		{"GET", "SiteTokens", anybody, s.listSiteTokens},
		{"POST", "SiteTokens/{id}/block", operations, s.setSiteTokenBlocked(true)},
		{"POST", "SiteTokens/{id}/unblock", operations, s.setSiteTokenBlocked(false)},

		{"GET", "Operations", anybody, s.listOperations},
		{"GET", "Operations/{id}", anybody, s.getOperation},
		{"GET", "StatusMessages", anybody, s.listStatusMessages},
		{"GET", "Alerts", anybody, s.listAlerts},
		{"POST", "Alerts/{id}/acknowledge", operations, s.acknowledgeAlert},
		{"GET", "Expiry", anybody, s.listExpiry},
		{"GET", "Dashboard", anybody, s.getDashboard},
		{"GET", "Logs", operations, s.listLogs},
		{"GET", "Logs/{id}", operations, s.getLog},
	}
}

// routes builds the whole handler.
func (s *Server) routes() http.Handler {
	mux := http.NewServeMux()
	for _, r := range s.routeTable() {
		mux.Handle(r.method+" "+adminservice.BasePath+r.path, s.administrators(r))
	}
	mux.Handle("GET "+adminservice.WMIPath+"{class}", s.administrators(route{allowed: anybody, serve: s.wmi}))
	classes := s.administrators(route{allowed: anybody, serve: s.wmiClasses})
	mux.Handle("GET "+adminservice.WMIPath+"{$}", classes)
	mux.Handle("GET "+strings.TrimSuffix(adminservice.WMIPath, "/"), classes)
	s.systemRoutes(mux)
	mux.Handle(console.Path, s.console)
	mux.Handle("GET /{$}", http.RedirectHandler(console.Path, http.StatusSeeOther))
	return withHeaders(s.sameOrigin(keyAsSegment(http.MaxBytesHandler(s.orProblem(mux), maxBody))))
}

// sameOrigin refuses changes that a page of another origin makes a browser ask
// for: a client certificate signs in whoever makes the browser call.
func (s *Server) sameOrigin(next http.Handler) http.Handler {
	p := http.NewCrossOriginProtection()
	p.SetDenyHandler(web.Handler(s.log, func(http.ResponseWriter, *http.Request) error {
		return opencmg.Errorf(opencmg.Forbidden, "a page of another origin may not change the site")
	}))
	return p.Handler(next)
}

// orProblem answers with a problem document where the mux would with a text.
func (s *Server) orProblem(mux *http.ServeMux) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h, pattern := mux.Handler(r)
		if pattern != "" {
			mux.ServeHTTP(w, r)
			return
		}
		said := &statusOnly{header: http.Header{}}
		h.ServeHTTP(said, r)
		if allow := said.header.Get("Allow"); said.status == http.StatusMethodNotAllowed && allow != "" {
			w.Header().Set("Allow", allow)
			w.Header().Set("Content-Type", "application/problem+json")
			w.WriteHeader(said.status)
			json.NewEncoder(w).Encode(web.Problem{
				Title: http.StatusText(said.status), Status: said.status, CorrelationID: r.Header.Get(opencmg.HeaderCorrelationID),
				Detail: fmt.Sprintf("%s %s: this resource takes %s", r.Method, r.URL.Path, allow),
			})
			return
		}
		web.Handler(s.log, func(http.ResponseWriter, *http.Request) error {
			return opencmg.Errorf(opencmg.NotFound, "there is no %s: the resources are below %s, and %sopenapi.yaml lists them", r.URL.Path, adminservice.BasePath, adminservice.BasePath)
		}).ServeHTTP(w, r)
	})
}

// statusOnly takes what a handler answers and keeps the head.
type statusOnly struct {
	header http.Header
	status int
}

func (s *statusOnly) Header() http.Header         { return s.header }
func (s *statusOnly) Write(b []byte) (int, error) { return len(b), nil }
func (s *statusOnly) WriteHeader(code int)        { s.status = code }

// getDescription answers the contract as OpenAPI.
func getDescription(w http.ResponseWriter, _ *http.Request) error {
	w.Header().Set("Content-Type", "application/yaml") // RFC 9512
	w.Write(adminservice.OpenAPI())
	return nil
}

// maxBody bounds a request body, in bytes: a PFX with its chain is smaller.
const maxBody = 4 << 20

// administrators signs the caller in and asks whether the role may do this.
func (s *Server) administrators(rt route) http.Handler {
	serve := s.signedIn(rt)
	return web.FieldHandler(s.log, func(w http.ResponseWriter, r *http.Request) error {
		err := serve(w, r)
		if err != nil && r.Context().Err() != nil {
			// Whoever still listens learns that it is the site that goes away.
			return &opencmg.Error{Kind: opencmg.Unavailable, Msg: "the site is stopping: ask again when it is back", Err: err}
		}
		return err
	})
}

func (s *Server) signedIn(rt route) func(http.ResponseWriter, *http.Request) error {
	return func(w http.ResponseWriter, r *http.Request) error {
		addr := remoteHost(r)
		if !s.guard.allow(addr, s.cfg.Now()) {
			w.Header().Set("Retry-After", "2")
			return opencmg.Errorf(opencmg.Unavailable, "too many failed sign-ins from %s: wait a few seconds", addr)
		}
		c, err := s.signIn(r)
		if err != nil {
			if errors.Is(err, opencmg.Unauthorized) {
				s.guard.failed(addr, s.cfg.Now())
				w.Header().Set("WWW-Authenticate", "Bearer")
			}
			return err
		}
		if !slices.Contains(rt.allowed, c.role) {
			return opencmg.Errorf(opencmg.Forbidden, "%s is %s, and this needs %s: ask somebody who has that role", c.account, c.role, rt.allowed[len(rt.allowed)-1])
		}
		return rt.serve(w, r.WithContext(context.WithValue(r.Context(), callerKey{}, c)))
	}
}

func remoteHost(r *http.Request) string {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return r.RemoteAddr
	}
	return host
}

var keyPattern = regexp.MustCompile(`^(` + adminservice.BasePath + `[A-Za-z]+)\(('(?:[^']|'')*'|[^')]+)\)(/.*)?$`)

// keyAsSegment turns OData's Gateways('1') into Gateways/1.
func keyAsSegment(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if m := keyPattern.FindStringSubmatch(r.URL.Path); m != nil {
			key := strings.ReplaceAll(strings.TrimSuffix(strings.TrimPrefix(m[2], "'"), "'"), "''", "'")
			r = r.Clone(r.Context())
			r.URL.Path, r.URL.RawPath = m[1]+"/"+key+m[3], m[1]+"/"+url.PathEscape(key)+m[3]
		}
		next.ServeHTTP(w, r)
	})
}

func withHeaders(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Cache-Control", "no-store")
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Strict-Transport-Security", "max-age=31536000")
		// The ID of a gateway goes on; anything else would let callers choose
		// what the log says.
		if !opencmg.IsCorrelationID(r.Header.Get(opencmg.HeaderCorrelationID)) {
			r.Header.Set(opencmg.HeaderCorrelationID, web.NewCorrelationID())
		}
		h.Set(opencmg.HeaderCorrelationID, r.Header.Get(opencmg.HeaderCorrelationID))
		next.ServeHTTP(w, r)
	})
}

// decodeBody reads a JSON body. Unknown keys are errors, so that a misspelt one
// is not taken for a wish to leave everything as it is.
func decodeBody(r *http.Request, v any) error {
	d := json.NewDecoder(r.Body)
	d.DisallowUnknownFields()
	err := d.Decode(v)
	if err == nil {
		if _, more := d.Token(); more != io.EOF {
			err = errors.New("something follows the JSON document")
		}
	}
	if err == nil {
		return nil
	}
	if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return opencmg.Errorf(opencmg.TooLarge, "the request body is larger than %d bytes", maxBody)
	}
	if errors.Is(err, io.EOF) {
		return opencmg.Errorf(opencmg.Invalid, "the request body is empty: send a JSON document")
	}
	if e, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
		return opencmg.Errorf(opencmg.Invalid, "the request body is not what this resource takes: %q can not be a %s", e.Field, e.Value).About(e.Field)
	}
	return opencmg.Errorf(opencmg.Invalid, "the request body is not what this resource takes: %s", strings.TrimPrefix(err.Error(), "json: "))
}

// decodeChange reads what is to change, and the version that the caller expects
// to change it in; 0 is any.
func decodeChange(r *http.Request, change any) (version int64, err error) {
	if err := decodeBody(r, change); err != nil {
		return 0, err
	}
	return ifMatch(r)
}

// ifMatch reads the version that the caller expects to change; 0 is any.
func ifMatch(r *http.Request) (int64, error) {
	s := r.Header.Get("If-Match")
	if s == "" {
		return 0, nil
	}
	return adminservice.ParseETag(s)
}

func answer(w http.ResponseWriter, status int, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, err = w.Write(append(b, '\n'))
	if err != nil {
		return nil // the caller went away
	}
	return nil
}

// answerOne answers an object with its version as ETag.
func answerOne(w http.ResponseWriter, status int, version int64, v any) error {
	w.Header().Set("ETag", adminservice.ETag(version))
	return answer(w, status, v)
}

// answerList applies the OData query options to a list that fits in memory.
func answerList[T any](w http.ResponseWriter, r *http.Request, list []T) error {
	q, err := adminservice.ParseQuery(r.URL.Query())
	if err != nil {
		return err
	}
	objects, err := toMaps(list)
	if err != nil {
		return err
	}
	page, total := q.Apply(objects)
	return answerPage(w, r, q, page, total)
}

// answerPage answers a page of a list that has total objects.
func answerPage(w http.ResponseWriter, r *http.Request, q adminservice.Query, page []map[string]any, total int) error {
	return answerSome(w, r, q, page, q.Skip+len(page) < total, total)
}

// answerSome answers a page of a list that the database cut, with the address of
// the next page when there are more. total is only looked at when the caller
// asked for the number.
func answerSome(w http.ResponseWriter, r *http.Request, q adminservice.Query, page []map[string]any, more bool, total int) error {
	if page == nil {
		page = []map[string]any{}
	}
	p := adminservice.Page[map[string]any]{Value: page}
	if q.Count {
		p.Count = &total
	}
	if more && len(page) > 0 {
		v := r.URL.Query()
		v.Set("$skip", strconv.Itoa(q.Skip+len(page)))
		p.Next = r.URL.EscapedPath() + "?" + v.Encode()
	}
	return answer(w, http.StatusOK, p)
}

func toMaps[T any](list []T) ([]map[string]any, error) {
	b, err := json.Marshal(list)
	if err != nil {
		return nil, err
	}
	var objects []map[string]any
	err = json.Unmarshal(b, &objects)
	return objects, err
}

// accepted answers a long-running operation.
func accepted(w http.ResponseWriter, op adminservice.Operation) error {
	w.Header().Set("Location", adminservice.BasePath+"Operations/"+url.PathEscape(op.ID))
	w.Header().Set("Retry-After", "1")
	return answer(w, http.StatusAccepted, op)
}

// maxWait bounds a request that waits for a change.
const maxWait = 60 * time.Second

// waiting is the context of a request that waits for a change: it ends with the
// request, and when the seconds of its query parameter wait are over.
func waiting(r *http.Request) (context.Context, context.CancelFunc, error) {
	seconds, err := queryNumber(r, "wait", int(maxWait/time.Second))
	if err != nil {
		return nil, nil, err
	}
	ctx, cancel := context.WithTimeout(r.Context(), time.Duration(seconds)*time.Second)
	return ctx, cancel, nil
}

func queryNumber(r *http.Request, name string, most int) (int, error) {
	s := r.URL.Query().Get(name)
	if s == "" {
		return 0, nil
	}
	n, err := strconv.Atoi(s)
	if err != nil || n < 0 {
		return 0, opencmg.Errorf(opencmg.Invalid, "%s: must be a number that is not negative, is %q", name, s).About(name)
	}
	return min(n, most), nil
}
