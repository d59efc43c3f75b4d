// Package mutation changes comparisons and conditions of package supervisor, one at a time, and looks whether a test notices:
//
//	go test ./supervisor/mutation -v -timeout 0 -mutate decide.go,restart.go
//
// Each mutant is compiled through an overlay, so the working tree is never touched. A mutant that no quick test of package supervisor notices is played
// against Erlang/OTP (package otpdiff), if that is installed, and fails the run if it survives that too. Those that change nothing that anybody could notice are
// listed, with the reason, in equivalent.txt. Without -mutate the tests are those of the mutator.
package mutation

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"strings"
)

// Mutant is a source file with one place changed.
type Mutant struct {
	Line, Column int
	// From and To are what was there, and what is there now.
	From, To string
	Source   []byte
}

func (m Mutant) String() string {
	return fmt.Sprintf("%d:%d %s → %s", m.Line, m.Column, m.From, m.To)
}

// replacements of each operator: its negation, and its boundary moved.
var replacements = map[token.Token][]token.Token{
	token.EQL:  {token.NEQ},
	token.NEQ:  {token.EQL},
	token.LSS:  {token.LEQ, token.GEQ},
	token.LEQ:  {token.LSS, token.GTR},
	token.GTR:  {token.GEQ, token.LEQ},
	token.GEQ:  {token.GTR, token.LSS},
	token.LAND: {token.LOR},
	token.LOR:  {token.LAND},
}

// Mutants are all mutants of a Go file, in the order of the source: of each comparison and logical operator those of replacements, of each negation its operand,
// and of each condition (of an if, a for, or a case without a tag) that has no operator, its negation.
func Mutants(name string, source []byte) ([]Mutant, error) {
	fset := token.NewFileSet()
	file, err := parser.ParseFile(fset, name, source, parser.SkipObjectResolution)
	if err != nil {
		return nil, err
	}
	var out []Mutant
	change := func(from, to token.Pos, with string) {
		at, end := fset.Position(from), fset.Position(to)
		was := string(source[at.Offset:end.Offset])
		out = append(out, Mutant{Line: at.Line, Column: at.Column, From: was, To: with, Source: []byte(string(source[:at.Offset]) + with + string(source[end.Offset:]))})
	}
	condition := func(e ast.Expr) {
		switch e.(type) {
		case *ast.Ident, *ast.SelectorExpr, *ast.CallExpr:
			text := string(source[fset.Position(e.Pos()).Offset:fset.Position(e.End()).Offset])
			if !strings.Contains(text, "\n") {
				change(e.Pos(), e.End(), "!"+text)
			}
		}
	}
	ast.Inspect(file, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.BinaryExpr:
			for _, to := range replacements[n.Op] {
				change(n.OpPos, n.OpPos+token.Pos(len(n.Op.String())), to.String())
			}
			if n.Op == token.LAND || n.Op == token.LOR {
				condition(n.X)
				condition(n.Y)
			}
		case *ast.UnaryExpr:
			if n.Op == token.NOT {
				change(n.OpPos, n.OpPos+1, "")
			}
		case *ast.IfStmt:
			condition(n.Cond)
		case *ast.ForStmt:
			if n.Cond != nil {
				condition(n.Cond)
			}
		case *ast.SwitchStmt:
			if n.Tag != nil {
				return true
			}
			for _, c := range n.Body.List {
				for _, e := range c.(*ast.CaseClause).List {
					condition(e)
				}
			}
		}
		return true
	})
	return out, nil
}
