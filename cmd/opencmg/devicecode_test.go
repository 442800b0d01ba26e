package main

import (
	"bytes"
	"crypto/x509"
	"errors"
	"net/http"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/opencmg/opencmg/internal/browsertest"
	"github.com/opencmg/opencmg/pki"
)

// A person who registers the two apps needs nothing but the code that is shown:
// once for each command, and in the console once for both.
func TestSignInByDeviceCode(t *testing.T) {
	t.Parallel()
	dir, info := startLab(t, "--bare")
	ca, err := pki.LoadCertificates(info.CAFile)
	if err != nil {
		t.Fatal(err)
	}
	_, cloud, ok := strings.Cut(info.Entra.ConnectTo, ":443:")
	if !ok {
		t.Fatalf("connectTo %q", info.Entra.ConnectTo)
	}
	secret := strings.TrimSpace(readTestFile(t, filepath.Join(dir, "config", "cloud-admin-secret")))
	approve := func(code string) {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), "POST", "https://"+cloud+"/lab/approve", bytes.NewReader([]byte(`{"userCode":"`+code+`","user":"otto@lab.example"}`)))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+secret)
		res, err := trusting(ca[0], nil, cloud).Do(req)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		if res.StatusCode != http.StatusOK {
			t.Fatalf("approve: %s", res.Status)
		}
	}
	asks := regexp.MustCompile(`enter the code (\S+) to authenticate`)
	for _, args := range [][]string{
		{"application", "create-server", "--tenant-id", info.SetUp.TenantID, "--app-name", "By code", "--azure-environment-option", "AzureLab"},
		{"application", "create-client", "--app-name", "By code too", "--input-object", "By code"},
		{"application", "update-server", "--tenant-id", info.SetUp.TenantID},
	} {
		name := strings.Join(args[:2], " ")
		p := startProgram(t, append(args, "--profile", filepath.Join(dir, "site", "administrator.yaml"))...)
		eventually(t, "the code of "+name, func() error {
			if asks.MatchString(p.String()) {
				return nil
			}
			select {
			case <-p.done:
				t.Fatalf("%s ended without a code", name)
			default:
			}
			return errors.New("no code yet")
		})
		approve(asks.FindStringSubmatch(p.String())[1])
		eventually(t, "the end of "+name, func() error {
			codes := map[string]bool{}
			for _, m := range asks.FindAllStringSubmatch(p.String(), -1) {
				codes[m[1]] = true
			}
			if len(codes) != 1 {
				t.Fatalf("%s asks a second time", name)
			}
			select {
			case <-p.done:
				return nil
			default:
				return errors.New("it still runs")
			}
		})
		if !p.cmd.ProcessState.Success() {
			t.Errorf("%s failed: %s", name, p)
		}
	}
	appsByCodeInConsole(t, info)
}

// appsByCodeInConsole lets the console's wizard create both apps, by the code that
// it shows and the page to which it sends people.
func appsByCodeInConsole(t *testing.T, info labInfo) {
	p := openConsole(t, info, administratorToken(t, info))
	p.Go(info.Console.URL + "azure-services/new")
	p.Fill("#tenantId", info.SetUp.TenantID)
	for range 4 {
		p.Click("[data-next]")
	}
	p.WaitText("[data-summary]", "you, by a code")
	p.Follow("[data-send]")
	p.WaitText("#operation", "Somebody has to sign in now")
	found := regexp.MustCompile(`open the page (https://(\S+)/device) and enter the code (\S+) to authenticate`).FindStringSubmatch(p.Text("#operation"))
	if found == nil {
		t.Fatalf("the operation says\n%s", p.Text("#operation"))
	}

	// The person, who may be somebody else, at another browser.
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM([]byte(readTestFile(t, info.CAFile))) {
		t.Fatal("the lab's CA file holds no certificate")
	}
	_, cloud, _ := strings.Cut(info.Entra.ConnectTo, ":443:")
	q := browsertest.Open(t, browsertest.Options{Roots: roots, Hosts: map[string]string{found[2] + ":443": cloud, cloud: ""}})
	q.Go("https://" + cloud + "/device") // as docs/setup says
	for _, f := range q.Axe() {
		t.Errorf("the page of the code: %s", f)
	}
	q.KeyboardFromTop()
	for _, w := range q.Keyboard("main") {
		t.Errorf("the page of the code by keyboard: %s", w)
	}
	q.Allow("status of 400")
	q.Fill("#user_code", "WRONGCODE")
	q.Follow("#sign-in")
	q.WaitText("#problem", "not known")
	q.Go(found[1])
	user := info.Entra.Users[slices.IndexFunc(info.Entra.Users, func(u labUser) bool { return strings.HasPrefix(u.UPN, "otto@") })]
	q.Fill("#user_code", found[3])
	q.Choose("#login", user.UPN)
	q.Fill("#passwd", user.Password)
	q.Follow("#sign-in")
	q.WaitText("#done", user.UPN)

	p.WaitText("#operation", "completed")
	p.Go(info.Console.URL + "azure-services")
	p.WaitText("main", "Cloud management")
}
