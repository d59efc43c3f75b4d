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
	// MaxChildren bounds the instances, those between restarts included; 0 is no bound.
	MaxChildren int
	// Verbose emits ChildStarting, ChildStarted, ChildStopped and quiet exits too. Otherwise
	// instances come and go without an event, and what is reported is what OTP reports (rules 36,
	// 58 and 80).
	Verbose   bool
	Observers []Observer
}

// Dynamic is a supervisor of instances. It is a Service and may be served again, each time without
// instances. Its methods are safe for concurrent use and answer ErrNotRunning while it is not
// served. Starts do not wait for one another. As a child of a supervisor it is what the StartFunc
// returns:
//
//	Start: func(context.Context) (supervisor.Service, error) { return d, nil }
type Dynamic[A any] struct {
	handle
	spec atomic.Pointer[DynamicSpec[A]]
}

// NewDynamic checks the specification; the error names the field and what was expected.
func NewDynamic[A any](spec DynamicSpec[A]) (*Dynamic[A], error) {
	if err := spec.check(); err != nil {
		return nil, err
	}
	d := &Dynamic[A]{}
	d.name = spec.Name
	d.spec.Store(&spec)
	return d, nil
}

// check fills in the default intensity.
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

// String is the name.
func (d *Dynamic[A]) String() string { return d.specification().Name }

// specification is empty if d was not made by NewDynamic.
func (d *Dynamic[A]) specification() *DynamicSpec[A] {
	if spec := d.spec.Load(); spec != nil {
		return spec
	}
	return &DynamicSpec[A]{}
}

// Serve runs the supervisor as Supervisor.Serve does. At its end all instances are told at once,
// with one timer for all (OTP rule 74).
func (d *Dynamic[A]) Serve(ctx context.Context) error {
	if err := d.acquire(); err != nil {
		return err
	}

	spec := d.specification()
	if spec.Start == nil {
		d.release()
		return fmt.Errorf("%w: a Dynamic that was not made by NewDynamic", ErrSpec)
	}

	r, err := newDynamicRun(ctx, d, spec.Name, spec.child("", nil), *spec)
	if err != nil {
		d.release()
		return err
	}

	d.run.Store(&r.core)
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
// living instances, else the answer is an *AlreadyStartedError, or ErrAlreadyPresent between two
// restarts; "" has one made. Further answers are ErrMaxChildren, ErrNotRunning and a *StartError;
// then nothing is stored. If the start answers ErrIgnore that is the zero Ref (OTP rule 71). If ctx
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

// Reload puts a new specification in force (OTP rule 81), for this run and for later ones.
// Instances that run are kept, under it; their restarts use its Start. If anything in it is invalid
// nothing changes. Observers stay those of the run. What was temporary when it started is not
// restarted, whatever is in force now.
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

// TerminateChild stops an instance, waits for its end and forgets it. ErrNotFound if there is none.
// If ctx ends first, the stop goes on. An instance that would wait for its own end gets
// ErrWouldDeadlock.
func (d *Dynamic[A]) TerminateChild(ctx context.Context, id string) error {
	r, err := d.current()
	if err != nil {
		return err
	}
	return r.terminate(ctx, id, nil)
}

// TerminateRef is TerminateChild for one incarnation. One that has ended is no error and leaves its
// successor alone; one of another supervisor is ErrNotFound (OTP rule 72).
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

// CountChildren counts: one specification, the living instances, and instances by kind (OTP rule
// 30).
func (d *Dynamic[A]) CountChildren() (Counts, error) {
	c, err := d.handle.CountChildren()
	if err == nil {
		c.Specs = 1
	}
	return c, err
}

// Tree is as Run.Tree; it lists the oldest TreeInstances instances.
func (d *Dynamic[A]) Tree() Tree {
	if r := d.run.Load(); r != nil {
		return r.tree()
	}
	spec := d.specification()
	return Tree{ID: spec.Name, Kind: DynamicKind, Intensity: spec.Intensity}
}
