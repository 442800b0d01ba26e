package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/opencmg/opencmg/pki"
)

// labClientRate is how many requests a second flow while processes die.
const labClientRate = 200

// TestKillAnyProcess kills every process of a running lab, one after the
// other and without warning, while requests flow. Idempotent requests all
// succeed, none is answered wrongly, and everything comes back by itself.
func TestKillAnyProcess(t *testing.T) {
	dir, info := startLab(t)
	ca, err := pki.LoadCertificates(info.CAFile)
	if err != nil {
		t.Fatal(err)
	}
	spare, err := pki.LoadKeyPair(info.SpareClient.CertFile, info.SpareClient.KeyFile)
	if err != nil {
		t.Fatal(err)
	}
	var instances []*http.Client
	for _, u := range info.GatewayURLs {
		c := trusting(ca[0], &spare, strings.TrimPrefix(u, "https://"))
		defer c.CloseIdleConnections()
		instances = append(instances, c)
	}
	path := info.MutualAuthBase[strings.Index(info.MutualAuthBase, "/CCM_Proxy"):] + "/SMS_MP/.sms_aut?MPLIST"
	want, err := askInstance(t.Context(), instances[0], info.ServiceName, path)
	if err != nil {
		t.Fatal(err)
	}

	var (
		mu       sync.Mutex // guards what follows
		requests int
		failures []string
	)
	ctx, stop := context.WithCancel(t.Context())
	var flow sync.WaitGroup
	flow.Go(func() {
		tick := time.NewTicker(time.Second / labClientRate)
		defer tick.Stop()
		for n := 0; ; n++ {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			flow.Go(func() {
				// A client knows every instance, as DNS would tell it, and
				// asks the next one when a connection breaks.
				var got string
				var err error
				for i := range 2 * len(instances) {
					got, err = askInstance(t.Context(), instances[(n+i)%len(instances)], info.ServiceName, path)
					if _, answered := errors.AsType[*answerError](err); err == nil || answered {
						break
					}
				}
				mu.Lock()
				defer mu.Unlock()
				requests++
				if err == nil && got != want {
					err = fmt.Errorf("wrong answer: %.200s", got)
				}
				if err != nil && len(failures) < 20 {
					failures = append(failures, err.Error())
				}
			})
		}
	})
	for _, p := range info.Processes {
		victim, err := os.FindProcess(p.PID)
		if err != nil {
			t.Fatal(err)
		}
		before := count(&mu, &requests)
		if err := victim.Kill(); err != nil {
			t.Fatalf("kill %s: %v", p.Name, err)
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
		for _, q := range info.Processes {
			eventually(t, q.Name+" after "+p.Name+" was killed", readyz(q.PrivateURL+"/readyz"))
		}
		eventually(t, "requests after "+p.Name+" was killed", func() error {
			if count(&mu, &requests) < before+labClientRate {
				return errors.New("too few requests yet")
			}
			return nil
		})
	}
	stop()
	flow.Wait()
	t.Logf("%d requests while %d processes were killed", requests, len(info.Processes))
	for _, f := range failures {
		t.Error(f)
	}
}

// startLab starts a lab that stays up, and returns its data directory and
// description.
func startLab(t *testing.T, args ...string) (dir string, info labInfo) {
	t.Helper()
	dir = t.TempDir()
	lab := startProgram(t, append([]string{"lab", "--data-dir", dir}, args...)...)
	eventually(t, "the lab", func() error {
		select {
		case <-lab.done:
			t.Fatalf("the lab ended")
		default:
		}
		if !strings.Contains(lab.String(), "Ctrl-C ends the lab") {
			return errors.New("not up yet")
		}
		b, err := os.ReadFile(filepath.Join(dir, labInfoFile))
		if err != nil {
			return err
		}
		return json.Unmarshal(b, &info)
	})
	return dir, info
}

func count(mu *sync.Mutex, n *int) int {
	mu.Lock()
	defer mu.Unlock()
	return *n
}

// An answerError is an answer that is not 200: asking another instance would
// hide it.
type answerError struct{ status string }

func (e *answerError) Error() string { return "answer: " + e.status }

func askInstance(ctx context.Context, c *http.Client, host, path string) (string, error) {
	req, err := http.NewRequestWithContext(ctx, "GET", "https://"+host+path, nil)
	if err != nil {
		return "", err
	}
	res, err := c.Do(req)
	if err != nil {
		return "", err
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		return "", err
	}
	if res.StatusCode != http.StatusOK {
		return "", &answerError{res.Status + " " + res.Header.Get("X-Correlation-ID")}
	}
	return string(b), nil
}
