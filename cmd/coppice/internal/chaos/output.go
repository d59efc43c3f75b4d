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

// output takes what the nodes print, a line at a time, keeps it, and notes what the campaign wants
// to know.
type output struct {
	file  io.Writer
	began time.Time

	mu       sync.Mutex
	restarts []restart
	noQuorum int      // how often a watchdog told that a quorum is missing, and did nothing
	alarms   []string // lines that no node may print
	ended    []string // last words of nodes that ended by themselves
}

// restart is one of CometBFT by the watchdog of its node.
type restart struct {
	node  int
	since time.Duration // when the height began to stand still that it was for, from the begin of the run
	line  string
}

// What a node's lines say. The words are those of engines/consensus/comet, of consensus and of the
// command.
const (
	sayRestart  = "restarting CometBFT: the committed height stands still"
	sayNoQuorum = "no quorum: too few validators are connected"
	sayFork     = "two different blocks for one height"
	sayRace     = "WARNING: DATA RACE"
	sayEnd      = "coppice: "
	sayGaveUp   = "coppice: gave up" // right for a tree whose limits are not raised, and its supervisor starts it again
)

var (
	ofNode   = regexp.MustCompile(`^node(\d+) (.*)`)
	stoodFor = regexp.MustCompile(`"for": ([0-9.]+)`)
)

// stood reads how long a height had stood still. A line that does not say counts as none at all, so
// that nothing excuses it.
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

// Write takes a line. It never fails: what cannot be kept is no reason to stop a node.
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

// restarted answers the watchdogs' restarts of some nodes for a height that began to stand still
// after a moment.
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
