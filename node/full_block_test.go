package node

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/coppice-go/coppice/engines/backend/kv"
	"github.com/coppice-go/coppice/engines/rounds"
	"github.com/coppice-go/coppice/engines/rounds/replicated"
	"github.com/coppice-go/coppice/node/home"
	"github.com/coppice-go/coppice/node/offline"
	"github.com/coppice-go/coppice/node/plan"
	logv1 "github.com/coppice-go/coppice/proto/coppice/log/v1"
)

// A block is committed even if the results of its transactions are larger than a record of the log
// can be. The transactions whose results have no room left are refused, and their submitters learn
// of it (I10).
func TestABlockThatAnswersTooMuchIsCommitted(t *testing.T) {
	h := drive(t)
	b := h.next(h.tx(kv.Put([]byte("big"), []byte(strings.Repeat("x", 1_000_000))), time.Minute))
	h.order(b)
	h.commit(b)
	var reads [][]byte
	for range 150 {
		reads = append(reads, h.tx(kv.Read([]byte("big")), time.Minute))
	}

	b = h.next(reads...)
	staged := h.order(b)
	h.commit(b)
	codes := make(map[logv1.Code]int)
	for _, r := range staged.Results {
		codes[r.Code]++
	}

	require.Equal(t, map[logv1.Code]int{logv1.Code_CODE_OK: 33, logv1.Code_CODE_LIMIT: 117}, codes)
	h.close()
	v, err := offline.Verify(t.Context(), h.home, offline.VerifyOptions{})
	require.NoError(t, err)
	require.EqualValues(t, 2, v.Height)
}

// A block whose transactions leave no room for a write does not stop the rounds: the hook has room
// of its own, and a timeout fires in that block. Item 74.
func TestAFullBlockDoesNotStopTheHook(t *testing.T) {
	_, agents := agentKeys(4)
	service := adding(func(context.Context, tallied) (int, error) { return 1, nil }, 5*time.Second)
	dir := t.TempDir()
	_, err := home.Init(dir, home.InitOptions{ChainID: "test", Listen: "127.0.0.1:0", Profile: plan.Chaos,
		Agents: agents})
	require.NoError(t, err)
	h := driveHome(t, dir, WithRounds(service))
	_, err = h.ordering.InitChain(t.Context(), h.genesis)
	require.NoError(t, err)
	first := h.next()
	h.order(first)
	h.commit(first)

	h.clock = h.clock.Add(6 * time.Second)
	var puts [][]byte
	for i := range 40 {
		put := kv.Put(fmt.Append(nil, "big", i), []byte(strings.Repeat("x", 1_000_000)))
		puts = append(puts, h.tx(put, time.Minute))
	}
	b := h.next(puts...)
	staged := h.order(b)
	require.Empty(t, staged.HookFailures)
	require.Equal(t, logv1.Code_CODE_LIMIT, staged.Results[39].Code, "the block is full")
	h.commit(b)

	st, _, err := replicated.Read[tallied](func(key []byte) ([]byte, bool, error) {
		value, found, _, err := h.store.Get(t.Context(), key, 0)
		return value, found, err
	})
	require.NoError(t, err)
	require.EqualValues(t, 2, st.Count)
	require.Equal(t, rounds.Timeout, st.Last.Ended[0].Event)
	h.close()
}
