package suturecompat

import (
	"context"
	"errors"
	"fmt"
	"math"
	"runtime/debug"
	"sync"
	"time"

	"github.com/coppice-go/coppice/supervisor"
)

// entry is a service that was added. The mutex of its supervisor guards the fields after name.
type entry struct {
	token   ServiceToken
	service Service
	name    string

	pause   <-chan struct{} // the next start waits for it; nil if it does not
	running bool            // in the service's Serve
	removed bool
	late    bool          // its EventStopTimeout has been sent
	gone    chan struct{} // closed when it was removed and has stopped
	isGone  sync.Once
}

// serviceContext is what a service is served with: it ends when the supervisor's own context does,
// and has its deadline and error, as in suture. It also ends when the service is removed or killed.
// Its values are those of the engine's context.
type serviceContext struct {
	context.Context
	values context.Context
}

// Value returns a value of the engine's context.
func (c serviceContext) Value(key any) any { return c.values.Value(key) }

// serve runs a service once in the engine: it waits until a pause is over, serves, and counts a
// failure.
func (s *Supervisor) serve(ctx context.Context, e *entry) error {
	s.mu.Lock()
	own, pause := s.ctx, e.pause
	e.pause = nil
	s.mu.Unlock()

	defer s.left(e)

	served, cancel := context.WithCancel(own)
	defer cancel()
	defer context.AfterFunc(ctx, cancel)()

	if pause != nil {
		select {
		case <-pause:
		case <-served.Done():
		}
	}

	if served.Err() == nil {
		if err := s.attend(serviceContext{served, ctx}, e); served.Err() == nil {
			return err
		}
	}

	// The service was told to end. When the engine knows that, it will not start the service again.
	<-ctx.Done()
	return ctx.Err()
}

// attend calls the service's Serve, and counts and reports an end that nobody asked for.
func (s *Supervisor) attend(ctx context.Context, e *entry) (err error) {
	s.mu.Lock()
	e.running = true
	s.mu.Unlock()

	returned := false
	defer func() {
		if returned {
			return
		}

		v := recover()
		if v == nil { // runtime.Goexit
			s.terminated(ctx, e, supervisor.ErrGoexit)
			return
		}

		stack := debug.Stack()
		if s.spec.PassThroughPanics {
			// In a goroutine where nothing recovers it, the panic ends the process.
			go panic(fmt.Sprintf("%s: service %s: %v\n%s", s.Name, e.name, v, stack))
			select {}
		}

		s.fail(ctx, e, func(failures, threshold float64, again bool) Event {
			return EventServicePanic{Supervisor: s, SupervisorName: s.Name, Service: e.service,
				ServiceName: e.name, CurrentFailures: failures, FailureThreshold: threshold, Restarting: again,
				PanicMsg: s.spec.Sprint(v), Stacktrace: string(stack)}
		})
		panic(v) // the engine restarts the service, and its events have the panic
	}()

	err = func() error {
		defer s.left(e) // before its end is counted and reported
		return e.service.Serve(ctx)
	}()
	returned = true

	switch {
	case ctx.Err() != nil:
		return err

	case errors.Is(err, ErrDoNotRestart):
		s.drop(e)
		return ErrDoNotRestart // even if it is ErrTerminateSupervisorTree too

	case errors.Is(err, ErrTerminateSupervisorTree):
		s.mu.Lock()
		s.cause = err
		s.mu.Unlock()
		return err

	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		err = fmt.Errorf("from another context, not the service's, so it is restarted: %w", err)
	}

	s.terminated(ctx, e, err)
	return err
}

// left notes that the service's Serve has ended.
func (s *Supervisor) left(e *entry) {
	s.mu.Lock()
	defer s.mu.Unlock()
	e.running = false
	if e.removed {
		e.isGone.Do(func() { close(e.gone) })
	}
}

// drop removes a service that must not be restarted.
func (s *Supervisor) drop(e *entry) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.forget(e)
}

// terminated counts a failure and reports that the service ended with err.
func (s *Supervisor) terminated(ctx context.Context, e *entry, err error) {
	s.fail(ctx, e, func(failures, threshold float64, again bool) Event {
		return EventServiceTerminate{Supervisor: s, SupervisorName: s.Name, Service: e.service,
			ServiceName: e.name, CurrentFailures: failures, FailureThreshold: threshold, Restarting: again, Err: err}
	})
}

// fail counts a failure as suture does, and sends the event that event makes. The count halves
// every FailureDecay seconds. When it exceeds the threshold, all restarts pause, or pause anew. The
// failure of a service that was told to end is not counted.
func (s *Supervisor) fail(ctx context.Context, e *entry, event func(failures, threshold float64, again bool) Event) {
	defer s.oneEvent()()

	if ctx.Err() != nil {
		return
	}

	s.mu.Lock()
	now := time.Now()

	if s.lastFail.IsZero() {
		s.failures = 1
	} else {
		s.failures = s.failures*math.Pow(.5, now.Sub(s.lastFail).Seconds()/s.spec.FailureDecay) + 1
	}

	s.lastFail = now
	failures, threshold := s.failures, s.spec.FailureThreshold
	backoff := failures > threshold
	if backoff {
		s.beginPause()
	}
	if s.resume != nil {
		e.pause = s.resume
	}

	again := s.resume == nil
	s.mu.Unlock()

	if backoff {
		s.send(EventBackoff{Supervisor: s, SupervisorName: s.Name})
	}
	s.send(event(failures, threshold, again))
}

// beginPause pauses all restarts, or begins the pause anew. s.mu is held.
func (s *Supervisor) beginPause() {
	if s.resume == nil {
		s.resume = make(chan struct{})
	}
	if s.pauseTimer != nil {
		s.pauseTimer.Stop()
	}

	var timer *time.Timer
	timer = time.AfterFunc(s.spec.BackoffJitter.Jitter(s.spec.FailureBackoff), func() { s.endPause(&timer) })
	s.pauseTimer = timer
}

// endPause ends the pause, unless it was begun anew meanwhile.
func (s *Supervisor) endPause(timer **time.Timer) {
	defer s.oneEvent()()

	s.mu.Lock()
	if s.pauseTimer != *timer {
		s.mu.Unlock()
		return
	}

	pause, live := s.resume, s.state == serving && s.ctx.Err() == nil
	s.resume, s.pauseTimer, s.failures = nil, nil, 0
	s.mu.Unlock()

	if live {
		s.send(EventResume{Supervisor: s, SupervisorName: s.Name})
	}
	close(pause)
}

// oneEvent waits until no event is being sent: suture sends one after the other. The caller must
// call done when it has sent its own.
func (s *Supervisor) oneEvent() (done func()) {
	s.hooks <- struct{}{}
	return func() { <-s.hooks }
}

// send gives an event to the hook. oneEvent was called.
func (s *Supervisor) send(e Event) { s.hook()(e) }

func (s *Supervisor) hook() EventHook {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.spec.EventHook
}
