package storage

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"

	"github.com/coppice-go/coppice/engines"
	"github.com/coppice-go/coppice/engines/chain"
	"github.com/coppice-go/coppice/engines/enginestest"
	logv1 "github.com/coppice-go/coppice/proto/coppice/log/v1"
	"github.com/coppice-go/coppice/supervisor"
	"github.com/coppice-go/coppice/supervisor/suptest"
)

// rig is a supervised storage engine on a disk in memory.
type rig struct {
	run    *supervisor.Run
	rec    *suptest.Recorder
	client Client
	lease  *supervisor.Lease[*DB]
}

func newRig(t *testing.T, fs vfs.FS) rig {
	lease := supervisor.NewLease(func() (*DB, error) {
		return Open(dir, Options{FS: fs, MemTableBytes: 1 << 20})
	}, (*DB).Close, time.Minute)
	table := new(enginestest.Directory)
	t.Cleanup(func() { require.NoError(t, lease.Close()) })
	run, rec := suptest.Start(t, supervisor.Spec{
		Name: "test", Intensity: supervisor.Intensity{Max: 100, Period: time.Minute},
		Build: supervisor.Children(supervisor.Child{ID: Name, Start: Child(table, Config{Lease: lease})}),
	})
	return rig{run, rec, NewClient(table), lease}
}

// begin stages the next block with n transactions.
func (r rig) begin(t *testing.T, n int) chain.Block {
	s, err := r.client.State(t.Context())
	require.NoError(t, err)
	now := genesis.Add(time.Duration(s.Next()) * time.Second)
	b := chain.Block{ChainID: s.ChainID, Period: s.Period, Height: s.Next(), Time: now}
	for i := range n {
		b.Txs = append(b.Txs, tx(t, int(s.Next())*1000+i, now.Add(window)))
	}

	b.Hash = b.ContentHash()
	refused, err := r.client.Begin(t.Context(), b)
	require.NoError(t, err)
	require.Equal(t, make([]*logv1.TxResult, n), refused)

	return b
}

// A read waits until every version before it has finished; so does Seal. The test runs the whole
// flow with as many goroutines as there are transactions: each adds one to the value that the one
// before it wrote.
func TestEngineOrdersConcurrentWorkers(t *testing.T) {
	r := newRig(t, vfs.NewMem())
	ctx := t.Context()
	require.NoError(t, r.client.StartChain(ctx, 1, chainStarted(1)))
	const n = 50
	index := uint64(1)

	for height := uint64(1); height <= 3; height++ {
		b := r.begin(t, n)
		sealed := make(chan chain.Staged, 1)
		var wg sync.WaitGroup
		wg.Go(func() {
			s, err := r.client.Seal(ctx)
			if err != nil {
				t.Error(err)
			}
			sealed <- s
		})

		for i := n - 1; i >= 0; i-- {
			wg.Go(func() {
				v := chain.Version{Period: 1, Height: b.Height, Index: uint32(i)}
				was, _, err := r.client.Read(ctx, v, []byte("counter"))
				if err != nil {
					t.Error(err)
					return
				}

				var count int
				fmt.Sscan(string(was), &count)

				if err := r.client.Finish(ctx, v, at(v, put("counter", fmt.Sprint(count+1))),
					new(logv1.TxResult)); err != nil {
					t.Error(err)
				}
			})
		}

		s := <-sealed
		wg.Wait()
		require.False(t, t.Failed())
		index++
		require.NoError(t, r.client.commitWith(ctx, index, committed(s), local{"floor", fmt.Append(nil, index)}))

		value, found, at, err := r.client.Get(ctx, []byte("counter"), 0)
		require.NoError(t, err)
		require.True(t, found)
		require.Equal(t, height, at)
		require.Equal(t, fmt.Sprint(n*height), string(value))
		id := chain.HashTx(b.Txs[7])
		res, found, err := r.client.result(ctx, id)
		require.NoError(t, err)
		require.True(t, found)
		require.Equal(t, uint32(7), res.Version.Index)
		all, err := r.client.Results(ctx, []chain.TxID{{1}, id})
		require.NoError(t, err)
		require.Nil(t, all[0])
		require.Equal(t, id[:], all[1].Id)
		meta, err := r.client.Block(ctx, height)
		require.NoError(t, err)
		require.Equal(t, s.AppHash, meta.AppHash)
		root, err := r.client.RootAt(ctx, 1)
		require.NoError(t, err)
		require.Equal(t, s.AppHash, root.AppHash)
		local, _, err := r.client.GetLocal(ctx, "floor")
		require.NoError(t, err)
		require.Equal(t, fmt.Sprint(index), string(local))
	}

	require.NoError(t, r.client.PutLocal(ctx, "name", []byte("x")))
	durable, err := r.client.Flush(ctx)
	require.NoError(t, err)
	require.Equal(t, index, durable)
	durable, err = r.client.DurableApplied(ctx)
	require.NoError(t, err)
	require.Equal(t, index, durable)
	require.NoError(t, r.client.Prune(ctx, 3))
	st, err := r.client.Stat(ctx)
	require.NoError(t, err)
	require.Equal(t, uint64(3), st.OldestHeight)
	require.NoError(t, r.client.view(ctx, func(s *Reader) error {
		for e, err := range s.withPrefix(nil) {
			require.NoError(t, err)
			require.Equal(t, "counter", string(e.Key))
		}
		return nil
	}))
}

// Another block takes the place of the staged one: the calls that wait for the old block fail, and
// its late results are dropped.
func TestEngineBeginDropsWaiters(t *testing.T) {
	r := newRig(t, vfs.NewMem())
	ctx := t.Context()
	require.NoError(t, r.client.StartChain(ctx, 1, chainStarted(1)))
	b := r.begin(t, 3)
	v := func(i uint32) chain.Version { return chain.Version{Period: 1, Height: 1, Index: i} }
	errs := make(chan error, 2)
	waiting := make(chan struct{}, 2)
	go func() {
		waiting <- struct{}{}
		_, _, err := r.client.Read(ctx, v(2), []byte("a"))
		errs <- err
	}()

	go func() {
		waiting <- struct{}{}
		_, err := r.client.Seal(ctx)
		errs <- err
	}()

	<-waiting
	<-waiting
	other := b
	other.Txs = b.Txs[:1]
	other.Hash = other.ContentHash()
	// The engine may not have taken the two messages yet. Then they meet the other block, which has
	// no place 2 and is sealed below. So only the error of the read is certain.
	_, err := r.client.Begin(ctx, other)
	require.NoError(t, err)
	require.NoError(t, r.client.Finish(ctx, v(2), nil, new(logv1.TxResult)), "late, and dropped")
	require.NoError(t, r.client.Finish(ctx, v(0), at(v(0), put("a", "1")), new(logv1.TxResult)))
	s, err := r.client.Seal(ctx)
	require.NoError(t, err)
	require.Equal(t, other, s.Block)
	failed := 0

	for range 2 {
		if err := <-errs; err != nil {
			require.ErrorIs(t, err, errNotStaged)
			failed++
		}
	}

	require.Positive(t, failed)

	for _, err := range []error{
		r.client.StartChain(ctx, 2, &logv1.ChainStarted{}),
		r.client.Redo(ctx, 2, &logv1.BlockCommitted{ChainId: "other"}),
	} {
		require.ErrorIs(t, err, ErrChain, "the caller's fault ends nothing")
	}

	require.Zero(t, suptest.Count[supervisor.ChildExited](r.rec, nil))
}

// A worker or pool that is out of step ends the incarnation: its result cannot be placed.
func TestEngineEndsOnAResultThatCannotBe(t *testing.T) {
	r := newRig(t, vfs.NewMem())
	require.NoError(t, r.client.StartChain(t.Context(), 1, chainStarted(1)))
	r.begin(t, 1)
	v := chain.Version{Period: 1, Height: 1}
	require.NoError(t, r.client.Finish(t.Context(), v, []*logv1.Change{put("a", "1")}, new(logv1.TxResult)))
	exit := suptest.Wait(t, r.rec, 1, func(e supervisor.ChildExited) bool { return true })
	require.ErrorContains(t, exit.Exit.Err, "change 0 is of version 0/0/0")
}

// I5: a replaced incarnation can neither read nor write, its successor opens the same state, and
// the staged block is gone.
func TestEngineSuccession(t *testing.T) {
	r := newRig(t, vfs.NewMem())
	ctx := t.Context()
	patient := r.client.With(engines.AwaitNext)
	require.NoError(t, r.client.StartChain(ctx, 1, chainStarted(1)))
	index := uint64(1)
	plan := suptest.NewPlan(1, 12, []string{Name})
	plan.Run(t, r.run, r.rec, func(suptest.Step) {
		old := r.client.last.Load()
		_, _, err := patient.result(ctx, chain.TxID{})
		require.NoError(t, err, "a client finds its way to the successor")
		if now := r.client.last.Load(); now != old && old != nil {
			require.ErrorIs(t, old.Do(func(*DB) error { return errors.New("reached") }), supervisor.ErrFenced)
		}

		_, err = patient.Seal(ctx)
		require.ErrorIs(t, err, errNotStaged)

		s, err := patient.State(ctx)
		require.NoError(t, err)
		require.Equal(t, index, s.Index)
		b := r.begin(t, 1)
		v := chain.Version{Period: 1, Height: b.Height}
		require.NoError(t, patient.Finish(ctx, v, at(v, put("a", fmt.Sprint(b.Height))), new(logv1.TxResult)))
		staged, err := patient.Seal(ctx)
		require.NoError(t, err)
		index++
		require.NoError(t, patient.Commit(ctx, index, committed(staged)))
		r.begin(t, 2) // is staged when the next kill comes
	})
}

// A disk that fails in the background, outside of any call, ends the incarnation with its reason.
// When the disk works again, the successor opens the durable state and redoes the rest.
func TestEngineEndsWhenTheDiskFails(t *testing.T) {
	recs := history(t, 8)
	disk := vfs.NewMem()
	f := &failing{match: writesTo(".sst"), err: syscall.ENOSPC}
	f.n.Store(1 << 40)
	r := newRig(t, f.wrap(disk))
	ctx := t.Context()
	require.NoError(t, r.client.StartChain(ctx, 1, chainStarted(1)))
	for i, rec := range recs[:6] {
		require.NoError(t, r.client.Redo(ctx, uint64(i+2), rec))
	}

	f.n.Store(0)
	require.NoError(t, r.client.direct(ctx, func(d *DB) error {
		d.mu.Lock()
		defer d.mu.Unlock()
		_, err := d.askFlush()
		return err
	}))
	exit := suptest.Wait(t, r.rec, 1, func(e supervisor.ChildExited) bool { return errors.Is(e.Exit.Err, errFailed) })
	require.ErrorIs(t, exit.Exit.Err, syscall.ENOSPC)
	f.n.Store(1 << 40)
	r.rec.Settle(t, r.run)

	client := r.client.With(engines.AwaitNext)
	require.NoError(t, client.StartChain(ctx, 1, chainStarted(1)))
	for i, rec := range recs {
		require.NoError(t, client.Redo(ctx, uint64(i+2), rec))
	}

	s, err := client.State(context.Background())
	require.NoError(t, err)
	require.Equal(t, recs[7].AppHash, s.AppHash)
}
