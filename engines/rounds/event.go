package rounds

import "time"

// Name names a round of a table. It consists of the letters a to z and underscores.
type Name string

// Event is the outcome of a round, or a timeout.
type Event string

// The events of the shipped round types. A round of an app may emit others.
const (
	Done       Event = "DONE"
	None       Event = "NONE"        // agreement that there is nothing
	Negative   Event = "NEGATIVE"    // agreement on no
	NoMajority Event = "NO_MAJORITY" // no agreement is possible any more
	Fail       Event = "FAIL"        // the keeper says that it failed
	Timeout    Event = "ROUND_TIMEOUT"
)

// On maps the events of a round to the rounds that follow.
type On map[Event]Name

// Timeouts are the events that fire when a round lasts longer than a duration, in block time.
type Timeouts map[Event]time.Duration
