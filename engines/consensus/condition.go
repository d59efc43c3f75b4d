package consensus

import (
	"fmt"
	"slices"
	"time"
)

// Readiness names what a node is able to do at the moment, or what keeps it from being able. Only a
// node that is Ready takes transactions and sees them committed.
type Readiness string

// The values of Readiness. A driver reports those of its consensus. The node reports Starting,
// Stopping, Down, Held, DiskFull and the clock's.
const (
	Ready              Readiness = "ready"
	Starting           Readiness = "starting"             // a part has not started yet
	Stopping           Readiness = "stopping"             // the node was told to stop
	Down               Readiness = "down"                 // a part has ended, and is started again
	ConsensusDown      Readiness = "consensus_down"       // the consensus does not run, or does not answer
	WaitingForGenesis  Readiness = "waiting_for_genesis"  // the genesis time lies ahead
	WaitingForSnapshot Readiness = "waiting_for_snapshot" // no peer offers the snapshot to begin with
	WrongGenesis       Readiness = "wrong_genesis"        // the peers have another chain
	PrunedPeers        Readiness = "pruned_peers"         // no peer has kept the next block
	CatchingUp         Readiness = "catching_up"          // the peers have blocks that are not here yet
	NoQuorum           Readiness = "no_quorum"            // too few validators are present
	Halted             Readiness = "halted"               // the consensus has stopped, and does not go on by itself
	SigningRefused     Readiness = "signing_refused"      // this validator does not sign
	DiskFull           Readiness = "disk_full"
	Held               Readiness = "held"         // a gate makes a block wait for sinks
	ClockAhead         Readiness = "clock_ahead"  // this node's clock is ahead of the validators'
	ClockBehind        Readiness = "clock_behind" // this node's clock is behind the time of the last block
	DoubleSign         Readiness = "double_sign"  // there is evidence against this validator
)

// ReadinessStates returns all values of Readiness, Ready first.
func ReadinessStates() []Readiness {
	return []Readiness{Ready, Starting, Stopping, Down, ConsensusDown, WaitingForGenesis, WaitingForSnapshot,
		WrongGenesis, PrunedPeers, CatchingUp, NoQuorum, Halted, SigningRefused, DiskFull, Held, ClockAhead,
		ClockBehind, DoubleSign}
}

// Condition is what a node, or its driver, says about its ability at one moment.
type Condition struct {
	State  Readiness
	Reason string    // in one line: what is wrong, by how much, and where; empty if State is Ready
	Since  time.Time // when State was entered

	// Warnings are what an operator should know although the node is able, such as a clock that is
	// wrong by seconds.
	Warnings []Warning

	// Process is the newest change of the consensus's own process; nil if it has none.
	Process *Process

	Figures
}

// Process is what a driver does with the process of its consensus: it starts, restarts and resets
// it.
type Process struct {
	State            string // of what does so, in the words of the kind
	Text             string // the newest change, or what was found out
	At, Since        time.Time
	Restarts, Resets int // that nobody asked for, and that succeeded
}

// Warning is a reason for concern that does not decide whether a node is ready.
type Warning struct {
	State  Readiness // the state that it warns of
	Reason string
}

// Figures are the numbers behind a Condition. A consensus without peers leaves them zero.
type Figures struct {
	Height      uint64 // of the last committed block
	PeersHeight uint64 // the highest height that a peer has committed, as far as it is known
	CatchingUp  bool   // blocks or a snapshot are fetched

	PeersConnected  int
	PeersConfigured int // peers that this node always tries to reach

	PowerPresent int64    // voting power of the validators that were heard from at this height or the one before
	PowerTotal   int64    // voting power of all validators
	Missing      []string // validators that were not heard from

	Signing  Signing
	Evidence uint64 // proofs of misbehaviour against this validator, in blocks since the process started

	// Hold is the reset of the chain that is under way; nil if there is none.
	Hold *ResetHold

	// ClockOffset is this node's clock minus the validators' clocks, as the votes for a block show
	// them; 0 if it is not known.
	ClockOffset time.Duration
}

// ResetHold describes a reset of a chain, from the commit of the decision to the first block of the
// next epoch. In this time no block changes the state.
type ResetHold struct {
	Epoch  uint64 // that ends
	Height uint64 // of the block that decided the reset
	Since  time.Time
	Step   int    // the last step of the reset that is durable, of HoldSteps
	Text   string // what that step has brought, and what comes next
	Long   bool   // it takes longer than it should
}

// HoldSteps is the number of steps of a reset.
const HoldSteps = 12

// String returns the hold in one line, for people.
func (h ResetHold) String() string {
	return fmt.Sprintf("reset of epoch %d, decided at height %d: step %d of %d, %s", h.Epoch, h.Height, h.Step,
		HoldSteps, h.Text)
}

// Signing says whether this node's key signs blocks.
type Signing string

// The values of Signing.
const (
	NotSigning Signing = ""        // the node is no validator, or has no consensus with votes
	Signs      Signing = "signing" // its vote is in the last commit, or it is alone
	MissesSome Signing = "missing" // it is a validator, and its vote is not in the last commit
	SignRefuse Signing = "refused" // its key refuses to sign
)

// Conditioned is a Driver that says whether its consensus is able. A node whose driver is not
// Conditioned is ready when all of its tree runs.
type Conditioned interface {
	Driver

	// Condition returns the present condition. It never waits, and is safe for concurrent use.
	Condition() Condition
}

// Able reports whether the node is ready.
func (c Condition) Able() bool { return c.State == Ready }

// Behind returns how many blocks the peers are ahead.
func (c Condition) Behind() uint64 { return max(c.PeersHeight, c.Height) - c.Height }

// Like reports whether two conditions have the same state, warn of the same states, and are about
// the same reset.
func (c Condition) Like(o Condition) bool {
	var a, b ResetHold
	if c.Hold != nil {
		a = *c.Hold
	}
	if o.Hold != nil {
		b = *o.Hold
	}

	same := a.Height == b.Height && a.Long == b.Long && c.State == o.State
	return same && slices.EqualFunc(c.Warnings, o.Warnings, func(a, b Warning) bool { return a.State == b.State })
}

// Same reports whether two conditions say the same, apart from the figures.
func (c Condition) Same(o Condition) bool {
	return c.State == o.State && c.Reason == o.Reason && slices.Equal(c.Warnings, o.Warnings)
}

// String returns the condition in one line, for people.
func (c Condition) String() string {
	if c.Reason == "" {
		return string(c.State)
	}
	return fmt.Sprintf("%s: %s", c.State, c.Reason)
}

// Warn adds a warning.
func (c *Condition) Warn(state Readiness, format string, args ...any) {
	c.Warnings = append(c.Warnings[:len(c.Warnings):len(c.Warnings)],
		Warning{State: state, Reason: fmt.Sprintf(format, args...)})
}

// Is sets the state and the reason.
func (c *Condition) Is(state Readiness, format string, args ...any) {
	c.State, c.Reason = state, fmt.Sprintf(format, args...)
}
