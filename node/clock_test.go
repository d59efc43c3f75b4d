package node

import (
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/coppice-go/coppice/client"
	"github.com/coppice-go/coppice/engines/backend/kv"
	"github.com/coppice-go/coppice/engines/chain"
	"github.com/coppice-go/coppice/engines/consensus/solo"
	"github.com/coppice-go/coppice/node/home"
	"github.com/coppice-go/coppice/node/plan"
	logv1 "github.com/coppice-go/coppice/proto/coppice/log/v1"
)

// wall is a wall clock that a test sets.
type wall struct{ at atomic.Int64 }

func (w *wall) set(t time.Time) { w.at.Store(t.UnixNano()) }
func (w *wall) now() time.Time  { return time.Unix(0, w.at.Load()) }

// result submits a transaction that is valid until the given time, and waits for its result.
func (h *hand) result(until time.Time) *logv1.TxResult {
	h.t.Helper()
	h.clock = until
	sent := h.submit(h.tx(kv.Add([]byte("n"), 1), 0))[0]
	require.NoError(h.t, sent.Err)
	return h.ending(sent.ID)
}

func (h *hand) ending(id chain.TxID) *logv1.TxResult {
	h.t.Helper()
	ends, err := h.pool.Wait(h.t.Context(), []chain.TxID{id})
	require.NoError(h.t, err)
	require.NotNil(h.t, ends[0].Result)
	return ends[0].Result
}

// blockTime returns the time of the newest block. It is never before a time that the test has seen.
func (h *hand) blockTime(before time.Time) time.Time {
	h.t.Helper()
	s, err := h.store.State(h.t.Context())
	require.NoError(h.t, err)
	require.True(h.t, s.Time.After(before), "block time %v, was %v", s.Time, before)
	return s.Time
}

// With a wall clock that is set back an hour, no transaction that is valid by block time is
// refused, and block time does not go back. With one that is set forward an hour, expired
// transactions are refused, or end as expired in a block of that time. When the clock is right
// again, the chain goes on from there.
func TestAClockThatJumps(t *testing.T) {
	dir := t.TempDir()
	_, err := home.Init(dir, home.InitOptions{ChainID: "test", Listen: "127.0.0.1:0", Profile: plan.Chaos})
	require.NoError(t, err)
	begin := time.Now().Truncate(time.Millisecond)
	var intake, blocks wall // of submissions, and of blocks: apart, so that a jump may come between the two
	set := func(t time.Time) { intake.set(t); blocks.set(t) }
	set(begin)
	h := driveHome(t, dir, WithDriver(solo.Solo{Now: blocks.now}), func(n *Node) { n.now = intake.now })
	defer h.close()

	c := client.New(h.addr())
	defer c.CloseIdle()

	_, err = c.WaitReady(t.Context())
	require.NoError(t, err)

	require.Equal(t, logv1.Code_CODE_OK, h.result(begin.Add(time.Minute)).Code)
	at := h.blockTime(time.Time{})
	require.WithinDuration(t, begin, at, time.Second)

	set(begin.Add(-time.Hour)) // back
	require.Equal(t, logv1.Code_CODE_OK, h.result(begin.Add(time.Minute)).Code)
	at = h.blockTime(at)
	require.WithinDuration(t, begin, at, time.Second, "it stands still until the clock has caught up")

	set(begin.Add(time.Hour)) // forward, and right again before a block has seen it
	h.clock = begin.Add(time.Minute)
	late := h.tx(kv.Add([]byte("n"), 1), 0)
	require.ErrorIs(t, h.submit(late)[0].Err, chain.ErrExpired)
	set(begin)
	require.NoError(t, h.submit(late)[0].Err)
	require.Equal(t, logv1.Code_CODE_OK, h.ending(chain.HashTx(late)).Code)
	at = h.blockTime(at)

	blocks.set(begin.Add(time.Hour)) // forward, between a submission and its block
	require.Equal(t, logv1.Code_CODE_EXPIRED, h.result(begin.Add(time.Minute)).Code)
	at = h.blockTime(at)
	require.WithinDuration(t, begin.Add(time.Hour), at, time.Second)

	set(begin) // right again: the chain keeps its time, and goes on
	require.ErrorIs(t, h.submit(h.tx(kv.Add([]byte("n"), 1), time.Minute))[0].Err, chain.ErrExpired)
	require.Equal(t, logv1.Code_CODE_OK, h.result(begin.Add(time.Hour+time.Minute)).Code)
	require.WithinDuration(t, at, h.blockTime(at), time.Second)
}
