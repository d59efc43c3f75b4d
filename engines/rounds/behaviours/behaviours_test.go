package behaviours

import (
	"context"
	"errors"
	"math/rand/v2"
	"os"
	"runtime"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/coppice-go/coppice/engines/rounds"
	"github.com/coppice-go/coppice/supervisor"
)

type sum struct {
	Total int `json:"total"`
}

// adding is a service whose agents agree on a number again and again.
func adding(act func(context.Context, sum) (int, error)) *rounds.Service[sum] {
	return rounds.Compose("AddingService", nil, rounds.Table[sum]{
		Label: "AddingAbciApp", Start: "add", Timeouts: rounds.Timeouts{rounds.Timeout: 7 * time.Second},
		Rounds: rounds.Rows[sum]{"add": {Round: rounds.Same(act, func(s sum, n int) sum { return sum{s.Total + n} }),
			On: rounds.On{rounds.Done: "add", rounds.None: "add", rounds.NoMajority: "add", rounds.Timeout: "add"}}}})
}

// agent is the running part of one agent.
type agent struct {
	t   *testing.T
	run *supervisor.Run
}

func run[S any](t *testing.T, c Config[S]) *agent {
	t.Helper()
	s, err := supervisor.New(supervisor.Spec{Name: "test", Observers: []supervisor.Observer{supervisor.Discard},
		Intensity: supervisor.Intensity{Max: 1_000_000, Period: time.Second},
		Build:     supervisor.Children(supervisor.Child{ID: "rounds", Start: Start(c)})})
	require.NoError(t, err)
	r, err := s.Start(context.Background())
	require.NoError(t, err)
	return &agent{t, r}
}

func (a *agent) stop() {
	a.t.Helper()
	require.NoError(a.t, a.run.Stop(context.Background()))
}

// Behaviours fail, panic, end their goroutine and hang, engines are down before and after they take
// a submission, and whole agents are killed: no agent has two payloads of one count in blocks, no
// honest agent is refused for anything but being late, no acknowledged payload is lost, and the
// rounds go on. Item 72.
func TestABehaviourSendsOnceThroughKills(t *testing.T) {
	const n = 4
	most := 200
	if os.Getenv("COPPICE_SOAK") != "" {
		most = 10_000
	}

	synctest.Test(t, func(t *testing.T) {
		var kills, hangs atomic.Int64
		release := make(chan struct{})
		act := func(_ context.Context, s sum) (int, error) {
			switch rand.IntN(20) {
			case 0, 1, 2:
				kills.Add(1)
				return 0, errors.New("no")
			case 3, 4:
				kills.Add(1)
				panic("oh")
			case 5:
				kills.Add(1)
				runtime.Goexit()
			case 6:
				kills.Add(1)
				hangs.Add(1)
				<-release // whatever its context says
			}
			return s.Total % 5, nil
		}

		f := newFake(t, adding(act), n)
		agents := map[rounds.Agent]*agent{}
		for a := range f.keys {
			agents[a] = run(t, f.config(a))
		}

		for kills.Load() < int64(most) {
			<-time.After(50 * time.Millisecond)
			f.mu.Lock()
			f.down += rand.IntN(3)
			f.mu.Unlock()

			for a, running := range agents {
				if rand.IntN(20) == 0 { // the process dies, and what it had accepted stays
					running.stop()
					kills.Add(1)
					agents[a] = run(t, f.config(a))
				}
			}

			<-time.After(50 * time.Millisecond)
			f.block()
		}

		close(release)
		for _, running := range agents {
			running.stop()
		}
		f.block()
		for _, id := range f.acked {
			require.NotNil(t, f.ended[id].Result, "what was acknowledged is in a block")
		}
		for key, times := range f.said {
			require.Equal(t, 1, times, "payloads of %s", key)
		}
		for _, r := range f.refused {
			require.Equal(t, rounds.Late, r.Reason, "%v", r)
		}

		done := 0
		for _, e := range f.events {
			if e == rounds.Done {
				done++
			}
		}
		require.Greater(t, done, most/20, "the rounds go on")
		require.NotZero(t, hangs.Load())
		t.Logf("%d kills, %d hangs, %d blocks, %d events, %d late", kills.Load(), hangs.Load(), f.at.Height,
			len(f.events), len(f.refused))
	})
}

// On a chain without empty blocks the timeout of a round with a silent agent comes at most two
// seconds after its deadline, with at most three blocks, whatever number of nodes submits the tick.
// Between deadlines no block comes. Checklist 71.
func TestATickBringsTheTimeoutOfAnIdleChain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t, adding(func(ctx context.Context, _ sum) (int, error) {
			<-ctx.Done() // silent
			return 0, ctx.Err()
		}), 4)
		ctx, cancel := context.WithCancel(t.Context())
		go f.solo(ctx)
		f.block() // arms the first deadline
		var agents []*agent
		for a := range f.keys {
			agents = append(agents, run(t, f.config(a)))
		}
		agents = append(agents, run(t, f.config(""))) // a node without an agent ticks, too

		for i := range 5 {
			f.mu.Lock()
			deadline, armed := f.st.Deadline()
			height, ticks := f.at.Height, f.ticks
			f.mu.Unlock()
			require.True(t, armed)
			<-time.After(time.Until(deadline.At))
			synctest.Wait()

			f.mu.Lock()
			require.Equal(t, height, f.at.Height, "no block before the deadline")
			f.mu.Unlock()
			<-time.After(2 * time.Second)
			synctest.Wait()

			f.mu.Lock()
			require.Len(t, f.events, i+1)
			require.LessOrEqual(t, f.at.Height, height+3)
			require.Equal(t, ticks+1, f.ticks, "all nodes submit the same bytes")
			f.mu.Unlock()
		}

		cancel()
		for _, running := range agents {
			running.stop()
		}
	})
}

// A round that counts blocks gets them on a chain that makes none by itself.
func TestATickConfirmsARoundThatCountsBlocks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		service := rounds.Compose("CountingService", nil, rounds.Table[sum]{Label: "CountingAbciApp", Start: "count",
			Rounds: rounds.Rows[sum]{
				"count": {Round: rounds.Different(2, func(context.Context, sum) (int, error) { return 1, nil },
					func(s sum, said []rounds.Said[int]) sum { return sum{len(said)} }),
					On: rounds.On{rounds.Done: "over"}},
				"over": {Round: rounds.Final[sum]()},
			}})
		f := newFake(t, service, 4)
		ctx, cancel := context.WithCancel(t.Context())
		go f.solo(ctx)
		var agents []*agent
		for a := range f.keys {
			agents = append(agents, run(t, f.config(a)))
		}

		<-time.After(2 * time.Second)
		synctest.Wait()
		f.mu.Lock()
		require.Equal(t, rounds.Name("over"), f.st.Round)
		height := f.at.Height
		f.mu.Unlock()
		<-time.After(time.Minute)
		f.mu.Lock()
		require.Equal(t, height, f.at.Height, "a service that waits for nothing is idle")
		f.mu.Unlock()

		cancel()
		for _, running := range agents {
			running.stop()
		}
	})
}

// A payload that no block took in time is sent again, and a keeper's round asks its keeper only.
func TestAnExpiredPayloadIsSentAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var acts atomic.Int64
		service := rounds.Compose("KeepingService", nil, rounds.Table[sum]{Label: "KeepingAbciApp", Start: "keep",
			Rounds: rounds.Rows[sum]{
				"keep": {Round: rounds.Keeper(func(sum) rounds.Agent { return "agent2" },
					func(context.Context, sum) (int, error) { return int(acts.Add(1)), nil },
					func(_ sum, n int) sum { return sum{n} }),
					On: rounds.On{rounds.Done: "kept", rounds.Fail: "keep"}},
				"kept": {Round: rounds.Final[sum]()},
			}})
		f := newFake(t, service, 4)
		var agents []*agent
		for a := range f.keys {
			agents = append(agents, run(t, f.config(a)))
		}

		synctest.Wait()
		require.EqualValues(t, 1, acts.Load(), "only the keeper acts")
		<-time.After(time.Hour)
		f.block() // the first payload has expired
		<-time.After(time.Second)
		f.block()
		require.Equal(t, rounds.Name("kept"), f.st.Round)
		require.Equal(t, 2, f.st.App.Total)
		for _, running := range agents {
			running.stop()
		}
	})
}

// The node ends a period: its agent says the number of the period after the pause.
func TestTheEndOfAPeriodWaitsForThePause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		reset := rounds.ResetApp[sum](rounds.Pause(30 * time.Second))
		service := rounds.Compose("PausingService", rounds.Links{rounds.PeriodEnded: "add", rounds.PeriodFailed: "add",
			"added": rounds.ResetAndPause}, rounds.Table[sum]{Label: "AddingAbciApp", Start: "add",
			Rounds: rounds.Rows[sum]{
				"add": {Round: rounds.Same(func(context.Context, sum) (int, error) { return 1, nil },
					func(s sum, n int) sum { return s }),
					On: rounds.On{rounds.Done: "added", rounds.None: "add", rounds.NoMajority: "add"}},
				"added": {Round: rounds.Final[sum]()},
			}}, reset)
		f := newFake(t, service, 4)
		ctx, cancel := context.WithCancel(t.Context())
		go f.solo(ctx)
		var agents []*agent
		for a := range f.keys {
			agents = append(agents, run(t, f.config(a)))
		}

		period := func() uint64 {
			synctest.Wait()
			f.mu.Lock()
			defer f.mu.Unlock()
			return f.st.Period
		}
		<-time.After(29 * time.Second)
		require.Zero(t, period())
		<-time.After(2 * time.Second)
		require.EqualValues(t, 1, period())
		<-time.After(30 * time.Second)
		require.EqualValues(t, 2, period())

		cancel()
		for _, running := range agents {
			running.stop()
		}
	})
}
