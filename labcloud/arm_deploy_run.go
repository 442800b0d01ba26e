package labcloud

import (
	"encoding/json"
	"fmt"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"time"
)

// The requests on deployments, and the deploying itself.

func sameJSON(a, b any) bool {
	return reflect.DeepEqual(clone([]any{a}), clone([]any{b}))
}

// deploymentCall dispatches below .../Microsoft.Resources/deployments.
func (s *Server) deploymentCall(c *armCall, parts []string) (*reply, *armError) {
	if err := s.checkVersion(c, "microsoft.resources/deployments"); err != nil {
		return nil, err
	}
	group := s.groupID(c.sub.ID, c.seg[1])
	if len(parts) == 1 {
		out := []any{}
		for _, k := range sortedKeys(s.st.Deployments) {
			if strings.HasPrefix(k, group+"/") {
				out = append(out, s.showDeployment(s.st.Deployments[k]))
			}
		}
		return ok(map[string]any{"value": out}), nil
	}
	name := c.seg[5]
	if !deploymentNames.MatchString(name) {
		return nil, armErrorf(http.StatusBadRequest, "InvalidDeploymentName", "The deployment name '%s' is not valid: 1 to 64 letters, digits, and -_.().", name)
	}
	key := group + "/providers/microsoft.resources/deployments/" + strings.ToLower(name)
	d := s.st.Deployments[key]
	action := ""
	if len(parts) > 2 {
		action = parts[2]
	}
	switch {
	case c.method == http.MethodPut && action == "":
		return s.putDeployment(c, key, name, d)
	case c.method == http.MethodPost && action == "validate":
		return s.validateDeployment(c, name)
	case c.method == http.MethodPost && action == "whatif":
		return s.whatIf(c)
	case d == nil:
		if c.method == http.MethodHead {
			return &reply{status: http.StatusNotFound}, nil
		}
		return nil, armErrorf(http.StatusNotFound, "DeploymentNotFound", "Deployment '%s' could not be found.", name)
	case c.method == http.MethodHead:
		return &reply{status: http.StatusNoContent}, nil
	case c.method == http.MethodGet && action == "":
		s.pollDeployment(d)
		return ok(s.showDeployment(d)), nil
	case c.method == http.MethodGet && action == "operations":
		out := []any{}
		for _, st := range d.Steps {
			out = append(out, showStep(d, st))
		}
		return ok(map[string]any{"value": out}), nil
	case c.method == http.MethodGet && action == "operationstatuses" && len(parts) == 4:
		return s.deploymentStatus(c, d, parts[3])
	case c.method == http.MethodDelete && action == "":
		if !d.Done {
			return nil, active(d)
		}
		delete(s.st.Deployments, key)
		s.dirty = true
		return &reply{status: http.StatusNoContent}, nil
	}
	return nil, methodNotAllowed(c)
}

func active(d *deployment) *armError {
	return armErrorf(http.StatusConflict, "DeploymentActive", "Unable to edit or replace deployment '%s': previous deployment from '%s' is still active (expiration time is '%s'). Please see https://aka.ms/arm-deploy for usage details.", d.Name, d.Started.Format("1/2/2006 3:04:05 PM"), d.Started.Add(7*24*time.Hour).Format("1/2/2006 3:04:05 PM"))
}

func (s *Server) readDeployment(c *armCall) (map[string]any, *armError) {
	m, err := s.read(c, "microsoft.resources/deployments", map[string]any{})
	if err != nil {
		return nil, err
	}
	if s.cfg.Observe != nil {
		if t, e := json.Marshal(get(m, "properties", "template")); e == nil {
			s.cfg.Observe("template", t)
		}
	}
	return m, nil
}

func (s *Server) putDeployment(c *armCall, key, name string, old *deployment) (*reply, *armError) {
	m, err := s.readDeployment(c)
	if err != nil {
		return nil, err
	}
	if old != nil && (!old.Done || !s.deploymentOver(old)) {
		return nil, active(old)
	}
	p, err := s.readPlan(c, m)
	if err != nil {
		return nil, err
	}
	o := s.begin(c, "")
	o.Verb = "Running"
	d := &deployment{ID: p.env.scope + "/providers/Microsoft.Resources/deployments/" + name, Name: name, Subscription: c.sub.ID, Group: p.env.group.Name, State: "Accepted", Started: s.cfg.Now().UTC(), Correlation: newGUID(), Body: m, Parameters: p.shown, Hash: derived(fmt.Sprint(get(m, "properties", "template"))), Operation: o.ID}
	s.st.Deployments[key] = d
	s.dirty = true
	o.URL = d.ID + "/operationStatuses/" + o.ID
	status := http.StatusCreated
	if old != nil {
		status = http.StatusOK
	}
	rep := s.accepted(c, o, status, s.showDeployment(d), asyncStyle{async: true})
	s.spawn(func() { s.deploy(d, p) })
	return rep, nil
}

// resumeDeployment goes on with one that a restart interrupted.
func (s *Server) resumeDeployment(d *deployment) {
	sub := s.subscription(d.Subscription)
	if sub == nil {
		return
	}
	c := &armCall{sub: sub, seg: []string{"resourceGroups", d.Group}}
	p, err := s.readPlan(c, d.Body)
	if err != nil {
		s.endDeployment(d, nil, err)
		return
	}
	d.Steps, d.Resources = nil, nil
	s.spawn(func() { s.deploy(d, p) })
}

func (s *Server) subscription(id string) *Subscription {
	for i := range s.cfg.Subscriptions {
		if strings.EqualFold(s.cfg.Subscriptions[i].ID, id) {
			return &s.cfg.Subscriptions[i]
		}
	}
	return nil
}

// deploy makes the resources of a plan, one after the other.
func (s *Server) deploy(d *deployment, p *plan) {
	s.change(func() { d.State = "Running"; s.dirty = true })
	failed := map[string]bool{} // by lower-case ID, with those that depend on it
	var details []*armError
	for _, item := range p.items {
		if s.ctx.Err() != nil {
			return // a restart goes on
		}
		id := strings.ToLower(item.def.id)
		if slices.ContainsFunc(sortedKeys(failed), func(f string) bool { return p.depends(item, f) }) {
			failed[id] = true
			continue
		}
		step := &deployStep{ID: strings.ToUpper(newGUID()[:16]), Target: item.def.id, Type: item.def.typ().name, Name: item.def.name, State: "Running", At: s.cfg.Now().UTC()}
		var work func() *armError
		var err *armError
		s.change(func() {
			s.dirty = true
			d.Steps = append(d.Steps, step)
			work, err = s.deployItem(p, item)
		})
		if err == nil && work != nil {
			err = work()
			if s.ctx.Err() != nil {
				return
			}
		}
		s.change(func() {
			s.dirty = true
			step.State, step.Err, step.At = "Succeeded", err, s.cfg.Now().UTC()
			if err != nil {
				step.State = "Failed"
				failed[id] = true
				e := *err
				e.Target = item.def.id
				details = append(details, &e)
				return
			}
			d.Resources = append(d.Resources, item.def.id)
		})
	}
	s.change(func() {
		var err *armError
		if len(details) > 0 {
			err = armErrorf(http.StatusConflict, "DeploymentFailed", "At least one resource deployment operation failed. Please list deployment operations for details. Please see https://aka.ms/arm-deployment-operations for usage details.")
			err.Details = details
		}
		s.endDeployment(d, p, err)
	})
}

func (s *Server) deployItem(p *plan, item *planItem) (func() *armError, *armError) {
	if p.env.group.Deleting {
		return nil, armErrorf(http.StatusConflict, "ResourceGroupBeingDeleted", "The resource group '%s' is in deprovisioning state and cannot perform this operation.", p.env.group.Name)
	}
	p.env.reference = s.referenceNow
	body, err := p.env.resolve(item.raw)
	if err != nil {
		return nil, invalidTemplate("%v", err)
	}
	item.def.body = object(body)
	item.def.missing = func(id string) bool {
		for _, other := range p.items {
			o := strings.ToLower(other.def.id)
			if other != item && (id == o || strings.HasPrefix(id, o+"/")) {
				return !p.depends(item, o)
			}
		}
		return false
	}
	if err := s.check(item.def); err != nil {
		return nil, err
	}
	_, _, work, refused := s.apply(item.def)
	return work, refused
}

func (s *Server) referenceNow(id string, full bool) (any, error) {
	r := s.st.Resources[strings.ToLower(id)]
	if r == nil {
		return nil, fmt.Errorf("the resource '%s' is not there", id)
	}
	v := s.show(r)
	if !full {
		return object(v, "properties"), nil
	}
	return v, nil
}

func (s *Server) endDeployment(d *deployment, p *plan, err *armError) {
	s.dirty = true
	if err == nil {
		d.Outputs = map[string]any{}
		p.env.reference = s.referenceNow
		for name, o := range p.outputs {
			v, e := p.env.resolve(get(o, "value"))
			if e != nil {
				err = armErrorf(http.StatusBadRequest, "DeploymentOutputEvaluationFailed", "Unable to evaluate template outputs: '%s'. %v", name, e)
				break
			}
			d.Outputs[name] = map[string]any{"type": text(o, "type"), "value": v}
		}
	}
	d.State, d.Err, d.Ended, d.Body = "Succeeded", err, s.cfg.Now().UTC(), nil
	if err != nil {
		d.State = "Failed"
	}
	d.Done = true
	if o := s.st.Operations[d.Operation]; o != nil {
		s.done(o, err)
	}
}

// deploymentOver reports whether clients may know of the end.
func (s *Server) deploymentOver(d *deployment) bool {
	o := s.st.Operations[d.Operation]
	return o == nil || o.Done && o.Polls >= s.cfg.MinPolls
}

// pollDeployment counts a look at the deployment as a poll, because a client
// that lost the operation's URL has nothing else.
func (s *Server) pollDeployment(d *deployment) {
	if o := s.st.Operations[d.Operation]; o != nil {
		s.poll(o)
	}
}

func (s *Server) deploymentStatus(c *armCall, d *deployment, id string) (*reply, *armError) {
	if id != d.Operation {
		return nil, armErrorf(http.StatusNotFound, "OperationNotFound", "The operation '%s' is not found.", id)
	}
	rep, err := s.operationStatus(c, id)
	if err != nil {
		return nil, err
	}
	m := rep.body.(map[string]any)
	for _, k := range []string{"name", "startTime", "endTime"} {
		delete(m, k)
	}
	return rep, nil
}

func (s *Server) showDeployment(d *deployment) map[string]any {
	state := d.State
	if d.Done && !s.deploymentOver(d) {
		state = "Running"
	}
	end := d.Ended
	if end.IsZero() {
		end = s.cfg.Now()
	}
	p := map[string]any{"templateHash": d.Hash, "parameters": d.Parameters, "mode": "Incremental", "provisioningState": state, "timestamp": end.UTC().Format(time.RFC3339Nano), "duration": fmt.Sprintf("PT%.7fS", max(end.Sub(d.Started).Seconds(), 0)), "correlationId": d.Correlation, "providers": []any{}, "dependencies": []any{}}
	switch state {
	case "Succeeded":
		out := []any{}
		for _, id := range d.Resources {
			out = append(out, map[string]any{"id": id})
		}
		p["outputResources"], p["outputs"] = out, d.Outputs
	case "Failed":
		p["error"] = d.Err
	}
	return map[string]any{"id": d.ID, "name": d.Name, "type": "Microsoft.Resources/deployments", "properties": p}
}

func showStep(d *deployment, st *deployStep) map[string]any {
	p := map[string]any{"provisioningOperation": "Create", "provisioningState": st.State, "timestamp": st.At.Format(time.RFC3339Nano), "duration": "PT1S", "trackingId": newGUID(), "statusCode": "OK",
		"targetResource": map[string]any{"id": st.Target, "resourceType": st.Type, "resourceName": st.Name}}
	if st.Err != nil {
		p["statusCode"] = http.StatusText(max(st.Err.Status, http.StatusBadRequest))
		p["statusMessage"] = map[string]any{"status": "Failed", "error": st.Err}
	}
	return map[string]any{"id": d.ID + "/operations/" + st.ID, "operationId": st.ID, "properties": p}
}

func (s *Server) validateDeployment(c *armCall, name string) (*reply, *armError) {
	m, err := s.readDeployment(c)
	if err != nil {
		return nil, err
	}
	p, err := s.readPlan(c, m)
	if err != nil {
		return nil, err
	}
	var made []any
	for _, i := range p.items {
		made = append(made, map[string]any{"id": i.def.id})
	}
	return ok(map[string]any{"id": p.env.scope + "/providers/Microsoft.Resources/deployments/" + name, "name": name, "type": "Microsoft.Resources/deployments",
		"properties": map[string]any{"mode": "Incremental", "provisioningState": "Succeeded", "parameters": p.shown, "validatedResources": made, "correlationId": newGUID()}}), nil
}

// whatIf answers 202; a template that does not validate shows in the result,
// which is a 200 with status Failed.
func (s *Server) whatIf(c *armCall) (*reply, *armError) {
	m, err := s.readDeployment(c)
	if err != nil {
		return nil, err
	}
	result := map[string]any{"status": "Succeeded"}
	if p, err := s.readPlan(c, m); err != nil {
		result["status"], result["error"] = "Failed", err
	} else {
		changes := []any{}
		for _, i := range p.items {
			e := map[string]any{"resourceId": i.def.id, "changeType": "Create", "after": i.def.body}
			if r, _, found := s.find(i.def.id); found {
				e["changeType"], e["before"] = "Modify", s.show(r)
				if sameJSON(get(r.Body, "properties"), get(i.def.body, "properties")) && sameJSON(get(r.Body, "sku"), get(i.def.body, "sku")) {
					e["changeType"] = "NoChange"
				}
			}
			changes = append(changes, e)
		}
		result["properties"] = map[string]any{"changes": changes}
	}
	o := s.begin(c, "")
	o.Result = result
	s.done(o, nil)
	h := http.Header{}
	h.Set("Location", c.base+"/subscriptions/"+c.sub.ID+"/operationresults/"+o.ID+"?api-version="+c.version)
	s.waitHeaders(h)
	return &reply{status: http.StatusAccepted, header: h}, nil
}
