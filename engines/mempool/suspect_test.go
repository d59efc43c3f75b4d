package mempool_test

import (
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/coppice-go/coppice/engines/chain"
	"github.com/coppice-go/coppice/engines/mempool"
	logv1 "github.com/coppice-go/coppice/proto/coppice/log/v1"
)

// deaths holds the suspects of a test.
type deaths struct {
	mu        sync.Mutex
	of        map[chain.TxID][2]int
	forgotten []chain.TxID
	fail      error
}

func (d *deaths) Deaths(id chain.TxID) (eager, placed int) { return d.of[id][0], d.of[id][1] }
func (d *deaths) File() string                             { return "/home/deaths.json" }

func (d *deaths) Forget(ids []chain.TxID) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.forgotten = append(d.forgotten, ids...)
	return d.fail
}

// A transaction that was in flight at two deaths is executed only at its place; one death is a
// coincidence. A transaction that has ended is forgotten.
func TestSuspectsAreExecutedWithCare(t *testing.T) {
	once, twice := tx(t, 1, time.Minute), tx(t, 2, time.Minute)
	d := &deaths{of: map[chain.TxID][2]int{chain.HashTx(once): {1, 0}, chain.HashTx(twice): {1, 1}}}
	r := start(t, func(c *mempool.Config) { c.Suspects = d }, nil)
	r.submit(twice, once)
	require.Equal(t, chain.HashTx(once), (<-r.jobs).ID)
	require.Equal(t, 1, r.stat().Workers)

	r.place(1, twice)
	late := <-r.jobs
	require.Equal(t, chain.HashTx(twice), late.ID)
	require.True(t, late.Late)
	r.commit(1, genesis, result(once), result(twice))
	require.Zero(t, r.stat().Txs)
	d.mu.Lock()
	defer d.mu.Unlock()
	require.Equal(t, []chain.TxID{chain.HashTx(once), chain.HashTx(twice)}, d.forgotten)
}

// A decided transaction that ended the process twice at its place is not executed a third time. The
// node ends, and its error says what an operator needs to go on.
func TestADeadlyTransactionEndsTheNode(t *testing.T) {
	raw := tx(t, 1, time.Minute)
	id := chain.HashTx(raw)
	d := &deaths{of: map[chain.TxID][2]int{id: {0, 2}}}
	r := start(t, func(c *mempool.Config) { c.Suspects = d }, nil)
	err := r.Place(r.orderer, block(3, raw), make([]*logv1.TxResult, 1))
	require.ErrorIs(t, err, mempool.ErrDeadly)
	for _, text := range []string{id.String(), `backend "any"`, "block 3 of test", "/home/deaths.json"} {
		require.ErrorContains(t, err, text)
	}

	<-r.run.Done()
	require.ErrorIs(t, r.run.Err(), mempool.ErrDeadly, "no restart of the pool")
}

// A pool that cannot record the end of a suspect ends, because it would suspect the transaction for
// ever.
func TestSuspectsThatCannotBeForgotten(t *testing.T) {
	raw := tx(t, 1, time.Minute)
	d := &deaths{of: map[chain.TxID][2]int{chain.HashTx(raw): {1, 0}}, fail: errors.New("disk full")}
	r := start(t, func(c *mempool.Config) { c.Suspects = d }, nil)
	r.submit(raw)
	box, err := r.dir.Resolve(mempool.Name)
	require.NoError(t, err)
	r.commit(1, genesis, result(raw))
	<-box.Done()
	require.ErrorContains(t, box.Down(), "forgetting 1 suspects: disk full")
}
