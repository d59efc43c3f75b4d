package mempool_test

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/coppice-go/coppice/engines/chain"
	"github.com/coppice-go/coppice/engines/mempool"
	logv1 "github.com/coppice-go/coppice/proto/coppice/log/v1"
)

// renewable is the state of a chain that may enter another epoch.
type renewable struct {
	state
	now *atomic.Pointer[chain.State]
}

func (r renewable) State(context.Context) (chain.State, error) { return *r.now.Load(), nil }

// The time of a block in hold counts nowhere: what was acknowledged before goes to the next epoch.
// There it expires by the time of the blocks of that epoch.
func TestNothingExpiresInHold(t *testing.T) {
	was, err := state{}.State(t.Context())
	require.NoError(t, err)
	now := new(atomic.Pointer[chain.State])
	now.Store(&was)
	r := start(t, func(c *mempool.Config) { c.Store = renewable{now: now} }, nil)
	soon, late := tx(t, 1, time.Second), tx(t, 2, time.Minute)
	r.submit(soon)

	value, err := chain.Reset{Height: 2, TimeNs: genesis.UnixNano(), Offset: 20}.Encode()
	require.NoError(t, err)
	decided := &logv1.BlockCommitted{ChainId: "test", Height: 2, TimeNs: genesis.UnixNano(),
		Changes: []*logv1.Change{{Key: []byte(chain.ResetKey), Value: value}}}
	require.NoError(t, r.Committed(r.orderer, decided))
	r.commit(3, genesis.Add(time.Hour)) // held
	txs, _, err := r.Offer(t.Context(), 0, 10, 1<<20, false)
	require.NoError(t, err)
	require.Equal(t, [][]byte{soon}, txs)

	r.submit(late)
	next := was
	next.ChainID, next.Period, next.InitialHeight, next.Height = "test-1", 1, 22, 22
	now.Store(&next)
	require.NoError(t, r.Committed(r.orderer, &logv1.BlockCommitted{ChainId: "test-1", Period: 1, Height: 22,
		TimeNs: genesis.UnixNano()}))
	txs, _, err = r.Offer(t.Context(), 0, 10, 1<<20, false)
	require.NoError(t, err)
	require.Equal(t, [][]byte{soon, late}, txs)

	require.NoError(t, r.Committed(r.orderer, &logv1.BlockCommitted{ChainId: "test-1", Period: 1, Height: 23,
		TimeNs: genesis.Add(2 * time.Second).UnixNano()}))
	ends, err := r.Wait(t.Context(), []chain.TxID{chain.HashTx(soon)})
	require.NoError(t, err)
	require.NotNil(t, ends[0].Expired)
}
