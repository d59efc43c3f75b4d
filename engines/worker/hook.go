package worker

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
	"sync"

	"github.com/coppice-go/coppice/engines/chain"
	logv1 "github.com/coppice-go/coppice/proto/coppice/log/v1"
)

// HookStore is what Hooks needs of the storage engine.
type HookStore interface {
	// Read waits until all versions before v have finished, and returns the value of key that they
	// left.
	Read(ctx context.Context, v chain.Version, key []byte) (value []byte, found bool, err error)

	// EndBlock hands in the writes of the hooks of a block. They take effect after all
	// transactions.
	EndBlock(ctx context.Context, v chain.Version, changes []*logv1.Change) error
}

// Hooks runs the hooks of the backends at the end of each block, one after another. Each sees what
// the transactions and the hooks before it have written.
//
// No mark is kept while a hook runs: if a hook ends the process, the next process executes it
// again.
type Hooks struct {
	Backends []chain.BlockBackend // in the order in which they run
	Store    HookStore

	// Conduct, if set, returns the Absent and DoubleSigned of a block.
	Conduct func(b chain.Block) (absent, doubleSigned [][]byte, err error)
}

// EndBlock runs the hooks of the staged block b, hands in what they write, and returns the
// failures. An error means that the hooks have no result, and that the block must be executed
// again: a read failed.
func (h Hooks) EndBlock(ctx context.Context, b chain.Block) (failures []*logv1.HookFailure, err error) {
	if h.Conduct != nil {
		if b.Absent, b.DoubleSigned, err = h.Conduct(b); err != nil {
			return nil, err
		}
	}

	e := &ending{HookStore: h.Store, block: b, written: make(map[string]*logv1.Change), left: chain.MaxHookBytes}

	for _, backend := range h.Backends {
		code, log, err := e.run(ctx, backend)
		if err != nil {
			return nil, err
		}

		if code != logv1.Code_CODE_OK || log != "" {
			failures = append(failures, &logv1.HookFailure{Backend: backend.Name(), Code: code, Log: clip(log)})
		}
	}

	return failures, h.Store.EndBlock(ctx, b.HookVersion(), e.changes)
}

// ending is the end of one block.
type ending struct {
	HookStore
	block   chain.Block
	changes []*logv1.Change          // of the hooks that succeeded
	written map[string]*logv1.Change // the last one of each key
	left    int                      // of chain.MaxHookBytes
}

// Read returns what the hooks before have written, or else what the transactions have left.
func (e *ending) Read(ctx context.Context, v chain.Version, key []byte) (value []byte, found bool, err error) {
	if c, ok := e.written[string(key)]; ok {
		return bytes.Clone(c.Value), !c.Delete, nil
	}
	return e.HookStore.Read(ctx, v, key)
}

// unbounded are the limits of a hook's view. chain.MaxHookBytes bounds what the hook writes.
var unbounded = &logv1.Params{MaxTxOps: math.MaxUint64, MaxTxSteps: math.MaxUint64}

// run runs one hook, and keeps its writes if it succeeds. It runs in a goroutine of its own, so
// that runtime.Goexit in the hook is a failure of the hook and not of the caller.
func (e *ending) run(ctx context.Context, b chain.BlockBackend) (code logv1.Code, log string, err error) {
	v := &view{ctx: ctx, backend: b.Name(), store: e, params: unbounded, placed: true, hook: true,
		at: chain.Placement{Version: e.block.HookVersion(), Time: e.block.Time}}
	code, log = logv1.Code_CODE_PANICKED, "the hook ended its goroutine"

	var running sync.WaitGroup
	running.Go(func() {
		defer func() {
			if p := recover(); p != nil {
				log = fmt.Sprintf("the hook panicked: %v", p)
			}
		}()
		code, log = e.outcome(v, b.EndBlock(v, e.block))
	})
	running.Wait()

	if v.poisoned != nil {
		return code, log, fmt.Errorf("the hook of backend %s at the end of %v: %w", b.Name(), e.block, v.poisoned)
	}
	if code == logv1.Code_CODE_OK {
		e.keep(v)
	}

	return code, log, nil
}

// outcome returns how a hook has ended that returned err.
func (e *ending) outcome(v *view, err error) (code logv1.Code, log string) {
	size := 0
	for _, c := range v.writes {
		size += len(c.Key) + len(c.Value) + chain.ChangeOverhead
	}

	if dealt := new(chain.Reported); errors.As(err, dealt) {
		log, err = dealt.Error(), nil
	}

	switch {
	case v.limit != nil:
		return logv1.Code_CODE_LIMIT, v.limit.Error()
	case err != nil && isLimit(err):
		return logv1.Code_CODE_LIMIT, err.Error()
	case err != nil:
		return logv1.Code_CODE_FAILED, err.Error()
	case size > e.left:
		return logv1.Code_CODE_LIMIT, fmt.Sprintf("it writes %d bytes, and of the %d of the hooks there are %d left",
			size, chain.MaxHookBytes, e.left)
	}

	e.left -= size
	return logv1.Code_CODE_OK, log
}

// keep adds the writes of a hook that succeeded to those of the block.
func (e *ending) keep(v *view) {
	for _, c := range v.writes {
		c.Version = e.block.HookVersion().Proto()
		e.written[string(c.Key)] = c
	}
	e.changes = append(e.changes, v.writes...)
}

// clip makes a text fit for a record: not too long, and valid UTF-8.
func clip(text string) string {
	return strings.ToValidUTF8(text[:min(len(text), chain.MaxResultLogBytes)], "?")
}
