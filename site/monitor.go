package site

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/opencmg/opencmg"
	"github.com/opencmg/opencmg/adminservice"
	"github.com/opencmg/opencmg/sitedb"
)

const (
	trafficWindow = 14 * 24 * time.Hour
	gigabyte      = 1e9
)

// Kinds of alerts.
const (
	alertTraffic  = "traffic"
	alertStorage  = "storage"
	alertExpiry   = "expiry"
	alertRenewal  = "certificate-renewal"
	alertAnalysis = "analysis"
)

func (s *Server) report(ctx context.Context, err error) {
	if err != nil && ctx.Err() == nil {
		s.log.Error("monitoring is incomplete", "component", componentManager, "err", err)
	}
}

// gatewayTraffic answers the traffic of a gateway by endpoint, the most egress
// first; the query parameter hours says of how long, 14 days by default and 90
// at most.
func (s *Server) gatewayTraffic(w http.ResponseWriter, r *http.Request) error {
	rec, err := s.findGateway(r.Context(), r.PathValue("id"))
	if err != nil {
		return err
	}
	hours, err := queryNumber(r, "hours", 90*24)
	if err != nil {
		return err
	}
	if hours == 0 {
		hours = int(trafficWindow / time.Hour)
	}
	now := s.cfg.Now()
	points, err := s.db.TrafficSeries(r.Context(), sitedb.CountQuery{
		Gateway: rec.ID, From: now.Add(-time.Duration(hours) * time.Hour), To: now, By: sitedb.ByEndpoint,
	})
	if err != nil {
		return err
	}
	list := []adminservice.GatewayTraffic{}
	for _, p := range points {
		list = append(list, adminservice.GatewayTraffic{Endpoint: p.Group, Requests: p.Requests, Failed: p.Failed, RequestBytes: p.RequestBytes, ResponseBytes: p.ResponseBytes})
	}
	slices.SortStableFunc(list, func(a, b adminservice.GatewayTraffic) int { return cmp.Compare(b.ResponseBytes, a.ResponseBytes) })
	return answerList(w, r, list)
}

// usage fills in what a gateway sent and stores.
func (s *Server) usage(ctx context.Context, g *adminservice.Gateway) error {
	now := s.cfg.Now()
	sum, err := s.db.SumTraffic(ctx, g.ID, now.Add(-trafficWindow), now)
	if err != nil {
		return err
	}
	g.EgressGB14Days = float64(sum.ResponseBytes) / gigabyte
	for name, to := range map[string]*float64{sampleStorage: &g.StorageGB, sampleStorageEgress: &g.StorageEgressGB30} {
		samples, err := s.db.Samples(ctx, name, g.ID, now.Add(-24*time.Hour), now.Add(time.Second))
		if err != nil {
			return err
		}
		if len(samples) > 0 {
			*to = samples[len(samples)-1].Value
		}
	}
	return nil
}

// watchThresholds compares every gateway's use with its thresholds, raises and
// closes alerts, and stops a gateway whose administrator wished it so.
func (s *Server) watchThresholds(ctx context.Context) error {
	gateways, err := readAll[gatewayRecord](ctx, s.db, kindGateway)
	if err != nil {
		return err
	}
	var failed []error
	for _, rec := range gateways {
		if rec.Value.Model == adminservice.ModelScaleSet && rec.Value.State == adminservice.StateReady {
			s.report(ctx, s.meterStorage(ctx, rec))
		}
		g := s.gateway(rec)
		if err := s.usage(ctx, &g); err != nil {
			return err
		}
		for _, t := range []struct {
			kind, what string
			limit      *adminservice.Threshold
			gb         float64
			next       string
		}{
			{alertTraffic, "sent in 14 days", rec.Value.Settings.Traffic, g.EgressGB14Days, "see which endpoint sends it (traffic), or raise the threshold"},
			{alertStorage, "stores", rec.Value.Settings.Storage, g.StorageGB, "remove content that nobody needs from the gateway, or raise the threshold"},
		} {
			critical, err := s.compare(ctx, rec, t.kind, t.what, t.next, t.limit, t.gb)
			if err != nil {
				return err
			}
			if critical && t.limit.StopService && rec.Value.State == adminservice.StateReady && rec.Value.Model == adminservice.ModelScaleSet {
				s.log.Warn("the gateway is stopped because its traffic is above the critical threshold", "component", componentManager, "gateway", rec.Name)
				if _, err := s.manager.beginOn(ctx, rec.ID, opStop, func(tx *sitedb.Tx, rec *record[gatewayRecord]) error {
					return s.audit(ctx, tx, msgAsked, kindGateway, rec.ID, "stopped gateway %s: %.1f GB %s are above the critical threshold", rec.Value.ServiceName, t.gb, t.what)
				}); err != nil && !errors.Is(err, opencmg.Conflict) { // somebody works on it: next time
					failed = append(failed, err)
				}
			}
		}
	}
	return errors.Join(failed...)
}

// meterStorage asks the cloud what is stored and what storage sent.
func (s *Server) meterStorage(ctx context.Context, rec *record[gatewayRecord]) error {
	cloud, err := s.cloudOf(ctx, &rec.Value)
	if err != nil {
		return err
	}
	d := rec.Value.deployment()
	used, err := cloud.StorageUsed(ctx, d)
	if err != nil {
		return fmt.Errorf("storage of gateway %s: %w", rec.Name, err)
	}
	now := s.cfg.Now()
	_, egress, err := cloud.Egress(ctx, d, now.AddDate(0, 0, -30), now)
	if err != nil {
		return fmt.Errorf("egress of gateway %s: %w", rec.Name, err)
	}
	return s.db.AddSamples(ctx, []sitedb.Sample{
		{Name: sampleStorage, Subject: rec.ID, At: now, Value: float64(used) / gigabyte},
		{Name: sampleStorageEgress, Subject: rec.ID, At: now, Value: float64(egress) / gigabyte},
	})
}

// compare raises or closes the alert of one threshold.
func (s *Server) compare(ctx context.Context, rec *record[gatewayRecord], kind, what, next string, t *adminservice.Threshold, gb float64) (critical bool, err error) {
	pct := 100 * gb / float64(t.GB)
	severity, above := sitedb.Severity(""), 0
	switch {
	case !t.Enabled:
	case pct >= float64(t.CriticalPct):
		severity, above, critical = sitedb.SeverityCritical, t.CriticalPct, true
	case pct >= float64(t.WarningPct):
		severity, above = sitedb.SeverityWarning, t.WarningPct
	}
	if severity == "" {
		_, err := s.db.CloseAlert(ctx, kind, kindGateway, rec.ID)
		return false, err
	}
	return critical, s.raise(ctx, sitedb.Alert{
		Kind: kind, SubjectKind: kindGateway, SubjectID: rec.ID, Severity: severity, NextStep: next,
		// How much it is now changes all the time, and is no news.
		Text: fmt.Sprintf("gateway %s: what it %s is above %d %% of the threshold of %d GB", rec.Value.ServiceName, what, above, t.GB),
	})
}

// raise opens or changes an alert and tells everybody who wants to know.
func (s *Server) raise(ctx context.Context, a sitedb.Alert) error {
	stored, change, err := s.db.RaiseAlert(ctx, a)
	if err != nil || change == sitedb.AlertUnchanged {
		return err
	}
	return s.tell(ctx, stored)
}

// tell passes a new or changed alert on.
func (s *Server) tell(ctx context.Context, a sitedb.Alert) error {
	s.log.Warn("alert", "component", componentManager, "alert", a.ID, "kind", a.Kind, "severity", string(a.Severity), "text", a.Text, "next", a.NextStep)
	defer s.shown.tell()
	err := s.db.AddStatusMessage(ctx, sitedb.StatusMessage{
		Component: componentManager, Severity: sitedb.SeverityWarning, MessageID: msgAlert, SubjectKind: a.SubjectKind, SubjectID: a.SubjectID, Text: a.Text,
	})
	for _, n := range s.cfg.Notify {
		if e := n(ctx, alert(a)); e != nil {
			s.log.Error("an alert could not be sent on", "component", componentManager, "alert", a.ID, "err", e)
		}
	}
	return err
}

// When something that ends is worth an alert, in days (design 12.2).
var expiryDays = []int{60, 30, 14, 7, 1}

// nearest is the smallest number of days in expiryDays that the time left is
// within; 0 when it is further away.
func nearest(left time.Duration) (days int) {
	for _, d := range expiryDays {
		if left <= time.Duration(d)*24*time.Hour {
			days = d
		}
	}
	return days
}

// expiries lists every credential in the path.
func (s *Server) expiries(ctx context.Context) ([]adminservice.Expiry, error) {
	now := s.cfg.Now()
	var list []adminservice.Expiry
	add := func(kind, id, name, subject, renewal string, ends time.Time) {
		if ends.IsZero() {
			return
		}
		e := adminservice.Expiry{ID: kind + "/" + id, Kind: kind, Name: name, Subject: subject, Ends: ends.UTC(), Days: int(ends.Sub(now).Hours() / 24), Renewal: renewal}
		switch d := nearest(ends.Sub(now)); {
		case d == 0:
		case d <= 7:
			e.Severity = string(sitedb.SeverityCritical)
		default:
			e.Severity = string(sitedb.SeverityWarning)
		}
		list = append(list, e)
	}
	days := strconv.Itoa(int(identityRenew.Hours()/24)) + " days before"
	byHand, bySite, atStart := "by an administrator", "by the site, "+days, "by the site when it starts, from "+days
	add("site-ca", "site", "site CA", string(s.Code()), byHand, s.SiteCA().NotAfter)
	add("configuration-signing", "site", "configuration-signing key", string(s.Code()), atStart, s.keys.signing.Leaf.NotAfter)
	add("token-signing", "site", "token-signing key", string(s.Code()), atStart, s.keys.token.Leaf.NotAfter)
	if cert, err := s.ownCertificate(); err == nil {
		add("site-server-certificate", "site", "site server", string(s.Code()), bySite, cert.Leaf.NotAfter)
	}
	gateways, err := readAll[gatewayRecord](ctx, s.db, kindGateway)
	if err != nil {
		return nil, err
	}
	for _, g := range gateways {
		renewal := byHand
		if g.Value.ACME != nil {
			renewal = "by ACME"
		}
		add("server-certificate", g.ID, g.Value.CertificateSubject, g.Value.ServiceName, renewal, g.Value.CertificateEnds)
	}
	apps, err := readAll[applicationRecord](ctx, s.db, kindApplication)
	if err != nil {
		return nil, err
	}
	for _, a := range apps {
		add("app-secret", a.ID, a.Name, a.Value.TenantID, byHand, a.Value.SecretExpires)
	}
	certs, err := readAll[trustedRecord](ctx, s.db, kindTrusted)
	if err != nil {
		return nil, err
	}
	for _, t := range certs {
		add("trusted-certificate", t.ID, t.Name, t.Value.Store, byHand, t.Value.Ends)
	}
	issuers, err := readAll[tokenIssuerRecord](ctx, s.db, kindTokenIssuer)
	if err != nil {
		return nil, err
	}
	for _, i := range issuers {
		add("token-issuer", i.ID, i.Value.Issuer, "imported", byHand, i.Value.Ends)
	}
	points, err := readAll[pointRecord](ctx, s.db, kindPoint)
	if err != nil {
		return nil, err
	}
	for _, p := range points {
		if r, _ := s.live.system(p.ID); r != nil {
			add("connection-point-certificate", p.ID, p.Name, "connection point", "by itself", r.CertificateEnds)
		}
	}
	roles, err := readAll[roleRecord](ctx, s.db, kindRole)
	if err != nil {
		return nil, err
	}
	for _, o := range roles {
		if r, _ := s.live.system(o.ID); r != nil {
			add("management-point-certificate", o.ID, o.Name, "management point", "by itself", r.CertificateEnds)
		}
	}
	for _, st := range s.live.all() {
		id := fmt.Sprintf("%s/%d", st.Gateway, st.Instance)
		renewal := bySite
		if slices.ContainsFunc(gateways, func(g *record[gatewayRecord]) bool {
			return g.Value.Prefix == st.Gateway && g.Value.Model == adminservice.ModelSelfHosted
		}) {
			add("server-certificate", id, "of instance "+id, st.Gateway, "by the administrator of its host", st.CertificateEnds)
			renewal = "by joining its host anew"
		}
		add("tunnel-identity", id, "instance "+id, st.Gateway, renewal, st.TunnelCertEnds)
		for _, l := range st.RevocationLists {
			// A list is renewed all the time; only one that is about to end
			// without a successor is news.
			if l.LastError != "" {
				add("revocation-list", id+" "+l.URL, l.URL, l.Issuer, "by its authority", l.NextUpdate)
			}
		}
	}
	slices.SortFunc(list, func(a, b adminservice.Expiry) int { return cmp.Or(a.Ends.Compare(b.Ends), cmp.Compare(a.ID, b.ID)) })
	return list, nil
}

// watchExpiry raises an alert for each credential that ends soon, with a new
// text at 60, 30, 14, 7 and 1 days, and closes it when the credential was
// renewed or is gone.
func (s *Server) watchExpiry(ctx context.Context) error {
	list, err := s.expiries(ctx)
	if err != nil {
		return err
	}
	s.metrics.expiry.Reset()
	there := map[string]bool{}
	for _, e := range list {
		s.metrics.expiry.WithLabelValues(e.Kind, e.Name).Set(float64(e.Ends.Unix()))
		if e.Severity == "" {
			continue
		}
		there[e.Kind+" "+e.ID] = true
		left := e.Ends.Sub(s.cfg.Now())
		text := fmt.Sprintf("%s %q ends within %d days, at %s", e.Kind, e.Name, nearest(left), e.Ends.Format(time.RFC3339))
		if left < 0 {
			text = fmt.Sprintf("%s %q ended at %s", e.Kind, e.Name, e.Ends.Format(time.RFC3339))
		}
		if err := s.raise(ctx, sitedb.Alert{
			Kind: alertExpiry, SubjectKind: e.Kind, SubjectID: e.ID, Severity: sitedb.Severity(e.Severity), Text: text, NextStep: "it is renewed " + e.Renewal,
		}); err != nil {
			return err
		}
	}
	if s.cfg.Now().Sub(s.live.began) < stale {
		return nil // not everybody has reported yet
	}
	open, _, err := s.db.Alerts(ctx, sitedb.AlertFilter{Open: true}, 0, math.MaxInt32)
	if err != nil {
		return err
	}
	for _, a := range open {
		if a.Kind == alertExpiry && !there[a.SubjectKind+" "+a.SubjectID] {
			if _, err := s.db.CloseAlert(ctx, a.Kind, a.SubjectKind, a.SubjectID); err != nil {
				return err
			}
		}
	}
	return nil
}

// watch looks at the machines of every gateway that runs: it numbers machines
// that the cloud made anew, and notes what they do.
func (m *manager) watch(ctx context.Context) {
	gateways, err := readAll[gatewayRecord](ctx, m.s.db, kindGateway)
	if err != nil {
		m.s.report(ctx, err)
		return
	}
	for _, g := range gateways {
		if g.Value.State != adminservice.StateReady || g.Value.Model != adminservice.ModelScaleSet {
			continue
		}
		m.s.report(ctx, m.look(ctx, g))
	}
}

func (m *manager) look(ctx context.Context, rec *record[gatewayRecord]) error {
	cloud, err := m.s.cloudOf(ctx, &rec.Value)
	if err != nil {
		return err
	}
	d := rec.Value.deployment()
	machines, err := cloud.Machines(ctx, d)
	if err != nil {
		return fmt.Errorf("machines of gateway %s: %w", rec.Name, err)
	}
	after := number(rec.Value.Machines, machines)
	if slices.Equal(after, rec.Value.Machines) {
		return nil
	}
	strange := slices.ContainsFunc(after, func(a machineRecord) bool {
		return !slices.ContainsFunc(rec.Value.Machines, func(b machineRecord) bool { return a.ID == b.ID && a.Number == b.Number })
	})
	if strange {
		// The cloud replaced a machine by itself: it needs an identity.
		_, err := m.beginOn(ctx, rec.ID, opSynchronize, func(tx *sitedb.Tx, rec *record[gatewayRecord]) error {
			return m.s.audit(ctx, tx, msgAsked, kindGateway, rec.ID, "gateway %s has new machines", rec.Value.ServiceName)
		})
		return err
	}
	_, err = update(ctx, m.s.db, kindGateway, rec.ID, func(_ *sitedb.Tx, r *record[gatewayRecord]) error {
		if !r.Value.busy() {
			r.Value.Machines = after
		}
		return nil
	})
	return err
}
