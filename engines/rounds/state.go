package rounds

import "time"

// State is the whole state of a service's FSM. It is replicated: the same after the same blocks on
// every node. A State is a value; Step changes no State that it was given.
type State[S any] struct {
	App S `json:"app"`

	Round   Name   `json:"round"`
	Count   uint64 `json:"count"`   // of the entry into Round; payloads carry it
	Entries uint64 `json:"entries"` // the highest count so far
	Period  uint64 `json:"period"`  // how often reset-and-pause has ended with Done

	Ballot       Ballots            `json:"ballot"`
	Participants []Agent            `json:"participants,omitempty"` // sorted
	Deadlines    []Deadline         `json:"deadlines,omitempty"`    // earliest first; ties by event
	Armed        bool               `json:"armed"`                  // the deadlines of Round have been set
	Fired        Place              `json:"fired"`                  // the last block in which Advance did something
	Last         Transitions        `json:"last"`                   // of the last block that had one
	Sides        []Side             `json:"sides,omitempty"`        // of the background rounds, by priority
	Inside       int                `json:"inside,omitempty"`       // index+1 of the background round whose app runs
	Interrupted  *Interrupted       `json:"interrupted,omitempty"`
	Offences     map[Agent]Offences `json:"offences,omitempty"`
}

// Place is the place of a block: chains follow one another by epoch, blocks by height.
type Place struct {
	Epoch  uint64 `json:"epoch"`
	Height uint64 `json:"height"`
}

// Transitions are the ends of rounds in one block, in their order. A block has several if a timeout
// fires in it, or if background rounds end.
type Transitions struct {
	Place
	Ended []Ended `json:"ended,omitempty"`
}

// Ballots are what a round has collected since it was entered.
type Ballots struct {
	Votes  []Vote `json:"votes,omitempty"`
	Waited int    `json:"waited,omitempty"`
	Broken bool   `json:"broken,omitempty"` // a function of the app panicked: only a timeout ends the round
}

// Deadline is the block time after which an event fires.
type Deadline struct {
	Event Event     `json:"event"`
	At    time.Time `json:"at"`
}

// Side is a background round in progress.
type Side struct {
	Count  uint64  `json:"count"`
	Ballot Ballots `json:"ballot"`
}

// Interrupted is the round that a background app interrupted.
type Interrupted struct {
	Round     Name       `json:"round"`
	Count     uint64     `json:"count"`
	Ballot    Ballots    `json:"ballot"`
	Deadlines []Deadline `json:"deadlines,omitempty"`
	Since     time.Time  `json:"since"`
}

// Offences counts what an agent did wrong. The counts are never lowered; to punish is the business
// of an app.
type Offences struct {
	Faults      uint64 `json:"faults,omitempty"`       // payloads that prove a fault: early, twice, malformed
	DoubleSigns uint64 `json:"double_signs,omitempty"` // by the agent's validator
	Downtime    uint64 `json:"downtime,omitempty"`     // rounds that ended in a block whose votes lack the validator's
}

// Begin returns the state of a service before its first block. The agents take part from the first
// round on; a registration app replaces them.
func (s *Service[S]) Begin(agents Agents) State[S] {
	st := State[S]{Round: s.start, Count: 1, Entries: 1, Participants: agents.Registered}
	for range s.backgrounds {
		st.Sides = append(st.Sides, Side{Count: 1})
	}
	return st
}

// Deadline returns the earliest armed deadline.
func (st State[S]) Deadline() (Deadline, bool) {
	if len(st.Deadlines) == 0 {
		return Deadline{}, false
	}
	return st.Deadlines[0], true
}
