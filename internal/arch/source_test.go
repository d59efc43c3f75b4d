package arch_test

import (
	"go/ast"
	"go/format"
	"path"
	"regexp"
	"strings"
	"testing"

	"github.com/coppice-go/coppice/internal/arch"
)

// maxLines is when a file is asked whether it is still one thing.
const maxLines = 600

func TestFilesAreShort(t *testing.T) {
	for _, f := range goFiles(t) {
		if n := strings.Count(f.text, "\n"); n > maxLines && !f.generated {
			t.Errorf("%s has %d lines, want at most %d: a file is one thing that can be read at a sitting", f.path,
				n, maxLines)
		}
	}
}

// maxFiles is when a package is asked whether it is still one thing.
const maxFiles = 30

// manyFiles are the packages that may have more, each with its reason.
var manyFiles = map[string]string{
	"cmd/coppice/command": "each command is a file of its own, named as its path: the files are its table of contents",
}

func TestPackagesAreSmall(t *testing.T) {
	n := map[string]int{}
	for _, f := range goFiles(t) {
		if !f.test && !f.generated {
			n[f.dir]++
		}
	}

	for dir, n := range n {
		if n > maxFiles && manyFiles[dir] == "" {
			t.Errorf("%s has %d files, want at most %d: divide it by subject", dir, n, maxFiles)
		}
	}
}

// A line is read beside another window, and in a terminal. A test may keep the words of a program
// as they are: in a raw string, or as the output of an example.
func TestLinesAreNarrow(t *testing.T) {
	for _, f := range goFiles(t) {
		if f.generated {
			continue
		}

		for i, l := range arch.Lines(f.fset, f.ast, f.text) {
			if f.test {
				l.Width -= l.Raw
			}
			if !l.TooWide() || l.Output {
				continue
			}
			t.Errorf("%s:%d has %d columns, want at most %d for comments and %d for code (a tab is 4): break it",
				f.path, i+1, l.Width, arch.MaxComment, arch.MaxCode)
		}
	}
}

func TestFilesAreFormatted(t *testing.T) {
	for _, f := range goFiles(t) {
		formatted, err := format.Source([]byte(f.text))
		if err != nil {
			t.Errorf("%s: %v", f.path, err)
		} else if string(formatted) != f.text {
			t.Errorf("%s is not as gofmt writes it: run gofmt -w on it", f.path)
		}
	}
}

func TestGeneratedCodeIsInProto(t *testing.T) {
	for _, f := range goFiles(t) {
		if f.generated && !within(f.dir, "proto") {
			t.Errorf("%s is generated: such code lies in proto, beside what it was generated from", f.path)
		}
	}
}

// An import that acts cannot be tested, ordered or left out. early acts before a library that does
// so (ADR 0195).
func TestNoInit(t *testing.T) {
	for _, f := range goFiles(t) {
		if f.generated || f.path == "cmd/coppice/internal/top/early/early.go" {
			continue
		}
		for _, d := range f.ast.Decls {
			if fn, ok := d.(*ast.FuncDecl); ok && fn.Recv == nil && fn.Name.Name == "init" {
				t.Errorf("%s: init() acts on import; do it where it can be called and tested", f.at(fn.Pos()))
			}
		}
	}
}

// called finds uses of pkg.name in f, under whatever name pkg is imported.
func called(f *file, pkg, name string, found func(at string)) {
	local := ""
	for _, i := range f.ast.Imports {
		if i.Path.Value == `"`+pkg+`"` {
			local = path.Base(pkg)
			if i.Name != nil {
				local = i.Name.Name
			}
		}
	}

	if local == "" {
		return
	}

	ast.Inspect(f.ast, func(n ast.Node) bool {
		if s, ok := n.(*ast.SelectorExpr); ok && s.Sel.Name == name {
			if x, ok := s.X.(*ast.Ident); ok && x.Name == local {
				found(f.at(s.Pos()))
			}
		}
		return true
	})
}

// A test that sleeps is slow on a fast machine and wrong on a slow one. Wait for the event, or use
// testing/synctest.
func TestNoSleepInTests(t *testing.T) {
	for _, f := range goFiles(t) {
		if !f.test {
			continue
		}
		called(f, "time", "Sleep", func(at string) {
			t.Errorf("%s: a test sleeps; assert on events, or let testing/synctest drive the time", at)
		})
	}
}

// exits are the places that may end the process; everybody else returns an error to somebody who
// can say why. The node does where the state's files are held by something that failed for good and
// cannot be stopped in order; WatchParent is for the main function of a child process, and says so.
var exits = []string{"cmd", "examples", "internal/arch/measure", "internal/benchtable", "internal/releasecheck",
	"node/node.go", "supervisor/process/watch.go"}

func TestOnlyCommandsExit(t *testing.T) {
	for _, f := range goFiles(t) {
		if f.test || withinAny(f.path, exits) {
			continue
		}
		for _, fn := range [][2]string{{"os", "Exit"}, {"log", "Fatal"}, {"log", "Fatalf"}, {"log", "Fatalln"},
			{"syscall", "Exit"}} {
			called(f, fn[0], fn[1], func(at string) {
				t.Errorf("%s: %s.%s ends the process of whoever embeds this; return an error", at, fn[0], fn[1])
			})
		}
	}
}

// unfinished are the words that say a thing is not done. They are put together here so that this
// file does not hold them.
var unfinished = regexp.MustCompile(`(?i)\b(` + strings.Join([]string{
	"TO" + "DO", "FIX" + "ME", "HA" + "CK", "place" + "holder", "st" + "ub", "for" + " now", "not" + " implemented",
	"un" + "implemented yet",
}, "|") + `)\b`)

func TestNoUnfinishedWords(t *testing.T) {
	for _, f := range goFiles(t) {
		if f.generated {
			continue
		}
		for i, line := range strings.Split(f.text, "\n") {
			if w := unfinished.FindString(line); w != "" {
				t.Errorf("%s:%d: %q: finish it, or open an issue and say what is missing in the documentation",
					f.path, i+1, w)
			}
		}
	}
}

// Names that say where a thing was put and not what it is gather everything.
func TestPackageNamesSaySomething(t *testing.T) {
	empty := regexp.MustCompile(`^(utils?|common|helpers?|misc|shared|base|lib)$`)
	for _, f := range goFiles(t) {
		if empty.MatchString(path.Base(f.dir)) {
			t.Errorf("%s: the package's name says nothing", f.path)
		}
	}
}

// Every package says in its doc comment what it is.
func TestPackagesAreDocumented(t *testing.T) {
	doc := map[string]bool{}
	for _, f := range goFiles(t) {
		if f.test || f.generated {
			continue
		}
		doc[f.dir] = doc[f.dir] || f.ast.Doc != nil && strings.TrimSpace(f.ast.Doc.Text()) != ""
	}

	for dir, ok := range doc {
		if !ok {
			t.Errorf("%s has no package comment", dir)
		}
	}
}

// The context of a test has ended when its cleanups run: what one gives it to returns at once, and
// the test's directory is removed under a process that still stops.
func TestCleanupsDoNotUseTheTestsContext(t *testing.T) {
	for _, f := range goFiles(t) {
		if !f.test {
			continue
		}
		ast.Inspect(f.ast, func(n ast.Node) bool {
			call, ok := n.(*ast.CallExpr)
			if !ok || selected(call) != "Cleanup" {
				return true
			}
			for _, arg := range call.Args {
				ast.Inspect(arg, func(n ast.Node) bool {
					if c, ok := n.(*ast.CallExpr); ok && selected(c) == "Context" && len(c.Args) == 0 {
						t.Errorf("%s: a cleanup uses the context of its test, which has ended by then", f.at(c.Pos()))
					}
					return true
				})
			}
			return true
		})
	}
}

// selected is the name of the method or function after the dot that call calls, if it calls one.
func selected(call *ast.CallExpr) string {
	if s, ok := call.Fun.(*ast.SelectorExpr); ok {
		return s.Sel.Name
	}
	return ""
}

// CometBFT's own functions panic at a genesis whose keys are missing or short.
func TestAGenesisOfCometBFTIsParsedInOnePlace(t *testing.T) {
	for _, f := range goFiles(t) {
		if f.test || f.path == "engines/consensus/comet/home/genesis.go" {
			continue
		}
		for _, name := range []string{"GenesisDocFromJSON", "GenesisDocFromFile"} {
			called(f, "github.com/cometbft/cometbft/types", name, func(at string) {
				t.Errorf("%s: types.%s: call comethome.ParseGenesis or comethome.ReadGenesisDoc", at, name)
			})
		}
	}
}
