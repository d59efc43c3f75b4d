package eventlog

import (
	"fmt"
	"time"
)

// The sizes in bytes that the zero Options stand for.
const (
	DefaultSegmentSize = 64 << 20
	DefaultMaxRecord   = 64<<20 + 1<<20 // 64 MiB of content and an envelope
	DefaultMaxBatch    = 1 << 20
)

// maxIndex bounds Options.FirstIndex, so that indexes never overflow.
const maxIndex = 1 << 62

// Options say how to open a log. The zero value means a log with the sizes above on the operating
// system's files. A size of 0 means its default, and a negative one is an error.
type Options struct {
	// FS is the file system of the log; nil means the operating system's.
	FS FS

	// SegmentSize is the size, in bytes, to which a segment file grows before the log rolls to the
	// next. The first segments after Open are smaller (1 MiB, 4 MiB, …), so that a small log stays
	// small on disk. A frame that is larger than this gets a segment that holds it. At least 8 KiB.
	SegmentSize int64

	// MaxRecord bounds, in bytes, what one append call may carry. The records of one call go into
	// one frame, and each takes up to 6 bytes of its own. At most 1 GiB.
	MaxRecord int64

	// MaxBatch is the batch size, in bytes, at which appenders begin to wait. At most two batches
	// are in memory: one is being written and one is filling. A call larger than MaxBatch makes a
	// batch of its own.
	MaxBatch int64

	// Retention is what Truncate keeps, whatever it is asked for.
	Retention Retention

	// FirstIndex is the index of the first record of a log that is created; 0 means 1. An existing
	// log keeps its own. A log that begins from a snapshot uses FirstIndex to continue the
	// snapshot's numbering.
	FirstIndex uint64

	// QuickOpen makes Open trust all segments but the last: it checks their headers, seals and
	// chain, but not every frame. Then the time that Open takes depends on the number of segments,
	// not on their bytes. The frames are still checked whenever they are read.
	QuickOpen bool

	// Whole is how many bytes of the newest segments Open checks nevertheless, with QuickOpen. Call
	// CheckRest for the other ones.
	Whole int64

	// Checked, if set, remembers the segments that were checked whole, over several opens of the
	// log by one process. CheckRest leaves them out.
	Checked *Checked

	// Events, if set, is called for each event, one call at a time, from any goroutine of the log
	// or of its callers. It must return soon and must not call the log.
	Events func(Event)

	// Synced, if set, is called with the duration of each sync of frames, by the log's own
	// goroutine or by an appending one. It must return at once and must not call the log.
	Synced func(took time.Duration)

	bugs bugs // mistakes that tests switch on to show that the suite notices them
}

// Retention says what to keep at the end of the log beyond what retainers need. If both fields are
// set, both hold.
type Retention struct {
	Records uint64 // at least this many of the newest records
	Bytes   int64  // at least this many bytes of the newest segments
}

// bugs are the seeded mistakes of docs/eventlog.md that a file system cannot make for the log.
type bugs struct {
	noLookAhead bool // a bad frame in the last segment is always taken for a torn tail
	noExtent    bool // a roll does not add the new segment to the extent
	trustExtent bool // recovery trusts what the page cache shows of the extent
	noFloor     bool // truncation ignores the retainers
	noSeed      bool // checksums do not depend on the segment
	noRewrite   bool // recovery trusts what the page cache shows of the last frames
}

func (o Options) withDefaults() (Options, error) {
	if o.FS == nil {
		o.FS = osFS{}
	}

	for _, f := range []struct {
		name     string
		v        *int64
		def      int64
		min, max int64
	}{
		{"SegmentSize", &o.SegmentSize, DefaultSegmentSize, 8 << 10, 1 << 40},
		{"MaxRecord", &o.MaxRecord, DefaultMaxRecord, 1, 1 << 30},
		{"MaxBatch", &o.MaxBatch, DefaultMaxBatch, 1, 1 << 30},
	} {
		if *f.v == 0 {
			*f.v = f.def
		}
		if *f.v < f.min || *f.v > f.max {
			return o, fmt.Errorf("eventlog: Options.%s is %d bytes, want %d to %d", f.name, *f.v, f.min, f.max)
		}
	}

	if o.Whole < 0 {
		return o, fmt.Errorf("eventlog: Options.Whole is %d, want 0 or more", o.Whole)
	}
	if o.Retention.Bytes < 0 {
		return o, fmt.Errorf("eventlog: Options.Retention.Bytes is %d, want 0 or more", o.Retention.Bytes)
	}
	if o.FirstIndex > maxIndex {
		return o, fmt.Errorf("eventlog: Options.FirstIndex is %d, want at most %d", o.FirstIndex, uint64(maxIndex))
	}
	if o.FirstIndex == 0 {
		o.FirstIndex = 1
	}
	if o.Events == nil {
		o.Events = func(Event) {}
	}
	if o.Synced == nil {
		o.Synced = func(time.Duration) {}
	}

	return o, nil
}
