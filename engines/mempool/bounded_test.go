package mempool_test

import (
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/coppice-go/coppice/engines/chain"
	"github.com/coppice-go/coppice/engines/mempool"
	logv1 "github.com/coppice-go/coppice/proto/coppice/log/v1"
)

// narrow is a backend of which two transactions of each sender may wait. The body is the sender.
type narrow struct {
	lenient
	checks *atomic.Int64
}

func (n narrow) Check(body []byte) error {
	n.checks.Add(1)
	return n.lenient.Check(body)
}

func (narrow) Sender(body []byte) (string, chain.Bounds) {
	return string(body), chain.Bounds{Waiting: 2, Block: 1}
}

// One sender cannot fill the pool, and what has ended makes room. What is beyond the bound is
// refused before its backend checks it, which may cost much.
func TestOneSenderHasSoMuchRoom(t *testing.T) {
	var checks atomic.Int64
	backends := map[string]chain.Backend{"any": narrow{checks: &checks}}
	r := start(t, func(c *mempool.Config) { c.Backends = backends }, nil)
	r.Client = mempool.NewClient(r.dir, backends)
	n := 0
	tx := func(from string) []byte {
		n++
		raw, err := chain.Tx{Backend: "any", Nonce: fmt.Append(nil, n), ValidUntil: genesis.Add(time.Minute),
			Body: []byte(from)}.Encode()
		require.NoError(t, err)
		return raw
	}
	submit := func(from string) chain.Submitted { return r.submit(tx(from))[0] }

	first := submit("a")
	require.NoError(t, first.Err)
	require.NoError(t, submit("a").Err)
	require.ErrorIs(t, submit("a").Err, chain.ErrPoolFull)
	require.ErrorContains(t, submit("a").Err, "for a: 2 of its transactions wait")
	require.EqualValues(t, 2, checks.Load())
	require.ErrorIs(t, submit(strings.Repeat("large", 1<<20)).Err, chain.ErrTooLarge)
	require.EqualValues(t, 2, checks.Load())

	hopeless := [][]byte{tx("a"), {1}, tx("a")}
	for i, s := range r.submit(hopeless...) {
		require.Equal(t, chain.HashTx(hopeless[i]), s.ID)
		require.ErrorIs(t, s.Err, []error{chain.ErrPoolFull, chain.ErrMalformedTx, chain.ErrPoolFull}[i])
	}
	mixed := r.submit(tx("a"), tx("b"))
	require.ErrorIs(t, mixed[0].Err, chain.ErrPoolFull)
	require.NoError(t, mixed[1].Err)
	require.EqualValues(t, 3, checks.Load())

	for range 3 {
		require.NoError(t, submit("").Err, "nobody's transactions have no bound")
	}

	r.commit(1, genesis, &logv1.TxResult{Id: first.ID[:]})
	_, err := r.Wait(t.Context(), []chain.TxID{first.ID})
	require.NoError(t, err)
	require.NoError(t, submit("a").Err)
	require.ErrorIs(t, submit("a").Err, chain.ErrPoolFull)
}

// sealed is a narrow backend whose transactions have their body as nonce.
type sealed struct{ narrow }

func (sealed) CheckSeal(tx chain.Tx) error {
	if string(tx.Nonce) != string(tx.Body) {
		return errors.New("another seal")
	}
	return nil
}

// A copy of a body in another transaction is refused before its backend checks it.
func TestACopyIsRefusedBeforeItIsChecked(t *testing.T) {
	var checks atomic.Int64
	backends := map[string]chain.Backend{"any": sealed{narrow{checks: &checks}}}
	r := start(t, func(c *mempool.Config) { c.Backends = backends }, nil)
	r.Client = mempool.NewClient(r.dir, backends)

	for nonce, most := range map[string]int64{"b": 0, "a": 1} {
		checks.Store(0)
		raw, err := chain.Tx{Backend: "any", Nonce: []byte(nonce), ValidUntil: genesis.Add(time.Minute),
			Body: []byte("a")}.Encode()
		require.NoError(t, err)
		if out := r.submit(raw); nonce == "a" {
			require.NoError(t, out[0].Err)
		} else {
			require.ErrorIs(t, out[0].Err, chain.ErrBadBody)
			require.ErrorContains(t, out[0].Err, "another seal")
		}
		require.Equal(t, most, checks.Load())
	}
}
