package readiness

import (
	"time"

	"github.com/coppice-go/coppice/engines/chain"
	"github.com/coppice-go/coppice/engines/consensus"
)

// clockWrong is the difference between two clocks from which on a warning says so. A block is made
// and carried in less.
const clockWrong = 10 * time.Second

// clock adds to c what the node's clock is worth: the time of the last block is ahead of it, or the
// validators' clocks differ from it. A clock behind is a warning, because block time decides what
// is valid, and does not go back. A clock that is a window ahead makes the node refuse what the
// other nodes take, so the node is not able.
func clock(c *consensus.Condition, s chain.State, now time.Time) {
	behind := -c.ClockOffset
	if s.Started() && s.Height > 0 {
		behind = max(behind, s.Time.Sub(now))
	}

	window := time.Duration(s.Params.GetWindowNs())

	switch ahead := c.ClockOffset; {
	case behind >= clockWrong && c.State != consensus.ClockBehind: // the consensus has not said it already
		c.Warn(consensus.ClockBehind, "this node's clock is %v behind the time of the last block: set the clock, "+
			"or, if the clock is right, wait: block time stands still until the clocks have caught up (NTP; "+
			"docs/operating.md, Clocks)", round(behind))
	case ahead >= clockWrong && window > 0 && ahead >= window && c.State == consensus.Ready:
		c.Is(consensus.ClockAhead, "this node's clock is %v ahead of the other validators' clocks, more than the "+
			"%v for "+
			"which a transaction may be valid: it refuses what they take; set the clock (NTP)", round(ahead), window)
	case ahead >= clockWrong:
		c.Warn(consensus.ClockAhead, "this node's clock is %v ahead of the other validators' clocks: set the "+
			"clock (NTP)",
			round(ahead))
	}
}

// round rounds a difference so that its text changes rarely.
func round(d time.Duration) time.Duration {
	switch {
	case d >= 10*time.Minute:
		return d.Round(time.Minute)
	case d >= time.Minute:
		return d.Round(10 * time.Second)
	}
	return d.Round(5 * time.Second)
}
