package chaos

import (
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// A seed determines the plan. A plan is fair: every trouble comes, and affects as many nodes as its
// name says.
func TestPlansAreSeededAndWhatTheySay(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n, seed := rapid.IntRange(4, 10).Draw(t, "nodes"), rapid.Uint64().Draw(t, "seed")
		a, b := newPlanner(n, seed), newPlanner(n, seed)
		var dealt []Trouble

		for range 2 * troubles {
			e := a.next()
			require.Equal(t, e, b.next())
			dealt = append(dealt, e.trouble)
			left := n - len(e.nodes)

			switch e.trouble {
			case Calm:
				require.Empty(t, e.nodes)

			case CutOff, PauseNode, PauseComet:
				require.Equal(t, quorum(n), left)
				require.NotEmpty(t, e.nodes)

			case CutInTwo, PauseNodes, PauseComets:
				require.Equal(t, quorum(n)-1, left)
				require.Less(t, len(e.nodes), quorum(n), "the other side is no quorum either")

			case CutApart, KillAll:
				require.Zero(t, left)
			}

			if e.trouble.stands() {
				require.GreaterOrEqual(t, e.hold, patience, "a watchdog has time to be impatient")
				require.Less(t, left, n)
			}

			for _, i := range e.nodes {
				require.True(t, i >= 0 && i < n)
			}

			for _, s := range e.strikes {
				require.Less(t, s.at, e.hold)
				if e.trouble.pauses() {
					require.NotContains(t, e.nodes, s.node, "a node that is paused feels no blow")
				}
			}
		}

		half := len(dealt) / 2
		for _, round := range [][]Trouble{dealt[:half], dealt[half:]} {
			slices.Sort(round)
			require.Len(t, slices.Compact(round), int(troubles), "each comes once before one comes again")
		}
	})
}

func TestQuorumIsMoreThanTwoThirds(t *testing.T) {
	for n := 1; n < 40; n++ {
		require.Greater(t, 3*quorum(n), 2*n)
		require.LessOrEqual(t, 3*(quorum(n)-1), 2*n)
	}
}
