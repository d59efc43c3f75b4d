package supervisor

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"time"
)

// DynamicSpec specifies a dynamic supervisor: any number of children of one kind, started on
// demand. It is OTP's simple_one_for_one (OTP rules 70 to 75). Its fields are those of Child and
// Spec, with their defaults, for every instance.
type DynamicSpec[A any] struct {
	Name string
	// Start makes the service of one incarnation of an instance from the instance's argument; see
	// StartFunc.
	Start                  func(ctx context.Context, arg A) (Service, error)
	Restart                Restart
	Ack                    Ack
	Shutdown, StartTimeout time.Duration
	Backoff                Backoff
	Orphan                 OrphanPolicy
	// Intensity limits the restarts of all instances together.
	Intensity Intensity
	// MaxChildren bounds the number of instances, including those between two restarts. 0 is no
	// bound.
	MaxChildren int
	// Verbose makes the supervisor emit ChildStarting, ChildStarted, ChildStopped and quiet exits
	// too. Otherwise instances come and go without an event, and only what OTP reports is reported
	// (rules 36, 58 and 80).
	Verbose bool
	// Observers get the events; see Spec.Observers.
	Observers []Observer
}

// Dynamic is a supervisor of instances. It is a Service and may be served again, each time without
// instances. Its methods are safe for concurrent use, and return ErrNotRunning while it is not
// served. Starts do not wait for one another. A Dynamic becomes a child of a supervisor when the
// child's StartFunc returns it:
//
//	Start: func(context.Context) (supervisor.Service, error) { return d, nil }
type Dynamic[A any] struct {
	handle
	spec atomic.Pointer[DynamicSpec[A]]
}

// NewDynamic checks the specification and makes a Dynamic of it. The error names the field and the
// expected value.
func NewDynamic[A any](spec DynamicSpec[A]) (*Dynamic[A], error) {
	if err := spec.check(); err != nil {
		return nil, err
	}
	d := &Dynamic[A]{}
	d.name = spec.Name
	d.spec.Store(&spec)
	return d, nil
}

// check checks the specification and fills in the default intensity.
func (s *DynamicSpec[A]) check() error {
	own := Spec{Name: s.Name, Intensity: s.Intensity, Observers: s.Observers}
	if err := checkSpec(&own); err != nil {
		return err
	}
	if s.Start == nil {
		return fmt.Errorf("%w: dynamic supervisor %q: Start is nil", ErrSpec, s.Name)
	}

	if s.MaxChildren < 0 {
		return fmt.Errorf("%w: dynamic supervisor %q: MaxChildren is %d, expected 0 or more", ErrSpec, s.Name,
			s.MaxChildren)
	}

	if err := s.child("any", nil).check(Never); err != nil {
		return err
	}

	s.Intensity = own.Intensity

	return nil
}

func (s *DynamicSpec[A]) child(id string, start StartFunc) Child {
	if start == nil {
		start = func(context.Context) (Service, error) { return nil, ErrIgnore }
	}
	return Child{ID: id, Start: start, Restart: s.Restart, Ack: s.Ack, Shutdown: s.Shutdown,
		StartTimeout: s.StartTimeout, Backoff: s.Backoff, Orphan: s.Orphan}
}

func (d *Dynamic[A]) kind() Kind { return DynamicKind }
func (d *Dynamic[A]) self() any  { return d }

// String returns the name.
func (d *Dynamic[A]) String() string { return d.specification().Name }

// specification returns the specification, an empty one if NewDynamic did not make d.
func (d *Dynamic[A]) specification() *DynamicSpec[A] {
	if spec := d.spec.Load(); spec != nil {
		return spec
	}
	return &DynamicSpec[A]{}
}

// Serve runs the supervisor until ctx is done, it is stopped, or it gives up (a *GiveUpError). Then
// it tells all instances to end at once, with one timer for all (OTP rule 74). After ctx is done,
// its error Is context.Canceled (or DeadlineExceeded) and Is the cause.
func (d *Dynamic[A]) Serve(ctx context.Context) error {
	if err := d.acquire(); err != nil {
		return err
	}

	spec := d.specification()
	if spec.Start == nil {
		d.release()
		return fmt.Errorf("%w: the Dynamic was not made by NewDynamic", ErrSpec)
	}

	r, err := newDynamicRun(ctx, d, spec.Name, spec.child("", nil), *spec)
	if err != nil {
		d.release()
		return err
	}

	d.begin(&r.core)
	r.main(d.release)

	return r.served()
}

func (d *Dynamic[A]) current() (*dynamicRun, error) {
	c, err := d.living()
	if err != nil {
		return nil, err
	}
	return c.kids.(*dynamicRun), nil
}

// StartChild starts an instance and waits for its acknowledgment. The ID must be unique among the
// living instances, and "" generates one. If an instance with that ID runs, StartChild returns an
// *AlreadyStartedError; if that instance is between two attempts to restart it, ErrAlreadyPresent.
// Its other errors are ErrMaxChildren, ErrNotRunning and a *StartError. After an error nothing is
// stored. If the start returns ErrIgnore, StartChild returns the zero Ref (OTP rule 71). If ctx
// ends first, the instance is told to end.
//
// An instance may start others on its own supervisor.
func (d *Dynamic[A]) StartChild(ctx context.Context, id string, arg A) (Ref, error) {
	r, err := d.current()
	if err != nil {
		return Ref{}, err
	}
	if strings.Contains(id, "/") {
		return Ref{}, fmt.Errorf("%w: child %q: ID contains a slash, which separates IDs in paths", ErrSpec, id)
	}
	return r.startChild(ctx, id, func(ctx context.Context) (Service, error) { return d.spec.Load().Start(ctx, arg) })
}

// Reload puts a new specification in force (OTP rule 81), for this run and for later ones. Running
// instances are kept, under the new specification; their restarts use its Start. If anything in
// spec is invalid, nothing changes. The observers stay those of the run. An instance that was
// temporary when it started is not restarted, whatever the new specification says.
func (d *Dynamic[A]) Reload(spec DynamicSpec[A]) error {
	r, err := d.current()
	if err != nil {
		return err
	}
	if err := spec.check(); err != nil {
		return err
	}

	d.spec.Store(&spec)
	r.reload(spec.child("", nil), spec.Intensity, spec.MaxChildren, spec.Verbose)

	return nil
}

// TerminateChild stops an instance, waits for its end and forgets it. It returns ErrNotFound if
// there is none. If ctx ends first, the stop continues. An instance that would wait for its own end
// gets ErrWouldDeadlock.
func (d *Dynamic[A]) TerminateChild(ctx context.Context, id string) error {
	r, err := d.current()
	if err != nil {
		return err
	}
	return r.terminate(ctx, id, nil)
}

// TerminateRef is TerminateChild for one incarnation. For an incarnation that has ended it returns
// nil and leaves the successor alone. For one of another supervisor it returns ErrNotFound (OTP
// rule 72).
func (d *Dynamic[A]) TerminateRef(ctx context.Context, ref Ref) error {
	r, err := d.current()
	if err != nil {
		return err
	}
	if !ref.Alive() && ref.inc != nil {
		return nil
	}
	if ref.inc == nil || ref.inc.owner != owner(r) {
		return fmt.Errorf("%s has no such instance: %w", r.own.subject(), ErrNotFound)
	}

	return r.terminate(ctx, ref.inc.name, ref.inc)
}

// CountChildren counts the instances (OTP rule 30): Active those that live, Supervisors and Workers
// all of them by kind. Specs is 1, because all instances have one specification.
func (d *Dynamic[A]) CountChildren() (Counts, error) {
	c, err := d.handle.CountChildren()
	if err == nil {
		c.Specs = 1
	}
	return c, err
}

// Tree returns a snapshot of the supervisor and everything below it. It never waits. It lists the
// oldest TreeInstances instances. When no run is in progress, it shows the supervisor alone.
func (d *Dynamic[A]) Tree() Tree {
	if r := d.run.Load(); r != nil {
		return r.tree(true)
	}
	spec := d.specification()
	return Tree{ID: spec.Name, Kind: DynamicKind, Intensity: spec.Intensity}
}

// await waits until the start has been acknowledged, or the owner knows of the end. If ctx ends
// first, it returns the cause.
func (inc *incarnation) await(ctx context.Context) error {
	for {
		select {
		case <-inc.wake:
			if inc.answered() {
				return nil
			}
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// answered reports whether the start was acknowledged, or the owner knows of the end.
func (inc *incarnation) answered() bool {
	inc.mu.Lock()
	defer inc.mu.Unlock()
	return inc.isAcked || inc.known
}

// waiterLocked returns a channel for one caller of startChild. r.mu is held.
func (r *dynamicRun) waiterLocked() chan struct{} {
	if n := len(r.waiters); n > 0 {
		w := r.waiters[n-1]
		r.waiters = r.waiters[:n-1]
		return w
	}
	return make(chan struct{}, 1)
}

// giveBack makes the channel of a caller free for the next one.
func (r *dynamicRun) giveBack(inc *incarnation) {
	inc.mu.Lock()
	w := inc.wake
	inc.wake = nil
	inc.mu.Unlock()

	select {
	case <-w: // the end followed the acknowledgment at once
	default:
	}

	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.waiters) < maxWaiters {
		r.waiters = append(r.waiters, w)
	}
}

// maxWaiters is the number of channels for callers of startChild that a run keeps.
const maxWaiters = 16
