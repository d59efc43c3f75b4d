package suturecompat_test

import (
	"context"
	"fmt"
	"reflect"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	original "github.com/thejerf/suture/v4"

	suture "github.com/coppice-go/coppice/supervisor/suturecompat"
)

// system is a supervisor of either package. Tokens are of the package's own type.
type system interface {
	suture.Service
	add(suture.Service) (token any)
	remove(token any) error
	removeAndWait(token any, timeout time.Duration) error
	background(context.Context) <-chan error
	services() []suture.Service
	unstopped() (names []string)
	self() any
}

type ours struct{ *suture.Supervisor }

func (s ours) add(x suture.Service) any { return s.Add(unwrap(x)) }
func (s ours) remove(t any) error       { return s.Remove(t.(suture.ServiceToken)) }
func (s ours) removeAndWait(t any, d time.Duration) error {
	return s.RemoveAndWait(t.(suture.ServiceToken), d)
}
func (s ours) background(ctx context.Context) <-chan error { return s.ServeBackground(ctx) }
func (s ours) services() []suture.Service                  { return s.Services() }
func (s ours) self() any                                   { return s.Supervisor }
func (s ours) unstopped() (names []string) {
	report, _ := s.UnstoppedServiceReport()
	for _, u := range report {
		names = append(names, u.Name)
	}
	return names
}

type theirs struct{ *original.Supervisor }

func (s theirs) add(x suture.Service) any { return s.Add(unwrap(x)) }
func (s theirs) remove(t any) error       { return s.Remove(t.(original.ServiceToken)) }
func (s theirs) removeAndWait(t any, d time.Duration) error {
	return s.RemoveAndWait(t.(original.ServiceToken), d)
}
func (s theirs) background(ctx context.Context) <-chan error { return s.ServeBackground(ctx) }
func (s theirs) services() []suture.Service                  { return s.Services() }
func (s theirs) self() any                                   { return s.Supervisor }
func (s theirs) unstopped() (names []string) {
	report, _ := s.UnstoppedServiceReport()
	for _, u := range report {
		names = append(names, u.Name)
	}
	return names
}

// unwrap returns the supervisor of a system, so that it is added as itself.
func unwrap(x suture.Service) suture.Service {
	switch x := x.(type) {
	case ours:
		return x.Supervisor
	case theirs:
		return x.Supervisor
	default:
		return x
	}
}

// bench is one test on one of the packages.
type bench struct {
	*testing.T
	make func(name string, spec suture.Spec) system

	mu     sync.Mutex
	events []suture.Event
}

// onBoth runs a test on both packages, in virtual time.
func onBoth(t *testing.T, f func(*bench)) {
	t.Run("suture", func(t *testing.T) {
		defer func() {
			// A RemoveAndWait that timed out leaks a goroutine in suture.
			if v := recover(); v != nil && !strings.Contains(fmt.Sprint(v), "blocked goroutines remain") {
				panic(v)
			}
		}()
		synctest.Test(t, func(t *testing.T) {
			f(&bench{T: t, make: func(n string, s suture.Spec) system { return theirs{original.New(n, s)} }})
		})
	})
	t.Run("suturecompat", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			f(&bench{T: t, make: func(n string, s suture.Spec) system { return ours{suture.New(n, s)} }})
		})
	})
}

// supervisor makes a supervisor whose events are kept.
func (b *bench) supervisor(name string, spec suture.Spec) system {
	if spec.EventHook == nil {
		spec.EventHook = func(e suture.Event) {
			b.mu.Lock()
			defer b.mu.Unlock()
			b.events = append(b.events, e)
		}
	}
	if spec.BackoffJitter == nil {
		spec.BackoffJitter = suture.NoJitter{}
	}
	return b.make(name, spec)
}

// serve serves a supervisor until the end of the test.
func (b *bench) serve(s system) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := s.background(ctx)
	stop = sync.OnceFunc(func() { cancel(); <-done })
	b.Cleanup(stop)
	synctest.Wait()
	return stop
}

// got returns the events since the last call: their types, with the service's name and what
// follows.
func (b *bench) got() (out []string) {
	synctest.Wait()
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, e := range b.events {
		out = append(out, describe(e))
	}
	b.events = nil
	return out
}

func field(e suture.Event, name string) any {
	if f := reflect.ValueOf(e).FieldByName(name); f.IsValid() {
		return f.Interface()
	}
	return nil
}

func describe(e suture.Event) string {
	switch e.Type() {
	case suture.EventTypeServiceTerminate, suture.EventTypeServicePanic:
		kind := map[suture.EventType]string{suture.EventTypeServiceTerminate: "terminated",
			suture.EventTypeServicePanic: "panicked"}[e.Type()]
		return fmt.Sprintf("%s: %s %s, restarting %v", field(e, "SupervisorName"), field(e, "ServiceName"), kind,
			field(e, "Restarting"))
	case suture.EventTypeStopTimeout:
		return fmt.Sprintf("%s: %s late", field(e, "SupervisorName"), field(e, "ServiceName"))
	case suture.EventTypeBackoff:
		return fmt.Sprintf("%s: backoff", field(e, "SupervisorName"))
	default:
		return fmt.Sprintf("%s: resume", field(e, "SupervisorName"))
	}
}

// begun returns how often a service began since the last call.
func begun(s *service) (n int) {
	synctest.Wait()
	for len(s.starts) > 0 {
		<-s.starts
		n++
	}
	return n
}

// deafOne ignores its context until released.
type deafOne struct {
	name    string
	release chan struct{}
}

func newDeaf(name string) *deafOne { return &deafOne{name, make(chan struct{})} }

func (d *deafOne) Serve(context.Context) error { <-d.release; return nil }
func (d *deafOne) String() string              { return d.name }
