// Command lunch is a service of three rounds, with which docs/tutorial-rounds.md ends:
// each agent proposes a place, the agents settle on one, and vote whether to go.
//
//	go run ./examples/lunch rounds check
//	go run ./examples/lunch testnet start -n 4 --dir /tmp/lunch
package main

import (
	"context"
	"os"
	"time"

	"github.com/coppice-go/coppice/cmd/coppice/command"
	"github.com/coppice-go/coppice/engines/rounds"
)

// Lunch is the state of the service.
type Lunch struct {
	Proposals map[rounds.Agent]string `json:"proposals,omitempty"`
	Place     string                  `json:"place,omitempty"` // that the agents have settled on
	Lunches   []string                `json:"lunches,omitempty"`
}

// The rounds of the app.
const (
	propose rounds.Name = "propose"
	settle  rounds.Name = "settle"
	confirm rounds.Name = "confirm"
	decided rounds.Name = "decided"
)

// App returns the table. choose is where an agent would like to go.
func App(choose func(context.Context) (string, error)) rounds.Table[Lunch] {
	return rounds.Table[Lunch]{
		Label:    "LunchAbciApp",
		Start:    propose,
		Timeouts: rounds.Timeouts{rounds.Timeout: 10 * time.Second},
		Keep:     func(l Lunch) Lunch { return Lunch{Lunches: l.Lunches} },
		Rounds: rounds.Rows[Lunch]{
			propose: {
				Round: rounds.Different(1,
					func(ctx context.Context, _ Lunch) (string, error) { return choose(ctx) }, proposed),
				On: rounds.On{rounds.Done: settle, rounds.Timeout: propose},
			},
			settle: {
				Round: rounds.Same(favourite, settled),
				On: rounds.On{rounds.Done: confirm, rounds.None: propose, rounds.NoMajority: propose,
					rounds.Timeout: propose},
			},
			confirm: {
				Round: rounds.Voting(vote, voted),
				On: rounds.On{rounds.Done: decided, rounds.Negative: propose, rounds.None: propose,
					rounds.NoMajority: propose, rounds.Timeout: propose},
			},
			decided: {Round: rounds.Final[Lunch]()},
		},
	}
}

// proposed is the end of propose.
func proposed(l Lunch, said []rounds.Said[string]) Lunch {
	l.Proposals = map[rounds.Agent]string{}
	for _, s := range said {
		if !s.Empty {
			l.Proposals[s.Agent] = s.Value
		}
	}
	return l
}

// favourite is the behaviour of settle: the place that most agents have proposed, and of equals the
// first in the alphabet, because all agents must say the same.
func favourite(_ context.Context, l Lunch) (best string, err error) {
	votes := map[string]int{}
	for _, p := range l.Proposals {
		votes[p]++
	}
	for p, n := range votes {
		if n > votes[best] || n == votes[best] && p < best {
			best = p
		}
	}
	return best, nil
}

// settled is the end of settle.
func settled(l Lunch, place string) Lunch {
	l.Place = place
	return l
}

// vote is the behaviour of confirm.
func vote(_ context.Context, l Lunch) (rounds.Ballot, error) {
	if l.Place == "" {
		return rounds.No, nil
	}
	return rounds.Yes, nil
}

// voted is the end of confirm, for each of its events.
func voted(l Lunch, e rounds.Event) Lunch {
	if e == rounds.Done {
		l.Lunches = append(l.Lunches, l.Place)
	}
	return l
}

// Service returns the app between registration and reset.
func Service(choose func(context.Context) (string, error)) *rounds.Service[Lunch] {
	return rounds.Compose("LunchService",
		rounds.Links{
			rounds.Registered:   propose,
			decided:             rounds.ResetAndPause,
			rounds.PeriodEnded:  propose,
			rounds.PeriodFailed: rounds.Registration,
		},
		rounds.RegistrationApp[Lunch]("lunch, version 1"),
		App(choose),
		rounds.ResetApp[Lunch](rounds.Pause(10*time.Second)))
}

func main() {
	canteen := func(context.Context) (string, error) { return "canteen", nil }
	os.Exit(command.Main(command.Program{Rounds: command.RoundsOf(Service(canteen))}))
}
