package arch_test

import (
	"go/ast"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// layers says what each part of the house may import of the house. The arrows go one way: cmd →
// node → engines/* → engines → {pubsub, eventlog, supervisor}. The longest matching folder counts.
var layers = []struct {
	dir    string
	may    []string
	reason string
}{
	{"supervisor", []string{"supervisor"}, "the runtime is embedded by itself"},
	{"eventlog", []string{"eventlog"}, "the log is embedded by itself"},
	{"pubsub", []string{"pubsub", "supervisor"}, "the bus is a supervised tree and knows nothing of what it carries"},
	{"proto", []string{"proto"}, "the contract is for clients in any language"},
	{"client", []string{"client", "proto", "engines", "eventlog"},
		"a client speaks the vocabulary and must not bring the node"},
	{"engines", []string{"engines", "pubsub", "eventlog", "supervisor", "proto", "internal/durable", "internal/flock"},
		"what all engines share lies below all of them; see also TestEnginesNeverImportEngines"},
	{"node", []string{"node", "engines", "pubsub", "eventlog", "supervisor", "proto", "client", "internal"},
		"the node introduces the engines to each other"},
	{"cmd", []string{"cmd", "node", "engines", "client", "pubsub", "eventlog", "supervisor", "proto", "internal"},
		"the command is the top"},
	{"internal/durable", nil, "it knows files and nothing of what they hold"},
	{"internal/flock", nil, "it knows files and nothing of what they lock"},
	{"internal/arch", nil, "rules about the house do not depend on it"},
	{"internal/readme", []string{"supervisor", "node", "client"}, "the README's code is compiled"},
	{"internal/cometclients", []string{"node", "client", "engines", "proto", "supervisor"},
		"other people's clients are tried on a whole node"},
	{"internal/releasecheck", nil, "it builds what is published, and is no part of it"},
	{"examples", []string{"supervisor", "pubsub", "eventlog", "engines", "node", "client", "proto"},
		"an example uses what its reader can use"},
}

func TestLayers(t *testing.T) {
	for _, f := range goFiles(t) {
		best := -1
		for i, l := range layers {
			if within(f.dir, l.dir) && (best < 0 || len(l.dir) > len(layers[best].dir)) {
				best = i
			}
		}

		if best < 0 {
			t.Errorf("%s: no layer is declared for its folder; add one to layers, with its reason", f.path)
			continue
		}

		for _, imp := range f.imports {
			if !within(imp, module) {
				continue
			}
			to := strings.TrimPrefix(strings.TrimPrefix(imp, module), "/")
			if to == f.dir || withinAny(to, layers[best].may) {
				continue
			}

			t.Errorf("%s imports %s; %s may import %v: %s", f.path, to, layers[best].dir, layers[best].may,
				layers[best].reason)
		}
	}
}

// steps are packages whose imports of each other go one way: each may import those before it, and
// tests those of the whole row.
var steps = []struct {
	row    []string
	reason string
}{
	{[]string{"engines/consensus/comet/wire", "engines/consensus/comet/home", "engines/consensus/comet/child",
		"engines/consensus/comet"}, "frames know no files, files no process, and the process no driver"},
}

func TestStepsGoOneWay(t *testing.T) {
	for _, f := range goFiles(t) {
		for _, s := range steps {
			from := slices.Index(s.row, f.dir)
			if from < 0 || f.test {
				continue
			}
			for _, imp := range f.imports {
				if to := slices.Index(s.row, strings.TrimPrefix(imp, module+"/")); to > from {
					t.Errorf("%s imports %s, which comes after it in %v: %s", f.path, imp, s.row, s.reason)
				}
			}
		}
	}
}

// A driver is a plug: the program registers the ones that it ships (ADR 0071). Nor does the node
// know one by name, in its errors and documentation of keys either. nodetest is a program of sorts.
func TestNodeNamesNoDriver(t *testing.T) {
	driver := regexp.MustCompile(`(?i)comet|\bsolo\b`)
	for _, f := range goFiles(t) {
		if !within(f.dir, "node") || within(f.dir, "node/nodetest") || f.test {
			continue
		}

		for _, imp := range f.imports {
			if within(imp, module+"/engines/consensus/solo") || within(imp, module+"/engines/consensus/comet") {
				t.Errorf("%s imports %s: node drives what was registered, and names no driver", f.path, imp)
			}
		}

		ast.Inspect(f.ast, func(n ast.Node) bool {
			text := ""
			switch n := n.(type) {
			case *ast.Ident:
				text = n.Name
			case *ast.BasicLit:
				text = n.Value
			}
			if driver.MatchString(text) {
				t.Errorf("%s names a driver: %s; let its consensus.Kind say it", f.at(n.Pos()), text)
			}
			return true
		})
	}

	brought := dependencies(t, "./node")
	for _, dep := range brought {
		if strings.HasPrefix(dep, "github.com/cometbft/") {
			t.Errorf("importing node brings %s: only those who register the driver pay for it", dep)
		}
	}
}

// dependencies returns the packages that importing a package brings, but those of the standard
// library.
func dependencies(t *testing.T, pkg string) []string {
	t.Helper()
	cmd := exec.Command("go", "list", "-deps", "-f", "{{if not .Standard}}{{.ImportPath}}{{end}}", pkg)
	cmd.Dir = root(t)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("go list -deps %s: %v\n%s", pkg, err, out)
	}
	return strings.Fields(string(out))
}

// libraries are the folders of engines/ that hold no engine, and what each may import there.
var libraries = map[string][]string{
	"chain": nil,
	"tail":  {"chain"},
}

// An engine declares the small interface that it consumes, so that it can be read, tested and
// replaced by itself; node introduces engines to each other. Backends, consensus drivers and the
// like may share what lies in their own folder. Any engine may import a library.
func TestEnginesNeverImportEngines(t *testing.T) {
	engine := func(p string) string { // "engines/consensus/solo" belongs to "consensus"
		rest, ok := strings.CutPrefix(p, "engines/")
		if !ok {
			return ""
		}
		name, _, _ := strings.Cut(rest, "/")
		return name
	}
	for _, f := range goFiles(t) {
		from := engine(f.dir)
		if from == "" {
			continue
		}

		for _, imp := range f.imports {
			to := engine(strings.TrimPrefix(imp, module+"/"))
			if to == "" || to == from || f.test && (to == "backend" || to == "enginestest") {
				continue
			}

			may, isLibrary := libraries[from]
			if _, ok := libraries[to]; ok && (!isLibrary || slices.Contains(may, to)) {
				continue
			}
			t.Errorf("%s imports engine %s: engines never import engines; declare the interface that %s consumes",
				f.path, to, from)
		}
	}
}

// owned are other people's modules that only some folders may import, tests apart where it says so.
var owned = []struct {
	prefix string
	by     []string
	tests  bool // may any test import it
	reason string
}{
	{"github.com/cometbft/", []string{"engines/consensus/comet", "internal/cometclients"}, false,
		"the rest of the node must not care which consensus drives it"},
	{"github.com/cockroachdb/pebble", []string{"engines/storage", "eventlog/pebblefs", "node"}, true,
		"pebble's weight stays out of those who embed the log or the runtime"},
	{"github.com/spf13/", []string{"cmd"}, false, "flags are the command line's"},
	{"connectrpc.com/", []string{"node", "client", "proto", "cmd", "internal/readme"}, true,
		"engines have no transport"},
	{"github.com/prometheus/", []string{"node/metrics"}, true,
		"metrics are told in one place; the rest counts and is read"},
	{"net/http/pprof", nil, false, "it changes the default mux by being imported"},
	{"github.com/stretchr/testify", nil, true, "tests only"},
	{"pgregory.net/rapid", nil, true, "tests only"},
	{"go.uber.org/goleak", nil, true, "tests only"},
	{"github.com/rogpeppe/go-internal", nil, true, "tests only"},
}

func TestOwnedImports(t *testing.T) {
	for _, f := range goFiles(t) {
		for _, imp := range f.imports {
			for _, o := range owned {
				if !strings.HasPrefix(imp, o.prefix) || withinAny(f.dir, o.by) || f.test && o.tests {
					continue
				}
				t.Errorf("%s imports %s, which is for %v: %s", f.path, imp, o.by, o.reason)
			}
		}
	}
}

func TestNothingImportsCommands(t *testing.T) {
	for _, f := range goFiles(t) {
		for _, imp := range f.imports {
			if within(imp, module+"/cmd") && !within(f.dir, "cmd") {
				t.Errorf("%s imports %s: commands are tops, what others need belongs into a package", f.path, imp)
			}
		}
	}
}

// TestWhatEmbeddingBrings follows every import, not only the direct ones: who imports supervisor
// gets suture and nothing else, who imports eventlog gets no other module at all. eventlog/pebblefs
// is for those who have pebble.
func TestWhatEmbeddingBrings(t *testing.T) {
	embedded := []struct {
		dir    string
		brings []string
	}{
		{"eventlog", nil},
		{"supervisor", []string{"github.com/thejerf/suture/v4"}},
		{"supervisor/zapevents", []string{"github.com/thejerf/suture/v4", "go.uber.org/zap", "go.uber.org/multierr"}},
	}
	packages := map[string]bool{}

	for _, f := range goFiles(t) {
		if !f.test && (within(f.dir, "eventlog") || within(f.dir, "supervisor")) && f.dir != "eventlog/pebblefs" {
			packages[f.dir] = true
		}
	}

	for dir := range packages {
		allowed := []string{module + "/" + strings.Split(dir, "/")[0]}
		best := ""

		for _, e := range embedded {
			if within(dir, e.dir) && len(e.dir) > len(best) {
				best, allowed = e.dir, append(allowed[:1], e.brings...)
			}
		}

		for _, dep := range dependencies(t, "./"+dir) {
			if !withinAny(dep, allowed) {
				t.Errorf("importing %s brings %s; it may bring %v", dir, dep, allowed[1:])
			}
		}
	}
}
