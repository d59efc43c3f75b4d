package otpdiff

import (
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
)

// A difference that needs only one death of one child is shrunk to that death.
func TestShrink(t *testing.T) {
	crashes := func(h History) bool {
		for _, s := range h.Steps {
			if s.Op == Die && s.Reason == "crash" && slices.ContainsFunc(h.nodes(), func(n *Node) bool {
				return n.Sup == nil && n.ID == s.Path
			}) {
				return true
			}
		}
		return false
	}
	found := 0

	for i := range uint64(200) {
		h := generate(7, i)
		if !crashes(h) {
			continue
		}

		found++
		before := h.script()
		small := shrink(h, crashes)
		require.True(t, crashes(small))
		// a start_child if the child comes from one, the death, the stop
		require.LessOrEqual(t, len(small.Steps), 3)
		// the root, the child, and the template of a dynamic supervisor
		require.LessOrEqual(t, len(small.nodes()), 3, "%v", small.script())
		require.Equal(t, before, h.script(), "the history that was given has changed")
	}

	require.Greater(t, found, 50)
}

func TestGenerate_IsItsSeed(t *testing.T) {
	require.Equal(t, generate(3, 4), generate(3, 4))
	require.NotEqual(t, generate(3, 4), generate(3, 5))
	require.NotEqual(t, generate(3, 4), generate(4, 4))
}

func TestScript(t *testing.T) {
	h := root(Sup{Max: 1, Children: []Node{
		{ID: "a", Restart: 1, Shutdown: -1, Starts: []Outcome{{Hang: true, Kind: "ok"}}}}}, dies("a", "detail"))
	require.Equal(t, `# OTP, in supervisor/otpdiff:
erlc -o /tmp otpdiff.erl && erl +S 1:1 -noshell -pa /tmp -eval '
otpdiff:play({history, {node, <<"root">>, permanent, false, default, [], obey, {sup, one_for_one, 1, 3600, never, root, [{node, <<"a">>, transient, false, brutal_kill, [{hang, ok}], obey, none}]}}, [{die, <<"a">>, {shutdown, detail}, <<"">>}, {stop, <<"">>, shutdown, <<"">>}]}).'

// package supervisor: an entry of named, in named_test.go
{"", History{Root: Node{ID: "root", Sup: &Sup{Max: 1, Period: 3600, Children: []Node{{ID: "a", Restart: supervisor.Transient, Shutdown: supervisor.Brutal, Starts: []Outcome{{Hang: true, Kind: "ok"}}}}}}, Steps: []Step{{Op: "die", Path: "a", Reason: "detail"}, {Op: "stop", Reason: "shutdown"}}}},
`, h.script())
}

// Only the stops of one dynamic supervisor's instances have no order.
func TestNormalize(t *testing.T) {
	dynamic := func(path string) bool { return path == "d" }
	require.Equal(t, "stop d/a#1 shutdown\nstop d/b#1 shutdown\nend d#1 shutdown\nstop e/b#1 shutdown\nstop "+
		"e/a#1 shutdown",
		normalize("stop d/b#1 shutdown\nstop d/a#1 shutdown\nend d#1 shutdown\nstop e/b#1 shutdown\nstop "+
			"e/a#1 shutdown", dynamic))
}

func TestSides(t *testing.T) {
	s := newSides(History{}, "a\nb", "a\nc")
	require.True(t, s.differ())
	require.Regexp(t, `(?m)^! b +c$`, s.String())
	require.False(t, newSides(History{}, "a", "a").differ())
}
