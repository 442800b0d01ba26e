package site

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/opencmg/opencmg"
	"github.com/opencmg/opencmg/adminservice"
	"github.com/opencmg/opencmg/sitedb"
)

// Kinds of operations.
const (
	opCreate      = "create"
	opScale       = "scale"
	opResize      = "resize"
	opStop        = "stop"
	opStart       = "start"
	opSynchronize = "synchronize"
	opUpgrade     = "upgrade"
	opConvert     = "convert"
	opCertificate = "renew-certificate"
	opObtain      = "obtain-certificate"
	opDelete      = "delete"
	opCreateApps  = "create-applications"
	opRenewSecret = "renew-secret"
	opAppSettings = "update-application"
	opProviders   = "register-providers"
	opDiscover    = "discover"
)

// The states that a gateway has while an operation runs, and those it may
// start from.
var gatewayOps = map[string]struct {
	during string
	from   []string
}{
	opCreate:      {adminservice.StateProvisioning, nil},
	opScale:       {adminservice.StateUpgrading, []string{adminservice.StateReady}},
	opResize:      {adminservice.StateUpgrading, []string{adminservice.StateReady}},
	opUpgrade:     {adminservice.StateUpgrading, []string{adminservice.StateReady, adminservice.StateError}},
	opCertificate: {adminservice.StateUpgrading, []string{adminservice.StateReady, adminservice.StateStopped, adminservice.StateError}},
	opObtain:      {adminservice.StateUpgrading, []string{adminservice.StateReady}},
	opSynchronize: {adminservice.StateUpgrading, []string{adminservice.StateReady, adminservice.StateError}},
	opConvert:     {adminservice.StateConverting, []string{adminservice.StateReady}},
	opStop:        {adminservice.StateStopping, []string{adminservice.StateReady, adminservice.StateError}},
	opStart:       {adminservice.StateStarting, []string{adminservice.StateStopped, adminservice.StateError}},
	opDelete:      {adminservice.StateDeleting, []string{adminservice.StateReady, adminservice.StateStopped, adminservice.StateError}},
}

// A manager is the cloud service manager: it runs the operations of the site,
// one at a time for each gateway. An operation is a list of steps; the step is
// recorded before it is begun and may be done again from its start, so a site
// that was killed goes on where it was.
type manager struct {
	s    *Server
	wake chan struct{}

	mu      sync.Mutex // guards running
	running map[string]bool
	all     sync.WaitGroup
}

func newManager(s *Server) *manager {
	return &manager{s: s, wake: make(chan struct{}, 1), running: map[string]bool{}}
}

func (m *manager) poke() {
	select {
	case m.wake <- struct{}{}:
	default:
	}
}

// run works until ctx ends: at once on what an earlier run of the site left,
// then on what is asked for.
func (m *manager) run(ctx context.Context) error {
	defer m.all.Wait()
	changes := m.s.db.Watch(ctx)
	t := time.NewTicker(m.s.cfg.Watch)
	defer t.Stop()
	for {
		if err := m.startAll(ctx); err != nil && ctx.Err() == nil {
			m.s.log.Error("operations can not be read", "component", componentManager, "err", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-m.wake:
		case <-changes:
		case <-t.C:
			m.watch(ctx)
		}
	}
}

// startAll starts every operation that has not ended and does not run.
func (m *manager) startAll(ctx context.Context) error {
	ops, err := m.s.db.Operations(ctx, sitedb.OperationFilter{States: []sitedb.OperationState{sitedb.OperationCreated, sitedb.OperationInProgress}}, 1000)
	if err != nil {
		return err
	}
	for _, op := range ops {
		m.start(ctx, op.ID)
	}
	return nil
}

// start does an operation unless it runs or has ended. Whoever asks may have
// read it before it ended, so what counts is its state once nobody else can
// begin with it.
func (m *manager) start(ctx context.Context, id string) {
	m.mu.Lock()
	busy := m.running[id]
	m.running[id] = true
	m.mu.Unlock()
	if busy {
		return
	}
	m.all.Go(func() {
		defer func() {
			m.mu.Lock()
			delete(m.running, id)
			m.mu.Unlock()
		}()
		var op sitedb.Operation
		err := m.s.db.View(ctx, "operation", func(tx *sitedb.Tx) (err error) {
			op, err = tx.Operation(id)
			return err
		})
		switch {
		case err != nil && ctx.Err() == nil:
			m.s.log.Error("an operation can not be read, it is tried again", "component", componentManager, "operation", id, "err", err)
		case err == nil && (op.State == sitedb.OperationCreated || op.State == sitedb.OperationInProgress):
			m.perform(ctx, op)
		}
	})
}

// A run is one operation being done.
type run struct {
	s      *Server
	op     sitedb.Operation
	result json.RawMessage

	// An alert that the end of the operation raised.
	alert       sitedb.Alert
	alertChange sitedb.AlertChange
	ctx         context.Context // of the operation, for say
}

// say adds a line to the operation's log.
func (r *run) say(step, text string) {
	if err := r.s.db.AppendOperation(r.ctx, r.op.ID, step, text, r.op.Percent); err != nil && r.ctx.Err() == nil {
		r.s.log.Warn("progress is not recorded", "component", componentManager, "operation", r.op.ID, "err", err)
	}
	r.s.log.Info(text, "component", componentManager, "operation", r.op.ID, "kind", r.op.Kind, "step", step)
}

// step records that a step begins.
func (r *run) step(ctx context.Context, step string, percent int, text string) error {
	r.op.State, r.op.Step, r.op.Percent, r.op.Text = sitedb.OperationInProgress, step, percent, text
	err := r.s.db.Change(ctx, "record step", func(tx *sitedb.Tx) (err error) {
		if r.op, err = tx.PutOperation(r.op); err != nil {
			return err
		}
		return tx.AppendOperation(r.op.ID, step, text, percent)
	})
	if err != nil {
		return err
	}
	r.s.log.Info(text, "component", componentManager, "operation", r.op.ID, "kind", r.op.Kind, "step", step)
	if r.s.cfg.OnStep != nil {
		r.s.cfg.OnStep(r.op.Kind, step)
	}
	return nil
}

// failure is how an operation's error is kept.
type failure struct {
	Problem    string              `json:"problem,omitempty"`
	CloudError *opencmg.CloudError `json:"cloudError,omitempty"`
	Result     json.RawMessage     `json:"result,omitempty"` // of one that did not fail
}

// retries bounds how often a step is repeated by itself when the cloud says
// that it may succeed later.
const retries = 8

// perform does an operation to its end, whatever that is. It leaves it as it
// stands when the site stops.
func (m *manager) perform(ctx context.Context, op sitedb.Operation) {
	r := &run{s: m.s, op: op, ctx: ctx}
	var err error
	for attempt := range retries + 1 {
		if err = m.attempt(ctx, r); err == nil || ctx.Err() != nil {
			break
		}
		ce, ok := errors.AsType[*opencmg.CloudError](err)
		if !ok || !ce.Retryable || attempt == retries {
			break
		}
		pause := ce.RetryAfter
		if pause <= 0 {
			pause = m.s.cfg.Poll << min(attempt, 4)
		}
		r.say(r.op.Step, fmt.Sprintf("%s: trying again in %v", ce.Error(), pause.Round(time.Millisecond)))
		t := time.NewTimer(pause)
		select {
		case <-ctx.Done():
			t.Stop()
			return
		case <-t.C:
		}
	}
	if ctx.Err() != nil {
		return
	}
	if e := m.end(ctx, r, err); e != nil {
		m.s.log.Error("the end of an operation is not recorded, it will be done again", "component", componentManager, "operation", op.ID, "err", e)
	}
}

func (m *manager) attempt(ctx context.Context, r *run) error {
	switch r.op.Kind {
	case opCreateApps:
		return m.s.performCreateApps(ctx, r)
	case opRenewSecret:
		return m.s.performRenewSecret(ctx, r)
	case opAppSettings:
		return m.s.performAppSettings(ctx, r)
	case opDiscover:
		return m.s.performDiscover(ctx, r)
	case opProviders:
		return m.s.performProviders(ctx, r)
	}
	return m.s.performGateway(ctx, r)
}

// end records how an operation ended, in one transaction with what that means
// for the gateway.
func (m *manager) end(ctx context.Context, r *run, failed error) error {
	f := failure{Result: r.result}
	r.op.State, r.op.Percent = sitedb.OperationCompleted, 100
	msg := sitedb.StatusMessage{Component: componentManager, Severity: sitedb.SeverityInfo, MessageID: msgOperationEnded, Account: r.op.Account, SubjectKind: r.op.SubjectKind, SubjectID: r.op.SubjectID,
		Text: r.op.Kind + " completed"}
	if r.op.Kind == opCreate {
		msg.MessageID = msgDeployed
	}
	if failed != nil {
		r.op.State = sitedb.OperationFailed
		f.Problem = fmt.Sprintf("%s failed at step %s: %v", r.op.Kind, r.op.Step, failed)
		f.CloudError, _ = errors.AsType[*opencmg.CloudError](failed)
		msg.Severity, msg.MessageID, msg.Text = sitedb.SeverityError, msgOperationFails, f.Problem
		m.s.log.Error("operation failed", "component", componentManager, "operation", r.op.ID, "kind", r.op.Kind, "step", r.op.Step, "err", failed)
	}
	r.op.Error = mustJSON(f)
	err := m.s.db.Change(ctx, "end operation", func(tx *sitedb.Tx) error {
		if err := tx.AppendOperation(r.op.ID, "end", msg.Text, r.op.Percent); err != nil {
			return err
		}
		if _, err := tx.PutOperation(r.op); err != nil {
			return err
		}
		// What the administrator signed in with is not kept any longer.
		if err := tx.DeleteSecret(operationSecret(r.op.ID)); err != nil {
			return err
		}
		if r.op.SubjectKind == kindGateway {
			if err := endGateway(tx, r, f, m.s.cfg.Now()); err != nil {
				return err
			}
		}
		return tx.AddStatusMessage(msg)
	})
	if err == nil && r.alertChange != "" && r.alertChange != sitedb.AlertUnchanged {
		m.s.report(ctx, m.s.tell(ctx, r.alert))
	}
	if err == nil && failed == nil {
		m.s.log.Info("operation completed", "component", componentManager, "operation", r.op.ID, "kind", r.op.Kind)
	}
	return err
}

// endGateway sets a gateway's state at the end of an operation.
func endGateway(tx *sitedb.Tx, r *run, f failure, now time.Time) error {
	g, err := get[gatewayRecord](tx, kindGateway, r.op.SubjectID)
	if errors.Is(err, opencmg.NotFound) {
		return nil // deleted
	}
	if err != nil {
		return err
	}
	switch {
	case f.Problem != "" && r.op.Kind == opObtain && !delivering(r.op.Step):
		// The gateway works on with what it has.
		g.Value.State = adminservice.StateReady
		g.Value.Renewal.failed(f.Problem, now)
		if r.alert, r.alertChange, err = tx.RaiseAlert(renewalAlert(g, now)); err != nil {
			return err
		}
	case f.Problem != "":
		g.Value.State, g.Value.Error, g.Value.CloudError = adminservice.StateError, f.Problem, f.CloudError
		return g.put(tx, kindGateway) // the operation stays, for retry
	case r.op.Kind == opDelete:
		for _, name := range []string{gatewaySecret(g.ID), bindingSecret(g.ID)} {
			if err := tx.DeleteSecret(name); err != nil {
				return err
			}
		}
		for _, kind := range []string{alertTraffic, alertStorage, alertRenewal, alertAnalysis} {
			if _, err := tx.CloseAlert(kind, kindGateway, g.ID); err != nil {
				return err
			}
		}
		if err := errors.Join(forgetAnalyses(tx, g.ID, 0), forgetSchedule(tx, g.ID)); err != nil {
			return err
		}
		return tx.Delete(kindGateway, g.ID, 0)
	case r.op.Kind == opStop:
		g.Value.State = adminservice.StateStopped
	case r.op.Kind == opCertificate && !slices.ContainsFunc(g.Value.Machines, func(m machineRecord) bool { return m.Power == powerRunning }) && g.Value.Model == adminservice.ModelScaleSet:
		g.Value.State = adminservice.StateStopped
	default:
		g.Value.State = adminservice.StateReady
	}
	if f.Problem == "" && (r.op.Kind == opObtain || r.op.Kind == opCertificate) {
		if _, err := tx.CloseAlert(alertRenewal, kindGateway, g.ID); err != nil {
			return err
		}
	}
	g.Value.Error, g.Value.CloudError, g.Value.Operation = "", nil, ""
	return g.put(tx, kindGateway)
}

// begin records a new operation together with what prepare changes.
func (m *manager) begin(ctx context.Context, kind, subjectKind, subject string, prepare func(*sitedb.Tx, *sitedb.Operation) error) (adminservice.Operation, error) {
	op := sitedb.Operation{ID: newGUID(), Kind: kind, SubjectKind: subjectKind, SubjectID: subject, State: sitedb.OperationCreated, Account: callerOf(ctx).account}
	err := m.s.db.Change(ctx, "begin "+kind, func(tx *sitedb.Tx) (err error) {
		if err := prepare(tx, &op); err != nil {
			return err
		}
		op, err = tx.PutOperation(op)
		return err
	})
	m.poke()
	return operation(op, nil), err
}

// beginOn begins an operation on a gateway that is free for it.
func (m *manager) beginOn(ctx context.Context, id, kind string, prepare func(*sitedb.Tx, *record[gatewayRecord]) error) (adminservice.Operation, error) {
	return m.begin(ctx, kind, kindGateway, id, func(tx *sitedb.Tx, op *sitedb.Operation) error {
		g, err := get[gatewayRecord](tx, kindGateway, id)
		if err != nil {
			return err
		}
		if err := claim(g, kind, op.ID); err != nil {
			return err
		}
		if err := prepare(tx, g); err != nil {
			return err
		}
		return g.put(tx, kindGateway)
	})
}

// beginDue begins an operation on every ready gateway for which it is due. why,
// with the service name, goes into the status message.
func (m *manager) beginDue(ctx context.Context, kind, why string, due func(*gatewayRecord) bool) error {
	gateways, err := readAll[gatewayRecord](ctx, m.s.db, kindGateway)
	if err != nil {
		return err
	}
	var failed []error
	for _, rec := range gateways {
		if rec.Value.State != adminservice.StateReady || !due(&rec.Value) {
			continue
		}
		_, err := m.beginOn(ctx, rec.ID, kind, func(tx *sitedb.Tx, rec *record[gatewayRecord]) error {
			return m.s.audit(ctx, tx, msgAsked, kindGateway, rec.ID, why, rec.Value.ServiceName)
		})
		if err != nil && !errors.Is(err, opencmg.Conflict) { // somebody was faster
			failed = append(failed, err)
		}
	}
	return errors.Join(failed...)
}

// claim gives the gateway to an operation.
func claim(g *record[gatewayRecord], kind, op string) error {
	if err := claimable(g, kind); err != nil {
		return err
	}
	v := &g.Value
	v.State, v.Operation, v.Error, v.CloudError = gatewayOps[kind].during, op, "", nil
	return nil
}

// claimable says why the gateway can not be given to an operation of the kind.
func claimable(g *record[gatewayRecord], kind string) error {
	v := &g.Value
	if v.busy() {
		return opencmg.Errorf(opencmg.Conflict, "gateway %s is %s: wait until that has ended (operation %s)", g.Name, v.State, v.Operation)
	}
	if !slices.Contains(gatewayOps[kind].from, v.State) {
		return opencmg.Errorf(opencmg.Conflict, "gateway %s is %s, and %s needs it to be one of %q", g.Name, v.State, kind, gatewayOps[kind].from)
	}
	if v.Model == adminservice.ModelSelfHosted && !slices.Contains([]string{opSynchronize, opDelete}, kind) {
		return opencmg.Errorf(opencmg.Conflict, "gateway %s runs on hosts of your own: %s it there", g.Name, kind)
	}
	if v.Model == adminservice.ModelClassic {
		if kind != opConvert && kind != opDelete {
			return opencmg.Errorf(opencmg.Conflict, "gateway %s is a classic deployment, which this site can only convert: convert it first", g.Name)
		}
		if domain := classicDomains[v.Environment]; kind == opConvert && strings.HasSuffix(strings.ToLower(v.ServiceName), domain) {
			return opencmg.Errorf(opencmg.Conflict, "gateway %s can not be converted: its service name %s lies in the domain of classic deployments (%s). Create a gateway with a name of your own, and delete this one when the clients have moved", g.Name, v.ServiceName, domain)
		}
	}
	if kind == opConvert && v.Model != adminservice.ModelClassic {
		return opencmg.Errorf(opencmg.Conflict, "gateway %s is a %s already: there is nothing to convert", g.Name, v.Model)
	}
	return nil
}

// opRetry is what can be asked of a gateway whose last operation failed: the
// operation is begun again and keeps its own kind.
const opRetry = "retry"

// gatewayActions are what may be asked of the gateway as it is.
func gatewayActions(g *record[gatewayRecord]) (list []string) {
	for _, kind := range []string{opStart, opStop, opSynchronize, opConvert, opUpgrade, opScale, opCertificate, opObtain, opDelete} {
		switch {
		case claimable(g, kind) != nil, kind == opObtain && g.Value.ACME == nil:
		default:
			list = append(list, kind)
		}
	}
	if g.Value.State == adminservice.StateError && g.Value.Operation != "" {
		list = append(list, opRetry)
	}
	return list
}

// beginIf lets change decide in its transaction whether an operation is needed;
// nil when none is.
func (m *manager) beginIf(ctx context.Context, id string, change func(*sitedb.Tx) (kind string, err error)) (*adminservice.Operation, error) {
	var begun *sitedb.Operation
	err := m.s.db.Change(ctx, "change gateway", func(tx *sitedb.Tx) error {
		kind, err := change(tx)
		if err != nil || kind == "" {
			return err
		}
		g, err := get[gatewayRecord](tx, kindGateway, id)
		if err != nil {
			return err
		}
		op := sitedb.Operation{ID: newGUID(), Kind: kind, SubjectKind: kindGateway, SubjectID: id, State: sitedb.OperationCreated, Account: callerOf(ctx).account}
		if err := claim(g, kind, op.ID); err != nil {
			return err
		}
		if err := g.put(tx, kindGateway); err != nil {
			return err
		}
		if op, err = tx.PutOperation(op); err == nil {
			begun = &op
		}
		return err
	})
	if err != nil || begun == nil {
		return nil, err
	}
	m.poke()
	op := operation(*begun, nil)
	return &op, nil
}

// retry begins a gateway's failed operation again where it failed.
func (m *manager) retry(ctx context.Context, id string) (adminservice.Operation, error) {
	var op sitedb.Operation
	err := m.s.db.Change(ctx, "retry", func(tx *sitedb.Tx) error {
		g, err := get[gatewayRecord](tx, kindGateway, id)
		if err != nil {
			return err
		}
		if g.Value.State != adminservice.StateError || g.Value.Operation == "" {
			return opencmg.Errorf(opencmg.Conflict, "gateway %s is %s: there is nothing to try again", g.Name, g.Value.State)
		}
		failed, err := tx.Operation(g.Value.Operation)
		if err != nil {
			return err
		}
		op = sitedb.Operation{ID: newGUID(), Kind: failed.Kind, SubjectKind: kindGateway, SubjectID: id, State: sitedb.OperationCreated, Step: failed.Step, Account: callerOf(ctx).account}
		g.Value.State, g.Value.Operation, g.Value.Error, g.Value.CloudError = gatewayOps[op.Kind].during, op.ID, "", nil
		if err := g.put(tx, kindGateway); err != nil {
			return err
		}
		if err := m.s.audit(ctx, tx, msgAsked, kindGateway, id, "asked to try %s of gateway %s again", op.Kind, g.Value.ServiceName); err != nil {
			return err
		}
		op, err = tx.PutOperation(op)
		return err
	})
	m.poke()
	return operation(op, nil), err
}

func operation(op sitedb.Operation, log []sitedb.OperationStep) adminservice.Operation {
	var f failure
	if len(op.Error) > 0 {
		json.Unmarshal(op.Error, &f) // written by end
	}
	o := adminservice.Operation{
		ID: op.ID, Kind: op.Kind, Subject: op.SubjectID, State: string(op.State), Step: op.Step, Percent: op.Percent, Text: op.Text,
		Problem: f.Problem, CloudError: f.CloudError, Result: f.Result, Account: op.Account, Created: op.Created, Changed: op.Changed,
	}
	for _, l := range log {
		o.Log = append(o.Log, adminservice.OperationLog{At: l.At, Step: l.Step, Text: l.Text})
	}
	return o
}
