package mempool

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/coppice-go/coppice/engines/chain"
)

// The pool remembers the ids that expired most recently, as many as it has room for.
func TestRecentlyExpiredForgetsTheOldest(t *testing.T) {
	x := newRecentlyExpired(3)
	for i := range 8 {
		x.add(chain.TxID{byte(i)}, time.Unix(int64(i), 0))
	}

	require.Len(t, x.when, 3)
	for i := 5; i < 8; i++ {
		require.Equal(t, time.Unix(int64(i), 0), x.when[chain.TxID{byte(i)}])
	}
}

// A queue releases the memory of dropped elements, and keeps the others in order.
func TestFifoGivesMemoryBack(t *testing.T) {
	q := fifo{}
	for i := range 3000 {
		q.push(&entry{index: uint64(i)})
	}

	q.drop(func(e *entry) bool { return e.index < 2000 })
	require.Len(t, q.all(), 1000)
	require.EqualValues(t, 2000, q.all()[0].index)
	require.Len(t, q.list, 1000)
	q.drop(func(*entry) bool { return true })
	require.Empty(t, q.all())
}
