package mempool_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/coppice-go/coppice/engines/chain"
	"github.com/coppice-go/coppice/engines/mempool"
	logv1 "github.com/coppice-go/coppice/proto/coppice/log/v1"
)

// narrow is a backend of which two transactions of each sender may wait. The body is the sender.
type narrow struct{ lenient }

func (narrow) Sender(body []byte) (string, int) { return string(body), 2 }

// One sender cannot fill the pool, and what has ended makes room.
func TestOneSenderHasSoMuchRoom(t *testing.T) {
	backends := map[string]chain.Backend{"any": narrow{}}
	r := start(t, func(c *mempool.Config) { c.Backends = backends }, nil)
	r.Client = mempool.NewClient(r.dir, backends)
	n := 0
	submit := func(from string) chain.Submitted {
		n++
		raw, err := chain.Tx{Backend: "any", Nonce: fmt.Append(nil, n), ValidUntil: genesis.Add(time.Minute),
			Body: []byte(from)}.Encode()
		require.NoError(t, err)
		return r.submit(raw)[0]
	}

	first := submit("a")
	require.NoError(t, first.Err)
	require.NoError(t, submit("a").Err)
	require.ErrorIs(t, submit("a").Err, chain.ErrPoolFull)
	require.ErrorContains(t, submit("a").Err, "for a: 2 of its transactions wait")
	require.NoError(t, submit("b").Err)
	for range 3 {
		require.NoError(t, submit("").Err, "nobody's transactions have no bound")
	}

	r.commit(1, genesis, &logv1.TxResult{Id: first.ID[:]})
	_, err := r.Wait(t.Context(), []chain.TxID{first.ID})
	require.NoError(t, err)
	require.NoError(t, submit("a").Err)
	require.ErrorIs(t, submit("a").Err, chain.ErrPoolFull)
}
