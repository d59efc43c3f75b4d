package ordering_test

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/coppice-go/coppice/engines/chain"
	"github.com/coppice-go/coppice/engines/ordering"
	logv1 "github.com/coppice-go/coppice/proto/coppice/log/v1"
)

// decide commits block 1, after which the state holds a reset.
func (r *rig) decide() {
	r.t.Helper()
	r.store.resets = true // before Order, which goes to the goroutine that reads it
	_, err := r.Order(r.t.Context(), block(1))
	require.NoError(r.t, err)
	s, err := r.Commit(r.t.Context(), 1)
	require.NoError(r.t, err)
	require.True(r.t, s.InHold())
}

// count returns the number of records of a kind in the log.
func (r *rig) count(kind string) (n int) {
	r.t.Helper()
	k, ok := chain.KindOf(kind)
	require.True(r.t, ok)
	for _, err := range chain.Records(r.log.Cursor, 1, r.appended(), k) {
		require.NoError(r.t, err)
		n++
	}
	return n
}

// Whatever comes between, and however often it is asked for, there is one end of the chain and one
// start of the next epoch.
func TestAResetIsMadeOnce(t *testing.T) {
	r := start(t)
	_, err := r.Reset(t.Context(), chain.Renewal{})
	require.ErrorIs(t, err, chain.ErrNoReset)
	require.Zero(t, r.count("ChainReset"))
	r.decide()

	var first *logv1.ChainReset
	for range 3 {
		reset, err := r.Reset(t.Context(), chain.Renewal{})
		require.NoError(t, err)
		if first == nil {
			first = reset
		}
		require.Equal(t, mustJSON(t, first), mustJSON(t, reset))
		r.cut()
		info, err := r.Info(t.Context())
		require.NoError(t, err)
		require.Equal(t, mustJSON(t, first), mustJSON(t, info.Reset), "after a restart")
		require.EqualValues(t, 1, info.Committed.Height)
	}

	for range 3 {
		s, err := r.InitChain(t.Context(), chain.StartedBy(first, nil))
		require.NoError(t, err)
		require.Equal(t, "test-1", s.ChainID)
		require.EqualValues(t, 21, s.Next())
		r.cut()
	}

	info, err := r.Info(t.Context())
	require.NoError(t, err)
	require.Nil(t, info.Reset)
	require.Equal(t, 1, r.count("ChainReset"))
	require.Equal(t, 2, r.count("ChainStarted"))
}

// Between the end of a chain and the start of the next epoch, no block of the old chain is taken,
// and no start of another chain.
func TestAnEndedChainTakesNoBlock(t *testing.T) {
	r := start(t)
	r.decide()
	reset, err := r.Reset(t.Context(), chain.Renewal{})
	require.NoError(t, err)
	before := r.appended()

	_, err = r.Order(t.Context(), block(2))
	require.ErrorIs(t, err, ordering.ErrEnded)
	_, err = r.Commit(t.Context(), 2)
	require.ErrorIs(t, err, ordering.ErrEnded)
	_, err = r.InitChain(t.Context(), &logv1.ChainStarted{ChainId: "test", InitialHeight: 1,
		Params: chain.DefaultParams()})
	require.ErrorIs(t, err, chain.ErrReset)
	other := chain.StartedBy(reset, nil)
	other.InitialHeight++
	_, err = r.InitChain(t.Context(), other)
	require.ErrorIs(t, err, chain.ErrReset)
	require.Equal(t, before, r.appended())

	_, err = r.InitChain(t.Context(), chain.StartedBy(reset, nil))
	require.NoError(t, err)
	b := block(21)
	b.ChainID, b.Period = "test-1", 1
	old := block(21)
	_, err = r.Order(t.Context(), old)
	require.ErrorContains(t, err, "belongs to another chain")
	_, err = r.Order(t.Context(), b)
	require.NoError(t, err)

	s, err := r.InitChain(t.Context(), &logv1.ChainStarted{ChainId: "test", InitialHeight: 1,
		Params: chain.DefaultParams()})
	require.NoError(t, err, "the genesis of epoch 0 counts in all epochs")
	require.Equal(t, "test-1", s.ChainID)
	_, err = r.InitChain(t.Context(), &logv1.ChainStarted{ChainId: "forest", Params: chain.DefaultParams()})
	require.ErrorIs(t, err, ordering.ErrGenesis)
}

// A held block that was decided is committed when the chain ends, because its driver may never
// deliver it again. A block that decides on the reset is not: the chain is not in hold before its
// commit.
func TestAChainEndsWithTheHeldBlockThatWasDecided(t *testing.T) {
	r := start(t)
	r.store.resets = true
	_, err := r.Order(t.Context(), block(1))
	require.NoError(t, err)
	_, err = r.Reset(t.Context(), chain.Renewal{})
	require.ErrorIs(t, err, chain.ErrNoReset)
	_, err = r.Commit(t.Context(), 1)
	require.NoError(t, err)

	_, err = r.Order(t.Context(), block(2))
	require.NoError(t, err)
	reset, err := r.Reset(t.Context(), chain.Renewal{})
	require.NoError(t, err)
	require.EqualValues(t, 2, reset.LastHeight)
	require.EqualValues(t, 1, reset.ResetHeight)
	require.Equal(t, 2, r.count("BlockCommitted"))
}

func mustJSON(t *testing.T, v any) string {
	t.Helper()
	b, err := json.Marshal(v)
	require.NoError(t, err)
	return string(b)
}

// A held block changes nothing, so no hook runs in it. The hooks run again in the next epoch.
func TestNoHookRunsInTheHold(t *testing.T) {
	r := start(t)
	var ran []uint64
	r.store.hooks = func(b chain.Block) ([]*logv1.HookFailure, error) {
		ran = append(ran, b.Height)
		return nil, nil
	}
	r.decide()

	_, err := r.Order(t.Context(), block(2))
	require.NoError(t, err)
	_, err = r.Commit(t.Context(), 2)
	require.NoError(t, err)
	require.Equal(t, []uint64{1}, ran)
}

// A log with an end of the chain that its state does not lead to is damaged: no restart mends it.
func TestAResetThatNobodyDecidedEndsTheProcess(t *testing.T) {
	r := start(t)
	rec, err := chain.NewRecord(&logv1.ChainReset{OldChainId: "test", NewChainId: "test-1", NewPeriod: 1})
	require.NoError(t, err)
	_, err = r.log.AppendWait(t.Context(), rec)
	require.NoError(t, err)
	require.NoError(t, r.run.Kill("ordering", nil))
	err = r.run.Wait()
	require.ErrorIs(t, err, chain.ErrReset)
}
