package arch

import (
	"go/ast"
	"go/token"
	"strings"
	"unicode/utf8"
)

// MaxComment and MaxCode are the widest lines that the repository allows, in columns.
const (
	MaxComment = 100
	MaxCode    = 120
)

// tabColumns is the width of a tab.
const tabColumns = 4

// Kind says what a line holds.
type Kind int

// A line that holds code and a comment is code. Help texts in raw strings are code.
const (
	Blank Kind = iota
	Comment
	Code
)

// Line is one line of a Go file.
type Line struct {
	Kind       Kind
	Width      int  // in columns
	InFunction bool // between the braces of a top-level function
	Raw        int  // how many of these columns belong to a raw string
	Output     bool // the output of an example, which go test compares as it is
}

// TooWide reports whether the line is wider than a line of its kind may be.
func (l Line) TooWide() bool {
	return l.Kind == Comment && l.Width > MaxComment || l.Kind == Code && l.Width > MaxCode
}

// Lines returns the lines of a file. The file must have been parsed from text, with comments.
func Lines(fset *token.FileSet, file *ast.File, text string) []Line {
	tokens := fset.File(file.Pos())
	code := []byte(text) // text without its comments
	at := func(p token.Pos) int { return tokens.PositionFor(p, false).Line - 1 }

	for _, group := range file.Comments {
		for _, c := range group.List {
			for i := tokens.Offset(c.Pos()); i < tokens.Offset(c.End()); i++ {
				if code[i] != '\n' {
					code[i] = ' '
				}
			}
		}
	}

	var lines []Line
	texts, codes := strings.Split(strings.TrimSuffix(text, "\n"), "\n"), strings.Split(string(code), "\n")

	for i, l := range texts {
		line := Line{Width: columns(l)}
		if strings.TrimSpace(codes[i]) != "" {
			line.Kind = Code
		} else if strings.TrimSpace(l) != "" {
			line.Kind = Comment
		}
		lines = append(lines, line)
	}

	ast.Inspect(file, func(n ast.Node) bool {
		if lit, ok := n.(*ast.BasicLit); ok && strings.HasPrefix(lit.Value, "`") {
			for i, part := range strings.Split(lit.Value, "\n") {
				lines[at(lit.Pos())+i].Raw += columns(part)
			}
		}
		return true
	})

	for _, d := range file.Decls {
		f, ok := d.(*ast.FuncDecl)
		if !ok || f.Body == nil {
			continue
		}

		first, last := at(f.Body.Lbrace)+1, at(f.Body.Rbrace)
		output := false

		for i := first; i < last; i++ {
			output = output || strings.HasPrefix(f.Name.Name, "Example") && isOutput(texts[i])
			lines[i].InFunction, lines[i].Output = true, output
		}
	}

	return lines
}

// columns returns the width of text.
func columns(text string) int {
	return utf8.RuneCountInString(text) + strings.Count(text, "\t")*(tabColumns-1)
}

// isOutput reports whether a line begins the comment with the expected output of an example.
func isOutput(line string) bool {
	line = strings.ToLower(strings.Join(strings.Fields(line), " "))
	return strings.HasPrefix(line, "// output:") || strings.HasPrefix(line, "// unordered output:")
}
