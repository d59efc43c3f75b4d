package retention

import (
	"sync"
	"time"
)

// Tally counts what becomes of the snapshots of one kind. It is safe for concurrent use, and its
// zero value is ready.
type Tally struct {
	mu sync.Mutex
	s  TallyStat
}

// TallyStat are the figures of a Tally. The counts begin with the process.
type TallyStat struct {
	Taken, Failed uint64
	Kept          int       // snapshots on disk
	Bytes         int64     // of the newest one
	Last          time.Time // when the newest one was taken; zero: there is none
}

// Took counts a snapshot that was taken.
func (t *Tally) Took() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.s.Taken++
}

// Failed counts a snapshot that could not be taken.
func (t *Tally) Failed() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.s.Failed++
}

// Keeps notes the snapshots that are on disk.
func (t *Tally) Keeps(kept int, bytes int64, last time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.s.Kept, t.s.Bytes, t.s.Last = kept, bytes, last
}

// Stat returns the figures.
func (t *Tally) Stat() TallyStat {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.s
}
