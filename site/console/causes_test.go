package console

import (
	"os"
	"path/filepath"
	"regexp"
	"testing"
)

// TestCauses: whatever a gateway counts refusals by has words for people.
func TestCauses(t *testing.T) {
	for pattern, code := range map[string]string{
		"../../gateway/*.go":   `\bcause(?:: |, r\.verdict = |, r\.retry = )"([a-z-]+)"|r\.cause[^=\n]* = (?:[\w.]+, )?"([a-z-]+)"`,
		"../../pki/refusal.go": `Refused\w+\s+= "([a-z-]+)"`,
	} {
		files, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		found := 0
		for _, name := range files {
			text, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			for _, m := range regexp.MustCompile(code).FindAllStringSubmatch(string(text), -1) {
				found++
				for _, c := range m[1:] {
					if c != "" && causes[c].Words == "" {
						t.Errorf("%s: the cause %s has no words", name, c)
					}
				}
			}
		}
		if found < 20 {
			t.Errorf("%s has %d causes only: is the pattern still right?", pattern, found)
		}
	}
	if got := causeOf("some-new-one"); got.Words != "some new one" {
		t.Errorf("%+v", got)
	}
}
