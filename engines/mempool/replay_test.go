package mempool_test

import (
	"context"
	"encoding/binary"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"

	"github.com/coppice-go/coppice/engines/chain"
	"github.com/coppice-go/coppice/engines/mempool"
	"github.com/coppice-go/coppice/eventlog"
	logv1 "github.com/coppice-go/coppice/proto/coppice/log/v1"
	"github.com/coppice-go/coppice/supervisor"
	"github.com/coppice-go/coppice/supervisor/suptest"
)

// logged writes records before the pool starts.
func logged(t *testing.T, c *mempool.Config, msgs ...proto.Message) {
	t.Helper()
	for _, m := range msgs {
		rec, err := chain.NewRecord(m)
		require.NoError(t, err)
		_, err = r0(c).log.AppendWait(t.Context(), rec)
		require.NoError(t, err)
	}
}

func launched(raw []byte) *logv1.TxLaunched {
	return &logv1.TxLaunched{Tx: raw, ReceivedNs: genesis.UnixNano()}
}

// I1: after a restart the pool has each transaction that was acknowledged and has not ended, once,
// in log order, with a worker. Which ones have ended it learns from the log or from the state.
func TestReplayFindsWhatHasNotEnded(t *testing.T) {
	var txs [][]byte
	for n := range 5 {
		txs = append(txs, tx(t, n, time.Minute))
	}

	expired := chain.HashTx(txs[1])
	s := newStore()
	s.results[chain.HashTx(txs[2])] = result(txs[2])
	r := start(t, func(c *mempool.Config) {
		c.Store = s
		logged(t, c, launched(txs[0]), launched(txs[1]), launched(txs[2]), launched(txs[3]), launched(txs[3]),
			&logv1.OrderDecided{Height: 1, Txs: txs[2:3]}, &logv1.TxExpired{Id: expired[:], BlockTimeNs: 7},
			&logv1.BlockCommitted{Height: 1, Results: []*logv1.TxResult{result(txs[2]), result([]byte("others'"))}})
	}, nil)
	require.Equal(t, [][]byte{txs[0], txs[3]}, r.offered())
	require.Equal(t, chain.HashTx(txs[0]), (<-r.jobs).ID)
	require.Equal(t, chain.HashTx(txs[3]), (<-r.jobs).ID)
	require.Equal(t, int64(7), r.look(txs[1]).Expired.UnixNano())
	require.NotNil(t, r.look(txs[2]).Result)
	require.False(t, r.look(txs[4]).Known)
	require.EqualValues(t, 1, r.stat().Floor)

	r.commit(2, genesis, result(txs[0]))
	require.EqualValues(t, 4, r.stat().Floor, "the oldest transaction that has not ended")
}

// A snapshot may replace the blocks that led to a state. A transaction whose block is therefore not
// in the log has ended if the state has its result.
func TestReplayOverASnapshot(t *testing.T) {
	s := newStore()
	a, b := tx(t, 1, time.Minute), tx(t, 2, time.Minute)
	s.results[chain.HashTx(a)] = result(a)
	r := start(t, func(c *mempool.Config) {
		c.Store = s
		logged(t, c, launched(a), launched(b), &logv1.SnapshotInstalled{Height: 9})
	}, nil)
	require.Equal(t, [][]byte{b}, r.offered())
}

// The floor is saved every 4096 records, and a replay begins at it.
func TestTheFloorIsSaved(t *testing.T) {
	s := newStore()
	r := start(t, func(c *mempool.Config) { c.Store, c.MaxEager = s, 1 }, nil)
	const n = 5000
	var txs [][]byte
	var results []*logv1.TxResult

	for i := range n {
		txs = append(txs, tx(t, i, time.Minute))
		results = append(results, result(txs[i]))
	}

	r.submit(txs...)
	require.Equal(t, n, r.stat().Queued)
	r.commit(1, genesis, results[:n-1]...)
	saved := <-s.put
	require.EqualValues(t, n, binary.BigEndian.Uint64(saved))
	require.Equal(t, txs[n-1:], r.offered(), "ended transactions are dropped from the queue")

	s.local["pool/floor"] = saved
	require.NoError(t, r.run.Kill("pool", errors.New("by hand")))
	suptest.Wait(t, r.rec, 2, func(e supervisor.ChildStarted) bool { return e.Path == "pool" })
	require.Equal(t, txs[n-1:], r.offered())
	require.EqualValues(t, n, r.stat().Floor)
}

// ahead is a store whose state has applied blocks.
type ahead struct {
	*store
	index atomic.Uint64
}

func (a *ahead) State(ctx context.Context) (chain.State, error) {
	s, err := a.store.State(ctx)
	s.Index = a.index.Load()
	return s, err
}

// The floor of a node that launches nothing itself, such as one of many validators, follows the
// blocks: its restart does not read all that it has seen since the last one. It never passes a
// transaction that is on its way to the log, or that has not ended.
func TestTheFloorFollowsBlocksOfOthers(t *testing.T) {
	s := &ahead{store: newStore()}
	hold := make(chan func(), 1)
	r := start(t, func(c *mempool.Config) { c.Store = s }, hold)

	s.index.Store(9000)
	r.commit(1, genesis, result([]byte("others'")))
	require.EqualValues(t, 9001, r.stat().Floor)
	require.EqualValues(t, 9001, binary.BigEndian.Uint64(<-s.put))

	acked := make(chan error, 1)
	go func() {
		_, err := r.Submit(t.Context(), [][]byte{tx(t, 1, time.Minute)})
		acked <- err
	}()
	durable := <-hold
	s.index.Store(20_000)
	r.commit(2, genesis, result([]byte("others'")))
	require.EqualValues(t, 9001, r.stat().Floor, "its record may be before the block's")
	durable()
	require.NoError(t, <-acked)
}

// A record or a key that cannot be read keeps the pool from starting. The error says where it is.
func TestReplayRefusesDamage(t *testing.T) {
	for _, c := range []struct {
		want  string
		write func(*testing.T, *mempool.Config, *store)
	}{
		{`node-local key "pool/floor": 3 bytes, want 8`, func(_ *testing.T, _ *mempool.Config, s *store) {
			s.local["pool/floor"] = []byte("abc")
		}},
		{"record 1: malformed transaction", func(t *testing.T, c *mempool.Config, _ *store) {
			logged(t, c, launched([]byte{1}))
		}},
		{"record 1: transaction id: 2 bytes, want 32", func(t *testing.T, c *mempool.Config, _ *store) {
			logged(t, c, &logv1.BlockCommitted{Results: []*logv1.TxResult{{Id: []byte("id")}}})
		}},
		{"transaction id: 2 bytes, want 32", func(t *testing.T, c *mempool.Config, _ *store) {
			logged(t, c, &logv1.TxExpired{Id: []byte("id")})
		}},
		{"replay", func(t *testing.T, c *mempool.Config, _ *store) {
			_, err := r0(c).log.AppendWait(t.Context(), eventlog.Record{Kind: chain.KindTxLaunched, Data: []byte{255}})
			require.NoError(t, err)
		}},
	} {
		t.Run(c.want, func(t *testing.T) {
			s := newStore()
			spec, _, _ := prepare(t, func(m *mempool.Config) {
				m.Store = s
				c.write(t, m, s)
			}, nil)
			sup, err := supervisor.New(spec)
			require.NoError(t, err)
			_, err = sup.Start(t.Context())
			require.ErrorContains(t, err, c.want)
		})
	}
}
