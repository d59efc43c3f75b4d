package supervisor

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// scope is one run of a supervisor of any kind: its place in the tree, the base of its children's
// contexts, and its end.
type scope struct {
	name  string
	own   *incarnation // that it runs as: a child's, or if made is set one of its own
	made  bool
	outer *incarnation // of an inner supervisor: the child that runs it
	base  context.Context
	above []string // the profiler labels that children have besides their own, by name
	wake  func()   // makes the run look whether it is to stop
	hub   *hub
	kids  roster
	subs  []*subscription

	release  func() bool // unlinks own from Serve's context and from the outer child's
	halt     chan struct{}
	haltOnce sync.Once
	halted   atomic.Bool // before halt is closed
	done     chan struct{}
	err      error // set before done is closed
}

// newScope finds the place in the tree of a supervisor that is served with ctx.
func newScope(ctx context.Context, name string, self any, kids roster, observers []Observer) (*scope, error) {
	s := &scope{name: name, kids: kids, halt: make(chan struct{}), done: make(chan struct{})}
	enclosing := incarnationOf(ctx)
	switch {
	case enclosing != nil && enclosing.serves(self):
		s.own, s.hub = enclosing, enclosing.hub

	case enclosing != nil:
		// A service runs this supervisor itself: it is inside the child, under its name.
		if s.name == "" {
			s.name = "supervisor"
		}

		s.outer, s.hub = enclosing, enclosing.hub
		s.make(ctx, enclosing.path+"/"+s.name)

		if err := enclosing.attachInner(s.name, s.own); err != nil {
			s.own.cancel(nil)
			s.release()
			return nil, err
		}

	default:
		s.hub = newHub(name)
		s.make(ctx, "")
		s.hub.id = s.own.id
	}

	s.base, s.above = context.WithoutCancel(s.own.ctx()), labelsOf(s.own.labels)
	s.subs = s.hub.subscribeSpec(observers, s.own.path)

	return s, nil
}

// serves reports whether self is the child's service.
func (inc *incarnation) serves(self any) bool {
	inc.mu.Lock()
	defer inc.mu.Unlock()
	s, ok := inc.service.(supervisory)
	return ok && s.self() == self
}

// make makes an incarnation for the scope itself. The incarnation ends when ctx does.
func (s *scope) make(ctx context.Context, path string) {
	s.made = true
	s.own = &incarnation{name: s.name, path: path, hub: s.hub, parent: s.outer}
	base := context.WithoutCancel(ctx)
	above := labelsOf(base)
	s.own.newContext(base, &above, time.Now())
	s.own.setLabels()

	end := func(ctx context.Context) func() bool {
		return context.AfterFunc(ctx, func() { s.own.terminate(context.Cause(ctx)) })
	}
	if s.release = end(ctx); s.outer != nil {
		of, with := s.release, end(s.outer.life) // ctx may outlive the child
		s.release = func() bool { return of() && with() }
	}
}

// pathOf returns the full path of a child.
func (s *scope) pathOf(id string) string {
	if s.own.path == "" {
		return id
	}
	return s.own.path + "/" + id
}

// newChild makes an incarnation of a child, still without a context.
func (s *scope) newChild(id string, c *Child) *incarnation {
	inc := new(incarnation)
	s.specify(inc, id, s.pathOf(id), c)
	return inc
}

// specify sets what an incarnation of a child is.
func (s *scope) specify(inc *incarnation, id, path string, c *Child) {
	inc.name, inc.path, inc.hub, inc.owner, inc.parent = id, path, s.hub, s.kids, s.own
	inc.declared, inc.policy, inc.ack = c.Kind, c.Orphan, c.Ack
	inc.shutdown, inc.startTimeout = c.Shutdown, c.StartTimeout
}

func (s *scope) emit(event func(Header) Event) { s.own.emit(event) }

// requestHalt asks the run to stop, as the end of its context does.
func (s *scope) requestHalt() {
	s.haltOnce.Do(func() {
		s.halted.Store(true)
		close(s.halt)
	})
	s.wake()
}

// stopping reports whether the run was asked to stop.
func (s *scope) stopping() bool { return s.halted.Load() || s.own.life.Err() != nil }

// stopError returns the error of Serve after an orderly stop: the reason of the parent that asked
// for it (OTP rule 63), or nil for Stop.
func (s *scope) stopError() error {
	cause := context.Cause(s.own.life)
	if s.own.life.Err() == nil {
		return nil
	}
	if cause == context.Canceled || cause == context.DeadlineExceeded {
		return cause
	}
	return fmt.Errorf("%w: %w", context.Canceled, cause)
}

// finish ends the run with err, but does not close done. If the scope made its own incarnation,
// finish concludes it, and the reason that ended the incarnation (Kill, a descendant) may replace
// err.
func (s *scope) finish(err error) {
	s.own.attach(nil)
	if s.made {
		s.own.leave(&ending{err: err}, true)
		<-s.own.doneChan()
		s.release()
		if s.outer != nil {
			s.outer.detachInner(s.name)
		}
		if err != ErrIgnore { // Build's own; an exit that Is ErrIgnore is an exit
			err = s.own.exit().Err
		}
	}

	s.err = err
	s.emit(func(h Header) Event { return SupervisorStopped{Header: h, Err: err} })
	if s.made && s.outer == nil {
		s.hub.flushReports()
	}

	for _, sub := range s.subs {
		if s.outer != nil || !s.made {
			s.hub.release(sub)
		}
	}
}

// ended is the last step of a run.
func (s *scope) ended() {
	close(s.done)
	if s.outer != nil {
		s.outer.leave(&ending{}, false)
	}
	s.hub.changes.fire()
	if s.made && s.outer == nil {
		s.hub.bounds.rest()
	}
}

// withOrphan returns the error of a run that left an orphan: err, and the orphan if err does not
// name it yet.
func withOrphan(err error, orphan *GiveUpError) error {
	switch {
	case orphan == nil || safeIs(err, ErrOrphan):
		return err
	case err == nil:
		return orphan
	default:
		return fmt.Errorf("%w; %w", err, orphan)
	}
}

// served returns the error of Serve. Before that it gives the observers of a root a moment to see
// the end.
func (s *scope) served() error {
	if s.made && s.outer == nil {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		_ = s.hub.flush(ctx, "") // a slower observer gets the rest later
	}

	if s.made && s.err == ErrIgnore {
		return nil
	}
	return s.err
}

// resolve walks a path of IDs down from this run to an incarnation.
func (s *scope) resolve(path string) (*incarnation, error) {
	cur := s.own
	for path != "" {
		id, rest, _ := strings.Cut(path, "/")
		next, err := cur.below(id)
		if err != nil {
			return nil, err
		}
		cur, path = next, rest
	}

	return cur, nil
}

func (inc *incarnation) below(id string) (*incarnation, error) {
	n, inner := inc.nodes()
	if in, ok := inner[id]; ok {
		return in, nil
	}

	switch {
	case n == nil && (inc.owner == nil || inc.kindOf() != Worker):
		return nil, fmt.Errorf("supervisor %s %w", inc.subject(), ErrNotRunning) // its run is over
	case n == nil:
		return nil, fmt.Errorf("%s has no child %q: %w", inc.subject(), id, ErrNotFound)
	}

	return n.find(id)
}

// complete adds to a child's node what the child is as a supervisor and, if deep is set, what is
// below it.
func (inc *incarnation) complete(t Tree, deep bool) Tree {
	n, inner := inc.nodes()
	switch {
	case n != nil:
		sub := n.tree(deep)
		t.Strategy, t.Intensity, t.AutoShutdown, t.InWindow = sub.Strategy, sub.Intensity, sub.
			AutoShutdown, sub.InWindow
		t.Children, t.Instances, t.InstancesRunning, t.Busy = sub.Children, sub.Instances, sub.InstancesRunning, sub.
			Busy || sub.State != Running
	case inc.kindOf() != Worker:
		t.Busy = true // its run is over, and its exit is on the way
	}

	if !deep {
		return t
	}

	for name, in := range inner {
		if m, _ := in.nodes(); m != nil {
			sub := m.tree(true)
			sub.ID = name
			t.Children = append(t.Children, sub)
		}
	}

	return t
}

// Kill ends the incarnation at path abnormally, whatever it returns. Its context is cancelled, and
// its exit wraps ErrKilled and reason (nil is allowed). A supervisor is stopped in order, with that
// reason. The path is relative to this supervisor, with IDs separated by slashes; "" is the
// supervisor itself. Kill never waits. It returns ErrNotFound, or ErrNotRunning if there is no
// incarnation to kill.
func (s *scope) Kill(path string, reason error) error {
	inc, err := s.resolve(path)
	if err != nil {
		return err
	}
	return inc.kill(reason)
}

// Inject offers a fault to the child at path and waits until the child takes it from Faults. The
// wait is bounded by ctx or, without a deadline, by InjectTimeout. After that Inject returns
// ErrNotInjectable.
func (s *scope) Inject(ctx context.Context, path string, f Fault) error {
	inc, err := s.resolve(path)
	if err != nil {
		return err
	}
	return inc.inject(ctx, f)
}

// Orphans lists the incarnations of this subtree that have not ended in time and still run, with
// their present stacks. It includes those of supervisors that are gone, and also works when the run
// is over.
func (s *scope) Orphans() []Orphan {
	incs := s.hub.orphansWithin(s.own.path)
	if len(incs) == 0 {
		return nil
	}

	ids, behind := make([]uint64, len(incs)), false
	for i, inc := range incs {
		ids[i] = inc.id
		behind = behind || inc.behind.Load()
	}

	if behind {
		services := sutureServices(ids...)
		incs = slices.DeleteFunc(incs, func(inc *incarnation) bool {
			return inc.behind.Load() && inc.endBehind(services)
		})
	}

	found := goroutinesOf(ids...)
	out := make([]Orphan, len(incs))
	for i, inc := range incs {
		out[i] = inc.describe(found)
	}

	return out
}

// Goroutines returns the number and the stacks of the goroutines of the whole tree that this run is
// in, including those that children started with a plain go statement. When the root's run is over
// there should be none: a goroutine that is left has leaked, or is about to return. Goroutines
// reads the goroutine profile, so it is for tests and diagnosis, not for a hot path.
func (s *scope) Goroutines() (n int, stacks string) {
	found := labelled(labelRoot, nil, s.hub.id)[s.hub.id]
	return found.Goroutines, found.Stack
}

// Events returns the newest events of this subtree, oldest first. A root remembers HistorySize of
// them.
func (s *scope) Events() []Event { return s.hub.past(s.own.path) }

// Subscribe returns the remembered events of this subtree and sends all later ones to o. No event
// between the two is lost or repeated. cancel ends the subscription.
func (s *scope) Subscribe(o Observer) (past []Event, cancel func()) {
	sub, past := s.hub.subscribe(o, s.own.path)
	return past, func() { s.hub.detach(sub) }
}

// Flush waits until the observers of this subtree have seen all events so far. Do not call it from
// an observer.
func (s *scope) Flush(ctx context.Context) error { return s.hub.flush(ctx, s.own.path) }

// Changed returns a channel that is closed at the next change of the tree that this run is in: when
// Tree, WhichChildren, CountChildren or Orphans may have a new answer. To wait for a state, call
// Changed first, then look, and if the state is not there, wait for the channel and begin again.
// The passing of time, which lets attempts leave the window of InWindow, is no change.
func (s *scope) Changed() <-chan struct{} { return s.hub.changes.next() }

// Done is closed when the run has ended.
func (s *scope) Done() <-chan struct{} { return s.done }

// Err returns the error that Serve returned. It is nil before the end, and after a clean Stop.
func (s *scope) Err() error {
	select {
	case <-s.done:
		return s.err
	default:
		return nil
	}
}

// Wait waits for the end of the run and returns Err.
func (s *scope) Wait() error {
	<-s.done
	return s.err
}

// Stop ends the run in order and waits for its end. If ctx ends first, Stop returns the cause, and
// the stop continues. Otherwise it returns nil, unless the run ended with more than its stop, for
// instance with an orphan; then it returns that error. The end of a run waits for its children, so
// a caller below it gets ErrWouldDeadlock.
func (s *scope) Stop(ctx context.Context) error {
	if s.deadlocks(ctx) {
		return ErrWouldDeadlock
	}

	s.requestHalt()

	select {
	case <-s.done:
		return s.err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// attach sets the supervisor that the child is, nil when its run is over.
func (inc *incarnation) attach(n node) {
	inc.mu.Lock()
	defer inc.mu.Unlock()
	inc.rareLocked().node = n
	inc.hub.changes.fire()
	inc.hub.touch(inc.path, true)
	if inc.owner == nil && inc.parent != nil { // a supervisor inside of a child is shown with the child
		inc.hub.touch(inc.parent.path, true)
	}
}

// attachInner adds a supervisor that the child runs itself. It counts as one of the child's
// goroutines, so that the child has not ended before it has.
func (inc *incarnation) attachInner(name string, own *incarnation) error {
	inc.mu.Lock()
	defer inc.mu.Unlock()

	if inc.live == 0 {
		return fmt.Errorf("%s: %w", inc.subject(), ErrNotRunning)
	}
	r := inc.rareLocked()
	if _, taken := r.inner[name]; taken {
		return fmt.Errorf("%s already runs a supervisor named %q: %w", inc.subject(), name, ErrAlreadyStarted)
	}
	if r.inner == nil {
		r.inner = map[string]*incarnation{}
	}

	r.inner[name] = own
	inc.live++

	return nil
}

func (inc *incarnation) detachInner(name string) {
	inc.mu.Lock()
	defer inc.mu.Unlock()
	delete(inc.rareLocked().inner, name)
	inc.hub.changes.fire()
	inc.hub.touch(inc.path, true)
}

func (inc *incarnation) nodes() (node, map[string]*incarnation) {
	inc.mu.Lock()
	defer inc.mu.Unlock()
	if inc.rare == nil {
		return nil, nil
	}
	return inc.rare.node, maps.Clone(inc.rare.inner)
}
