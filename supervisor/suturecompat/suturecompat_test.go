package suturecompat_test

import (
	"bytes"
	"context"
	"errors"
	"log"
	"os"
	"os/exec"
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	suture "github.com/coppice-go/coppice/supervisor/suturecompat"
)

func TestMain(m *testing.M) {
	const leak = "github.com/thejerf/suture/v4.(*Supervisor).removeService.func1.1" // suture's: see onBoth
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction(leak))
}

var errCrash = errors.New("crash")

// service does what its test tells it to do.
type service struct {
	name   string
	starts chan bool
	orders chan func(context.Context) error
}

func newService(name string) *service {
	return &service{name, make(chan bool, 100), make(chan func(context.Context) error)}
}

func (s *service) String() string { return s.name }

func (s *service) Serve(ctx context.Context) error {
	s.starts <- true
	select {
	case f := <-s.orders:
		return f(ctx)
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (s *service) end(err error) { s.orders <- func(context.Context) error { return err } }

func supervised(t *testing.T, spec suture.Spec) (*suture.Supervisor, chan suture.Event) {
	t.Helper()
	events := make(chan suture.Event, 1000)
	spec.EventHook = func(e suture.Event) { events <- e }
	return suture.New("s", spec), events
}

func serve(t *testing.T, s *suture.Supervisor) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := s.ServeBackground(ctx)
	t.Cleanup(func() { cancel(); <-done })
}

// The end by runtime.Goexit is told apart from a return.
func TestGoexit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, events := supervised(t, suture.Spec{})
		a := newService("a")
		s.Add(a)
		serve(t, s)
		<-a.starts
		a.orders <- func(context.Context) error { runtime.Goexit(); return nil }
		<-a.starts
		require.ErrorContains(t, (<-events).(suture.EventServiceTerminate).Err.(error), "Goexit")
	})
}

type deaf struct{ release chan struct{} }

func (d deaf) Serve(context.Context) error { <-d.release; return nil }

func TestUnstoppedServices(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		outer, events := supervised(t, suture.Spec{Timeout: 20 * time.Second})
		inner := suture.New("inner", suture.Spec{Timeout: 5 * time.Second})
		token := inner.Add(deaf{release})
		outer.Add(inner)
		removed := outer.Add(deaf{release})
		left := outer.Add(deaf{release})
		ctx, cancel := context.WithCancel(context.Background())
		done := outer.ServeBackground(ctx)
		synctest.Wait()

		require.NoError(t, outer.Remove(removed)) // does not wait
		require.ErrorIs(t, outer.RemoveAndWait(left, time.Second), suture.ErrTimeout)
		require.IsType(t, suture.EventStopTimeout{}, <-events)
		require.IsType(t, suture.EventStopTimeout{}, <-events)
		extra := outer.Add(deaf{release})
		synctest.Wait()
		cancel()
		require.ErrorIs(t, <-done, context.Canceled)
		report, err := outer.UnstoppedServiceReport()
		require.NoError(t, err)
		require.Len(t, report, 4)
		require.Equal(t, []*suture.Supervisor{outer, inner}, report[0].SupervisorPath)
		require.Equal(t, token, report[0].ServiceToken)
		require.Equal(t, extra, report[1].ServiceToken)
		seen := map[string]bool{}
		for range 2 {
			seen[(<-events).(suture.EventStopTimeout).SupervisorName] = true
		}

		// inner got the hook of the supervisor it was added to
		require.Equal(t, map[string]bool{"s": true, "inner": true}, seen)
		close(release)
		require.Empty(t, outer.Add(deaf{release}))
		require.NoError(t, outer.Remove(left))
		require.ErrorIs(t, outer.RemoveAndWait(left, 0), suture.ErrSupervisorNotRunning)
		require.Nil(t, outer.Services())
	})
}

func TestServedAgain(t *testing.T) {
	s, _ := supervised(t, suture.Spec{})
	a := newService("a")
	s.Add(a)

	for range 2 {
		ctx, cancel := context.WithCancel(context.Background())
		done := s.ServeBackground(ctx)
		<-a.starts
		require.Panics(t, func() { _ = s.Serve(ctx) })
		cancel()
		<-done
	}

	report, err := s.UnstoppedServiceReport()
	require.NoError(t, err)
	require.Nil(t, report)
}

func TestMisuseAndDefaults(t *testing.T) {
	var none *suture.Supervisor
	require.Panics(t, func() { none.Add(newService("a")) })
	require.Panics(t, func() { _ = none.Serve(context.Background()) })
	require.Panics(t, func() { _ = (&suture.Supervisor{}).Serve(context.Background()) })
	s, other := suture.NewSimple("simple"), suture.NewSimple("other")
	require.Equal(t, "simple", s.String())
	require.Same(t, s, s.GetSupervisor())
	token := s.Add(newService("a"))
	require.ErrorIs(t, other.Remove(token), suture.ErrWrongSupervisor)
	require.ErrorIs(t, s.Remove(token), suture.ErrSupervisorNotStarted)
	require.ErrorIs(t, s.RemoveAndWait(token, 0), suture.ErrSupervisorNotStarted)
	require.Nil(t, s.Services())

	var out bytes.Buffer
	log.SetOutput(&out)
	defer log.SetOutput(os.Stderr)

	p := newService("p")
	s.Add(p)
	stop := newService("stop")
	s.Add(stop)
	done := make(chan error)
	go func() { done <- s.Serve(nil) }() //nolint:staticcheck // suture allows a nil context
	<-p.starts
	p.orders <- func(context.Context) error { panic(errCrash) }
	<-p.starts
	stop.end(suture.ErrTerminateSupervisorTree)
	require.ErrorIs(t, <-done, suture.ErrTerminateSupervisorTree)
	require.Contains(t, out.String(), "panic: crash")

	old := suture.AsService(&deprecated{done: make(chan struct{})})
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	require.ErrorIs(t, old.Serve(ctx), context.Canceled)
}

type deprecated struct{ done chan struct{} }

func (d *deprecated) Serve() { <-d.done }
func (d *deprecated) Stop()  { close(d.done) }

// PassThroughPanics ends the process, with the panic and its stack.
func TestPassThroughPanics(t *testing.T) {
	if os.Getenv("PASS_THROUGH") == "1" {
		s := suture.New("s", suture.Spec{PassThroughPanics: true})
		a := newService("fragile")
		s.Add(a)
		go func() { a.orders <- func(context.Context) error { panic("through") } }()
		_ = s.Serve(context.Background())
		return
	}

	cmd := exec.Command(os.Args[0], "-test.run=^TestPassThroughPanics$")
	cmd.Env = append(os.Environ(), "PASS_THROUGH=1")
	out, err := cmd.CombinedOutput()
	require.Error(t, err)
	require.Contains(t, string(out), "panic: s: service fragile: through")
	require.Contains(t, string(out), "suturecompat_test.go")
}
