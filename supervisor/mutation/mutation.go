// Package mutation changes comparisons and conditions of package supervisor, one at a time, and
// checks whether a test notices:
//
//	go test ./supervisor/mutation -v -timeout 0 -args -mutate decide.go,restart.go
//
// All mutants are compiled at once, through an overlay, so the working tree is never changed. The
// environment variable MUTANT chooses one. A mutant that no test of package supervisor notices is
// played against Erlang/OTP (package otpdiff), if that is installed. If the comparison does not
// notice the mutant either, the run fails. Mutants whose change cannot be noticed are listed in
// equivalent.txt, with the reason. Without -mutate, only the mutator itself is tested.
package mutation

import (
	"bytes"
	"fmt"
	"go/ast"
	"go/parser"
	"go/printer"
	"go/token"
	"slices"
	"strconv"
)

// mutant is one change at one place.
type mutant struct {
	// ID is the value of MUTANT that chooses the mutant.
	ID           int
	File         string
	Line, Column int
	// From is the source at that place, and To what the mutant has instead.
	From, To string
}

func (m mutant) String() string {
	return fmt.Sprintf("%s:%d:%d %s → %s", m.File, m.Line, m.Column, m.From, m.To)
}

// switchSource is added to the package that is mutated. Its function mutant reports whether the
// mutant with this number is the chosen one. %s is the package's name.
const switchSource = `package %s

import (
	"os"
	"strconv"
)

var activeMutant, _ = strconv.Atoi(os.Getenv("MUTANT"))

func mutant(id int) bool { return activeMutant == id }
`

// boundary maps each ordering operator to the one with its boundary moved.
var boundary = map[token.Token]token.Token{token.LSS: token.LEQ, token.LEQ: token.LSS, token.GTR: token.GEQ,
	token.GEQ: token.GTR}

// negated maps each comparison to the one with the opposite result.
var negated = map[token.Token]token.Token{
	token.EQL: token.NEQ, token.NEQ: token.EQL, token.LSS: token.GEQ, token.LEQ: token.GTR, token.GTR: token.LEQ,
	token.GEQ: token.LSS,
}

var logical = map[token.Token]token.Token{token.LAND: token.LOR, token.LOR: token.LAND}

// mutator changes one file.
type mutator struct {
	fset    *token.FileSet
	name    string
	source  []byte
	next    int
	mutants []mutant
}

// mutateFile returns a Go file with all of its mutants in it, numbered from first. A comparison is
// negated, and an ordering also has its boundary moved. "and" and "or" are swapped. A negation is
// removed. A condition without an operator is negated; conditions are those of an if, a for or a
// case of a switch without a tag, and the operands of "and" and "or".
func mutateFile(name string, source []byte, first int) ([]byte, []mutant, error) {
	m := &mutator{fset: token.NewFileSet(), name: name, source: source, next: first}
	file, err := parser.ParseFile(m.fset, name, source, parser.SkipObjectResolution)
	if err != nil {
		return nil, nil, err
	}

	var nodes []ast.Node
	ast.Inspect(file, func(n ast.Node) bool {
		nodes = append(nodes, n)
		return true
	})

	for _, n := range slices.Backward(nodes) { // inner nodes are changed before the nodes around them
		m.node(n)
	}

	var out bytes.Buffer
	if err := printer.Fprint(&out, m.fset, file); err != nil {
		return nil, nil, err
	}

	slices.SortStableFunc(m.mutants, func(a, b mutant) int {
		if a.Line != b.Line {
			return a.Line - b.Line
		}
		return a.Column - b.Column
	})

	return out.Bytes(), m.mutants, nil
}

func (m *mutator) node(n ast.Node) {
	switch n := n.(type) {
	case *ast.BinaryExpr:
		m.binary(n)

	case *ast.UnaryExpr:
		if n.Op == token.NOT {
			n.X = paren(m.flip(n.X, m.add(n.OpPos, "!", "")))
		}

	case *ast.IfStmt:
		m.condition(&n.Cond)

	case *ast.ForStmt:
		m.condition(&n.Cond)

	case *ast.SwitchStmt:
		if n.Tag != nil {
			return
		}
		for _, c := range n.Body.List {
			list := c.(*ast.CaseClause).List
			for i := range list {
				m.condition(&list[i])
			}
		}
	}
}

func (m *mutator) binary(n *ast.BinaryExpr) {
	was, at := *n, n.OpPos
	switch to, from := negated[n.Op], n.Op; {
	case to != 0:
		*n = *m.flip(paren(&was), m.add(at, from.String(), to.String()))
		if wider, ok := boundary[from]; ok {
			// If the operands are equal, the result is the opposite one.
			equal := binary(m.add(at, from.String(), wider.String()), token.LAND,
				paren(binary(was.X, token.EQL, was.Y)))
			before := *n
			*n = *binary(paren(&before), token.NEQ, paren(equal))
		}
	case logical[n.Op] != 0:
		m.condition(&was.X)
		m.condition(&was.Y)
		other := binary(was.X, logical[n.Op], was.Y)
		id := m.add(at, from.String(), logical[n.Op].String())

		if n.Op == token.LAND { // "and" is never true where "or" is false
			*n = *binary(paren(&was), token.LOR, paren(binary(id, token.LAND, paren(other))))
		} else {
			*n = *binary(paren(&was), token.LAND,
				paren(binary(&ast.UnaryExpr{Op: token.NOT, X: id}, token.LOR, paren(other))))
		}
	}
}

// condition adds the negation of a condition that has no operator.
func (m *mutator) condition(e *ast.Expr) {
	switch (*e).(type) {
	case *ast.Ident, *ast.SelectorExpr, *ast.CallExpr:
		if call, ok := (*e).(*ast.CallExpr); ok {
			if f, ok := call.Fun.(*ast.Ident); ok && f.Name == "mutant" {
				return
			}
		}
		from, to := m.fset.Position((*e).Pos()).Offset, m.fset.Position((*e).End()).Offset
		text := string(m.source[from:to])
		*e = paren(m.flip(*e, m.add((*e).Pos(), text, "!"+text)))
	}
}

// flip returns an expression whose result is negated if the mutant is chosen.
func (m *mutator) flip(e ast.Expr, id ast.Expr) *ast.BinaryExpr {
	return binary(paren(e), token.NEQ, id)
}

// add notes a mutant and returns the expression that reports whether it is chosen.
func (m *mutator) add(pos token.Pos, from, to string) ast.Expr {
	at := m.fset.Position(pos)
	m.mutants = append(m.mutants, mutant{ID: m.next, File: m.name, Line: at.Line, Column: at.Column,
		From: from, To: to})
	m.next++
	return &ast.CallExpr{Fun: ast.NewIdent("mutant"),
		Args: []ast.Expr{&ast.BasicLit{Kind: token.INT, Value: strconv.Itoa(m.next - 1)}}}
}

func binary(x ast.Expr, op token.Token, y ast.Expr) *ast.BinaryExpr {
	return &ast.BinaryExpr{X: x, Op: op, Y: y}
}

func paren(e ast.Expr) ast.Expr { return &ast.ParenExpr{X: e} }
