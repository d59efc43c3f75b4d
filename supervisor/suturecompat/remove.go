package suturecompat

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/coppice-go/coppice/supervisor"
)

// forget removes an entry from the list. s.mu is held.
func (s *Supervisor) forget(e *entry) {
	s.services = slices.DeleteFunc(s.services, func(x *entry) bool { return x == e })
}

// take removes a service from the list and tells it to stop. It returns nil if the service is not
// on the list, and the context of the supervisor.
func (s *Supervisor) take(t ServiceToken) (*entry, context.Context, error) {
	if t.supervisor != s.id {
		return nil, nil, ErrWrongSupervisor
	}

	s.mu.Lock()
	defer s.mu.Unlock()

	for s.state == serving && s.engine == nil { // it has just begun to be served
		up := s.up
		s.mu.Unlock()
		<-up
		s.mu.Lock()
	}

	switch {
	case s.state == notStarted:
		return nil, nil, ErrSupervisorNotStarted
	case s.state == terminated || s.ctx.Err() != nil:
		return nil, nil, ErrSupervisorNotRunning
	}

	at := slices.IndexFunc(s.services, func(e *entry) bool { return e.token == t })
	if at < 0 {
		return nil, s.ctx, nil
	}

	e := s.services[at]
	s.forget(e)
	e.removed = true
	s.removed = append(s.removed, e)
	go s.terminate(s.engine, e)

	return e, s.ctx, nil
}

// terminate stops an entry that was removed, and reports it if it does not stop in time.
func (s *Supervisor) terminate(engine *supervisor.Dynamic[*entry], e *entry) {
	err := engine.TerminateChild(context.Background(), e.id())
	if errors.Is(err, supervisor.ErrOrphan) {
		s.timeout(e)
		return // left closes gone
	}

	s.mu.Lock()
	defer s.mu.Unlock()
	if !e.running {
		e.isGone.Do(func() { close(e.gone) })
		s.removed = slices.DeleteFunc(s.removed, func(x *entry) bool { return x == e })
	}
}

// timeout reports, once, a service that did not stop in time.
func (s *Supervisor) timeout(e *entry) {
	defer s.oneEvent()()

	s.mu.Lock()
	late := e.late
	e.late = true
	s.mu.Unlock()

	if !late {
		s.send(EventStopTimeout{Supervisor: s, SupervisorName: s.Name, Service: e.service, ServiceName: e.name})
	}
}

// Remove removes a service and tells it to stop, without waiting for that.
func (s *Supervisor) Remove(t ServiceToken) error {
	_, _, err := s.take(t)
	if errors.Is(err, ErrSupervisorNotRunning) {
		return nil
	}
	return err
}

// RemoveAndWait removes a service and waits until it has stopped. It returns ErrTimeout if the
// timeout (0 means none) or the end of the supervisor comes first. Spec.Timeout does not bound it.
func (s *Supervisor) RemoveAndWait(t ServiceToken, timeout time.Duration) error {
	var limit <-chan time.Time
	if timeout > 0 {
		timer := time.NewTimer(timeout)
		defer timer.Stop()
		limit = timer.C
	}

	e, own, err := s.take(t)
	if err != nil || e == nil {
		return err
	}

	select {
	case <-e.gone:
		return nil
	case <-own.Done():
	case <-limit:
	}

	return ErrTimeout
}
