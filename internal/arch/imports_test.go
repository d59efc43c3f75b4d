package arch_test

import (
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// layers says what each part of the house may import of the house. The arrows go one way: cmd →
// node → engines/* → engines → {pubsub, eventlog, supervisor}. The longest matching folder counts.
// The table folders, in kinds_test.go, has the rows of the folders under engines/.
var layers = []struct {
	dir    string
	may    []string
	reason string
}{
	{"supervisor", []string{"supervisor"}, "the runtime is embedded by itself"},
	{"eventlog", []string{"eventlog"}, "the log is embedded by itself"},
	{"pubsub", []string{"pubsub", "supervisor"}, "the bus is a supervised tree and knows nothing of what it carries"},
	{"proto", []string{"proto"}, "the contract is for clients in any language"},
	{"client", []string{"client", "proto", "engines/chain", "eventlog"},
		"a client speaks the vocabulary, and brings neither the node nor a runtime"},
	{"node", []string{"node", "engines", "pubsub", "eventlog", "supervisor", "proto", "client", "internal"},
		"the node introduces the engines to each other"},
	{"cmd", []string{"cmd", "node", "engines", "client", "pubsub", "eventlog", "supervisor", "proto", "internal"},
		"the command is the top"},
	{"internal/durable", nil, "it knows files and nothing of what they hold"},
	{"internal/flock", nil, "it knows files and nothing of what they lock"},
	{"internal/syserr", nil, "it knows errors and nothing of what was read"},
	{"internal/recordlog", nil, "it knows bytes and nothing of the database that wrote them"},
	{"internal/arch", []string{"internal/arch"}, "rules about the house do not depend on it"},
	{"internal/readme", []string{"supervisor", "node", "client"}, "the README's code is compiled"},
	{"internal/cometclients", []string{"node", "client", "engines", "proto", "supervisor", "internal/servers"},
		"other people's clients are tried on a whole node"},
	{"internal/benchtable", nil, "it reads what benchmarks print, and is no part of the node"},
	{"internal/servers", nil, "it starts other people's servers for tests, and knows nothing of who writes to them"},
	{"internal/releasecheck", nil, "it builds what is published, and is no part of it"},
	{"examples", []string{"supervisor", "pubsub", "eventlog", "engines", "node", "client", "proto",
		"cmd/coppice/command"},
		"an example uses what its reader can use"},
}

func TestLayers(t *testing.T) {
	for _, f := range goFiles(t) {
		if within(f.dir, "engines") {
			continue // see TestEveryFolderOfEnginesHasAKind and TestKindsImportWhatTheyMay
		}

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
			if to == f.dir || withinAny(to, layers[best].may) || f.test && f.dir == "client" && isBackend(to) {
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
	{[]string{"engines/consensus/comet/wire", "engines/consensus/comet/home", "engines/consensus/comet/certificate",
		"engines/consensus/comet/bootstrap", "engines/consensus/comet/ladder",
		"engines/consensus/comet/rpcserver", "engines/consensus/comet/child",
		"engines/consensus/comet/manager/bare", "engines/consensus/comet/manager", "engines/consensus/comet"},
		"frames know no files, files no process, and the process neither its manager nor a driver"},
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

// unwanted are packages that importing a package must not bring, however far away they are.
var unwanted = []struct{ pkg, never, reason string }{
	{"node", "github.com/cometbft", "a program that does not register the driver does not pay for it"},
	{"node", "github.com/jackc", "a program registers the sinks that it wants, and pays for those alone"},
	{"node", "github.com/twmb", "a program registers the sinks that it wants, and pays for those alone"},
	{"node", "github.com/nats-io", "a program registers the sinks that it wants, and pays for those alone"},
	{"node", "github.com/hashicorp/go-plugin", "a program registers the sinks that it wants, and pays for those alone"},
	{"node", "github.com/charmbracelet", "a program that embeds a node draws on no terminal"},
	{"client", "github.com/charmbracelet", "a program that calls a node draws on no terminal"},
	{"cmd/coppice", "github.com/nats-io/nats-server", "servers are for tests (ADR 0157)"},
	{"cmd/coppice", "github.com/twmb/franz-go/pkg/kfake", "servers are for tests (ADR 0157)"},
	{"client", "github.com/cometbft", "a client does not care which consensus drives the node"},
	{"client", module + "/supervisor", "a client runs in other people's programs, and supervises nothing there"},
	{"client", module + "/engines", "a client needs the vocabulary, engines/chain, and not the runtime"},
}

func TestUnwantedDependencies(t *testing.T) {
	for _, u := range unwanted {
		for _, dep := range dependencies(t, "./"+u.pkg) {
			if within(dep, u.never) && dep != module+"/engines/chain" {
				t.Errorf("importing %s brings %s: %s", u.pkg, dep, u.reason)
			}
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
		"the rest of the node must not care which consensus drives it; cometclients only has tests"},
	{"github.com/cockroachdb/pebble", []string{"engines/storage", "eventlog/pebblefs", "node"}, true,
		"pebble's weight stays out of those who embed the log or the runtime"},
	{"github.com/spf13/", []string{"cmd"}, false, "flags are the command line's"},
	{"github.com/charmbracelet/", []string{"cmd/coppice/internal/top"}, false,
		"a view for terminals is the command line's, and its library acts when it is initialised (ADR 0195)"},
	{"connectrpc.com/", []string{"node", "client", "proto", "cmd", "internal/readme"}, true,
		"engines have no transport"},
	{"github.com/prometheus/", []string{"node/metrics"}, true,
		"metrics are told in one place; the rest counts and is read"},
	{"github.com/jackc/", []string{"engines/streams/postgres"}, true, "only a sink imports its client library"},
	{"github.com/nats-io/", []string{"engines/streams/nats"}, true, "only a sink imports its client library"},
	{"github.com/twmb/", []string{"engines/streams/kafka"}, true, "only a sink imports its client library"},
	{"github.com/hashicorp/", []string{"engines/streams/plugin"}, true, "only a sink imports its client library"},
	{"google.golang.org/grpc", []string{"engines/streams/plugin", "proto/coppice/plugin"}, true,
		"the node speaks gRPC by connect; go-plugin speaks it by grpc-go"},
	{"github.com/rs/cors", []string{"node/host", "engines/consensus/comet/rpcserver"}, false,
		"the two listeners alone answer browsers"},
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

// commandLibrary is the command line as a library: the mains of programs import it, as ours does.
const commandLibrary = module + "/cmd/coppice/command"

func TestNothingImportsCommands(t *testing.T) {
	for _, f := range goFiles(t) {
		for _, imp := range f.imports {
			if imp == commandLibrary && f.ast.Name.Name == "main" {
				continue
			}
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
