package behaviours

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/coppice-go/coppice/engines"
	"github.com/coppice-go/coppice/engines/rounds"
	"github.com/coppice-go/coppice/supervisor"
)

// follower follows the FSM, and starts and cancels the behaviours of the agent.
type follower[S any] struct {
	Config[S]
	behaviours *supervisor.Dynamic[rounds.Turn[S]]
	news       *bell // rung when there may be a new state

	begun map[string]bool // the behaviours that were started, and whose turn is not over
	ticks ticks
}

// String names the service in reports.
func (*follower[S]) String() string { return "follower of the rounds" }

const (
	pauseDown = 20 * time.Millisecond // between two calls of engines that are down
	lookAgain = time.Second           // at the latest
)

// Serve follows the FSM until ctx ends.
func (f *follower[S]) Serve(ctx context.Context) error {
	news := make(chan struct{}, 1)
	if err := supervisor.Go(ctx, func(ctx context.Context) error {
		return f.Chain.Follow(ctx, func() {
			select {
			case news <- struct{}{}:
			default:
			}
		})
	}); err != nil {
		return err
	}

	for {
		wait, err := f.step(ctx)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if errors.Is(err, engines.ErrDown) {
			wait, err = pauseDown, nil
		}
		if err != nil {
			return err
		}

		timer := time.NewTimer(wait)
		select {
		case <-news:
		case <-timer.C:
		case fault := <-supervisor.Faults(ctx):
			fault.Do(ctx)
		case <-ctx.Done():
		}
		timer.Stop()
	}
}

// step does what the state asks for, and returns after what time to look again without news.
func (f *follower[S]) step(ctx context.Context) (wait time.Duration, err error) {
	st, at, err := f.Chain.State(ctx)
	if err != nil {
		return 0, err
	}
	if !at.Started() {
		return pauseDown, nil
	}

	if err := f.reconcile(ctx, st); err != nil {
		return 0, err
	}
	f.news.ring()
	if err := f.tick(ctx, st, at); err != nil {
		return 0, err
	}

	if f.ticks.due.IsZero() {
		return lookAgain, nil
	}
	return min(lookAgain, max(f.ticks.due.Sub(f.Now()), time.Millisecond)), nil
}

// reconcile starts a behaviour for each turn that has none, and cancels those whose turn is over.
// The behaviour of a round that is interrupted goes on: it has its result, or still waits where it
// waited, when the round goes on.
func (f *follower[S]) reconcile(ctx context.Context, st rounds.State[S]) error {
	if f.Agent == "" {
		return nil
	}

	now := map[string]bool{}
	turns := f.Machine.Turns(st, f.Agent)
	for _, t := range turns {
		now[childID(t)] = true
	}
	if t, suspended := f.Machine.Suspended(st, f.Agent); suspended {
		now[childID(t)] = true
	}

	for id := range f.begun {
		if !now[id] {
			f.cancel(ctx, id)
			delete(f.begun, id)
		}
	}

	for _, t := range turns {
		id := childID(t)
		if f.begun[id] {
			continue
		}

		_, err := f.behaviours.StartChild(ctx, id, t)
		if errors.As(err, new(*supervisor.AlreadyStartedError)) || errors.Is(err, supervisor.ErrAlreadyPresent) {
			continue // an earlier follower has started it, or it was cancelled and has not ended yet
		}
		if err != nil {
			return fmt.Errorf("behaviour %s: %w", id, err)
		}
		f.begun[id] = true
	}

	return nil
}

// cancel tells a behaviour to end, and does not wait for it: one that ignores it must not hold up
// the next round.
func (f *follower[S]) cancel(ctx context.Context, id string) {
	ctx, cancel := context.WithTimeout(ctx, time.Millisecond)
	defer cancel()
	_ = f.behaviours.TerminateChild(ctx, id) // it may have ended by itself
}

func childID[S any](t rounds.Turn[S]) string { return fmt.Sprintf("%s-%d", t.Name, t.Count) }
