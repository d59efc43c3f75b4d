package progress

import (
	"fmt"
	"sync"
	"time"

	"go.uber.org/zap"
)

// Progress tells how far a long step of a start has come.
type Step struct {
	Phase       string // "checking the event log", "replaying the event log"
	Unit        string // of Done and Total
	Done, Total uint64
	Rate        float64 // units per second since the phase began; 0 while that is not known
	Began       time.Time
}

// Percent is how much is done; 0 where there is nothing to do.
func (p Step) Percent() int {
	if p.Total == 0 {
		return 0
	}
	return int(100 * p.Done / p.Total)
}

// String is p in words for people.
func (p Step) String() string {
	return fmt.Sprintf("%s: %d %% (%d of %d %s, %.0f/s)", p.Phase, p.Percent(), p.Done, p.Total, p.Unit, p.Rate)
}

// progressEvery is how often a long step is told of.
const reportEvery = 2 * time.Second

// progress is what a start is busy with, if it is. Its methods are safe for concurrent use.
type Tracker struct {
	mu        sync.Mutex
	cur       *Step
	reported  time.Time
	Observers []func(Step)
	Logger    *zap.Logger
}

func (s *Tracker) Current() (Step, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cur == nil {
		return Step{}, false
	}
	return *s.cur, true
}

// at takes what is done. A step that is complete is told of only if it was told of before.
func (s *Tracker) Update(phase, unit string, done, total uint64) {
	now := time.Now()
	s.mu.Lock()
	if s.cur == nil || s.cur.Phase != phase || done < s.cur.Done {
		s.cur, s.reported = &Step{Phase: phase, Unit: unit, Began: now}, now
	}

	s.cur.Done, s.cur.Total = done, total
	if took := now.Sub(s.cur.Began); took > 0 {
		s.cur.Rate = float64(done) / took.Seconds()
	}

	p, long := *s.cur, s.reported != s.cur.Began
	tell := now.Sub(s.reported) >= reportEvery || done >= total && long
	if tell {
		s.reported = now
	}
	if done >= total {
		s.cur = nil
	}

	s.mu.Unlock()

	if !tell {
		return
	}

	s.Logger.Info(phase, zap.Uint64("done", p.Done), zap.Uint64("total", p.Total), zap.String("unit", p.Unit),
		zap.Int("percent", p.Percent()), zap.Float64("per_second", float64(int64(p.Rate))))

	for _, f := range s.Observers {
		f(p)
	}
}

// replay is a step that counts records of the log up to the last.
func (s *Tracker) ReplayFunc() func(index, last uint64) {
	var before uint64 // records that need no replay
	return func(index, last uint64) {
		if before == 0 {
			before = index - 1
		}
		s.Update("replaying the event log", "records", index-before, last-before)
	}
}
