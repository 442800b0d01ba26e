package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/opencmg/opencmg"
	"github.com/opencmg/opencmg/adminservice"
	"github.com/opencmg/opencmg/internal/admincli"
	"github.com/opencmg/opencmg/pki"
)

// TestExplain follows one request through every hop: by the program that
// explains it, and in the logs.
func TestExplain(t *testing.T) {
	t.Parallel()
	dir, info := startLab(t, "--log-level", "debug")
	ca, err := pki.LoadCertificates(info.CAFile)
	if err != nil {
		t.Fatal(err)
	}
	spare, err := pki.LoadKeyPair(info.SpareClient.CertFile, info.SpareClient.KeyFile)
	if err != nil {
		t.Fatal(err)
	}
	c := trusting(ca[0], &spare, strings.TrimPrefix(info.GatewayURLs[0], "https://"))
	defer c.CloseIdleConnections()
	ask := func(url string) (*http.Response, string) {
		t.Helper()
		res, err := c.Get(url)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		return res, res.Header.Get(opencmg.HeaderCorrelationID)
	}

	res, id := ask(info.MutualAuthBase + "/SMS_MP/.sms_aut?MPLIST")
	if res.StatusCode != http.StatusOK {
		t.Fatalf("MPLIST: %s", res.Status)
	}
	profile := filepath.Join(dir, "site", admincli.SiteProfileFile)
	explain := func(id string) string {
		t.Helper()
		return startAndWait(t, "explain", id, "--profile", profile, "--output", "table")
	}
	served := id
	out := explain(served)
	last := -1
	for _, hop := range []string{"1. gateway gateway/0", "2. connection-point cp", "3. management-point "} {
		i := strings.Index(out, hop)
		if i <= last {
			t.Errorf("%q is not in its place in:\n%s", hop, out)
		}
		last = i
	}
	if !strings.Contains(out, "CN=spare-client") {
		t.Errorf("the explanation does not name the client:\n%s", out)
	}
	for _, file := range []string{"gateway-0/*.log", "connection-point-*/SMS_Cloud_ProxyConnector.log", "mp/*.log"} {
		eventually(t, "correlation ID in "+file, func() error {
			names, err := filepath.Glob(filepath.Join(info.LogDir, file))
			if err != nil {
				return err
			}
			for _, name := range names {
				if b, err := os.ReadFile(name); err == nil && strings.Contains(string(b), id) {
					return nil
				}
			}
			return os.ErrNotExist
		})
	}

	// The same file of roots serves those who try the management point inside.
	if len(ca) != 2 {
		t.Fatalf("%d certificates in the CA file, want two", len(ca))
	}
	inside := trusting(ca[1], nil, strings.TrimPrefix(info.ManagementPoint, "https://"))
	defer inside.CloseIdleConnections()
	if res, err := inside.Get(info.ManagementPoint + "/SMS_MP/.sms_aut?MPLIST"); err != nil || res.StatusCode != http.StatusOK {
		t.Errorf("MPLIST inside: %v", err)
	} else {
		res.Body.Close()
	}

	res, id = ask(info.MutualAuthBase + "/CCM_System_WindowsAuth/request")
	if res.StatusCode != http.StatusNotFound {
		t.Errorf("unpublished path: %s", res.Status)
	}
	refused := id
	isRefused := func(out string) bool {
		return strings.Contains(out, "no endpoint publishes this path") && !strings.Contains(out, "management-point")
	}
	if out := explain(refused); !isRefused(out) {
		t.Errorf("unpublished path: explained as\n%s", out)
	}
	var x adminservice.Explanation
	if err := json.Unmarshal([]byte(startAndWait(t, "explain", "--profile", profile, refused)), &x); err != nil {
		t.Fatal(err)
	}
	if len(x.Records) != 1 || x.Records[0].Status != http.StatusNotFound {
		t.Errorf("as JSON: %+v", x.Records)
	}
	for _, h := range x.Asked {
		if !h.Answered {
			t.Errorf("%s %s did not answer: %s", h.Hop, h.Where, h.Problem)
		}
	}
	if len(x.Asked) != 5 { // two instances, two connection points, a management point
		t.Errorf("asked: %+v", x.Asked)
	}

	// Many later requests push both out of the memory of the instance.
	var later sync.WaitGroup
	for range 4 {
		later.Go(func() {
			for range 5500 {
				res, err := c.Get(info.MutualAuthBase + "/nothing")
				if err != nil {
					t.Error(err)
					return
				}
				res.Body.Close()
			}
		})
	}
	later.Wait()
	if out := explain(refused); !isRefused(out) {
		t.Errorf("after many others: explained as\n%s", out)
	}
	if out := explain(served); !strings.Contains(out, "3. management-point") {
		t.Errorf("after many others: explained as\n%s", out)
	}

	// Everything that the request passed is killed, and remembers.
	killed := 0
	for _, p := range info.Processes {
		if p.Name != "gateway-0" && p.Name != "mp" && !strings.HasPrefix(p.Name, "connection-point-") {
			continue
		}
		killed++
		victim, err := os.FindProcess(p.PID)
		if err != nil {
			t.Fatal(err)
		}
		if err := victim.Kill(); err != nil {
			t.Fatal(err)
		}
		eventually(t, "new process for "+p.Name, func() error {
			now, err := findLab(dir)
			if err != nil {
				return err
			}
			for _, q := range now.Processes {
				if q.Name == p.Name && q.PID != p.PID && q.PID != 0 {
					return nil
				}
			}
			return errors.New("not started again")
		})
		eventually(t, p.Name+" after it was killed", readyz(p.PrivateURL+"/readyz"))
	}
	if killed != 4 {
		t.Errorf("killed %d processes, want an instance, two connection points and the management point: %+v", killed, info.Processes)
	}
	admin := administer(t, info)
	eventually(t, "the path of the served request", func() error {
		x, err := adminservice.Get[adminservice.Explanation](t.Context(), admin, "Explanations/"+served)
		if err == nil && len(x.Records) != 3 {
			err = fmt.Errorf("the path is %+v; asked were %+v", x.Records, x.Asked)
		}
		return err
	})
	if out := explain(refused); !isRefused(out) {
		t.Errorf("after the instance was killed: explained as\n%s", out)
	}

	// Nobody knows it, and all are named.
	unknown := startProgram(t, "explain", "--profile", profile, strings.Repeat("0", 32))
	<-unknown.done
	if code := unknown.cmd.ProcessState.ExitCode(); code != 1 || !strings.Contains(unknown.String(), "nobody knows") || !strings.Contains(unknown.String(), "gateway gateway/0 was asked") {
		t.Errorf("unknown request: ended with %d and\n%s", code, unknown)
	}
}
