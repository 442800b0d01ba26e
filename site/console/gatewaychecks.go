package console

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"

	"github.com/opencmg/opencmg"
	"github.com/opencmg/opencmg/adminservice"
)

// What the wizard shows beside its fields while one types. Nothing is created.

// found are checks by field of a form; those of no field have the name "".
type found map[string][]opencmg.Check

// say adds a check of a text that is wrong, or "" for nothing.
func (f found) say(field, problem, next string) {
	if problem != "" {
		f[field] = append(f[field], opencmg.Check{Name: "To be corrected", State: opencmg.CheckFail, Evidence: problem, NextStep: next})
	}
}

// checkFields are the fields that checks of the site belong to, by ID.
var checkFields = map[string]string{
	"service-name": "serviceName", "dns": "serviceName", "deployment-name": "deploymentName",
	"subscription": "subscriptionId", "permission": "serverAppId", "group": "resourceGroup", "region": "region", "size": "size", "quota": "instances",
	"dns-label": "deploymentName", "dns-label-ipv6": "deploymentName", "storage-name": "deploymentName", "vault-name": "deploymentName", "validate": "",
}

// fieldOfCheck is the field that a check belongs to; other is for those of none.
func fieldOfCheck(id, other string) string {
	if strings.HasPrefix(id, "provider-") {
		return "subscriptionId"
	}
	if f, ok := checkFields[id]; ok {
		return f
	}
	return other
}

// gatewayBoxes are the places for checks of the gateway wizard that are not called
// after their field: what belongs together has one.
var gatewayBoxes = fieldNames{
	"password": "pfx", "certificateFrom": "pfx", "acmeDirectory": "acme", "acmeContact": "acme", "acmeChallenge": "acme", "acmeKeyId": "acme", "acmeKey": "acme",
	"trafficEnabled": "traffic", "trafficGb": "traffic", "trafficWarning": "traffic", "trafficCritical": "traffic", "trafficStop": "traffic",
	"storageEnabled": "storage", "storageGb": "storage", "storageWarning": "storage", "storageCritical": "storage",
	"minTls": "", "description": "", "trust": "", "caFiles": "", "group": "resourceGroup",
}

// refused puts a refusal in the place of the field that it is about, and the
// checks that led to it in theirs.
func (f found) refused(err error, boxes fieldNames) {
	p := problemOf(err)
	if len(p.Checks) > 0 {
		for _, c := range p.Checks {
			field := fieldOfCheck(c.ID, "pfx")
			f[field] = append(f[field], c)
		}
		return
	}
	f.say(boxes.of(fieldOf(err)), p.Text, "")
}

// A checkAnswer is what a form is told while one types.
type checkAnswer struct {
	found   found
	summary string // template of the summary, empty for none
	data    any    // of the summary
	choices *azureChoices
	more    bool // asks to be asked again when nothing was typed for a while
}

// answerChecks writes what was found as pieces of the page.
func (c *Console) answerChecks(w http.ResponseWriter, v *Visit, a checkAnswer) error {
	out := struct {
		Fields  map[string]string `json:"fields"`
		Summary string            `json:"summary"`
		Fill    map[string]string `json:"fill,omitempty"`
		Filled  string            `json:"filled,omitempty"`
		More    bool              `json:"more,omitempty"`
	}{Fields: map[string]string{}, More: a.more}
	if a.choices != nil {
		var err error
		if out.Fill, out.Filled, err = c.fill(v, a.choices); err != nil {
			return err
		}
		if out.Filled == v.Form("filled") {
			out.Fill = nil
		}
	}
	for field, checks := range a.found {
		var b bytes.Buffer
		if err := c.templates.all.ExecuteTemplate(&b, "checks", checks); err != nil {
			return err
		}
		out.Fields[field] = b.String()
	}
	if a.summary != "" {
		var blocks []block
		p := &Page{Visit: v, Console: c.cfg, c: c, blocks: &blocks}
		html, err := p.part(a.summary, a.data)
		if err != nil {
			return err
		}
		out.Summary = string(html)
	}
	w.Header().Set("Content-Type", "application/json")
	return json.NewEncoder(w).Encode(out)
}

// A gatewaySummary is the last step of the wizard.
type gatewaySummary struct {
	Rows  []summaryRow
	Items []adminservice.ChecklistItem // that are not good
	Good  int                          // items that are
}

type summaryRow struct{ Name, Value string }

// summaryStep is the name of the wizard's last step.
const summaryStep = "Summary"

// checkGateway answers the wizard. Certificate and syntax are looked at always,
// the cloud only when everything that it needs is there and nothing was typed
// for a second.
func (c *Console) checkGateway(w http.ResponseWriter, v *Visit) error {
	f := found{}
	how := atOnce
	if v.Form("thorough") != "" {
		how = inAWhile
	}
	choices := choose(v, gatewayChoices(v), how)
	in, err := plannedGateway(v)
	if err != nil {
		f.refused(err, gatewayBoxes)
		return c.answerChecks(w, v, checkAnswer{found: f, choices: choices, more: choices.Pending && how == atOnce})
	}
	report := checkCertificate(v, f, &in)
	ready := syntaxOf(f, &in, report)
	summary := v.Form("at") == summaryStep
	if how == atOnce {
		s := &gatewaySummary{Rows: summaryOf(&in, report, choices)}
		name := ""
		if summary {
			name = "gateway-summary"
		}
		return c.answerChecks(w, v, checkAnswer{found: f, summary: name, data: s, choices: choices, more: ready || summary || choices.Pending})
	}
	if ready {
		var page adminservice.Page[opencmg.Check]
		if err := v.Do(http.MethodPost, "Gateways/check", in, &page); err != nil {
			f.refused(inForm(err, newGatewayFields), gatewayBoxes)
		}
		for _, o := range page.Value {
			switch {
			case o.ID == "certificate": // each of its checks is there already
			case fieldOfCheck(o.ID, "") == "" && o.State == opencmg.CheckTodo: // nobody has to do anything before
			default:
				field := fieldOfCheck(o.ID, "")
				f[field] = append(f[field], o)
			}
		}
	}
	if !summary {
		return c.answerChecks(w, v, checkAnswer{found: f, choices: choices})
	}
	s := &gatewaySummary{Rows: summaryOf(&in, report, choices)}
	var page adminservice.Page[adminservice.ChecklistItem]
	if err := v.Do(http.MethodPost, "Checklist", adminservice.ChecklistRequest{Planned: &in}, &page); err != nil {
		f.refused(inForm(err, fieldNames{"planned": ""}), gatewayBoxes)
	}
	for _, i := range page.Value {
		if i.State == opencmg.CheckPass {
			s.Good++
		} else {
			s.Items = append(s.Items, i)
		}
	}
	return c.answerChecks(w, v, checkAnswer{found: f, summary: "gateway-summary", data: s, choices: choices})
}

// checkCertificate looks at the certificate, if there is one; nil if not.
func checkCertificate(v *Visit, f found, in *adminservice.NewGateway) *adminservice.CertificateReport {
	if len(in.Certificate.PFX) == 0 {
		return nil
	}
	var report adminservice.CertificateReport
	if err := v.Do(http.MethodPost, "ServerCertificates/check", in.Certificate, &report); err != nil {
		f.refused(inForm(err, certificateFields), gatewayBoxes)
		return nil
	}
	for _, o := range report.Checks {
		field := fieldOfCheck(o.ID, "pfx")
		if o.ID == "deployment-name" && in.DeploymentName != "" {
			continue // somebody chose another one
		}
		f[field] = append(f[field], o)
	}
	return &report
}

// syntaxOf looks at what is wrong without asking anybody, and reports whether
// there is enough to ask the cloud about.
func syntaxOf(f found, in *adminservice.NewGateway, report *adminservice.CertificateReport) (ready bool) {
	if in.DeploymentName != "" {
		if err := opencmg.ValidateDeploymentName(in.DeploymentName); err != nil {
			f.say("deploymentName", err.Error(), "")
		}
	}
	for name, t := range map[string]*adminservice.Threshold{"traffic": in.Traffic, "storage": in.Storage} {
		if t.WarningPct > t.CriticalPct || t.CriticalPct > 100 || t.WarningPct < 1 {
			f.say(name, "warning and critical must be 1 to 100 percent, and warning not above critical", "")
		}
		if t.GB < 1 {
			f.say(name, "the threshold must be at least 1 GB", "")
		}
	}
	if in.Model == adminservice.ModelSelfHosted {
		return in.Certificate.ServiceName != "" || report != nil
	}
	if in.Instances < 1 || in.Instances > opencmg.MaxInstances {
		f.say("instances", fmt.Sprintf("1 to %d", opencmg.MaxInstances), "")
	}
	if in.SubscriptionID != "" && !opencmg.IsGUID(in.SubscriptionID) {
		f.say("subscriptionId", "must be the subscription's ID, a GUID", "the portal shows it on the page Subscriptions")
	}
	hasCertificate := report != nil || in.Certificate.ACME != nil && in.Certificate.ServiceName != ""
	return hasCertificate && opencmg.IsGUID(in.SubscriptionID) && in.Region != "" && in.Instances > 0
}

// summaryOf says in words what is planned.
func summaryOf(in *adminservice.NewGateway, report *adminservice.CertificateReport, choices *azureChoices) []summaryRow {
	rows := []summaryRow{{"Deployment model", modelName(in.Model)}}
	add := func(name, value string) {
		if value != "" {
			rows = append(rows, summaryRow{name, value})
		}
	}
	service, deployment := in.Certificate.ServiceName, in.DeploymentName
	if report != nil {
		service = report.ServiceName
		add("Certificate", report.Subject+", until "+report.Ends.Format("2006-01-02"))
	}
	if a := in.Certificate.ACME; a != nil {
		add("Certificate", "by ACME from "+a.Directory)
	}
	if deployment == "" {
		deployment, _, _ = strings.Cut(strings.ToLower(service), ".")
	}
	add("Service name", service)
	add("Description", in.Description)
	if in.Model != adminservice.ModelSelfHosted {
		add("Deployment name", deployment)
		add("Environment", string(in.Environment))
		subscription := in.SubscriptionID
		if s := choices.Subscription; s != nil {
			subscription = s.Name + " (" + s.ID + ")"
		}
		add("Subscription", subscription)
		add("Region", in.Region)
		group := in.ResourceGroup
		if group == "" {
			group = deployment
		}
		add("Resource group", group+map[bool]string{true: " (exists)", false: " (new)"}[in.ExistingGroup])
		add("Instances", fmt.Sprintf("%d of size %s", in.Instances, in.Size))
	}
	trust := "all CAs that the site trusts"
	if n := len(in.GatewaySettings.Certificates); n > 0 {
		trust = fmt.Sprintf("%d chosen CAs", n)
	}
	add("Clients' certificates", trust)
	if t := in.Traffic; t.Enabled {
		stop := ""
		if t.StopService {
			stop = "; the service stops at critical"
		}
		add("Outbound traffic", fmt.Sprintf("alerts at %d %% and %d %% of %d GB in 14 days%s", t.WarningPct, t.CriticalPct, t.GB, stop))
	}
	if t := in.Storage; t.Enabled {
		add("Storage", fmt.Sprintf("alerts at %d %% and %d %% of %d GB", t.WarningPct, t.CriticalPct, t.GB))
	}
	return rows
}

// checkAnswers are the checks of wizards.
func (c *Console) checkAnswers() []rawAnswer {
	return []rawAnswer{
		{method: http.MethodPost, pattern: "gateways/new/check", serve: c.checkGateway},
		{method: http.MethodPost, pattern: "azure-services/new/check", serve: c.checkAzureService},
		{method: http.MethodPost, pattern: "applications/{id}/register-providers/check", serve: c.checkRegisterProviders},
	}
}
