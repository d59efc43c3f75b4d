package chaos

import (
	"fmt"
	"sync"
	"time"

	"github.com/coppice-go/coppice/cmd/coppice/internal/register"
)

// Rule names what must hold.
type Rule string

// The rules. An error that a run returns is none of these: it could not be held against them.
const (
	NoFork       Rule = "no fork"             // one block and one app hash at each height, none left out
	NothingLost  Rule = "nothing lost"        // what was acknowledged is there, on every node
	NothingTwice Rule = "nothing twice"       // and has its effect once
	Standing     Rule = "no quorum, no block" // without a quorum no height comes
	Silent       Rule = "watchdogs silent"    // and no watchdog restarts CometBFT for it
	Onward       Rule = "on within the bound" // a new height soon after the quorum is back, and every node comes along
	Linear       Rule = "linearizable"        // the history of the registers
	Verified     Rule = "verified"            // the stopped homes
	// no answer that no node may give, no data race, no node that ends by itself
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

// Episode is what an episode came to.
type Episode struct {
	N       int
	Trouble Trouble
	Nodes   []int
	Began   time.Duration // since the begin of the run
	Lasted  time.Duration
	Blows   int           // that fell
	Back    time.Duration // from the end of the trouble to a new height on a quorum of nodes
	Height  uint64
	Bad     int // violations so far
}

// Result is the whole of it.
type Result struct {
	Dir      string
	Elapsed  time.Duration
	Episodes int
	Troubles map[string]int
	Engines  map[string]int // kills of engines, by path and way
	Comets   int            // kills of CometBFT's process, by SIGKILL
	Nodes    int            // kills of whole nodes, by SIGKILL
	Missed   int            // blows that met nobody: what was to be killed was down already
	Slowest  time.Duration  // longest from a quorum's return to a new height
	Standing time.Duration  // how long there was no quorum by our doing, in all

	Acknowledged int
	Unknown      int // submissions without an answer at the end
	Lost, Twice  int

	Heights  int // that were seen
	Compared int // sights of a height that another was held against
	NoQuorum int // times that a watchdog told of a missing quorum
	Restarts int // of CometBFT by watchdogs, for reasons of their own
	GaveUp   int // nodes whose tree ran out of restarts, where the limits are not raised for it

	Register   register.Verdict
	Violations []Violation
	Load       float64 // the system's load average at the end, 0 where it is not told
}

// EngineKills is how many children of trees were killed.
func (r Result) EngineKills() (n int) {
	for _, k := range r.Engines {
		n += k
	}
	return n
}

// Bad tells whether a rule did not hold.
func (r Result) Bad() bool { return len(r.Violations) > 0 }

// mostOfOne bounds how many violations of one rule are told: one cause may have a thousand.
const mostOfOne = 10

// court collects violations. It is for many goroutines.
type court struct {
	begin time.Time

	mu    sync.Mutex
	found []Violation
	count map[Rule]int
}

func newCourt(begin time.Time) *court { return &court{begin: begin, count: make(map[Rule]int)} }

// charge notes a violation.
func (c *court) charge(r Rule, format string, args ...any) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.count[r]++; c.count[r] <= mostOfOne {
		c.found = append(c.found, Violation{time.Since(c.begin), r, fmt.Sprintf(format, args...)})
	}
}

// all answers what was found so far.
func (c *court) all() []Violation {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.found[:len(c.found):len(c.found)]
}
