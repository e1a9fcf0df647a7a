package internal_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// unguarded are directories whose goroutines may end the process as they like: what serves
// tests, the demo's backend, and the log, which has nobody to tell.
var unguarded = []string{"demo", "gatewaytest", "broker/brokertest", "logging", "guard"}

// harmless are calls that cannot panic, for functions that do nothing else.
var harmless = []string{"cancel", "giveUp", "SetDeadline"}

// TestGoroutinesAreGuarded: whatever runs as a goroutine of its own hands its panics over,
// by guard.Recover or guard.Run.
func TestGoroutinesAreGuarded(t *testing.T) {
	packages := map[string][]*ast.File{}
	positions := token.NewFileSet()
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return err
		}
		f, err := parser.ParseFile(positions, path, nil, 0)
		packages[filepath.ToSlash(filepath.Dir(path))] = append(packages[filepath.ToSlash(filepath.Dir(path))], f)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	checked := 0
	for dir, files := range packages {
		if slices.Contains(unguarded, dir) {
			continue
		}
		bodies := map[string][]*ast.BlockStmt{} // of functions and methods, by name
		for _, f := range files {
			for _, d := range f.Decls {
				if f, ok := d.(*ast.FuncDecl); ok && f.Body != nil {
					bodies[f.Name.Name] = append(bodies[f.Name.Name], f.Body)
				}
			}
		}
		for _, f := range files {
			ast.Inspect(f, func(n ast.Node) bool {
				started := startedBy(n)
				if started == nil {
					return true
				}
				checked++
				if !isGuarded(started, bodies) {
					t.Errorf("%s: a goroutine without guard.Recover", positions.Position(n.Pos()))
				}
				return true
			})
		}
	}
	if checked < 20 {
		t.Errorf("only %d goroutines found", checked)
	}
}

// startedBy returns the function that a node starts as a goroutine; nil: none.
func startedBy(n ast.Node) ast.Expr {
	switch n := n.(type) {
	case *ast.GoStmt:
		return n.Call.Fun
	case *ast.CallExpr:
		if name := nameOf(n.Fun); (name == "Go" || name == "AfterFunc") && len(n.Args) > 0 {
			return n.Args[len(n.Args)-1]
		}
	}
	return nil
}

func nameOf(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.Ident:
		return e.Name
	case *ast.SelectorExpr:
		return e.Sel.Name
	}
	return ""
}

func isGuarded(started ast.Expr, bodies map[string][]*ast.BlockStmt) bool {
	literal, ok := started.(*ast.FuncLit)
	if !ok {
		name := nameOf(started)
		return slices.Contains(harmless, name) || len(bodies[name]) > 0 && slices.ContainsFunc(bodies[name], callsGuard)
	}
	return callsGuard(literal.Body) || isHarmless(literal.Body)
}

func callsGuard(body *ast.BlockStmt) (found bool) {
	ast.Inspect(body, func(n ast.Node) bool {
		if s, ok := n.(*ast.SelectorExpr); ok && nameOf(s.X) == "guard" && (s.Sel.Name == "Recover" || s.Sel.Name == "Run") {
			found = true
		}
		return !found
	})
	return found
}

func isHarmless(body *ast.BlockStmt) bool {
	if len(body.List) != 1 {
		return false
	}
	var called ast.Expr
	switch s := body.List[0].(type) {
	case *ast.ExprStmt:
		called = s.X
	case *ast.AssignStmt:
		called = s.Rhs[0]
	}
	call, ok := called.(*ast.CallExpr)
	return ok && slices.Contains(harmless, nameOf(call.Fun))
}
