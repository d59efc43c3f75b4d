package comet

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/thejerf/suture/v4"
	"go.uber.org/zap"

	"github.com/coppice-go/coppice/engines/consensus"
	"github.com/coppice-go/coppice/engines/consensus/comet/child"
	comethome "github.com/coppice-go/coppice/engines/consensus/comet/home"
	"github.com/coppice-go/coppice/engines/consensus/comet/manager"
	"github.com/coppice-go/coppice/supervisor"
	"github.com/coppice-go/coppice/supervisor/process"
)

// final marks an error as one that ends the driver's tree. Only a service that ends can end the
// tree, because a start that fails is tried again. A final error without a class means that
// mostFailed starts in a row ended before CometBFT was up.
func final(err error) error {
	return fmt.Errorf("%w (%w): %w", err, consensus.ErrFinal, suture.ErrTerminateSupervisorTree)
}

// refused returns a service that ends the driver's tree with err. It takes the place of a process
// that cannot be started.
func refused(err error) supervisor.Service {
	return supervisor.ServiceFunc(func(context.Context) error { return final(err) })
}

// mostFailed is the number of starts in a row that may end by themselves before CometBFT is up.
// With the pauses between them they take about two minutes. By then a port that was in use, or a
// full disk, may be free again.
const mostFailed = 12

// starts counts the starts of CometBFT. It outlives incarnations of the tree.
type starts struct {
	mu      sync.Mutex
	up      bool                       // CometBFT is up in the running process, or was in the last one
	noticed map[child.Notice]time.Time // notices of all processes, without their texts
	count   int                        // of all starts
	failed  int                        // starts in a row that ended before CometBFT was up
	why     string                     // the reason of the last end by itself

	dropped string // the line by which the last process has shown a dropped connection

	// fatal is the first line in which CometBFT or Go's runtime says why the running process dies.
	fatal string
}

func (s *starts) begin() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.up, s.fatal = false, ""
	s.count++
}

// begun returns how many processes have begun.
func (s *starts) begun() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.count
}

// isUp reports whether CometBFT is up in a process that began after the first so many.
func (s *starts) isUp(after int) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.up && s.count > after
}

func (s *starts) came() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.up, s.failed, s.why = true, 0, ""
}

func (s *starts) died(line string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fatal == "" {
		s.fatal = line
	}
}

// lost notes a line that shows a dropped connection. A process that is told to end closes its
// connections itself and writes no such line: our endpoint is closed only after its end.
func (s *starts) lost(line string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.dropped == "" {
		s.dropped = line
	}
}

// takeDropped returns the line by which the process before has shown a dropped connection, once.
func (s *starts) takeDropped() (line string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	line, s.dropped = s.dropped, ""
	return line
}

// ended returns how many starts in a row ended before CometBFT was up, and why the last one did.
func (s *starts) ended() (failed int, why string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.failed, s.why
}

// news reports whether a notice was not given a short while ago, by this or an earlier process.
func (s *starts) news(n child.Notice, now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()

	n.Text = ""
	if at, ok := s.noticed[n]; ok && now.Sub(at) < child.NoticeAgain {
		return false
	}
	if s.noticed == nil {
		s.noticed = make(map[child.Notice]time.Time)
	}
	s.noticed[n] = now

	return true
}

// pause returns how long the next start waits because of the failed ones.
func (s *starts) pause() time.Duration {
	const (
		atOnce = 2
		most   = 15 * time.Second
	)
	s.mu.Lock()
	defer s.mu.Unlock()

	if s.failed <= atOnce {
		return 0
	}

	return min(time.Second<<min(s.failed-atOnce-1, 8), most)
}

// judge returns the error for the end of a process. It counts a failed start, and marks the error
// as final if no other start will succeed. The end of a process that was killed, or asked to end,
// says nothing about the next start.
func (s *starts) judge(err error) error {
	end := new(process.ExitError)
	if !errors.As(err, &end) || end.Asked || end.Signal != 0 || end.Status <= 0 {
		return err
	}

	s.mu.Lock()
	defer s.mu.Unlock()

	why := s.fatal
	for i := len(end.LastLines) - 1; i >= 0 && why == ""; i-- {
		why = strings.TrimPrefix(strings.TrimSpace(end.LastLines[i]), "coppice: ")
	}

	s.why = why

	switch {
	case end.Status == child.StatusDamage, strings.Contains(s.fatal, "Data has been corrupted"):
		return final(told(why, comethome.ErrChainDamage, comethome.ErrChainData, comethome.ErrSigning,
			comethome.ErrSigningOld, comethome.ErrSigningAhead))
	case end.Status == child.StatusConfig:
		return final(told(why, comethome.ErrHome, comethome.ErrGenesis, comethome.ErrGenesisEdited))
	}

	if s.fatal != "" {
		err = fmt.Errorf("%s: %w", s.fatal, err)
	}
	if s.up {
		return err
	}
	if s.failed++; s.failed < mostFailed {
		return err
	}
	return final(fmt.Errorf("CometBFT ended %d times in a row before it was up, at last with: %s: %w",
		s.failed, why, err))
}

// told returns an error with the text why. It wraps the sentinel with which the text begins, or the
// first sentinel if it begins with none.
func told(why string, sentinels ...error) error {
	for _, s := range sentinels {
		if rest, ok := strings.CutPrefix(why, s.Error()+": "); ok {
			return fmt.Errorf("%w: %s", s, rest)
		}
	}
	return fmt.Errorf("%w: %s", sentinels[0], why)
}

// attempt is one process of CometBFT.
type attempt struct {
	supervisor.Service
	starts *starts
	health *health
	resets *manager.Machine
}

// Serve waits for the end of the process.
func (a attempt) Serve(ctx context.Context) error {
	err := a.starts.judge(a.Service.Serve(ctx))
	a.health.ended(a.starts.ended())
	a.resets.Note(manager.Waiting, "CometBFT has ended", nil)
	return err
}

// String names the process.
func (a attempt) String() string { return fmt.Sprint(a.Service) }

// stdout handles a line of the process's stdout.
func (t *tree) stdout(line []byte) {
	if r, ok := child.ParseReport(string(line)); ok {
		t.health.reported(r)
		return
	}

	notice, ok := child.ParseNotice(line)

	switch {
	case ok:
		t.notice(notice)
		return
	case string(line) == child.UpLine:
		t.starts.came()
		t.health.came()
		t.resets.machine.Note(manager.Running, "CometBFT is up", nil)
	default:
		t.starts.died(string(line)) // the log is on stderr; on stdout CometBFT says why it ends the process
	}

	t.line(line)
}

// notice logs what the process has found out. A double sign is an alarm.
func (t *tree) notice(n child.Notice) {
	if n.Topic == child.PeerGenesis {
		t.health.differs(n.Text)
	}
	if !t.starts.news(n, time.Now()) {
		return // another process of this home has said the same
	}

	level := zap.WarnLevel
	if n.Topic == child.DoubleSign || n.Topic == child.PeerGenesis {
		level = zap.ErrorLevel
	}
	t.Log.Log(level, n.Text, zap.String("topic", string(n.Topic)), zap.String("about", n.About))
}

// stderr handles a line of the process's stderr: CometBFT's log, and the reason why the process
// dies.
func (t *tree) stderr(line []byte) {
	text := string(line)
	if dying(text) {
		t.starts.died(text)
	}
	if manager.ShowsDrop(text) {
		t.starts.lost(text)
	}
	t.health.logged(text)
	t.line(line)
}

// dying reports whether a line is the first line that Go's runtime writes when the process dies.
func dying(text string) bool {
	return strings.HasPrefix(text, "panic: ") || strings.HasPrefix(text, "fatal error: ")
}

// sayTorn is the text that CometBFT logs for each entry of its write-ahead log that it cannot read.
// If a kill has torn one entry, CometBFT then searches for the end of a height from the middle of
// the following bytes, and logs this text for hundreds of places.
const sayTorn = "Corrupted entry. Skipping..."

// sayRejected is the text that CometBFT logs when we reject a proposal.
const sayRejected = "state machine rejected a proposed block"

// line logs a line of CometBFT's log, whose first letter is the level. A line without a level comes
// from Go's runtime, or is the error that ends the process. A torn write-ahead log is logged once.
func (t *tree) line(line []byte) {
	text := string(line)
	if strings.Contains(text, sayTorn) {
		if !t.torn.Swap(true) {
			_, what, _ := strings.Cut(text, "err=")
			t.Log.Warn("CometBFT's write-ahead log has entries that cannot be read, as after a kill: they are gone "+
				"past, and what is whole is replayed", zap.String("first", what))
		}
		return
	}

	level := zap.InfoLevel

	switch {
	case strings.Contains(text, sayRejected) && t.health.isHeld():
		level = zap.DebugLevel // we reject every block after the held one

	case len(line) > 1 && line[1] == '[' && line[0] == 'E':
		level = zap.WarnLevel // CometBFT goes on
		if strings.Contains(text, "CONSENSUS FAILURE!!!") {
			level = zap.ErrorLevel
			t.resets.machine.Note(manager.Broken, "CometBFT's consensus has failed, and its process lives on",
				func(s *manager.Status) { s.Failure = text })
		}

	case len(line) > 1 && line[1] == '[' && (line[0] == 'I' || line[0] == 'D'):
		level = zap.DebugLevel

	case dying(text), strings.HasPrefix(text, "coppice: "):
		level = zap.ErrorLevel
	}

	t.Log.Log(level, text)
}
