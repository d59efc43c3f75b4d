package mempool_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/coppice-go/coppice/engines/chain"
	"github.com/coppice-go/coppice/engines/mempool"
	logv1 "github.com/coppice-go/coppice/proto/coppice/log/v1"
	"github.com/coppice-go/coppice/supervisor"
	"github.com/coppice-go/coppice/supervisor/suptest"
)

// store is a state. The test fills in its results and its node-local keys.
type store struct {
	state
	mu      sync.Mutex
	results map[chain.TxID]*logv1.TxResult
	local   map[string][]byte
	put     chan []byte       // values put under a node-local key
	asked   chan []chain.TxID // ids whose results the pool asked for, if set
}

func newStore() *store {
	return &store{results: make(map[chain.TxID]*logv1.TxResult), local: make(map[string][]byte),
		put: make(chan []byte, 100)}
}

func (s *store) Results(_ context.Context, ids []chain.TxID) ([]*logv1.TxResult, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make([]*logv1.TxResult, len(ids))
	for i, id := range ids {
		out[i] = s.results[id]
	}

	if s.asked != nil {
		s.asked <- ids
	}

	return out, nil
}

func (s *store) GetLocal(_ context.Context, name string) ([]byte, bool, error) {
	v, found := s.local[name]
	return v, found, nil
}

func (s *store) PutLocal(_ context.Context, _ string, value []byte) error {
	s.put <- value
	return nil
}

// result returns a result of a transaction.
func result(raw []byte) *logv1.TxResult {
	id := chain.HashTx(raw)
	return &logv1.TxResult{Id: id[:], Data: []byte("done")}
}

// block returns a block of the transactions. Block time is a second per height after genesis.
func block(height uint64, txs ...[]byte) chain.Block {
	return chain.Block{ChainID: "test", Period: 1, Height: height, Txs: txs,
		Time: genesis.Add(time.Duration(height) * time.Second)}
}

// place makes the orderer place a block without refused transactions.
func (r *rig) place(height uint64, txs ...[]byte) {
	r.t.Helper()
	require.NoError(r.t, r.Place(r.orderer, block(height, txs...), make([]*logv1.TxResult, len(txs))))
}

func (r *rig) offered() [][]byte {
	r.t.Helper()
	txs, _, err := r.Offer(r.t.Context(), 0, 1000, 1<<20, false)
	require.NoError(r.t, err)
	return txs
}

func (r *rig) look(raw []byte) chain.Ending {
	r.t.Helper()
	ends, err := r.Look(r.t.Context(), []chain.TxID{chain.HashTx(raw)})
	require.NoError(r.t, err)
	return ends[0]
}

func (r *rig) stat() mempool.Stat {
	r.t.Helper()
	s, err := r.Stat(r.t.Context())
	require.NoError(r.t, err)
	return s
}

// Take waits for a transaction. It returns the oldest ones within its bounds, but at least one. A
// transaction that was taken and not placed is taken again; a placed one is not.
func TestTakeReturnsTheOldest(t *testing.T) {
	r := start(t, nil, nil)
	all := [][]byte{tx(t, 1, time.Minute), tx(t, 2, time.Minute), tx(t, 3, time.Minute)}
	taken := make(chan [][]byte, 1)
	go func() {
		txs, _ := r.Take(t.Context(), 10, 1<<20)
		taken <- txs
	}()

	r.submit(all[0])
	require.Equal(t, all[:1], <-taken)
	r.submit(all[1:]...)

	for _, want := range []struct{ txs, bytes, got int }{{10, 1 << 20, 3}, {2, 1 << 20, 2}, {10, 1, 1}} {
		txs, err := r.Take(t.Context(), want.txs, want.bytes)
		require.NoError(t, err)
		require.Equal(t, all[:want.got], txs)
	}

	r.place(1, all[1])
	txs, err := r.Take(t.Context(), 10, 1<<20)
	require.NoError(t, err)
	require.Equal(t, [][]byte{all[0], all[2]}, txs)
}

// The worker of a transaction that was submitted here learns its place. Another node's transaction
// gets a worker that has its place. A transaction that the block refuses gets no worker and is not
// offered.
func TestABlockGivesEachTransactionItsPlace(t *testing.T) {
	r := start(t, nil, nil)
	own, refused, others := tx(t, 1, time.Minute), tx(t, 2, time.Minute), tx(t, 3, time.Minute)
	r.submit(own, refused)
	eager := <-r.jobs
	require.Equal(t, chain.HashTx(own), eager.ID)
	require.False(t, eager.Late)
	require.Equal(t, "any", eager.Tx.Backend)
	require.NotNil(t, eager.Backend)
	require.NotNil(t, eager.Params)
	withdrawn := <-r.jobs
	require.Equal(t, 2, r.stat().Workers)

	b := block(1, refused, own, others)
	require.NoError(t, r.Place(r.orderer, b, []*logv1.TxResult{result(refused), nil, nil}))
	at := <-eager.Place
	require.Equal(t, chain.Placement{Version: chain.Version{Period: 1, Height: 1, Index: 1}, Time: b.Time}, at)
	late := <-r.jobs
	require.Equal(t, chain.HashTx(others), late.ID)
	require.True(t, late.Late)
	require.EqualValues(t, 2, (<-late.Place).Version.Index)
	require.Empty(t, r.offered())
	require.True(t, r.look(others).Known)

	r.commit(1, b.Time, result(refused), result(own), result(others))
	_, open := <-withdrawn.Place
	require.False(t, open, "the transaction will get no place")
	require.Zero(t, r.stat().Txs)
	require.Zero(t, r.stat().Bytes)
}

// I5: a block of an orderer that the pool did not start with is not placed, and a commit from that
// orderer is ignored.
func TestAReplacedOrdererIsFenced(t *testing.T) {
	r := start(t, nil, nil)
	raw := tx(t, 1, time.Minute)
	r.submit(raw)
	stranger := suptest.Context(t, "orderer")
	require.ErrorIs(t, r.Place(stranger, block(1, raw), make([]*logv1.TxResult, 1)), supervisor.ErrFenced)
	require.NoError(t, r.Committed(stranger, &logv1.BlockCommitted{Results: []*logv1.TxResult{result(raw)}}))
	require.Equal(t, [][]byte{raw}, r.offered())
}

// If a block contains a transaction that cannot be decoded and does not refuse it, the orderer is
// wrong, and the pool ends.
func TestAnUndecodableTransactionMustBeRefused(t *testing.T) {
	r := start(t, nil, nil)
	err := r.Place(r.orderer, block(1, []byte{1}), make([]*logv1.TxResult, 1))
	require.ErrorIs(t, err, chain.ErrMalformedTx)
}

// Another node's proposal may be decided before our record of the transaction is durable. The
// submission is acknowledged once the record is durable, and the transaction is not offered.
func TestABlockMayBeFasterThanOurDisk(t *testing.T) {
	hold := make(chan func(), 1)
	r := start(t, nil, hold)
	raw := tx(t, 1, time.Minute)
	acked := make(chan []chain.Submitted, 2)
	submit := func() {
		out, _ := r.Submit(t.Context(), [][]byte{raw})
		acked <- out
	}

	go submit()
	durable := <-hold
	r.place(1, raw)
	require.Equal(t, chain.HashTx(raw), (<-r.jobs).ID)
	submit()
	require.NoError(t, (<-acked)[0].Err, "a transaction in a block needs no record of ours")
	require.Empty(t, acked)

	durable()
	require.NoError(t, (<-acked)[0].Err)
	require.Empty(t, r.offered())
	require.Empty(t, r.jobs)
}

// Wait returns when the last of its transactions has ended, or, at the end of its context, with the
// results that are known by then. It does not wait for an unknown id.
func TestWait(t *testing.T) {
	state := newStore()
	r := start(t, func(c *mempool.Config) { c.Store = state }, nil)
	a, b, old := tx(t, 1, time.Minute), tx(t, 2, time.Minute), tx(t, 3, time.Minute)
	state.results[chain.HashTx(old)] = result(old)
	ids := []chain.TxID{chain.HashTx(a), chain.HashTx(b), chain.HashTx(a), chain.HashTx(old), {9}}
	r.submit(a, b)
	state.asked = make(chan []chain.TxID, 10)

	ends := make(chan []chain.Ending, 1)
	go func() {
		out, _ := r.Wait(t.Context(), ids)
		ends <- out
	}()

	require.Equal(t, ids[3:], <-state.asked)
	r.commit(1, genesis, result(a))
	require.Nil(t, r.look(b).Result)
	r.commit(2, genesis, result(b))
	got := <-ends

	for i, known := range []bool{true, true, true, true, false} {
		require.Equal(t, ids[i], got[i].ID)
		require.Equal(t, known, got[i].Known)
		require.Equal(t, known, got[i].Result != nil)
	}

	c := tx(t, 4, time.Minute)
	r.submit(c)
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	got, err := r.Wait(ctx, []chain.TxID{chain.HashTx(c), ids[4]})
	require.NoError(t, err)
	require.Equal(t, []chain.Ending{{ID: chain.HashTx(c), Known: true}, {ID: ids[4]}}, got)
}

// A waiting offer ends when the next one begins to wait.
func TestOneOfferWaits(t *testing.T) {
	r := start(t, nil, nil)
	first := make(chan [][]byte, 1)
	go func() {
		txs, _, _ := r.Offer(t.Context(), 0, 1, 1<<20, true)
		first <- txs
	}()

	second := make(chan [][]byte, 1)
	go func() {
		txs, _, _ := r.Offer(t.Context(), 0, 1, 1<<20, true)
		second <- txs
	}()

	var left chan [][]byte
	select { // whichever came first
	case txs := <-first:
		require.Empty(t, txs)
		left = second
	case txs := <-second:
		require.Empty(t, txs)
		left = first
	}

	raw := tx(t, 1, time.Minute)
	r.submit(raw)
	require.Equal(t, [][]byte{raw}, <-left)
}

// The number of workers that wait for their place is bounded. A transaction beyond the bound is
// executed at its place.
func TestEagerWorkersAreBounded(t *testing.T) {
	r := start(t, func(c *mempool.Config) { c.MaxEager = 1 }, nil)
	a, b := tx(t, 1, time.Minute), tx(t, 2, time.Minute)
	r.submit(a, b)
	require.Equal(t, chain.HashTx(a), (<-r.jobs).ID)
	require.Equal(t, 1, r.stat().Workers)
	require.Empty(t, r.jobs)
	r.place(1, b, a)
	late := <-r.jobs
	require.Equal(t, chain.HashTx(b), late.ID)
	require.True(t, late.Late)
	require.Zero(t, r.stat().Workers)
}

// slow is a crew that comes up when the test releases it.
type slow struct {
	crew
	up chan struct{}
}

func (s slow) AwaitUp(ctx context.Context) error {
	select {
	case <-s.up:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// Transactions are acknowledged and placed before the workers are up, and executed afterwards.
func TestTransactionsWaitForTheWorkers(t *testing.T) {
	up := make(chan struct{})
	r := start(t, func(c *mempool.Config) { c.Workers = slow{c.Workers.(crew), up} }, nil)
	a, b := tx(t, 1, time.Minute), tx(t, 2, time.Minute)
	r.submit(a)
	r.place(1, b)
	require.Equal(t, 1, r.stat().Workers)
	require.Empty(t, r.jobs)
	close(up)
	first, second := <-r.jobs, <-r.jobs
	require.Equal(t, chain.HashTx(a), first.ID)
	require.False(t, first.Late)
	require.Equal(t, chain.HashTx(b), second.ID)
	require.True(t, second.Late)
}

// gone is a crew that is being stopped.
type gone struct{ crew }

func (gone) StartChild(context.Context, string, *mempool.Task) (supervisor.Ref, error) {
	return supervisor.Ref{}, supervisor.ErrNotRunning
}

// Workers that are being stopped are not a failure of the pool, which is stopped after them.
func TestWorkersThatAreStopped(t *testing.T) {
	r := start(t, func(c *mempool.Config) { c.Workers = gone{c.Workers.(crew)} }, nil)
	r.submit(tx(t, 1, time.Minute))
	require.Equal(t, 1, r.stat().Txs)
	require.Zero(t, suptest.Count(r.rec, func(supervisor.ChildExited) bool { return true }))
}

func TestStat(t *testing.T) {
	now := genesis
	r := start(t, func(c *mempool.Config) { c.Now = func() time.Time { return now } }, nil)
	require.Equal(t, mempool.Stat{Floor: 1}, r.stat())
	a, b := tx(t, 1, time.Minute), tx(t, 2, time.Minute)
	r.submit(a, b)
	require.Equal(t, mempool.Stat{Txs: 2, Bytes: int64(len(a) + len(b)), Queued: 2, Workers: 2, Floor: 1}, r.stat())

	now = genesis.Add(time.Minute)
	require.Equal(t, time.Minute, r.stat().Oldest)
	r.commit(1, genesis, result(a))
	require.EqualValues(t, 2, r.stat().Floor, "the first record is no longer needed")
}
