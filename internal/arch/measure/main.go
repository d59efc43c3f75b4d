// Command measure prints how large the packages of a checkout are and how airy its code is, so that
// anyone can compare two states of the repository:
//
//	go run ./internal/arch/measure [DIR]
//
// Generated files do not count. A line of code holds something other than a comment. A tab is four
// columns wide.
package main

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/coppice-go/coppice/internal/arch"
)

func main() {
	dir := "."
	if len(os.Args) > 1 {
		dir = os.Args[1]
	}

	if err := measure(os.Stdout, dir); err != nil {
		fmt.Fprintln(os.Stderr, "measure:", err)
		os.Exit(1)
	}
}

// figures are the counts for some files.
type figures struct {
	files, names, code int
	inside, blank      int // lines inside functions, and the blank ones of them

	wideComments, wideCode int   // lines that are too wide
	comments               []int // their widths
}

// add counts a file.
func (f *figures) add(file *ast.File, lines []arch.Line) {
	f.files++
	f.names += names(file)

	for _, l := range lines {
		switch l.Kind {
		case arch.Comment:
			f.comments = append(f.comments, l.Width)
			f.wideComments += count(l.TooWide())
		case arch.Code:
			f.code++
			f.wideCode += count(l.TooWide())
		}

		if l.InFunction {
			f.inside++
			f.blank += count(l.Kind == arch.Blank)
		}
	}
}

// count returns 1 if b holds, and 0 otherwise.
func count(b bool) int {
	if b {
		return 1
	}
	return 0
}

// names returns the number of names that a file declares at the level of its package. Methods are
// not among them.
func names(file *ast.File) (n int) {
	for _, d := range file.Decls {
		switch d := d.(type) {
		case *ast.FuncDecl:
			if d.Recv == nil {
				n++
			}
		case *ast.GenDecl:
			for _, s := range d.Specs {
				switch s := s.(type) {
				case *ast.TypeSpec:
					n++
				case *ast.ValueSpec:
					for _, name := range s.Names {
						if name.Name != "_" {
							n++
						}
					}
				}
			}
		}
	}
	return n
}

// measure prints the figures of each package below dir, and of all packages together.
func measure(w io.Writer, dir string) error {
	production, tests := map[string]*figures{}, map[string]*figures{}
	var total, all figures

	err := filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && name != dir && (strings.ContainsAny(d.Name()[:1], "._") || d.Name() == "testdata"):
			return filepath.SkipDir
		case d.IsDir() || !strings.HasSuffix(name, ".go"):
			return nil
		}

		text, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		fset := token.NewFileSet()
		file, err := parser.ParseFile(fset, name, text, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		if ast.IsGenerated(file) {
			return nil
		}

		pkg, err := filepath.Rel(dir, filepath.Dir(name))
		if err != nil {
			return err
		}
		for _, m := range []map[string]*figures{production, tests} {
			if m[pkg] == nil {
				m[pkg] = new(figures)
			}
		}

		lines := arch.Lines(fset, file, string(text))
		all.add(file, lines)

		if strings.HasSuffix(name, "_test.go") {
			tests[pkg].add(file, lines)
			return nil
		}
		production[pkg].add(file, lines)
		total.add(file, lines)

		return nil
	})
	if err != nil {
		return err
	}

	return report(w, production, tests, &total, &all)
}

func report(w io.Writer, production, tests map[string]*figures, total, all *figures) error {
	out := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(out, "package\tfiles\tnames\tcode\ttest files\ttest code")

	for _, pkg := range slices.Sorted(maps.Keys(production)) {
		p, t := production[pkg], tests[pkg]
		fmt.Fprintf(out, "%s\t%d\t%d\t%d\t%d\t%d\n", pkg, p.files, p.names, p.code, t.files, t.code)
	}

	if err := out.Flush(); err != nil { // the columns below have their own widths
		return err
	}

	fmt.Fprintln(out, "\nin total\tproduction\twith tests")
	row := func(what string, of func(*figures) string) {
		fmt.Fprintf(out, "%s\t%s\t%s\n", what, of(total), of(all))
	}
	number := func(what string, of func(*figures) int) {
		row(what, func(f *figures) string { return fmt.Sprint(of(f)) })
	}

	number("files", func(f *figures) int { return f.files })
	number("package-level names", func(f *figures) int { return f.names })
	number("lines of code", func(f *figures) int { return f.code })
	number("lines of comment", func(f *figures) int { return len(f.comments) })
	row("blank lines inside functions", func(f *figures) string {
		return fmt.Sprintf("%.2f %%", 100*float64(f.blank)/float64(max(f.inside, 1)))
	})
	number("comment width, median", func(f *figures) int { return f.quantile(50) })
	number("comment width, p90", func(f *figures) int { return f.quantile(90) })
	number(fmt.Sprintf("comment lines over %d", arch.MaxComment), func(f *figures) int { return f.wideComments })
	number(fmt.Sprintf("code lines over %d", arch.MaxCode), func(f *figures) int { return f.wideCode })

	return out.Flush()
}

// quantile returns the width that percent of the comment lines do not exceed.
func (f *figures) quantile(percent int) int {
	if len(f.comments) == 0 {
		return 0
	}
	widths := slices.Sorted(slices.Values(f.comments))
	return widths[min(len(widths)*percent/100, len(widths)-1)]
}
