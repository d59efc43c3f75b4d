package streams

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/coppice-go/coppice/eventlog"
)

// State says what a slot is doing.
type State string

// The states of a slot.
const (
	Starting      State = "starting"
	Live          State = "live"        // it has delivered all that the log has, or is about to
	CatchingUp    State = "catching_up" // it is far behind, and delivers
	Retrying      State = "retrying"
	Failed        State = "failed" // it waits for an operator
	Standby       State = "standby"
	FencedOff     State = "fenced"
	Bootstrapping State = "bootstrapping" // it copies the state of a snapshot
	AheadOf       State = "ahead"
	InGap         State = "gap"
	LostLog       State = "lost"
	Paused        State = "paused"
	Detached      State = "detached"
	Degraded      State = "degraded" // live, with parked events
)

// States returns all states of a slot, in the order of their definition.
func States() []State {
	return []State{Starting, Live, CatchingUp, Retrying, Failed, Standby, FencedOff, Bootstrapping, AheadOf, InGap,
		LostLog, Paused, Detached, Degraded}
}

// slot is one sink of this node. It outlives the incarnations of the engine.
type slot struct {
	s    *Streams
	name string

	mu       sync.Mutex
	def      Definition
	defErr   error // the definition cannot be used
	factory  Factory
	secrets  Secrets
	file     slotFile
	fresh    bool // there was no slot file when the slot was made
	dirty    bool // file is newer than the disk
	index    uint64
	points   []point // possible floors, oldest first
	retainer *eventlog.Retainer
	poke     chan struct{} // closed by an operator's act
	counts   Counts
	beaten   int // consecutive ends of class Bug at one cursor
	beatenAt Cursor
	parked   setAside
	parkedAt []time.Time
	answered bool      // the sink has answered Open or Observe in this process
	progress time.Time // of the last credit or acknowledgment
	gone     bool      // it was dropped: nothing is written any more
	leaving  bool      // it is being dropped: no session begins
	busy     bool      // a session of its writer runs
	boot     bootRatio
	density  density
	warned   bool // that it is at risk
}

// point is a floor that becomes the slot's when it is old enough.
type point struct {
	at    time.Time
	floor uint64
	stand Position // before which nothing is left to deliver
}

// Counts are figures of a slot since the process began.
type Counts struct {
	Events, Bytes, Rejected, Restarts, Rewinds, Takeovers, Orphans uint64

	Retries  map[Class]uint64
	AckNanos int64 // of the newest acknowledged delivery
}

func retainerName(slot string) string { return "stream " + slot }

// hold registers the slot's retainer with a log that was just opened, before anything can truncate
// it.
func (sl *slot) hold(l *eventlog.Log) {
	sl.mu.Lock()
	defer sl.mu.Unlock()

	if sl.file.Lost {
		return
	}
	floor := l.First()
	if sl.file.LogID == logID(l) {
		floor = max(floor, sl.file.Floor)
	} else {
		sl.file.LogID, sl.file.Floor, sl.dirty = logID(l), floor, true
		sl.needVersions(nil)
	}
	sl.retainer = l.Retain(retainerName(sl.name), floor)
	sl.points = nil
}

// save writes the slot's file if it has changed, and only then lets the log go: up to the floor, or
// all of it if the slot is lost.
func (sl *slot) save() error {
	sl.mu.Lock()
	defer sl.mu.Unlock()
	return sl.saveLocked()
}

func (sl *slot) saveLocked() error {
	if !sl.dirty || sl.gone {
		return nil
	}
	if err := sl.file.write(sl.s.o.Data); err != nil {
		return fmt.Errorf("slot %s: %w", sl.name, err)
	}
	sl.dirty = false
	switch {
	case sl.retainer == nil:
	case sl.file.Lost:
		sl.retainer.Release()
		sl.retainer = nil
	default:
		sl.retainer.Advance(sl.file.Floor)
	}
	return nil
}

// advance raises the floor to what the rewind margin allows.
func (sl *slot) advance(now time.Time, st eventlog.Stat) {
	sl.mu.Lock()
	defer sl.mu.Unlock()

	if sl.index == 0 {
		return
	}
	sl.density.note(st, sl.index, sl.counts.Events)
	if n := len(sl.points); n == 0 || sl.points[n-1].floor < sl.index+1 && now.Sub(sl.points[n-1].at) >= marginStep(
		sl.def.KeepBehind) {
		sl.points = append(sl.points, point{now, sl.index + 1, sl.file.stands().Position})
	}
	for len(sl.points) > 1 && (now.Sub(sl.points[1].at) >= sl.def.KeepBehind ||
		bytesFrom(st, sl.points[0].floor) > maxMargin) {
		sl.points = sl.points[1:]
	}

	if floor := sl.points[0].floor; floor > sl.file.Floor {
		sl.file.Floor, sl.dirty = floor, true
		sl.needVersions(&sl.points[0].stand)
	}
}

// maxMargin is how much of the log the rewind margin holds at most, in bytes.
const maxMargin = 256 << 20

// marginStep is the time between two possible floors.
func marginStep(margin time.Duration) time.Duration { return margin / 60 }

// bytesFrom returns about how many bytes the log has from a record on.
func bytesFrom(st eventlog.Stat, from uint64) (n int64) {
	for _, s := range st.Segments {
		switch {
		case s.Last < from || s.Last < s.First:
		case s.First >= from:
			n += s.Bytes
		default:
			n += int64(float64(s.Bytes) * float64(s.Last+1-from) / float64(s.Last+1-s.First))
		}
	}
	return n
}

// acknowledge notes that the sink has everything up to a unit.
func (sl *slot) acknowledge(c Cursor, index uint64, at time.Time) {
	sl.mu.Lock()
	if c.Position != sl.beatenAt.Position {
		sl.beaten = 0
	}
	if !sl.answered || c.Position != sl.file.Acked.Position {
		sl.progress = sl.s.now() // a standby that sees the same cursor again is no progress
	}
	sl.file.Acked, sl.file.Passed, sl.file.Acks = c, nil, sl.s.now()
	if !at.IsZero() {
		sl.file.At = at
	}
	sl.index = index
	sl.dirty, sl.answered = true, true
	sl.mu.Unlock()

	sl.s.news()
}

// credited notes that the sink has taken something over.
func (sl *slot) credited() {
	sl.mu.Lock()
	defer sl.mu.Unlock()
	sl.progress = sl.s.now()
}

// pass notes that the filter leaves nothing up to a unit.
func (sl *slot) pass(c Cursor, index uint64) {
	sl.mu.Lock()
	sl.file.Passed, sl.file.Acks = &c, sl.s.now()
	sl.index = index
	sl.dirty = true
	sl.mu.Unlock()

	sl.s.news()
}

// set changes the state. A cause belongs to a state in which nothing is delivered.
func (sl *slot) set(st State, err error) {
	sl.mu.Lock()
	changed := sl.file.State != st
	sl.file.State = st
	if err != nil {
		c := &Cause{Class: ClassOf(err), Text: err.Error(), Time: sl.s.now()}
		sl.file.Last = c
		if sl.file.First == nil {
			sl.file.First = c
		}
		changed = true
	}
	if st == Live && sl.parked.waiting() > 0 {
		sl.file.State = Degraded
	}
	if st == Live && sl.file.First != nil {
		sl.file.First, sl.file.Last, changed = nil, nil, true
	}
	sl.dirty = sl.dirty || changed
	sl.mu.Unlock()

	if changed {
		sl.s.news()
	}
}

// act does what an operator asks for: f changes the file. It is durable when act returns, and wakes
// the slot.
func (sl *slot) act(a Act, f func(*slotFile)) error {
	sl.mu.Lock()
	a.Time = sl.s.now()
	if a.From == "" {
		a.From = string(sl.file.State)
	}
	sl.file.record(a)
	f(&sl.file)
	sl.beaten = 0
	sl.dirty = true
	err := sl.saveLocked()
	sl.wakeLocked()
	sl.mu.Unlock()

	sl.s.news()

	return err
}

// enter begins a session of the slot's writer, and reports whether it may. exit ends it.
func (sl *slot) enter() bool {
	sl.mu.Lock()
	defer sl.mu.Unlock()
	sl.busy = !sl.leaving
	return sl.busy
}

func (sl *slot) exit() {
	sl.mu.Lock()
	sl.busy = false
	sl.mu.Unlock()
	sl.s.news()
}

// leave ends the session of the slot's writer, and waits for that end. No other begins until stay.
func (sl *slot) leave(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, 2*sl.s.o.Deadline, errors.New("its writer does not end"))
	defer cancel()

	sl.mu.Lock()
	sl.leaving = true
	sl.wakeLocked()
	sl.mu.Unlock()

	for {
		changed := sl.s.Changed()
		sl.mu.Lock()
		busy := sl.busy
		sl.mu.Unlock()
		if !busy {
			return nil
		}

		select {
		case <-changed:
		case <-ctx.Done():
			sl.stay()
			return fmt.Errorf("stream %s: %w", sl.name, context.Cause(ctx))
		}
	}
}

// stay lets the slot's writer go on.
func (sl *slot) stay() {
	sl.mu.Lock()
	defer sl.mu.Unlock()
	sl.leaving = false
	sl.wakeLocked()
}

// wakeLocked makes the writer look at the slot again. The caller holds mu.
func (sl *slot) wakeLocked() {
	close(sl.poke)
	sl.poke = make(chan struct{})
}

// poked returns a channel that the next act of an operator closes.
func (sl *slot) poked() <-chan struct{} {
	sl.mu.Lock()
	defer sl.mu.Unlock()
	return sl.poke
}

func (sl *slot) snapshot() slotFile {
	sl.mu.Lock()
	defer sl.mu.Unlock()
	return sl.file
}

func (sl *slot) count(f func(*Counts)) {
	sl.mu.Lock()
	defer sl.mu.Unlock()
	f(&sl.counts)
}
