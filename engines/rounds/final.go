package rounds

type final[S any] struct{}

// Final is the end of an app: it accepts nothing and never ends. Compose links it to the start of
// another app.
func Final[S any]() Round[S] { return final[S]{} }

func (final[S]) Events() []Event { return nil }

func (final[S]) Admit(Poll, S, Vote) error { return Late }

func (final[S]) End(Poll, S) Outcome[S] { return Outcome[S]{} }

func isFinal[S any](r Round[S]) bool {
	_, ok := r.(final[S])
	return ok
}

type rejoin[S any] struct{ Round[S] }

// Rejoin marks a round that accepts every registered agent, also those that are no participants:
// registration, and reset-and-pause.
func Rejoin[S any](r Round[S]) Round[S] { return rejoin[S]{r} }

// kind returns the round inside the marks, and whether it is marked Rejoin.
func kind[S any](r Round[S]) (inner Round[S], rejoins bool) {
	if m, ok := r.(rejoin[S]); ok {
		return m.Round, true
	}
	return r, false
}
