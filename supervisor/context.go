package supervisor

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

type incarnationKey struct{}

func incarnationOf(ctx context.Context) *incarnation {
	inc, _ := ctx.Value(incarnationKey{}).(*incarnation)
	return inc
}

// Ready acknowledges the start of a child with AckReady. It has no effect anywhere else, nor a
// second time.
func Ready(ctx context.Context) {
	if inc := incarnationOf(ctx); inc != nil && inc.ack == AckReady {
		inc.acknowledge()
	}
}

// SetInfo hands v back to whoever started the child, as Ref.Info (OTP rule 14). Call it before the
// start is acknowledged.
func SetInfo(ctx context.Context, v any) {
	if inc := incarnationOf(ctx); inc != nil {
		inc.mu.Lock()
		defer inc.mu.Unlock()
		inc.info = v
	}
}

// Go runs f in a goroutine that belongs to the child of ctx. Its panic (with its stack), Goexit or
// error ends the child and becomes its exit; the child has not ended until f has. When Serve has
// returned f is told by its context. An error that Is the context's, after that is done, is no
// failure. Without a supervised child f is not run, and the answer is ErrNotSupervised; if the
// child has ended, ErrNotRunning.
func Go(ctx context.Context, f func(ctx context.Context) error) error {
	inc := incarnationOf(ctx)
	if inc == nil {
		return ErrNotSupervised
	}
	return inc.spawn(f)
}

// Path is the full path of the child that ctx belongs to, "" for a root and outside of any tree.
// IDs are separated by slashes; the root's name is not part of it.
func Path(ctx context.Context) string {
	if inc := incarnationOf(ctx); inc != nil {
		return inc.path
	}
	return ""
}

// Incarnation is the number of the incarnation that ctx belongs to, unique within the process and
// growing; 0 outside of any tree.
func Incarnation(ctx context.Context) uint64 {
	if inc := incarnationOf(ctx); inc != nil {
		return inc.id
	}
	return 0
}

// Fault is a failure that a child agreed to: it takes it from Faults and runs Do in its own
// goroutine, where a panic, a Goexit or a hang is the child's.
type Fault struct {
	// Name says in events and logs what the fault is.
	Name string
	// Do runs in the goroutine of the service that took the fault.
	Do func(ctx context.Context)
}

// Faults is where Inject delivers to the child of ctx. Nil, which blocks for ever, outside of any
// tree.
func Faults(ctx context.Context) <-chan Fault {
	if inc := incarnationOf(ctx); inc != nil {
		return inc.faultChannel()
	}
	return nil
}

func (inc *incarnation) faultChannel() chan Fault {
	inc.mu.Lock()
	defer inc.mu.Unlock()
	if inc.faults == nil {
		inc.faults = make(chan Fault)
	}
	return inc.faults
}

// InjectTimeout bounds an Inject whose context has no deadline.
const InjectTimeout = time.Second

func (inc *incarnation) inject(ctx context.Context, f Fault) error {
	if f.Do == nil {
		return fmt.Errorf("fault %q has no Do: %w", f.Name, ErrNotInjectable)
	}

	if _, bounded := ctx.Deadline(); !bounded {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, InjectTimeout)
		defer cancel()
	}

	select {
	case inc.faultChannel() <- f:
		inc.emit(func(h Header) Event { return FaultInjected{Header: h, Fault: f.Name} })
		return nil
	case <-inc.ctx.Done():
		return fmt.Errorf("%s: %w: it is ending", inc.subject(), ErrNotInjectable)
	case <-ctx.Done():
		return fmt.Errorf("%s: %w: %w", inc.subject(), ErrNotInjectable, context.Cause(ctx))
	}
}

// Ref names one incarnation of a child, as a pid does. It does not follow restarts. The zero Ref is
// no incarnation.
type Ref struct{ inc *incarnation }

// Self is the incarnation that ctx belongs to, as OTP's self(); the zero Ref outside of any tree.
func Self(ctx context.Context) Ref { return Ref{incarnationOf(ctx)} }

// ID is the child's ID.
func (r Ref) ID() string {
	if r.inc == nil {
		return ""
	}
	return r.inc.name
}

// Path is the child's full path.
func (r Ref) Path() string {
	if r.inc == nil {
		return ""
	}
	return r.inc.path
}

// Incarnation is the number that Incarnation(ctx) gives within the child; 0 for the zero Ref.
func (r Ref) Incarnation() uint64 {
	if r.inc == nil {
		return 0
	}
	return r.inc.id
}

// Info is what the start handed back with SetInfo, nil if nothing.
func (r Ref) Info() any {
	if r.inc == nil {
		return nil
	}
	r.inc.mu.Lock()
	defer r.inc.mu.Unlock()
	return r.inc.info
}

// Alive says whether the incarnation has not ended, and is no orphan.
func (r Ref) Alive() bool {
	if r.inc == nil {
		return false
	}
	r.inc.mu.Lock()
	defer r.inc.mu.Unlock()
	return !r.inc.concluded
}

// Monitor gives the exit of an incarnation, once, also when it ended before the call. For an orphan
// that is when it is declared one. The zero Ref gives an abnormal exit with ErrNotFound, OTP's
// noproc.
func Monitor(ref Ref) <-chan Exit {
	c := make(chan Exit, 1)
	if ref.inc == nil {
		c <- Exit{Class: Abnormal, Err: ErrNotFound}
		return c
	}
	ref.inc.onExit(func(e Exit) { c <- e })
	return c
}

// Link ties the child of ctx and the incarnation together: when one ends abnormally, the other is
// told to end and its exit says why.
func Link(ctx context.Context, ref Ref) error {
	inc := incarnationOf(ctx)
	if inc == nil {
		return ErrNotSupervised
	}
	if ref.inc == nil {
		return ErrNotFound
	}

	tie(inc, ref.inc)
	return nil
}

// ErrLinked is in the exit of a child that ended because one that it was linked to did.
var ErrLinked = errors.New("linked child ended")

// tie links two incarnations. Whoever ends first takes the watch over the other back, so that a
// long life does not gather those of short ones.
func tie(a, b *incarnation) {
	var mu sync.Mutex
	var cancels []func()
	watch := func(from, to *incarnation) {
		cancel := from.onExit(func(e Exit) {
			if e.Class == Abnormal {
				to.fail(fmt.Errorf("%w: %s: %w", ErrLinked, from.subject(), e.Error()))
			}

			mu.Lock()
			took := cancels
			cancels = nil
			mu.Unlock()

			for _, c := range took {
				c()
			}
		})
		mu.Lock()
		cancels = append(cancels, cancel)
		mu.Unlock()
	}
	watch(a, b)
	watch(b, a)
}
