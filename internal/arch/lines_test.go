package arch_test

import (
	"go/parser"
	"go/token"
	"strings"
	"testing"

	"github.com/coppice-go/coppice/internal/arch"
)

func TestLinesOfAFile(t *testing.T) {
	text := strings.ReplaceAll(`package p

// É is a comment.
func É() int {
	s := 'raw

string' // code

	return len(s) /* code */
}

func Example() {
	// a comment

	// Output:
	// the output
}
`, "'", "`")
	want := strings.Fields(`code blank comment code func:code:raw func:blank func:code:raw func:blank func:code code
		blank code func:comment func:blank func:comment:output func:comment:output code`)

	fset := token.NewFileSet()
	f, err := parser.ParseFile(fset, "p.go", text, parser.ParseComments)
	if err != nil {
		t.Fatal(err)
	}

	lines := arch.Lines(fset, f, text)
	if len(lines) != len(want) {
		t.Fatalf("%d lines, want %d", len(lines), len(want))
	}

	for i, l := range lines {
		got := [...]string{"blank", "comment", "code"}[l.Kind]
		if l.InFunction {
			got = "func:" + got
		}
		if l.Raw > 0 {
			got += ":raw"
		}
		if l.Output {
			got += ":output"
		}
		if got != want[i] {
			t.Errorf("line %d is %s, want %s", i+1, got, want[i])
		}
	}

	if lines[4].Raw != len("'raw") || lines[6].Raw != len("string'") {
		t.Errorf("%d and %d columns are raw", lines[4].Raw, lines[6].Raw)
	}

	if lines[2].Width != len("// E is a comment.") || lines[8].Width != 4+len("return len(s) /* code */") {
		t.Errorf("widths %d and %d: a rune is one column, a tab four", lines[2].Width, lines[8].Width)
	}
}

func TestTooWide(t *testing.T) {
	for _, c := range []struct {
		line arch.Line
		want bool
	}{
		{arch.Line{Kind: arch.Comment, Width: 100}, false},
		{arch.Line{Kind: arch.Comment, Width: 101}, true},
		{arch.Line{Kind: arch.Code, Width: 120}, false},
		{arch.Line{Kind: arch.Code, Width: 121}, true},
	} {
		if got := c.line.TooWide(); got != c.want {
			t.Errorf("%+v: too wide is %v", c.line, got)
		}
	}
}
