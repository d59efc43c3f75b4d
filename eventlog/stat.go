package eventlog

import (
	"cmp"
	"slices"

	"github.com/coppice-go/coppice/eventlog/segment"
)

// Stat is a snapshot of a log's figures.
type Stat struct {
	ID        [16]byte
	Dir       string
	First     uint64
	Durable   uint64
	Next      uint64 // the index that the next append will get
	Segments  []SegmentStat
	Bytes     int64 // of durable frames in all segments
	Pending   int64 // bytes that are appended and not yet written
	Retainers []RetainerStat
	Frames    uint64 // written since Open
	Syncs     uint64 // of frames, since Open
	Err       error  // the sticky failure, if any
}

// SegmentStat describes one segment.
type SegmentStat struct {
	File   string
	Number uint64
	First  uint64
	Last   uint64 // First-1 if it holds no durable record
	Bytes  int64  // of durable frames
	Sealed bool
}

// RetainerStat describes one retainer.
type RetainerStat struct {
	Name  string
	Floor uint64
}

// Stat returns a snapshot of the log's figures. Retainers are sorted by floor; the first one holds
// back the most.
func (l *Log) Stat() Stat {
	st := Stat{ID: l.ID(), Dir: l.dir, First: l.First(), Durable: l.Durable(), Frames: l.frames.Load(),
		Syncs: l.syncs.Load(), Err: l.failure()}

	for _, s := range l.snapshot() {
		seg := SegmentStat{File: s.path, Number: s.number, First: s.first, Last: s.next.Load() - 1,
			Bytes: s.end.Load() - segment.HeaderSize, Sealed: s.sealed.Load()}
		st.Segments = append(st.Segments, seg)
		st.Bytes += seg.Bytes
	}

	l.mu.Lock()
	st.Next = l.next
	st.Pending = l.writing
	if l.cur.count > 0 {
		st.Pending += int64(len(l.cur.buf))
	}
	l.mu.Unlock()

	l.retainMu.Lock()
	for name, r := range l.retainers {
		st.Retainers = append(st.Retainers, RetainerStat{name, r.floor})
	}
	l.retainMu.Unlock()

	slices.SortFunc(st.Retainers, func(a, b RetainerStat) int {
		return cmp.Or(cmp.Compare(a.Floor, b.Floor), cmp.Compare(a.Name, b.Name))
	})

	return st
}
