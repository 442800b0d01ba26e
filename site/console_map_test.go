package site_test

import (
	"flag"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/opencmg/opencmg"
	"github.com/opencmg/opencmg/adminservice"
	"github.com/opencmg/opencmg/internal/browsertest"
)

// pictures is where pictures of pages with much in them are written, for people
// to look at.
var pictures = flag.String("pictures", "", "write pictures of crowded pages of the console into this directory")

// crowd makes a gateway of 16 instances with 4 connection points, the most that
// there may be of one, and some published roles. One connection point has lost
// its tunnels to some instances, another one opens some, and one instance is gone.
func (r *rig) crowd() {
	r.t.Helper()
	const instances = 16
	g := r.selfHosted()
	r.edit("gateway", g.ID, func(m map[string]any) {
		var list []map[string]any
		for n := range instances {
			list = append(list, map[string]any{"id": fmt.Sprintf("machine-%d", n), "number": n, "address": fmt.Sprintf("198.51.100.%d", n+1)})
		}
		m["machines"] = list
	})
	for _, name := range []string{"mp01", "mp02", "sup01"} {
		do[any](r, "POST", "SiteRoles", adminservice.SiteRole{Kind: opencmg.KindManagementPoint, Name: name, Internal: []string{"https://" + name + ".corp.example"}, AllowGatewayTraffic: true})
	}
	for p := range 4 {
		one := r.join([]string{"cp-amsterdam-01", "cp-amsterdam-02", "cp-redmond-01", "cp-redmond-02"}[p], g.ID)
		status := &opencmg.ConnectionPointStatus{Name: one.name, ConnectionID: one.id, Site: "LAB", Start: r.now()}
		var said []opencmg.InstanceStatus
		for n := range instances {
			t := opencmg.TunnelStatus{Gateway: g.Name, Instance: n, Transport: "tcp-tls", Connected: true, Since: r.now().Add(-time.Duration(n) * time.Hour), Streams: (7*n + p) % 12, RTT: time.Duration(2+(13*n+29*p)%140) * time.Millisecond}
			switch {
			case n == 11, p == 2 && n%5 == 2:
				t.Connected, t.Transport, t.LastError = false, "", "dial tcp 198.51.100.12:10140: connect: connection refused"
			case p == 3 && n == 6:
				t.Connected, t.Transport = false, ""
			default:
				said = append(said, opencmg.InstanceStatus{Gateway: g.Name, Instance: n, Started: r.now(), Time: r.now(), Connections: int64(1000 + 317*n), Held: int64(900 + 300*n), Draining: n == 4})
			}
			status.Tunnels = append(status.Tunnels, t)
		}
		if err := one.client().Report(r.t.Context(), &adminservice.SiteSystemReport{Kind: adminservice.SystemConnectionPoint, Version: "1.0.0", ConnectionPoint: status, Instances: said, CertificateEnds: r.now().AddDate(2, 0, 0)}); err != nil {
			r.t.Fatal(err)
		}
	}
}

// signInBrowser opens the console in a browser, signed in.
func (r *rig) signInBrowser() *browsertest.Page {
	r.t.Helper()
	p := r.browser()
	p.Go("https://127.0.0.1/console/sign-in")
	p.Fill("#token", string(r.c.Token))
	p.Follow("form[action$='/token'] button")
	return p
}

// TestCrowdedMap: the largest gateway that there may be can be read at every
// width, as a map or as a matrix.
func TestCrowdedMap(t *testing.T) {
	r := newRig(t)
	r.crowd()
	page := r.console(r.c.Token).see("connection-points", "7 lost")
	for what, want := range map[string]int{"data-tunnel=": 64, "data-cell=": 64, `data-state="lost"`: 7, `<td class="bad"`: 7, `<td class="busy"`: 1} {
		if got := strings.Count(page, what); got != want {
			t.Errorf("%d of %s, want %d", got, what, want)
		}
	}
	p := r.signInBrowser()
	p.Go("https://127.0.0.1/console/connection-points")
	p.WaitFor(`html[data-ready="yes"]`)
	for _, width := range []int{360, 760, 800, 1280, 1920} {
		p.SetSize(width, 900)
		if o := p.Overflow(); len(o) > 0 {
			t.Errorf("%d: %q", width, o)
		}
		if shown := p.Texts("table.matrix td")[0] != ""; !shown {
			t.Errorf("%d: the matrix is not shown", width)
		}
		if inside := browsertest.Eval[bool](p, `() => { const m = document.querySelector('.map-matrix .scroll'); return m.scrollWidth <= m.clientWidth; }`); !inside {
			t.Errorf("%d: the matrix does not fit into the page", width)
		}
		for _, dark := range []bool{false, true} {
			p.SetDark(dark)
			if f := p.Axe(); len(f) > 0 {
				t.Errorf("%d, dark %v: %v", width, dark, f)
			}
			if *pictures != "" {
				p.Screenshot(filepath.Join(*pictures, fmt.Sprintf("connection-points-crowded-%d-%v.png", width, dark)), width, 0, dark)
			}
		}
	}
}
