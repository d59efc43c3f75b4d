package comet

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/coppice-go/coppice/engines"
	"github.com/coppice-go/coppice/engines/backend/governance"
	comethome "github.com/coppice-go/coppice/engines/consensus/comet/home"
)

// A node that is no validator yet is present as soon as it is connected and has caught up, and
// absent when it has ended.
func TestAPeerIsPresentWhileItRuns(t *testing.T) {
	all := newNetwork(t, 2)
	g, err := comethome.ReadGenesis(all[0].home)
	require.NoError(t, err)
	joins := g.Validators[1]
	g.Validators = g.Validators[:1]
	for _, m := range all {
		m.core.idle = true
		require.NoError(t, comethome.WriteGenesis(m.home, g))
	}

	all[0].start(t)
	all[0].core.submit("a=1")
	all[0].core.await(t, func() bool { return len(all[0].core.pool) == 0 })

	// presence polls until it says so.
	presence := func(want bool) Presence {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		for {
			p, err := WhoIsPresent(ctx, all[0].home)
			require.NoError(t, err)
			if p.Has(joins.PubKey) == want {
				return p
			}
			require.NoError(t, engines.Pause(ctx, 50*time.Millisecond))
		}
	}
	after := func(p Presence) governance.Quorum {
		var set []governance.Validator
		for _, v := range p.Validators {
			set = append(set, governance.Validator{PubKey: v.PubKey, Power: v.Power})
		}
		next, err := governance.Apply(set, []governance.Validator{{PubKey: joins.PubKey, Power: 10}})
		require.NoError(t, err)
		return governance.QuorumOf(next, p.Has)
	}

	p := presence(false)
	require.True(t, p.Has(g.Validators[0].PubKey), "the node itself")
	require.False(t, after(p).Reached(), "an absent validator added to a lone one")

	run := all[1].start(t)
	require.True(t, after(presence(true)).Reached())

	require.NoError(t, run.Stop(t.Context()))
	q := after(presence(false))
	require.False(t, q.Reached())
	require.Len(t, q.Absent, 1)
	require.Equal(t, joins.PubKey, q.Absent[0].PubKey)
}

// More than two thirds, exactly.
func TestQuorumIsMoreThanTwoThirds(t *testing.T) {
	set := []governance.Validator{{PubKey: []byte("a"), Power: 2}, {PubKey: []byte("b"), Power: 1}}
	only := func(names string) func([]byte) bool {
		return func(key []byte) bool { return names == string(key) }
	}
	require.False(t, governance.QuorumOf(set, only("a")).Reached(), "two of three")
	set[0].Power = 3
	require.True(t, governance.QuorumOf(set, only("a")).Reached(), "three of four")
	set[0].Power, set[1].Power = 1<<59, 1<<58
	require.False(t, governance.QuorumOf(set, only("a")).Reached())
}
