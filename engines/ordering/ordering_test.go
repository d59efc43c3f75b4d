package ordering_test

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/coppice-go/coppice/engines"
	"github.com/coppice-go/coppice/engines/chain"
	"github.com/coppice-go/coppice/engines/enginestest"
	"github.com/coppice-go/coppice/engines/ordering"
	"github.com/coppice-go/coppice/eventlog"
	logv1 "github.com/coppice-go/coppice/proto/coppice/log/v1"
	"github.com/coppice-go/coppice/supervisor"
	"github.com/coppice-go/coppice/supervisor/suptest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// disk is a log without an engine around it. Where held is set, the news that a BlockCommitted is
// durable waits for the test.
type disk struct {
	log  *eventlog.Log
	held chan func()
}

func (d disk) Append(ctx context.Context, recs ...eventlog.Record) (uint64, error) {
	return d.log.AppendWait(ctx, recs...)
}

func (d disk) AppendThen(ctx context.Context, done func(uint64, error), recs ...eventlog.Record) error {
	if d.held != nil {
		news := done
		done = func(first uint64, err error) { d.held <- func() { news(first, err) } }
	}
	return d.log.AppendFunc(ctx, done, recs...)
}

func (d disk) AppendNoSync(ctx context.Context, recs ...eventlog.Record) (uint64, error) {
	return d.log.AppendNoSync(ctx, recs...)
}

func (d disk) Fence(ctx context.Context) (uint64, error) {
	err := d.log.Sync(ctx)
	return d.log.Durable(), err
}

func (d disk) Cursor(_ context.Context, from uint64) (*eventlog.Cursor, error) {
	return d.log.Cursor(from)
}

// store is both the state and the pool of a test, and records the calls to it. Only ordering's
// goroutine touches it, and the test once ordering has ended or answered.
type store struct {
	state  chain.State
	block  chain.Block
	begun  []uint64 // heights
	redone []uint64
	told   []uint64 // heights that the pool was told are committed
	failed error    // of the next Commit
	resets bool     // the next block that is sealed decides on a reset

	commits []*logv1.BlockCommitted
	hooks   func(b chain.Block) ([]*logv1.HookFailure, error)
}

func (s *store) State(context.Context) (chain.State, error) { return s.state, nil }

func (s *store) RootAt(_ context.Context, period uint64) (chain.Root, error) {
	return chain.Root{State: []byte("root"), AppHash: fmt.Appendf(nil, "root in %d", period)}, nil
}

func (s *store) StartChain(_ context.Context, index uint64, rec *logv1.ChainStarted) error {
	s.state = chain.State{ChainID: rec.ChainId, Period: rec.Period, InitialHeight: rec.InitialHeight,
		Params: rec.Params, Index: index, Reset: s.state.Reset}
	return nil
}

func (s *store) Begin(_ context.Context, b chain.Block) ([]*logv1.TxResult, error) {
	s.block, s.begun = b, append(s.begun, b.Height)
	return make([]*logv1.TxResult, len(b.Txs)), nil
}

func (s *store) Seal(context.Context) (chain.Staged, error) {
	return chain.Staged{Block: s.block, AppHash: append([]byte("app"), s.block.Hash...), Changes: s.changes()}, nil
}

// changes returns the change by which block 1 of epoch 0 decides on a reset, if resets is set.
func (s *store) changes() []*logv1.Change {
	if !s.resets || s.block.Period > 0 || s.block.Height != 1 {
		return nil
	}
	value, _ := chain.Reset{Height: 1, TimeNs: s.block.Time.UnixNano(), Offset: 20}.Encode()
	return []*logv1.Change{{Key: []byte(chain.ResetKey), Value: value}}
}

func (s *store) Commit(_ context.Context, index uint64, rec *logv1.BlockCommitted) error {
	if err := s.failed; err != nil {
		s.failed = nil
		return err
	}
	s.state.Height, s.state.BlockHash, s.state.AppHash, s.state.Index = rec.Height, rec.BlockHash, rec.AppHash, index
	s.state.Time, s.commits = time.Unix(0, rec.TimeNs), append(s.commits, rec)
	var err error
	s.state.Reset, err = chain.ResetOf(rec.Changes, s.state.Reset)
	return err
}

// endBlock plays the hooks of the backends.
func (s *store) endBlock(_ context.Context, b chain.Block) ([]*logv1.HookFailure, error) {
	if s.hooks == nil {
		return nil, nil
	}
	return s.hooks(b)
}

func (s *store) Redo(ctx context.Context, index uint64, rec *logv1.BlockCommitted) error {
	s.redone = append(s.redone, rec.Height)
	return s.Commit(ctx, index, rec)
}

func (s *store) Place(context.Context, chain.Block, []*logv1.TxResult) error { return nil }

func (s *store) Committed(_ context.Context, rec *logv1.BlockCommitted) error {
	s.told = append(s.told, rec.Height)
	return nil
}

// rig is a supervised ordering over a log in a directory.
type rig struct {
	ordering.Client
	t     *testing.T
	store *store
	log   *eventlog.Log
	run   *supervisor.Run
	rec   *suptest.Recorder
}

func start(t *testing.T) *rig {
	t.Helper()
	return startOn(t, nil)
}

// startOn starts a rig whose BlockCommitted are told to be durable by what it sends to held.
func startOn(t *testing.T, held chan func()) *rig {
	t.Helper()
	log, err := eventlog.Open(filepath.Join(t.TempDir(), "log"), eventlog.Options{SegmentSize: 1 << 20})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, log.Close()) })
	dir := new(enginestest.Directory)
	r := &rig{Client: ordering.NewClient(dir), t: t, store: new(store), log: log}
	r.run, r.rec = suptest.Start(t,
		supervisor.Spec{Name: "test", Intensity: supervisor.Intensity{Max: 10, Period: time.Hour},
			Build: supervisor.Children(supervisor.Child{
				ID: "ordering",
				Start: ordering.Child(dir, ordering.Config{Log: disk{log, held}, Store: r.store, Pool: r.store,
					Hooks: r.store.endBlock}),
			})})

	_, err = r.InitChain(t.Context(),
		&logv1.ChainStarted{ChainId: "test", InitialHeight: 1, Params: chain.DefaultParams()})
	require.NoError(t, err)

	return r
}

func block(height uint64, txs ...string) chain.Block {
	b := chain.Block{ChainID: "test", Height: height, Time: time.Unix(int64(height), 0)}
	for _, tx := range txs {
		b.Txs = append(b.Txs, []byte(tx))
	}
	b.Hash = b.ContentHash()
	return b
}

// appended returns the last index of the log after all earlier appends.
func (r *rig) appended() uint64 {
	r.t.Helper()
	require.NoError(r.t, r.log.Sync(r.t.Context()))
	return r.log.Durable()
}

// cut kills ordering and waits for its successor.
func (r *rig) cut() {
	r.t.Helper()
	started := suptest.Count[supervisor.ChildStarted](r.rec, nil)
	require.NoError(r.t, r.run.Kill("ordering", nil))
	suptest.Wait(r.t, r.rec, started+1, func(supervisor.ChildStarted) bool { return true })
}

// A block that is not at the next height, or a commit of a block that was not ordered, is the
// caller's fault: nothing is appended and nothing ends.
func TestOnlyTheNextHeightIsOrderedAndOnlyWhatIsStagedCommitted(t *testing.T) {
	r := start(t)
	before := r.appended()

	for _, height := range []uint64{0, 2, 7} {
		_, err := r.Order(t.Context(), block(height))
		require.ErrorIs(t, err, ordering.ErrHeight, "height %d", height)
	}

	_, err := r.Commit(t.Context(), 1)
	require.ErrorIs(t, err, ordering.ErrNotStaged)
	_, err = r.Order(t.Context(), block(1))
	require.NoError(t, err)
	_, err = r.Commit(t.Context(), 2)
	require.ErrorIs(t, err, ordering.ErrNotStaged)
	require.Equal(t, before+1, r.appended(), "only the decision")
	require.Zero(t, suptest.Count[supervisor.ChildExited](r.rec, nil))
}

// A block that is delivered again, before or after its commit, gets the same answer and appends
// nothing. The same holds for its commit.
func TestWhatIsDeliveredAgainAppendsNothing(t *testing.T) {
	r := start(t)
	b := block(1, "a")
	staged, err := r.Order(t.Context(), b)
	require.NoError(t, err)
	decided := r.appended()
	again, err := r.Order(t.Context(), b)
	require.NoError(t, err)
	require.Equal(t, staged, again)
	require.Equal(t, decided, r.appended())

	state, err := r.Commit(t.Context(), 1)
	require.NoError(t, err)
	committed := r.appended()
	require.Equal(t, decided+1, committed)
	repeated, err := r.Commit(t.Context(), 1)
	require.NoError(t, err)
	require.Equal(t, state, repeated)
	again, err = r.Order(t.Context(), b)
	require.NoError(t, err)
	require.Equal(t, staged.AppHash, again.AppHash)
	require.Equal(t, committed, r.appended())
	require.Equal(t, []uint64{1}, r.store.begun)
	require.Equal(t, []uint64{1}, r.store.told)
}

// Two decisions for one height end the whole tree, whether or not the first is committed, because
// consensus is broken.
func TestTwoDecisionsForOneHeightEndTheTree(t *testing.T) {
	for _, commit := range []bool{false, true} {
		r := start(t)
		_, err := r.Order(t.Context(), block(1, "a"))
		require.NoError(t, err)

		if commit {
			_, err = r.Commit(t.Context(), 1)
			require.NoError(t, err)
		}

		last := r.appended()
		_, err = r.Order(t.Context(), block(1, "b"))
		require.ErrorIs(t, err, ordering.ErrConflict)
		<-r.run.Done()
		require.ErrorIs(t, r.run.Err(), ordering.ErrConflict)
		require.Equal(t, last, r.appended())
	}
}

// A restart redoes what the log has committed and the state has not, through the last
// BlockCommitted and no further. A block that was decided after it is executed and staged, and its
// driver commits it.
func TestAReplayGoesToTheLastCommitAndNoFurther(t *testing.T) {
	r := start(t)
	_, err := r.Order(t.Context(), block(1))
	require.NoError(t, err)
	_, err = r.Commit(t.Context(), 1)
	require.NoError(t, err)
	_, err = r.Order(t.Context(), block(2))
	require.NoError(t, err)
	started := suptest.Count[supervisor.ChildStarted](r.rec, nil)
	r.store.failed = errors.New("cut between the log and the state")
	_, err = r.Commit(t.Context(), 2)
	require.ErrorIs(t, err, engines.ErrDown)
	suptest.Wait(t, r.rec, started+1, func(supervisor.ChildStarted) bool { return true })
	info, err := r.Info(t.Context())
	require.NoError(t, err)
	require.EqualValues(t, 2, info.Committed.Height)
	require.Nil(t, info.Leftover)
	require.Equal(t, []uint64{2}, r.store.redone)

	b := block(3, "c")
	_, err = r.Order(t.Context(), b)
	require.NoError(t, err)
	last := r.appended()
	r.cut()
	info, err = r.Info(t.Context())
	require.NoError(t, err)
	require.EqualValues(t, 2, info.Committed.Height)
	require.True(t, info.Leftover.Same(b))
	require.Equal(t, []uint64{2}, r.store.redone, "a decision is not a commit")
	require.Equal(t, last, r.appended())
	state, err := r.Commit(t.Context(), 3)
	require.NoError(t, err)
	require.EqualValues(t, 3, state.Height)
	require.Equal(t, []uint64{1, 2, 3, 3}, r.store.begun, "the block was executed again")
}

// The hooks run once for each execution of a block. What failed in them is in the record of the
// block; an execution whose hooks have no result is repeated by the next incarnation.
func TestTheHooksOfABlockRunBeforeItIsSealed(t *testing.T) {
	r := start(t)
	var ran []uint64
	failure := &logv1.HookFailure{Backend: "b", Code: logv1.Code_CODE_PANICKED, Log: "oh"}
	r.store.hooks = func(b chain.Block) ([]*logv1.HookFailure, error) {
		ran = append(ran, b.Height)
		if len(ran) == 2 {
			return nil, errors.New("a read failed")
		}
		return []*logv1.HookFailure{failure}, nil
	}

	staged, err := r.Order(t.Context(), block(1))
	require.NoError(t, err)
	require.Equal(t, []*logv1.HookFailure{failure}, staged.HookFailures)
	_, err = r.Commit(t.Context(), 1)
	require.NoError(t, err)

	started := suptest.Count[supervisor.ChildStarted](r.rec, nil)
	_, err = r.Order(t.Context(), block(2))
	require.ErrorIs(t, err, engines.ErrDown)
	suptest.Wait(t, r.rec, started+1, func(supervisor.ChildStarted) bool { return true })
	_, err = r.Commit(t.Context(), 2)
	require.NoError(t, err)

	require.Equal(t, []uint64{1, 2, 2}, ran)
	require.Len(t, r.store.commits, 2)
	for _, rec := range r.store.commits {
		require.Len(t, rec.HookFailures, 1)
	}
}
