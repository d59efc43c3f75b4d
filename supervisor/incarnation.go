package supervisor

import (
	"context"
	"errors"
	"fmt"
	"runtime/pprof"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

// lastIncarnation is the last number that an incarnation got. Numbers are unique for the life of
// the process.
var lastIncarnation atomic.Uint64

// owner is the supervisor of an incarnation.
type owner interface {
	// exited is called once, without locks held, when the incarnation has ended or was declared an
	// orphan.
	exited(inc *incarnation)
}

// node is a supervisor below an incarnation, for paths and snapshots.
type node interface {
	tree() Tree
	// find returns the current incarnation of a child.
	find(id string) (*incarnation, error)
}

// supervisory is implemented by *Supervisor and *Dynamic, and by types that embed them.
type supervisory interface {
	kind() Kind
	self() any
}

// incarnation is one life of a child: its context, its goroutines and its end. Its goroutines are
// counted, and the last one to end concludes it, so no goroutine has to wait for the others. A root
// has an incarnation too, for the goroutines that its own run starts.
type incarnation struct {
	id     uint64
	name   string // the child's ID
	path   string
	hub    *hub
	owner  owner        // nil for a root
	parent *incarnation // the owner's, nil for a root
	record *record      // the owner's, nil for a Dynamic's
	began  time.Time

	declared     Kind
	policy       OrphanPolicy
	ack          Ack
	shutdown     time.Duration // as specified
	startTimeout time.Duration // as specified
	// the event to emit at the acknowledgment, if the supervisor does not wait for it and emit one
	onAck func(Header) Event

	ctx    context.Context
	cancel context.CancelCauseFunc
	acked  chan struct{} // closed by the acknowledgment of the start
	done   chan struct{} // closed when concluded

	mu         sync.Mutex
	isAcked    bool
	stopped    bool  // told to end by the supervisor
	killed     error // the reason of Kill, nil if it was not called
	timedOut   bool  // the start timed out
	live       int   // goroutines that have not ended
	main       ending
	mainLeft   bool
	mainCirc   circumstances // as they were when the main goroutine ended
	failure    *ending       // of the first descendant that failed
	failFirst  bool          // before the main goroutine had ended
	concluded  bool          // exit is set
	known      bool          // the owner knows of the exit; done is closed
	ended      bool          // no goroutine is left
	exit       Exit
	orphanedAt time.Time
	brutal     bool
	startWatch *time.Timer
	endWatch   *time.Timer
	watchers   []*func(Exit)
	faults     chan Fault
	info       any
	service    Service
	node       node                    // the service, if it is a supervisor
	inner      map[string]*incarnation // supervisors that the service runs itself, by name

	left        *leftBehind     // by a suture tree that has ended
	behind      atomic.Bool     // only what was left behind still runs
	toldCtx     context.Context // ended when stopped is set; nil until a call needs it
	tellWaiters context.CancelFunc
}

// newContext makes the incarnation's context. It has the values of the supervisor's context but a
// cancellation of its own, so that the end of the supervisor's context does not end all children at
// once. They end in order.
func (inc *incarnation) newContext(base context.Context) {
	inc.id = lastIncarnation.Add(1)
	inc.began = time.Now()
	ctx, cancel := context.WithCancelCause(base)
	inc.cancel = cancel
	ctx = context.WithValue(ctx, incarnationKey{}, inc)
	id := strconv.FormatUint(inc.id, 10)
	if inc.owner == nil && inc.parent == nil {
		ctx = pprof.WithLabels(ctx, pprof.Labels(labelRoot, id))
	}

	inc.ctx = pprof.WithLabels(ctx, pprof.Labels(labelIncarnation, id, labelChild, inc.path))
	inc.acked = make(chan struct{})
	inc.done = make(chan struct{})
	inc.live = 1
}

func (inc *incarnation) emit(event func(Header) Event) { inc.hub.emit(inc.path, inc.id, event) }

// launch runs the start and the service in a new goroutine.
func (inc *incarnation) launch(start StartFunc) {
	limit := inc.startTimeout
	if limit == 0 {
		limit = DefaultStartTimeout
	}

	if limit != Infinity {
		inc.mu.Lock()
		inc.startWatch = time.AfterFunc(limit, inc.startExpired)
		inc.mu.Unlock()
	}

	go func() {
		pprof.SetGoroutineLabels(inc.ctx)
		inc.guard(true, func() error { return inc.serve(start) })
	}()
}

// guard runs f as one of the incarnation's goroutines. If f neither returns nor panics, it called
// Goexit.
func (inc *incarnation) guard(main bool, f func() error) {
	e := ending{goexit: true}
	defer func() {
		if e.goexit {
			if v := recover(); v != nil {
				e = ending{panic: newPanic(v)}
			}
		}
		inc.leave(e, main)
	}()

	err := f()
	e = ending{err: safeError(err)}
}

// serve is the body of the main goroutine.
func (inc *incarnation) serve(start StartFunc) error {
	svc, err := start(inc.ctx)
	if err != nil {
		return err
	}
	if svc == nil {
		return errors.New("start returned neither a service nor an error")
	}
	if inc.hold(svc) {
		inc.acknowledge()
	}

	return svc.Serve(inc.ctx)
}

// hold stores the service that the start returned, and reports whether that return was the
// acknowledgment.
func (inc *incarnation) hold(svc Service) bool {
	inc.mu.Lock()
	defer inc.mu.Unlock()

	inc.service = svc
	if _, ok := svc.(supervisory); !ok {
		return inc.ack == AckStart
	}
	if inc.startTimeout == 0 && inc.startWatch != nil {
		inc.startWatch.Stop() // the starts of its children have their own bounds
	}

	return false
}

// acknowledge ends the start. Only the first call has an effect.
func (inc *incarnation) acknowledge() {
	inc.mu.Lock()
	defer inc.mu.Unlock()

	if inc.isAcked || inc.concluded || inc.mainLeft || inc.timedOut {
		return
	}

	inc.isAcked = true
	if inc.onAck != nil {
		inc.emit(inc.onAck) // before the owner learns of the start: no end may precede this in the history
	}
	if inc.startWatch != nil {
		inc.startWatch.Stop()
	}

	close(inc.acked)
	inc.hub.changes.fire()
}

func (inc *incarnation) startExpired() {
	inc.mu.Lock()
	defer inc.mu.Unlock()
	if inc.isAcked || inc.concluded {
		return
	}
	inc.timedOut = true
	inc.endLocked(ErrStartTimeout)
}

// terminate tells the incarnation to end, and bounds the time that it may take. The owner waits for
// done.
func (inc *incarnation) terminate(cause error) {
	cause = safeError(cause)
	inc.mu.Lock()
	defer inc.mu.Unlock()
	if inc.concluded || inc.ended {
		return
	}
	inc.stopped = true // before the context ends, which the service may answer at once
	inc.endLocked(cause)
	inc.toldLocked()
}

// stop tells the incarnation to end, as its supervisor does. With the shutdown time Brutal, the
// incarnation is concluded at once.
func (inc *incarnation) stop() {
	inc.terminate(ErrShutdown)
	inc.mu.Lock()
	brutal := inc.shutdown == Brutal
	inc.mu.Unlock()
	if brutal {
		inc.abandon()
	}
}

// tell is terminate without a timer of its own, for an owner that keeps one timer for many
// incarnations. It returns the shutdown time.
func (inc *incarnation) tell(cause error) time.Duration {
	inc.mu.Lock()
	defer inc.mu.Unlock()
	if !inc.concluded && !inc.ended {
		inc.stopped = true
		inc.cancel(cause)
		inc.toldLocked()
		inc.hub.changes.fire()
	}
	return inc.shutdownTimeLocked()
}

// kill ends the incarnation abnormally, whatever it will return.
func (inc *incarnation) kill(reason error) error {
	if reason = safeError(reason); reason == nil {
		reason = ErrKilled
	} else if !safeIs(reason, ErrKilled) {
		reason = fmt.Errorf("%w: %w", ErrKilled, reason)
	}

	inc.mu.Lock()
	defer inc.mu.Unlock()

	if inc.concluded || inc.ended {
		return fmt.Errorf("%s: %w", inc.subject(), ErrNotRunning)
	}
	if inc.killed == nil {
		inc.killed = reason
	}

	inc.emit(func(h Header) Event { return Killed{Header: h, Reason: reason} })
	inc.endLocked(reason)

	return nil
}

func (inc *incarnation) subject() string { return Header{Root: inc.hub.root, Path: inc.path}.Subject() }

// fail ends the incarnation because something that belongs to it has failed.
func (inc *incarnation) fail(err error) {
	inc.mu.Lock()
	defer inc.mu.Unlock()
	inc.failLocked(ending{err: err})
}

func (inc *incarnation) failLocked(e ending) {
	if inc.failure != nil || inc.concluded || inc.ended {
		return
	}
	inc.failure, inc.failFirst = &e, !inc.mainLeft
	inc.endLocked(e.cause())
}

// endLocked cancels the context and starts the timer of the shutdown time.
func (inc *incarnation) endLocked(cause error) {
	inc.cancel(cause)
	inc.hub.changes.fire()
	if inc.endWatch != nil {
		return
	}

	switch d := inc.shutdownTimeLocked(); {
	case d == Brutal:
		inc.endWatch = time.AfterFunc(0, inc.abandon)
	case d != Infinity:
		inc.endWatch = time.AfterFunc(d, inc.expire)
	}
}

// respecify puts a new specification of the child in force while it runs (OTP rule 81). given
// reports whether the incarnation is an orphan that the old policy waited for and the new one does
// not. The owner then concludes it, after it has released its locks.
func (inc *incarnation) respecify(c Child) (given bool) {
	inc.mu.Lock()
	defer inc.mu.Unlock()
	given = inc.policy == Wait && c.Orphan != Wait && !inc.orphanedAt.IsZero() && !inc.concluded
	inc.declared, inc.policy, inc.shutdown = c.Kind, c.Orphan, c.Shutdown
	return given
}

func (inc *incarnation) orphanPolicy() OrphanPolicy {
	inc.mu.Lock()
	defer inc.mu.Unlock()
	return inc.policy
}

// shutdownTimeLocked returns the shutdown time in force. For zero it depends on what Start made.
func (inc *incarnation) shutdownTimeLocked() time.Duration {
	if inc.shutdown != 0 {
		return inc.shutdown
	}
	if _, ok := inc.service.(supervisory); ok || inc.owner == nil || inc.declared != Worker {
		return Infinity
	}
	return DefaultShutdown
}

// spawn runs f in one more goroutine of the incarnation.
func (inc *incarnation) spawn(f func(context.Context) error) error {
	inc.mu.Lock()
	defer inc.mu.Unlock()

	if inc.live == 0 {
		return fmt.Errorf("%s: %w", inc.subject(), ErrNotRunning)
	}

	inc.live++
	go func() {
		pprof.SetGoroutineLabels(inc.ctx)
		inc.guard(false, func() error { return f(inc.ctx) })
	}()

	return nil
}

// leave ends one goroutine. The last one concludes the incarnation.
func (inc *incarnation) leave(e ending, main bool) {
	inc.mu.Lock()
	inc.live--
	last := inc.live == 0

	if main {
		inc.main, inc.mainLeft = e, true
		inc.mainCirc = circumstances{stopped: inc.stopped, cause: context.Cause(inc.ctx)}

		if last {
			inc.cancel(nil)
		} else {
			// Its descendants must end too, within the same bound. For the descendants of a
			// supervisor the bound is a worker's.
			inc.endLocked(ErrShutdown)
			if inc.endWatch == nil && inc.shutdown == 0 {
				inc.endWatch = time.AfterFunc(DefaultShutdown, inc.expire)
			}
		}
	} else if !e.harmless(inc.ctx) {
		inc.failLocked(e)
	}

	inc.mu.Unlock()
	if !last || inc.staysBehind() {
		return
	}

	inc.mu.Lock()
	inc.endLast()
}

// endLast notes that nothing of the incarnation runs any more. inc.mu is held, and endLast unlocks
// it.
func (inc *incarnation) endLast() {
	inc.ended = true
	if inc.endWatch != nil {
		inc.endWatch.Stop()
	}

	orphan, late, brutal := !inc.orphanedAt.IsZero(), inc.orphanedAt, inc.brutal
	exit := inc.verdictLocked(false)
	inc.mu.Unlock()

	if orphan {
		inc.hub.removeOrphan(inc)
		if !brutal {
			inc.emit(func(h Header) Event { return OrphanEnded{Header: h, Exit: exit, After: time.Since(late)} })
		}
	}

	inc.conclude(false)
}

// harmless reports whether the end of a descendant is no failure: it returned nil, or the context's
// error after the context was done.
func (e ending) harmless(ctx context.Context) bool {
	if e.panic != nil || e.goexit {
		return false
	}
	return e.err == nil || (ctx.Err() != nil && isOfContext(e.err, context.Cause(ctx)))
}

// verdictLocked returns the exit as far as it is known.
func (inc *incarnation) verdictLocked(orphaned bool) Exit {
	e, c := inc.main, inc.mainCirc
	switch {
	case !inc.mainLeft && inc.failure == nil:
		// No goroutine has ended by itself: the incarnation was told to end.
		e, c = ending{err: context.Canceled}, circumstances{stopped: inc.stopped, cause: context.Cause(inc.ctx)}
	case inc.failure != nil && (inc.failFirst || classify(e, c).Class != Abnormal):
		e, c.stopped = *inc.failure, inc.stopped && inc.failFirst
	}

	c.killed = inc.killed
	x := classify(e, c)
	x.Duration = time.Since(inc.began)

	if orphaned {
		x.Class, x.Orphaned, x.remove, x.terminate = Abnormal, true, false, false
		x.Err = ErrOrphan
		if inc.killed != nil {
			x.Err = fmt.Errorf("%w, %w", inc.killed, ErrOrphan)
		} else if inc.failure != nil {
			x.Err = fmt.Errorf("%w, after %w", ErrOrphan, inc.failure.cause())
		} else if inc.left != nil {
			x.Err = inc.left.error()
		}
	}

	return x
}

// conclude fixes the exit and tells all that wait for it. Only the first call has an effect.
func (inc *incarnation) conclude(orphaned bool) {
	inc.mu.Lock()
	if inc.concluded || (orphaned && inc.ended) {
		inc.mu.Unlock()
		return
	}

	inc.concluded = true
	inc.exit = inc.verdictLocked(orphaned)
	if inc.startWatch != nil {
		inc.startWatch.Stop()
	}

	exit := inc.exit
	inc.mu.Unlock()

	if inc.owner != nil {
		inc.owner.exited(inc) // first, so that its books are in order when others learn of the exit
	}

	inc.mu.Lock()
	inc.known = true
	watchers := inc.watchers
	inc.watchers = nil
	close(inc.done)
	inc.mu.Unlock()
	inc.hub.changes.fire()

	for _, w := range watchers {
		(*w)(exit)
	}
}

// onExit calls f with the exit, at once if there is one. cancel withdraws f.
func (inc *incarnation) onExit(f func(Exit)) (cancel func()) {
	inc.mu.Lock()
	if !inc.known {
		inc.watchers = append(inc.watchers, &f)
		inc.mu.Unlock()
		return func() {
			inc.mu.Lock()
			defer inc.mu.Unlock()
			inc.watchers = slices.DeleteFunc(inc.watchers, func(w *func(Exit)) bool { return w == &f })
		}
	}

	exit := inc.exit
	inc.mu.Unlock()

	f(exit)

	return func() {}
}

// started reports whether the start was acknowledged. After the conclusion the result is final.
func (inc *incarnation) started() bool {
	inc.mu.Lock()
	defer inc.mu.Unlock()
	return inc.isAcked
}

// startFailure returns the reason why a concluded incarnation did not start, or ErrIgnore if it had
// nothing to run.
func (inc *incarnation) startFailure() error {
	inc.mu.Lock()
	defer inc.mu.Unlock()

	switch x := inc.exit; {
	case x.Killed || x.Panic != nil || x.Goexit:
		return x.Err

	case inc.timedOut && x.Orphaned:
		return fmt.Errorf("%w, and it %w", ErrStartTimeout, ErrOrphan)

	case inc.timedOut:
		return ErrStartTimeout

	case ignores(inc.main.err) && !x.Orphaned:
		return ErrIgnore

	case x.Class == Normal:
		return ErrEndedBeforeReady

	default:
		return x.Err
	}
}

// kindOf returns the kind of what Start made.
func (inc *incarnation) kindOf() Kind {
	inc.mu.Lock()
	defer inc.mu.Unlock()
	if s, ok := inc.service.(supervisory); ok {
		return s.kind()
	}
	return Worker
}

// attach sets the supervisor that the child is, nil when its run is over.
func (inc *incarnation) attach(n node) {
	inc.mu.Lock()
	defer inc.mu.Unlock()
	inc.node = n
	inc.hub.changes.fire()
}

// attachInner adds a supervisor that the child runs itself. It counts as one of the child's
// goroutines, so that the child has not ended before it has.
func (inc *incarnation) attachInner(name string, own *incarnation) error {
	inc.mu.Lock()
	defer inc.mu.Unlock()

	if inc.live == 0 {
		return fmt.Errorf("%s: %w", inc.subject(), ErrNotRunning)
	}
	if _, taken := inc.inner[name]; taken {
		return fmt.Errorf("%s already runs a supervisor named %q: %w", inc.subject(), name, ErrAlreadyStarted)
	}
	if inc.inner == nil {
		inc.inner = map[string]*incarnation{}
	}

	inc.inner[name] = own
	inc.live++

	return nil
}

func (inc *incarnation) detachInner(name string) {
	inc.mu.Lock()
	defer inc.mu.Unlock()
	delete(inc.inner, name)
	inc.hub.changes.fire()
}

func (inc *incarnation) nodes() (node, map[string]*incarnation) {
	inc.mu.Lock()
	defer inc.mu.Unlock()
	inner := make(map[string]*incarnation, len(inc.inner))
	for k, v := range inc.inner {
		inner[k] = v
	}
	return inc.node, inner
}
