package eventlog

import (
	"slices"

	"github.com/coppice-go/coppice/eventlog/segment"
)

// Retainer holds back truncation. Its methods are safe for concurrent use.
type Retainer struct {
	log   *Log
	name  string
	floor uint64 // guarded by log.retainMu
}

// Retain registers name as a reader that still needs every record from floor on, so Truncate
// removes none of them. If name is already registered, the new Retainer replaces the earlier one,
// which then does nothing. Records that were truncated before are gone, so compare floor with First
// afterwards.
func (l *Log) Retain(name string, floor uint64) *Retainer {
	// A truncation that is under way does not know of this retainer, so wait for it.
	l.truncating.Lock()
	defer l.truncating.Unlock()
	l.retainMu.Lock()
	defer l.retainMu.Unlock()

	r := &Retainer{log: l, name: name, floor: floor}
	l.retainers[name] = r
	return r
}

// Advance raises the floor. A lower one is ignored.
func (r *Retainer) Advance(floor uint64) {
	r.log.retainMu.Lock()
	defer r.log.retainMu.Unlock()
	r.floor = max(r.floor, floor)
}

// Release ends the hold.
func (r *Retainer) Release() {
	r.log.retainMu.Lock()
	defer r.log.retainMu.Unlock()
	if r.log.retainers[r.name] == r {
		delete(r.log.retainers, r.name)
	}
}

// floor returns the index below which Truncate(before) may remove records: before, or a lower index
// if the durable end, Options.Retention or a retainer prevents more. If it is a retainer, floor
// also returns its name.
func (l *Log) floor(before uint64) (uint64, string) {
	end := l.Durable() + 1
	floor, holder := min(before, end), ""
	if keep := l.opts.Retention.Records; keep > 0 {
		floor = min(floor, end-min(keep, end))
	}

	l.retainMu.Lock()
	defer l.retainMu.Unlock()

	for name, r := range l.retainers {
		if r.floor < floor && !l.opts.bugs.noFloor {
			floor, holder = r.floor, name
		}
	}

	return floor, holder
}

// Truncate removes whole segments from the front and returns how many. It removes a segment only if
// all of its records have an index below before, are below every retainer's floor and are outside
// Options.Retention. The newest segment always stays. A cursor on a removed segment reads it to its
// end and then gets ErrTruncated, unless the next segment is still there. If Truncate returns an
// error with a number above 0, the records are gone from the log, and the next Open removes the
// files that are left.
func (l *Log) Truncate(before uint64) (removed int, err error) {
	l.truncating.Lock()
	defer l.truncating.Unlock()

	l.mu.Lock()
	err = l.appendError()
	l.mu.Unlock()

	if err != nil {
		return 0, err
	}
	if err := l.checkLock(); err != nil {
		return 0, l.fail(err)
	}

	floor, holder := l.floor(before)
	segs := l.snapshot()
	n := 0
	for len(segs)-n >= 2 && segs[n+1].first <= floor && l.satisfyRetention(segs[n+1:]) {
		n++
	}

	if n == 0 {
		return 0, nil
	}

	// As soon as the extent says so, these segments are truncated, whatever happens to their files:
	// a crash may keep any of them.
	front := segs[n]
	if err := l.changeExtent(func(e *segment.Extent) {
		e.First, e.FirstIndex = front.number, front.first
	}); err != nil {
		return 0, err
	}

	l.segMu.Lock()
	l.segs = slices.Clone(l.segs[n:])
	l.first.Store(front.first)
	l.segMu.Unlock()

	recycled := 0
	for _, s := range segs[:n] {
		kept, rerr := l.discard(s)
		if rerr != nil && err == nil {
			err = rerr
		}
		if kept {
			recycled++
		}
	}

	l.emit(Truncated{First: front.first, Removed: n, Recycled: recycled, HeldBy: holder})

	return n, err
}

// satisfyRetention reports whether these segments hold as many bytes as Options.Retention demands.
func (l *Log) satisfyRetention(segs []*seg) bool {
	keep := l.opts.Retention.Bytes
	for _, s := range segs {
		keep -= s.end.Load() - segment.HeaderSize
	}
	return keep <= 0
}

// discard removes or recycles the file of a segment that was truncated. It never recycles a file
// that a cursor has open. No new cursor can reach the segment.
func (l *Log) discard(s *seg) (recycled bool, err error) {
	l.segMu.RLock()
	readers := s.readers
	l.segMu.RUnlock()

	if readers == 0 {
		recycled, err = l.spares.keep(s.path, s.end.Load())
	}
	if err == nil && !recycled {
		err = l.opts.FS.Remove(s.path)
	}

	return recycled, err
}
