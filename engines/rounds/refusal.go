package rounds

import "fmt"

// Reason says why a payload was refused. Each Reason is an error.
type Reason string

// The reasons.
const (
	Late      Reason = "late"       // of a count that is over; no offence
	Early     Reason = "early"      // of a count that has not begun
	Stranger  Reason = "stranger"   // the agent is not accepted in this round
	Spoken    Reason = "spoken"     // the agent has spoken in this round
	NotKeeper Reason = "not keeper" // only the keeper speaks in this round
	Differs   Reason = "differs"    // unlike the first payload of a round that wants them equal
	Broken    Reason = "broken"     // a function of the app has panicked in this round
	Malformed Reason = "malformed"  // no payload of the round's type in its canonical form
)

func (r Reason) Error() string { return string(r) }

// proves reports whether the reason proves a fault of the agent that signed the payload. An honest
// agent can be late, or hear of a transition later than others, but cannot sign ahead of the chain,
// speak twice or sign what does not decode.
func (r Reason) proves() bool { return r == Early || r == Spoken || r == Malformed }

// Refusal is a payload that did not count.
type Refusal struct {
	Payload Payload
	Reason  Reason
}

func (r Refusal) String() string {
	return fmt.Sprintf("payload of %s for %s, count %d: %s", r.Payload.Agent, r.Payload.Label,
		r.Payload.Count, r.Reason)
}
