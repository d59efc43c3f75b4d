package node

import (
	"fmt"
	"sync"
	"time"

	"go.uber.org/zap"
)

// Progress tells how far a long step of a start has come.
type Progress struct {
	Phase       string // "checking the event log", "replaying the event log"
	Unit        string // of Done and Total
	Done, Total uint64
	Rate        float64 // units per second since the phase began; 0 while that is not known
	Began       time.Time
}

// Percent is how much is done; 0 where there is nothing to do.
func (p Progress) Percent() int {
	if p.Total == 0 {
		return 0
	}
	return int(100 * p.Done / p.Total)
}

// String is p in words for people.
func (p Progress) String() string {
	return fmt.Sprintf("%s: %d %% (%d of %d %s, %.0f/s)", p.Phase, p.Percent(), p.Done, p.Total, p.Unit, p.Rate)
}

// progressEvery is how often a long step is told of.
const progressEvery = 2 * time.Second

// progress is what a start is busy with, if it is. Its methods are safe for concurrent use.
type progress struct {
	mu    sync.Mutex
	cur   *Progress
	told  time.Time
	tells []func(Progress)
	log   *zap.Logger
}

// WithProgress calls f every two seconds while a step of the start takes long, and once when such a
// step ends, so that a service manager's time-out can be extended. f must not wait.
func WithProgress(f func(Progress)) Option {
	return func(n *Node) { n.progress.tells = append(n.progress.tells, f) }
}

// Progress is what the start is busy with; ok is false when it is not.
func (n *Node) Progress() (p Progress, ok bool) { return n.progress.current() }

func (s *progress) current() (Progress, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cur == nil {
		return Progress{}, false
	}
	return *s.cur, true
}

// at takes what is done. A step that is complete is told of only if it was told of before.
func (s *progress) at(phase, unit string, done, total uint64) {
	now := time.Now()
	s.mu.Lock()
	if s.cur == nil || s.cur.Phase != phase || done < s.cur.Done {
		s.cur, s.told = &Progress{Phase: phase, Unit: unit, Began: now}, now
	}

	s.cur.Done, s.cur.Total = done, total
	if took := now.Sub(s.cur.Began); took > 0 {
		s.cur.Rate = float64(done) / took.Seconds()
	}

	p, long := *s.cur, s.told != s.cur.Began
	tell := now.Sub(s.told) >= progressEvery || done >= total && long
	if tell {
		s.told = now
	}
	if done >= total {
		s.cur = nil
	}

	s.mu.Unlock()

	if !tell {
		return
	}

	s.log.Info(phase, zap.Uint64("done", p.Done), zap.Uint64("total", p.Total), zap.String("unit", p.Unit),
		zap.Int("percent", p.Percent()), zap.Float64("per_second", float64(int64(p.Rate))))

	for _, f := range s.tells {
		f(p)
	}
}

// replay is a step that counts records of the log up to the last.
func (s *progress) replay() func(index, last uint64) {
	var before uint64 // records that need no replay
	return func(index, last uint64) {
		if before == 0 {
			before = index - 1
		}
		s.at("replaying the event log", "records", index-before, last-before)
	}
}
