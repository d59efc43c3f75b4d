package engines

import (
	"context"
	"fmt"

	"github.com/coppice-go/coppice/supervisor"
)

// Sender identifies the sender of a message: the path and the incarnation of the child that sent
// it. It is zero outside of a supervision tree.
type Sender struct {
	Path        string
	Incarnation uint64
}

// SenderOf returns the sender of messages that are sent with ctx: the child that ctx belongs to.
func SenderOf(ctx context.Context) Sender {
	return Sender{supervisor.Path(ctx), supervisor.Incarnation(ctx)}
}

// Admission maps the path of each sender to its newest incarnation. With it an engine refuses older
// ones: a replaced engine that still runs must not act on what its successor has taken over (I5 in
// docs/architecture.md). It belongs to one engine and keeps one number for each path, so it is
// meant for few senders.
type Admission map[string]uint64

// Admit returns a supervisor.ErrFenced if it has admitted a newer incarnation of the same path.
// Otherwise it admits s and remembers its incarnation.
func (a Admission) Admit(s Sender) error {
	if newest := a[s.Path]; s.Incarnation < newest {
		return fmt.Errorf("%w: incarnation %d of %s has been replaced by %d", supervisor.ErrFenced, s.Incarnation,
			s.Path, newest)
	}
	a[s.Path] = s.Incarnation
	return nil
}
