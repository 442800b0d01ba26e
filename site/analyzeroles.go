package site

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync"

	"github.com/opencmg/opencmg"
	"github.com/opencmg/opencmg/adminservice"
	"github.com/opencmg/opencmg/ccm"
)

// roles asks every published role through every instance: a management point for
// a token and then for locations, a software update point for its page.
func (a *analyzer) roles(ctx context.Context, signedIn bool) {
	roles, err := readAll[roleRecord](ctx, a.s.db, kindRole)
	if err != nil {
		a.row("location", "Management points answer", opencmg.CheckTodo, "not examined: "+err.Error(), "analyze again")
		return
	}
	found := false
	for _, r := range roles {
		ask := a.managementPoint
		switch {
		case !r.Value.AllowGatewayTraffic:
			continue
		case r.Value.Kind == opencmg.KindManagementPoint:
			found = true
		case r.Value.Kind == opencmg.KindSoftwareUpdatePoint:
			ask = a.softwareUpdatePoint
		default:
			continue // a service of somebody's own: what to ask it is unknown
		}
		if !signedIn {
			row := rowOf("location", "Role "+r.Name+" answers", opencmg.CheckTodo, "not examined: signing in to the gateway failed", "")
			row.Role, row.RoleName = r.Value.RoleID, r.Name
			a.add(row)
			continue
		}
		rows := make([][]adminservice.AnalysisRow, len(a.visits))
		var wg sync.WaitGroup
		for i, v := range a.visits {
			wg.Go(func() { rows[i] = ask(ctx, v, r) })
		}
		wg.Wait()
		for i, v := range a.visits {
			for _, row := range rows[i] {
				row.Role, row.RoleName = r.Value.RoleID, r.Name
				a.add(a.at(row, v.instance))
			}
		}
	}
	if !found {
		a.row("location", "A management point is published", opencmg.CheckFail, "no management point of the site takes traffic of gateways, so clients find nothing behind this one",
			"allow gateway traffic for a management point (SiteRoles: allowGatewayTraffic)")
	}
}

// managementPoint asks for a token and for locations, which is what a client does
// first (wire.md 2.4, 7.1).
func (a *analyzer) managementPoint(ctx context.Context, v *visit, r *record[roleRecord]) []adminservice.AnalysisRow {
	base := a.sign.prefix() + string(r.Value.RoleID)
	bearer := a.sign.bearer
	name := "Location request to management point " + r.Name
	var rows []adminservice.AnalysisRow
	if bearer != "" {
		exchange := "Token exchange at management point " + r.Name
		reply := v.do(ctx, http.MethodPost, base+ccm.PathSTS, bearer)
		token, err := ccm.ParseTokenReply(reply.body)
		switch {
		case reply.err != nil || reply.status >= http.StatusBadGateway:
			// The role is not there, and asking it again would take as long.
			return append(rows, a.failing(ctx, rowOf("token-exchange", exchange, "", "", advice(&reply, r)), &reply),
				rowOf("location", name, opencmg.CheckTodo, "not examined: the token exchange did not come to the role", ""))
		case !reply.ok():
			rows = append(rows, a.failing(ctx, rowOf("token-exchange", exchange, "", "", advice(&reply, r)), &reply))
		case err != nil:
			reply.err = err
			rows = append(rows, a.failing(ctx, rowOf("token-exchange", exchange, "", "", "see that the URL mapping of the role leads to a management point"), &reply))
		default:
			rows = append(rows, passing("token-exchange", exchange, "CCM_STS issued a token", &reply))
			bearer = token.AccessToken
		}
	}
	reply := v.do(ctx, http.MethodGet, base+ccm.PathLocation+"?MPLIST", bearer)
	list, err := ccm.ParseMPList(string(reply.body))
	switch {
	case !reply.ok():
		return append(rows, a.failing(ctx, rowOf("location", name, "", "", advice(&reply, r)), &reply))
	case err != nil:
		reply.err = err
		return append(rows, a.failing(ctx, rowOf("location", name, "", "", "see that the URL mapping of the role leads to a management point"), &reply))
	}
	return append(rows, passing("location", name, fmt.Sprintf("it lists %d management points", len(list)), &reply))
}

// softwareUpdatePoint asks for the page of the client's web service. Any answer
// of the role itself proves the path; what it says is between it and clients.
func (a *analyzer) softwareUpdatePoint(ctx context.Context, v *visit, r *record[roleRecord]) []adminservice.AnalysisRow {
	name := "Path to software update point " + r.Name
	reply := v.do(ctx, http.MethodGet, a.sign.prefix()+string(r.Value.RoleID)+"/ClientWebService/client.asmx", a.sign.bearer)
	if reply.ok() {
		return []adminservice.AnalysisRow{passing("software-update", name, "it answered", &reply)}
	}
	row := a.failing(ctx, rowOf("software-update", name, "", "", advice(&reply, r)), &reply)
	if reply.err == nil && reply.status < 500 && reply.id != "" {
		if e, _, err := a.s.explain(ctx, reply.id, whyWait, a.silent); err == nil {
			for _, rec := range e.Records {
				if rec.Hop == opencmg.HopConnectionPoint && rec.Status == reply.status && !strings.HasPrefix(reply.reason, opencmg.ReasonConnectionPrefix) {
					row.State, row.NextStep = opencmg.CheckPass, ""
					row.Evidence = fmt.Sprintf("the role itself answered %d %s", reply.status, reply.reason)
				}
			}
		}
	}
	return []adminservice.AnalysisRow{row}
}

func passing(id, name, evidence string, r *reply) adminservice.AnalysisRow {
	row := rowOf(id, name, opencmg.CheckPass, evidence, "")
	row.HTTPStatus, row.Reason, row.CorrelationID, row.Milliseconds = r.status, r.reason, r.id, r.ms
	return row
}

// failing completes a row about a request that failed: with status and reason
// (cmg-behaviour G26), and with what the hops say about it.
func (a *analyzer) failing(ctx context.Context, row adminservice.AnalysisRow, r *reply) adminservice.AnalysisRow {
	row.State = opencmg.CheckFail
	row.HTTPStatus, row.Reason, row.CorrelationID, row.Milliseconds = r.status, r.reason, r.id, r.ms
	row.Evidence = fmt.Sprintf("%d %s", r.status, r.reason)
	if r.err != nil {
		row.Evidence = cause(r.err)
	}
	if r.id == "" {
		return row
	}
	a.mu.Lock()
	a.whys++
	asked := a.whys <= maxWhys
	a.mu.Unlock()
	if !asked {
		row.NextStep = join(row.NextStep, "opencmg explain "+r.id+" says why")
		return row
	}
	e, _, err := a.s.explain(ctx, r.id, whyWait, a.silent)
	if err != nil || len(e.Records) == 0 {
		return row
	}
	// The last hop that the request came to knows best.
	last := e.Records[len(e.Records)-1]
	row.Evidence = join(row.Evidence, last.Hop+" "+last.Where+": "+last.Verdict)
	for _, d := range last.Details {
		row.Evidence = join(row.Evidence, d)
	}
	return row
}

func join(a, b string) string {
	if a == "" || b == "" {
		return a + b
	}
	return a + "; " + b
}

// advice is the next step for a request that a role did not answer well.
func advice(r *reply, role *record[roleRecord]) string {
	switch {
	case r.err != nil:
		return "look at the log of the instance"
	case strings.HasPrefix(r.reason, opencmg.ReasonConnectionPrefix) && r.status == http.StatusForbidden:
		return "the role demands a client certificate: give the connection points one (clientCertificates)"
	case r.status == http.StatusUnauthorized || r.status == http.StatusForbidden:
		return "see which credential was refused, and why"
	case r.status == http.StatusNotFound || r.status == http.StatusMethodNotAllowed:
		return "see that the instance has the configuration of the site, and which endpoints the role publishes"
	case r.status == http.StatusServiceUnavailable:
		return "no connection point took the request: look at the rows of the connection points"
	case r.status == http.StatusBadGateway || r.status == http.StatusGatewayTimeout:
		return "see that role " + role.Name + " runs, and that the connection points reach it at " + strings.Join(role.Value.Internal, ", ")
	}
	return "look at the log of role " + role.Name
}
