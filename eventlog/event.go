package eventlog

import (
	"fmt"
	"time"
)

// Event is something that the log did, for diagnostics and metrics. Its String is a sentence for
// people. The set of events is closed: the types below.
type Event interface {
	fmt.Stringer
	event()
}

type (
	// Recovered reports a successful Open.
	Recovered struct{ Recovery Recovery }

	// TornTail reports that Open cut a write whose sync had never returned.
	TornTail struct {
		File      string
		Offset    int64  // where the last good frame ends
		Bytes     int64  // at least this much lay beyond it; old bytes of a recycled file do not count
		NextIndex uint64 // the index that the next append will get
	}

	// Progress reports how far a check of the segments has come, during Open, Verify and Salvage.
	Progress struct {
		Done, Total int64 // bytes
	}

	// Rolled reports that a segment was sealed and the next one begun.
	Rolled struct {
		File       string // the new segment
		Number     uint64
		FirstIndex uint64
		Recycled   bool // the file held an older, truncated segment
		Prepared   bool // the file was filled with zeros beforehand, in whole or in part
	}

	// Truncated reports that segments were removed from the front.
	Truncated struct {
		First    uint64 // first index that is kept
		Removed  int    // segments
		Recycled int    // how many of them were kept as files for later segments
		HeldBy   string // the retainer that prevented more, if one did
	}

	// SpareFailed reports that the next segment's file could not be prepared. The log goes on
	// without it.
	SpareFailed struct{ Err error }

	// Failed reports that the log has entered its sticky failed state.
	Failed struct{ Err error }
)

func (Recovered) event()   {}
func (TornTail) event()    {}
func (Progress) event()    {}
func (Rolled) event()      {}
func (Truncated) event()   {}
func (SpareFailed) event() {}
func (Failed) event()      {}

func (e Recovered) String() string {
	r := e.Recovery
	how := "after a crash"

	switch {
	case r.Created:
		how = "newly made"
	case r.Clean:
		how = "closed in order"
	}

	gaps := ""
	if len(r.Gaps) > 0 {
		gaps = fmt.Sprintf(", %d GAPS, the first: %v", len(r.Gaps), r.Gaps[0])
	}
	return fmt.Sprintf("log %x opened, %s: %s in %d segments, %d bytes, %d torn bytes cut, in %v%s",
		r.ID, how, recordRange(r.FirstIndex, r.LastIndex), r.Segments, r.Bytes, r.TornBytes, r.Duration, gaps)
}

// recordRange returns in words which records a log has. An empty log has a last index below its
// first.
func recordRange(first, last uint64) string {
	if last < first {
		return "no records"
	}
	return fmt.Sprintf("records %d to %d", first, last)
}

func (e TornTail) String() string {
	if e.Bytes == 0 { // the process died between two writes
		return fmt.Sprintf("%s was not closed in order, but its tail is not torn; the next record is %d", e.File,
			e.NextIndex)
	}

	return fmt.Sprintf("torn tail of %s cut at offset %d (%d bytes); the next record is %d", e.File, e.Offset, e.Bytes,
		e.NextIndex)
}

func (e Progress) String() string { return fmt.Sprintf("checked %d of %d bytes", e.Done, e.Total) }

func (e Rolled) String() string {
	return fmt.Sprintf("segment %s begun at record %d", e.File, e.FirstIndex)
}

func (e Truncated) String() string {
	by := ""
	if e.HeldBy != "" {
		by = ", held back by " + e.HeldBy
	}
	return fmt.Sprintf("%d segments truncated, the first record is %d%s", e.Removed, e.First, by)
}

func (e SpareFailed) String() string {
	return fmt.Sprintf("the next segment could not be prepared: %v", e.Err)
}

func (e Failed) String() string { return fmt.Sprintf("the log failed: %v", e.Err) }

// Recovery describes what Open found.
type Recovery struct {
	ID         [16]byte // identity of the log, drawn when it was created
	Created    bool     // there was no log, so Open made one
	Clean      bool     // the log had been closed cleanly; true for a created log
	FirstIndex uint64   // of the first record kept; LastIndex+1 if there is none
	LastIndex  uint64   // of the last record; FirstIndex-1 if there is none
	Segments   int
	Bytes      int64 // of frames in all segments
	TornBytes  int64 // cut from the tail
	Gaps       []Gap // records that a salvage found lost; with QuickOpen, only those in the last segment
	Duration   time.Duration
}
