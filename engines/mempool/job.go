package mempool

import (
	"context"
	"errors"
	"fmt"

	"github.com/coppice-go/coppice/engines/chain"
	"github.com/coppice-go/coppice/supervisor"
)

// Task is a job for a worker, together with the pool's watch on that worker.
type Task struct {
	chain.Job

	ended  func(error)
	handed *bool // set by the worker's goroutine, read at that goroutine's end
}

// newTask returns a task for j. When the worker ends without a result, ended is called with the
// reason. When it has handed in a result, or was stopped in order, ended is called with nil.
func newTask(j chain.Job, ended func(error)) Task {
	t := Task{j, ended, new(bool)}
	t.Handed = func() { *t.handed = true }
	return t
}

// Watch wraps s, the worker that was made for the task. The service that it returns tells the pool
// how s ends: by return, panic or Goexit.
func (t Task) Watch(s supervisor.Service) supervisor.Service { return watched{s, t} }

type watched struct {
	supervisor.Service
	task Task
}

// errVanished is the reason for the end of a worker whose Serve did not return: it panicked or
// ended its goroutine.
var errVanished = errors.New("panicked, or ended its goroutine")

func (w watched) Serve(ctx context.Context) error {
	err := errVanished
	defer func() {
		if *w.task.handed {
			err = nil
		}
		if err != nil && ctx.Err() != nil && !errors.Is(context.Cause(ctx), supervisor.ErrKilled) {
			err = nil // it was stopped in order, as the pool will be
		}
		w.task.ended(err)
	}()

	err = w.Service.Serve(ctx)
	return err
}

// String names the worker in reports.
func (w watched) String() string { return "worker " + w.task.ID.Short() }

// ErrWorkerLost is the error that ends the pool when a worker ended without a result.
var ErrWorkerLost = errors.New("a worker ended without a result")

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
		p.wanting = append(p.wanting, e)
		return nil
	}

	return p.start(ctx, e)
}

func (p *pool) start(ctx context.Context, e *entry) error {
	self, id := p.self, e.id
	job := chain.Job{ID: id, Tx: e.tx, Backend: p.Backends[e.tx.Backend], Params: p.state.Params, Place: e.place,
		Late: !e.eager}
	_, err := p.Workers.StartChild(ctx, id.String()[:16],
		newTask(job, func(err error) { self.Post(workerEnded{id, err}) }))

	if errors.Is(err, supervisor.ErrNotRunning) {
		return nil // the workers are being stopped, and the pool after them
	}
	if err != nil {
		return fmt.Errorf("worker of %s: %w", id.Short(), err)
	}

	return nil
}

func (p *pool) startWanting(ctx context.Context, _ workersUp) error {
	p.workable = true
	for _, e := range p.wanting {
		if err := p.start(ctx, e); err != nil {
			return err
		}
	}
	p.wanting = nil
	return nil
}

func (p *pool) workerEnded(_ context.Context, m workerEnded) error {
	if m.err != nil {
		return fmt.Errorf("%w: %s: %w", ErrWorkerLost, m.id.Short(), m.err)
	}
	return nil
}
