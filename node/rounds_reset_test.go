package node

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/coppice-go/coppice/engines/chain"
	"github.com/coppice-go/coppice/engines/consensus/solo"
	"github.com/coppice-go/coppice/engines/rounds"
	"github.com/coppice-go/coppice/engines/rounds/replicated"
	"github.com/coppice-go/coppice/node/home"
	"github.com/coppice-go/coppice/node/offline"
	"github.com/coppice-go/coppice/node/plan"
)

// A service resets its chain each second period, and goes on in the next epoch with the same state.
// Verify executes all epochs again. Checklist 15, 22 and 56.
func TestAServiceResetsItsChain(t *testing.T) {
	keys, agents := agentKeys(1)
	dir := t.TempDir()
	_, err := home.Init(dir, home.InitOptions{ChainID: "test", Listen: "127.0.0.1:0", Profile: plan.Chaos,
		Agents: agents, ResetOffset: 20})
	require.NoError(t, err)
	writeAgentKey(t, dir, keys[0])

	const periods = 7
	done := make(chan struct{})
	service := rounds.Compose("ResettingService", rounds.Links{"added": rounds.ResetAndPause,
		rounds.PeriodEnded: "add", rounds.PeriodFailed: "add"},
		rounds.Table[tallied]{Label: "AddingAbciApp", Start: "add", Keep: func(s tallied) tallied { return s },
			Rounds: rounds.Rows[tallied]{
				"add": {Round: rounds.Same(func(ctx context.Context, s tallied) (int, error) {
					if s.Sum == periods {
						close(done)
						<-ctx.Done()
						return 0, ctx.Err()
					}
					return 1, nil
				}, func(s tallied, n int) tallied { return tallied{s.Sum + n} }),
					On: rounds.On{rounds.Done: "added", rounds.None: "add", rounds.NoMajority: "add"}},
				"added": {Round: rounds.Final[tallied]()},
			}},
		rounds.ResetApp[tallied](rounds.Every(2), rounds.Pause(10*time.Millisecond)))

	h := driveHome(t, dir, WithRounds(service), WithDriver(solo.Solo{}))
	<-done
	s, err := h.store.State(t.Context())
	require.NoError(t, err)
	require.EqualValues(t, 3, s.Period, "of 7 periods the 2nd, 4th and 6th have reset the chain")
	require.Equal(t, "test-3", s.ChainID)
	h.close()

	v, err := offline.Verify(t.Context(), dir, offline.VerifyOptions{
		Backends: []chain.Backend{replicated.New(service)}})
	require.NoError(t, err)
	require.Equal(t, s.AppHash, v.AppHash)
}
