package worker

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/coppice-go/coppice/engines/chain"
	logv1 "github.com/coppice-go/coppice/proto/coppice/log/v1"
	"github.com/coppice-go/coppice/supervisor"
)

// view is the chain.View of one execution. It belongs to the goroutine of its worker.
type view struct {
	ctx     context.Context
	id      chain.TxID
	backend string
	store   reader
	marks   Marks
	params  *logv1.Params
	place   <-chan chain.Placement

	at     chain.Placement
	placed bool

	mark    uint64
	running bool // the backend's code runs, and mark says so

	writes []*logv1.Change // in write order, the last one of a key counts
	latest map[string]int  // key → its newest place in writes, once there are manyWrites
	events []*logv1.Emitted
	hook   bool // the view is a hook's
	ops    uint64
	steps  uint64

	limit    error // the first limit that was passed; it fails the transaction in any case
	poisoned error // a failure that other nodes need not have, after which the worker crashes
}

// reader is what a view needs of a Store.
type reader interface {
	Read(ctx context.Context, v chain.Version, key []byte) (value []byte, found bool, err error)
}

// errReading poisons a view whose read did not return.
var errReading = errors.New("cut off in a read")

// wait blocks until the order has given this transaction its place. It returns an error, and
// poisons the view, if the transaction will have none.
func (v *view) wait() error {
	if v.placed {
		return nil
	}
	if v.poisoned != nil {
		return v.poisoned
	}
	defer v.outside()()

	faults := supervisor.Faults(v.ctx)

	for {
		select {
		case at, ok := <-v.place:
			if !ok {
				return v.poison(errWithdrawn)
			}
			v.at, v.placed = at, true
			return nil

		case <-v.ctx.Done():
			return v.poison(context.Cause(v.ctx))

		case f := <-faults:
			v.poisoned = fmt.Errorf("fault %q was injected", f.Name) // a panic of f is no result
			f.Do(v.ctx)
			v.poisoned = nil
		}
	}
}

// enter marks the transaction as one whose backend code is running.
func (v *view) enter() {
	if v.marks != nil {
		v.mark, v.running = v.marks.Enter(v.ctx, v.id, v.placed), true
	}
}

// leave removes the mark, if there is one.
func (v *view) leave() {
	if v.running {
		v.running = false
		v.marks.Leave(v.mark)
	}
}

// outside removes the mark while the backend's code waits. The function that it returns sets the
// mark again.
func (v *view) outside() (inside func()) {
	if !v.running {
		return func() {}
	}
	v.leave()
	return v.enter
}

func (v *view) poison(err error) error {
	if v.poisoned == nil {
		v.poisoned = err
	}
	return err
}

func (v *view) op() error {
	if v.poisoned != nil {
		return v.poisoned
	}
	v.ops++
	if max := v.params.GetMaxTxOps(); v.ops > max {
		return v.over(fmt.Errorf("%w: more than %d", chain.ErrTooManyOps, max))
	}
	return nil
}

func (v *view) over(err error) error {
	if v.limit == nil {
		v.limit = err
	}
	return v.limit
}

func (v *view) key(key []byte) error {
	switch {
	case len(key) == 0:
		return chain.ErrEmptyKey
	case len(key) > chain.MaxKeyBytes:
		return v.over(fmt.Errorf("%w: %d bytes, want at most %d", chain.ErrKeyTooLong, len(key), chain.MaxKeyBytes))
	}
	return nil
}

func (v *view) Get(key []byte) ([]byte, bool, error) {
	if err := v.op(); err != nil {
		return nil, false, err
	}
	if err := v.key(key); err != nil {
		return nil, false, err
	}

	if c := v.written(key); c != nil {
		return bytes.Clone(c.Value), !c.Delete, nil
	}

	if err := v.wait(); err != nil {
		return nil, false, err
	}

	v.poisoned = errReading // the read also runs injected faults, whose panic is not the result
	value, found, err := v.read(key)
	v.poisoned = nil
	if err != nil {
		return nil, false, v.poison(fmt.Errorf("read %.60q: %w", key, err))
	}

	return value, found, nil
}

func (v *view) read(key []byte) ([]byte, bool, error) {
	defer v.outside()()
	return v.store.Read(v.ctx, v.at.Version, key)
}

func (v *view) Put(key, value []byte) error {
	if len(value) > chain.MaxValueBytes {
		return v.over(fmt.Errorf("%w: %d bytes, want at most %d", chain.ErrValueTooLong, len(value),
			chain.MaxValueBytes))
	}
	return v.write(&logv1.Change{Key: bytes.Clone(key), Value: bytes.Clone(value)})
}

func (v *view) Delete(key []byte) error {
	return v.write(&logv1.Change{Key: bytes.Clone(key), Delete: true})
}

func (v *view) write(c *logv1.Change) error {
	if err := v.op(); err != nil {
		return err
	}
	if err := v.key(c.Key); err != nil {
		return err
	}
	if !chain.MayWrite(v.backend, c.Key) {
		return v.over(fmt.Errorf("%w: %.60q", chain.ErrReservedKey, c.Key))
	}
	v.writes = append(v.writes, c)
	if len(v.writes) < manyWrites {
		return nil
	}

	if v.latest == nil {
		v.latest = make(map[string]int, 2*manyWrites)
		for i, w := range v.writes {
			v.latest[string(w.Key)] = i
		}
	}
	v.latest[string(c.Key)] = len(v.writes) - 1

	return nil
}

// manyWrites is the number of writes from which on a map finds a key sooner than a look at each.
// Most transactions write less, and a map costs more than all the rest of such a transaction.
const manyWrites = 16

// written returns the last write of key, or nil.
func (v *view) written(key []byte) *logv1.Change {
	if v.latest != nil {
		if i, ok := v.latest[string(key)]; ok {
			return v.writes[i]
		}
		return nil
	}

	for i := len(v.writes) - 1; i >= 0; i-- {
		if c := v.writes[i]; bytes.Equal(c.Key, key) {
			return c
		}
	}
	return nil
}

func (v *view) Emit(typ string, attributes ...chain.Attribute) error {
	if err := v.op(); err != nil {
		return err
	}
	if v.hook {
		return v.over(fmt.Errorf("%w: a hook cannot emit", chain.ErrBadEvent))
	}

	e, err := chain.NewEmitted(typ, attributes)
	if err != nil {
		return v.over(err)
	}
	v.events = append(v.events, e)

	return nil
}

func (v *view) Version() (chain.Version, error) {
	err := v.wait()
	return v.at.Version, err
}

func (v *view) BlockTime() (time.Time, error) {
	err := v.wait()
	return v.at.Time, err
}

func (v *view) Step(n uint64) error {
	if v.poisoned != nil {
		return v.poisoned
	}

	max := v.params.GetMaxTxSteps()
	if n > max-v.steps { // steps never exceeds max, so this cannot wrap
		v.steps = max
		return v.over(fmt.Errorf("%w: more than %d", chain.ErrTooManySteps, max))
	}

	v.steps += n

	return nil
}

// isLimit reports whether err is the error of a limit that holds on every chain.
func isLimit(err error) bool {
	for _, l := range []error{chain.ErrTooManyOps, chain.ErrTooManySteps, chain.ErrKeyTooLong,
		chain.ErrValueTooLong, chain.ErrResultTooBig, chain.ErrBadEvent} {
		if errors.Is(err, l) {
			return true
		}
	}
	return false
}
