package mempool_test

import (
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/coppice-go/coppice/engines/chain"
	"github.com/coppice-go/coppice/engines/mempool"
)

// patient is a backend that defers what begins with "later" for a minute after the genesis.
type patient struct{ lenient }

func (patient) NotBefore(body []byte) (time.Time, bool) {
	return genesis.Add(time.Minute), strings.HasPrefix(string(body), "later")
}

func patientTx(t *testing.T, nonce, body string) []byte {
	t.Helper()
	raw, err := chain.Tx{Backend: "any", Nonce: []byte(nonce), ValidUntil: genesis.Add(5 * time.Minute),
		Body: []byte(body)}.Encode()
	require.NoError(t, err)
	return raw
}

// A transaction is refused until the time that its backend names has passed: by the clock when it
// is submitted, by the block's time when it is proposed.
func TestADeferredTransactionIsRefusedUntilItsTime(t *testing.T) {
	backends := map[string]chain.Backend{"any": patient{}}
	var late atomic.Int64
	r := start(t, func(c *mempool.Config) {
		c.Backends, c.Now = backends, func() time.Time { return genesis.Add(time.Minute + time.Duration(late.Load())) }
	}, nil)
	r.Client = mempool.NewClient(r.dir, backends)
	soon, later := patientTx(t, "1", "soon"), patientTx(t, "2", "later")

	out := r.submit(soon, later)
	require.NoError(t, out[0].Err)
	require.ErrorIs(t, out[1].Err, chain.ErrDeferred)
	require.ErrorContains(t, out[1].Err, "until after")
	late.Store(1)
	require.NoError(t, r.submit(later)[0].Err)

	s := chain.State{ChainID: "test", Params: chain.DefaultParams()}
	for after, premature := range map[time.Duration]bool{0: true, time.Minute: true, time.Minute + 1: false} {
		at := genesis.Add(after)
		require.Equal(t, premature, r.Premature(later, at))
		require.Equal(t, premature, r.Check(later, s, at) != nil)
		require.False(t, r.Premature(soon, at))
	}
	require.False(t, r.Premature([]byte{1}, genesis), "what is no transaction is refused for that")
}

// Pending finds what a backend has under a nonce until it ends, whatever the body.
func TestPendingFindsByNonce(t *testing.T) {
	r := start(t, nil, nil)
	out := r.submit(tx(t, 1, time.Minute), tx(t, 2, time.Minute))
	found, err := r.Pending(t.Context(), "any", []byte("2"))
	require.NoError(t, err)
	require.Equal(t, []chain.TxID{out[1].ID}, found)

	for backend, nonce := range map[string]string{"any": "3", "other": "2"} {
		found, err = r.Pending(t.Context(), backend, []byte(nonce))
		require.NoError(t, err)
		require.Empty(t, found)
	}

	r.commit(1, genesis.Add(2*time.Minute))
	_, err = r.Wait(t.Context(), []chain.TxID{out[1].ID})
	require.NoError(t, err)
	found, err = r.Pending(t.Context(), "any", []byte("2"))
	require.NoError(t, err)
	require.Empty(t, found, "it has expired")
}
