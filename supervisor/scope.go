package supervisor

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"
)

// scope is one run of a supervisor of any kind: its place in the tree, what its children's contexts
// come from, and its end.
type scope struct {
	name  string
	own   *incarnation // the child that it is; or, for a root and for an inner supervisor, one that it made
	made  bool
	outer *incarnation // of an inner supervisor: the child that runs it
	base  context.Context
	hub   *hub
	kids  roster
	subs  []*subscription

	release  func() bool // of the links from Serve's context, and the outer child's, to own
	halt     chan struct{}
	haltOnce sync.Once
	done     chan struct{}
	err      error // set before done is closed
}

// newScope finds the place of a supervisor that is served with ctx.
func newScope(ctx context.Context, name string, self any, kids roster, observers []Observer) (*scope, error) {
	s := &scope{name: name, kids: kids, halt: make(chan struct{}), done: make(chan struct{})}
	enclosing := incarnationOf(ctx)
	switch {
	case enclosing != nil && enclosing.serves(self):
		s.own, s.hub = enclosing, enclosing.hub

	case enclosing != nil:
		// A service runs this supervisor itself: it is inside of the child, under its name.
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

	s.base = context.WithoutCancel(s.own.ctx)
	s.subs = s.hub.subscribeSpec(observers, s.own.path)

	return s, nil
}

// serves reports whether the child's service is the given supervisor.
func (inc *incarnation) serves(self any) bool {
	inc.mu.Lock()
	defer inc.mu.Unlock()
	s, ok := inc.service.(supervisory)
	return ok && s.self() == self
}

// make gives the scope an incarnation of its own, which ends when ctx does.
func (s *scope) make(ctx context.Context, path string) {
	s.made = true
	s.own = &incarnation{name: s.name, path: path, hub: s.hub, parent: s.outer}
	s.own.newContext(context.WithoutCancel(ctx))

	end := func(ctx context.Context) func() bool {
		return context.AfterFunc(ctx, func() { s.own.terminate(context.Cause(ctx)) })
	}
	if s.release = end(ctx); s.outer != nil {
		of, with := s.release, end(s.outer.ctx) // ctx may outlive the child
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

// newChild makes an incarnation of a child.
func (s *scope) newChild(id string, c *Child) *incarnation {
	inc := &incarnation{name: id, path: s.pathOf(id), hub: s.hub, owner: s.kids, parent: s.own, declared: c.Kind,
		policy: c.Orphan, ack: c.Ack, shutdown: c.Shutdown, startTimeout: c.StartTimeout}
	inc.newContext(s.base)
	return inc
}

func (s *scope) emit(event func(Header) Event) { s.own.emit(event) }

// requestHalt asks the run to stop, as the end of its context does.
func (s *scope) requestHalt() { s.haltOnce.Do(func() { close(s.halt) }) }

// stopping says whether the run was asked to stop.
func (s *scope) stopping() bool {
	select {
	case <-s.halt:
		return true
	case <-s.own.ctx.Done():
		return true
	default:
		return false
	}
}

// stopError is what Serve returns after an orderly stop: the reason of whoever asked (OTP rule 63),
// nil for Stop.
func (s *scope) stopError() error {
	cause := context.Cause(s.own.ctx)
	if s.own.ctx.Err() == nil {
		return nil
	}
	if cause == context.Canceled || cause == context.DeadlineExceeded {
		return cause
	}
	return fmt.Errorf("%w: %w", context.Canceled, cause)
}

// finish ends the run with err, all but closing done. A made incarnation is concluded, which may
// turn err into what ended it (Kill, a descendant).
func (s *scope) finish(err error) {
	s.own.attach(nil)
	if s.made {
		s.own.leave(ending{err: err}, true)
		<-s.own.done
		s.release()
		if s.outer != nil {
			s.outer.detachInner(s.name)
		}
		if err != ErrIgnore { // Build's own; an exit that Is ErrIgnore is an exit
			err = s.own.exit.Err
		}
	}

	s.err = err
	s.emit(func(h Header) Event { return SupervisorStopped{Header: h, Err: err} })

	for _, sub := range s.subs {
		if s.outer != nil || !s.made {
			s.hub.release(sub)
		}
	}
}

// ended is the last thing that a run does.
func (s *scope) ended() {
	close(s.done)
	if s.outer != nil {
		s.outer.leave(ending{}, false)
	}
}

// withOrphan is the end of a run that left an orphan: the error names it too.
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

// served is what Serve returns: observers of a root get a moment to see the end.
func (s *scope) served() error {
	if s.made && s.outer == nil {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		_ = s.hub.flush(ctx, "") // one that is slower than this has the rest of the process's life
	}

	if s.made && s.err == ErrIgnore {
		return nil
	}
	return s.err
}

// deadlocks says whether ctx belongs to a child of this run, or to one below.
func (s *scope) deadlocks(ctx context.Context) bool {
	for inc := incarnationOf(ctx); inc != nil; inc = inc.parent {
		if inc == s.own || (inc.owner != nil && inc.owner == s.kids) {
			return true
		}
	}
	return false
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

// complete completes a child's node with what is below it.
func (inc *incarnation) complete(t Tree) Tree {
	n, inner := inc.nodes()
	switch {
	case n != nil:
		sub := n.tree()
		t.Strategy, t.Intensity, t.AutoShutdown, t.InWindow = sub.Strategy, sub.Intensity, sub.
			AutoShutdown, sub.InWindow
		t.Children, t.Instances, t.InstancesRunning, t.Busy = sub.Children, sub.Instances, sub.InstancesRunning, sub.
			Busy || sub.State != Running
	case inc.kindOf() != Worker:
		t.Busy = true // its run is over, and its exit is on the way
	}

	for name, in := range inner {
		if m, _ := in.nodes(); m != nil {
			sub := m.tree()
			sub.ID = name
			t.Children = append(t.Children, sub)
		}
	}

	return t
}

// Kill ends the incarnation at path abnormally, whatever it returns: its context is cancelled, and
// its exit wraps ErrKilled and reason (nil is allowed). A supervisor is stopped in order, with that
// reason. The path is relative to this supervisor, IDs separated by slashes; "" is the supervisor
// itself. Kill does not wait, neither for the end nor for anything else. The answer is ErrNotFound,
// or ErrNotRunning if there is no incarnation to kill.
func (s *scope) Kill(path string, reason error) error {
	inc, err := s.resolve(path)
	if err != nil {
		return err
	}
	return inc.kill(reason)
}

// Inject offers a fault to the child at path and waits until it takes it from Faults, bounded by
// ctx or, without a deadline, by InjectTimeout: then the answer is ErrNotInjectable.
func (s *scope) Inject(ctx context.Context, path string, f Fault) error {
	inc, err := s.resolve(path)
	if err != nil {
		return err
	}
	return inc.inject(ctx, f)
}

// Orphans lists the incarnations of this subtree that have not ended in time and still run, with
// their stacks as they are now. It also lists those of supervisors that are gone, and still answers
// when the run is over.
func (s *scope) Orphans() []Orphan {
	incs := s.hub.orphansWithin(s.own.path)
	if len(incs) == 0 {
		return nil
	}

	ids := make([]uint64, len(incs))
	for i, inc := range incs {
		ids[i] = inc.id
	}

	found := goroutinesOf(ids...)
	out := make([]Orphan, len(incs))
	for i, inc := range incs {
		out[i] = inc.describe(found)
	}

	return out
}

// Goroutines counts the goroutines of the whole tree that this run is in, those that children
// started with a plain go statement included, and gives their stacks. When the root's run is over
// there should be none: one that is left has been leaked, or is about to return. It reads the
// goroutine profile, so it is for tests and for looking closely, not for a hot path.
func (s *scope) Goroutines() (n int, stacks string) {
	found := labelled(labelRoot, s.hub.id)[s.hub.id]
	return found.Goroutines, found.Stack
}

// Events are the newest events of this subtree, oldest first; a root remembers HistorySize of them.
func (s *scope) Events() []Event { return s.hub.past(s.own.path) }

// Subscribe returns the remembered events of this subtree and sends all later ones to o, none lost
// between and none twice.
func (s *scope) Subscribe(o Observer) (past []Event, cancel func()) {
	sub, past := s.hub.subscribe(o, s.own.path)
	return past, func() { s.hub.detach(sub) }
}

// Flush waits until the observers of this subtree have seen all events so far. Do not call it from
// an observer.
func (s *scope) Flush(ctx context.Context) error { return s.hub.flush(ctx, s.own.path) }

// Done is closed when the run has ended.
func (s *scope) Done() <-chan struct{} { return s.done }

// Err is what Serve returned, nil before the end and after a clean Stop.
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

// Stop ends the run in order and waits for the end, or for ctx, whose error it then returns while
// the stop goes on. The error of the run itself is returned if it is more than having been stopped:
// an orphan that stayed, for instance. A child cannot stop its own supervisor so: ErrWouldDeadlock.
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
