package rounds

import "context"

// Terminated is the last round of a service that has ended.
const Terminated Name = "terminated"

// Termination is the background round that ends a service. when is the behaviour: it waits until
// the service should end, and returns the reason. When t agents have given the same reason, the
// current round is left for good.
func Termination[S any](when func(context.Context, S) (reason string, err error),
	done func(S, string) S) Background[S] {
	return Background[S]{
		Label: "TerminationAbciApp",
		Kind:  Terminating,
		Round: Rejoin(Same(when, done)),
		On:    Done,
		App: &Table[S]{
			Label:  "TerminatedAbciApp",
			Start:  Terminated,
			Rounds: Rows[S]{Terminated: {Round: Final[S](), About: "The service has ended."}},
		},
	}
}
