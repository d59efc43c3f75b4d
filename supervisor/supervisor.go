package supervisor

import (
	"context"
	"fmt"
	"sync/atomic"
)

// Supervisor is a specification that can be run: by Serve as a child of any tree, or by Start. It
// may be run again after a run has ended; each run begins with a call of Build. The zero Supervisor
// has no children. Its methods act on the current run and answer ErrNotRunning without one. All are
// safe for concurrent use.
type Supervisor struct {
	handle
	spec atomic.Pointer[Spec]
}

// specification is that of the zero Supervisor, if it was not made by New: one without children.
func (s *Supervisor) specification() *Spec {
	if spec := s.spec.Load(); spec != nil {
		return spec
	}
	return &Spec{Intensity: Intensity{}.orDefault()}
}

// New checks the specification; the error names the field and what was expected.
func New(spec Spec) (*Supervisor, error) {
	if err := checkSpec(&spec); err != nil {
		return nil, err
	}
	s := &Supervisor{}
	s.name = spec.Name
	s.spec.Store(&spec)
	return s, nil
}

func (s *Supervisor) kind() Kind { return SupervisorKind }
func (s *Supervisor) self() any  { return s }

// String is the name.
func (s *Supervisor) String() string { return s.specification().Name }

// begin makes a run in its place in the tree, not yet running.
func (s *Supervisor) begin(ctx context.Context) (*Run, error) {
	if err := s.acquire(); err != nil {
		return nil, err
	}

	r, err := newRun(ctx, s)
	if err != nil {
		s.release()
		return nil, err
	}

	s.run.Store(&r.core)
	return r, nil
}

// Serve runs the supervisor until ctx is done, it is stopped, gives up (a *GiveUpError) or shuts
// down by itself (an *AutoShutdownError). In each case all children have been stopped in reverse
// start order when it returns, orphans excepted. A failed start is a *StartError (OTP rule 17).
// After ctx is done it returns an error that Is context.Canceled (or DeadlineExceeded) and Is the
// cause.
func (s *Supervisor) Serve(ctx context.Context) error {
	r, err := s.begin(ctx)
	if err != nil {
		return err
	}
	r.main()
	return r.served()
}

// Start is Serve in a goroutine: it returns when all children have acknowledged their start; if one
// failed, after those before it were stopped. The run ends when ctx is done, as with Serve.
//
// With the context of a child, Serve and Start run the supervisor inside of that child: it is in
// the child's Tree under its Name, which must not be taken there, and is one of the child's
// goroutines, so that it ends with the child, and the child not before it.
func (s *Supervisor) Start(ctx context.Context) (*Run, error) {
	r, err := s.begin(ctx)
	if err != nil {
		return nil, err
	}

	go r.main()

	select {
	case <-r.up:
		return r, nil
	case <-r.done:
		select {
		case <-r.up: // it came up, and has ended since
			return r, nil
		default:
		}

		if r.err == nil {
			return nil, fmt.Errorf("supervisor %s was stopped during its start: %w", s, ErrNotRunning)
		}
		return nil, r.err
	}
}

// current is the run, if it has not ended.
func (s *Supervisor) current() (*Run, error) {
	c, err := s.living()
	if err != nil {
		return nil, err
	}
	return c.kids.(*Run), nil
}

// Run is the current run, or ErrNotRunning.
func (s *Supervisor) Run() (*Run, error) { return s.current() }

// StartChild calls Run.StartChild.
func (s *Supervisor) StartChild(ctx context.Context, c Child) (Ref, error) {
	r, err := s.current()
	if err != nil {
		return Ref{}, err
	}
	return r.StartChild(ctx, c)
}

// RestartChild calls Run.RestartChild.
func (s *Supervisor) RestartChild(ctx context.Context, id string) (Ref, error) {
	r, err := s.current()
	if err != nil {
		return Ref{}, err
	}
	return r.RestartChild(ctx, id)
}

// TerminateChild calls Run.TerminateChild.
func (s *Supervisor) TerminateChild(ctx context.Context, id string) error {
	r, err := s.current()
	if err != nil {
		return err
	}
	return r.TerminateChild(ctx, id)
}

// DeleteChild calls Run.DeleteChild.
func (s *Supervisor) DeleteChild(ctx context.Context, id string) error {
	r, err := s.current()
	if err != nil {
		return err
	}
	return r.DeleteChild(ctx, id)
}

// Reload calls Run.Reload. Later runs use the new specification too.
func (s *Supervisor) Reload(ctx context.Context, spec Spec) error {
	r, err := s.current()
	if err != nil {
		return err
	}
	return r.Reload(ctx, spec)
}

// ChildSpec calls Run.ChildSpec.
func (s *Supervisor) ChildSpec(id string) (Child, error) {
	r, err := s.current()
	if err != nil {
		return Child{}, err
	}
	return r.ChildSpec(id)
}

// Tree calls Run.Tree. Without a run it is the supervisor alone.
func (s *Supervisor) Tree() Tree {
	if r := s.run.Load(); r != nil {
		return r.Tree()
	}
	spec := s.specification()
	return Tree{ID: spec.Name, Kind: SupervisorKind, Strategy: spec.Strategy, Intensity: spec.Intensity,
		AutoShutdown: spec.AutoShutdown}
}
