package storage

import (
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"

	"github.com/coppice-go/coppice/engines/chain"
	logv1 "github.com/coppice-go/coppice/proto/coppice/log/v1"
)

// commitTxs commits a block with the transactions, all of which succeed, and returns their ids.
func commitTxs(t *testing.T, d *DB, at time.Time, txs ...[]byte) (ids []chain.TxID) {
	t.Helper()
	b := block(d, at, txs...)
	refused, err := d.Begin(b)
	require.NoError(t, err)

	for i, raw := range txs {
		require.Nil(t, refused[i])
		ids = append(ids, chain.HashTx(raw))
		require.NoError(t, d.Finish(chain.Version{Period: b.Period, Height: b.Height, Index: uint32(i)}, nil,
			new(logv1.TxResult)))
	}

	s, err := d.Seal()
	require.NoError(t, err)
	require.NoError(t, d.Commit(d.State().Index+2, committed(s)))

	return ids
}

func remembers(t *testing.T, d *DB, ids ...chain.TxID) {
	t.Helper()
	for _, id := range ids {
		require.True(t, d.mayHave(id))
		_, found, err := d.Result(id)
		require.NoError(t, err)
		require.True(t, found)
	}
}

// absent returns how many of many never-applied ids are not denied.
func absent(t *testing.T, d *DB, many int) (undecided int) {
	t.Helper()
	for i := range many {
		if d.mayHave(chain.HashTx(tx(t, 1_000_000+i, genesis))) {
			undecided++
		}
	}
	return undecided
}

// A remembered id is never denied: after it was applied, after a restart, and after its filter was
// dropped because there were too many. An id that was never applied is nearly always denied; after
// a restart, once the ids that were applied before it have expired.
func TestWhatIsRememberedIsNeverDenied(t *testing.T) {
	fs := vfs.NewMem()
	o := Options{FS: fs, MemTableBytes: 1 << 20, recent: recentLimits{first: 4, largest: 16, filters: 4}}
	d, err := Open(dir, o)
	require.NoError(t, err)
	defer func() { require.NoError(t, d.Close()) }()

	require.NoError(t, d.StartChain(1, chainStarted(1)))
	n := 0
	some := func(at time.Time, valid time.Duration, count int) (txs [][]byte) {
		for range count {
			n++
			txs = append(txs, tx(t, n, at.Add(valid)))
		}
		return txs
	}
	const many = 10_000
	require.Zero(t, absent(t, d, many), "a new state has no ids")

	now := genesis.Add(time.Second)
	ids := commitTxs(t, d, now, some(now, window/2, 20)...)
	remembers(t, d, ids...)
	require.Less(t, absent(t, d, many), many/20)
	require.Greater(t, len(d.recent.now.Load().filters), 1)

	// Too many filters: the oldest is dropped, and nothing is denied until the last of its ids has
	// expired.
	now = now.Add(time.Second)
	ids = append(ids, commitTxs(t, d, now, some(now, window, 40)...)...)
	remembers(t, d, ids...)
	require.Len(t, d.recent.now.Load().filters, 4)
	require.Equal(t, many, absent(t, d, many))
	now = genesis.Add(time.Second + window/2 + time.Millisecond)
	commitTxs(t, d, now)
	require.Less(t, absent(t, d, many), many/20)
	remembers(t, d, ids[20:]...)

	// A restart forgets the filters. Nothing is denied until the ids from before have expired.
	require.NoError(t, d.Close())
	d, err = Open(dir, o)
	require.NoError(t, err)
	remembers(t, d, ids[20:]...)
	require.Equal(t, many, absent(t, d, many))
	now = genesis.Add(2*time.Second + window)
	last := commitTxs(t, d, now, some(now, window, 1)...)
	remembers(t, d, append(last, ids[20:]...)...)
	require.Equal(t, many, absent(t, d, many), "valid_until is at the block's time, and so not past")
	commitTxs(t, d, now.Add(time.Millisecond))
	require.Less(t, absent(t, d, many), many/20)
	remembers(t, d, last...)

	// Filters whose ids have all expired are dropped, and their memory is freed.
	commitTxs(t, d, now.Add(2*window))
	require.Empty(t, d.recent.now.Load().filters)
	require.Zero(t, absent(t, d, many))
}

// With 16 bits for each id and 6 probes within a cache line, few absent ids are taken for present
// ones.
func TestAFullFilterDeniesMostOfWhatItDoesNotHave(t *testing.T) {
	f := newFilter(1 << 14)
	for i := range f.size {
		id := chain.HashTx(tx(t, i, genesis))
		f.add(&logv1.TxResult{Id: id[:], ValidUntilMs: int64(i)})
	}

	require.Zero(t, f.room)
	require.EqualValues(t, f.size-1, f.until)
	wrong := 0

	for i := range 2 * f.size {
		if f.mayHave(chain.HashTx(tx(t, i, genesis))) {
			wrong++
		} else {
			require.GreaterOrEqual(t, i, f.size)
		}
	}

	wrong -= f.size
	require.Less(t, wrong, f.size/100)
}
