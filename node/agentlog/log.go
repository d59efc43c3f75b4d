package agentlog

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/coppice-go/coppice/engines/rounds"
)

// Log is the log file of an agent. It is safe for concurrent use.
type Log struct {
	file  *file
	agent string
	now   func() time.Time
}

// Options describe a log.
type Options struct {
	Path  string
	Agent string // empty: the node has none
	Now   func() time.Time

	// Failed is called with the error of a write that fails. After that error the log goes on, and
	// calls Failed again only once a write has succeeded in between.
	Failed func(error)
}

// noAgent stands for the agent of a node that has none.
const noAgent = "no_agent"

// Open opens a log, and makes its file and folder if they are missing. It appends to a file that is
// there.
func Open(o Options) (*Log, error) {
	f, err := openFile(o.Path, maxBytes, o.Failed)
	if err != nil {
		return nil, err
	}

	l := &Log{file: f, agent: o.Agent, now: o.Now}
	if l.agent == "" {
		l.agent = noAgent
	}
	return l, nil
}

// Close closes the file.
func (l *Log) Close() error { return l.file.close() }

func (l *Log) line(format string, args ...any) {
	at := l.now().UTC()
	l.file.write(fmt.Sprintf("[%s,%03d] [INFO] [%s] ", at.Format("2006-01-02 15:04:05"), at.Nanosecond()/1e6, l.agent) +
		fmt.Sprintf(format, args...) + "\n")
}

// Block logs a block of the chain, by its time.
func (l *Log) Block(at time.Time) {
	l.line("arrived block with timestamp: %s", timeText(at))
	l.line("current AbciApp time: %s", timeText(at))
}

// Entered logs that the service has entered a round in a block of the given time, with the
// deadlines that the block has armed.
func (l *Log) Entered(round rounds.Name, period uint64, at time.Time, deadlines []rounds.Deadline) {
	l.line("Entered in the '%s' round for period %d", round, period)
	for _, d := range deadlines {
		l.line("scheduling timeout of %s seconds for event Event.%s with deadline %s", secondsText(d.At.Sub(at)),
			d.Event, timeText(d.At))
	}
}

// Done logs the end of a round.
func (l *Log) Done(round rounds.Name, e rounds.Event) {
	l.line("'%s' round is done with event: Event.%s", round, e)
}

// Behaviour logs that the behaviour of a round begins.
func (l *Log) Behaviour(round string) { l.line("Entered in the '%s' behaviour", round) }

// timeText writes a time as Python prints one.
func timeText(t time.Time) string {
	t = t.UTC()
	if t.Nanosecond() < 1000 {
		return t.Format("2006-01-02 15:04:05")
	}
	return t.Format("2006-01-02 15:04:05.000000")
}

// secondsText writes a duration as Python prints a float of seconds.
func secondsText(d time.Duration) string {
	s := strconv.FormatFloat(d.Seconds(), 'f', -1, 64)
	if !strings.Contains(s, ".") {
		s += ".0"
	}
	return s
}
