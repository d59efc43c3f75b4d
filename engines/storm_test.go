package engines_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/coppice-go/coppice/engines"
	"github.com/coppice-go/coppice/engines/router"
	"github.com/coppice-go/coppice/supervisor"
	"github.com/coppice-go/coppice/supervisor/suptest"
)

// Calls, casts and posts of every kind, between engines and from outside, meet kills, restarts and
// a stop of the whole at any moment of one another. Each returns, and the stop ends: in a bubble, a
// wait for ever is a failure at once. COPPICE_STORMS sets the number of seeds.
func TestNothingWaitsForEverInAStorm(t *testing.T) {
	suptest.EachSeed(t, "COPPICE_STORMS", 100, storm)
}

func storm(t *testing.T, seed uint64) {
	own, dir := rand.New(rand.NewPCG(seed, 0)), router.NewDirectory()
	children := []supervisor.Child{{ID: router.Name, Start: router.Child(dir)}}
	for _, name := range stormy {
		children = append(children, supervisor.Child{ID: name, Start: whimsical(name, 1+own.IntN(3)).Start(dir)})
	}

	strategy := supervisor.Strategy(own.IntN(3))
	suptest.Run(t, supervisor.Spec{
		Strategy: strategy, Intensity: supervisor.Intensity{Max: own.IntN(100), Period: time.Hour},
		Build: supervisor.Children(children...),
	}, func(t *testing.T, run *supervisor.Run, _ *suptest.Recorder) {
		var callers sync.WaitGroup
		for i := range uint64(4) {
			callers.Go(func() {
				c := caller{rand.New(rand.NewPCG(seed, 1+i)), dir, run, strategy}
				for range 15 {
					c.yields()
					c.act(t.Context())
				}
			})
		}

		pause(own.IntN(200))
		if own.IntN(4) == 0 {
			callers.Wait()
		}
		_ = run.Stop(t.Context()) // the error of a run that gave up before
		callers.Wait()
	})
}

var stormy = []string{"a", "b", "c"}

// delayed is a call whose answer comes from another goroutine, after a while.
type delayed struct{ yields int }

func (delayed) Answer(struct{}) {}

// again is a cast that an engine posts to itself some more times.
type again struct{ times int }

func whimsical(name string, mailbox int) engines.Spec {
	return engines.Spec{Name: name, Mailbox: mailbox, Init: func(ctx context.Context, s *engines.Server) error {
		engines.OnCall(s, func(ctx context.Context, q delayed, from engines.From[struct{}]) error {
			return supervisor.Go(ctx, func(context.Context) error {
				pause(q.yields)
				from.Reply(struct{}{})
				return nil
			})
		})
		engines.OnCast(s, func(_ context.Context, m again) error {
			if m.times > 0 {
				s.Post(again{m.times - 1})
			}
			return nil
		})
		return takeAskAndTell(ctx, s)
	}}
}

func pause(yields int) {
	for range yields {
		runtime.Gosched()
	}
}

// caller does one thing after the other, outside of engines.
type caller struct {
	*rand.Rand
	dir      *router.Directory
	run      *supervisor.Run
	strategy supervisor.Strategy
}

func (c caller) yields() { pause(c.IntN(20)) }

func (c caller) address() engines.Address {
	return engines.NewAddress(c.dir, stormy[c.IntN(len(stormy))]).With(engines.Patience(c.IntN(3)))
}

func (c caller) act(ctx context.Context) {
	switch c.IntN(12) {
	case 0:
		_ = c.run.Kill(stormy[c.IntN(len(stormy))], errWhim)
	case 1:
		if c.strategy != supervisor.OneForOne && c.IntN(4) == 0 { // the engines are to start with it
			_ = c.run.Kill(router.Name, errWhim)
		}
	case 2:
		if c.strategy != supervisor.OneForOne { // a group that waits for a child to start would be left down
			return
		}
		name := stormy[c.IntN(len(stormy))]
		_ = c.run.TerminateChild(ctx, name)
		for failed := new(supervisor.StartError); ; { // a kill may end its start, and callers wait for it
			if _, err := c.run.RestartChild(ctx, name); !errors.As(err, &failed) {
				break
			}
		}
	default:
		_ = c.message(2)(ctx)
	}
}

var errWhim = errors.New("on a whim")

// message returns a function that sends a message. What its handler does is chosen now, and may be
// to send a message, so many times in a row.
func (c caller) message(depth int) func(context.Context) error {
	to, limit, yields := c.address(), time.Duration(1+c.IntN(3))*time.Millisecond, c.IntN(20)
	do := c.whim(depth)

	switch c.IntN(7) {
	case 0:
		return func(ctx context.Context) error { return engines.Cast(ctx, to, again{yields % 4}) }
	case 1:
		return func(ctx context.Context) error {
			return engines.Cast(ctx, to, tell{func(ctx context.Context) { _ = do(ctx) }})
		}
	case 2:
		return func(ctx context.Context) error { _, err := engines.Call(ctx, to, delayed{yields}); return err }
	case 3:
		return func(ctx context.Context) error { _, err := engines.CallFor(ctx, limit, to, ask{do}); return err }
	case 4:
		return func(ctx context.Context) error {
			ctx, cancel := context.WithTimeout(ctx, limit)
			defer cancel()
			_, err := engines.Call(ctx, to, ask{do})
			return err
		}
	case 5:
		return func(ctx context.Context) error {
			ctx, cancel := context.WithCancel(ctx)
			defer cancel()
			var canceller sync.WaitGroup
			defer canceller.Wait()
			canceller.Go(func() { pause(yields); cancel() })
			_, err := engines.Call(ctx, to, ask{do})
			return err
		}
	}
	return func(ctx context.Context) error { _, err := engines.Call(ctx, to, ask{do}); return err }
}

// whim returns what a handler does.
func (c caller) whim(depth int) func(context.Context) error {
	yields, d := c.IntN(20), time.Duration(c.IntN(3))*time.Millisecond
	switch n := c.IntN(10); {
	case n == 0:
		return func(context.Context) error { panic(errWhim) }
	case n == 1:
		return func(ctx context.Context) error { return engines.Pause(ctx, d) }
	case n < 6 && depth > 0:
		return c.message(depth - 1)
	}
	return func(context.Context) error { pause(yields); return nil }
}
