package behaviours

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/coppice-go/coppice/engines/rounds"
)

// interrupted is a service whose round "add" can be interrupted: the agents say yes to start a
// pause once begin has a value for each of them, and yes to end it once end has one.
func interrupted(act func(context.Context, sum) (int, error), begin, end <-chan struct{},
	more ...rounds.Background[sum],
) *rounds.Service[sum] {
	yes := func(when <-chan struct{}) func(context.Context, sum) (rounds.Ballot, error) {
		return func(ctx context.Context, _ sum) (rounds.Ballot, error) {
			select {
			case <-when:
				return rounds.Yes, nil
			case <-ctx.Done():
				return "", ctx.Err()
			}
		}
	}

	return adding(act).Beside(append(more, rounds.Background[sum]{
		Label: "Pause", Kind: rounds.Normal, On: rounds.Done, Round: rounds.Voting(yes(begin), nil),
		App: &rounds.Table[sum]{Label: "PauseAbciApp", Start: "paused", Rounds: rounds.Rows[sum]{
			"paused": {Round: rounds.Voting(yes(end), nil), On: rounds.On{rounds.Done: "unpaused",
				rounds.Negative: "paused", rounds.None: "paused", rounds.NoMajority: "paused"}},
			"unpaused": {Round: rounds.Final[sum]()},
		}},
	})...)
}

// agents starts an agent for each key of the fake, on a chain that makes a block for each
// submission. The returned function stops them and the chain.
func agents[S any](t *testing.T, f *fake[S]) (stop func()) {
	ctx, cancel := context.WithCancel(t.Context())
	go f.solo(ctx)
	var all []*agent
	for a := range f.keys {
		all = append(all, run(t, f.config(a)))
	}
	return func() {
		cancel()
		for _, a := range all {
			a.stop()
		}
	}
}

func (f *fake[S]) state() rounds.State[S] {
	synctest.Wait()
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.st
}

func signal(to chan struct{}, n int) {
	for range n {
		to <- struct{}{}
	}
}

// When a normal background round interrupts the current one, its behaviours are not cancelled: one
// that waits goes on to wait, what one has meanwhile is sent when the round goes on, and the round
// goes on with its count and its votes. Item 70.
func TestABehaviourGoesOnWhereItWaited(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const n = 4
		begin, end, answer := make(chan struct{}), make(chan struct{}), make(chan struct{})
		var acts, cancelled atomic.Int64
		f := newFake(t, interrupted(func(ctx context.Context, s sum) (int, error) {
			if s.Total > 0 {
				<-ctx.Done()
				return 0, ctx.Err()
			}
			acts.Add(1)
			select { // a client that answers after a while
			case <-answer:
				return 7, nil
			case <-ctx.Done():
				cancelled.Add(1)
				return 0, ctx.Err()
			}
		}, begin, end), n)
		f.block()
		stop := agents(t, f)
		defer stop()

		<-time.After(time.Second)
		require.EqualValues(t, n, acts.Load())
		signal(answer, 1)
		<-time.After(time.Second)
		require.Len(t, f.state().Ballot.Votes, 1)

		signal(begin, 3)
		<-time.After(time.Second)
		st := f.state()
		require.EqualValues(t, "paused", st.Round)
		require.Len(t, st.Interrupted.Ballot.Votes, 1)
		signal(answer, 1)
		<-time.After(time.Hour) // longer than the round's timeout, and than a transaction is valid
		require.Len(t, f.state().Interrupted.Ballot.Votes, 1, "the second answer is not sent meanwhile")
		require.Zero(t, cancelled.Load())

		signal(end, 4)
		<-time.After(time.Second)
		st = f.state()
		require.EqualValues(t, "add", st.Round)
		require.EqualValues(t, 1, st.Count)
		require.Len(t, st.Ballot.Votes, 2, "it is sent now")
		require.EqualValues(t, n, acts.Load(), "no behaviour was started again")

		signal(answer, 1)
		<-time.After(time.Second)
		st = f.state()
		require.Equal(t, 7, st.App.Total)
		require.EqualValues(t, 3, st.Count, "the count goes on behind that of the pause")
		require.Empty(t, f.refused)
	})
}

// When the service ends, nothing goes on: a terminating background round cancels the behaviours,
// also those of a round that is interrupted. Item 70.
func TestATerminationCancelsAnInterruptedBehaviour(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		begin, terminate := make(chan struct{}), make(chan struct{})
		var cancelled atomic.Int64
		over := rounds.Termination(func(ctx context.Context, _ sum) (string, error) {
			select {
			case <-terminate:
				return "over", nil
			case <-ctx.Done():
				return "", ctx.Err()
			}
		}, func(s sum, _ string) sum { return s })
		f := newFake(t, interrupted(func(ctx context.Context, _ sum) (int, error) {
			<-ctx.Done()
			cancelled.Add(1)
			return 0, ctx.Err()
		}, begin, nil, over), 4)
		f.block()
		stop := agents(t, f)
		defer stop()

		<-time.After(time.Second)
		signal(begin, 3)
		<-time.After(time.Second)
		require.EqualValues(t, "paused", f.state().Round)
		require.Zero(t, cancelled.Load())

		signal(terminate, 3)
		<-time.After(time.Second)
		st := f.state()
		require.Equal(t, rounds.Terminated, st.Round)
		require.Nil(t, st.Interrupted)
		<-time.After(2 * time.Second)
		synctest.Wait()
		require.EqualValues(t, 4, cancelled.Load())
	})
}

// The pause between two periods is as long as it was when it is interrupted: the agents wait for
// the end that has moved. Item 70.
func TestAnInterruptedPauseIsAsLong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		begin, end := make(chan struct{}), make(chan struct{})
		inner := interrupted(func(context.Context, sum) (int, error) { return 1, nil }, begin, end)
		service := rounds.Compose("PausingService", rounds.Links{rounds.PeriodEnded: rounds.ResetAndPause,
			rounds.PeriodFailed: rounds.ResetAndPause}, rounds.ResetApp[sum](rounds.Pause(30*time.Second))).
			Beside(inner.Backgrounds()...)
		f := newFake(t, service, 4)
		f.block()
		stop := agents(t, f)
		defer stop()

		<-time.After(20 * time.Second)
		signal(begin, 3)
		<-time.After(time.Minute)
		signal(end, 4)
		<-time.After(9 * time.Second)
		require.Zero(t, f.state().Period)
		<-time.After(2 * time.Second)
		require.EqualValues(t, 1, f.state().Period)
	})
}
