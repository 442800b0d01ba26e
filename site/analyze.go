package site

import (
	"cmp"
	"context"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/opencmg/opencmg"
	"github.com/opencmg/opencmg/adminservice"
	"github.com/opencmg/opencmg/ccm"
	"github.com/opencmg/opencmg/pki"
)

// The connection analyzer (cmg-behaviour 11.2): from the state of the gateway, by
// every instance and every connection point, to the roles behind them. It keeps
// nothing and may be called by anybody who wants to know, on a schedule too.

const (
	rowSummary = "summary"
	// triesPerInstance bounds the fresh connections by which instances behind
	// one address are met.
	triesPerInstance = 12
	meetTime         = 30 * time.Second
	// triesUnmet bounds the connections that fail before any succeeded: one
	// may have been led to an instance that just died.
	triesUnmet = 3
	// configurationSettles is how long an instance may take for a new version.
	configurationSettles = 5 * time.Second
	// maxWhys bounds the failing rows that are explained, whyWait each.
	maxWhys = 8
	whyWait = 3 * time.Second
)

// An analyzer is one analysis. One goroutine owns it.
type analyzer struct {
	s       *Server
	g       *record[gatewayRecord]
	sign    *analysisSignIn
	emit    func(adminservice.AnalysisRow)
	visits  []*visit // one for each instance that was met, in their order
	numbers []int    // of the instances that there are
	bad     []badHost
	failed  []string // names of rows
	rows    int
	silent  map[string]bool // connection points that did not answer, by ID

	mu   sync.Mutex // guards whys
	whys int
}

// A badHost is a host of a self-hosted gateway whose certificate is not good.
type badHost struct {
	number int
	why    string
}

// analyze looks at everything between a client and the roles, and calls emit with
// each row as it is known, in the order of cmg-behaviour 11.2.
func (s *Server) analyze(ctx context.Context, g *record[gatewayRecord], sign *analysisSignIn, emit func(adminservice.AnalysisRow)) {
	a := &analyzer{s: s, g: g, sign: sign, emit: emit, silent: map[string]bool{}}
	for _, m := range g.Value.Machines {
		a.numbers = append(a.numbers, m.Number)
	}
	slices.Sort(a.numbers)
	defer func() {
		for _, v := range a.visits {
			v.close()
		}
	}()
	a.state()
	first := a.meet(ctx)
	a.certificates(first)
	a.configuration(ctx)
	signedIn := a.signIn(ctx, first)
	a.tunnels(ctx, first)
	a.roles(ctx, signedIn)
	if len(a.failed) == 0 {
		a.row(rowSummary, "Summary", opencmg.CheckPass, fmt.Sprintf("%d checks, none failed", a.rows), "")
	} else {
		a.row(rowSummary, "Summary", opencmg.CheckFail, fmt.Sprintf("%d of %d checks failed; the first: %s", len(a.failed), a.rows, a.failed[0]), "begin with the first row that failed: what follows may be its consequence")
	}
}

func (a *analyzer) add(r adminservice.AnalysisRow) {
	a.rows++
	if r.State == opencmg.CheckFail {
		a.failed = append(a.failed, r.Name)
	}
	a.emit(r)
}

func (a *analyzer) row(id, name string, state opencmg.CheckState, evidence, next string) {
	a.add(rowOf(id, name, state, evidence, next))
}

func rowOf(id, name string, state opencmg.CheckState, evidence, next string) adminservice.AnalysisRow {
	return adminservice.AnalysisRow{Check: opencmg.Check{ID: id, Name: name, State: state, Evidence: evidence, NextStep: next}}
}

// at adds which instance a row is about.
func (a *analyzer) at(r adminservice.AnalysisRow, n int) adminservice.AnalysisRow {
	if n >= 0 {
		r.Instance = &n
	}
	return r
}

func (a *analyzer) where(n int) string {
	if n < 0 {
		return "gateway " + a.g.Value.Prefix
	}
	return "instance " + a.g.Value.Prefix + "/" + strconv.Itoa(n)
}

func (a *analyzer) state() {
	v := &a.g.Value
	switch v.State {
	case adminservice.StateReady:
		a.row("state", "The service is ready", opencmg.CheckPass, "the state is "+v.State, "")
	case adminservice.StateError:
		a.row("state", "The service is ready", opencmg.CheckFail, "the state is "+v.State+": "+v.Error, "remove the cause and retry, or delete the gateway")
	case adminservice.StateStopped:
		a.row("state", "The service is ready", opencmg.CheckFail, "the state is "+v.State, "start the gateway")
	default:
		a.row("state", "The service is ready", opencmg.CheckFail, "the state is "+v.State, "wait for operation "+v.Operation+" to end, and analyze again")
	}
}

// meet connects until every instance was met, and returns the connection that
// tells most: the first that was signed in, else one that was answered at all.
func (a *analyzer) meet(ctx context.Context) *visit {
	ctx, cancel := context.WithTimeout(ctx, meetTime)
	defer cancel()
	v := &a.g.Value
	type target struct {
		number  int
		address string
	}
	var hosts []target // that are not behind one address
	for _, m := range v.Machines {
		if m.Address != "" {
			hosts = append(hosts, target{m.Number, net.JoinHostPort(m.Address, strconv.Itoa(cmp.Or(m.HTTPSPort, 443)))})
		}
	}
	tries := max(1, triesPerInstance*len(a.numbers))
	if len(hosts) > 0 {
		tries = len(hosts)
	}
	var best *visit
	for i := 0; i < tries && len(a.visits) < max(1, len(a.numbers)); i++ {
		to := target{number: -1}
		if len(hosts) > 0 {
			to = hosts[i]
		}
		next := a.s.newVisit(a.sign, v.ServiceName, to.address)
		next.call(ctx)
		if best == nil || next.better(best) {
			best = next
		}
		if len(hosts) > 0 {
			a.reach(next, to.number)
			if why, is := next.untrusted(); is {
				a.bad = append(a.bad, badHost{to.number, why})
			}
		}
		if next.metadata.ok() && !slices.ContainsFunc(a.visits, func(o *visit) bool { return o.instance == next.instance }) {
			a.visits = append(a.visits, next)
		} else {
			next.close()
		}
		answered := next.metadata.status != 0
		switch {
		case ctx.Err() != nil:
			i = tries
		case len(hosts) > 0:
		case len(a.visits) == 0 && (answered || i+1 == triesUnmet), answered && next.instance < 0:
			i = tries // no other connection would fare better, or tell more
		}
	}
	if len(hosts) == 0 {
		a.reach(best, -1)
	}
	slices.SortFunc(a.visits, func(x, y *visit) int { return x.instance - y.instance })
	return best
}

// reach says whether the service name, or the host of an instance, leads to a
// server.
func (a *analyzer) reach(v *visit, n int) {
	name := "The service name resolves and answers"
	if why, is := v.unreachable(); is {
		a.add(a.at(rowOf("resolve", name, opencmg.CheckFail, a.g.Value.ServiceName+": "+why,
			"make "+a.g.Value.ServiceName+" an alias (CNAME) of "+cmp.Or(a.g.Value.DeploymentName, "the gateway's hosts")+" in public DNS, and let this site server reach port 443 there (outbound.proxy or outbound.connectTo if there is another way)"), n))
		return
	}
	a.add(a.at(rowOf("resolve", name, opencmg.CheckPass, a.g.Value.ServiceName+" accepts connections", ""), n))
}

// certificates says whether clients can trust what the instances present.
func (a *analyzer) certificates(first *visit) {
	const name = "The server certificate is good"
	if why, is := first.untrusted(); is && len(a.bad) == 0 {
		a.bad = []badHost{{-1, why}}
	}
	for _, b := range a.bad {
		a.add(a.at(rowOf("certificate", name, opencmg.CheckFail, b.why, "give the gateway a server certificate for "+a.g.Value.ServiceName+" whose issuer clients and this site server trust (outbound.caFile), with its whole chain"), b.number))
	}
	if len(a.bad) > 0 && len(a.visits) == 0 {
		return
	}
	if first.cert == nil {
		a.row("certificate", name, opencmg.CheckTodo, "not examined: the gateway can not be reached", "")
		return
	}
	list := a.visits
	if len(list) == 0 {
		list = []*visit{first}
	}
	for _, v := range list {
		a.add(a.at(a.certificate(v, name), v.instance))
	}
}

func (a *analyzer) certificate(v *visit, name string) adminservice.AnalysisRow {
	thumbprint := pki.Thumbprint(v.cert)
	evidence := fmt.Sprintf("%s, issued by %s, until %s, SHA-256 %s", v.cert.Subject, v.cert.Issuer, v.cert.NotAfter.UTC().Format(time.DateOnly), thumbprint)
	want := a.g.Value.Thumbprint // hosts of a self-hosted gateway bring their own
	if a.g.Value.Model != adminservice.ModelSelfHosted && want != "" && want != thumbprint {
		return rowOf("certificate", name, opencmg.CheckFail, evidence+"; the site published SHA-256 "+want,
			"if the certificate was replaced a moment ago, analyze again; else look for a device between here and the gateway that inspects TLS, or synchronize the gateway")
	}
	if v.cert.NotAfter.Sub(a.s.cfg.Now()) < endsSoon {
		return rowOf("certificate", name, opencmg.CheckWarn, evidence, "renew it before it ends")
	}
	return rowOf("certificate", name, opencmg.CheckPass, evidence, "")
}

// configuration compares versions: by what an instance said itself, else by what
// connection points heard of it.
func (a *analyzer) configuration(ctx context.Context) {
	const name = "The configuration is that of the site"
	if len(a.numbers) == 0 {
		a.row("configuration", name, opencmg.CheckFail, "the gateway has no instance", "see the gateway's state; a self-hosted gateway needs a host that joined")
		return
	}
	settled := time.Now().Add(a.s.settles)
	for _, n := range a.numbers {
		var have, want uint64
		known := false
		for {
			have, known = a.version(n)
			if want = a.s.publisher.version(a.g.ID); have == want || !known || time.Now().After(settled) || !sleepFor(ctx, 200*time.Millisecond) {
				break
			}
			if v := a.visitOf(n); v != nil {
				again := v.metadata
				if v.call(ctx); !v.metadata.ok() {
					v.metadata = again // what it said counts
				}
			}
		}
		r := rowOf("configuration", name, opencmg.CheckPass, fmt.Sprintf("version %d is in force", have), "")
		switch {
		case !known:
			r = rowOf("configuration", name, opencmg.CheckFail, "nobody heard of this instance since the site started", "look at the connection points' rows below")
		case have != want:
			r = rowOf("configuration", name, opencmg.CheckFail, fmt.Sprintf("version %d is in force, and the site's is %d", have, want), "look at the problem that the connection points report, and at the log of the instance")
		}
		a.add(a.at(r, n))
	}
}

func (a *analyzer) version(n int) (version uint64, known bool) {
	if v := a.visitOf(n); v != nil {
		return v.version, true
	}
	if st, _ := a.s.live.instance(a.g.Value.Prefix, n, a.s.cfg.Now()); st != nil {
		return st.Configuration, true
	}
	return 0, false
}

func (a *analyzer) visitOf(n int) *visit {
	for _, v := range a.visits {
		if v.instance == n {
			return v
		}
	}
	return nil
}

// signIn says whether the credential is accepted, at each instance.
func (a *analyzer) signIn(ctx context.Context, first *visit) bool {
	name := "Sign-in by " + a.sign.way
	switch {
	case first.metadata.status == 0 && len(a.visits) == 0:
		r := rowOf("sign-in", name, opencmg.CheckTodo, "not examined: the gateway can not be reached", "")
		if _, down := first.unreachable(); !down && first.cert != nil {
			if _, untrusted := first.untrusted(); !untrusted {
				r = rowOf("sign-in", name, opencmg.CheckFail, "no answer: "+cause(first.metadata.err), "look at the log of the instance")
			}
		}
		a.add(r)
		return false
	case len(a.visits) == 0:
		a.add(a.failing(ctx, rowOf("sign-in", name, "", "", a.signInAdvice()), &first.metadata))
		return false
	case a.visits[0].instance < 0 && a.sign.way == adminservice.AnalyzeCertificate:
		// The gateway's own page is there for callers without a certificate
		// too, but it tells them no instance. A path that demands one says why.
		if role := a.anyRole(ctx); role != nil {
			v := a.visits[0]
			if r := v.do(ctx, http.MethodGet, a.sign.prefix()+string(role.Value.RoleID)+ccm.PathLocation+"?MPLIST", ""); r.status == http.StatusUnauthorized {
				a.add(a.failing(ctx, rowOf("sign-in", name, "", "", a.signInAdvice()), &r))
				return false
			}
		}
	}
	for _, v := range a.visits {
		r := rowOf("sign-in", name, opencmg.CheckPass, a.where(v.instance)+" accepts it", "")
		r.HTTPStatus, r.Reason, r.CorrelationID, r.Milliseconds = v.metadata.status, v.metadata.reason, v.metadata.id, v.metadata.ms
		a.add(a.at(r, v.instance))
	}
	if a.visits[0].instance < 0 {
		a.row("sign-in", name, opencmg.CheckWarn, "the gateway does not tell which instance answered, so not every one was looked at", "upgrade the gateway")
		return true
	}
	for _, n := range a.numbers {
		if a.visitOf(n) == nil {
			a.add(a.at(rowOf("sign-in", name, opencmg.CheckFail, fmt.Sprintf("no new connection led to %s, within %d for each instance", a.where(n), triesPerInstance),
				"look whether the load balancer finds the instance healthy, or whether the host is up and its port 443 open"), n))
		}
	}
	return true
}

func (a *analyzer) signInAdvice() string {
	switch a.sign.way {
	case adminservice.AnalyzeCertificate:
		return "the certificate must be for client authentication, chain to a trusted certificate of the site, and not be revoked; upload the missing CA, or choose another certificate"
	case adminservice.AnalyzeEntraUser:
		return "get a fresh token of a user in an onboarded tenant, for the site's server application"
	}
	return "compare the clocks of the site and of the gateway, and see that the instance has the configuration of the site"
}

func (a *analyzer) anyRole(ctx context.Context) *record[roleRecord] {
	roles, err := readAll[roleRecord](ctx, a.s.db, kindRole)
	if err != nil {
		return nil
	}
	for _, r := range roles {
		if r.Value.AllowGatewayTraffic && r.Value.Kind == opencmg.KindManagementPoint {
			return r
		}
	}
	return nil
}

func sleepFor(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}
