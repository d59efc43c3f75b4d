package rounds

import (
	"context"
	"strings"
)

// The rounds of the registration app.
const (
	RegistrationStartup Name = "registration_startup"
	Registration        Name = "registration"
	Registered          Name = "finished_registration"
)

// registrationWait is the number of blocks that a later registration stays open after t agents have
// agreed, so that the others can join.
const registrationWait = 10

// RegistrationApp is the app in which the agents agree on who takes part. In the first registration
// all registered agents must say the same. In a later one t of them suffice; it stays open for ten
// more blocks, and all who have spoken by then take part, also those who said something else.
//
// agreed is what all must have alike, such as a digest of a configuration.
func RegistrationApp[S any](agreed ...string) Table[S] {
	say := act[S, string](func(context.Context, S) (string, error) { return strings.Join(agreed, "\n"), nil })
	return Table[S]{
		Label: "AgentRegistrationAbciApp",
		Start: RegistrationStartup,
		Also:  []Name{Registration},
		Rounds: Rows[S]{
			RegistrationStartup: {Round: Rejoin(Round[S](register[S]{act: say, all: true})), On: On{Done: Registered},
				About: "All registered agents agree on their configuration."},
			Registration: {Round: Rejoin(Round[S](register[S]{act: say})),
				On:    On{Done: Registered, NoMajority: Registration},
				About: "The agents agree again on who takes part."},
			Registered: {Round: Final[S]()},
		},
	}
}

type register[S any] struct {
	act[S, string]
	all bool
}

func (r register[S]) Events() []Event {
	if r.all {
		return []Event{Done}
	}
	return []Event{Done, NoMajority}
}

func (r register[S]) Admit(p Poll, s S, v Vote) error {
	if r.all {
		return sameUntilAll[S, string]{}.Admit(p, s, v)
	}
	return wellFormed[string](v.Payload)
}

func (r register[S]) End(p Poll, s S) Outcome[S] {
	_, votes := p.Largest()

	switch {
	case r.all && p.MaySpeak() > 0:
		return Outcome[S]{}
	case !r.all && outOfReach(p, votes):
		return Outcome[S]{Event: NoMajority, State: s}
	case !r.all && votes < p.Agents.Threshold:
		return Outcome[S]{}
	case !r.all && p.Waited < registrationWait:
		return Outcome[S]{Waited: p.Waited + 1}
	}

	var spoke []Agent
	for _, v := range p.Votes {
		spoke = append(spoke, v.Agent)
	}
	return Outcome[S]{Event: Done, State: s, Participants: spoke}
}
