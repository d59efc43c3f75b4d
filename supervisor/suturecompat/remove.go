package suturecompat

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/coppice-go/coppice/supervisor"
)

func (s *Supervisor) drop(e *entry) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.services = slices.DeleteFunc(s.services, func(x *entry) bool { return x == e })
}

// take removes a service from the list and returns it with the engine. The service is nil if it is
// not on the list.
func (s *Supervisor) take(t ServiceToken) (*entry, *supervisor.Dynamic[*entry], error) {
	s.mu.Lock()
	defer s.mu.Unlock()

	switch {
	case t.supervisor != s.id:
		return nil, nil, ErrWrongSupervisor
	case s.state == notStarted:
		return nil, nil, ErrSupervisorNotStarted
	case s.state == terminated || s.engine == nil:
		return nil, nil, ErrSupervisorNotRunning
	}

	for i, e := range s.services {
		if e.token == t {
			s.services = slices.Delete(s.services, i, i+1)
			s.removed = append(s.removed, e)
			return e, s.engine, nil
		}
	}

	return nil, s.engine, nil
}

// Remove removes a service and tells it to stop, without waiting for that.
func (s *Supervisor) Remove(t ServiceToken) error {
	e, engine, err := s.take(t)
	switch {
	case errors.Is(err, ErrSupervisorNotRunning):
		return nil
	case err != nil:
		return err
	case e != nil:
		s.terminate(engine, e)
	}

	return nil
}

// terminate stops an entry in the background, and reports it if it does not stop in time.
func (s *Supervisor) terminate(engine *supervisor.Dynamic[*entry], e *entry) <-chan error {
	done := make(chan error, 1)
	go func() {
		err := engine.TerminateChild(context.Background(), e.id())
		if errors.Is(err, supervisor.ErrOrphan) {
			s.timeout(e)
		} else {
			s.mu.Lock()
			s.removed = slices.DeleteFunc(s.removed, func(x *entry) bool { return x == e })
			s.mu.Unlock()
		}

		done <- err
	}()
	return done
}

// RemoveAndWait removes a service and waits until it has stopped. It returns ErrTimeout if the
// timeout (0 means none) or the end of the supervisor comes first.
func (s *Supervisor) RemoveAndWait(t ServiceToken, timeout time.Duration) error {
	e, engine, err := s.take(t)
	if err != nil || e == nil {
		return err
	}

	s.mu.Lock()
	ended := s.ended
	s.mu.Unlock()

	var limit <-chan time.Time

	if timeout > 0 {
		timer := time.NewTimer(timeout)
		defer timer.Stop()
		limit = timer.C
	}

	select {
	case err := <-s.terminate(engine, e):
		if err == nil {
			return nil
		}
	case <-ended:
	case <-limit:
	}

	return ErrTimeout
}
