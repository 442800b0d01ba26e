package main

import (
	"fmt"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// commandBlocks are the commands of a guide: its blocks marked sh, those with a
// variant only when it is the one.
func commandBlocks(t *testing.T, guide, variant string) []string {
	t.Helper()
	text := readTestFile(t, filepath.Join("..", "..", "docs", "setup", guide))
	var blocks []string
	for _, m := range regexp.MustCompile("(?ms)^```sh *([a-z]*)\n(.*?)^```$").FindAllStringSubmatch(text, -1) {
		if m[1] == "" || m[1] == variant {
			blocks = append(blocks, m[2])
		}
	}
	return blocks
}

// TestSetUpGuide runs every command of the guides, as somebody who follows them
// would, each guide against a lab that has nothing set up.
func TestSetUpGuide(t *testing.T) {
	for _, tt := range []struct {
		guide, variant string
		blocks         int
		want           []string // printed in this order
	}{
		{"README.md", "create", 17, []string{"Part 1: Server authentication certificate", "gateway.lab.opencmg.example", "Ready", "Summary", "Part 5: Clients", "1 client is registered", "0 could not be had"}},
		{"README.md", "import", 17, []string{"Part 1: Server authentication certificate", "Ready", "Summary", "Part 5: Clients", "0 could not be had"}},
		{"self-hosted.md", "", 10, []string{"SMS Management Point", "existing-sup", "0", "CCMHOSTNAME=gateway.lab.opencmg.example"}},
	} {
		t.Run(tt.guide+tt.variant, func(t *testing.T) {
			_, info := startLab(t, "--bare")
			blocks := commandBlocks(t, tt.guide, tt.variant)
			if len(blocks) != tt.blocks {
				t.Errorf("the guide has %d blocks of commands, not %d", len(blocks), tt.blocks)
			}
			var script strings.Builder
			script.WriteString("set -eu\npids=\ntrap 'kill $pids' EXIT\n")
			for i, b := range blocks {
				fmt.Fprintf(&script, "echo '=== block %d' >&2\n%s\n", i+1, strings.ReplaceAll(b, " &\n", " &\npids=\"$pids $!\"\n"))
			}
			out := shell(t, info, script.String())
			rest := out
			for _, w := range tt.want {
				_, after, ok := strings.Cut(rest, w)
				if !ok {
					t.Fatalf("the commands did not print %q where they should:\n%s", w, tail(out, 12000))
				}
				rest = after
			}
		})
	}
}
