package site_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/opencmg/opencmg"
	"github.com/opencmg/opencmg/adminservice"
	"github.com/opencmg/opencmg/sitedb"
)

// A busySite says how much traffic a database is filled with.
type busySite struct {
	gateways, instances, endpoints, points int
	age                                    time.Duration
}

// busy is a large site that ran for 90 days.
var busy = busySite{gateways: 4, instances: 4, endpoints: 20, points: 2, age: 90 * 24 * time.Hour}

// fillTraffic puts the traffic of a busy site into a database, as it is after
// all that time: minutes of the last hours, five minutes of two days, and so on.
// The IDs of its gateways are those given, and then made-up ones.
func fillTraffic(tb testing.TB, db *sitedb.DB, now time.Time, b busySite, ids ...string) {
	tb.Helper()
	for n := len(ids); n < b.gateways; n++ {
		ids = append(ids, fmt.Sprint("busy-", n))
	}
	now = now.UTC()
	var counted sitedb.Counted
	var samples []sitedb.Sample
	flush := func() {
		tb.Helper()
		if err := db.AddCounts(tb.Context(), counted); err != nil {
			tb.Fatal(err)
		}
		if err := db.AddSamples(tb.Context(), samples); err != nil {
			tb.Fatal(err)
		}
		counted, samples = sitedb.Counted{}, samples[:0]
	}
	causes := []string{"token-expired", "not-published", "method", "certificate", "no-tunnel", "rate-limit"}
	// One pass for each span of time, in steps of what is kept of it; a row of
	// an older span gets all that was counted in it at once.
	for at, n := now.Add(-b.age), 0; at.Before(now); n++ {
		step := 24 * time.Hour
		switch age := now.Sub(at); {
		case age <= 6*time.Hour:
			step = time.Minute
		case age <= 2*24*time.Hour:
			step = 5 * time.Minute
		case age <= 15*24*time.Hour:
			step = time.Hour
		}
		for g, id := range ids[:b.gateways] {
			for i := range b.instances {
				instance := fmt.Sprint(i)
				for e := range b.endpoints {
					count := int64(step/time.Second) * int64(1+(n+e)%7)
					point := fmt.Sprint("cp", (n+i)%b.points)
					if step >= time.Hour {
						// In rows this wide each connection point was the first to
						// report now and then.
						for p := range b.points {
							counted.Traffic = append(counted.Traffic, sitedb.Traffic{GatewayID: id, Instance: instance, Endpoint: fmt.Sprint("endpoint-", e), ConnectionPoint: fmt.Sprint("cp", p), Start: at,
								Counts: sitedb.Counts{Requests: count / int64(b.points), RequestBytes: count * 500, ResponseBytes: count * 3000}})
						}
					} else {
						counted.Traffic = append(counted.Traffic, sitedb.Traffic{GatewayID: id, Instance: instance, Endpoint: fmt.Sprint("endpoint-", e), ConnectionPoint: point, Start: at,
							Counts: sitedb.Counts{Requests: count, Failed: count / 100, RequestBytes: count * 500, ResponseBytes: count * 3000}})
					}
					l := sitedb.Latencies{GatewayID: id, Endpoint: fmt.Sprint("endpoint-", e), Start: at}
					for bucket := range l.Counts[:12] {
						l.Counts[bucket] = count / int64(1+(bucket-4)*(bucket-4))
					}
					counted.Latencies = append(counted.Latencies, l)
				}
				for c, cause := range causes {
					counted.Refusals = append(counted.Refusals, sitedb.Refusals{GatewayID: id, Instance: instance, Cause: cause, Start: at, Requests: int64(1 + c + n%5)})
				}
				for _, gauge := range []string{"instance-held-requests", "instance-connections", "instance-tunnels", "instance-cpu-seconds", "instance-memory-bytes"} {
					samples = append(samples, sitedb.Sample{Name: gauge, Subject: fmt.Sprint(id, "/", i), At: at, Value: float64(n % 1000)})
				}
			}
			samples = append(samples, sitedb.Sample{Name: "held-requests", Subject: id, At: at, Value: float64(25_000 + 10*(n%100) + g)})
		}
		for _, place := range []string{opencmg.PlaceInternet, opencmg.PlaceIntranet} {
			for _, auth := range []opencmg.AuthMode{opencmg.AuthPKI, opencmg.AuthEntra, opencmg.AuthClientToken, opencmg.AuthCCMToken, opencmg.AuthNone} {
				samples = append(samples, sitedb.Sample{Name: "online-clients", Subject: place + "/" + string(auth), At: at, Value: float64(10_000 + n%500)})
			}
		}
		if len(counted.Traffic) > 20_000 {
			flush()
		}
		at = at.Add(step)
	}
	flush()
	if err := db.TrimCounts(tb.Context(), now); err != nil {
		tb.Fatal(err)
	}
	if err := db.TrimSamples(tb.Context(), now); err != nil {
		tb.Fatal(err)
	}
}

// busyRig is a site with gateways that had 90 days of traffic.
func busyRig(b *testing.B) (r *rig, gateways []string) {
	b.Helper()
	r = newRig(b)
	for n := range busy.gateways {
		gateways = append(gateways, do[adminservice.Gateway](r, "POST", "Gateways", adminservice.NewGateway{Model: adminservice.ModelSelfHosted, Certificate: adminservice.ServerCertificate{ServiceName: fmt.Sprintf("gw%d.corp.example", n)}}).ID)
	}
	fillTraffic(b, r.db, r.now(), busy, gateways...)
	return r, gateways
}

// BenchmarkDashboard says how long GET Dashboard and GET Gateways take on a site
// with 90 days of traffic, TLS and the check of the answer's form left out.
func BenchmarkDashboard(b *testing.B) {
	began := time.Now()
	r, ids := busyRig(b)
	b.Logf("filled in %s", time.Since(began))
	for _, path := range []string{"Dashboard?minutes=15", "Dashboard?minutes=1440", "Dashboard?minutes=2880", "Dashboard?minutes=20160", "Dashboard?minutes=129600", "Dashboard?minutes=129600&gateway=" + ids[0], "Gateways"} {
		b.Run(path, func(b *testing.B) {
			for b.Loop() {
				r.get(b, path)
			}
		})
	}
}

// get calls the administration service without the wire.
func (r *rig) get(tb testing.TB, path string) []byte {
	tb.Helper()
	q := httptest.NewRequestWithContext(tb.Context(), "GET", adminservice.BasePath+path, nil)
	q.Header.Set("Authorization", "Bearer "+string(r.c.Token))
	w := httptest.NewRecorder()
	r.s.Handler().ServeHTTP(w, q)
	if w.Code != http.StatusOK {
		tb.Fatalf("%s: %d %s", path, w.Code, w.Body)
	}
	return w.Body.Bytes()
}
