package mempool_test

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/coppice-go/coppice/engines"
	"github.com/coppice-go/coppice/engines/chain"
	"github.com/coppice-go/coppice/engines/enginestest"
	"github.com/coppice-go/coppice/engines/mempool"
	"github.com/coppice-go/coppice/eventlog"
	logv1 "github.com/coppice-go/coppice/proto/coppice/log/v1"
	"github.com/coppice-go/coppice/supervisor"
	"github.com/coppice-go/coppice/supervisor/suptest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// disk is a log without an engine around it. Where hold is set the news that records are durable
// waits for the test.
type disk struct {
	log  *eventlog.Log
	hold chan func()
	soon chan struct{} // takes the wish for a sync
}

func (d *disk) AppendThen(ctx context.Context, done func(uint64, error), recs ...eventlog.Record) error {
	first, err := d.log.AppendWait(ctx, recs...)
	if d.hold == nil {
		done(first, err)
	} else {
		d.hold <- func() { done(first, err) }
	}
	return nil
}

// AppendLater appends without a sync, so that a test decides when the records are durable.
func (d *disk) AppendLater(ctx context.Context, done func(uint64, error), recs ...eventlog.Record) error {
	return d.log.AppendLater(ctx, done, recs...)
}

func (d *disk) SyncSoon(context.Context) error {
	d.soon <- struct{}{}
	return nil
}

func (d *disk) Fence(ctx context.Context) (uint64, error) {
	err := d.log.Sync(ctx)
	return d.log.Durable(), err
}

func (d *disk) First(context.Context) (uint64, error) { return d.log.First(), nil }

func (d *disk) Cursor(_ context.Context, from uint64) (*eventlog.Cursor, error) {
	return d.log.Cursor(from)
}

func (d *disk) Retain(_ context.Context, name string, floor uint64) (*eventlog.Retainer, error) {
	return d.log.Retain(name, floor), nil
}

// genesis is the time at which the tests' chain begins, and the time of its clock.
var genesis = time.Unix(1_700_000_000, 0)

// state is the state of a chain that has started and has applied nothing.
type state struct{}

func (state) State(context.Context) (chain.State, error) {
	return chain.State{ChainID: "test", InitialHeight: 1, Time: genesis, Params: chain.DefaultParams()}, nil
}

func (state) Results(_ context.Context, ids []chain.TxID) ([]*logv1.TxResult, error) {
	return make([]*logv1.TxResult, len(ids)), nil
}

func (state) GetLocal(context.Context, string) ([]byte, bool, error) { return nil, false, nil }
func (state) PutLocal(context.Context, string, []byte) error         { return nil }

// crew takes the jobs of workers. The test plays the workers.
type crew struct{ jobs chan *mempool.Task }

func (crew) AwaitUp(context.Context) error { return nil }

func (c crew) StartChild(_ context.Context, _ string, j *mempool.Task) (supervisor.Ref, error) {
	c.jobs <- j
	return supervisor.Ref{}, nil
}

// lenient is a backend that accepts every body except "bad".
type lenient struct{}

func (lenient) Name() string                               { return "any" }
func (lenient) Execute(chain.View, []byte) ([]byte, error) { return nil, nil }
func (lenient) Check(body []byte) error {
	if string(body) == "bad" {
		return errors.New("bad body")
	}
	return nil
}

// rig is a supervised pool over a log in a directory, beside an engine that has the orderer's name.
type rig struct {
	mempool.Client
	t       *testing.T
	dir     *enginestest.Directory
	disk    *disk
	jobs    chan *mempool.Task
	run     *supervisor.Run
	rec     *suptest.Recorder
	orderer context.Context
}

func start(t *testing.T, edit func(*mempool.Config), hold chan func()) *rig {
	t.Helper()
	spec, r, orderer := prepare(t, edit, hold)
	r.run, r.rec = suptest.Start(t, spec)
	r.orderer = <-orderer
	return r
}

// prepare returns a rig that has not started, and a channel for the context of its orderer.
func prepare(t *testing.T, edit func(*mempool.Config),
	hold chan func()) (supervisor.Spec, *rig, <-chan context.Context) {
	t.Helper()
	log, err := eventlog.Open(filepath.Join(t.TempDir(), "log"), eventlog.Options{SegmentSize: 1 << 20})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, log.Close()) })
	dir := new(enginestest.Directory)
	backends := map[string]chain.Backend{"any": lenient{}}
	r := &rig{Client: mempool.NewClient(dir, backends), t: t, dir: dir, disk: &disk{log, hold, make(chan struct{}, 1)},
		jobs: make(chan *mempool.Task, 100)}
	c := mempool.Config{
		Log: r.disk, Store: state{}, Workers: crew{r.jobs}, Backends: backends, Orderer: "orderer",
		Now: func() time.Time { return genesis },
	}

	if edit != nil {
		edit(&c)
	}

	orderer := make(chan context.Context, 10)
	return supervisor.Spec{Name: "test", Intensity: supervisor.Intensity{Max: 10, Period: time.Hour},
		Build: supervisor.Children(
			supervisor.Child{ID: "orderer",
				Start: engines.Spec{Name: "orderer", Init: func(ctx context.Context, _ *engines.Server) error {
					orderer <- ctx
					return nil
				}}.Start(dir)},
			supervisor.Child{ID: "pool", Start: mempool.Child(dir, c)},
		)}, r, orderer
}

func tx(t *testing.T, n int, valid time.Duration) []byte {
	t.Helper()
	raw, err := chain.Tx{Backend: "any", Nonce: fmt.Appendf(nil, "%d", n), ValidUntil: genesis.Add(valid)}.Encode()
	require.NoError(t, err)
	return raw
}

func (r *rig) submit(txs ...[]byte) []chain.Submitted {
	r.t.Helper()
	out, err := r.Submit(r.t.Context(), txs)
	require.NoError(r.t, err)
	return out
}

// commit tells the pool of a block that contains only results.
func (r *rig) commit(height uint64, at time.Time, results ...*logv1.TxResult) {
	r.t.Helper()
	require.NoError(r.t, r.Committed(r.orderer,
		&logv1.BlockCommitted{ChainId: "test", Height: height, TimeNs: at.UnixNano(), Results: results}))
}

// I1: a transaction is acknowledged, known and offered once it is durable, and not before.
func TestOnlyWhatIsDurableIsAcknowledged(t *testing.T) {
	hold := make(chan func(), 1)
	r := start(t, nil, hold)
	raw := tx(t, 1, time.Minute)
	acked := make(chan []chain.Submitted, 1)
	go func() {
		out, err := r.Submit(t.Context(), [][]byte{raw})
		if err == nil {
			acked <- out
		}
	}()

	durable := <-hold
	ends, err := r.Look(t.Context(), []chain.TxID{chain.HashTx(raw)})
	require.NoError(t, err)
	require.False(t, ends[0].Known)
	txs, _, err := r.Offer(t.Context(), 0, 10, 1<<20, false)
	require.NoError(t, err)
	require.Empty(t, txs)
	require.Empty(t, acked)
	require.Empty(t, r.jobs)
	durable()
	require.Equal(t, []chain.Submitted{{ID: chain.HashTx(raw)}}, <-acked)
	ends, err = r.Look(t.Context(), []chain.TxID{chain.HashTx(raw)})
	require.NoError(t, err)
	require.True(t, ends[0].Known)
}

// One id has one effect, within a batch and across two batches: one record, one worker, one offer,
// and the same answer.
func TestOneIDHasOneEffect(t *testing.T) {
	r := start(t, nil, nil)
	raw := tx(t, 1, time.Minute)
	first := r.submit(raw, raw)
	require.Equal(t, first[0], first[1])
	require.NoError(t, first[0].Err)
	require.Equal(t, first[:1], r.submit(raw))
	require.EqualValues(t, 1, r.disk.log.Durable())
	txs, _, err := r.Offer(t.Context(), 0, 10, 1<<20, true)
	require.NoError(t, err)
	require.Equal(t, [][]byte{raw}, txs)
	require.Len(t, r.jobs, 1)
}

func TestWhatDoesNotFitIsRefused(t *testing.T) {
	r := start(t, func(c *mempool.Config) { c.MaxTxs = 2 }, nil)
	out := r.submit(tx(t, 1, time.Minute), tx(t, 2, time.Minute), tx(t, 3, time.Minute))
	require.NoError(t, out[1].Err)
	require.ErrorIs(t, out[2].Err, chain.ErrPoolFull)
	require.EqualValues(t, 2, r.disk.log.Durable(), "a refused transaction is not logged")
	id := out[0].ID
	r.commit(1, genesis.Add(time.Second), &logv1.TxResult{Id: id[:]})
	require.NoError(t, r.submit(tx(t, 3, time.Minute))[0].Err, "the pool has room again")

	r = start(t, func(c *mempool.Config) { c.MaxBytes = int64(len(tx(t, 1, 0))) }, nil)
	out = r.submit(tx(t, 1, time.Minute), tx(t, 2, time.Minute))
	require.NoError(t, out[0].Err)
	require.ErrorIs(t, out[1].Err, chain.ErrPoolFull)
}

// A worker that ends without a result ends the pool. The pool's successor knows the acknowledged
// transactions and gives each another worker. A worker that handed in its result does not end the
// pool.
func TestAWorkerWithoutAResultEndsThePool(t *testing.T) {
	r := start(t, nil, nil)
	raw := tx(t, 1, time.Minute)
	r.submit(raw)
	done := <-r.jobs
	done.Handed()
	require.NoError(t, done.Watch(supervisor.ServiceFunc(func(context.Context) error {
		return nil
	})).Serve(t.Context()))
	r.submit(tx(t, 2, time.Minute))
	lost := <-r.jobs
	broken := errors.New("broken")
	require.ErrorIs(t, lost.Watch(supervisor.ServiceFunc(func(context.Context) error {
		return broken
	})).Serve(t.Context()), broken)
	exit := suptest.Wait(t, r.rec, 1, func(supervisor.ChildExited) bool { return true })
	require.ErrorIs(t, exit.Exit.Err, mempool.ErrWorkerLost)
	require.ErrorIs(t, exit.Exit.Err, broken)
	require.Equal(t, chain.HashTx(raw), (<-r.jobs).ID)
	require.Equal(t, lost.ID, (<-r.jobs).ID)
}

// A transaction that is no longer valid at a committed block's time ends as expired, is logged as
// expired, and is not offered. The others stay.
func TestWhatBlockTimeHasPassedByExpires(t *testing.T) {
	r := start(t, nil, nil)
	soon, late := tx(t, 1, time.Second), tx(t, 2, time.Minute)
	r.submit(soon, late)
	at := genesis.Add(time.Second + 1)
	r.commit(1, genesis.Add(time.Second)) // no transaction expires
	r.commit(2, at)
	ends, err := r.Wait(t.Context(), []chain.TxID{chain.HashTx(soon)})
	require.NoError(t, err)
	require.NotNil(t, ends[0].Expired)
	require.True(t, at.Equal(*ends[0].Expired))
	txs, _, err := r.Offer(t.Context(), 0, 10, 1<<20, true)
	require.NoError(t, err)
	require.Equal(t, [][]byte{late}, txs)
	e, err := r.disk.log.Read(3)
	require.NoError(t, err)
	require.Equal(t, chain.KindTxExpired, e.Kind)
	require.ErrorIs(t, r.submit(soon)[0].Err, chain.ErrExpired)
}

// An offer continues where the last one ended, within its bounds but with at least one transaction,
// and waits for new ones.
func TestAnOfferGoesOnWhereTheLastOneEnded(t *testing.T) {
	r := start(t, nil, nil)
	var all [][]byte
	for n := range 5 {
		all = append(all, tx(t, n, time.Minute))
	}

	r.submit(all[:4]...)
	txs, last, err := r.Offer(t.Context(), 0, 2, 1<<20, true)
	require.NoError(t, err)
	require.Equal(t, all[:2], txs)
	require.EqualValues(t, 2, last)
	txs, last, err = r.Offer(t.Context(), last, 10, 1, true)
	require.NoError(t, err)
	require.Equal(t, all[2:3], txs, "at least one, however long")
	txs, last, err = r.Offer(t.Context(), last, 10, 1<<20, true)
	require.NoError(t, err)
	require.Equal(t, all[3:4], txs)
	txs, _, err = r.Offer(t.Context(), last, 10, 1<<20, false)
	require.NoError(t, err)
	require.Empty(t, txs)
	waited := make(chan [][]byte, 1)
	go func() {
		txs, _, _ := r.Offer(t.Context(), last, 10, 1<<20, true)
		waited <- txs
	}()

	r.submit(all[4])
	require.Equal(t, all[4:], <-waited)
}
