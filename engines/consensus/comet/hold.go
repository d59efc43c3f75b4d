package comet

import (
	"cmp"
	"time"

	"github.com/coppice-go/coppice/engines/chain"
	"github.com/coppice-go/coppice/engines/consensus"
)

// Steps of a reset, in the order in which they are durable.
const (
	stepDecided     = 1 // F is committed
	stepHeld        = 3 // F+1 is committed
	stepCertified   = 4
	stepProcessDead = 5
	stepEnded       = 6 // the log knows that the chain has ended
	stepRenewed     = 8 // the data is removed, and the genesis replaced
	stepProcess     = 9
	stepStarted     = 10 // the log knows that the next epoch has begun
	stepOrdered     = 11
)

// stepTexts say what a step has brought.
var stepTexts = map[int]string{
	stepDecided:     "the decision is committed, and the block after it is awaited",
	stepHeld:        "the block after the decision is committed, and the certificate is awaited",
	stepCertified:   "the certificate is written, and CometBFT is stopped",
	stepProcessDead: "CometBFT has stopped, and the chain is ended in the log",
	stepEnded:       "the chain has ended in the log, and CometBFT's blocks are removed",
	stepRenewed:     "CometBFT's genesis is that of the next epoch, and CometBFT is started",
	stepProcess:     "CometBFT runs, and the start of the next epoch is awaited",
	stepStarted:     "the next epoch has started, and its first block is awaited",
	stepOrdered:     "the first block of the next epoch is decided, and its commit is awaited",
}

// resets notes the reset that the state holds, if there is one, and what the state says about how
// far it has come.
func (h *health) resets(s chain.State) {
	h.mu.Lock()
	defer h.mu.Unlock()

	r := s.Reset
	if r == nil {
		h.hold = consensus.ResetHold{}
		return
	}
	if h.hold.Height != r.Height {
		h.hold = consensus.ResetHold{Epoch: r.Epoch, Height: r.Height, Since: h.now()}
	}

	switch {
	case !s.InHold():
		h.steps(stepStarted)
	case s.Height > r.Height:
		h.steps(stepHeld)
	default:
		h.steps(stepDecided)
	}
}

// step notes that a step of the reset has been made.
func (h *health) step(n int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.steps(n)
}

// steps is step for callers that hold h.mu. A step that is repeated after a crash changes nothing.
func (h *health) steps(n int) {
	if h.hold.Height > 0 && n > h.hold.Step {
		h.hold.Step, h.hold.Text = n, stepTexts[n]
	}
}

// holdFor returns how long a hold may last before the node says that it is long: half of the pause
// between two periods, but at least holdMost.
func (h *health) holdFor() time.Duration { return max(holdMost, h.pause/2) }

// holding adds the hold to a condition. A long one makes a node not ready.
func (h *health) holding(c *consensus.Condition) {
	if h.hold.Height == 0 {
		return
	}

	hold := h.hold
	since := h.now().Sub(hold.Since)
	hold.Long = since >= h.holdFor()
	c.Hold = &hold

	if hold.Long && c.State == consensus.Ready {
		c.Is(consensus.Starting, "the chain is in hold for %v, since the decision on a reset at height %d of epoch "+
			"%d: %s", since.Round(time.Second), hold.Height, hold.Epoch, cmp.Or(hold.Text, "the reset is made"))
	}
}
