package eventlog

import (
	"slices"

	"github.com/coppice-go/coppice/eventlog/segment"
)

// Retainer holds back truncation. Its methods are safe for concurrent use.
type Retainer struct {
	log   *Log
	name  string
	floor uint64 // under log.retainMu
}

// Retain registers name as a reader that still needs every record from floor on; Truncate removes none
// of them. A name that is already registered is taken over: the earlier Retainer then does nothing. What was truncated before
// stays so: compare floor with First afterwards.
func (l *Log) Retain(name string, floor uint64) *Retainer {
	// Not while a truncation is under way that does not know of it.
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

// floor returns up to where the front may go, given what was asked, and the retainer that stands in the way, if one does.
func (l *Log) floor(before uint64) (uint64, string) {
	end := l.Durable() + 1
	floor, holder := min(before, end), ""
	if keep := l.opts.Retention.Records; keep > 0 {
		floor = min(floor, end-min(keep, end))
	}
	l.retainMu.Lock()
	defer l.retainMu.Unlock()
	for name, r := range l.retainers {
		if r.floor < floor {
			floor, holder = r.floor, name
		}
	}
	return floor, holder
}

// Truncate removes whole segments from the front that hold only records with an index below before,
// below every retainer's floor and outside Options.Retention, and returns the number of segments
// removed. The newest segment always stays. Cursors on a removed segment read it to its end and then get ErrTruncated, unless they
// are on the segment next to those that are left.
func (l *Log) Truncate(before uint64) (removed int, err error) {
	l.truncating.Lock()
	defer l.truncating.Unlock()
	l.mu.Lock()
	err = l.refuse()
	l.mu.Unlock()
	if err != nil {
		return 0, err
	}
	floor, holder := l.floor(before)
	recycled := 0
	for {
		segs := l.snapshot()
		if len(segs) < 2 || segs[1].first > floor || !l.spareable(segs) {
			break
		}
		kept, err := l.removeOldest(segs[0], segs[1].first)
		if err != nil {
			return removed, err
		}
		removed++
		if kept {
			recycled++
		}
	}
	if removed > 0 {
		l.emit(Truncated{First: l.First(), Removed: removed, Recycled: recycled, HeldBy: holder})
	}
	return removed, nil
}

// spareable tells whether enough bytes remain without the oldest segment.
func (l *Log) spareable(segs []*seg) bool {
	keep := l.opts.Retention.Bytes
	for _, s := range segs[1:] {
		keep -= s.end.Load() - segment.HeaderSize
	}
	return keep <= 0
}

// removeOldest takes one segment away, and makes that durable before the next one goes: otherwise a crash could bring back an old
// one and not its successor, which is what damage looks like. A file that a cursor has open is never recycled.
func (l *Log) removeOldest(s *seg, first uint64) (recycled bool, err error) {
	l.segMu.Lock()
	readers := s.readers
	if readers == 0 {
		recycled, err = l.spares.keep(s.path, s.end.Load())
	}
	if err == nil && !recycled {
		err = l.opts.FS.Remove(s.path)
	}
	if err == nil {
		l.segs = slices.Clone(l.segs[1:])
		l.first.Store(first)
	}
	l.segMu.Unlock()
	if err != nil || recycled {
		return recycled, err
	}
	if err := l.syncNames(); err != nil {
		return false, l.fail(err)
	}
	return false, nil
}
