package node

import (
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/zap"

	"github.com/coppice-go/coppice/engines/backend/kv"
	"github.com/coppice-go/coppice/engines/chain"
	"github.com/coppice-go/coppice/engines/mempool"
	"github.com/coppice-go/coppice/engines/storage"
	"github.com/coppice-go/coppice/eventlog"
	"github.com/coppice-go/coppice/node/config"
	"github.com/coppice-go/coppice/node/home"
	"github.com/coppice-go/coppice/node/offline"
	"github.com/coppice-go/coppice/node/plan"
	"github.com/coppice-go/coppice/node/progress"
	"github.com/coppice-go/coppice/node/retention"
)

// truncating makes a home whose log is truncated behind snapshots.
func truncating(t *testing.T) *hand {
	t.Helper()
	dir := t.TempDir()
	_, err := home.Init(dir, home.InitOptions{ChainID: "test", Listen: "127.0.0.1:0", Profile: plan.Chaos,
		Set: []config.Assignment{
			{Key: "log.retain", Value: config.RetainSnapshot, Flag: "--set"},
			{Key: "snapshots.keep", Value: "1", Flag: "--set"},
			{Key: "snapshots.every_bytes", Value: "1", Flag: "--set"},
			{Key: "retention.versions", Value: "2", Flag: "--set"},
		}})
	require.NoError(t, err)
	h := driveHome(t, dir)
	_, err = h.ordering.InitChain(t.Context(), h.genesis)
	require.NoError(t, err)

	return h
}

// retentionRounds makes blocks, each in a segment of its own, and runs a round of retention after
// each.
func retentionRounds(t *testing.T, h *hand, n int, before func(*hand)) *hand {
	t.Helper()
	for range n {
		tx := h.tx(kv.Add([]byte("n"), 1), time.Minute)
		h.submit(tx)
		b := h.next(tx)
		h.order(b)
		h.commit(b)
		h.close()
		h = driveHome(t, h.home)
		if before != nil {
			before(h)
		}

		require.NoError(t, h.snaps.Round(t.Context(), h.core.Load().dir))
	}

	return h
}

// endOf returns how an acknowledged transaction has ended.
func endOf(t *testing.T, h *hand, id chain.TxID) chain.Ending {
	t.Helper()
	ends, err := h.pool.Look(t.Context(), []chain.TxID{id})
	require.NoError(t, err)
	return ends[0]
}

// I1: an acknowledged transaction without a result holds back truncation, however far snapshots and
// state are. A bug that the test plants, truncation past the pool's floor, loses the transaction.
func TestTruncationStopsAtThePoolsFloor(t *testing.T) {
	for name, bug := range map[string]func(*hand){
		"as it is": nil,
		"seeded bug: truncation past the pool's floor": func(h *hand) {
			require.NoError(h.t, h.log.Use(h.t.Context(), func(l *eventlog.Log) error {
				l.Retain(mempool.RetainerName, math.MaxUint64) // takes the pool's place, and holds nothing
				return nil
			}))
		},
	} {
		t.Run(name, func(t *testing.T) {
			h := truncating(t)
			waits := h.submit(h.tx(kv.Put([]byte("waiting"), []byte("yes")), time.Minute))[0]
			require.NoError(t, waits.Err)
			h = retentionRounds(t, h, 5, bug)
			first, err := h.log.First(t.Context())
			require.NoError(t, err)
			h.close()
			h = driveHome(t, h.home)
			defer h.close()

			lost := !endOf(t, h, waits.ID).Known

			if bug != nil {
				require.Greater(t, first, uint64(2), "the record of the acknowledged transaction is gone")
				require.True(t, lost, "the bug must be caught: it was acknowledged and nobody knows it (I1)")
				return
			}

			require.LessOrEqual(t, first, uint64(2))
			require.False(t, lost, "it was acknowledged (I1)")
		})
	}
}

// Once the transaction has its result, the log is truncated further. The node starts with the rest
// of the log, verify replays it, and it gives the state again from the oldest snapshot.
func TestATruncatedLogStartsVerifiesAndRestores(t *testing.T) {
	h := truncating(t)
	h = retentionRounds(t, h, 6, nil)
	first, err := h.log.First(t.Context())
	require.NoError(t, err)
	require.Greater(t, first, uint64(2))
	state, err := h.store.State(t.Context())
	require.NoError(t, err)
	_, _, _, err = h.store.Get(t.Context(), []byte("n"), 2)
	require.ErrorIs(t, err, storage.ErrPruned)
	require.ErrorContains(t, err, "the oldest is 4")
	b := h.next(h.tx(kv.Add([]byte("n"), 1), time.Minute)) // past the snapshot
	h.order(b)
	h.commit(b)
	h.close()

	v, err := offline.Verify(t.Context(), h.home, offline.VerifyOptions{})
	require.NoError(t, err)
	require.Equal(t, first, v.First)
	require.NotEmpty(t, v.Base)
	require.EqualValues(t, 7, v.Height)
	m, err := offline.RestoreSnapshot(t.Context(), h.home, "", nil)
	require.NoError(t, err)
	require.Equal(t, state.Height, m.Height)
	h = driveHome(t, h.home)
	defer h.close()

	value, _, at, err := h.store.Get(t.Context(), []byte("n"), 0)
	require.NoError(t, err)
	require.Equal(t, "7", string(value))
	require.EqualValues(t, 7, at)
}

// A retainer that any follower of the log registers holds the log too, and is listed with the
// others.
func TestWhatHoldsTheLogIsTold(t *testing.T) {
	h := truncating(t)
	h = retentionRounds(t, h, 3, func(h *hand) {
		_, err := h.log.Retain(t.Context(), "sink", 1)
		require.NoError(t, err)
	})
	defer h.close()

	r, err := h.snaps.Retention(t.Context())
	require.NoError(t, err)
	require.EqualValues(t, 1, r.First)
	names := map[string]bool{}
	for _, f := range r.Retainers {
		names[f.Name] = true
	}

	require.Equal(t, map[string]bool{"sink": true, mempool.RetainerName: true, retention.RetainState: true,
		retention.RetainSnapshots: true}, names)
	require.Equal(t, "sink", r.Retainers[0].Name, "the one that holds back most comes first")
	require.EqualValues(t, 1, r.Retainers[0].Floor)
}

// A long step of a start reports how far it is.
func TestAStartTellsItsProgress(t *testing.T) {
	p := progress.Tracker{Logger: zap.NewNop()}
	at := p.ReplayFunc()
	at(11, 20)
	now, busy := p.Current()
	require.True(t, busy)
	require.Equal(t, 10, now.Percent())
	require.Contains(t, now.String(), "replaying the event log: 10 % (1 of 10 records")
	at(20, 20)
	_, busy = p.Current()
	require.False(t, busy)
}
