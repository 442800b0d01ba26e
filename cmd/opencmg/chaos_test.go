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

	requests := steadily(t, want, func(n int) (got string, err error) {
		// A client knows every instance, as DNS would tell it, and asks the next
		// one when a connection breaks.
		for i := range 2 * len(instances) {
			got, err = askInstance(t.Context(), instances[(n+i)%len(instances)], info.ServiceName, path)
			if _, answered := errors.AsType[*answerError](err); err == nil || answered {
				break
			}
		}
		return got, err
	})
	for _, p := range info.Processes {
		victim, err := os.FindProcess(p.PID)
		if err != nil {
			t.Fatal(err)
		}
		before := requests.count()
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
		requests.more(before, "after "+p.Name+" was killed")
	}
	requests.end()
	t.Logf("%d requests while %d processes were killed", requests.count(), len(info.Processes))
}

// steadyRequests are the same request again and again, labClientRate times a
// second, whatever happens meanwhile. Each must get the same answer.
type steadyRequests struct {
	t    *testing.T
	stop context.CancelFunc
	flow sync.WaitGroup

	mu       sync.Mutex // guards what follows
	made     int
	failures []string
}

// steadily begins with requests until end is called; ask makes the n-th.
func steadily(t *testing.T, want string, ask func(n int) (string, error)) *steadyRequests {
	ctx, stop := context.WithCancel(t.Context())
	s := &steadyRequests{t: t, stop: stop}
	s.flow.Go(func() {
		tick := time.NewTicker(time.Second / labClientRate)
		defer tick.Stop()
		for n := 0; ; n++ {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			s.flow.Go(func() {
				got, err := ask(n)
				s.mu.Lock()
				defer s.mu.Unlock()
				s.made++
				if err == nil && got != want {
					err = fmt.Errorf("wrong answer: %.200s", got)
				}
				if err != nil && len(s.failures) < 20 {
					s.failures = append(s.failures, time.Now().Format("15:04:05.000 ")+err.Error())
				}
			})
		}
	})
	return s
}

func (s *steadyRequests) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.made
}

// more waits for the requests of a second above before.
func (s *steadyRequests) more(before int, what string) {
	s.t.Helper()
	eventually(s.t, "requests "+what, func() error {
		if s.count() < before+labClientRate {
			return errors.New("too few requests yet")
		}
		return nil
	})
}

// end waits for the last answer and reports every failure.
func (s *steadyRequests) end() {
	s.t.Helper()
	s.stop()
	s.flow.Wait()
	for _, f := range s.failures {
		s.t.Error(f)
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
