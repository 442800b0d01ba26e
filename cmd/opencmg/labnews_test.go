package main

import (
	"errors"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/opencmg/opencmg/adminservice"
	"github.com/opencmg/opencmg/pki"
)

// TestNewsOfALab has a gateway refuse a request and an instance killed, and
// waits until the site's dashboard says so. How long that took is printed: it is
// to be less than a second.
func TestNewsOfALab(t *testing.T) {
	_, info := startLab(t)
	c := administer(t, info)
	ca, err := pki.LoadCertificates(info.CAFile)
	if err != nil {
		t.Fatal(err)
	}
	outside := trusting(ca[0], nil, strings.TrimPrefix(info.GatewayURLs[0], "https://"))
	defer outside.CloseIdleConnections()
	dashboard := func() (d adminservice.Dashboard) {
		t.Helper()
		if err := c.Do(t.Context(), "GET", "Dashboard?minutes=15", nil, &d); err != nil {
			t.Fatal(err)
		}
		return d
	}
	refused := func() int64 {
		d := dashboard()
		if i := slices.IndexFunc(d.Refusals, func(c adminservice.DashboardCounts) bool { return c.Name == "not-published" }); i >= 0 {
			return d.Refusals[i].Total
		}
		return 0
	}
	eventually(t, "both instances", func() error {
		if d := dashboard(); d.Instances.Up < 2 || d.Instances.Up != d.Instances.Total {
			return errors.New("not all are up")
		}
		return nil
	})
	for range 3 {
		before := refused()
		res, err := outside.Get("https://" + info.ServiceName + "/nothing-is-here")
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		at := time.Now()
		if res.StatusCode != http.StatusNotFound {
			t.Fatalf("the gateway answered %s", res.Status)
		}
		eventually(t, "the refusal at the site", func() error {
			if refused() == before {
				return errors.New("not yet")
			}
			return nil
		})
		t.Logf("a refused request is known at the site after %s", time.Since(at))
	}
	// Another process takes the place of a killed instance soon; then the site
	// hears of that.
	started := func() (list []time.Time) {
		for _, m := range onlyGateway(t, c).Machines {
			if m.Connected && m.Status != nil {
				list = append(list, m.Status.Started)
			}
		}
		return list
	}
	was := started()
	i := slices.IndexFunc(info.Processes, func(p labProcInfo) bool { return strings.Contains(p.Name, "gateway") })
	if i < 0 {
		t.Fatalf("no gateway among %+v", info.Processes)
	}
	p, err := os.FindProcess(info.Processes[i].PID)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Kill(); err != nil {
		t.Fatal(err)
	}
	at := time.Now()
	eventually(t, "the loss at the site", func() error {
		if slices.EqualFunc(was, started(), time.Time.Equal) {
			return errors.New("not yet")
		}
		return nil
	})
	t.Logf("a killed instance is known at the site after %s", time.Since(at))
}
