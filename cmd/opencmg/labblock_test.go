package main

import (
	"context"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencmg/opencmg/adminservice"
)

// TestClientsOfALab administers a client of a lab: it is seen to be online, does
// what it is told, is refused everywhere once it is blocked, and works again
// when it is readmitted.
func TestClientsOfALab(t *testing.T) {
	_, info := startLab(t)
	asAdministrator(t, info)
	c := administer(t, info)
	ctx := t.Context()
	dir := filepath.Join(t.TempDir(), "client")
	token := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(token, []byte(info.BulkToken), 0o600); err != nil {
		t.Fatal(err)
	}
	succeed(t, "client", "install", "--state-dir", dir, "--ca-file", info.CAFile, "--connect-to", info.ServiceName+":443:"+info.PublicAddress, "--regtoken-file", token,
		"CCMHOSTNAME="+info.ServiceName+info.MutualAuthBase[strings.Index(info.MutualAuthBase, "/CCM_Proxy"):], "SMSSITECODE="+labSite, "CCMALWAYSINF=1")
	all, err := adminservice.List[adminservice.RegisteredClient](ctx, c, "Clients", url.Values{"$orderby": {"registered desc"}, "$top": {"1"}})
	if err != nil || len(all) != 1 {
		t.Fatal(all, err)
	}
	path := "Clients/" + string(all[0].ID)
	details := func() adminservice.ClientDetails {
		t.Helper()
		d, err := adminservice.Get[adminservice.ClientDetails](ctx, c, path)
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	running, stop := context.WithCancel(ctx)
	defer stop()
	ended := make(chan error, 1)
	go func() {
		if code, stdout, stderr := opencmgCommandIn(running, "client", "run", "--state-dir", dir); code != 0 && running.Err() == nil {
			ended <- fmt.Errorf("client run: %d %s%s", code, stdout, stderr)
			return
		}
		ended <- nil
	}()
	online := func() error {
		select {
		case err := <-ended:
			t.Fatalf("the client ended: %v", err)
		default:
		}
		d := details()
		if d.Online != adminservice.OnlineYes || len(d.Listening) != 1 || !d.Listening[0].Internet || d.LastPolicy.IsZero() {
			return &answerError{fmt.Sprintf("online %s at %+v, last policy %v", d.Online, d.Listening, d.LastPolicy)}
		}
		return nil
	}
	eventually(t, "the client is online", online)

	// A task arrives and is answered without anybody's waiting for a keep-alive.
	notify := func() int64 {
		t.Helper()
		var op adminservice.ClientOperation
		if err := c.Do(ctx, "POST", path+"/notify", adminservice.NotifyClient{Task: "test"}, &op); err != nil {
			t.Fatal(err)
		}
		return op.ID
	}
	completed := func(id int64) func() error {
		return func() error {
			op, err := adminservice.Get[adminservice.ClientOperation](ctx, c, fmt.Sprint("ClientOperations/", id))
			if err != nil || op.State != adminservice.ClientOperationCompleted {
				return &answerError{fmt.Sprintf("%+v, %v", op, err)}
			}
			return nil
		}
	}
	eventually(t, "the client answers", completed(notify()))

	// The same by the commands, with the client's name.
	name, id := all[0].Name, string(all[0].ID)
	if _, stderr := succeed(t, "client-device", "notify", id, "--task", "test"); !strings.Contains(stderr, "test for 1 clients") {
		t.Error(stderr)
	}
	if stdout, _ := succeed(t, "client-device", "list", "--output", "table", "--search", id, "--approval", "approved"); !strings.Contains(stdout, name) || !strings.Contains(stdout, id) {
		t.Error(stdout)
	}
	if stdout, _ := succeed(t, "client-device", "show", id); !strings.Contains(stdout, `"signingThumbprint"`) {
		t.Error(stdout)
	}
	wantFailure(t, 1, "there is no client", "client-device", "show", "nobody")
	wantFailure(t, 1, "task", "client-device", "notify", id, "--task", "run-script")
	wantFailure(t, 1, "approval", "client-device", "list", "--approval", "maybe")
	if _, stderr := succeed(t, "client-device", "block", id, "--reason", "stolen"); !strings.Contains(stderr, "refused") {
		t.Error(stderr)
	}
	eventually(t, "the blocked client is off line", func() error {
		if d := details(); d.Online != adminservice.OnlineNo {
			return &answerError{fmt.Sprintf("online %s at %+v", d.Online, d.Listening)}
		}
		return nil
	})
	stop()
	<-ended
	eventually(t, "the blocked client is refused", func() error {
		if code, stdout, stderr := opencmgCommand(t, "client", "notify-test", "--state-dir", dir); code == 0 {
			return &answerError{stdout + stderr}
		}
		return nil
	})
	wantFailure(t, 1, "readmit it", "client-device", "approve", id)
	succeed(t, "client-device", "readmit", id)
	eventually(t, "the readmitted client works", func() error {
		if code, stdout, stderr := opencmgCommand(t, "client", "notify-test", "--state-dir", dir); code != 0 {
			return &answerError{stdout + stderr}
		}
		return nil
	})
}
