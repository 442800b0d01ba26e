package main

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
)

// A growing buffer may be read while a command writes into it.
type growing struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (g *growing) Write(p []byte) (int, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.b.Write(p)
}

func (g *growing) String() string {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.b.String()
}

// TestLogsOfALab reads the logs of a lab's site and of the parts that report to
// it.
func TestLogsOfALab(t *testing.T) {
	_, info := startLab(t)
	asAdministrator(t, info)
	gateway := onlyGateway(t, administer(t, info)).Name
	for name, text := range map[string]string{
		"CloudMgr.log": "", "SMSProv.log": "site server started",
		"CMG-" + gateway + "-0-CMGSetup.log": "gateway instance started", "CMG-" + gateway + "-1-CMGSetup.log": "gateway instance started",
		"CP-cp1-SMS_Cloud_ProxyConnector.log": "tunnel", "CP-cp2-SMS_Cloud_ProxyConnector.log": "tunnel",
	} {
		eventually(t, name, func() error {
			code, stdout, stderr := opencmgCommand(t, "logs", name, "--tail", "1000000")
			if code != 0 || !strings.Contains(stdout, text) {
				list, _ := succeed(t, "logs", "--output", "table")
				return fmt.Errorf("%d %s%s\nthere are:\n%s", code, tail(stdout, 300), stderr, list)
			}
			return nil
		})
	}
	wantFailure(t, 1, "there is no log file", "logs", "../site.key")
	wantFailure(t, 2, "--follow needs", "logs", "--follow")

	// Following shows what is written later.
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var out growing
	done := make(chan int, 1)
	go func() {
		done <- run(ctx, []string{"logs", "CloudMgr.log", "--follow", "--tail", "0"}, strings.NewReader(""), &out, &out)
	}()
	eventually(t, "a line written meanwhile", func() error {
		act(t, administer(t, info), "POST", "Gateways/"+gateway+"/synchronize", nil)
		if !strings.Contains(out.String(), "synchronize") {
			return fmt.Errorf("got %q", out.String())
		}
		return nil
	})
	stop()
	if code := <-done; code != 0 {
		t.Errorf("ended with %d", code)
	}
}
