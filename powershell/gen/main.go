// Command gen writes what follows from the table of cmdlets: the functions of the
// PowerShell module with its manifest and views, and the reference pages.
//
//	go generate ./adminservice/cmdlet
//
// The output depends on the table alone. A test compares it with the files, so
// that they never drift.
//
// module.go makes the functions, manifest.go the manifest and the views,
// reference.go the pages; shell.go has the examples as a shell takes them, and
// differences.go says where the cmdlets are not as documented.
package main

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/opencmg/opencmg/adminservice/cmdlet"
)

func main() {
	root := flag.String("root", ".", "`directory` of the project")
	flag.Parse()
	if err := write(*root); err != nil {
		fmt.Fprintln(os.Stderr, "gen:", err)
		os.Exit(1)
	}
}

// write writes the files below root, and removes those in the folders of
// generated files that are no longer made.
func write(root string) error {
	made := files()
	for name, content := range made {
		path := filepath.Join(root, filepath.FromSlash(name))
		if old, err := os.ReadFile(path); err == nil && bytes.Equal(old, content) {
			continue
		}
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(path, content, 0o644); err != nil {
			return err
		}
	}
	stale, err := leftovers(root, made)
	if err != nil {
		return err
	}
	for _, path := range stale {
		if err := os.Remove(path); err != nil {
			return err
		}
	}
	return nil
}

// leftovers are files in the folders of generated files that are not made any
// more. Pages that do not say that they are generated are written by hand.
func leftovers(root string, made map[string][]byte) ([]string, error) {
	var stale []string
	for _, pattern := range []string{moduleDir + "Cmdlets/*.ps1", referenceDir + "*.md"} {
		there, err := filepath.Glob(filepath.Join(root, filepath.FromSlash(pattern)))
		if err != nil {
			return nil, err
		}
		for _, path := range there {
			name, err := filepath.Rel(root, path)
			if err != nil {
				return nil, err
			}
			if made[filepath.ToSlash(name)] != nil {
				continue
			}
			text, err := os.ReadFile(path)
			if err != nil {
				return nil, err
			}
			if bytes.Contains(text, []byte("Generated from the table of cmdlets")) {
				stale = append(stale, path)
			}
		}
	}
	return stale, nil
}

const (
	moduleDir    = "powershell/OpenCMG/"
	referenceDir = "docs/reference/"
)

// files are all generated files by name, with slashes, below the root.
func files() map[string][]byte {
	made := map[string][]byte{
		moduleDir + "OpenCMG.psd1":          []byte(manifest()),
		moduleDir + "OpenCMG.Format.ps1xml": []byte(views()),
		referenceDir + "README.md":          []byte(index()),
	}
	for _, f := range families() {
		made[moduleDir+"Cmdlets/"+f.name+".ps1"] = []byte(f.functions())
		made[referenceDir+f.name+".md"] = []byte(f.page())
	}
	return made
}

// A family is the cmdlets of one noun of the command line.
type family struct {
	name    string // e.g. boundary-group
	cmdlets []*cmdlet.Cmdlet
}

// families are in the order of the table.
func families() []family {
	var list []family
	for _, c := range cmdlet.Table() {
		name := familyOf(c)
		i := slices.IndexFunc(list, func(f family) bool { return f.name == name })
		if i < 0 {
			i = len(list)
			list = append(list, family{name: name})
		}
		list[i].cmdlets = append(list[i].cmdlets, c)
	}
	return list
}

// familyOf is the noun of a cmdlet; one that has no words belongs to its noun's
// others.
func familyOf(c *cmdlet.Cmdlet) string {
	if noun, _, ok := strings.Cut(c.Words, " "); ok {
		return noun
	}
	for _, other := range cmdlet.Table() {
		if noun, _, ok := strings.Cut(other.Words, " "); ok && other.Noun() == c.Noun() {
			return noun
		}
	}
	panic("gen: " + c.Name + " belongs to no noun: give it Words in the table")
}
