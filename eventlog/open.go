package eventlog

import (
	"crypto/rand"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"github.com/coppice-go/coppice/eventlog/segment"
)

// Open opens the log in dir, or creates it if there is none, and recovers it: Open locks dir,
// checks every segment, cuts a torn tail, and writes and syncs the last frames anew. Errors are
// ErrLocked, *CorruptError, ErrVersion, or an error of the file system.
func Open(dir string, o Options) (*Log, error) {
	o, err := o.withDefaults()
	if err != nil {
		return nil, err
	}
	if dir == "" {
		return nil, errors.New("eventlog: no directory is named; name \".\" for the current one")
	}

	start := time.Now()
	l := newLog(filepath.Clean(dir), o)
	parents := ancestors(o.FS, l.dir)
	if err := o.FS.MkdirAll(l.dir); err != nil {
		return nil, fmt.Errorf("eventlog: %w", err)
	}
	if l.lock, err = o.FS.Lock(filepath.Join(l.dir, lockName)); err != nil {
		return nil, fmt.Errorf("eventlog: %w", err)
	}
	if err := l.open(parents); err != nil {
		return nil, l.release(err)
	}

	l.recovery.Duration = time.Since(start)
	l.emit(Recovered{l.recovery})
	go l.commitLoop()

	return l, nil
}

// checkLock returns an error if the names in the log's directory no longer belong to this log.
func (l *Log) checkLock() error {
	if h, ok := l.lock.(Holder); ok {
		return h.Held()
	}
	return nil
}

func newLog(dir string, o Options) *Log {
	l := &Log{
		dir:       dir,
		opts:      o,
		cur:       newBatch(nil),
		wake:      make(chan struct{}, 1),
		stopped:   make(chan struct{}),
		retainers: make(map[string]*Retainer),
	}
	l.spares.log, l.spares.quiet.L = l, &l.spares.mu
	l.w.target = min(firstSegmentSize, o.SegmentSize)
	return l
}

// open recovers the log, or creates it. parents are the directories that lead to the log's.
func (l *Log) open(parents []string) error {
	in := inspection{fs: l.opts.FS, dir: l.dir, bugs: l.opts.bugs, quick: l.opts.QuickOpen, whole: l.opts.Whole,
		progress: func(done, total int64) { l.emit(Progress{done, total}) }}

	if err := in.list(); err != nil {
		return fmt.Errorf("eventlog: %w", err)
	}
	if err := in.run(); err != nil {
		return err
	}
	if err := in.firstDamage(); err != nil {
		return err
	}

	// A prepared file holds only zeros or old bytes.
	for _, path := range in.spares {
		if err := l.opts.FS.Remove(path); err != nil {
			return fmt.Errorf("eventlog: removing a segment file that was never used: %w", err)
		}
	}

	if len(in.segs) == 0 {
		return l.create(parents)
	}

	last := in.segs[len(in.segs)-1]
	l.recovery = in.recovery()
	if err := l.settle(last); err != nil {
		return fmt.Errorf("eventlog: recovering %s: %w", last.path, err)
	}

	// The names, too, may be in memory only, if the process that made them died before its sync
	// returned.
	for _, dir := range append([]string{l.dir}, parents...) {
		if err := l.opts.FS.SyncDir(dir); err != nil {
			return fmt.Errorf("eventlog: %w", err)
		}
	}

	if !l.recovery.Clean {
		l.emit(TornTail{last.path, last.scan.end, l.recovery.TornBytes, last.scan.next})
	}

	l.adopt(&in)
	l.w.prev = position{number: last.number, seal: last.scan.seal}
	l.w.next = last.scan.next
	if err := l.settleExtent(&in); err != nil {
		return fmt.Errorf("eventlog: %w", err)
	}

	// The first append begins the next segment, so an idle restart leaves nothing behind.
	l.spares.prepare(l.w.target, l.w.target)

	return nil
}

// settleExtent makes the extent describe what was found, and removes the segments that it says were
// truncated.
func (l *Log) settleExtent(in *inspection) error {
	change := ended(l.w.prev, l.w.next)
	if in.extent == nil {
		e := segment.Extent{ID: l.w.id, First: 1, FirstIndex: l.recovery.FirstIndex}
		change(&e)
		return l.createExtent(e)
	}

	if err := l.adoptExtent(*in.extent); err != nil {
		return err
	}

	for _, path := range in.leftovers {
		if err := l.opts.FS.Remove(path); err != nil {
			return err
		}
	}

	return l.changeExtent(change)
}

// adopt makes the segments that were found readable.
func (l *Log) adopt(in *inspection) {
	for _, s := range in.segs {
		l.segs = append(l.segs, s.reader())
	}
	l.first.Store(l.recovery.FirstIndex)
	l.durable.Store(l.recovery.LastIndex)
	l.next = l.recovery.LastIndex + 1
	l.cur.first = l.next
}

// create begins a new log.
func (l *Log) create(parents []string) error {
	rand.Read(l.w.id[:])
	l.w.next = l.opts.FirstIndex
	l.next, l.cur.first = l.w.next, l.w.next
	l.first.Store(l.next)
	l.durable.Store(l.next - 1)
	l.spares.prepare(l.w.target, l.w.target)
	if err := l.begin(0); err != nil {
		return fmt.Errorf("eventlog: creating a log in %s: %w", l.dir, err)
	}

	for _, dir := range parents {
		if err := l.opts.FS.SyncDir(dir); err != nil {
			return fmt.Errorf("eventlog: %w", err)
		}
	}

	l.recovery = Recovery{ID: l.w.id, Created: true, Clean: true, FirstIndex: l.next, LastIndex: l.next - 1,
		Segments: 1}

	return nil
}

// settle makes sure that everything found in the last segment is on the disk, and seals the
// segment. If the last sync of the previous process failed, the kernel may show bytes that it could
// not write and no longer means to write. Reading cannot tell, and a sync would do nothing. Writing
// the bytes again makes the kernel try.
func (l *Log) settle(last *inspected) error {
	l.w.id = last.header.ID
	f, err := l.opts.FS.Open(last.path, true)
	if err != nil {
		return err
	}
	defer f.Close()

	s := &last.scan
	end := s.end
	if s.sealed {
		end += segment.FrameHeaderSize
	}

	if s.lastFrame != 0 && !l.opts.bugs.noRewrite {
		if err := rewrite(f, s.synced, end); err != nil {
			return err
		}
	}

	if err := f.Sync(); err != nil {
		return err
	}
	if s.sealed {
		return nil
	}

	// The seal overwrites the torn bytes. It says that everything before it is durable, so it comes
	// after that sync.
	seal := sealFrame(last.seed, end, s.next)
	if err := writeSync(f, seal.bytes, end); err != nil {
		return err
	}

	s.sealed, s.seal = true, seal.Seal

	return nil
}

// rewrite reads the bytes of f from one offset to another and writes them again.
func rewrite(f File, from, to int64) error {
	buf := make([]byte, min(to-from, 1<<20))
	for from < to {
		part := buf[:min(int64(len(buf)), to-from)]
		if _, err := f.ReadAt(part, from); err != nil {
			return err
		}
		if err := writeAt(f, part, from); err != nil {
			return err
		}
		from += int64(len(part))
	}

	return nil
}

// OpenReadOnly opens a log that nobody is writing, and changes not a byte of it. It does not show
// what Open would cut. The appending methods return ErrReadOnly.
func OpenReadOnly(dir string, o Options) (*Log, error) {
	o, err := o.withDefaults()
	if err != nil {
		return nil, err
	}

	start := time.Now()
	l := newLog(filepath.Clean(dir), o)
	l.readOnly = true
	in := inspection{fs: o.FS, dir: l.dir, bugs: o.bugs, quick: o.QuickOpen, whole: o.Whole,
		progress: func(done, total int64) { l.emit(Progress{done, total}) }}

	if l.lock, err = in.exclusive(); err != nil {
		return nil, err
	}
	err = in.run()
	if err == nil {
		err = in.firstDamage()
	}
	if err != nil {
		return nil, l.release(err)
	}

	l.recovery = in.recovery()
	l.adopt(&in)
	l.recovery.Duration = time.Since(start)

	return l, nil
}
