package main

import (
	"os"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

// TestMain lets the test binary be the program: scripts and the lab's
// processes start it under the name opencmg.
func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"opencmg": main})
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
