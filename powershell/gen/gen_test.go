package main

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"errors"
	"flag"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/opencmg/opencmg/adminservice/cmdlet"
)

const root = "../.."

var update = flag.Bool("update", false, "write the generated files")

// TestUpToDate holds the files to the table.
func TestUpToDate(t *testing.T) {
	if *update {
		if err := write(root); err != nil {
			t.Fatal(err)
		}
	}
	made := files()
	for name, want := range made {
		got, err := os.ReadFile(filepath.Join(root, filepath.FromSlash(name)))
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s is not what the table says (%v): go generate ./adminservice/cmdlet", name, err)
		}
	}
	stale, err := leftovers(root, made)
	if err != nil || len(stale) > 0 {
		t.Errorf("%v are no longer made (%v): go generate ./adminservice/cmdlet", stale, err)
	}
}

// TestDeterministic: the same table makes the same files.
func TestDeterministic(t *testing.T) {
	a, b := files(), files()
	for name := range a {
		if !bytes.Equal(a[name], b[name]) {
			t.Errorf("%s differs from one time to the next", name)
		}
	}
}

// TestEncoding: Windows PowerShell reads files without a byte order mark in the
// system's code page, so nothing but ASCII is safe.
func TestEncoding(t *testing.T) {
	n := 0
	err := filepath.WalkDir(filepath.Join(root, "powershell", "OpenCMG"), func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		if i := bytes.IndexFunc(b, func(r rune) bool { return r > '~' || r < ' ' && r != '\n' }); i >= 0 {
			t.Errorf("%s has a character that is not printable ASCII, on line %d", path, 1+bytes.Count(b[:i], []byte("\n")))
		}
		n++
		return err
	})
	if err != nil || n < 10 {
		t.Fatalf("%d files: %v", n, err)
	}
}

// TestViews: the views are well-formed, and every class has its columns.
func TestViews(t *testing.T) {
	var doc struct {
		Views []struct {
			Name    string   `xml:"Name"`
			Type    string   `xml:"ViewSelectedBy>TypeName"`
			Headers []string `xml:"TableControl>TableHeaders>TableColumnHeader>Label"`
			Items   []struct {
				Property string `xml:"PropertyName"`
				Script   string `xml:"ScriptBlock"`
			} `xml:"TableControl>TableRowEntries>TableRowEntry>TableColumnItems>TableColumnItem"`
		} `xml:"ViewDefinitions>View"`
	}
	d := xml.NewDecoder(strings.NewReader(views()))
	d.Strict = true
	if err := d.Decode(&doc); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) && err != nil {
		t.Fatal(err)
	}
	var classes []string
	for _, v := range doc.Views {
		class := strings.TrimPrefix(v.Type, "OpenCMG.")
		classes = append(classes, class)
		if !slices.Equal(v.Headers, cmdlet.Columns(class)) || len(v.Items) != len(v.Headers) {
			t.Errorf("%s: headers %v, %d items", class, v.Headers, len(v.Items))
		}
		for i, item := range v.Items {
			if (item.Property == "") == (item.Script == "") || item.Property != "" && item.Property != v.Headers[i] {
				t.Errorf("%s: column %s shows %+v", class, v.Headers[i], item)
			}
		}
	}
	if !slices.Equal(classes, cmdlet.TableClasses()) {
		t.Errorf("views of %v", classes)
	}
	for _, c := range cmdlet.Table() {
		if c.Class == "SMS_AzureService" && cell(c.Class, "State") == "<PropertyName>State</PropertyName>" {
			t.Error("a gateway's state is a number")
		}
	}
}

// TestManifest: what is exported is there, and the other way round.
func TestManifest(t *testing.T) {
	text := manifest()
	list := func(key string) []string {
		_, rest, ok := strings.Cut(text, key+" = @(")
		if !ok {
			t.Fatalf("the manifest has no %s", key)
		}
		items, _, _ := strings.Cut(rest, ")")
		var all []string
		for _, m := range regexp.MustCompile(`'([^']+)'`).FindAllStringSubmatch(items, -1) {
			all = append(all, m[1])
		}
		return all
	}
	functions := regexp.MustCompile(`(?m)^function ([A-Z][A-Za-z]+-[A-Za-z]+) \{$`)
	var there []string
	for _, pattern := range []string{"*.ps1", "Cmdlets/*.ps1"} {
		names, err := filepath.Glob(filepath.Join(root, "powershell", "OpenCMG", filepath.FromSlash(pattern)))
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range names {
			b, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			for _, m := range functions.FindAllStringSubmatch(string(b), -1) {
				if !strings.Contains(m[1], "-OpenCMG") || slices.Contains(byHand, m[1]) {
					there = append(there, m[1])
				}
			}
		}
	}
	slices.Sort(there)
	if exported := list("FunctionsToExport"); !slices.Equal(exported, there) {
		t.Errorf("exported %v, there are %v", exported, there)
	}
	for _, name := range list("FileList") {
		if _, err := os.Stat(filepath.Join(root, "powershell", "OpenCMG", filepath.FromSlash(name))); err != nil {
			t.Error(err)
		}
	}
	for _, want := range []string{"PowerShellVersion = '5.1'", "CompatiblePSEditions = @('Desktop', 'Core')", "GUID = '6b0f4c1e-57d2-4f0a-9d3b-2a8e71c4d905'", "CmdletsToExport = @()"} {
		if !strings.Contains(text, want) {
			t.Errorf("the manifest lacks %s", want)
		}
	}
}

// TestAbsent: every documented cmdlet is in the table, or it is said why not.
func TestAbsent(t *testing.T) {
	b, err := os.ReadFile(filepath.Join(root, "adminservice", "cmdlet", "testdata", "cmdlets.json"))
	if err != nil {
		t.Fatal(err)
	}
	var documented []struct{ Name string }
	if err := json.Unmarshal(b, &documented); err != nil {
		t.Fatal(err)
	}
	explained := map[string]bool{}
	for _, a := range absent {
		for name := range strings.SplitSeq(a.name, ", ") {
			explained[name] = true
		}
	}
	for _, d := range documented {
		if (cmdlet.Find(d.Name) == nil) != explained[d.Name] {
			t.Errorf("%s: in the table %v, said to be absent %v", d.Name, cmdlet.Find(d.Name) != nil, explained[d.Name])
		}
		delete(explained, d.Name)
	}
	for name := range explained {
		t.Errorf("%s is said to be absent, and is not documented", name)
	}
	for name := range cmdletNotes {
		if cmdlet.Find(name) == nil {
			t.Errorf("there are notes on %s, which is not in the table", name)
		}
	}
}
