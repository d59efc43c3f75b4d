package supervisor

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/thejerf/suture/v4"
)

// FromSuture makes a StartFunc of a suture tree. A suture supervisor cannot be served twice, so
// build makes a new one for each incarnation. If the tree has ended and left services running, at
// any depth, the incarnation is an orphan until they have ended: it is listed by Orphans and
// treated by its OrphanPolicy, and its exit Is ErrOrphan and names the services. suture tells
// nobody when such a service ends, so OrphanEnded may come late.
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

// Serve serves the tree and then asks it for services that it left behind.
func (t sutureTree) Serve(ctx context.Context) error {
	err := t.Service.Serve(ctx)
	left := &leftBehind{err: err}
	if has, ok := t.Service.(suture.HasSupervisor); ok && has.GetSupervisor() != nil {
		report, _ := has.GetSupervisor().UnstoppedServiceReport() // returns at once
		for _, s := range report {
			left.names = append(left.names, s.Name)
		}
	}

	inc := incarnationOf(ctx)
	switch {
	case inc != nil && sutureServices(inc.id)[inc.id].Goroutines > 0:
		inc.mu.Lock()
		inc.rareLocked().left = left
		inc.mu.Unlock()
		return err

	case len(left.names) > 0: // the tree says so, but their goroutines cannot be found
		return left.error()

	default:
		return err
	}
}

// leftBehind is what a suture tree left running when it ended: the services that it knows of.
type leftBehind struct {
	names []string
	err   error // with which the tree ended
}

func (l *leftBehind) error() error {
	names := strings.Join(l.names, ", ")
	if names == "" {
		names = "of nested supervisors"
	}
	return fmt.Errorf("suture services %s: %w (the tree itself ended with: %v)", names, ErrOrphan, l.err)
}

// sutureServices finds the goroutines of the incarnations with these numbers that are in the Serve
// of a suture service.
func sutureServices(ids ...uint64) map[uint64]Orphan {
	return labelled(labelIncarnation, inSutureService, ids...)
}

// inSutureService reports whether a stack, as the profiler prints it, is that of a goroutine in
// which suture runs a service, and in the service's Serve. When that has returned, the goroutine
// still tells the supervisor.
func inSutureService(stack string) bool {
	const runService = "thejerf/suture/v4.(*Supervisor).runService."
	frames := strings.Split(strings.TrimSpace(stack), "\n")
	n := len(frames)
	return n > 1 && strings.Contains(frames[n-1], runService) && !strings.Contains(frames[n-2], runService) &&
		!strings.Contains(stack, "thejerf/suture/v4.(*Supervisor).fail+")
}

// A service that a suture tree left behind is looked for again and again, ever more seldom.
const (
	firstLook = 100 * time.Millisecond
	lastLook  = time.Minute
	looks     = 1000 // after that, only Orphans looks
)

// staysBehind reports whether services of a suture tree still run when all goroutines of the
// incarnation itself have ended. The incarnation is then an orphan until they have ended.
func (inc *incarnation) staysBehind() bool {
	inc.mu.Lock()
	left := inc.rare != nil && inc.rare.left != nil
	inc.mu.Unlock()
	return left && inc.leavesOrphan()
}

// leavesOrphan is staysBehind for an incarnation that has run a suture tree.
func (inc *incarnation) leavesOrphan() bool {
	found := sutureServices(inc.id)
	if found[inc.id].Goroutines == 0 {
		return false
	}

	inc.behind.Store(true)
	inc.orphaned(found)
	inc.lookLater(firstLook, looks)

	return true
}

// lookLater looks after a delay whether the services have ended.
func (inc *incarnation) lookLater(delay time.Duration, times int) {
	if times == 0 {
		return
	}
	time.AfterFunc(delay, func() {
		if inc.behind.Load() && !inc.endBehind(sutureServices(inc.id)) {
			inc.lookLater(min(2*delay, lastLook), times-1)
		}
	})
}

// endBehind ends the incarnation if its services are not among those that were found, and reports
// whether they are not.
func (inc *incarnation) endBehind(found map[uint64]Orphan) bool {
	if found[inc.id].Goroutines > 0 {
		return false
	}
	if inc.behind.CompareAndSwap(true, false) {
		if inc.end() {
			inc.owner.(*Run).handOn(inc)
		}
	}
	return true
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
				PanicMsg:   fmt.Sprint(e.Exit.Panic), Stacktrace: e.Exit.Stack.String(),
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
