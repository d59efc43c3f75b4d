package engines

import (
	"context"
	"fmt"
	"reflect"
	"sync/atomic"

	"github.com/coppice-go/coppice/supervisor"
)

// Directory finds an engine's mailbox by the engine's name. Each incarnation of an engine, that is,
// each start of it, has a mailbox of its own. The router's table is a Directory.
type Directory interface {
	// Resolve returns the mailbox of the engine's living incarnation. If there is none, it returns
	// a *DownError at once.
	Resolve(name string) (*Mailbox, error)

	// Await waits for an incarnation of the engine with a number above after, and returns its
	// mailbox. It returns a *DownError when the directory itself has ended, and the context's cause
	// when ctx ends first.
	Await(ctx context.Context, name string, after uint64) (*Mailbox, error)

	// Register makes m the mailbox of its name. It returns an error if a newer incarnation has
	// registered since, or if another engine of that name runs (see Mailbox.Replaces).
	Register(m *Mailbox) error
}

// Patience says what a use of an Address does while the engine is down.
type Patience uint8

const (
	// FailFast returns ErrDown at once.
	FailFast Patience = iota

	// AwaitNext waits for the next incarnation and sends the message to it. A message that the
	// mailbox of an ended incarnation had already accepted is not sent again, because it may have
	// been handled: the caller gets ErrDown.
	AwaitNext

	// Resend waits for the next incarnation and sends the message to it, even if the mailbox of an
	// ended incarnation had accepted it. Use it only for messages that may be handled twice.
	Resend
)

// Address names an engine. Each use finds the living incarnation, so that no caller holds a stale
// pointer across a restart. It is a value, safe to copy and for concurrent use.
type Address struct {
	name           string
	dir            Directory
	patience       Patience
	sameGeneration bool
	last           *lastUse // shared by all copies; nil if NewAddress did not make it
}

// lastUse is what the last use of an Address found. It only saves work: the mailbox is used as long
// as its Directory would return it, and is asked for again when it is retired (I5).
type lastUse struct {
	box     atomic.Pointer[Mailbox]
	handler atomic.Pointer[handler] // of box or of an earlier one
}

// NewAddress returns the fail-fast address of name in dir.
func NewAddress(dir Directory, name string) Address {
	return Address{name: name, dir: dir, last: new(lastUse)}
}

// resolve returns the mailbox of the living incarnation, or a *DownError.
func (a Address) resolve() (*Mailbox, error) {
	if a.dir == nil {
		return nil, fmt.Errorf("%w: address of engine %q without a Directory; expected one made by NewAddress",
			supervisor.ErrSpec, a.name)
	}
	if a.last == nil {
		return a.dir.Resolve(a.name)
	}
	if m := a.last.box.Load(); m != nil && m.standing.Load() == published {
		return m, nil
	}

	m, err := a.dir.Resolve(a.name)
	if err == nil && m.standing.Load() == published {
		a.last.box.Store(m)
	}
	return m, err
}

// usual returns the handler of the last use if it takes the cast v and its mailbox is still the one
// that the directory would return. Otherwise, or if there is more to check, it returns nil.
func (a Address) usual(v any) *handler {
	if a.last == nil || a.sameGeneration {
		return nil
	}
	h := a.last.handler.Load()
	if h == nil || h.isCall || h.of != reflect.TypeOf(v) || h.box.standing.Load() != published {
		return nil
	}
	return h
}

// accept is m.accept, with the handler that the last use found if that fits.
func (a Address) accept(m *Mailbox, v any, isCall bool) (*handler, any, error) {
	if a.last == nil {
		return m.accept(v, isCall)
	}
	if h := a.last.handler.Load(); h != nil && h.box == m && h.of == reflect.TypeOf(v) && h.isCall == isCall {
		return h, v, nil
	}

	h, value, err := m.accept(v, isCall)
	if err == nil {
		a.last.handler.Store(h)
	}
	return h, value, err
}

// With returns the same address with another patience.
func (a Address) With(p Patience) Address { a.patience = p; return a }

// SameGeneration returns an address for a caller and a callee that are restarted as one group, in
// which the callee starts first. The callee is then older than the caller. If it is younger, it
// belongs to the next group, and the caller has been replaced and still runs; its calls return
// supervisor.ErrFenced (I5 in docs/architecture.md).
func (a Address) SameGeneration() Address { a.sameGeneration = true; return a }

// Up returns a *DownError if no incarnation of the engine lives, whatever a's patience is. It is
// for a caller that would do much in vain before its call.
func (a Address) Up() error {
	_, err := a.resolve()
	return err
}

// Name returns the engine's name.
func (a Address) Name() string { return a.name }

// each resolves a and runs use on the mailbox. If the incarnation there is down or ends, each waits
// for the next one and runs use again, as far as a's patience allows.
func (a Address) each(ctx context.Context, use func(*Mailbox) error) error {
	m, err := a.resolve()
	for {
		if ctx.Err() != nil {
			return context.Cause(ctx) // a caller that was told to stop, or was replaced, sends nothing more
		}

		if err == nil && a.sameGeneration {
			if own := supervisor.Incarnation(ctx); own != 0 && m.incarnation > own {
				return fmt.Errorf("%w: %s of incarnation %d is younger than its caller, %d", supervisor.ErrFenced,
					a.name, m.incarnation, own)
			}
		}

		down, _ := err.(*DownError)
		if err == nil {
			err = use(m)
			down = m.ended(err)
		}
		if down == nil || a.patience == FailFast || down.Delivered && a.patience != Resend {
			return err
		}
		if m, err = a.await(ctx, down.Incarnation); err != nil {
			return err
		}
	}
}

// await waits for an incarnation above after.
func (a Address) await(ctx context.Context, after uint64) (*Mailbox, error) {
	w, err := waitForStart(ctx, a.dir, a.name)
	if err != nil {
		return nil, err
	}
	defer w.over()
	return a.dir.Await(ctx, a.name, after)
}
