package storage

import (
	"context"
	"errors"
	"sync/atomic"

	"github.com/coppice-go/coppice/engines"
	"github.com/coppice-go/coppice/engines/chain"
	logv1 "github.com/coppice-go/coppice/proto/coppice/log/v1"
	"github.com/coppice-go/coppice/supervisor"
)

// Client is the interface of storage to other engines. It is safe for concurrent use.
//
// Calls that change or stage something go through the mailbox, in order. Calls that read committed
// state run in the caller's goroutine, under the grant that the last incarnation handed out. After
// that grant is revoked, they ask the living incarnation for a new one. So these reads never wait
// behind a commit, and never touch a state that a successor has opened (I5 in
// docs/architecture.md).
type Client struct {
	to   engines.Address
	last *atomic.Pointer[grant]
}

// NewClient returns a client of the storage engine in dir, which fails fast while the engine is
// down.
func NewClient(dir engines.Directory) Client {
	return Client{engines.NewAddress(dir, Name), new(atomic.Pointer[grant])}
}

// With returns the same client with another patience.
func (c Client) With(p engines.Patience) Client { return Client{c.to.With(p), c.last} }

// SameGeneration returns the same client, for an engine that is restarted together with storage. If
// that engine has been replaced and still runs, its calls through the mailbox return
// supervisor.ErrFenced.
func (c Client) SameGeneration() Client { return Client{c.to.SameGeneration(), c.last} }

// direct runs f on the DB in the caller's goroutine, under a grant of the living incarnation.
func (c Client) direct(ctx context.Context, f func(*DB) error) error {
	if g := c.last.Load(); g != nil {
		if err := g.Do(f); !errors.Is(err, supervisor.ErrFenced) {
			return err
		}
	}

	g, err := engines.Call(ctx, c.to, use{})
	if err != nil {
		return err
	}

	c.last.Store(g)
	return g.Do(f)
}

// State returns the state of the committed chain.
func (c Client) State(ctx context.Context) (s chain.State, err error) {
	err = c.direct(ctx, func(d *DB) error { s = d.State(); return d.Err() })
	return s, err
}

// StartChain begins a chain or its next period, as DB.StartChain describes.
func (c Client) StartChain(ctx context.Context, index uint64, rec *logv1.ChainStarted) error {
	_, err := engines.Call(ctx, c.to, startChain{index, rec})
	return err
}

// Begin stages b and returns an entry for each transaction, which is nil unless the transaction is
// refused (see DB.Begin). It fails the reads and seals that wait for the block that was staged
// before.
func (c Client) Begin(ctx context.Context, b chain.Block) (refused []*logv1.TxResult, err error) {
	return engines.Call(ctx, c.to, begin{b})
}

// Read returns the value of key as of just before v (see DB.Read). It waits until all earlier
// versions have finished.
func (c Client) Read(ctx context.Context, v chain.Version, key []byte) (val []byte, found bool, err error) {
	r, err := engines.Call(ctx, c.to, read{v, key})
	return r.value, r.found, err
}

// Finish hands over the writes and the result of the transaction at v (see DB.Finish). It only
// sends the message and does not wait. A call that is out of order ends the engine's incarnation; a
// call for a block that is no longer staged is dropped.
func (c Client) Finish(ctx context.Context, v chain.Version, changes []*logv1.Change, result *logv1.TxResult) error {
	return engines.Cast(ctx, c.to, finish{v, changes, result})
}

// EndBlock hands over the writes of the hooks of the staged block (see DB.EndBlock).
func (c Client) EndBlock(ctx context.Context, v chain.Version, changes []*logv1.Change) error {
	_, err := engines.Call(ctx, c.to, endBlock{v, changes})
	return err
}

// Seal waits until all versions of the staged block have finished, and returns the block's outcome
// (see DB.Seal).
func (c Client) Seal(ctx context.Context) (chain.Staged, error) {
	return engines.Call(ctx, c.to, seal{})
}

// Commit applies the sealed block, whose record is durable in the event log at index (see
// DB.Commit).
func (c Client) Commit(ctx context.Context, index uint64, rec *logv1.BlockCommitted) error {
	return c.commitWith(ctx, index, rec)
}

// commitWith is Commit with node-local values in the same batch.
func (c Client) commitWith(ctx context.Context, index uint64, rec *logv1.BlockCommitted, local ...local) error {
	_, err := engines.Call(ctx, c.to, commit{index: index, rec: rec, local: local})
	return err
}

// Redo applies a BlockCommitted of the event log without executing anything (see DB.Redo).
func (c Client) Redo(ctx context.Context, index uint64, rec *logv1.BlockCommitted) error {
	_, err := engines.Call(ctx, c.to, commit{index: index, rec: rec, redo: true})
	return err
}

// Get returns the value of key at a committed height, and the height at which it read (see DB.Get).
func (c Client) Get(ctx context.Context, key []byte, height uint64) (val []byte, found bool, at uint64, err error) {
	err = c.direct(ctx, func(d *DB) (err error) {
		val, found, at, err = d.Get(key, height)
		return err
	})
	return val, found, at, err
}

// result returns the result of an applied transaction (see DB.Result).
func (c Client) result(ctx context.Context, id chain.TxID) (r *logv1.TxResult, found bool, err error) {
	err = c.direct(ctx, func(d *DB) (err error) {
		r, found, err = d.Result(id)
		return err
	})
	return r, found, err
}

// Results returns the result of each id, or nil where there is none (see DB.Results).
func (c Client) Results(ctx context.Context, ids []chain.TxID) (rs []*logv1.TxResult, err error) {
	err = c.direct(ctx, func(d *DB) (err error) {
		rs, err = d.Results(ids)
		return err
	})
	return rs, err
}

// Block returns what the state keeps about a committed block (see DB.Block).
func (c Client) Block(ctx context.Context, height uint64) (m BlockMeta, err error) {
	err = c.direct(ctx, func(d *DB) (err error) {
		m, err = d.Block(height)
		return err
	})
	return m, err
}

// RootAt returns what the committed state is at a reset that begins a period (see DB.RootAt).
func (c Client) RootAt(ctx context.Context, period uint64) (r chain.Root, err error) {
	err = c.direct(ctx, func(d *DB) error { r = d.RootAt(period); return d.Err() })
	return r, err
}

// PutLocal sets a node-local value (see DB.PutLocal).
func (c Client) PutLocal(ctx context.Context, name string, val []byte) error {
	return c.direct(ctx, func(d *DB) error { return d.PutLocal(name, val) })
}

// GetLocal returns a node-local value (see DB.GetLocal).
func (c Client) GetLocal(ctx context.Context, name string) (val []byte, found bool, err error) {
	err = c.direct(ctx, func(d *DB) (err error) {
		val, found, err = d.GetLocal(name)
		return err
	})
	return val, found, err
}

// Flush makes all commits durable and returns the durable applied index (see DB.Flush). It does not
// pass through the mailbox.
func (c Client) Flush(ctx context.Context) (durableApplied uint64, err error) {
	err = c.direct(ctx, func(d *DB) (err error) {
		durableApplied, err = d.Flush()
		return err
	})
	return durableApplied, err
}

// DurableApplied returns the log index that the state certainly has after a crash (see
// DB.durableApplied).
func (c Client) DurableApplied(ctx context.Context) (index uint64, err error) {
	err = c.direct(ctx, func(d *DB) (err error) {
		index, err = d.durableApplied()
		return err
	})
	return index, err
}

// Prune removes what only reads below height need (see DB.Prune).
func (c Client) Prune(ctx context.Context, height uint64) error {
	return c.direct(ctx, func(d *DB) error { return d.Prune(ctx, height) })
}

// PruneSome is Prune in a bounded piece: it stops after about limit removals (see DB.pruneSome).
func (c Client) PruneSome(ctx context.Context, height uint64, limit int) (removed int, done bool, err error) {
	err = c.direct(ctx, func(d *DB) (err error) {
		removed, done, err = d.pruneSome(ctx, height, limit)
		return err
	})
	return removed, done, err
}

// Checkpoint copies the committed state to dir (see DB.Checkpoint). It does not pass through the
// mailbox.
func (c Client) Checkpoint(ctx context.Context, dir string) error {
	return c.direct(ctx, func(d *DB) error { return d.Checkpoint(dir) })
}

// LogID returns the identity of the event log that the state was made from (see DB.LogID).
func (c Client) LogID(ctx context.Context) (id [16]byte, found bool, err error) {
	err = c.direct(ctx, func(d *DB) (err error) {
		id, found, err = d.LogID()
		return err
	})
	return id, found, err
}

// BindLog records which event log the state is made from (see DB.BindLog).
func (c Client) BindLog(ctx context.Context, id [16]byte) error {
	return c.direct(ctx, func(d *DB) error { return d.BindLog(id) })
}

// GetOf returns the value that a key had after a block (see DB.GetOf).
func (c Client) GetOf(ctx context.Context, key []byte, period, height uint64) (val []byte, found bool, err error) {
	err = c.direct(ctx, func(d *DB) (err error) {
		val, found, err = d.GetOf(key, period, height)
		return err
	})
	return val, found, err
}

// Stat returns figures about the state (see DB.Stat).
func (c Client) Stat(ctx context.Context) (s Stat, err error) {
	err = c.direct(ctx, func(d *DB) (err error) {
		s, err = d.Stat()
		return err
	})
	return s, err
}

// Pin pins the committed state of this moment (see DB.Pin). The pin is closed when the incarnation
// ends.
func (c Client) Pin(ctx context.Context) (p *Pinned, err error) {
	err = c.direct(ctx, func(d *DB) (err error) {
		p, err = d.Pin()
		return err
	})
	return p, err
}

// view runs f on a Reader of the committed state. f must not keep the Reader. The end of a replaced
// incarnation waits for f, so f must be short.
func (c Client) view(ctx context.Context, f func(*Reader) error) error {
	return c.direct(ctx, func(d *DB) error {
		s, err := d.reader()
		if err != nil {
			return err
		}
		defer s.Close()
		return f(s)
	})
}
