package supervisor

import (
	"context"
	"errors"
	"fmt"
	"runtime/pprof"
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
	// orphan. It reports whether handOn is to be called once all have learned of the exit.
	exited(inc *incarnation) (awaited bool)
}

// node is a supervisor below an incarnation, for paths and snapshots.
type node interface {
	tree(deep bool) Tree
	// place returns the child with that ID, and its incarnation if it has one.
	place(id string) (t Tree, inc *incarnation, ok bool)
	// lists reports whether the node is a Dynamic, which lists some of its children only.
	lists() bool
	// group returns the IDs of the children that a restart of that one concerns.
	group(id string) ([]string, error)
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
//
// A tree has one incarnation for each child that lives, so what few of them need is apart: closing
// and rare.
type incarnation struct {
	id     uint64
	name   string // the child's ID
	path   string
	hub    *hub
	owner  owner        // nil for a root
	parent *incarnation // the owner's, nil for a root
	record *record      // the owner's, nil for a Dynamic's
	began  time.Time

	shutdown     time.Duration // as specified
	startTimeout time.Duration // as specified
	declared     Kind
	policy       OrphanPolicy
	ack          Ack
	isVerbose    bool // its acknowledgment is an event, because the supervisor does not wait for it
	isExplicit   bool // a management call started it

	life   context.Context // ends with the incarnation, and has the values of its supervisor's
	labels context.Context // has the profiler labels and nothing else
	above  *[]string       // the labels besides its own
	cancel context.CancelCauseFunc

	mu        sync.Mutex
	live      int32 // goroutines that have not ended
	isAcked   bool
	stopped   bool // told to end by the supervisor
	timedOut  bool // the start timed out
	mainLeft  bool
	failFirst bool // a descendant failed before the main goroutine had ended
	concluded bool // the exit is fixed
	known     bool // the owner knows of the exit; done is closed
	ended     bool // no goroutine is left
	isOrphan  bool
	brutal    bool
	isBounded bool          // the time for its end runs
	handed    bool          // see row; the run's core.mu guards it
	wake      chan struct{} // gets a token when somebody who waits is to look again; nil if nobody does
	bound     bound         // of the start, and then of the end
	watchers  *watcher      // the oldest, in a ring
	service   Service
	closing   *closing
	rare      *rare

	behind     atomic.Bool // only what was left behind still runs
	inspecting atomic.Bool // Inspect of its service has not returned
}

// closing is what an incarnation has from the moment when it is told to end, or its main goroutine
// has ended. The exit, once it is fixed, outlives the incarnation in histories. incarnation.mu
// guards the rest.
type closing struct {
	exit       Exit
	main       ending
	mainCirc   circumstances // as they were when the main goroutine ended
	failure    *ending       // of the first descendant that failed
	killed     error         // the reason of Kill, nil if it was not called
	orphanedAt time.Time
	bound      *bound // of the end, if it began before the start was acknowledged
}

// rare is what few incarnations have. incarnation.mu guards it, but for the atomic fields.
type rare struct {
	done        chan struct{} // closed when known is set; nil until it is asked for
	faults      chan Fault
	offers      atomic.Int32           // faults that Inject offers
	onOffer     atomic.Pointer[func()] // see OnInject
	info        any
	node        node                    // the service, if it is a supervisor
	inner       map[string]*incarnation // supervisors that the service runs itself, by name
	left        *leftBehind             // by a suture tree that has ended
	toldCtx     context.Context         // ended when stopped is set; nil until a call needs it
	tellWaiters context.CancelFunc
}

// closingLocked returns the closing, and makes it if there is none.
func (inc *incarnation) closingLocked() *closing {
	if inc.closing == nil {
		inc.closing = new(closing)
	}
	return inc.closing
}

// rareLocked returns the rare part, and makes it if there is none.
func (inc *incarnation) rareLocked() *rare {
	if inc.rare == nil {
		inc.rare = new(rare)
	}
	return inc.rare
}

// rarePart is rareLocked without the lock held.
func (inc *incarnation) rarePart() *rare {
	inc.mu.Lock()
	defer inc.mu.Unlock()
	return inc.rareLocked()
}

// exit returns the exit, which is fixed: the incarnation is concluded.
func (inc *incarnation) exit() *Exit { return &inc.closing.exit }

// ctx returns the incarnation's context.
func (inc *incarnation) ctx() context.Context { return (*incContext)(inc) }

// newContext makes the incarnation's context. It has the values of the supervisor's context but a
// cancellation of its own, so that the end of the supervisor's context does not end all children at
// once. They end in order. above has the labels of the supervisor, by name.
func (inc *incarnation) newContext(base context.Context, above *[]string, now time.Time) {
	inc.id = lastIncarnation.Add(1)
	inc.began = now
	inc.live = 1
	inc.above = above
	inc.life, inc.cancel = context.WithCancelCause(base)
}

// doneChan returns a channel that is closed when the exit is known.
func (inc *incarnation) doneChan() <-chan struct{} {
	inc.mu.Lock()
	defer inc.mu.Unlock()
	r := inc.rareLocked()
	if r.done == nil {
		r.done = make(chan struct{})
		if inc.known {
			close(r.done)
		}
	}
	return r.done
}

// settled reports whether the exit is fixed or, unless gone is set, the start was acknowledged.
func (inc *incarnation) settled(gone bool) bool {
	inc.mu.Lock()
	defer inc.mu.Unlock()
	return inc.concluded || inc.isAcked && !gone
}

// look has whoever waits for the incarnation look again. inc.mu is held.
func (inc *incarnation) look() {
	select {
	case inc.wake <- struct{}{}:
	default: // nobody waits, or a token is there already
	}
}

func (inc *incarnation) emit(event func(Header) Event) { inc.hub.emit(inc.path, inc.id, event) }

// launch runs the start and the service in a new goroutine. The incarnation has begun just now.
func (inc *incarnation) launch(start StartFunc) {
	limit := inc.startTimeout
	if limit == 0 {
		limit = DefaultStartTimeout
	}

	if limit != Infinity {
		inc.hub.bounds.begin(&inc.bound, inc, true, limit, inc.began)
	}

	go inc.runMain(start)
}

// runMain and runOther are the goroutines of an incarnation. Each runs in a new goroutine, whose
// stack is small, so what runs below them has small frames where it can: growing the stack costs as
// much as all the rest.
func (inc *incarnation) runMain(start StartFunc) {
	inc.setLabels()
	pprof.SetGoroutineLabels(inc.labels)
	e := ending{goexit: true}
	defer inc.guard(&e, true)

	err := inc.body(start)
	e.err, e.goexit = safeError(err), false
}

func (inc *incarnation) runOther(f func(context.Context) error) {
	pprof.SetGoroutineLabels(inc.labels)
	e := ending{goexit: true}
	defer inc.guard(&e, false)

	err := f(inc.ctx())
	e.err, e.goexit = safeError(err), false
}

// guard is deferred by each goroutine of the incarnation. If its function has neither returned nor
// panicked, it called Goexit.
func (inc *incarnation) guard(e *ending, main bool) {
	if e.goexit {
		if v := recover(); v != nil {
			*e = ending{panic: newPanic(v)}
		}
	}
	// As leave does, on a smaller stack.
	if inc.count(e, main) && !inc.staysBehind() && inc.end() {
		inc.owner.(*Run).handOn(inc)
	}
}

// body is what the main goroutine runs.
func (inc *incarnation) body(start StartFunc) error {
	svc, err := start(inc.ctx())
	if err != nil {
		return err
	}
	if svc == nil {
		return errors.New("start returned neither a service nor an error")
	}
	if inc.hold(svc) {
		inc.afterAck()
	}

	return svc.Serve(inc.ctx())
}

// hold stores the service that the start returned. If that return is the acknowledgment, hold notes
// it, and reports whether it counts.
func (inc *incarnation) hold(svc Service) bool {
	inc.mu.Lock()
	defer inc.mu.Unlock()

	inc.service = svc
	if _, ok := svc.(supervisory); !ok {
		return inc.ack == AckStart && inc.ackLocked()
	}
	if inc.startTimeout == 0 {
		inc.hub.bounds.withdraw(&inc.bound) // the starts of its children have their own bounds
	}

	return false
}

// acknowledge ends the start. Only the first call has an effect.
func (inc *incarnation) acknowledge() {
	inc.mu.Lock()
	counts := inc.ackLocked()
	inc.mu.Unlock()
	if counts {
		inc.afterAck()
	}
}

// ackLocked notes the acknowledgment, and reports whether it counts.
func (inc *incarnation) ackLocked() bool {
	if inc.isAcked || inc.concluded || inc.mainLeft || inc.timedOut {
		return false
	}

	inc.isAcked = true
	if inc.isVerbose {
		// Before the owner learns of the start: no end may precede this in the history.
		inc.hub.noteStarted(inc, inc.isExplicit, nil, time.Now())
	}
	inc.hub.bounds.withdraw(&inc.bound)

	if inc.record == nil { // handOn wakes a Run, if need be
		inc.look()
	}
	return true
}

// afterAck tells of the acknowledgment.
func (inc *incarnation) afterAck() {
	inc.hub.changes.fire()
	inc.hub.touch(inc.path, false)

	if inc.record != nil {
		inc.owner.(*Run).handOn(inc)
	}
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
		inc.hub.touch(inc.path, false)
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
	if c := inc.closingLocked(); c.killed == nil {
		c.killed = reason
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
	c := inc.closingLocked()
	if c.failure != nil || inc.concluded || inc.ended {
		return
	}
	c.failure, inc.failFirst = &e, !inc.mainLeft
	inc.endLocked(e.cause())
}

// endLocked cancels the context and starts the timer of the shutdown time.
func (inc *incarnation) endLocked(cause error) {
	inc.cancel(cause)
	inc.hub.changes.fire()
	inc.hub.touch(inc.path, false)
	if inc.isBounded {
		return
	}

	switch d := inc.shutdownTimeLocked(); {
	case d == Brutal:
		inc.isBounded = true
		time.AfterFunc(0, inc.abandon) // has no effect once the incarnation has ended
	case d != Infinity:
		inc.boundLocked(d)
	}
}

// boundLocked begins the time for the end.
func (inc *incarnation) boundLocked(d time.Duration) {
	inc.isBounded = true
	c := inc.closingLocked()
	if !inc.isAcked {
		c.bound = new(bound) // that of the start may still run
	}
	inc.hub.bounds.begin(inc.endBoundLocked(), inc, false, d, time.Now())
}

// endBoundLocked returns the bound of the end, which runs.
func (inc *incarnation) endBoundLocked() *bound {
	if b := inc.closing.bound; b != nil {
		return b
	}
	return &inc.bound
}

// respecify puts a new specification of the child in force while it runs (OTP rule 81). given
// reports whether the incarnation is an orphan that the old policy waited for and the new one does
// not. The owner then concludes it, after it has released its locks.
func (inc *incarnation) respecify(c Child) (given bool) {
	inc.mu.Lock()
	defer inc.mu.Unlock()
	given = inc.policy == Wait && c.Orphan != Wait && inc.isOrphan && !inc.concluded
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
	go inc.runOther(f)

	return nil
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

	switch x := inc.exit(); {
	case x.Killed || x.Panic != nil || x.Goexit:
		return x.Err

	case inc.timedOut && x.Orphaned:
		return fmt.Errorf("%w, and it %w", ErrStartTimeout, ErrOrphan)

	case inc.timedOut:
		return ErrStartTimeout

	case ignores(inc.closing.main.err) && !x.Orphaned:
		return ErrIgnore

	case x.Class == Normal:
		return ErrEndedBeforeReady

	default:
		return x.Err
	}
}

// kindOf returns the kind of what Start made.
func (inc *incarnation) kindOf() Kind {
	_, kind := inc.made()
	return kind
}

// made reports whether the start was acknowledged, and the kind of what it made.
func (inc *incarnation) made() (acked bool, kind Kind) {
	inc.mu.Lock()
	defer inc.mu.Unlock()
	if s, ok := inc.service.(supervisory); ok {
		kind = s.kind()
	}
	return inc.isAcked, kind
}
