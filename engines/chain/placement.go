package chain

import "time"

// Placement is a transaction's place: its version, and the time of the block that it stands in.
type Placement struct {
	Version Version
	Time    time.Time
}
