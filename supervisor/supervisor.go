package supervisor

import (
	"context"
	"fmt"
	"sync/atomic"
)

// Supervisor is a specification that can be run: with Serve as a child of any tree, or with Start.
// It may be run again after a run has ended; each run begins with a call of Build. The zero
// Supervisor has no children. The methods act on the current run, and return ErrNotRunning if there
// is none. All methods are safe for concurrent use.
type Supervisor struct {
	handle
	spec atomic.Pointer[Spec]
}

// specification returns the specification. A Supervisor that New did not make has one without
// children.
func (s *Supervisor) specification() *Spec {
	if spec := s.spec.Load(); spec != nil {
		return spec
	}
	return &Spec{Intensity: Intensity{}.orDefault()}
}

// New checks the specification and makes a Supervisor of it. The error names the field and the
// expected value.
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

// String returns the name.
func (s *Supervisor) String() string { return s.specification().Name }

// begin makes a run in its place in the tree. The run has not started yet.
func (s *Supervisor) begin(ctx context.Context) (*Run, error) {
	if err := s.acquire(); err != nil {
		return nil, err
	}

	r, err := newRun(ctx, s)
	if err != nil {
		s.release()
		return nil, err
	}

	s.handle.begin(&r.core)
	return r, nil
}

// Serve runs the supervisor until ctx is done, it is stopped, it gives up (a *GiveUpError), or it
// shuts down by itself (an *AutoShutdownError). When Serve returns, all children have been stopped
// in reverse start order, except orphans. A failed start is a *StartError (OTP rule 17). After ctx
// is done, Serve returns an error that Is context.Canceled (or DeadlineExceeded) and Is the cause.
func (s *Supervisor) Serve(ctx context.Context) error {
	r, err := s.begin(ctx)
	if err != nil {
		return err
	}
	r.main()
	return r.served()
}

// Start runs Serve in a goroutine. It returns when all children have acknowledged their start. If
// the start of one fails, it returns after the children before that one have been stopped. The run
// ends when ctx is done, as with Serve.
//
// With the context of a child, Serve and Start run the supervisor inside that child. The supervisor
// is in the child's Tree under its Name, which must not be taken there. It counts as one of the
// child's goroutines: it ends with the child, and the child has not ended before it has.
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
		case <-r.up: // it started, and has ended since
			return r, nil
		default:
		}

		if r.err == nil {
			return nil, fmt.Errorf("supervisor %s was stopped during its start: %w", s, ErrNotRunning)
		}
		return nil, r.err
	}
}

// current returns the run, if it has not ended.
func (s *Supervisor) current() (*Run, error) {
	c, err := s.living()
	if err != nil {
		return nil, err
	}
	return c.kids.(*Run), nil
}

// Run returns the current run, or ErrNotRunning.
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

// Tree calls Run.Tree. Without a run it returns the supervisor alone.
func (s *Supervisor) Tree() Tree {
	if r := s.run.Load(); r != nil {
		return r.Tree()
	}
	spec := s.specification()
	return Tree{ID: spec.Name, Kind: SupervisorKind, Strategy: spec.Strategy, Intensity: spec.Intensity,
		AutoShutdown: spec.AutoShutdown}
}
