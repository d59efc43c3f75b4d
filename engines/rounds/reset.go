package rounds

import (
	"context"
	"time"
)

// The rounds of the reset-and-pause app, and its timeout.
const (
	ResetAndPause Name  = "reset_and_pause"
	PeriodEnded   Name  = "finished_reset_and_pause"
	PeriodFailed  Name  = "finished_reset_and_pause_error"
	ResetTimeout  Event = "RESET_AND_PAUSE_TIMEOUT"
)

// resetSlack is how much longer than the pause the round may last.
const resetSlack = 5 * time.Second

// Period says how periods end.
type Period struct {
	Every uint64        // each so many periods the chain is reset; 0: never
	Pause time.Duration // between two periods, in block time
}

// due reports whether entering round next in period n decides on a reset of the chain.
func (p *Period) due(next Name, n uint64) bool {
	return p != nil && next == ResetAndPause && p.Every > 0 && (n+1)%p.Every == 0
}

// PeriodOption is an option of ResetApp.
type PeriodOption func(*Period)

// Every resets the chain each n periods. 0 never does.
func Every(n uint64) PeriodOption { return func(p *Period) { p.Every = n } }

// Pause is the time from the end of one period to the beginning of the next. It should be at least
// ten seconds in production.
func Pause(d time.Duration) PeriodOption { return func(p *Period) { p.Pause = d } }

// ResetApp is the app that ends a period: t agents agree on the number of the period that ended,
// after the pause and, each so many periods, on the new chain. Of the state only what Keep returns
// goes on.
func ResetApp[S any](options ...PeriodOption) Table[S] {
	p := &Period{Pause: 10 * time.Second}
	for _, o := range options {
		o(p)
	}

	return Table[S]{
		Label:    "ResetPauseAbciApp",
		Start:    ResetAndPause,
		Timeouts: Timeouts{ResetTimeout: p.Pause + resetSlack},
		period:   p,
		Rounds: Rows[S]{
			ResetAndPause: {
				Round: Rejoin(Round[S](endPeriod[S]{same[S, uint64]{act: nil, done: func(s S, _ uint64) S {
					return s
				}}})),
				On:    On{Done: PeriodEnded, NoMajority: PeriodFailed, ResetTimeout: PeriodFailed},
				About: "The agents wait for the next period and agree that this one is over.",
			},
			PeriodEnded:  {Round: Final[S]()},
			PeriodFailed: {Round: Final[S]()},
		},
	}
}

// endPeriod is Same over the period's number. Its behaviour needs the node, which controls the
// chain: package behaviours has it.
type endPeriod[S any] struct{ same[S, uint64] }

func (endPeriod[S]) Events() []Event { return []Event{Done, NoMajority} }

func (endPeriod[S]) Admit(_ Poll, _ S, v Vote) error {
	if _, err := Decode[uint64](v.Payload); err != nil {
		return Malformed
	}
	return nil
}

func (r endPeriod[S]) End(p Poll, s S) Outcome[S] {
	out := r.same.End(p, s)
	out.Period = out.Event == Done
	return out
}

// Act is never called: the node ends periods.
func (endPeriod[S]) Act(context.Context, S) ([]byte, error) {
	panic("rounds: the behaviour of reset_and_pause is the node's")
}
