package otpdiff

import (
	"testing"

	"github.com/coppice-go/coppice/supervisor"
)

func root(s Sup, steps ...Step) History {
	if s.Period == 0 {
		s.Period = never
	}
	return History{Root: Node{ID: rootID, Sup: &s}, Steps: append(steps, Step{Op: Stop, Reason: "shutdown"})}
}

func dies(path, reason string) Step { return Step{Op: Die, Path: path, Reason: reason} }

// together returns steps in which deaths arrive at the same time.
func together(sup string, steps ...Step) []Step {
	return append(append([]Step{{Op: Hold, Path: sup}}, steps...), Step{Op: Release})
}

var (
	threeDeaths = together("", dies("a", "crash"), dies("c", "kill"), dies("b", "normal"))
	abc         = []Node{{ID: "a"}, {ID: "b"}, {ID: "c"}}
)

// named has histories that OTP's suite lacks, and histories in which random play found a
// difference. A child that stops itself, or calls in its own start, has no counterpart: in OTP the
// two wait for one another. Panics of descendants and orphans that live on have none either. The
// tests of package supervisor check those.
var named = []struct {
	name string
	History
}{
	{"rule 42: simultaneous deaths are one group restart",
		root(Sup{Strategy: supervisor.OneForAll, Max: 1, Children: abc}, threeDeaths...)},
	{"rule 42: of those after it", root(Sup{Strategy: supervisor.RestForOne, Max: 1, Children: abc}, threeDeaths...)},
	{"rule 42: but three restarts one for one", root(Sup{Max: 2, Children: abc}, threeDeaths...)},
	{"rule 51: revival in a group restart", root(Sup{Strategy: supervisor.OneForAll, Max: 3, Children: []Node{
		{ID: "finished", Restart: supervisor.Transient}, {ID: "stopped"},
		{ID: "ignoring", Starts: []Outcome{{Kind: "ignore"}}}, {ID: "gone", Restart: supervisor.Temporary},
		{ID: "last"},
	}}, dies("finished", "normal"), Step{Op: Terminate, ID: "stopped"}, dies("last", "crash"))},
	{"rule 46: a give-up under a transient parent", root(Sup{Max: 1, Children: []Node{
		{ID: "t", Restart: supervisor.Transient, Sup: &Sup{Period: never, Children: []Node{{ID: "a"}}}},
		{ID: "p", Sup: &Sup{Period: never, Children: []Node{{ID: "a"}}}},
	}}, dies("t/a", "crash"), dies("p/a", "crash"), dies("p/a", "crash"))},
	{"rule 13: a start that hangs, and what waits behind it",
		root(Sup{Max: 9, Children: []Node{{ID: "a", Starts: []Outcome{{Kind: "ok"}, {Hang: true, Kind: "boom"}}},
			{ID: "b"}}},
			dies("a", "crash"), dies("b", "crash"), Step{Op: Restart, ID: "a"}, Step{Op: Start, Child: &Node{ID: "a"}},
			Step{Op: Delete, ID: "a"}, Step{Op: Terminate, ID: "b"}, Step{Op: Release})},
	{"rules 24, 52: a restart that failed is taken back",
		root(Sup{Max: 9, Children: []Node{{ID: "a", Starts: []Outcome{{Kind: "ok"}, {Kind: "boom"}}}}},
			together("", dies("a", "crash"), Step{Op: Restart, ID: "a"}, Step{Op: Delete, ID: "a"},
				Step{Op: Start, Child: &Node{ID: "a"}}, Step{Op: Terminate, ID: "a"}, Step{Op: Restart, ID: "a"})...)},
	{"rule 36: Goexit is abnormal", root(Sup{Max: 1, Children: []Node{{ID: "a", Restart: supervisor.Transient}}},
		dies("a", "goexit"), dies("a", "panic"))},
	{"rule 61: the parent asks with a crash", History{Root: Node{ID: rootID, Sup: &Sup{Period: never, Children: abc}},
		Steps: []Step{{Op: Stop, Reason: "crash"}}}},
	{"rule 60: one that is deaf",
		root(Sup{Strategy: supervisor.OneForAll, Max: 1,
			Children: []Node{{ID: "a"}, {ID: "b", Shutdown: deafFor, OnStop: "deaf"}}}, dies("a", "crash"))},
	{"rule 17: rollback of a nested start",
		root(Sup{Children: []Node{{ID: "a"},
			{ID: "s", Sup: &Sup{Period: never,
				Children: []Node{{ID: "b"}, {ID: "c", Starts: []Outcome{{Kind: "garbage"}}}}}}}})},
	{"rules 22, 24, 26: a running child calls its own supervisor, and the one above",
		root(Sup{Max: 9, Children: []Node{{ID: "a"}, {ID: "s", Sup: &Sup{Max: 9, Period: never, Children: abc}}}},
			Step{Op: Start, Path: "s", Child: &Node{ID: "d"}, By: "s/a"},
			Step{Op: Terminate, Path: "s", ID: "b", By: "s/a"}, Step{Op: Restart, Path: "s", ID: "b", By: "s/c"},
			Step{Op: Restart, Path: "s", ID: "a", By: "s/a"}, Step{Op: Delete, Path: "s", ID: "a", By: "s/a"},
			Step{Op: Start, Path: "s", Child: &Node{ID: "a"}, By: "s/a"},
			Step{Op: Terminate, ID: "a", By: "s/b"}, Step{Op: Delete, ID: "a", By: "s/b"},
			Step{Op: Terminate, Path: "s", ID: "b", By: "a"})},
	{"rule 22: a child's call waits for its turn", root(Sup{Strategy: supervisor.OneForAll, Max: 9, Children: abc},
		together("", Step{Op: Start, Child: &Node{ID: "d"}, By: "a"}, dies("b", "crash"),
			Step{Op: Terminate, ID: "a"})...)},
	// Random histories found these.
	{"rule 53: two retries of one child, and both count",
		root(Sup{Strategy: supervisor.RestForOne, Max: 3, Children: []Node{
			{ID: "a"}, {ID: "b"},
			{ID: "c", Starts: []Outcome{{Kind: "ok"}, {Hang: true, Kind: "boom"}, {Hang: true, Kind: "boom"}}},
		}}, dies("c", "crash"), dies("b", "crash"), Step{Op: Release}, dies("a", "crash"), Step{Op: Release})},
	{"rule 58: killed before a brutal stop",
		root(Sup{Strategy: supervisor.OneForAll, Max: 1,
			Children: []Node{{ID: "a"}, {ID: "b", Shutdown: supervisor.Brutal}}},
			together("", dies("a", "crash"), dies("b", "kill"))...)},
	{"rule 58: shutdown before a brutal stop",
		root(Sup{Strategy: supervisor.OneForAll, Max: 1,
			Children: []Node{{ID: "a"}, {ID: "b", Shutdown: supervisor.Brutal}}},
			together("", dies("a", "crash"), dies("b", "shutdown"))...)},
	{"a call to a worker that is being stopped", root(Sup{Children: []Node{{ID: "b", OnStop: "slow"}}},
		Step{Op: Terminate, ID: "b"}, Step{Op: Start, Path: "b", Child: &Node{ID: "g"}})},
	{"a child's ID is that of a dynamic supervisor now",
		root(Sup{Strategy: supervisor.RestForOne, Max: 1,
			Children: []Node{{ID: "b"}, {ID: "c", Restart: supervisor.Temporary}}},
			together("", dies("b", "crash"),
				Step{Op: Start,
					Child: &Node{ID: "c", Sup: &Sup{Dynamic: true, Period: never, Children: []Node{{ID: "t"}}}}},
				dies("c", "crash"))...)},
	{"rule 14: info of a supervisor whose start hangs",
		root(Sup{Children: []Node{{ID: "a", Starts: []Outcome{{Kind: "ok"}, {Hang: true, Kind: "info"}},
			Sup: &Sup{Period: never}}}},
			Step{Op: Terminate, ID: "a"}, Step{Op: Restart, ID: "a"})},
	{"rule 30: a start_child for another kind of supervisor",
		root(Sup{Children: []Node{{ID: "d", Sup: &Sup{Dynamic: true, Period: never, Children: []Node{{ID: "t"}}}}}},
			Step{Op: Start, Path: "d", Child: &Node{ID: "b"}}, Step{Op: Instance, Path: "d", Child: &Node{ID: "c"}},
			Step{Op: Instance, Child: &Node{ID: "e"}})},
	{"a start of an instance of a worker, while a start hangs",
		root(Sup{Period: never, Children: []Node{{ID: "b", Sup: &Sup{Period: never, Children: []Node{{ID: "e"}}}}}},
			Step{Op: Hold}, Step{Op: Instance, Path: "b/e", Child: &Node{ID: "o"}})},
	// The window. The tests of package supervisor check its exact boundary (rule 41) in virtual
	// time.
	{"rule 39: the window expires", root(Sup{Max: 1, Period: period, Children: abc}, dies("a", "crash"),
		Step{Op: Sleep, Millis: pause}, dies("a", "crash"), dies("b", "crash"))},
}

func TestDifferential_Named(t *testing.T) {
	e := startErlang(t)
	t.Parallel()
	for _, n := range named {
		check(t, n.name, n.History, both(t, e, n.History), func(h History) sides { return both(t, e, h) })
	}
}
