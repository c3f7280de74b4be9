package house_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"strings"
	"testing"
)

// bareGo returns the positions of go statements.
func bareGo(f *ast.File) (at []token.Pos) {
	ast.Inspect(f, func(n ast.Node) bool {
		if g, ok := n.(*ast.GoStmt); ok {
			at = append(at, g.Pos())
		}
		return true
	})
	return at
}

// Every goroutine has an owner: it is started by a task.Group. Tests are free.
func TestNoBareGoroutine(t *testing.T) {
	set, files := sources(t)
	for _, f := range files {
		if strings.HasPrefix(f.path, "internal/task/") {
			continue
		}
		for _, at := range bareGo(f.File) {
			t.Errorf("%s: a goroutine without an owner; start it with a task.Group", set.Position(at))
		}
	}
}

// undocumented returns the exported names of a file that have no comment.
func undocumented(f *ast.File) (at []token.Pos, names []string) {
	miss := func(pos token.Pos, name string) { at, names = append(at, pos), append(names, name) }
	for _, d := range f.Decls {
		switch d := d.(type) {
		case *ast.FuncDecl:
			if d.Name.IsExported() && d.Doc == nil && (d.Recv == nil || ast.IsExported(receiver(d))) && !wellKnown(d) {
				miss(d.Pos(), d.Name.Name)
			}
		case *ast.GenDecl:
			for _, s := range d.Specs {
				switch s := s.(type) {
				case *ast.TypeSpec:
					if s.Name.IsExported() && s.Doc == nil && d.Doc == nil && s.Comment == nil {
						miss(s.Pos(), s.Name.Name)
					}
				case *ast.ValueSpec:
					for _, n := range s.Names {
						if n.IsExported() && s.Doc == nil && d.Doc == nil && s.Comment == nil && n.Name != "_" {
							miss(n.Pos(), n.Name)
						}
					}
				}
			}
		}
	}
	return at, names
}

func receiver(d *ast.FuncDecl) string {
	typ := d.Recv.List[0].Type
	for {
		switch x := typ.(type) {
		case *ast.StarExpr:
			typ = x.X
		case *ast.IndexExpr:
			typ = x.X
		case *ast.IndexListExpr:
			typ = x.X
		case *ast.Ident:
			return x.Name
		default:
			return ""
		}
	}
}

// wellKnown methods mean what they mean everywhere.
func wellKnown(d *ast.FuncDecl) bool {
	if d.Recv == nil {
		return false
	}
	switch d.Name.Name {
	case "Error", "String", "Unwrap", "Is", "MarshalJSON", "UnmarshalJSON", "Len", "Less", "Swap":
		return true
	}
	return false
}

// Every exported name says what it means.
func TestDocComments(t *testing.T) {
	set, files := sources(t)
	for _, f := range files {
		if f.Name.Name == "main" {
			continue
		}
		at, names := undocumented(f.File)
		for i := range at {
			t.Errorf("%s: %s is exported and has no comment", set.Position(at[i]), names[i])
		}
	}
}

// The tests themselves find what they are for.
func TestCodeChecksFindBreaks(t *testing.T) {
	const text = `package p
func F() { go func() {}() }
type T struct{}
const C = 1
func (t *T) M() {}
func (t *T) Error() string { return "" }
// D is documented.
func D() {}
func (h hidden) X() {}
`
	f, err := parser.ParseFile(token.NewFileSet(), "p.go", text, parser.ParseComments)
	if err != nil {
		t.Fatal(err)
	}
	if n := len(bareGo(f)); n != 1 {
		t.Errorf("%d go statements found, want 1", n)
	}
	if _, names := undocumented(f); strings.Join(names, " ") != "F T C M" {
		t.Errorf("undocumented: %q", names)
	}
}
