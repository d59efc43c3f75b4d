package rounds_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/coppice-go/coppice/engines/rounds"
)

// A service describes its rounds as composed, and tells by the deadlines when a round began.
func TestInfosAndEntered(t *testing.T) {
	s := rounds.Compose("Service", rounds.Links{rounds.PeriodEnded: rounds.ResetAndPause},
		rounds.ResetApp[int](rounds.Pause(30*time.Second))).
		Beside(rounds.Termination[int](nil, nil))
	require.Equal(t, map[rounds.Name]rounds.Info{
		rounds.ResetAndPause: {Name: rounds.ResetAndPause,
			Description: "The agents wait for the next period and agree that this one is over.",
			Transitions: map[rounds.Event]rounds.Name{rounds.Done: rounds.ResetAndPause,
				rounds.NoMajority: rounds.PeriodFailed, rounds.ResetTimeout: rounds.PeriodFailed}},
		rounds.PeriodFailed: {Name: rounds.PeriodFailed, Transitions: map[rounds.Event]rounds.Name{}},
		rounds.Terminated: {Name: rounds.Terminated, Description: "The service has ended.",
			Transitions: map[rounds.Event]rounds.Name{}},
	}, s.Infos())

	agents, err := rounds.NewAgents(0, "anna")
	require.NoError(t, err)
	m, at := rounds.Machine[int]{Service: s, Agents: agents}, time.Unix(1000, 0)
	st := s.Begin(agents)
	_, known := s.Entered(st)
	require.False(t, known)

	st, _ = m.Step(st, rounds.Block{Place: rounds.Place{Height: 1}, Time: at})
	st, _ = m.Step(st, rounds.Block{Place: rounds.Place{Height: 2}, Time: at.Add(time.Second)})
	entered, known := s.Entered(st)
	require.True(t, known)
	require.Equal(t, at, entered)
}
