package arch_test

import (
	"fmt"
	"go/ast"
	"path"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// kind is what a folder under engines/ holds.
type kind string

const (
	library kind = "library" // types and functions that others share, with no engine in it
	engine  kind = "engine"  // a supervised child with a mailbox
	driver  kind = "driver"  // a kind of consensus, which a program registers
	sink    kind = "sink"    // a place that streams of events go to, which a program registers
)

// kinds says what a folder of each kind may import of the house, besides what lies in its own
// folder. Under engines/ a name means that one package, elsewhere all packages below it too. A
// library is not in the table: its row in folders lists what it may import.
var kinds = []struct {
	kind   kind
	may    []string
	reason string
}{
	{engine, []string{"engines", "engines/chain", "engines/tail", "pubsub", "eventlog", "supervisor", "proto",
		"internal/durable", "internal/flock", "internal/recordlog", "internal/syserr"},
		"engines never import engines: each declares the small interface that it consumes, so that it can be read, " +
			"tested and replaced by itself, and node connects them"},
	{driver, []string{"engines", "engines/chain", "engines/tail", "engines/consensus", "engines/backend/governance",
		"engines/storage/apphash", "eventlog", "supervisor", "proto", "internal/durable", "internal/flock",
		"internal/recordlog", "internal/syserr"},
		"a driver is handed the node through the interfaces of engines/consensus, so that drivers can be exchanged; " +
			"governance decides on what drivers do, and the app hash of a root is what headers prove"},
	{sink, []string{"engines", "engines/chain", "engines/tail", "engines/streams", "eventlog", "supervisor", "proto",
		"internal/durable", "internal/flock", "internal/syserr"},
		"a sink is handed events through the interfaces of engines/streams, so that sinks can be exchanged"},
}

// folders gives each folder under engines/ its kind. The row of an engine, a driver or a sink
// counts for the folders below it, too; each library has a row of its own.
var folders = []struct {
	dir    string
	kind   kind
	may    []string // of a library
	reason string
}{
	{"engines", library, []string{"eventlog", "supervisor"}, "the runtime knows nothing of what its engines do"},
	{"engines/chain", library, []string{"eventlog", "proto"},
		"the vocabulary is for clients too, who have neither a runtime nor a tree"},
	{"engines/tail", library, []string{"engines", "engines/chain", "eventlog", "pubsub"},
		"a reader needs the log and the bus that wakes it"},
	{"engines/enginestest", library, []string{"engines"}, "a single engine is tested without a router"},
	{"engines/consensus", library, []string{"engines/chain", "supervisor", "proto"},
		"what a driver is names no driver, and needs no runtime"},
	{"engines/backend/kv", library, []string{"engines/chain", "proto"},
		"a backend is code of transactions, and no more"},
	{"engines/backend/kvstore", library, []string{"engines/chain"}, "a backend is code of transactions, and no more"},
	{"engines/backend/governance", library, []string{"engines/chain", "proto"},
		"a backend is code of transactions, and no more"},
	{"engines/backend/backendtest", library, []string{"engines/chain", "proto"}, "backends are tested without a node"},

	{"engines/rounds", library, []string{"engines/chain"},
		"the FSM is pure: it is checked, simulated and replayed without a node"},
	{"engines/rounds/replicated", library, []string{"engines/chain", "engines/rounds"},
		"a backend is code of transactions, and no more"},
	{"engines/rounds/behaviours", library, []string{"engines", "engines/chain", "engines/rounds", "supervisor",
		"proto"},
		"behaviours run in any tree: they are handed the node through one interface"},
	{"engines/rounds/roundstest", library, []string{"engines/rounds"}, "tables are simulated without a node"},
	{"engines/rounds/explore", library, []string{"engines/rounds"}, "tables are searched without a node"},

	{"engines/router", engine, nil, ""},
	{"engines/logger", engine, nil, ""},
	{"engines/mempool", engine, nil, ""},
	{"engines/ordering", engine, nil, ""},
	{"engines/storage", engine, nil, ""},
	{"engines/worker", engine, nil, ""},

	{"engines/streams", engine, nil, ""},
	{"engines/streams/file", sink, nil, ""},
	{"engines/streams/kafka", sink, nil, ""},
	{"engines/streams/nats", sink, nil, ""},
	{"engines/streams/plugin", sink, nil, ""},
	{"engines/streams/postgres", sink, nil, ""},

	{"engines/consensus/solo", driver, nil, ""},
	{"engines/consensus/comet", driver, nil, ""},
}

// folderOf returns the index of the row of folders that counts for a package under engines/, or -1.
func folderOf(dir string) int {
	best := -1
	for i, f := range folders {
		counts := dir == f.dir || within(dir, f.dir) && f.kind != library
		if counts && (best < 0 || len(f.dir) > len(folders[best].dir)) {
			best = i
		}
	}
	return best
}

// allowed returns what the packages of a row of folders may import of the house, and why no more.
func allowed(row int) (may []string, reason string) {
	if folders[row].kind == library {
		return folders[row].may, folders[row].reason
	}
	for _, k := range kinds {
		if k.kind == folders[row].kind {
			return k.may, k.reason
		}
	}
	panic(fmt.Sprintf("%s: kinds has no row for %q", folders[row].dir, folders[row].kind))
}

// isBackend reports whether dir holds a backend, or what tests them. The tests of other folders may
// import it: they want transactions.
func isBackend(dir string) bool { return within(dir, "engines/backend") }

func TestEveryFolderOfEnginesHasAKind(t *testing.T) {
	found := map[string]bool{}
	for _, f := range goFiles(t) {
		if !within(f.dir, "engines") || found[f.dir] {
			continue
		}
		found[f.dir] = true

		if folderOf(f.dir) < 0 {
			t.Errorf("%s has no kind: add {%q, engine, nil, \"\"} to folders in internal/arch/kinds_test.go, or "+
				"driver or sink instead of engine; or, for a library, {%q, library, what it may import, why no more}",
				f.dir, f.dir, f.dir)
		}
	}

	for _, row := range folders {
		if !found[row.dir] {
			t.Errorf("folders in internal/arch/kinds_test.go has a row for %s, which holds no Go file", row.dir)
		}
		if isLibrary := row.kind == library; isLibrary != (row.reason != "") || !isLibrary && row.may != nil {
			t.Errorf("%s: a library has a reason, and may have imports, in folders; other kinds have them in kinds",
				row.dir)
		}
	}
}

func TestKindsImportWhatTheyMay(t *testing.T) {
	for _, f := range goFiles(t) {
		row := -1
		if within(f.dir, "engines") {
			row = folderOf(f.dir)
		}
		if row < 0 {
			continue
		}

		may, reason := allowed(row)
		own := folders[row]

		for _, imp := range f.imports {
			to, ours := strings.CutPrefix(imp, module+"/")
			switch {
			case !ours, to == f.dir, own.kind != library && within(to, own.dir):
			case within(to, "engines") && slices.Contains(may, to), !within(to, "engines") && withinAny(to, may):
			case f.test && (isBackend(to) || mayInTests(f.dir, to)):
			default:
				t.Errorf("%s imports %s; %s is of the kind %s and may import %v: %s",
					f.path, to, own.dir, own.kind, may, reason)
			}
		}
	}
}

// mayInTests reports whether the tests of a package under engines/ may import another package,
// although the package itself may not.
func mayInTests(dir, to string) bool {
	if dir == "engines" && to == "engines/router" {
		return true // addresses are resolved by a real router
	}
	if to == "engines/streams/sinktest" || to == "internal/servers" {
		return true // every sink is tested by the same kit, on a real server
	}
	return to == "engines/enginestest" || within(to, "supervisor") // an engine runs in a tree
}

// plugs are the kinds that node must not name.
var plugs = []struct {
	kind   kind
	reason string
}{
	{driver, "a driver is a plug: the program registers those that it ships (ADR 0071)"},
	{sink, "a sink is a plug: the program registers those that it ships, and only they bring its client library"},
}

// nodetest is a program of sorts, and names the driver that it sets up.
func TestNodeImportsNoPlug(t *testing.T) {
	for _, f := range goFiles(t) {
		if !within(f.dir, "node") || within(f.dir, "node/nodetest") || f.test {
			continue
		}

		for _, imp := range f.imports {
			to := strings.TrimPrefix(imp, module+"/")
			row := folderOf(to)

			for _, p := range plugs {
				if row >= 0 && folders[row].kind == p.kind {
					t.Errorf("%s imports the %s %s: %s", f.path, p.kind, to, p.reason)
				}
			}
		}
	}
}

// The node does not know a driver by name in its errors and in the documentation of its keys
// either. A name is looked for in the middle of others, too, unless it is a common syllable.
func TestNodeNamesNoDriver(t *testing.T) {
	var names []string
	for _, f := range folders {
		if name := path.Base(f.dir); f.kind == driver && name == "solo" {
			names = append(names, `\bsolo\b`)
		} else if f.kind == driver {
			names = append(names, regexp.QuoteMeta(name))
		}
	}
	pattern := regexp.MustCompile(`(?i)` + strings.Join(names, "|"))

	for _, f := range goFiles(t) {
		if !within(f.dir, "node") || within(f.dir, "node/nodetest") || f.test {
			continue
		}

		ast.Inspect(f.ast, func(n ast.Node) bool {
			text := ""
			switch n := n.(type) {
			case *ast.Ident:
				text = n.Name
			case *ast.BasicLit:
				text = n.Value
			}
			if pattern.MatchString(text) {
				t.Errorf("%s names a driver: %s; let its consensus.Kind say it", f.at(n.Pos()), text)
			}
			return true
		})
	}
}
