package node

import (
	"context"
	"fmt"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"

	"github.com/coppice-go/coppice/engines/backend/kv"
	"github.com/coppice-go/coppice/engines/chain"
	"github.com/coppice-go/coppice/engines/consensus"
	"github.com/coppice-go/coppice/engines/storage"
	"github.com/coppice-go/coppice/node/config"
	"github.com/coppice-go/coppice/node/home"
	"github.com/coppice-go/coppice/node/plan"
)

// steps is an Ordering that notes the calls to it.
type steps struct {
	consensus.Ordering
	calls []string
}

func (s *steps) note(format string, args ...any) {
	s.calls = append(s.calls, fmt.Sprintf(format, args...))
}

func (s *steps) Info(context.Context) (chain.Standing, error) {
	s.note("info")
	return chain.Standing{}, nil
}

func (s *steps) Order(_ context.Context, b chain.Block) (chain.Staged, error) {
	s.note("order %d", b.Height)
	return chain.Staged{}, nil
}

func (s *steps) Commit(_ context.Context, height uint64) (chain.State, error) {
	s.note("commit %d", height)
	return chain.State{}, nil
}

func (s *steps) CommitLater(_ context.Context, height uint64) (chain.State, error) {
	s.note("begin %d", height)
	return chain.State{}, nil
}

// A node whose blocks overlap halts when the last block is committed, not while it is, and when the
// transactions that are in no block are acknowledged.
func TestAHaltWaitsForTheCommitThatIsUnderWay(t *testing.T) {
	at := time.Unix(100, 0)
	block := func(height uint64, after time.Duration) chain.Block {
		return chain.Block{Height: height, Time: at.Add(after)}
	}
	ctx, cancel := context.WithCancel(t.Context())

	var s *steps
	acknowledged := func(_ context.Context, txs [][]byte) error { s.note("acknowledge %d", len(txs)); return nil }

	s = &steps{}
	h := halting{Ordering: s, height: 2, halt: func(string) { s.note("halt") }, acknowledged: acknowledged}
	h.Order(ctx, block(1, 0))
	h.CommitLater(ctx, 1)
	h.Order(ctx, block(2, 0))
	h.CommitLater(ctx, 2)
	require.Equal(t, []string{"order 1", "begin 1", "order 2", "commit 2", "halt"}, s.calls)

	s = &steps{}
	h = halting{Ordering: s, time: at, halt: func(string) { s.note("halt"); cancel() }, acknowledged: acknowledged}
	h.Order(ctx, block(1, 0))
	h.CommitLater(ctx, 1)
	late := block(2, 1)
	late.Txs = [][]byte{{1}}
	_, err := h.Order(ctx, late)
	require.ErrorIs(t, err, context.Canceled)
	require.Equal(t, []string{"order 1", "begin 1", "info", "acknowledge 1", "halt"}, s.calls)
}

// A node under load halts at exactly the height that its configuration names.
func TestANodeUnderLoadHaltsAtAHeight(t *testing.T) {
	dir, mem := t.TempDir(), vfs.NewCrashableMem()
	_, err := home.Init(dir, home.InitOptions{Listen: "127.0.0.1:0", Profile: plan.Chaos})
	require.NoError(t, err)
	n := startOnDisk(t, dir, mem, func(c *config.Config) Option {
		c.Halt.Height = 7
		return func(*Node) {}
	})

	ctx, stop := context.WithCancel(t.Context())
	var clients sync.WaitGroup
	for i := range 3 {
		clients.Go(func() {
			for k := 0; ctx.Err() == nil; k++ {
				body, _ := kv.Encode(kv.Add([]byte(strconv.Itoa(i)), 1))
				raw, _ := chain.NewTx("kv", body, time.Minute).Encode()
				n.pool.Submit(ctx, [][]byte{raw}) // fails once the node has halted
			}
		})
	}
	require.NoError(t, <-n.ended)
	stop()
	clients.Wait()

	db, err := storage.Open(home.StateDir(dir), storage.Options{FS: mem})
	require.NoError(t, err)
	require.EqualValues(t, 7, db.State().Height)
	require.NoError(t, db.Close())
	verifyCrashed(t, dir, mem, 0)
}
