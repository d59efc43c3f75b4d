package suturecompat_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
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

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

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

func TestServicesAreRestartedOnAnyEnd(t *testing.T) { synctest.Test(t, restartedOnAnyEnd) }

func restartedOnAnyEnd(t *testing.T) {
	s, events := supervised(t, suture.Spec{FailureThreshold: 100})
	a := newService("a")
	token := s.Add(a) // before Serve
	serve(t, s)
	<-a.starts
	other, cancel := context.WithCancel(context.Background())
	cancel()

	for _, err := range []error{errCrash, nil, other.Err()} {
		a.end(err)
		<-a.starts
		e := (<-events).(suture.EventServiceTerminate)
		require.Equal(t, "s", e.SupervisorName)
		require.Equal(t, "a", e.ServiceName)
		require.True(t, e.Restarting)

		switch {
		case err == nil:
			require.Nil(t, e.Err)
		case err == errCrash:
			require.Equal(t, err, e.Err)
		default:
			require.ErrorContains(t, e.Err.(error), "from another context")
		}

		require.Equal(t, "s", e.Supervisor.Name)
	}

	a.orders <- func(context.Context) error { panic("boom") }
	<-a.starts
	e := (<-events).(suture.EventServicePanic)
	require.Equal(t, "boom", e.PanicMsg)
	require.Contains(t, e.Stacktrace, "suturecompat_test.go")
	require.Greater(t, e.CurrentFailures, 3.5)
	a.orders <- func(context.Context) error { runtime.Goexit(); return nil }
	<-a.starts
	require.ErrorContains(t, (<-events).(suture.EventServiceTerminate).Err.(error), "Goexit")

	b := newService("b")
	s.Add(b) // while serving
	<-b.starts
	require.Equal(t, []suture.Service{a, b}, s.Services())
	require.NoError(t, s.RemoveAndWait(token, 0))
	require.Equal(t, []suture.Service{b}, s.Services())
	require.NoError(t, s.RemoveAndWait(token, 0)) // not there any more
	b.end(fmt.Errorf("done: %w", suture.ErrDoNotRestart))
	synctest.Wait()
	require.Empty(t, s.Services())
}

func TestTooManyFailuresPauseAllRestarts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, events := supervised(t, suture.Spec{FailureThreshold: 2, FailureDecay: 30, FailureBackoff: 10 * time.Second,
			BackoffJitter: suture.NoJitter{}})
		a, b := newService("a"), newService("b")
		s.Add(a)
		s.Add(b)
		serve(t, s)
		<-a.starts
		<-b.starts

		for range 2 {
			a.end(errCrash)
			<-a.starts
			require.IsType(t, suture.EventServiceTerminate{}, <-events)
		}

		begin := time.Now()
		a.end(errCrash)
		require.Equal(t, "s: Entering the backoff state.", (<-events).String())
		require.False(t, (<-events).(suture.EventServiceTerminate).Restarting)
		b.end(errCrash)
		require.False(t, (<-events).(suture.EventServiceTerminate).Restarting)
		<-a.starts
		<-b.starts
		require.Equal(t, 10*time.Second, time.Since(begin))
		require.Equal(t, "s: Exiting backoff state.", (<-events).String())
		// The count started again from 0. It decays: it halves every 30 s.
		a.end(errCrash)
		<-a.starts
		first := (<-events).(suture.EventServiceTerminate).CurrentFailures
		timer := time.NewTimer(30 * time.Second)
		<-timer.C
		a.end(errCrash)
		<-a.starts
		require.InDelta(t, first/2+1, (<-events).(suture.EventServiceTerminate).CurrentFailures, 1e-9)

		// A pause does not delay the stop.
		for range 2 {
			a.end(errCrash)
			synctest.Wait()
		}
	})
}

func TestTerminateSupervisorTree(t *testing.T) { synctest.Test(t, terminateSupervisorTree) }

func terminateSupervisorTree(t *testing.T) {
	for _, dont := range []bool{false, true} {
		outer, _ := supervised(t, suture.Spec{})
		inner, _ := supervised(t, suture.Spec{DontPropagateTermination: dont})
		a, b := newService("a"), newService("b")
		inner.Add(a)
		outer.Add(inner)
		outer.Add(b)
		ctx, cancel := context.WithCancel(context.Background())
		done := outer.ServeBackground(ctx)
		<-a.starts
		<-b.starts
		a.end(suture.ErrTerminateSupervisorTree)

		if dont {
			synctest.Wait()
			require.Len(t, outer.Services(), 1)
			cancel()
			require.ErrorIs(t, <-done, context.Canceled)
		} else {
			require.ErrorIs(t, <-done, suture.ErrTerminateSupervisorTree)
		}

		cancel()
	}
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

func TestRemoveAndWaitWhenTheSupervisorEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		s, _ := supervised(t, suture.Spec{Timeout: time.Second})
		token := s.Add(deaf{release})
		ctx, cancel := context.WithCancel(context.Background())
		done := s.ServeBackground(ctx)
		synctest.Wait()
		cancel()
		require.ErrorIs(t, s.RemoveAndWait(token, 0), suture.ErrTimeout)
		<-done
		close(release)
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
