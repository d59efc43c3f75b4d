package eventlog

import (
	"io"
	"path/filepath"
	"sync"
	"sync/atomic"
)

// Kind says what a record is. The log's user gives it a meaning.
type Kind uint8

// Record is a record to append.
type Record struct {
	Kind Kind
	Data []byte // copied before the append call returns
}

// Entry is a record that was read. The method that returned it says how long Data is valid.
type Entry struct {
	Index uint64 // 1-based, without gaps
	Kind  Kind
	Data  []byte

	// Section has the data instead if it was not read (Cursor.Sections).
	Section *Section
}

// Log is an open log. All methods are safe for concurrent use.
//
// Locks are taken in this order: truncating, extent.mu, segMu, mu. None of them is held over a
// write or a sync of frames.
type Log struct {
	dir      string
	opts     Options
	lock     io.Closer // nil if the log is read-only and its directory has no lock file
	readOnly bool
	recovery Recovery

	first   atomic.Uint64 // index of the first record that is kept
	durable atomic.Uint64 // index of the last durable record
	frames  atomic.Uint64
	syncs   atomic.Uint64
	closed  atomic.Bool
	failed  atomic.Pointer[error] // the sticky failure
	news    broadcast             // wakes cursors when more is durable or the log fails or closes

	segMu sync.RWMutex
	segs  []*seg // ascending, contiguous, never empty; the slice is replaced, not changed

	mu      sync.Mutex
	cur     *batch        // the batch that is filling
	writing int64         // size of the batch that the committer has
	next    uint64        // index that the next record will get
	room    chan struct{} // closed when cur is taken; nil if no appender waits for that
	idle    bool          // the committer waits for wake
	closing bool

	wake     chan struct{} // capacity 1
	stopped  chan struct{} // closed when the committer has ended
	closeErr error         // written before stopped is closed
	w        writer        // owned by the committer, or by the appender that leads
	extent   extent
	spares   spares

	truncating sync.Mutex
	retainMu   sync.Mutex
	retainers  map[string]*Retainer

	emitMu sync.Mutex
}

// Recovery returns what Open found.
func (l *Log) Recovery() Recovery { return l.recovery }

// ID returns the log's identity, which was drawn when the log was created and is in every segment.
func (l *Log) ID() [16]byte { return l.recovery.ID }

// First returns the index of the first record that is kept, or Durable()+1 if there is none.
func (l *Log) First() uint64 { return l.first.Load() }

// Durable returns the index of the last durable record, or First()-1 if there is none.
func (l *Log) Durable() uint64 { return l.durable.Load() }

// Close makes everything appended durable, seals the log and unlocks its directory. From then on
// appends return ErrClosed. Close of a failed log returns the failure, but releases everything too.
// A second Close returns what the first returned.
func (l *Log) Close() error {
	l.mu.Lock()
	begun := l.closing
	l.closing = true
	if !begun {
		l.wakeCommitter()
		l.makeRoom()
	}
	l.mu.Unlock()

	if l.readOnly && !begun {
		l.closeErr = l.release(nil) // there is no committer to do it
		close(l.stopped)
	}

	<-l.stopped
	return l.closeErr
}

// release closes everything that the log holds, after the committer is done with it. It returns
// err, or else the first error of its own.
func (l *Log) release(err error) error {
	l.closed.Store(true)
	l.news.wake()
	keep := func(e error) {
		if err == nil {
			err = e
		}
	}

	keep(l.spares.close())
	if l.w.file != nil {
		keep(l.w.file.Close())
	}
	keep(l.extent.close())
	if l.lock != nil {
		keep(l.lock.Close())
	}

	return err
}

// failure returns the sticky failure, if there is one.
func (l *Log) failure() error {
	if p := l.failed.Load(); p != nil {
		return *p
	}
	return nil
}

// emit reports an event, one at a time.
func (l *Log) emit(e Event) {
	l.emitMu.Lock()
	defer l.emitMu.Unlock()
	l.opts.Events(e)
}

// syncNames makes the names in the log's directory durable.
func (l *Log) syncNames() error { return l.opts.FS.SyncDir(l.dir) }

// broadcast wakes all waiting goroutines at once. The zero value is ready.
type broadcast struct {
	mu sync.Mutex
	ch chan struct{} // nil while no goroutine waits
}

func (b *broadcast) wait() <-chan struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.ch == nil {
		b.ch = make(chan struct{})
	}
	return b.ch
}

func (b *broadcast) wake() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.ch != nil {
		close(b.ch)
		b.ch = nil
	}
}

// ancestors returns the directories that have to be synced so that dir is found after a crash: the
// parent of dir, and the parents above it up to the first that exists.
func ancestors(fs FS, dir string) []string {
	var list []string
	for {
		parent := filepath.Dir(dir)
		if parent == dir {
			return list
		}

		list = append(list, parent)
		if _, err := fs.List(parent); err == nil || !isNotExist(err) {
			return list
		}

		dir = parent
	}
}
