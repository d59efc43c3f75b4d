package engines

import (
	"context"
	"fmt"

	"github.com/coppice-go/coppice/supervisor"
)

// Sender identifies the sender of a message: the child that the context belongs to, and its
// incarnation. It is zero outside of a supervision tree.
type Sender struct {
	Path        string
	Incarnation uint64
}

// SenderOf returns the sender of messages that are sent with ctx.
func SenderOf(ctx context.Context) Sender {
	return Sender{supervisor.Path(ctx), supervisor.Incarnation(ctx)}
}

// Admission lets the newest incarnation of each sender in and fences older ones: a replaced engine
// that still runs must not act on what its successor has taken over (I5). It belongs to one engine
// and keeps one number for each path, so it is meant for few senders.
type Admission map[string]uint64

// Admit refuses a replaced sender with supervisor.ErrFenced, and notes a newer one.
func (a Admission) Admit(s Sender) error {
	if newest := a[s.Path]; s.Incarnation < newest {
		return fmt.Errorf("%w: incarnation %d of %s has been replaced by %d", supervisor.ErrFenced, s.Incarnation,
			s.Path, newest)
	}
	a[s.Path] = s.Incarnation
	return nil
}
