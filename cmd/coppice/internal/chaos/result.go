package chaos

import (
	"fmt"
	"sync"
	"time"

	"github.com/coppice-go/coppice/cmd/coppice/internal/register"
)

// Rule names what must hold.
type Rule string

// The rules. An error of Run is not a violation: it says that the rules could not be checked.
const (
	NoFork       Rule = "no fork"             // one block and one app hash at each height, none left out
	NothingLost  Rule = "nothing lost"        // every node has each acknowledged transaction
	NothingTwice Rule = "nothing twice"       // each acknowledged transaction was applied only once
	Standing     Rule = "no quorum, no block" // without a quorum there is no new height
	Silent       Rule = "watchdogs silent"    // without a quorum no watchdog restarts CometBFT
	Onward       Rule = "on within the bound" // a new height soon after the quorum is back, on every node
	Linear       Rule = "linearizable"        // the history of each register is linearizable
	Verified     Rule = "verified"            // 'coppice verify' accepts the homes of the stopped nodes
	// no forbidden answer or line of output from a node, and no node that ends by itself
	Orderly Rule = "nothing unexpected"
)

// Violation is a rule that did not hold.
type Violation struct {
	At   time.Duration
	Rule Rule
	What string
}

func (v Violation) String() string {
	return fmt.Sprintf("%v: %s: %s", v.At.Round(time.Millisecond), v.Rule, v.What)
}

// Episode is the outcome of an episode.
type Episode struct {
	N       int
	Trouble Trouble
	Nodes   []int
	Began   time.Duration // since the run began
	Lasted  time.Duration
	Blows   int           // that hit
	Back    time.Duration // from the end of the trouble to a new height on a quorum of nodes
	Height  uint64
	Bad     int // violations so far
}

// Result is the outcome of a run.
type Result struct {
	Dir      string
	Elapsed  time.Duration
	Episodes int
	Troubles map[string]int
	Engines  map[string]int // kills of engines, by path and way
	Comets   int            // kills of CometBFT's process, by SIGKILL
	Nodes    int            // kills of whole nodes, by SIGKILL
	Missed   int            // blows that hit nothing, because the target was down already
	Slowest  time.Duration  // longest from a quorum's return to a new height
	Standing time.Duration  // how long troubles kept the quorum away, in all

	Acknowledged int
	Unknown      int // submissions without an answer at the end
	Lost, Twice  int

	Heights  int // that were seen
	Compared int // how often a height was seen that had been seen before
	NoQuorum int // how often a watchdog reported a missing quorum
	Restarts int // of CometBFT by watchdogs, for other reasons
	GaveUp   int // nodes that gave up for lack of restarts, in a profile that allows that

	Register   register.Verdict
	Violations []Violation
	Load       float64 // the system's load average at the end, or 0 if it is not known
}

// EngineKills returns how many children of trees were killed.
func (r Result) EngineKills() (n int) {
	for _, k := range r.Engines {
		n += k
	}
	return n
}

// Bad reports whether a rule did not hold.
func (r Result) Bad() bool { return len(r.Violations) > 0 }

// mostOfOne bounds how many violations of one rule are kept, because one fault may break a rule a
// thousand times.
const mostOfOne = 10

// court collects violations. It is safe for concurrent use.
type court struct {
	begin time.Time

	mu    sync.Mutex
	found []Violation
	count map[Rule]int
}

func newCourt(begin time.Time) *court { return &court{begin: begin, count: make(map[Rule]int)} }

// charge records a violation of r.
func (c *court) charge(r Rule, format string, args ...any) {
	c.mu.Lock()
	defer c.mu.Unlock()

	if c.count[r]++; c.count[r] <= mostOfOne {
		c.found = append(c.found, Violation{time.Since(c.begin), r, fmt.Sprintf(format, args...)})
	}
}

// all returns the violations so far.
func (c *court) all() []Violation {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.found[:len(c.found):len(c.found)]
}
