package supervisor

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"

	"github.com/thejerf/suture/v4"
)

// FromSuture makes a StartFunc of a suture tree. A suture supervisor cannot be served twice, so
// build makes a new one for each incarnation. If the tree left services running when it ended, they
// are named in the exit, which then Is ErrOrphan.
func FromSuture(build func(ctx context.Context) (Service, error)) StartFunc {
	return func(ctx context.Context) (Service, error) {
		svc, err := build(ctx)
		if err != nil {
			return nil, err
		}
		return sutureTree{svc}, nil
	}
}

type sutureTree struct{ Service }

// Serve serves the tree and then looks for services that it left behind.
func (t sutureTree) Serve(ctx context.Context) error {
	err := t.Service.Serve(ctx)
	has, ok := t.Service.(suture.HasSupervisor)
	if !ok || has.GetSupervisor() == nil {
		return err
	}
	left, _ := has.GetSupervisor().UnstoppedServiceReport() // returns at once
	if len(left) == 0 {
		return err
	}

	names := make([]string, len(left))
	for i, s := range left {
		names[i] = s.Name
	}
	return fmt.Errorf("suture services %s: %w (the tree itself ended with: %v)", strings.Join(names, ", "),
		ErrOrphan, err)
}

// SutureEvents returns an Observer that gives a suture event hook our events: a panic, an abnormal
// end, an orphan, a restart that was delayed, and the start that ends the delay. Events that suture
// does not have are not delivered. The Supervisor field is a stand-in with the right name. The
// failure counts stay zero.
func SutureEvents(hook suture.EventHook) Observer {
	return &sutureEvents{hook: hook, waiting: map[string]bool{}}
}

type sutureEvents struct {
	hook suture.EventHook

	mu      sync.Mutex      // the observer may be given to several supervisors
	waiting map[string]bool // paths between two attempts
}

// Observe translates one event.
func (s *sutureEvents) Observe(e Event) {
	h := e.Head()
	above, id := h.Root, h.Path
	if i := strings.LastIndexByte(h.Path, '/'); i >= 0 {
		above, id = h.Path[:i], h.Path[i+1:]
	}

	quiet := suture.Spec{EventHook: func(suture.Event) {}}

	switch e := e.(type) {
	case ChildExited:
		if !e.Reported {
			return
		}

		again := e.Restart != Temporary

		if e.Exit.Panic != nil {
			s.hook(suture.EventServicePanic{
				Supervisor: suture.New(above, quiet), SupervisorName: above, Service: nameOnly(id), ServiceName: id,
				Restarting: again,
				PanicMsg:   fmt.Sprint(e.Exit.Panic), Stacktrace: string(e.Exit.Stack),
			})
			return
		}

		s.hook(suture.EventServiceTerminate{
			Supervisor: suture.New(above, quiet), SupervisorName: above, Service: nameOnly(id), ServiceName: id,
			Restarting: again, Err: e.Exit.Error(),
		})

	case ChildOrphaned:
		s.hook(suture.EventStopTimeout{Supervisor: suture.New(above, quiet), SupervisorName: above,
			Service: nameOnly(id), ServiceName: id})

	case RestartScheduled:
		if e.Delay > 0 && s.wait(h.Path, true) {
			s.hook(suture.EventBackoff{Supervisor: suture.New(above, quiet), SupervisorName: above})
		}

	case ChildStarted:
		if s.wait(h.Path, false) {
			s.hook(suture.EventResume{Supervisor: suture.New(above, quiet), SupervisorName: above})
		}
	}
}

// wait sets whether the child at path is between two attempts, and reports whether that is new.
func (s *sutureEvents) wait(path string, waiting bool) bool {
	s.mu.Lock()
	defer s.mu.Unlock()

	changed := s.waiting[path] != waiting

	if waiting {
		s.waiting[path] = true
	} else {
		delete(s.waiting, path)
	}

	return changed
}

// nameOnly is a service that has only a name. suture's events want a service.
type nameOnly string

// Serve returns an error. It is never called.
func (n nameOnly) Serve(context.Context) error { return errors.New(string(n) + " is only a name") }

// String returns the name.
func (n nameOnly) String() string { return string(n) }
