package mempool_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/coppice-go/coppice/engines/chain"
	"github.com/coppice-go/coppice/engines/mempool"
	logv1 "github.com/coppice-go/coppice/proto/coppice/log/v1"
	"github.com/coppice-go/coppice/supervisor/suptest"

	"github.com/coppice-go/coppice/supervisor"
)

func alone(c *mempool.Config) { c.Alone = true }

// acked submits, and returns a channel for the answer.
func (r *rig) acked(txs ...[]byte) <-chan []chain.Submitted {
	out := make(chan []chain.Submitted, 1)
	go func() {
		if s, err := r.Submit(r.t.Context(), txs); err == nil {
			out <- s
		}
	}()
	return out
}

// I1: the pool of a node that is alone offers a transaction and starts its worker before its record
// is durable. It acknowledges the transaction, or the same one submitted again, only when the
// record is: not before it has its place, and not after.
func TestAPoolThatIsAloneAcknowledgesOnlyWhatIsDurable(t *testing.T) {
	r := start(t, alone, nil)
	raw := tx(t, 1, time.Minute)
	id := chain.HashTx(raw)
	first := r.acked(raw)

	txs, err := r.Take(t.Context(), 10, 1<<20)
	require.NoError(t, err)
	require.Equal(t, [][]byte{raw}, txs)
	require.Equal(t, id, (<-r.jobs).ID)
	again := r.acked(raw)
	b := chain.Block{ChainID: "test", Height: 1, Txs: txs}
	require.NoError(t, r.Place(r.orderer, b, make([]*logv1.TxResult, 1)))
	third := r.acked(raw)
	require.False(t, r.look(raw).Known)
	require.Equal(t, 1, r.stat().Txs)
	require.Empty(t, first)
	require.Empty(t, again)
	require.Empty(t, third)

	require.NoError(t, r.disk.log.Sync(t.Context()))
	for _, c := range []<-chan []chain.Submitted{first, again, third} {
		require.Equal(t, []chain.Submitted{{ID: id}}, <-c)
	}
	require.True(t, r.look(raw).Known)
	require.EqualValues(t, 1, r.disk.log.Durable(), "one record")
	require.EqualValues(t, 1, r.stat().Floor)

	r.commit(1, genesis, &logv1.TxResult{Id: id[:]})
	require.EqualValues(t, 2, r.stat().Floor)
}

// If no block comes whose sync covers a transaction, the pool asks for a sync of its own.
func TestAPoolThatIsAloneAsksForASyncIfNoBlockComes(t *testing.T) {
	r := start(t, alone, nil)
	first := r.acked(tx(t, 1, time.Minute))
	<-r.disk.soon
	require.NoError(t, r.disk.log.Sync(t.Context()))
	require.NoError(t, (<-first)[0].Err)
}

// What was offered and not acknowledged when the pool ends is in the log, and its successor offers
// it: a block may have it already.
func TestAPoolThatIsAloneOffersAgainWhatWasNotDurable(t *testing.T) {
	r := start(t, alone, nil)
	raw := tx(t, 1, time.Minute)
	r.acked(raw)
	_, err := r.Take(t.Context(), 10, 1<<20)
	require.NoError(t, err)
	require.NoError(t, r.run.Kill("pool", nil))
	suptest.Wait(t, r.rec, 1, func(supervisor.ChildExited) bool { return true })

	txs, err := r.Take(t.Context(), 10, 1<<20)
	require.NoError(t, err)
	require.Equal(t, [][]byte{raw}, txs)
	require.True(t, r.look(raw).Known)
	require.EqualValues(t, 1, r.disk.log.Durable())
}

// preparing is a backend that understands a body once.
type preparing struct{ lenient }

func (preparing) Prepare(body []byte) (any, error)                { return len(body), nil }
func (preparing) ExecutePrepared(chain.View, any) ([]byte, error) { return nil, nil }

// What a backend has understood of a body at its submission goes to the worker, as long as there is
// room for it. A worker after a restart has to understand the body again.
func TestWhatWasPreparedGoesToTheWorker(t *testing.T) {
	r := start(t, func(c *mempool.Config) {
		c.Backends = map[string]chain.Backend{"any": preparing{}}
	}, nil)
	r.Client = mempool.NewClient(r.dir, map[string]chain.Backend{"any": preparing{}})
	with := func(n, size int) []byte {
		raw, err := chain.Tx{Backend: "any", Nonce: []byte{byte(n)}, ValidUntil: genesis.Add(time.Minute),
			Body: make([]byte, size)}.Encode()
		require.NoError(t, err)
		return raw
	}

	const size = 900 << 10 // four of them have room
	var ids []chain.TxID
	for n := range 5 {
		ids = append(ids, r.submit(with(n, size))[0].ID)
		if n < 4 {
			require.Equal(t, size, (<-r.jobs).Prepared)
		} else {
			require.Nil(t, (<-r.jobs).Prepared)
		}
	}
	r.commit(1, genesis, &logv1.TxResult{Id: ids[0][:]}) // gives its room back
	r.submit(with(5, size))
	require.Equal(t, size, (<-r.jobs).Prepared)

	require.NoError(t, r.run.Kill("pool", nil))
	for range 5 {
		require.Nil(t, (<-r.jobs).Prepared)
	}
}
