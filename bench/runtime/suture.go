package main

import (
	"context"
	"sync"
	"time"

	"github.com/thejerf/suture/v4"
)

// suture has one_for_one only, and stops its services without an order.

// sutureFunc is a function as a service.
type sutureFunc func(ctx context.Context) error

// Serve calls the function.
func (f sutureFunc) Serve(ctx context.Context) error { return f(ctx) }

// startSuture returns a supervisor that restarts without limit and reports to nobody.
func newSuture() *suture.Supervisor {
	return suture.New("bench", suture.Spec{EventHook: func(suture.Event) {}, FailureThreshold: 1e12,
		FailureBackoff: time.Nanosecond, Timeout: time.Minute})
}

func sutureRestart(byPanic bool) func(m *meter) error {
	return func(m *meter) error {
		starts, die := make(chan struct{}), make(chan struct{})
		s := newSuture()
		s.Add(sutureFunc(func(ctx context.Context) error {
			select {
			case starts <- struct{}{}:
			case <-ctx.Done():
				return ctx.Err()
			}
			select {
			case <-die:
			case <-ctx.Done():
				return ctx.Err()
			}
			if byPanic {
				panic(errCrash)
			}
			return errCrash
		}))
		ctx, cancel := context.WithCancel(context.Background())
		over := s.ServeBackground(ctx)
		<-starts

		m.restarts(die, starts)

		cancel()
		<-over
		return nil
	}
}

// sutureTemporary waits until the service is about to end: suture does not tell when it has ended.
func sutureTemporary(m *meter) error {
	s := newSuture()
	ctx, cancel := context.WithCancel(context.Background())
	over := s.ServeBackground(ctx)

	m.begin()
	for range m.n {
		done := make(chan struct{})
		s.Add(sutureFunc(func(context.Context) error {
			close(done)
			return suture.ErrDoNotRestart
		}))
		<-done
	}
	m.end("", m.n)

	cancel()
	<-over
	return nil
}

func sutureMany(m *meter) error {
	before := heap()
	s := newSuture()
	var up sync.WaitGroup
	up.Add(m.n)
	ctx, cancel := context.WithCancel(context.Background())

	m.begin()
	over := s.ServeBackground(ctx)
	for range m.n {
		s.Add(sutureFunc(func(ctx context.Context) error {
			up.Done()
			<-ctx.Done()
			return ctx.Err()
		}))
	}
	up.Wait()
	m.end("start", m.n)

	m.note("heap", (heap()-before)/float64(m.n))

	m.begin()
	cancel()
	<-over
	m.end("ordered stop", m.n)
	return nil
}
