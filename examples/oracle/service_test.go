package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/coppice-go/coppice/engines/rounds"
	"github.com/coppice-go/coppice/engines/rounds/roundstest"
)

// TestMain runs the program itself where a test executes "oracle", and the programs of measured.
func TestMain(m *testing.M) {
	programs := map[string]func(){"oracle": main}
	maps.Copy(programs, measured)
	testscript.Main(leakless{m}, programs)
}

// leakless are tests that fail if they leave a goroutine behind.
type leakless struct{ *testing.M }

func (l leakless) Run() int {
	code := l.M.Run()
	if err := goleak.Find(); code == 0 && err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return code
}

// series are the reports that were published, by number - 1.
type series struct {
	t       testing.TB
	reports []Report
	again   int // how often a report was published once more
}

// take is a Sink. It fails the test unless the numbers come one after the other, and the same
// report with the same number.
func (s *series) take(_ context.Context, r Report) error {
	s.t.Helper()
	if n := uint64(len(s.reports)); r.Number <= n {
		require.Equal(s.t, s.reports[r.Number-1], r, "a report has one content")
		s.again++
		return nil
	}

	require.EqualValues(s.t, len(s.reports)+1, r.Number)
	s.reports = append(s.reports, r)
	return nil
}

// requireMedian requires the lower median, without the code that is tested.
func requireMedian(t testing.TB, r Report) {
	t.Helper()
	below, upTo := 0, 0
	for _, p := range r.Prices {
		if p < r.Cents {
			below++
		}
		if p <= r.Cents {
			upTo++
		}
	}

	middle := (len(r.Prices) - 1) / 2
	require.True(t, below <= middle && middle < upTo, "%d is not the median of %v", r.Cents, r.Prices)
}

// simulated plays the service: three agents see the same price, and the fourth a false one.
func simulated(t testing.TB, o roundstest.Options) *series {
	t.Helper()
	s := &series{t: t}
	source := func(ctx context.Context, number uint64) (int64, error) {
		if roundstest.AgentOf(ctx) == "agent3" {
			return int64(number) * 1_000_000, nil
		}
		return int64(number) * 100, nil
	}

	r := roundstest.Run(t, Service(Config{source, s.take}, 5*time.Second), o)
	require.GreaterOrEqual(t, uint64(len(s.reports)), r.State.App.Last.Number)
	require.LessOrEqual(t, uint64(len(s.reports)), r.State.App.Last.Number+1, "one may not be confirmed yet")
	return s
}

// Kills of agents, losses, delays and one false price change no report: they are those of a run in
// which nothing happens. Checklist 83.
func TestKillsAndLossesChangeNoReport(t *testing.T) {
	const blocks = 300
	calm := simulated(t, roundstest.Options{Seed: 1, Blocks: blocks})
	require.Greater(t, len(calm.reports), 20)
	require.Zero(t, calm.again)

	again := 0
	for seed := range uint64(20) {
		s := simulated(t, roundstest.Options{Seed: seed + 1, Blocks: blocks, Delay: 3, Loss: 0.1, Kills: 0.2, Down: 4})
		require.Greater(t, len(s.reports), 5, "seed %d", seed+1)
		for i, r := range s.reports {
			require.Equal(t, calm.reports[i].Cents, r.Cents, "seed %d, report %d", seed+1, r.Number)
			requireMedian(t, r)
		}
		again += s.again
	}
	require.NotZero(t, again, "no keeper was killed between its publication and its payload")
}

// A keeper whose sink fails is passed over until the report is published.
func TestAKeeperThatFailsIsPassedOver(t *testing.T) {
	s := &series{t: t}
	failed := 0
	c := Config{
		Source: func(_ context.Context, number uint64) (int64, error) { return int64(number), nil },
		Sink: func(ctx context.Context, r Report) error {
			if a := roundstest.AgentOf(ctx); a == "agent0" || a == "agent1" {
				failed++
				return errors.New("no disk")
			}
			return s.take(ctx, r)
		},
	}

	roundstest.Run(t, Service(c, 5*time.Second), roundstest.Options{Seed: 2, Blocks: 600})
	require.NotZero(t, failed)
	require.Greater(t, len(s.reports), 10)
}

func TestTheServiceHasNoFault(t *testing.T) { require.Empty(t, Service(Config{}, pause).Check()) }

func TestMedian(t *testing.T) {
	for _, c := range []struct {
		prices []int64
		want   int64
	}{
		{[]int64{5}, 5},
		{[]int64{9, 1}, 1},
		{[]int64{9, 1, 5}, 5},
		{[]int64{8, 2, 9, 1}, 2},
		{[]int64{7, 1 << 62, 7, 7}, 7},
		{[]int64{-1 << 63, 7, 8}, 7},
	} {
		o := Oracle{Prices: map[rounds.Agent]int64{}}
		for i, p := range c.prices {
			o.Prices[rounds.Agent(fmt.Sprint(i))] = p
		}
		got, err := median(t.Context(), o)
		require.NoError(t, err)
		require.Equal(t, c.want, got, "%v", c.prices)
	}

	_, err := median(t.Context(), Oracle{})
	require.ErrorContains(t, err, "no agent has said a price")
}

// An agent that says nothing in its payload has no price, which would be zero.
func TestAnEmptyPayloadIsNoPrice(t *testing.T) {
	o := keepPrices(Oracle{Last: Report{Number: 3}, Tried: []rounds.Agent{"a"}},
		[]rounds.Said[int64]{{Agent: "a", Value: 5}, {Agent: "b", Empty: true}})
	require.Equal(t, Oracle{Last: Report{Number: 3}, Prices: map[rounds.Agent]int64{"a": 5}}, o)
}
