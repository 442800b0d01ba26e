package main

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/opencmg/opencmg/internal/browsertest"
)

// TestMain lets the test binary be the program: scripts and the lab's
// processes start it under the name opencmg.
func TestMain(m *testing.M) {
	if dir := os.Getenv(dieVariable); dir != "" {
		onSiteStep = func(operation, step string) { dieOnce(dir, operation, step) }
	}
	testscript.Main(browsertest.Runner{M: m}, map[string]func(){"opencmg": main})
}

func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script",
		Setup: func(env *testscript.Env) error {
			// The lab's default data directory belongs to the test.
			env.Setenv("TMPDIR", env.WorkDir)
			wd, err := os.Getwd()
			env.Setenv("REPO", wd+"/../..")
			return err
		},
	})
}

// dieVariable names a directory: a site server then kills itself at every step
// of every operation, once each, and leaves a file there that says so.
const dieVariable = "OPENCMG_TEST_DIE"

var processStart = time.Now()

func dieOnce(dir, operation, step string) {
	f, err := os.OpenFile(filepath.Join(dir, operation+"."+step), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return // it has died here before
	}
	f.Close()
	// The lab takes a process that ends within a second for one that can not
	// start.
	time.Sleep(time.Until(processStart.Add(1100 * time.Millisecond)))
	self, err := os.FindProcess(os.Getpid())
	if err == nil {
		self.Kill()
	}
	select {}
}
