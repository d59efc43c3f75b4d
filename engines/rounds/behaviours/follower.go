package behaviours

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/coppice-go/coppice/engines"
	"github.com/coppice-go/coppice/engines/chain"
	"github.com/coppice-go/coppice/engines/rounds"
	"github.com/coppice-go/coppice/supervisor"
)

// follower follows the FSM, and starts and cancels the behaviours of the agent.
type follower[S any] struct {
	Config[S]
	behaviours *supervisor.Dynamic[rounds.Turn[S]]

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
	for {
		st, at, err := f.Chain.State(ctx)
		if err == nil && at.Started() {
			if err = f.reconcile(ctx, st); err == nil {
				err = f.tick(ctx, st, at)
			}
		}
		if err == nil {
			err = f.next(ctx, at)
		}

		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err != nil && !errors.Is(err, engines.ErrDown) {
			return err
		}
		if err != nil {
			if err := pause(ctx, pauseDown); err != nil {
				return err
			}
		}
	}
}

// next waits for the next block, or until a tick is due. Injected faults strike meanwhile.
func (f *follower[S]) next(ctx context.Context, at chain.State) error {
	wait := lookAgain
	if due := f.ticks.due; !due.IsZero() {
		wait = min(wait, max(due.Sub(f.Now()), time.Millisecond))
	}

	limit, cancel := context.WithTimeout(ctx, wait)
	defer cancel()

	done := make(chan error, 1)
	go func() { done <- f.Chain.Next(limit, at) }()

	select {
	case err := <-done:
		if limit.Err() != nil && ctx.Err() == nil {
			return nil
		}
		return err
	case fault := <-supervisor.Faults(ctx):
		cancel()
		<-done
		fault.Do(ctx)
		return nil
	}
}

// pause waits for d, and meanwhile obeys injected faults.
func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()

	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case f := <-supervisor.Faults(ctx):
			f.Do(ctx)
		case <-timer.C:
			return nil
		}
	}
}

// reconcile starts a behaviour for each turn that has none, and cancels those whose turn is over.
func (f *follower[S]) reconcile(ctx context.Context, st rounds.State[S]) error {
	if f.Agent == "" {
		return nil
	}

	now := map[string]bool{}
	turns := f.Machine.Turns(st, f.Agent)
	for _, t := range turns {
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
			continue // it was cancelled when its round was interrupted, and has not ended yet
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
