package supervisor

import (
	"context"
	"errors"
	"fmt"
	"runtime/pprof"
	"sync"
	"time"
)

type incarnationKey struct{}

// incContext is the context of an incarnation: cancelled by it alone, with its number and its
// labels beside the values of its supervisor's context.
type incContext incarnation

// Deadline implements context.Context.
func (c *incContext) Deadline() (time.Time, bool) { return c.life.Deadline() }

// Done implements context.Context.
func (c *incContext) Done() <-chan struct{} { return c.life.Done() }

// Err implements context.Context.
func (c *incContext) Err() error { return c.life.Err() }

// Value implements context.Context.
func (c *incContext) Value(key any) any {
	if key == (incarnationKey{}) {
		return (*incarnation)(c)
	}
	if v := c.labels.Value(key); v != nil {
		return v
	}
	return c.life.Value(key)
}

// labelsOf returns the profiler labels of ctx as pairs in the order of their names, without those
// of an incarnation.
func labelsOf(ctx context.Context) []string {
	var pairs []string
	pprof.ForLabels(ctx, func(key, value string) bool {
		if key != labelIncarnation && key != labelChild {
			pairs = append(pairs, key, value)
		}
		return true
	})
	return pairs
}

func incarnationOf(ctx context.Context) *incarnation {
	inc, _ := ctx.Value(incarnationKey{}).(*incarnation)
	return inc
}

// Ready acknowledges the start of the child of ctx, if its Ack is AckReady. For a child with
// another Ack it has no effect, nor does a second call.
func Ready(ctx context.Context) {
	if inc := incarnationOf(ctx); inc != nil && inc.ack == AckReady {
		inc.acknowledge()
	}
}

// SetInfo makes v the value that Ref.Info returns for the child of ctx (OTP rule 14). Call it
// before the start is acknowledged.
func SetInfo(ctx context.Context, v any) {
	if inc := incarnationOf(ctx); inc != nil {
		inc.mu.Lock()
		defer inc.mu.Unlock()
		inc.rareLocked().info = v
	}
}

// Go runs f in a goroutine that belongs to the child of ctx. A panic (with its stack), a Goexit or
// an error of f ends the child and becomes its exit, and the child has not ended before f has. When
// Serve has returned, the context of f is cancelled. From then on it is no failure if f returns the
// error of its context. Go returns ErrNotSupervised if ctx belongs to no supervised child, and
// ErrNotRunning if the child has ended. In both cases it does not run f.
func Go(ctx context.Context, f func(ctx context.Context) error) error {
	inc := incarnationOf(ctx)
	if inc == nil {
		return ErrNotSupervised
	}
	return inc.spawn(f)
}

// Path returns the full path of the child that ctx belongs to. It is "" for a root and outside of
// any tree. IDs are separated by slashes; the root's name is not part of the path.
func Path(ctx context.Context) string {
	if inc := incarnationOf(ctx); inc != nil {
		return inc.path
	}
	return ""
}

// Incarnation returns the number of the incarnation that ctx belongs to. Numbers are unique within
// the process and grow. It is 0 outside of any tree.
func Incarnation(ctx context.Context) uint64 {
	if inc := incarnationOf(ctx); inc != nil {
		return inc.id
	}
	return 0
}

// Fault is a failure that a child cooperates with. The child takes it from Faults and runs Do in
// its own goroutine, so that a panic, a Goexit or a hang of Do is the child's.
type Fault struct {
	// Name names the fault in events and logs.
	Name string
	// Do runs in the goroutine of the service that took the fault.
	Do func(ctx context.Context)
}

// Faults returns the channel on which Inject delivers to the child of ctx. Outside of any tree it
// is nil, which blocks for ever.
func Faults(ctx context.Context) <-chan Fault {
	if inc := incarnationOf(ctx); inc != nil {
		return inc.faultChannel()
	}
	return nil
}

func (inc *incarnation) faultChannel() chan Fault {
	inc.mu.Lock()
	defer inc.mu.Unlock()
	r := inc.rareLocked()
	if r.faults == nil {
		r.faults = make(chan Fault)
	}
	return r.faults
}

// OnInject has notify called each time that Inject begins to offer a fault to the child of ctx. The
// result reports whether a fault is on offer, so that the child needs to receive from Faults only
// then. notify must not wait. A child has one notify; outside of any tree OnInject has no effect.
func OnInject(ctx context.Context, notify func()) (offered func() bool) {
	inc := incarnationOf(ctx)
	if inc == nil {
		return func() bool { return false }
	}
	r := inc.rarePart()
	r.onOffer.Store(&notify)
	return func() bool { return r.offers.Load() > 0 }
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

	r := inc.rarePart()
	r.offers.Add(1)
	defer r.offers.Add(-1)
	if notify := r.onOffer.Load(); notify != nil {
		(*notify)()
	}

	select {
	case inc.faultChannel() <- f:
		inc.emit(func(h Header) Event { return FaultInjected{Header: h, Fault: f.Name} })
		return nil
	case <-inc.life.Done():
		return fmt.Errorf("%s: %w: it is ending", inc.subject(), ErrNotInjectable)
	case <-ctx.Done():
		return fmt.Errorf("%s: %w: %w", inc.subject(), ErrNotInjectable, context.Cause(ctx))
	}
}

// Ref names one incarnation of a child, as a pid does. It does not follow restarts. The zero Ref
// names none.
type Ref struct{ inc *incarnation }

// Self returns the incarnation that ctx belongs to, as OTP's self() does. It is the zero Ref
// outside of any tree.
func Self(ctx context.Context) Ref { return Ref{incarnationOf(ctx)} }

// ID returns the child's ID.
func (r Ref) ID() string {
	if r.inc == nil {
		return ""
	}
	return r.inc.name
}

// Path returns the child's full path.
func (r Ref) Path() string {
	if r.inc == nil {
		return ""
	}
	return r.inc.path
}

// Incarnation returns the number that Incarnation(ctx) returns within the child; 0 for the zero
// Ref.
func (r Ref) Incarnation() uint64 {
	if r.inc == nil {
		return 0
	}
	return r.inc.id
}

// Info returns the value that the start set with SetInfo, nil if none.
func (r Ref) Info() any {
	if r.inc == nil {
		return nil
	}
	r.inc.mu.Lock()
	defer r.inc.mu.Unlock()
	if r.inc.rare == nil {
		return nil
	}
	return r.inc.rare.info
}

// Alive reports whether the incarnation has not ended and is no orphan.
func (r Ref) Alive() bool {
	if r.inc == nil {
		return false
	}
	r.inc.mu.Lock()
	defer r.inc.mu.Unlock()
	return !r.inc.concluded
}

// Monitor returns a channel that gets the exit of the incarnation, once, even if it ended before
// the call. An orphan's exit is sent when it is declared an orphan. For the zero Ref it is an
// abnormal exit with ErrNotFound, OTP's noproc.
func Monitor(ref Ref) <-chan Exit {
	c := make(chan Exit, 1)
	if ref.inc == nil {
		c <- Exit{Class: Abnormal, Err: ErrNotFound}
		return c
	}
	ref.inc.watch(&watcher{send: c})
	return c
}

// Link ties the child of ctx to the incarnation that ref names. When one of the two ends
// abnormally, the other fails with ErrLinked and the exit of the first.
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

// ErrLinked is in the exit of a child that ended because a child linked to it ended abnormally.
var ErrLinked = errors.New("linked child ended")

// tie links two incarnations. When one of them ends, tie stops watching the other, so that a
// long-lived incarnation does not collect the watches of many short-lived ones.
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

// watcher is one who is told of an exit. Those of one incarnation are a ring, in the order in which
// they came; its mu guards it.
type watcher struct {
	prev, next *watcher
	call       func(Exit)
	send       chan<- Exit // if call is nil; has room
}

// tell tells w, the oldest of a ring, and those after it. The ring belongs to the caller.
func (w *watcher) tell(exit *Exit) {
	for x := w; x != nil; {
		if x.call == nil {
			x.send <- *exit
		} else {
			x.call(*exit)
		}
		if x = x.next; x == w {
			return
		}
	}
}

// watch tells w of the exit, at once if there is one.
func (inc *incarnation) watch(w *watcher) {
	if !inc.addWatcher(w) {
		w.tell(inc.exit())
	}
}

// addWatcher adds w to the ring. It returns false if the exit is known.
func (inc *incarnation) addWatcher(w *watcher) bool {
	inc.mu.Lock()
	defer inc.mu.Unlock()

	w.prev, w.next = w, w
	if inc.known {
		return false
	}

	if first := inc.watchers; first == nil {
		inc.watchers = w
	} else {
		w.prev, w.next = first.prev, first
		first.prev.next, first.prev = w, w
	}
	return true
}

// unwatch takes w off the ring, unless it is being told.
func (inc *incarnation) unwatch(w *watcher) {
	inc.mu.Lock()
	defer inc.mu.Unlock()

	if inc.known || w.next == nil {
		return
	}
	if inc.watchers == w {
		inc.watchers = w.next
	}
	if w.next == w {
		inc.watchers = nil
	}
	w.prev.next, w.next.prev = w.next, w.prev
	w.prev, w.next = nil, nil
}

// onExit calls f with the exit, at once if there is one. cancel withdraws f.
func (inc *incarnation) onExit(f func(Exit)) (cancel func()) {
	w := &watcher{call: f}
	inc.watch(w)
	return func() { inc.unwatch(w) }
}
