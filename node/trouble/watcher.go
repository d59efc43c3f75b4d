package trouble

import (
	"context"
	"sync"
	"time"

	"github.com/coppice-go/coppice/engines"
	"github.com/coppice-go/coppice/engines/consensus"
	"github.com/coppice-go/coppice/engines/streams"
	"github.com/coppice-go/coppice/node/inflight"
	"github.com/coppice-go/coppice/pubsub"
	"github.com/coppice-go/coppice/supervisor"
)

// Every is the time between two looks of a Watcher.
const Every = time.Second

// Sources are what a Watcher looks at. All functions are safe for concurrent use and return at
// once. One that is nil has nothing to tell.
type Sources struct {
	Condition func() consensus.Condition
	Engines   func() []engines.Stat
	Streams   func() []streams.Status
	Filters   func() pubsub.Stats
	Mailbox   int // how many events may wait for a filter

	// Place returns a place of the tree, and Orphans the orphans of the whole tree.
	Place   func(path string) (supervisor.Tree, error)
	Orphans func() []supervisor.Orphan

	// Sync returns the mean time of a sync of the event log within the last seconds, and how many
	// there were.
	Sync      func() (mean time.Duration, syncs int)
	LogFailed func() error // why the event log takes no more; nil: it does

	// Disk returns the free bytes of the file system of the home, and its size.
	Disk func() (free, size uint64, ok bool)

	// Suspects returns the transactions that were executing when a process of the node died.
	Suspects func() []inflight.Suspect
}

// Watcher finds troubles. It is a supervisor.Observer of the tree. Its methods are safe for
// concurrent use.
type Watcher struct {
	Sources
	now func() time.Time

	mu      sync.Mutex
	crashes crashes
	orphans map[uint64]supervisor.Orphan // by incarnation
	unsure  bool                         // events of orphans may have been lost

	// Of the looks.
	seen   map[string]seen // by the key of a trouble
	missed map[string]uint64
	hot    map[string]time.Time // when a filter missed something last, by its chain
	list   []Trouble
}

// seen is how long a trouble is there.
type seen struct {
	first, last time.Time
	looks       int // in a row
}

// New returns a Watcher that has not looked yet.
func New(s Sources, now func() time.Time) *Watcher {
	return &Watcher{Sources: s, now: now, crashes: crashes{}, orphans: map[uint64]supervisor.Orphan{},
		seen: map[string]seen{}, hot: map[string]time.Time{}}
}

// Run looks once in Every until ctx ends.
func (w *Watcher) Run(ctx context.Context) {
	t := time.NewTicker(Every)
	defer t.Stop()

	for {
		w.Look()

		select {
		case <-t.C:
		case <-ctx.Done():
			return
		}
	}
}

// Troubles returns what the last look has found, the gravest first. The caller must not change it.
func (w *Watcher) Troubles() []Trouble {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.list
}

// Observe takes an event of the tree.
func (w *Watcher) Observe(e supervisor.Event) {
	w.mu.Lock()
	defer w.mu.Unlock()

	switch e := e.(type) {
	case supervisor.ChildExited:
		if e.Exit.Class == supervisor.Abnormal {
			w.crashes.add(e.Path, e.Time, e.Exit.Error())
		}
	case supervisor.ChildStartFailed:
		w.crashes.add(e.Path, e.Time, e.Err)
	case supervisor.ChildOrphaned:
		w.orphans[e.Orphan.Incarnation] = e.Orphan
	case supervisor.OrphanEnded:
		delete(w.orphans, e.Incarnation)
	case supervisor.EventsDropped:
		w.unsure = true
	}
}

// Look finds the present troubles.
func (w *Watcher) Look() {
	now := w.now()
	w.findOrphansAgain()

	var found []Trouble
	for _, find := range []func(time.Time) []Trouble{
		w.condition, w.crashLoops, w.findOrphans, w.mailboxes, w.disk, w.lags, w.filters, w.suspects,
	} {
		found = append(found, find(now)...)
	}

	w.mu.Lock()
	defer w.mu.Unlock()

	var list []Trouble
	for _, t := range found {
		key := t.key()
		s := w.seen[key]
		if s.last == now { // two facts about the same thing
			continue
		}
		if s.looks == 0 {
			s.first = now
		}
		s.last = now
		s.looks++
		w.seen[key] = s

		if s.looks < patience[t.Kind] {
			continue
		}
		if t.Since.IsZero() {
			t.Since = s.first
		}
		t.Text = line(t.Text)
		list = append(list, t)
	}

	for key, s := range w.seen {
		if s.last != now {
			delete(w.seen, key)
		}
	}
	w.list = sorted(list)
}

// patience is in how many looks in a row a trouble must be there before it is told: what passes by
// itself within a moment is none.
var patience = map[Kind]int{MailboxFull: 2, Lagging: 3, HotFilter: 1, SlowDisk: 2, Stuck: 1}

// findOrphansAgain asks the tree for its orphans, if an event about one may have been lost. That
// reads the profile of the goroutines, and so is done only then.
func (w *Watcher) findOrphansAgain() {
	w.mu.Lock()
	unsure := w.unsure
	w.unsure = false
	w.mu.Unlock()

	if !unsure || w.Orphans == nil {
		return
	}
	list := w.Orphans()

	w.mu.Lock()
	defer w.mu.Unlock()
	clear(w.orphans)
	for _, o := range list {
		w.orphans[o.Incarnation] = o
	}
}
