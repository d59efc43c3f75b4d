// Package worker executes one transaction, once. The execution may begin before the transaction has
// a place in the order. It then waits for the place at its first read, and continues from there.
//
// A transaction that fails is not a crash. Code that returns an error or panics by itself has
// failed: that is the transaction's result, the same on every node. Other failures need not happen
// on other nodes: the end of the storage engine, an injected fault, a stop. They poison the view,
// and the worker crashes without a result. The pool that watches it then ends too, and the
// transaction core (the engines that log, order, execute and store) restarts and executes the
// transaction again.
package worker

import (
	"context"
	"errors"
	"fmt"

	"github.com/coppice-go/coppice/engines/chain"
	logv1 "github.com/coppice-go/coppice/proto/coppice/log/v1"
)

// Store is what a worker needs of the storage engine.
type Store interface {
	// Read waits until all versions before v have finished, and returns the value of key that they
	// left.
	Read(ctx context.Context, v chain.Version, key []byte) (value []byte, found bool, err error)

	// Finish hands in the writes of the transaction at v, and its result. They take effect after
	// all versions before v.
	Finish(ctx context.Context, v chain.Version, changes []*logv1.Change, result *logv1.TxResult) error
}

// Marks notes which transactions run their backend's code, so that the next process can tell
// whether that code ended this one.
type Marks interface {
	// Enter marks a transaction as running, at its place (placed) or ahead of it. It may wait until
	// other transactions have left or ctx ends.
	Enter(ctx context.Context, id chain.TxID, placed bool) (mark uint64)

	// Leave removes a mark.
	Leave(mark uint64)
}

// Worker executes one job.
type Worker struct {
	chain.Job

	Store Store
	Marks Marks // nil: no marks are kept
}

// errNoResult is wrapped in the error of each worker that ended before it handed in its result.
var errNoResult = errors.New("worker ended without a result")

// errWithdrawn: the transaction will never have a place (it expired), so there is nothing to do.
var errWithdrawn = errors.New("the transaction was withdrawn")

// Serve executes the job and hands its result in. A worker is a temporary child, which no
// supervisor restarts.
func (w *Worker) Serve(ctx context.Context) error {
	growStack()
	v := &view{ctx: ctx, id: w.ID, backend: w.Tx.Backend, store: w.Store, marks: w.Marks, params: w.Params,
		place: w.Place}
	if w.Late {
		v.wait()
	}
	return w.finish(v, w.execute(v))
}

// growStack grows the stack of a new goroutine to what an execution needs, 4 KiB, while it holds
// few frames. The runtime would do it later, and have more frames to move.
//
//go:noinline
func growStack() {
	var room [1536]byte
	touch(&room)
}

//go:noinline
func touch(room *[1536]byte) { room[0] = 1 }

// finish waits for the transaction's place and hands the result in.
func (w *Worker) finish(v *view, result *logv1.TxResult) error {
	v.wait() // poisons the view if there is no place
	if errors.Is(v.poisoned, errWithdrawn) {
		return nil
	}
	if v.poisoned != nil {
		return fmt.Errorf("%w: %w", errNoResult, v.poisoned)
	}
	if result.Code != logv1.Code_CODE_OK {
		v.writes = nil
	}

	for _, c := range v.writes {
		c.Version = v.at.Version.Proto()
	}

	result.Version = v.at.Version.Proto()
	result.Id = w.ID[:]
	if !w.Tx.ValidUntil.IsZero() {
		result.ValidUntilMs = w.Tx.ValidUntil.UnixMilli()
	}
	if err := w.Store.Finish(v.ctx, v.at.Version, v.writes, result); err != nil {
		return fmt.Errorf("%w: %w", errNoResult, err)
	}
	if w.Handed != nil {
		w.Handed()
	}

	return nil
}

// execute runs the backend's code and returns the transaction's result. If the view is not
// poisoned, a panic becomes the result. If it is, the panic continues and the worker crashes.
// runtime.Goexit in the backend is treated like a panic, but it cannot be stopped, so execute hands
// in the result while the goroutine ends.
func (w *Worker) execute(v *view) (result *logv1.TxResult) {
	if v.poisoned != nil {
		return nil
	}
	if w.Backend == nil {
		return &logv1.TxResult{Code: logv1.Code_CODE_MALFORMED, Log: fmt.Sprintf("unknown backend %q", w.Tx.Backend)}
	}

	v.enter()
	defer v.leave()

	if v.ctx.Err() != nil { // the worker was told to stop while it waited for its turn
		v.poison(context.Cause(v.ctx))
		return nil
	}

	returned := false
	defer func() {
		v.leave()
		if returned || v.poisoned != nil {
			return // with a poisoned view, the worker crashes by this panic or Goexit
		}

		result = &logv1.TxResult{Code: logv1.Code_CODE_PANICKED}

		if p := recover(); p != nil {
			result.Log = fmt.Sprintf("backend %s panicked: %v", w.Tx.Backend, p)
			return
		}

		result.Log = fmt.Sprintf("backend %s ended its goroutine", w.Tx.Backend)
		w.finish(v, result) // on an error, the pool learns it from the worker's end
	}()

	prepared := w.Prepared
	if prepared == nil {
		var err error
		if prepared, err = chain.PrepareTx(w.Backend, w.Tx); err != nil {
			returned = true
			return &logv1.TxResult{Code: logv1.Code_CODE_MALFORMED, Log: err.Error()}
		}
	}

	data, err := chain.ExecuteTx(w.Backend, v, w.Tx.Body, prepared)
	returned = true

	switch max := w.Params.GetMaxResultBytes(); {
	case v.limit != nil:
		return &logv1.TxResult{Code: logv1.Code_CODE_LIMIT, Log: v.limit.Error()}

	case err != nil && isLimit(err):
		return &logv1.TxResult{Code: logv1.Code_CODE_LIMIT, Log: err.Error()}

	case err != nil:
		return &logv1.TxResult{Code: logv1.Code_CODE_FAILED, Log: err.Error()}

	case uint64(len(data)) > max:
		return &logv1.TxResult{Code: logv1.Code_CODE_LIMIT,
			Log: fmt.Sprintf("%v: %d bytes, want at most %d", chain.ErrResultTooBig, len(data), max)}
	}

	return &logv1.TxResult{Code: logv1.Code_CODE_OK, Data: data, Events: v.events}
}
