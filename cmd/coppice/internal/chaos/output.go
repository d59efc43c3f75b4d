package chaos

import (
	"fmt"
	"io"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"time"
)

// output receives what the nodes print, line by line. It writes the lines to a file, and notes what
// the campaign needs to know.
type output struct {
	file  io.Writer
	began time.Time

	mu       sync.Mutex
	restarts []restart
	noQuorum int      // how often a watchdog reported a missing quorum, and did nothing
	alarms   []string // lines that a node must never print
	ended    []string // last words of nodes that ended by themselves
}

// restart is a restart of CometBFT by the watchdog of its node.
type restart struct {
	node  int
	since time.Duration // when the height began to stand still, since the run began
	line  string
}

// Texts by which Write recognizes the lines of a node. engines/consensus/comet, the consensus
// package and the coppice command write them.
const (
	sayRestart  = "restarting CometBFT: the committed height stands still"
	sayNoQuorum = "no quorum: too few validators are connected"
	sayFork     = "two different blocks for one height"
	sayRace     = "WARNING: DATA RACE"
	sayEnd      = "coppice: "
	sayGaveUp   = "coppice: gave up" // allowed if limits are not raised; the testnet starts the node again
)

var (
	ofNode   = regexp.MustCompile(`^node(\d+) (.*)`)
	stoodFor = regexp.MustCompile(`"for": ([0-9.]+)`)
)

// stood returns how long the height had stood still when the node wrote the line. It returns 0 if
// the line does not say. The height then counts as one that has only just stopped, so restarted
// never leaves out such a line.
func stood(line string) time.Duration {
	m := stoodFor.FindStringSubmatch(line)
	if m == nil {
		return 0
	}
	s, err := strconv.ParseFloat(m[1], 64)
	if err != nil {
		return 0
	}

	return time.Duration(s * float64(time.Second))
}

// Write receives one line of a node. It never returns an error, because the node must go on even if
// its line cannot be written to the file.
func (o *output) Write(p []byte) (int, error) {
	at := time.Since(o.began)
	o.mu.Lock()
	defer o.mu.Unlock()

	_, _ = fmt.Fprintf(o.file, "%9.3f %s", at.Seconds(), p)
	m := ofNode.FindStringSubmatch(strings.TrimSpace(string(p)))
	if m == nil {
		return len(p), nil
	}
	node, err := strconv.Atoi(m[1])
	if err != nil {
		return len(p), nil
	}

	switch line := m[2]; {
	case strings.Contains(line, sayRestart):
		o.restarts = append(o.restarts, restart{node, at - stood(line), line})
	case strings.Contains(line, sayNoQuorum):
		o.noQuorum++
	case strings.Contains(line, sayFork), strings.Contains(line, sayRace):
		o.alarms = append(o.alarms, m[0])
	case strings.HasPrefix(line, sayEnd):
		o.ended = append(o.ended, m[0])
	}

	return len(p), nil
}

// restarted returns the restarts by watchdogs of the nodes for which of is true. It returns only
// restarts for a height that began to stand still after since.
func (o *output) restarted(since time.Duration, of func(node int) bool) []restart {
	o.mu.Lock()
	defer o.mu.Unlock()

	var out []restart

	for _, r := range o.restarts {
		if r.since >= since && of(r.node) {
			out = append(out, r)
		}
	}

	return out
}
