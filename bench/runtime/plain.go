package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
)

// The limits: what goroutines and channels cost that do the same by hand, with no bookkeeping.

var errCrash = errors.New("crash")

// plainRestart restarts one goroutine for each of its ends.
func plainRestart(byPanic bool) func(m *meter) error {
	return func(m *meter) error {
		starts, die, exits := make(chan struct{}), make(chan struct{}), make(chan error)
		child := func() {
			var err error
			defer func() {
				if v := recover(); v != nil {
					err = fmt.Errorf("panic: %v", v)
				}
				exits <- err
			}()
			starts <- struct{}{}
			if _, ok := <-die; !ok {
				return
			}
			if byPanic {
				panic(errCrash)
			}
			err = errCrash
		}

		var over sync.WaitGroup
		over.Go(func() {
			go child()
			for err := range exits {
				if err == nil {
					return
				}
				go child()
			}
		})
		<-starts

		m.restarts(die, starts)

		close(die)
		over.Wait()
		return nil
	}
}

// hand is a child of the rows B and D: it ends when its context does.
type hand struct {
	cancel context.CancelFunc
	done   chan struct{}
}

// startHand starts a child and waits until it runs.
func startHand() hand {
	ctx, cancel := context.WithCancel(context.Background())
	h := hand{cancel, make(chan struct{})}
	up := make(chan struct{})
	go func() {
		defer close(h.done)
		close(up)
		<-ctx.Done()
	}()
	<-up
	return h
}

func (h hand) stop() {
	h.cancel()
	<-h.done
}

// plainGroup stops a group in reverse order, one after the other, and starts it again.
func plainGroup(m *meter) error {
	group := make([]hand, groupSize)
	for i := range group {
		group[i] = startHand()
	}

	m.begin()
	for range m.n {
		for i := len(group) - 1; i >= 0; i-- {
			group[i].stop()
		}
		for i := range group {
			group[i] = startHand()
		}
	}
	m.end("", m.n)

	for _, h := range group {
		h.stop()
	}
	return nil
}

func plainTemporary(m *meter) error {
	m.begin()
	for range m.n {
		ctx, cancel := context.WithCancel(context.Background())
		up, done := make(chan struct{}), make(chan struct{})
		go func() {
			defer close(done)
			defer cancel()
			close(up)
			_ = ctx.Err()
		}()
		<-up
		<-done
	}
	m.end("", m.n)
	return nil
}

func plainMany(m *meter) error {
	before := heap()
	list := make([]hand, 0, m.n)

	m.begin()
	for range m.n {
		list = append(list, startHand())
	}
	m.end("start", m.n)

	m.note("heap", (heap()-before)/float64(m.n))

	m.begin()
	for i := len(list) - 1; i >= 0; i-- {
		list[i].stop()
	}
	m.end("ordered stop", m.n)
	return nil
}

// request is a call of a goroutine.
type request struct {
	n     int
	reply chan int
}

func plainCall(callers int) func(m *meter) error {
	return func(m *meter) error {
		in := make(chan request, window)
		go func() {
			for q := range in {
				q.reply <- q.n + 1
			}
		}()

		m.begin()
		inParallel(callers, m.n, func(n int) {
			reply := make(chan int, 1)
			for i := range n {
				in <- request{i, reply}
				<-reply
			}
		})
		m.end("", m.n)

		close(in)
		return nil
	}
}

func plainCast(senders int) func(m *meter) error {
	return func(m *meter) error {
		in, done := make(chan int, window), make(chan struct{})
		var sum atomic.Int64
		go func() {
			defer close(done)
			got := 0
			for n := range in {
				got += n
			}
			sum.Store(int64(got))
		}()

		m.begin()
		inParallel(senders, m.n, func(n int) {
			for range n {
				in <- 1
			}
		})
		close(in)
		<-done
		m.end("", m.n)

		if int(sum.Load()) != m.n/senders*senders {
			return fmt.Errorf("%d of %d messages came", sum.Load(), m.n)
		}
		return nil
	}
}

// inParallel shares n operations among so many goroutines.
func inParallel(goroutines, n int, f func(n int)) {
	var all sync.WaitGroup
	for range goroutines {
		all.Go(func() { f(n / goroutines) })
	}
	all.Wait()
}

// event is an event of row F.
type event struct {
	key  string
	last bool // of its window
}

func keys() []string {
	list := make([]string, filters)
	for i := range list {
		list[i] = "key-" + strconv.Itoa(i)
	}
	return list
}

func plainFanOut(subscribers int) func(m *meter) error {
	return func(m *meter) error {
		var read sync.WaitGroup
		outs := make([]chan event, subscribers)
		for i := range outs {
			outs[i] = make(chan event, window)
			go func() {
				for e := range outs[i] {
					if e.last {
						read.Done()
					}
				}
			}()
		}

		m.begin()
		for range m.n / window {
			read.Add(subscribers)
			for i := range window {
				for _, out := range outs {
					out <- event{last: i == window-1}
				}
			}
			read.Wait()
		}
		m.end("", m.n/window*window*subscribers)

		for _, out := range outs {
			close(out)
		}
		return nil
	}
}

// plainFilters asks each of the filters about each event.
func plainFilters(m *meter) error {
	var read sync.WaitGroup
	of := keys()
	outs := make([]chan event, filters)
	for i := range outs {
		outs[i] = make(chan event, window)
		go func() {
			for range outs[i] {
				read.Done()
			}
		}()
	}

	m.begin()
	for range m.n / window {
		read.Add(window)
		for i := range window {
			e := event{key: of[i*7%filters]}
			for at, key := range of {
				if key == e.key {
					outs[at] <- e
				}
			}
		}
		read.Wait()
	}
	m.end("", m.n/window*window)

	for _, out := range outs {
		close(out)
	}
	return nil
}
