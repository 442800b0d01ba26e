// Package browsertest tests web pages in a real browser: Chromium without a
// window, driven by its developer protocol. It is for tests only.
//
// One Chromium serves all tests of a process that run at a time (see [Main]);
// each [Page] is a browser context of its own, without cookies or cache of
// others. All that the browser sends goes through the page's way out (way.go),
// which leads names to addresses on this machine, verifies servers with the roots
// that the test gives, presents a client certificate, and refuses and reports
// everything else. Errors on the console, violations of the content security
// policy and requests to other hosts fail the test.
package browsertest

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"sync"
	"testing"

	"github.com/chromedp/chromedp"
)

// programEnv names the browser when it is not in PATH.
const programEnv = "OPENCMG_TEST_CHROMIUM"

// programs are the names of the browser in PATH, as Debian, others and Google
// call it.
var programs = []string{"chromium", "chromium-browser", "google-chrome"}

var errNoBrowser = errors.New("there is no Chromium in PATH: install it (Debian: apt-get install chromium), or name the program in " + programEnv)

// findBrowser returns the path of the browser.
func findBrowser() (string, error) {
	if p := os.Getenv(programEnv); p != "" {
		found, err := exec.LookPath(p)
		if err != nil {
			return "", fmt.Errorf("%s does not name a browser: %w", programEnv, err)
		}
		return found, nil
	}
	for _, name := range programs {
		if p, err := exec.LookPath(name); err == nil {
			return p, nil
		}
	}
	return "", errNoBrowser
}

// missing skips a test for which something is not installed, or fails it where
// everything must be.
func missing(t testing.TB, err error) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatal(err)
	}
	t.Skip(err)
}

// A process is a running browser.
type process struct {
	ctx   context.Context // of chromedp
	stop  func() error
	key   *ecdsa.PrivateKey // of every server certificate that it sees
	users int
}

var (
	running *process
	starts  sync.Mutex // guards running
)

// Main runs the tests of a package with one browser for all of them: call it in
// TestMain with the package's testing.M, or give a [Runner] to what wants one.
// Without it a browser ends with the last page that is open.
func Main(m interface{ Run() int }) int { return Runner{m}.Run() }

// A Runner is a testing.M whose tests share one browser.
type Runner struct{ M interface{ Run() int } }

// Run runs the tests. The browser starts with the first page.
func (r Runner) Run() int {
	starts.Lock()
	kept = true
	starts.Unlock()
	code := r.M.Run()
	starts.Lock()
	defer starts.Unlock()
	if running != nil {
		if err := running.stop(); err != nil {
			fmt.Fprintln(os.Stderr, "browsertest: end the browser:", err)
		}
		running = nil
	}
	return code
}

// kept says that the browser outlives its pages.
var kept bool

// acquire returns the browser, started if need be, for one more page.
func acquire(t testing.TB) *process {
	t.Helper()
	program, err := findBrowser()
	if err != nil {
		missing(t, err)
	}
	starts.Lock()
	defer starts.Unlock()
	if running != nil && running.ctx.Err() != nil {
		running.stop() // it crashed
		running = nil
	}
	if running == nil {
		if running, err = start(program); err != nil {
			t.Fatalf("start %s: %v", program, err)
		}
	}
	running.users++
	return running
}

func (p *process) release() error {
	starts.Lock()
	defer starts.Unlock()
	if p.users--; p.users > 0 || kept || running != p {
		return nil
	}
	running = nil
	return p.stop()
}

func start(program string) (*process, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	spki, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(spki)
	profile, err := os.MkdirTemp("", "browsertest-")
	if err != nil {
		return nil, err
	}
	options := append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.ExecPath(program),
		chromedp.UserDataDir(profile),
		// The way out has this key, and nothing else is accepted.
		chromedp.Flag("ignore-certificate-errors-spki-list", base64.StdEncoding.EncodeToString(sum[:])),
		// What the browser does for itself would not take a page's way out.
		chromedp.Flag("host-resolver-rules", "MAP * ~NOTFOUND , EXCLUDE 127.0.0.1"),
		chromedp.Flag("disable-component-update", true),
		chromedp.Flag("disable-features", "Translate,AutofillServerCommunication,OptimizationHints,MediaRouter"),
		chromedp.Flag("disable-domain-reliability", true),
		chromedp.Flag("no-pings", true),
		chromedp.Flag("lang", "en-GB"),
	)
	if os.Geteuid() == 0 {
		options = append(options, chromedp.NoSandbox) // which refuses to run as root
	}
	allocator, endAllocator := chromedp.NewExecAllocator(context.Background(), options...)
	ctx, end := chromedp.NewContext(allocator)
	p := &process{ctx: ctx, key: key}
	p.stop = func() error {
		end()
		endAllocator()
		return os.RemoveAll(profile)
	}
	if err := chromedp.Do(ctx); err != nil {
		p.stop()
		return nil, err
	}
	return p, nil
}
