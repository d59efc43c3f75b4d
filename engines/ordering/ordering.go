// Package ordering gives each transaction its place. It takes the blocks that consensus decided,
// logs the decision, has the transactions executed in that order, and commits: first to the log,
// then to the state, and then it publishes the news.
//
// After each restart it replays the event log. Blocks that are committed in the log and not yet in
// the state are applied again from their recorded changes, up to the last BlockCommitted. A block
// that was decided and not committed is executed again and staged; only the consensus driver
// commits it. A chain that has ended stays ended until its next epoch is started.
package ordering

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"github.com/thejerf/suture/v4"
	"google.golang.org/protobuf/proto"

	"github.com/coppice-go/coppice/engines"
	"github.com/coppice-go/coppice/engines/chain"
	"github.com/coppice-go/coppice/eventlog"
	logv1 "github.com/coppice-go/coppice/proto/coppice/log/v1"
	"github.com/coppice-go/coppice/supervisor"
)

// Name is ordering's address.
const Name = "ordering"

// Log is what ordering needs of the logger.
type Log interface {
	Append(ctx context.Context, recs ...eventlog.Record) (first uint64, err error)
	AppendThen(ctx context.Context, done func(first uint64, err error), recs ...eventlog.Record) error
	AppendNoSync(ctx context.Context, recs ...eventlog.Record) (first uint64, err error)
	Fence(ctx context.Context) (durable uint64, err error)
	Cursor(ctx context.Context, from uint64) (*eventlog.Cursor, error)
}

// Store is what ordering needs of the storage engine.
type Store interface {
	State(ctx context.Context) (chain.State, error)
	RootAt(ctx context.Context, period uint64) (chain.Root, error)
	StartChain(ctx context.Context, index uint64, rec *logv1.ChainStarted) error
	Begin(ctx context.Context, b chain.Block) (refused []*logv1.TxResult, err error)
	Seal(ctx context.Context) (chain.Staged, error)
	Commit(ctx context.Context, index uint64, rec *logv1.BlockCommitted) error
	Redo(ctx context.Context, index uint64, rec *logv1.BlockCommitted) error
}

// Pool is what ordering needs of the mempool.
type Pool interface {
	// Place has the transactions of b executed, each at its version, except those with a refusal.
	Place(ctx context.Context, b chain.Block, refused []*logv1.TxResult) error

	// Committed tells the pool the results. It does not wait.
	Committed(ctx context.Context, rec *logv1.BlockCommitted) error
}

// Config holds the parts of the node that ordering calls.
type Config struct {
	Log   Log
	Store Store
	Pool  Pool

	// Hooks, if set, runs the hooks of the backends at the end of the staged block, hands their
	// writes to the store, and returns the failures. Without it no backend has a hook.
	Hooks func(ctx context.Context, b chain.Block) ([]*logv1.HookFailure, error)

	// Validators, if set, returns the changes of the validator set that a block and its results
	// make. It must depend on its arguments alone.
	Validators func(b chain.Block, results []*logv1.TxResult) []*logv1.ValidatorUpdate

	// Progress, if set, is called during a replay with the index of the last record redone, and the
	// index of the last record of the log.
	Progress func(index, last uint64)
}

// Errors that a driver may meet.
var (
	// ErrConflict: a block was delivered that is not the one decided at its height. Two decisions
	// for one height mean that consensus itself is broken, so the process ends.
	ErrConflict = errors.New("two different blocks for one height")

	// ErrHeight: a block was delivered for another height than the next one.
	ErrHeight = errors.New("not the next height")

	// ErrBehind: the log lacks records that the state was made of, or the state is older than a
	// snapshot that the log says was installed.
	ErrBehind = errors.New("log and state do not belong together")

	// ErrGenesis: the chain was started by another genesis.
	ErrGenesis = errors.New("genesis does not match")

	// ErrNotStaged: no block of this height was ordered, so none can be committed.
	ErrNotStaged = errors.New("no such block is staged")

	// ErrEnded: the chain was reset, and the next epoch has not started.
	ErrEnded = errors.New("the chain has ended")
)

// Child returns ordering's StartFunc.
func Child(dir engines.Directory, c Config) supervisor.StartFunc {
	return func(ctx context.Context) (supervisor.Service, error) {
		o := &ordering{Config: c, drivers: make(engines.Admission), commits: make(chan *committing, 1)}
		return engines.Spec{Name: Name, Init: o.init}.Start(dir)(ctx)
	}
}

type ordering struct {
	Config
	drivers engines.Admission
	state   chain.State // with the block that is being committed

	under   *committing      // the block that is being committed; nil if there is none
	commits chan *committing // to the goroutine that commits

	decided      *chain.Block // logged, and its commit has not begun
	decidedIndex uint64
	staged       *chain.Staged // decided, and executed

	decision eventlog.Entry // of the replay: the newest OrderDecided. Its Kind is 0 if its block is committed

	reset *logv1.ChainReset // logged, without a start of the next epoch; nil: the chain goes on
}

// The messages of ordering. Each carries its sender, because a replaced driver must be refused: the
// blocks of two drivers that run at once would look like two decisions.
type (
	info      struct{ by engines.Sender }
	initChain struct {
		by  engines.Sender
		rec *logv1.ChainStarted
	}
	order struct {
		by    engines.Sender
		block chain.Block
	}
	commit struct {
		by     engines.Sender
		height uint64
	}
	commitLater struct {
		by     engines.Sender
		height uint64
	}
	end struct {
		by   engines.Sender
		with chain.Renewal
	}
	reexecute struct{}
)

func (commitLater) Answer(chain.State) {}

func (info) Answer(chain.Standing)   {}
func (initChain) Answer(chain.State) {}
func (order) Answer(chain.Staged)    {}
func (commit) Answer(chain.State)    {}
func (end) Answer(*logv1.ChainReset) {}

func (o *ordering) init(ctx context.Context, s *engines.Server) error {
	if err := o.replay(ctx); err != nil {
		return fmt.Errorf("replay: %w", err)
	}

	engines.OnCall(s, func(ctx context.Context, q info, from engines.From[chain.Standing]) error {
		return answer(o, from, q.by, func() (chain.Standing, error) { return o.standing(ctx) })
	})

	// A step that has begun is finished, whatever the deadline of the driver: half of it would
	// leave log and state out of step.
	engines.OnCall(s, func(ctx context.Context, q initChain, from engines.From[chain.State]) error {
		ctx = engines.Lifetime(ctx)
		return answer(o, from, q.by, func() (chain.State, error) { return o.initChain(ctx, q.rec) })
	})

	engines.OnCall(s, func(ctx context.Context, q order, from engines.From[chain.Staged]) error {
		ctx = engines.Lifetime(ctx)
		return answer(o, from, q.by, func() (chain.Staged, error) { return o.order(ctx, q.block) })
	})

	engines.OnCall(s, func(ctx context.Context, q commit, from engines.From[chain.State]) error {
		ctx = engines.Lifetime(ctx)
		return answer(o, from, q.by, func() (chain.State, error) { return o.commit(ctx, q.height) })
	})

	engines.OnCall(s, func(ctx context.Context, q commitLater, from engines.From[chain.State]) error {
		ctx = engines.Lifetime(ctx)
		return answer(o, from, q.by, func() (chain.State, error) { return o.commitLater(ctx, q.height) })
	})

	engines.OnCall(s, func(ctx context.Context, q end, from engines.From[*logv1.ChainReset]) error {
		ctx = engines.Lifetime(ctx)
		return answer(o, from, q.by, func() (*logv1.ChainReset, error) { return o.end(ctx, q.with) })
	})
	engines.OnCast(s, func(ctx context.Context, _ reexecute) error { return o.execute(ctx) })
	if o.decided != nil {
		s.Post(reexecute{}) // the workers start after this engine
	}

	return supervisor.Go(ctx, o.commitLoop)
}

// refusal is an error that concerns the caller alone. Any other error ends the incarnation.
type refusal struct{ error }

func (r refusal) Unwrap() error { return r.error }

// answer calls f and replies with its result. It replies to a replaced driver with
// supervisor.ErrFenced and does not call f. If f returns an error that is no refusal, answer
// returns that error, which ends the incarnation.
func answer[R any](o *ordering, from engines.From[R], by engines.Sender, f func() (R, error)) error {
	if err := o.drivers.Admit(by); err != nil {
		from.Fail(err)
		return nil
	}

	r, err := f()
	if err != nil && !errors.As(err, new(refusal)) {
		return err // the driver gets engines.ErrDown, with err as the cause
	}

	from.Answer(r, err)
	return nil
}

// standing returns where the chain stands.
func (o *ordering) standing(ctx context.Context) (s chain.Standing, err error) {
	if err := o.settle(ctx); err != nil {
		return s, err
	}

	s = chain.Standing{Committed: o.state, Leftover: o.decided, Reset: o.reset}
	if o.state.InHold() {
		s.Root, err = o.Store.RootAt(ctx, o.state.Period+1)
	}
	return s, err
}

func (o *ordering) initChain(ctx context.Context, rec *logv1.ChainStarted) (chain.State, error) {
	if err := o.settle(ctx); err != nil {
		return o.state, err
	}

	if o.reset != nil {
		if err := chain.Succeeds(o.reset, rec); err != nil {
			return o.state, refusal{err}
		}
	} else if o.state.Started() {
		// The genesis of epoch 0 counts in all epochs: a driver with no other genesis gives it.
		original := rec.Period == 0 && chain.NameOf(o.state.ChainID, o.state.Period) == rec.ChainId
		if !original && (o.state.ChainID != rec.ChainId || o.state.Period != rec.Period) {
			return o.state, refusal{fmt.Errorf("%w: chain %s (period %d) has already started, got %s (period %d): "+
				"genesis.json, or the genesis of the consensus, was edited; copy it from another node of the chain",
				ErrGenesis, o.state.ChainID, o.state.Period, rec.ChainId, rec.Period)}
		}

		if !proto.Equal(o.state.Params, rec.Params) {
			return o.state, refusal{fmt.Errorf("%w: chain %s was started with the limits {%v}, got {%v}",
				ErrGenesis, rec.ChainId, o.state.Params, rec.Params)}
		}

		return o.state, nil // repeated by a driver that was cut off
	}

	r, err := chain.NewRecord(rec)
	if err != nil {
		return o.state, err
	}
	index, err := o.Log.Append(ctx, r)
	if err != nil {
		return o.state, err
	}
	if err := o.Store.StartChain(ctx, index, rec); err != nil {
		return o.state, err
	}

	o.reset = nil
	o.state, err = o.Store.State(ctx)
	return o.state, err
}

func (o *ordering) order(ctx context.Context, b chain.Block) (chain.Staged, error) {
	var none chain.Staged
	if err := o.ended(b); err != nil {
		return none, refusal{err}
	}
	if b.Height != o.state.Next() { // it may be the block that is being committed
		if err := o.settle(ctx); err != nil {
			return none, err
		}
	}

	switch {
	case !o.state.Started():
		return none, refusal{fmt.Errorf("%w: %v, but no chain has started", ErrHeight, b)}

	case b.ChainID != o.state.ChainID || b.Period != o.state.Period:
		return none, refusal{fmt.Errorf("%v belongs to another chain than %s (period %d)", b, o.state.ChainID,
			o.state.Period)}

	case b.Height == o.state.Height && b.Height != 0:
		if !bytes.Equal(b.Hash, o.state.BlockHash) {
			return none, conflict(b, o.state.BlockHash)
		}
		return chain.Staged{Block: b, AppHash: o.state.AppHash}, nil // delivered again after its commit

	case b.Height != o.state.Next():
		return none, refusal{fmt.Errorf("%w: %v, want height %d", ErrHeight, b, o.state.Next())}
	}

	if o.decided != nil {
		if !o.decided.Same(b) {
			return none, conflict(b, o.decided.Hash)
		}
		return *o.staged, nil // delivered again: nothing is appended
	}

	rec, err := chain.NewRecord(b.Record())
	if err != nil {
		return none, err
	}
	// AppendNoSync does not wait for the disk. The sync of BlockCommitted covers this record, and
	// until then nothing has been done that would need the decision after a crash.
	if o.decidedIndex, err = o.Log.AppendNoSync(ctx, rec); err != nil {
		return none, err
	}

	o.decided = &b
	if err := o.execute(ctx); err != nil {
		return none, err
	}

	return *o.staged, nil
}

func conflict(b chain.Block, have []byte) error {
	return fmt.Errorf("%w: %v was decided, and %.8x stands at that height: %w", ErrConflict, b, have,
		suture.ErrTerminateSupervisorTree)
}

// execute executes the decided block and stages its outcome.
func (o *ordering) execute(ctx context.Context) error {
	refused, err := o.Store.Begin(ctx, *o.decided)
	if err != nil {
		return err
	}
	if err := o.Pool.Place(ctx, *o.decided, refused); err != nil {
		return err
	}

	var failures []*logv1.HookFailure
	if o.Hooks != nil && !o.state.InHold() { // a held block changes nothing
		if failures, err = o.Hooks(ctx, *o.decided); err != nil {
			return err
		}
	}

	staged, err := o.Store.Seal(ctx)
	if err != nil {
		return err
	}
	staged.HookFailures = failures
	if o.Validators != nil {
		staged.Validators = o.Validators(staged.Block, staged.Results)
	}

	o.staged = &staged

	return nil
}

// replay brings the state to the last BlockCommitted of the log, and finds the block that was
// decided after it, if there is one.
func (o *ordering) replay(ctx context.Context) error {
	last, err := o.Log.Fence(ctx)
	if err != nil {
		return err
	}
	if o.state, err = o.Store.State(ctx); err != nil {
		return err
	}

	if o.state.Index > last {
		return fmt.Errorf("%w: the state has applied record %d, and the log ends at %d: the log was cut back or "+
			"belongs to another home: %w",
			ErrBehind, o.state.Index, last, suture.ErrTerminateSupervisorTree)
	}

	records, end, err := o.decoded(ctx, o.state.Index+1, last)
	if err != nil {
		return err
	}
	defer end()

	at := o.state.Index

	for d := range records {
		at = d.Index
		if d.err != nil {
			return d.err
		}
		if err := o.redo(ctx, d); err != nil {
			return err
		}
		if o.Progress != nil {
			o.Progress(d.Index, last)
		}
	}

	if at != last { // the reading goroutine has ended the incarnation
		return fmt.Errorf("the log was read up to record %d only, want %d", at, last)
	}
	if err := o.redoDecision(); err != nil {
		return err
	}

	o.state, err = o.Store.State(ctx)
	return err
}

// decoded is a record of the log, and its message if a replay needs that.
type decoded struct {
	eventlog.Entry
	m   proto.Message
	err error
}

// decoded reads the records from through to. It decodes them ahead of their use, in a goroutine of
// its own, because that takes a quarter of a replay. end ends it, and waits for that.
func (o *ordering) decoded(ctx context.Context, from, to uint64) (<-chan decoded, func(), error) {
	ctx, cancel := context.WithCancel(ctx)
	out := make(chan decoded, 1)
	open := func(from uint64) (*eventlog.Cursor, error) { return o.Log.Cursor(ctx, from) }

	err := supervisor.Go(ctx, func(context.Context) error { // ctx ends before its own
		defer close(out)
		for e, err := range chain.Records(open, from, to) {
			select {
			case out <- decode(e, err):
			case <-ctx.Done():
				return nil // the replay has an error already, or ends with the incarnation
			}
		}
		return nil
	})

	return out, func() {
		cancel()
		for range out {
		}
	}, err
}

func decode(e eventlog.Entry, err error) decoded {
	d := decoded{Entry: e, err: err}
	if err != nil {
		return d
	}

	switch e.Kind {
	case chain.KindOrderDecided:
		d.Data = bytes.Clone(e.Data)
	case chain.KindChainStarted, chain.KindBlockCommitted, chain.KindChainReset:
		d.m, d.err = chain.DecodeRecord(e)
	}

	return d
}

func (o *ordering) redo(ctx context.Context, e decoded) error {
	switch e.Kind {
	case chain.KindSnapshotInstalled:
		return fmt.Errorf("%w: record %d says that a snapshot took the state's place, and the state is from before: %w",
			ErrBehind, e.Index, suture.ErrTerminateSupervisorTree)

	case chain.KindOrderDecided:
		o.decision = e.Entry
		if o.reset != nil {
			return o.redoDecision() // which refuses it
		}

	case chain.KindBlockCommitted:
		o.decision = eventlog.Entry{}

	case chain.KindChainReset:
		if err := o.redoDecision(); err != nil { // it came before the reset
			return err
		}
	}

	switch m := e.m.(type) {
	case *logv1.ChainStarted:
		if o.reset != nil {
			if err := chain.Succeeds(o.reset, m); err != nil {
				return brokenAt(e.Index, err)
			}
		}
		o.reset = nil
		return o.Store.StartChain(ctx, e.Index, m)
	case *logv1.ChainReset:
		return o.redoReset(ctx, e.Index, m)
	case *logv1.BlockCommitted:
		return o.Store.Redo(ctx, e.Index, m)
	}

	return nil
}

// redoDecision decodes the OrderDecided that redo has kept, if it has one. The blocks of all others
// are committed, and nobody asks for what their decisions say.
func (o *ordering) redoDecision() error {
	e := o.decision
	o.decision = eventlog.Entry{}
	if e.Kind == 0 {
		return nil
	}

	m, err := chain.DecodeRecord(e)
	if err != nil {
		return err
	}

	b := chain.BlockFromRecord(m.(*logv1.OrderDecided))
	if err := o.ended(b); err != nil {
		return brokenAt(e.Index, err)
	}
	o.decided, o.decidedIndex = &b, e.Index

	return nil
}
