package main

import (
	"context"
	"errors"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coppice-go/coppice/engines"
	"github.com/coppice-go/coppice/engines/router"
	"github.com/coppice-go/coppice/pubsub"
	"github.com/coppice-go/coppice/supervisor"
)

// endless is a limit that no row reaches.
var endless = supervisor.Intensity{Max: 1 << 40, Period: time.Second}

// tree starts a tree whose failures go to an observer that ignores them.
func tree(spec supervisor.Spec) (*supervisor.Run, error) {
	spec.Observers = []supervisor.Observer{supervisor.Discard}
	s, err := supervisor.New(spec)
	if err != nil {
		return nil, err
	}
	return s.Start(context.Background())
}

// serving returns the start of a child that runs f.
func serving(f func(ctx context.Context) error) supervisor.StartFunc {
	return func(context.Context) (supervisor.Service, error) { return supervisor.ServiceFunc(f), nil }
}

func waits(ctx context.Context) error {
	<-ctx.Done()
	return nil
}

func oursRestart(byPanic bool) func(m *meter) error {
	return func(m *meter) error {
		starts, die := make(chan struct{}), make(chan struct{})
		run, err := tree(supervisor.Spec{Intensity: endless, Build: supervisor.Children(
			supervisor.Child{ID: "a", Start: serving(func(ctx context.Context) error {
				select {
				case starts <- struct{}{}:
				case <-ctx.Done():
					return nil
				}
				select {
				case <-die:
				case <-ctx.Done():
					return nil
				}
				if byPanic {
					panic(errCrash)
				}
				return errCrash
			})})})
		if err != nil {
			return err
		}
		<-starts

		m.restarts(die, starts)
		return run.Stop(context.Background())
	}
}

// crashes returns a life that tells its start, and fails when it is told to.
func crashes(starts chan<- struct{}, die <-chan struct{}) func(ctx context.Context) error {
	return func(ctx context.Context) error {
		select {
		case starts <- struct{}{}:
		case <-ctx.Done():
			return nil
		}
		select {
		case <-die:
			return errCrash
		case <-ctx.Done():
			return nil
		}
	}
}

func oursGroup(m *meter) error {
	starts, die := make(chan struct{}), make(chan struct{})
	list := make([]supervisor.Child, groupSize)
	for i := range list {
		list[i] = supervisor.Child{ID: strconv.Itoa(i), Start: serving(waits)}
	}
	list[groupSize-1].Start = serving(crashes(starts, die))

	run, err := tree(supervisor.Spec{Strategy: supervisor.OneForAll, Intensity: endless,
		Build: supervisor.Children(list...)})
	if err != nil {
		return err
	}
	<-starts

	m.begin()
	for range m.n {
		die <- struct{}{}
		<-starts
	}
	m.end("", m.n)
	return run.Stop(context.Background())
}

func oursTemporary(m *meter) error {
	d, err := supervisor.NewDynamic(supervisor.DynamicSpec[int]{Restart: supervisor.Temporary,
		Start: func(context.Context, int) (supervisor.Service, error) {
			return supervisor.ServiceFunc(func(context.Context) error { return nil }), nil
		}})
	if err != nil {
		return err
	}
	run, err := tree(supervisor.Spec{Build: supervisor.Children(supervisor.Child{ID: "d",
		Start: func(context.Context) (supervisor.Service, error) { return d, nil }})})
	if err != nil {
		return err
	}

	m.begin()
	for range m.n {
		ref, err := d.StartChild(context.Background(), "", 1)
		if err != nil {
			return err
		}
		<-supervisor.Monitor(ref)
	}
	m.end("", m.n)
	return run.Stop(context.Background())
}

func oursMany(m *meter) error {
	before := heap()
	m.begin()
	run, err := tree(supervisor.Spec{Build: func(context.Context) ([]supervisor.Child, error) {
		list := make([]supervisor.Child, m.n)
		for i := range list {
			list[i] = supervisor.Child{ID: strconv.Itoa(i), Start: serving(waits)}
		}
		return list, nil
	}})
	if err != nil {
		return err
	}
	m.end("start", m.n)

	m.note("heap", (heap()-before)/float64(m.n))

	m.begin()
	err = run.Stop(context.Background())
	m.end("ordered stop", m.n)
	return err
}

// ask is a call, and add is a cast.
type (
	ask int
	add int
)

// Answer makes ask a query.
func (ask) Answer(int) {}

// engine runs f with an engine, which sets sum to what it was sent once it has got want.
func engine(want int, f func(to engines.Address, done <-chan struct{}) error) error {
	dir, done, sum := router.NewDirectory(), make(chan struct{}), 0
	run, err := tree(supervisor.Spec{Build: supervisor.Children(
		supervisor.Child{ID: router.Name, Start: router.Child(dir)},
		supervisor.Child{ID: "a", Start: engines.Spec{Name: "a", Mailbox: window,
			Init: func(_ context.Context, s *engines.Server) error {
				engines.OnCall(s, func(_ context.Context, n ask, from engines.From[int]) error {
					from.Reply(int(n) + 1)
					return nil
				})
				engines.OnCast(s, func(_ context.Context, n add) error {
					if sum += int(n); sum == want {
						close(done)
					}
					return nil
				})
				return nil
			}}.Start(dir)})})
	if err != nil {
		return err
	}

	err = f(engines.NewAddress(dir, "a"), done)
	return errors.Join(err, run.Stop(context.Background()))
}

func oursCall(callers int) func(m *meter) error {
	return func(m *meter) error {
		return engine(0, func(to engines.Address, _ <-chan struct{}) error {
			var failed atomic.Pointer[error]
			m.begin()
			inParallel(callers, m.n, func(n int) {
				for i := range n {
					if _, err := limitedCall(to, ask(i)); err != nil {
						why := err // of its own, so that a good call allocates nothing for it
						failed.Store(&why)
						return
					}
				}
			})
			m.end("", m.n)

			if err := failed.Load(); err != nil {
				return *err
			}
			return nil
		})
	}
}

func oursCast(senders int) func(m *meter) error {
	return func(m *meter) error {
		return engine(m.n/senders*senders, func(to engines.Address, done <-chan struct{}) error {
			var failed atomic.Pointer[error]
			m.begin()
			inParallel(senders, m.n, func(n int) {
				for range n {
					if err := engines.Cast(context.Background(), to, add(1)); err != nil {
						why := err // of its own, so that a good call allocates nothing for it
						failed.Store(&why)
						return
					}
				}
			})
			if err := failed.Load(); err != nil {
				return *err
			}
			<-done
			m.end("", m.n)
			return nil
		})
	}
}

var byKey = pubsub.Equal("key", func(e event) string { return e.key })

// bus runs f with a bus that is up.
func bus(f func(b *pubsub.Bus[event]) error) error {
	b, err := pubsub.New[event](pubsub.Options{Mailbox: window})
	if err != nil {
		return err
	}
	run, err := tree(b.Spec())
	if err != nil {
		return err
	}
	if err := b.WaitUp(context.Background()); err != nil {
		return err
	}
	return errors.Join(f(b), run.Stop(context.Background()))
}

// listen subscribes and calls f for each event.
func listen(b *pubsub.Bus[event], chain pubsub.Chain[event], f func(e event)) (*pubsub.Subscription[event], error) {
	s, err := b.Subscribe(context.Background(), chain, pubsub.Disconnect{Buffer: window})
	if err != nil {
		return nil, err
	}
	go func() {
		for e, err := range s.All(context.Background()) {
			if err != nil {
				return
			}
			f(e)
		}
	}()
	return s, nil
}

func oursFanOut(subscribers int) func(m *meter) error {
	return func(m *meter) error {
		return bus(func(b *pubsub.Bus[event]) error {
			var read sync.WaitGroup
			for range subscribers {
				s, err := listen(b, nil, func(e event) {
					if e.last {
						read.Done()
					}
				})
				if err != nil {
					return err
				}
				defer s.Close()
			}

			m.begin()
			for range m.n / window {
				read.Add(subscribers)
				for i := range window {
					if err := b.Publish(event{last: i == window-1}); err != nil {
						return err
					}
				}
				read.Wait()
			}
			m.end("", m.n/window*window*subscribers)
			return nil
		})
	}
}

func oursFilters(m *meter) error {
	return bus(func(b *pubsub.Bus[event]) error {
		var read sync.WaitGroup
		of := keys()
		for _, key := range of {
			s, err := listen(b, pubsub.Chain[event]{byKey.Is(key)}, func(event) { read.Done() })
			if err != nil {
				return err
			}
			defer s.Close()
		}

		m.begin()
		for range m.n / window {
			read.Add(window)
			for i := range window {
				if err := b.Publish(event{key: of[i*7%filters]}); err != nil {
					return err
				}
			}
			read.Wait()
		}
		m.end("", m.n/window*window)
		return nil
	})
}
