package storage

import (
	"context"
	"errors"
	"fmt"

	"github.com/coppice-go/coppice/engines"
	"github.com/coppice-go/coppice/engines/chain"
	logv1 "github.com/coppice-go/coppice/proto/coppice/log/v1"
	"github.com/coppice-go/coppice/supervisor"
)

// Name is the address of storage.
const Name = "storage"

// Config configures the engine.
type Config struct {
	// Lease opens the state. It outlives the engine's incarnations. A replaced incarnation loses
	// its grant, so it can neither read nor write, and its successor can open the state (I5 in
	// docs/architecture.md).
	Lease *supervisor.Lease[*DB]
}

// Child returns the engine's StartFunc.
func Child(dir engines.Directory, c Config) supervisor.StartFunc {
	return func(ctx context.Context) (supervisor.Service, error) {
		e := &engine{Config: c, reads: make(map[uint32][]waiting)}
		return engines.Spec{Name: Name, Mailbox: 4096, Init: e.init}.Start(dir)(ctx)
	}
}

type grant = supervisor.Grant[*DB]

type engine struct {
	Config
	grant *grant

	// reads and seals hold the callers that wait for earlier versions of the staged block to
	// finish. When Begin stages another block, these calls fail.
	reads map[uint32][]waiting // by place in the block
	turn  uint32               // the first place for which earlier versions may not have finished
	seals []engines.From[chain.Staged]
}

type waiting struct {
	q    read
	from engines.From[value]
}

// The messages of storage. Reads of committed state are not among them, because Client reads
// without the mailbox.
type (
	use        struct{}
	startChain struct {
		index uint64
		rec   *logv1.ChainStarted
	}
	begin struct{ block chain.Block }
	read  struct {
		v   chain.Version
		key []byte
	}
	value struct {
		value []byte
		found bool
	}
	finish struct {
		v       chain.Version
		changes []*logv1.Change
		result  *logv1.TxResult
	}
	endBlock struct {
		v       chain.Version
		changes []*logv1.Change
	}
	seal   struct{}
	commit struct {
		index uint64
		rec   *logv1.BlockCommitted
		local []local
		redo  bool
	}
	done struct{}
)

func (use) Answer(*grant)              {}
func (startChain) Answer(done)         {}
func (begin) Answer([]*logv1.TxResult) {}
func (read) Answer(value)              {}
func (endBlock) Answer(done)           {}
func (seal) Answer(chain.Staged)       {}
func (commit) Answer(done)             {}

func (e *engine) init(ctx context.Context, s *engines.Server) error {
	var err error
	if e.grant, err = e.Lease.Acquire(ctx); err != nil {
		return err
	}

	engines.OnCall(s, func(_ context.Context, _ use, from engines.From[*grant]) error {
		from.Reply(e.grant)
		return nil
	})

	engines.OnCall(s, func(_ context.Context, q startChain, from engines.From[done]) error {
		err := e.do(func(d *DB) error { return d.StartChain(q.index, q.rec) })
		from.Answer(done{}, err)
		return fatal(err)
	})
	engines.OnCall(s, e.begin)
	engines.OnCall(s, e.read)
	engines.OnCast(s, e.finish)
	engines.OnCall(s, func(_ context.Context, q endBlock, from engines.From[done]) error {
		err := e.do(func(d *DB) error { return d.EndBlock(q.v, q.changes) })
		from.Answer(done{}, err)
		return fatal(err)
	})
	engines.OnCall(s, e.seal)
	engines.OnCall(s, func(_ context.Context, q commit, from engines.From[done]) error {
		err := e.do(func(d *DB) error {
			if q.redo {
				return d.Redo(q.index, q.rec, q.local...)
			}
			return d.Commit(q.index, q.rec, q.local...)
		})
		from.Answer(done{}, err)
		return fatal(err)
	})

	return e.watch(ctx)
}

// watch ends the incarnation when Pebble fails in the background, outside of any call.
func (e *engine) watch(ctx context.Context) error {
	return e.do(func(d *DB) error {
		return supervisor.Go(ctx, func(ctx context.Context) error {
			select {
			case <-d.Failed():
				return d.Err()
			case <-ctx.Done():
				return nil
			}
		})
	})
}

// do calls f with the state. If f panics, or meets an error that ends the incarnation, the next
// incarnation gets a state that was opened anew.
func (e *engine) do(f func(*DB) error) error {
	return e.grant.Do(func(d *DB) (err error) {
		whole := false
		defer func() {
			if !whole || fatal(err) != nil {
				d.spoilt.Store(true)
			}
		}()

		err = f(d)
		whole = true
		return err
	})
}

// fatal returns err if it must end the incarnation: the state has failed or is damaged, or this
// incarnation was fenced off. It returns nil for all other errors, which concern only the caller.
func fatal(err error) error {
	if errors.Is(err, errFailed) || errors.Is(err, ErrDamaged) || errors.Is(err, supervisor.ErrFenced) {
		return err
	}
	return nil
}

func (e *engine) begin(_ context.Context, q begin, from engines.From[[]*logv1.TxResult]) error {
	var refused []*logv1.TxResult
	err := e.do(func(d *DB) (err error) {
		refused, err = d.Begin(q.block)
		return err
	})

	if err == nil {
		e.drop(fmt.Errorf("%w: %v has taken its place", errNotStaged, q.block))
	}

	from.Answer(refused, err)
	return fatal(err)
}

// drop fails the calls that wait for a block that is no longer staged.
func (e *engine) drop(why error) {
	for _, waiting := range e.reads {
		for _, r := range waiting {
			r.from.Fail(why)
		}
	}

	for _, from := range e.seals {
		from.Fail(why)
	}

	e.reads, e.seals, e.turn = make(map[uint32][]waiting), nil, 0
}

func (e *engine) read(_ context.Context, q read, from engines.From[value]) error {
	var v value
	err := e.do(func(d *DB) (err error) {
		v.value, v.found, err = d.Read(q.v, q.key)
		return err
	})
	if errors.Is(err, errNotReady) {
		e.reads[q.v.Index] = append(e.reads[q.v.Index], waiting{q, from})
		return nil
	}

	from.Answer(v, err)
	return fatal(err)
}

// finish hands the writes and the result of one version to the DB, and then serves the calls that
// waited for it. An error ends the incarnation: a result that does not fit means that a worker or
// the pool is out of step. But a result for a block that is no longer staged is only late, and
// finish drops it.
func (e *engine) finish(ctx context.Context, m finish) error {
	var turn uint32
	var all bool
	err := e.do(func(d *DB) error {
		err := d.Finish(m.v, m.changes, m.result)
		turn, all, _ = d.nextTurn()
		return err
	})

	if errors.Is(err, errNotStaged) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("finish: %w", err)
	}

	for ; e.turn <= turn; e.turn++ {
		ready := e.reads[e.turn]
		delete(e.reads, e.turn)
		for _, r := range ready {
			if err := e.read(ctx, r.q, r.from); err != nil {
				return err
			}
		}
	}

	if !all {
		return nil
	}

	sealing := e.seals
	e.seals = nil

	for _, from := range sealing {
		if err := e.seal(ctx, seal{}, from); err != nil {
			return err
		}
	}

	return nil
}

func (e *engine) seal(_ context.Context, _ seal, from engines.From[chain.Staged]) error {
	var s chain.Staged
	err := e.do(func(d *DB) (err error) {
		s, err = d.Seal()
		return err
	})
	if errors.Is(err, errNotReady) {
		e.seals = append(e.seals, from)
		return nil
	}

	from.Answer(s, err)
	return fatal(err)
}
