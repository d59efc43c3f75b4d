// Package worker executes one transaction, once: up to its first read before it has a place in the
// order, and on from there as soon as it has one.
//
// Fail is not crash. Code that returns an error or panics deterministically has failed: that is the
// transaction's result, the same on every node. A view that met anything else (the storage engine
// gone, an injected fault, a stop) is poisoned; the worker then crashes without a result, and the
// pool that monitors it takes the transaction core down with it, to be replayed.
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
	// Read returns what all versions before v wrote, once they have.
	Read(ctx context.Context, v chain.Version, key []byte) (value []byte, found bool, err error)

	// Finish hands in the writes of the transaction at v, and its result. They take effect after
	// all versions before v.
	Finish(ctx context.Context, v chain.Version, changes []*logv1.Change, result *logv1.TxResult) error
}

// Marks notes which transactions run their backend's code, so that the next process can tell
// whether that code ended this one.
type Marks interface {
	// Enter marks a transaction, at its place or ahead of it. It may wait for others to leave,
	// until ctx ends.
	Enter(ctx context.Context, id chain.TxID, placed bool) (mark uint64)

	// Leave takes a mark back.
	Leave(mark uint64)
}

// Worker executes one job.
type Worker struct {
	chain.Job

	Store Store
	Marks Marks // nil: no marks are kept
}

// errNoResult is in every exit of a worker that ended before it handed its result in.
var errNoResult = errors.New("worker ended without a result")

// errWithdrawn: the transaction will never have a place (it expired), so there is nothing to do.
var errWithdrawn = errors.New("the transaction was withdrawn")

// Serve executes the job and hands its result in. A worker is a temporary child, which no
// supervisor restarts.
func (w Worker) Serve(ctx context.Context) error {
	v := &view{ctx: ctx, id: w.ID, backend: w.Tx.Backend, store: w.Store, marks: w.Marks, params: w.Params,
		place: w.Place}
	if w.Late {
		v.wait()
	}
	return w.finish(v, w.execute(v))
}

// finish waits for the transaction's place and hands the result in.
func (w Worker) finish(v *view, result *logv1.TxResult) error {
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

// execute runs the backend's code. A panic in it is the transaction's result, unless the view is
// poisoned: then it is the worker's own, and goes on. Code that ends its goroutine with
// runtime.Goexit is treated like a panic, but nothing brings the goroutine back, so the result is
// handed in on its way out.
func (w Worker) execute(v *view) (result *logv1.TxResult) {
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
			return // a poisoned view's panic or Goexit is the worker's: let it crash, with its stack
		}

		result = &logv1.TxResult{Code: logv1.Code_CODE_PANICKED}

		if p := recover(); p != nil {
			result.Log = fmt.Sprintf("backend %s panicked: %v", w.Tx.Backend, p)
			return
		}

		result.Log = fmt.Sprintf("backend %s ended its goroutine", w.Tx.Backend)
		w.finish(v, result) // the pool that gets no result sees the worker gone
	}()

	if err := w.Backend.Check(w.Tx.Body); err != nil {
		returned = true
		return &logv1.TxResult{Code: logv1.Code_CODE_MALFORMED, Log: err.Error()}
	}

	data, err := w.Backend.Execute(v, w.Tx.Body)
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

	return &logv1.TxResult{Code: logv1.Code_CODE_OK, Data: data}
}
