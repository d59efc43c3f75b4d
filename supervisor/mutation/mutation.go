// Package mutation changes comparisons of package supervisor, one at a time, and looks whether a test notices:
//
//	go test ./supervisor/mutation -v -timeout 0 -mutate decide.go,restart.go
//
// Each mutant is compiled through an overlay, so the working tree is never touched. A mutant that no quick test of package supervisor notices is played
// against Erlang/OTP (package otpdiff), if that is installed, and fails the run if it survives that too. Without -mutate the tests are those of the mutator.
package mutation

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
)

// Mutant is a source file with one operator replaced.
type Mutant struct {
	Line, Column int
	From, To     token.Token
	Source       []byte
}

func (m Mutant) String() string {
	return fmt.Sprintf("%d:%d %v → %v", m.Line, m.Column, m.From, m.To)
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

// Mutants are all mutants of a Go file, in the order of the source.
func Mutants(name string, source []byte) ([]Mutant, error) {
	fset := token.NewFileSet()
	file, err := parser.ParseFile(fset, name, source, parser.SkipObjectResolution)
	if err != nil {
		return nil, err
	}
	var out []Mutant
	ast.Inspect(file, func(n ast.Node) bool {
		b, ok := n.(*ast.BinaryExpr)
		if !ok {
			return true
		}
		at := fset.Position(b.OpPos)
		for _, to := range replacements[b.Op] {
			text := append([]byte(nil), source[:at.Offset]...)
			text = append(text, to.String()...)
			text = append(text, source[at.Offset+len(b.Op.String()):]...)
			out = append(out, Mutant{Line: at.Line, Column: at.Column, From: b.Op, To: to, Source: text})
		}
		return true
	})
	return out, nil
}
