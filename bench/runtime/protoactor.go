package main

import (
	"io"
	"log/slog"
	"sync"
	"time"

	"github.com/asynkron/protoactor-go/actor"
	"github.com/asynkron/protoactor-go/eventstream"
)

// callLimit is the time limit of a call.
const callLimit = 5 * time.Second

func newActors() *actor.ActorSystem {
	quiet := slog.New(slog.NewTextHandler(io.Discard, &slog.HandlerOptions{Level: slog.LevelError + 1}))
	return actor.NewActorSystem(actor.WithLoggerFactory(func(*actor.ActorSystem) *slog.Logger { return quiet }))
}

// protoRestart has an actor fail by a panic, which is the only way for an actor to fail.
func protoRestart(m *meter) error {
	system := newActors()
	defer system.Shutdown()
	starts := make(chan struct{})
	decide := func(any) actor.Directive { return actor.RestartDirective }
	pid := system.Root.Spawn(actor.PropsFromFunc(func(c actor.Context) {
		switch c.Message().(type) {
		case *actor.Started:
			starts <- struct{}{}
		case int:
			panic(errCrash)
		}
	}, actor.WithGuardian(actor.NewOneForOneStrategy(1<<30, time.Hour, decide))))
	<-starts

	m.begin()
	for range m.n {
		at := time.Now()
		system.Root.Send(pid, 1)
		<-starts
		m.sample(time.Since(at))
	}
	m.end("", m.n)

	system.Root.Stop(pid)
	return nil
}

func protoTemporary(m *meter) error {
	system := newActors()
	defer system.Shutdown()
	done := make(chan struct{}, 1)
	props := actor.PropsFromFunc(func(c actor.Context) {
		switch c.Message().(type) {
		case *actor.Started:
			c.Stop(c.Self())
		case *actor.Stopped:
			done <- struct{}{}
		}
	})

	m.begin()
	for range m.n {
		system.Root.Spawn(props)
		<-done
	}
	m.end("", m.n)
	return nil
}

// protoMany stops the children in reverse order, but does not wait for one before it tells the
// next.
func protoMany(m *meter) error {
	before := heap()
	system := newActors()
	defer system.Shutdown()
	var up, down sync.WaitGroup
	up.Add(m.n)
	down.Add(m.n)
	props := actor.PropsFromFunc(func(c actor.Context) {
		switch c.Message().(type) {
		case *actor.Started:
			up.Done()
		case *actor.Stopped:
			down.Done()
		}
	})
	pids := make([]*actor.PID, 0, m.n)

	m.begin()
	for range m.n {
		pids = append(pids, system.Root.Spawn(props))
	}
	up.Wait()
	m.end("start", m.n)

	m.note("heap", (heap()-before)/float64(m.n))

	m.begin()
	for i := len(pids) - 1; i >= 0; i-- {
		system.Root.Stop(pids[i])
	}
	down.Wait()
	m.end("ordered stop", m.n)
	return nil
}

func protoCall(callers int) func(m *meter) error {
	return func(m *meter) error {
		system := newActors()
		defer system.Shutdown()
		pid := system.Root.Spawn(actor.PropsFromFunc(func(c actor.Context) {
			if n, ok := c.Message().(int); ok {
				c.Respond(n + 1)
			}
		}))

		var failed error
		var mu sync.Mutex
		m.begin()
		inParallel(callers, m.n, func(n int) {
			for i := range n {
				if _, err := system.Root.RequestFuture(pid, i, callLimit).Result(); err != nil {
					mu.Lock()
					failed = err
					mu.Unlock()
				}
			}
		})
		m.end("", m.n)
		return failed
	}
}

func protoCast(senders int) func(m *meter) error {
	return func(m *meter) error {
		system := newActors()
		defer system.Shutdown()
		done, got, want := make(chan struct{}), 0, m.n/senders*senders
		pid := system.Root.Spawn(actor.PropsFromFunc(func(c actor.Context) {
			if n, ok := c.Message().(int); ok {
				if got += n; got == want {
					close(done)
				}
			}
		}))

		m.begin()
		inParallel(senders, m.n, func(n int) {
			for range n {
				system.Root.Send(pid, 1)
			}
		})
		<-done
		m.end("", m.n)
		return nil
	}
}

func protoFanOut(subscribers int) func(m *meter) error {
	return func(m *meter) error {
		system := newActors()
		defer system.Shutdown()
		var read sync.WaitGroup
		bus := eventstream.NewEventStream()
		for range subscribers {
			pid := system.Root.Spawn(actor.PropsFromFunc(func(c actor.Context) {
				if e, ok := c.Message().(event); ok && e.last {
					read.Done()
				}
			}))
			bus.Subscribe(func(e any) { system.Root.Send(pid, e) })
		}

		m.begin()
		for range m.n / window {
			read.Add(subscribers)
			for i := range window {
				bus.Publish(event{last: i == window-1})
			}
			read.Wait()
		}
		m.end("", m.n/window*window*subscribers)
		return nil
	}
}

func protoFilters(m *meter) error {
	system := newActors()
	defer system.Shutdown()
	var read sync.WaitGroup
	bus := eventstream.NewEventStream()
	of := keys()
	for _, key := range of {
		pid := system.Root.Spawn(actor.PropsFromFunc(func(c actor.Context) {
			if _, ok := c.Message().(event); ok {
				read.Done()
			}
		}))
		bus.SubscribeWithPredicate(func(e any) { system.Root.Send(pid, e) },
			func(e any) bool { return e.(event).key == key })
	}

	m.begin()
	for range m.n / window {
		read.Add(window)
		for i := range window {
			bus.Publish(event{key: of[i*7%filters]})
		}
		read.Wait()
	}
	m.end("", m.n/window*window)
	return nil
}
