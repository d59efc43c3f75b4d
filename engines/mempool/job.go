package mempool

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"github.com/coppice-go/coppice/engines"
	"github.com/coppice-go/coppice/engines/chain"
	"github.com/coppice-go/coppice/supervisor"
)

// Task is a job for a worker, together with the pool's watch on that worker.
type Task struct {
	chain.Job

	pool   *engines.Server
	worker supervisor.Service
	handed bool // set by the worker's goroutine, read at that goroutine's end
}

// newTask returns a task for j. When the worker ends without a result, the pool gets a workerEnded,
// unless the worker was stopped in order.
func newTask(j chain.Job, pool *engines.Server) *Task {
	t := &Task{Job: j, pool: pool}
	t.Handed = func() { t.handed = true }
	return t
}

// Watch wraps s, the worker that was made for the task. The service that it returns tells the pool
// if s ends without a result: by return, panic or Goexit.
func (t *Task) Watch(s supervisor.Service) supervisor.Service {
	t.worker = s
	return (*watched)(t)
}

type watched Task

// errVanished is the reason for the end of a worker whose Serve did not return: it panicked or
// ended its goroutine.
var errVanished = errors.New("panicked, or ended its goroutine")

// Serve runs the worker.
func (w *watched) Serve(ctx context.Context) error {
	err := errVanished
	defer func() { w.ended(ctx, err) }()

	err = w.worker.Serve(ctx)
	return err
}

// ended tells the pool that the worker ended with err, if that is without a result. A worker that
// was stopped in order is no news, because the pool will be stopped too.
func (w *watched) ended(ctx context.Context, err error) {
	if err == nil || w.handed || ctx.Err() != nil && !errors.Is(context.Cause(ctx), supervisor.ErrKilled) {
		return
	}
	w.pool.Post(workerEnded{w.ID, err})
}

// String names the worker in reports.
func (w *watched) String() string { return "worker " + w.ID.Short() }

// ErrWorkerLost is the error that ends the pool when a worker ended without a result.
var ErrWorkerLost = errors.New("a worker ended without a result")

// WorkerLostError is an ErrWorkerLost that says whose worker ended, and why.
type WorkerLostError struct {
	ID  chain.TxID
	Err error
}

// Error names the transaction by the beginning of its id.
func (e *WorkerLostError) Error() string {
	return fmt.Sprintf("%v: %s: %v", ErrWorkerLost, e.ID.Short(), e.Err)
}

// Unwrap returns ErrWorkerLost and the reason.
func (e *WorkerLostError) Unwrap() []error { return []error{ErrWorkerLost, e.Err} }

// work gives e a worker. If at is set, it is e's place in the order. If at is nil, the worker is
// eager: it starts before e has a place and waits for the place. At most MaxEager eager workers
// exist, and a transaction that seems to end processes gets none. A transaction without an eager
// worker gets its worker when it has its place.
func (p *pool) work(ctx context.Context, e *entry, at *chain.Placement) error {
	if at == nil && (p.eager >= p.MaxEager || e.place != nil || p.careful(e)) {
		return nil
	}

	e.place = make(chan chain.Placement, 1)

	if at != nil {
		e.place <- *at
	} else {
		e.eager = true
		p.eager++
	}

	if !p.workable {
		e.wanting = true
		p.wanting = append(p.wanting, e)
		return nil
	}

	return p.start(ctx, e)
}

func (p *pool) start(ctx context.Context, e *entry) error {
	var id [16]byte
	hex.Encode(id[:], e.id[:8])
	job := chain.Job{ID: e.id, Tx: e.tx, Backend: p.Backends[e.tx.Backend], Params: p.state.Params,
		Prepared: e.prepared, Place: e.place, Late: !e.eager}
	_, err := p.Workers.StartChild(ctx, string(id[:]), newTask(job, p.self))

	if errors.Is(err, supervisor.ErrNotRunning) {
		return nil // the workers are being stopped, and the pool after them
	}
	if err != nil {
		return fmt.Errorf("worker of %s: %w", e.id.Short(), err)
	}

	return nil
}

// A pool that begins with many transactions starts wantingAtOnce of their eager workers, and the
// next ones wantingPause later, so that the first block after a restart does not wait until all of
// them have started.
const (
	wantingAtOnce = 256
	wantingPause  = time.Millisecond
)

// startWanting starts workers of transactions that the pool had before the workers were up: of all
// those that have a place, because a block waits for them, and of the oldest others.
func (p *pool) startWanting(ctx context.Context, _ workersUp) error {
	p.workable = true
	waiting := p.wanting
	p.wanting = nil
	eager := 0

	for _, e := range waiting {
		if !e.wanting || e.ended {
			continue
		}
		if !e.placed {
			if eager == wantingAtOnce {
				p.wanting = append(p.wanting, e)
				continue
			}
			eager++
		}

		e.wanting = false
		if err := p.start(ctx, e); err != nil {
			return err
		}
	}

	if len(p.wanting) > 0 {
		self := p.self // a post comes before all that waits in the mailbox, so it must come later
		time.AfterFunc(wantingPause, func() { self.Post(workersUp{}) })
	}

	return nil
}

func (p *pool) workerEnded(_ context.Context, m workerEnded) error {
	return &WorkerLostError{m.id, m.err}
}
