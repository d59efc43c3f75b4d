package ordering_test

import (
	"errors"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/coppice-go/coppice/engines"
	"github.com/coppice-go/coppice/engines/chain"
	"github.com/coppice-go/coppice/engines/ordering"
	"github.com/coppice-go/coppice/eventlog"
	"github.com/coppice-go/coppice/supervisor"
	"github.com/coppice-go/coppice/supervisor/suptest"
)

// begin orders b and begins its commit.
func (r *rig) begin(b chain.Block) chain.State {
	r.t.Helper()
	_, err := r.Order(r.t.Context(), b)
	require.NoError(r.t, err)
	s, err := r.CommitLater(r.t.Context(), b.Height)
	require.NoError(r.t, err)
	require.Equal(r.t, b.Height, s.Height)
	require.Equal(r.t, b.Hash, s.BlockHash)
	return s
}

// kinds returns the kinds of the records of the log.
func (r *rig) kinds() (kinds []eventlog.Kind) {
	r.t.Helper()
	last := r.appended()
	c, err := r.log.Cursor(1)
	require.NoError(r.t, err)
	defer c.Close()
	for uint64(len(kinds)) < last {
		e, err := c.Next(r.t.Context())
		require.NoError(r.t, err)
		kinds = append(kinds, e.Kind)
	}
	return kinds
}

// A block is ordered and executed while the record of the block before is on its way to the disk.
// Until it is there, the state does not have that block and the pool is not told of it. The log is
// the one that blocks one after another make.
func TestABlockIsExecutedWhileTheOneBeforeIsCommitted(t *testing.T) {
	held := make(chan func(), 1)
	r := startOn(t, held)
	r.begin(block(1, "a"))
	durable := <-held

	staged, err := r.Order(t.Context(), block(2, "b"))
	require.NoError(t, err)
	require.EqualValues(t, 2, staged.Block.Height)
	again, err := r.Order(t.Context(), block(2, "b"))
	require.NoError(t, err)
	require.Equal(t, staged, again)
	require.Equal(t, []uint64{1, 2}, r.store.begun)
	require.Zero(t, r.store.state.Height)
	require.Empty(t, r.store.told)

	later := make(chan error, 1)
	go func() {
		_, err := r.CommitLater(t.Context(), 2)
		later <- err
	}()
	durable()
	require.NoError(t, <-later, "it waits for the block before")
	(<-held)()

	state, err := r.Commit(t.Context(), 2)
	require.NoError(t, err)
	require.Equal(t, []uint64{1, 2}, r.store.told)
	require.EqualValues(t, r.store.state.Index, state.Index)
	require.Equal(t, []eventlog.Kind{chain.KindChainStarted, chain.KindOrderDecided, chain.KindBlockCommitted,
		chain.KindOrderDecided, chain.KindBlockCommitted}, r.kinds())
}

// Whatever asks where the chain stands, or delivers a block again, waits for the commit that is
// under way.
func TestAnswersWaitForTheCommitThatIsUnderWay(t *testing.T) {
	b := block(1, "a")
	for what, call := range map[string]func(r *rig) error{
		"info": func(r *rig) error {
			s, err := r.Info(t.Context())
			require.EqualValues(t, 1, s.Committed.Height)
			require.Nil(t, s.Leftover)
			return err
		},
		"commit": func(r *rig) error { _, err := r.Commit(t.Context(), 1); return err },
		"order":  func(r *rig) error { _, err := r.Order(t.Context(), b); return err },
		"reset": func(r *rig) error {
			_, err := r.Reset(t.Context(), chain.Renewal{})
			require.ErrorIs(t, err, chain.ErrNoReset)
			return nil
		},
	} {
		held := make(chan func(), 1)
		r := startOn(t, held)
		r.begin(b)
		_, err := r.CommitLater(t.Context(), 1)
		require.NoError(t, err, "repeated")
		durable := <-held

		told := make(chan []uint64, 1)
		go func() {
			if err := call(r); err != nil {
				t.Errorf("%s: %v", what, err)
			}
			told <- r.store.told
		}()
		durable()
		require.Equal(t, []uint64{1}, <-told, what)
		require.Len(t, r.kinds(), 3, what)
	}
}

// A cut at each step of two blocks that overlap leaves a log from which the next incarnation goes
// on: what was appended as committed is redone once, and what was only decided is executed again
// and left to the driver (I2, I4).
func TestACutBetweenTwoBlocksThatOverlap(t *testing.T) {
	held := make(chan func(), 1)
	for what, c := range map[string]struct {
		steps    func(r *rig)
		leftover bool
	}{
		"committing one":           {func(*rig) { <-held }, false},
		"the next one is executed": {func(r *rig) { <-held; r.must(r.Order(t.Context(), block(2, "b"))) }, true},
		"the first one is durable": {func(*rig) { (<-held)() }, false},
		"both are under way":       {func(r *rig) { (<-held)(); r.begin(block(2, "b")); <-held }, false},
		"the first one is finished": {func(r *rig) {
			(<-held)()
			r.settled()
			r.must(r.Order(t.Context(), block(2, "b")))
		}, true},
	} {
		r := startOn(t, held)
		r.begin(block(1, "a"))
		c.steps(r)
		last := r.appended()
		r.cut()

		info, err := r.Info(t.Context())
		require.NoError(t, err, what)
		require.Equal(t, c.leftover, info.Leftover != nil, what)
		require.Equal(t, last, r.appended(), what)
		heights := make(map[uint64]int)
		for _, rec := range r.store.commits {
			heights[rec.Height]++
		}
		require.Len(t, heights, int(info.Committed.Height), what)
		require.Equal(t, len(heights), len(r.store.commits), "%s: %v", what, heights)

		if c.leftover {
			go func() { (<-held)() }()
			_, err = r.Commit(t.Context(), 2)
			require.NoError(t, err, what)
		} else {
			r.must(r.Order(t.Context(), block(info.Committed.Next(), "c")))
		}
	}
}

func (r *rig) must(_ chain.Staged, err error) {
	r.t.Helper()
	require.NoError(r.t, err)
}

// settled waits until the commit that is under way is done.
func (r *rig) settled() {
	r.t.Helper()
	_, err := r.Info(r.t.Context())
	require.NoError(r.t, err)
}

// A commit that fails while the next block is executed ends the incarnation with that error.
func TestACommitThatFailsEndsTheIncarnation(t *testing.T) {
	held := make(chan func(), 1)
	r := startOn(t, held)
	broken := errors.New("cut between the log and the state")
	r.store.failed = broken
	r.begin(block(1, "a"))
	(<-held)()

	exit := suptest.Wait(t, r.rec, 1, func(supervisor.ChildExited) bool { return true })
	require.ErrorIs(t, exit.Exit.Err, broken)
	_, err := r.Order(t.Context(), block(2, "b"))
	if err != nil { // the old incarnation may have got it
		require.ErrorIs(t, err, engines.ErrDown)
		_, err = r.Order(t.Context(), block(2, "b"))
	}
	require.NoError(t, err)
	require.Equal(t, []uint64{1}, r.store.redone)
	require.NotErrorIs(t, err, ordering.ErrConflict)
}
