package arch_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"golang.org/x/mod/modfile"
)

const module = "github.com/coppice-go/coppice"

// file is one Go file of the modules in go.work.
type file struct {
	path      string // from the root, with slashes: "eventlog/log.go"
	dir       string // "eventlog"
	text      string
	ast       *ast.File
	fset      *token.FileSet
	test      bool
	generated bool
	imports   []string
}

// at names a place in the file.
func (f *file) at(p token.Pos) string {
	return f.path + ":" + strconv.Itoa(f.fset.Position(p).Line)
}

func root(t testing.TB) string {
	t.Helper()
	dir, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(dir, "go.mod")); err != nil {
		t.Fatalf("the module's root is not where this test expects it: %v", err)
	}

	return dir
}

// goFiles returns every Go file of the modules in go.work, for every platform and build tag. Other
// modules (bench) keep their own rules.
func goFiles(t testing.TB) []*file {
	t.Helper()
	files, err := readTree()
	if err != nil {
		t.Fatal(err)
	}
	if len(files) < 30 {
		t.Fatalf("%d Go files found: the walk is wrong", len(files))
	}

	return files
}

// workspace returns the folders of the modules in go.work; the root's is ".".
func workspace(top string) ([]string, error) {
	text, err := os.ReadFile(filepath.Join(top, "go.work"))
	if err != nil {
		return nil, err
	}
	work, err := modfile.ParseWork("go.work", text, nil)
	if err != nil {
		return nil, err
	}

	var dirs []string
	for _, u := range work.Use {
		dirs = append(dirs, path.Clean(u.Path))
	}

	return dirs, nil
}

// readTree reads the files once for all tests, which change nothing of them.
var readTree = sync.OnceValues(func() (files []*file, err error) {
	top, err := filepath.Abs("../..")
	if err != nil {
		return nil, err
	}
	modules, err := workspace(top)
	if err != nil {
		return nil, err
	}

	err = filepath.WalkDir(top, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}

		if d.IsDir() {
			if name == top {
				return nil
			}
			rel, err := filepath.Rel(top, name)
			if err != nil {
				return err
			}
			if _, err := os.Stat(filepath.Join(name, "go.mod")); err == nil &&
				!slices.Contains(modules, filepath.ToSlash(rel)) {
				return filepath.SkipDir
			}
			if strings.HasPrefix(d.Name(), ".") || strings.HasPrefix(d.Name(), "_") || d.Name() == "testdata" {
				return filepath.SkipDir
			}
			return nil
		}

		if !strings.HasSuffix(name, ".go") {
			return nil
		}
		f, err := readFile(top, name)
		if err != nil {
			return err
		}

		files = append(files, f)

		return nil
	})

	return files, err
})

func readFile(top, name string) (*file, error) {
	text, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	rel, err := filepath.Rel(top, name)
	if err != nil {
		return nil, err
	}

	f := &file{path: filepath.ToSlash(rel), text: string(text), fset: token.NewFileSet()}
	f.dir = path.Dir(f.path)
	f.test = strings.HasSuffix(f.path, "_test.go")
	f.ast, err = parser.ParseFile(f.fset, f.path, text, parser.ParseComments|parser.SkipObjectResolution)
	if err != nil {
		return nil, err
	}

	f.generated = ast.IsGenerated(f.ast)

	for _, i := range f.ast.Imports {
		p, err := strconv.Unquote(i.Path.Value)
		if err != nil {
			return nil, err
		}
		f.imports = append(f.imports, p)
	}

	return f, nil
}

// within tells whether p is dir or lies below it.
func within(p, dir string) bool { return p == dir || strings.HasPrefix(p, dir+"/") }

func withinAny(p string, dirs []string) bool {
	for _, d := range dirs {
		if within(p, d) {
			return true
		}
	}
	return false
}
