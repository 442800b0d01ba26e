package main

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/opencmg/opencmg/adminservice/cmdlet"
)

// TestNextCommands takes every command line that the site tells administrators
// to run next out of its source, and holds it to the commands that there are.
func TestNextCommands(t *testing.T) {
	files, err := filepath.Glob("../../site/*.go")
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		f, err := parser.ParseFile(token.NewFileSet(), name, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(f, func(node ast.Node) bool {
			e, ok := node.(ast.Expr)
			if !ok {
				return true
			}
			line := literal(e)
			if !strings.HasPrefix(line, "opencmg ") {
				return true
			}
			n++
			if err := runnable(line); err != nil {
				t.Errorf("%s: %s\n%v", filepath.Base(name), line, err)
			}
			return false
		})
	}
	if n < 30 {
		t.Errorf("only %d command lines were found", n)
	}
}

// literal is the text of a sum of texts, with X for what is not written there.
func literal(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.BasicLit:
		if s, err := strconv.Unquote(e.Value); e.Kind == token.STRING && err == nil {
			return s
		}
	case *ast.BinaryExpr:
		if e.Op == token.ADD {
			return literal(e.X) + literal(e.Y)
		}
	}
	return "X"
}

// runnable reports why a command line would be refused before anything is asked.
func runnable(line string) error {
	words := strings.Fields(strings.ReplaceAll(line, "'", ""))[1:]
	c := cmdlet.Find(words[0])
	if c == nil {
		_, _, err := findCommand(words)
		return err
	}
	args, err := c.ParseArguments(words[1:])
	if err == nil {
		// Values that stand for something are of no type, and secrets are asked for.
		for i := range args {
			if p := c.Parameter("-" + args[i].Name); p != nil && p.Type == "DateTime" {
				args[i].Value = "2027-03-31"
			}
		}
		_, err = c.Bind(args, cmdlet.BindOptions{Ask: func(p *cmdlet.Parameter) (any, error) { return "x", nil }})
	}
	return err
}
