package storage

import (
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"

	"github.com/coppice-go/coppice/engines/chain"
	logv1 "github.com/coppice-go/coppice/proto/coppice/log/v1"
)

// reset returns the change that decides on a reset in the next block of d.
func reset(t *testing.T, d *DB) (*logv1.Change, chain.Reset) {
	t.Helper()
	s := d.State()
	r := chain.Reset{Epoch: s.Period, Height: s.Next(), TimeNs: 1, Offset: 20}
	value, err := r.Encode()
	require.NoError(t, err)
	return put(chain.ResetKey, string(value)), r
}

// Blocks after the decision on a reset change nothing: no key, no id, no expiry and no clock.
// Redo sees them in the same way.
func TestABlockInHoldChangesNothing(t *testing.T) {
	fs := vfs.NewMem()
	d := open(t, fs)
	require.NoError(t, d.StartChain(1, chainStarted(1)))
	d.testCommit(t, 2, put("a", "1"))
	change, r := reset(t, d)
	d.testCommit(t, 3, change)
	require.Equal(t, &r, d.State().Reset)
	require.True(t, d.State().InHold())
	before, clock, stat := d.State(), d.published.Load().ClockNs, must(d.Stat())

	late := genesis.Add(5 * window) // every id has expired by then
	b := block(d, late, tx(t, 9, late.Add(time.Second)))
	refused, err := d.Begin(b)
	require.NoError(t, err)
	require.Equal(t, logv1.Code_CODE_FAILED, refused[0].Code)
	require.Equal(t, heldText, refused[0].Log)
	s, err := d.Seal()
	require.NoError(t, err)
	require.Empty(t, s.Changes)
	rec := committed(s)

	for _, apply := range []func() error{func() error { return d.Commit(4, rec) }, func() error {
		d = open(t, fs)
		return d.Redo(4, rec)
	}} {
		require.NoError(t, apply())
		require.Equal(t, before.AppHash, d.State().AppHash)
		require.Equal(t, before.Height+1, d.State().Height)
		require.Equal(t, clock, d.published.Load().ClockNs)
		require.Equal(t, stat.IDs, must(d.Stat()).IDs)
		require.Equal(t, &r, d.State().Reset)
		require.NoError(t, d.Close())
		fs = vfs.NewMem()
		redone := open(t, fs) // the same chain up to the decision
		require.NoError(t, redone.StartChain(1, chainStarted(1)))
		redone.testCommit(t, 2, put("a", "1"))
		redone.testCommit(t, 3, change)
		require.NoError(t, redone.Close())
	}
}

// The next epoch begins with the state at the reset. Its first block, even an empty one, deletes
// the reset; the next one is a block like any other.
func TestTheFirstBlockOfAnEpochDeletesTheReset(t *testing.T) {
	fs := vfs.NewMem()
	d := open(t, fs)
	require.NoError(t, d.StartChain(1, chainStarted(1)))
	d.testCommit(t, 2, put("a", "1"))
	change, r := reset(t, d)
	d.testCommit(t, 3, change)

	root := d.RootAt(2)
	require.Equal(t, d.Root(), root.State)
	require.NotEqual(t, d.State().AppHash, root.AppHash)
	next := chainStarted(2)
	next.InitialHeight, next.AppHash = r.InitialHeight(), root.AppHash
	require.NoError(t, d.StartChain(4, next))
	require.Equal(t, &r, d.State().Reset)
	require.False(t, d.State().InHold())
	require.NoError(t, d.Close())

	d = open(t, fs)
	require.Equal(t, &r, d.State().Reset, "after a restart")
	b := block(d, genesis.Add(3*time.Second))
	require.Equal(t, r.InitialHeight(), b.Height)
	_, err := d.Begin(b)
	require.NoError(t, err)
	s, err := d.Seal()
	require.NoError(t, err)
	require.Len(t, s.Changes, 1)
	require.NoError(t, d.Commit(5, committed(s)))
	require.Nil(t, d.State().Reset)
	require.Equal(t, "none", d.testGet(t, chain.ResetKey, 0))
	require.Equal(t, "1", d.testGet(t, "a", 0))

	rec := d.testCommit(t, 6, put("b", "2"))
	require.Len(t, rec.Changes, 1)
	m, err := d.BlockOf(1, 2)
	require.NoError(t, err, "a block of the epoch before")
	require.EqualValues(t, 3, m.Index)
	_, err = d.BlockOf(1, 3)
	require.ErrorIs(t, err, ErrNotCommitted)
	require.NoError(t, d.VerifyScan(t.Context(), func(uint64, uint64) {}))
	require.NoError(t, d.Close())
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}
