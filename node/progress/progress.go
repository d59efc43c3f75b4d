package progress

import (
	"fmt"
	"sync"
	"time"

	"go.uber.org/zap"
)

// Step describes a long step of a start, and how far it has come.
type Step struct {
	Phase       string // "checking the event log", "replaying the event log"
	Unit        string // of Done and Total
	Done, Total uint64
	Rate        float64 // units per second since the phase began; 0 if not yet known
	Began       time.Time
}

// Percent returns how much is done, in percent; 0 if there is nothing to do.
func (p Step) Percent() int {
	if p.Total == 0 {
		return 0
	}
	return int(100 * p.Done / p.Total)
}

// String describes p for people.
func (p Step) String() string {
	return fmt.Sprintf("%s: %d %% (%d of %d %s, %.0f/s)", p.Phase, p.Percent(), p.Done, p.Total, p.Unit, p.Rate)
}

// reportEvery is the time between two reports of a long step.
const reportEvery = 2 * time.Second

// Tracker holds the step that a start is busy with, and reports how far the step has come while it
// lasts. Its methods are safe for concurrent use.
type Tracker struct {
	Observers []func(Step) // each is called with every report; set before the first Update
	Logger    *zap.Logger

	mu       sync.Mutex
	cur      *Step     // nil: no step is under way
	reported time.Time // when cur was last reported, or began
}

// Current returns the step that is under way; ok is false if there is none.
func (t *Tracker) Current() (p Step, ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()

	if t.cur == nil {
		return Step{}, false
	}
	return *t.cur, true
}

// Update records that done of total units of a phase are done. If that ends the step, Update
// reports the end only if it reported the step before.
func (t *Tracker) Update(phase, unit string, done, total uint64) {
	now := time.Now()
	t.mu.Lock()
	if t.cur == nil || t.cur.Phase != phase || done < t.cur.Done {
		t.cur, t.reported = &Step{Phase: phase, Unit: unit, Began: now}, now
	}

	t.cur.Done, t.cur.Total = done, total
	if took := now.Sub(t.cur.Began); took > 0 {
		t.cur.Rate = float64(done) / took.Seconds()
	}

	p, before := *t.cur, t.reported != t.cur.Began
	report := now.Sub(t.reported) >= reportEvery || done >= total && before
	if report {
		t.reported = now
	}
	if done >= total {
		t.cur = nil
	}
	t.mu.Unlock()

	if !report {
		return
	}

	t.Logger.Info(phase, zap.Uint64("done", p.Done), zap.Uint64("total", p.Total), zap.String("unit", p.Unit),
		zap.Int("percent", p.Percent()), zap.Float64("per_second", float64(int64(p.Rate))))

	for _, f := range t.Observers {
		f(p)
	}
}

// ReplayFunc returns a function to call with each record that a replay of the log has reached; last
// is the record at which the replay ends. The function records the progress.
func (t *Tracker) ReplayFunc() func(index, last uint64) {
	var before uint64 // records that need no replay
	return func(index, last uint64) {
		if before == 0 {
			before = index - 1
		}
		t.Update("replaying the event log", "records", index-before, last-before)
	}
}
