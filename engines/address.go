package engines

import (
	"context"
	"fmt"

	"github.com/coppice-go/coppice/supervisor"
)

// Directory resolves names to the mailboxes of living incarnations. The router's table is one.
type Directory interface {
	// Resolve returns the living incarnation's mailbox, or a *DownError at once.
	Resolve(name string) (*Mailbox, error)

	// Await waits for an incarnation with a number above after. It returns a *DownError when the
	// directory itself has ended, and the context's cause when ctx ends first.
	Await(ctx context.Context, name string, after uint64) (*Mailbox, error)

	// Register makes m the mailbox of its name; a replaced incarnation's mailbox cannot be
	// registered again.
	Register(m *Mailbox) error
}

// Patience says what a use of an Address does while the engine is down.
type Patience uint8

const (
	// FailFast returns ErrDown at once.
	FailFast Patience = iota

	// AwaitNext waits for the next incarnation as long as the message was not taken; a message that
	// was taken by an incarnation that ended returns ErrDown.
	AwaitNext

	// Resend waits for the next incarnation and sends again, even when the message was taken. Use
	// it only for messages that may be handled twice.
	Resend
)

// Address names an engine. It is resolved at each use, so that no caller holds a stale pointer
// across a restart. It is a value, safe to copy and for concurrent use.
type Address struct {
	name           string
	dir            Directory
	patience       Patience
	sameGeneration bool
}

// NewAddress returns the fail-fast address of name in dir.
func NewAddress(dir Directory, name string) Address { return Address{name: name, dir: dir} }

// With returns the same address with another patience.
func (a Address) With(p Patience) Address { a.patience = p; return a }

// SameGeneration returns the same address for a caller that may use only engines that were there
// when it started: siblings before it in a group that is restarted as one. A callee that is younger
// than the caller belongs to the next group, so the caller has been replaced, and its calls return
// supervisor.ErrFenced (I5).
func (a Address) SameGeneration() Address { a.sameGeneration = true; return a }

// Name returns the engine's name.
func (a Address) Name() string { return a.name }

// each resolves a and runs use on the mailbox. If a's patience says so, it does it again for the
// next incarnation.
func (a Address) each(ctx context.Context, use func(*Mailbox) error) error {
	m, err := a.dir.Resolve(a.name)
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

		if err == nil {
			err = use(m)
		}
		down, ok := err.(*DownError)
		if !ok || a.patience == FailFast || down.Delivered && a.patience != Resend {
			return err
		}
		if m, err = a.dir.Await(ctx, a.name, down.Incarnation); err != nil {
			return err
		}
	}
}
