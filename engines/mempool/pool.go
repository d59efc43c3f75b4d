package mempool

import (
	"context"
	"fmt"
	"time"

	"github.com/coppice-go/coppice/engines"
	"github.com/coppice-go/coppice/engines/chain"
	"github.com/coppice-go/coppice/eventlog"
	logv1 "github.com/coppice-go/coppice/proto/coppice/log/v1"
	"github.com/coppice-go/coppice/supervisor"
)

// Name is the pool's address.
const Name = "pool"

// Log is what the pool needs of the logger.
type Log interface {
	AppendThen(ctx context.Context, done func(first uint64, err error), recs ...eventlog.Record) error
	AppendLater(ctx context.Context, done func(first uint64, err error), recs ...eventlog.Record) error
	SyncSoon(ctx context.Context) error
	Fence(ctx context.Context) (durable uint64, err error)
	First(ctx context.Context) (uint64, error)
	Cursor(ctx context.Context, from uint64) (*eventlog.Cursor, error)
	Retain(ctx context.Context, name string, floor uint64) (*eventlog.Retainer, error)
}

// Store is what the pool needs of the storage engine.
type Store interface {
	State(ctx context.Context) (chain.State, error)
	Results(ctx context.Context, ids []chain.TxID) ([]*logv1.TxResult, error)
	GetLocal(ctx context.Context, name string) (value []byte, found bool, err error)
	PutLocal(ctx context.Context, name string, value []byte) error
}

// Workers starts workers. Their supervisor comes up after the pool.
type Workers interface {
	AwaitUp(ctx context.Context) error
	StartChild(ctx context.Context, id string, task *Task) (supervisor.Ref, error)
}

// Config holds the settings of the pool, and the other parts of the node that it calls. Backends
// and limits do not change while a node runs.
type Config struct {
	Log      Log
	Store    Store
	Workers  Workers
	Backends map[string]chain.Backend

	// Suspects knows the transactions whose code was running when a process of this node died. If
	// it is nil, there are none.
	Suspects Suspects

	// Orderer is the name of the engine that places blocks. The pool accepts calls only from the
	// incarnation of it that is registered when the pool starts.
	Orderer string

	// Alone says that the chain has no other node. The pool then offers a transaction, and starts
	// its worker, once its record is appended, so that the sync of its block covers that record
	// too. It still acknowledges the transaction only when the record is durable (docs/adr/0213).
	Alone bool

	MaxTxs   int   // the largest number of pending transactions; 0 is defaultMaxTxs
	MaxBytes int64 // the largest size of all pending transactions; 0 is defaultMaxBytes
	MaxEager int   // the largest number of workers that wait for a place; 0 is defaultMaxEager

	// Now is the wall clock, which may jump; nil is time.Now.
	Now func() time.Time
}

// Defaults of Config.
const (
	defaultMaxTxs   = 200_000
	defaultMaxBytes = 512 << 20
	defaultMaxEager = 2_048
)

// Child returns the pool's StartFunc.
func Child(dir engines.Directory, c Config) supervisor.StartFunc {
	if c.MaxTxs == 0 {
		c.MaxTxs = defaultMaxTxs
	}
	if c.MaxBytes == 0 {
		c.MaxBytes = defaultMaxBytes
	}
	if c.MaxEager == 0 {
		c.MaxEager = defaultMaxEager
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Suspects == nil {
		c.Suspects = unsuspected{}
	}
	return func(ctx context.Context) (supervisor.Service, error) {
		p := &pool{Config: c, dir: dir, pending: make(map[chain.TxID]*entry), waiting: make(map[sender]int),
			recentlyExpired: newRecentlyExpired(expiredKept)}
		return engines.Spec{Name: Name, Init: p.init}.Start(dir)(ctx)
	}
}

// pool is one incarnation. Only its goroutine touches it.
type pool struct {
	Config
	dir     engines.Directory
	self    *engines.Server
	orderer uint64 // the incarnation of the orderer
	state   chain.State

	pending         map[chain.TxID]*entry
	waiting         map[sender]int // pending transactions of the senders that have a bound
	bytes           int64
	prepared        int             // bytes of the bodies whose prepared form is kept
	queue           fifo            // logged, without a place: what is offered, oldest first
	unacked         unacked         // if Alone
	eager           int             // workers that wait for their place
	cleared         []chain.TxID    // suspects that ended, to be forgotten
	recentlyExpired recentlyExpired // the transactions that expired last
	nextExpiry      time.Time       // no pending transaction expires earlier; zero if not known
	takers          []taker
	offerees        []offeree
	wanting         []*entry // waiting for their workers since the start of the pool
	workable        bool     // the workers are up

	launched  fifo   // in log order, for the floor
	newest    uint64 // the pool knows every TxLaunched up to this index
	launching int    // submissions on their way to the log
	floor     uint64
	saved     uint64 // the floor that storage has
	retainer  *eventlog.Retainer
}

// entry is one pending transaction.
type entry struct {
	id       chain.TxID
	raw      []byte
	tx       chain.Tx
	prepared any       // see chain.PrepareTx; nil: not kept
	since    time.Time // when it was submitted here; zero for other nodes' transactions
	index    uint64    // of its TxLaunched; 0 until that is durable, and for other nodes' transactions

	launching bool // its TxLaunched is not durable yet, and it was offered all the same

	place  chan chain.Placement // delivers the place to its worker; nil if it has no worker
	eager  bool                 // its worker waits for the place
	placed bool
	ended  bool

	wanting bool // it is in pool.wanting, and its worker is not started yet

	suspect bool // its code was running when a process of this node died

	sender sender // whose bound it counts toward; zero: nobody's

	acks  []*submission // callers that wait for it to be durable
	waits []*waiting    // callers that wait for it to end
}

// sender is a sender of a backend that bounds what waits (chain.Bounded).
type sender struct{ backend, name string }

type taker struct {
	take
	from engines.From[[][]byte]
}

// offered is the reply to an offer.
type offered struct {
	txs  [][]byte
	last uint64
}

type offeree struct {
	offer
	from engines.From[offered]
}

// The messages of the pool.
type (
	submit   struct{ txs []candidate }
	hopeless struct{ txs []candidate } // which nobody has checked yet
	durable  struct {
		entries []*entry
		first   uint64
		err     error
	}
	place struct {
		by      engines.Sender
		block   chain.Block
		refused []*logv1.TxResult
	}
	committed struct {
		by  engines.Sender
		rec *logv1.BlockCommitted
	}
	take  struct{ maxTxs, maxBytes int }
	offer struct {
		after            uint64
		maxTxs, maxBytes int
		wait             bool
	}
	look    struct{ ids []chain.TxID }
	wait    struct{ ids []chain.TxID }
	stat    struct{}
	pending struct {
		backend string
		nonce   []byte
	}
	expiryLogged struct { // TxExpired is durable
		entries []*entry
		at      time.Time
		err     error
	}
	workerEnded struct {
		id  chain.TxID
		err error // why it ended without a result
	}
	workersUp struct{}
	syncDue   struct{ launched uint64 }
)

func (submit) Answer([]chain.Submitted) {}
func (hopeless) Answer([]error)         {}
func (take) Answer([][]byte)            {}
func (offer) Answer(offered)            {}
func (look) Answer([]chain.Ending)      {}
func (wait) Answer([]chain.Ending)      {}
func (stat) Answer(Stat)                {}
func (pending) Answer([]chain.TxID)     {}
func (place) Answer(struct{})           {}

// Stat holds figures of the pool at one moment.
type Stat struct {
	Txs     int
	Bytes   int64
	Queued  int
	Workers int           // the workers that wait for a place
	Floor   uint64        // the oldest log record the pool still needs
	Oldest  time.Duration // how long ago the oldest transaction was submitted; 0 if there is none
}

func (p *pool) init(ctx context.Context, s *engines.Server) error {
	p.self = s
	orderer, err := p.dir.Resolve(p.Orderer)
	if err != nil {
		return err
	}

	p.orderer = orderer.Incarnation()
	if err := p.replay(ctx); err != nil {
		return fmt.Errorf("replay: %w", err)
	}

	engines.OnCall(s, p.submit)
	engines.OnCall(s, p.findHopeless)
	engines.OnCast(s, p.durable)
	engines.OnCall(s, p.placeBlock)
	engines.OnCast(s, p.committed)
	engines.OnCall(s, p.take)
	engines.OnCall(s, p.offer)
	engines.OnCall(s, p.look)
	engines.OnCall(s, p.wait)
	engines.OnCall(s, p.findPending)
	engines.OnCast(s, p.workerEnded)
	engines.OnCast(s, p.startWanting)
	engines.OnCast(s, p.syncDue)
	engines.OnCast(s, p.expiryLogged)
	engines.OnCall(s, func(_ context.Context, _ stat, from engines.From[Stat]) error {
		from.Reply(Stat{Txs: len(p.pending), Bytes: p.bytes, Queued: len(p.queue.all()), Workers: p.eager,
			Floor: p.floor, Oldest: p.oldest(p.Now())})
		return nil
	})

	return supervisor.Go(ctx, func(ctx context.Context) error {
		if err := p.Workers.AwaitUp(ctx); err != nil {
			return nil // only ctx ends it
		}
		s.Post(workersUp{})
		return nil
	})
}

// oldest returns how long ago the oldest pending transaction was submitted here, or 0 if there is
// none.
func (p *pool) oldest(now time.Time) time.Duration {
	for _, e := range p.launched.all() {
		if !e.ended {
			return max(0, now.Sub(e.since))
		}
	}
	return 0
}

// ours returns supervisor.ErrFenced if by is another incarnation of the orderer than the one that
// the pool started with. Then one of the two was replaced and still runs (I5 in
// docs/architecture.md).
func (p *pool) ours(by engines.Sender) error {
	if by.Incarnation != p.orderer {
		return fmt.Errorf("%w: incarnation %d of %s is not %d, which the pool started with", supervisor.ErrFenced,
			by.Incarnation, p.Orderer, p.orderer)
	}
	return nil
}

// chain returns the state of the chain. It reads the state again until the chain has started.
func (p *pool) chain(ctx context.Context) (chain.State, error) {
	if p.state.Started() {
		return p.state, nil
	}
	var err error
	p.state, err = p.Store.State(ctx)
	return p.state, err
}

// candidate is a submission that was decoded and checked in its caller's goroutine.
type candidate struct {
	id  chain.TxID
	raw []byte
	tx  chain.Tx
	err error // set if it is refused

	from sender       // whose transactions are bounded; empty: nobody's
	most chain.Bounds // of from

	prepared any // see chain.PrepareTx

	notBefore time.Time // block time must have passed it (chain.Deferred); zero: any block may have it
}

// admissible returns the error with which a chain in the state s refuses a candidate, or nil. Block
// time decides whether a transaction can be applied. So the wall clock, now, must only refuse a
// transaction that no later block could apply. If now is before the last block's time, that time
// counts instead, because the next block will not be before it.
func admissible(c candidate, s chain.State, now time.Time) error {
	if err := tooLarge(c.raw, s); err != nil {
		return err
	}

	at := later(s.Time, now)
	if !c.notBefore.IsZero() && !at.After(c.notBefore) {
		return fmt.Errorf("%w: its backend defers it until after %s%s", chain.ErrDeferred,
			c.notBefore.UTC().Format(time.RFC3339Nano), clocks(s, now))
	}
	if c.tx.ValidUntil.IsZero() {
		return nil
	}

	until, window := c.tx.ValidUntil, time.Duration(s.Params.GetWindowNs())
	if until.Before(at) {
		return fmt.Errorf("%w: it was valid until %s%s", chain.ErrExpired, until.UTC().Format(time.RFC3339Nano),
			clocks(s, now))
	}

	if last := at.Add(window); until.After(last) {
		return fmt.Errorf("%w: valid until %s, want at most %v from now%s", chain.ErrTooEarly,
			until.UTC().Format(time.RFC3339Nano), window, clocks(s, now))
	}

	return nil
}

// tooLarge returns an ErrTooLarge if raw is larger than the chain allows.
func tooLarge(raw []byte, s chain.State) error {
	if max := s.Params.GetMaxTxBytes(); uint64(len(raw)) > max {
		return fmt.Errorf("%w: %d bytes, want at most %d", chain.ErrTooLarge, len(raw), max)
	}
	return nil
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// clocks names the clocks that decide about a validity, and how far they are apart. Without it, a
// client whose own clock is right could not see why it is refused.
func clocks(s chain.State, now time.Time) string {
	const format = time.RFC3339

	if ahead := s.Time.Sub(now); ahead > 0 {
		return fmt.Sprintf("; the time of the last block is %s, which is %v ahead of this node's clock (%s): "+
			"count from "+
			"the block time", s.Time.UTC().Format(format), ahead.Round(time.Millisecond), now.UTC().Format(format))
	}

	return fmt.Sprintf("; this node's clock says %s (the last block: %s): if the difference to your clock is "+
		"large, one of the two is wrong", now.UTC().Format(format), s.Time.UTC().Format(format))
}
