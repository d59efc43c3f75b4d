package eventlog

import (
	"fmt"
	"time"
)

// Sizes in bytes that the zero Options stand for.
const (
	DefaultSegmentSize = 64 << 20
	DefaultMaxRecord   = 64<<20 + 1<<20 // 64 MiB of content and an envelope around it
	DefaultMaxBatch    = 1 << 20
)

// maxIndex bounds where a log may begin, far from where indexes would run over.
const maxIndex = 1 << 62

// Options say how to open a log. The zero value is a log with the sizes above on the operating
// system's files; a size of 0 means its default, and a negative one is an error.
type Options struct {
	// FS is where the log lives; nil is the operating system.
	FS FS

	// SegmentSize is the size, in bytes, that a segment file grows to before the log rolls to the
	// next. The first segments after Open are smaller (1 MiB, 4 MiB, …) so that a small log stays
	// small on disk; one frame larger than this gets a segment that holds it. At least 8 KiB.
	SegmentSize int64

	// MaxRecord bounds, in bytes, what one append call may carry: its records go into one frame
	// whole, each with up to 6 bytes of its own. At most 1 GiB.
	MaxRecord int64

	// MaxBatch is when, in bytes, appenders begin to wait. At most two batches are in memory, one
	// being written and one filling; one call larger than MaxBatch makes a batch of its own.
	MaxBatch int64

	// Retention is kept whatever Truncate asks for.
	Retention Retention

	// FirstIndex is the index of the first record of a log that is created; 0 means 1. An existing
	// log keeps its own. A log begun from a snapshot uses it to go on counting where the snapshot
	// was taken.
	FirstIndex uint64

	// QuickOpen trusts segments that are not the last: Open checks their headers, seals and chain,
	// not every frame, so it takes time in the number of segments, not of bytes. Their frames are
	// still checked whenever they are read.
	QuickOpen bool

	// Events, if set, is told what the log does, one call at a time, from any goroutine of the log
	// or of its callers. It must return soon and must not call the log.
	Events func(Event)

	// Synced, if set, is told how long each sync of frames took, by the log's own goroutine or one
	// that appends. It must return at once and must not call the log.
	Synced func(took time.Duration)

	bugs bugs // mistakes that tests switch on, to show that the suite notices them
}

// Retention is what to keep at the end of the log beyond what retainers need. Both hold if both are
// set.
type Retention struct {
	Records uint64 // at least so many of the newest records
	Bytes   int64  // at least so many bytes of the newest segments
}

// bugs are the seeded mistakes of docs/eventlog.md that no file system could make for us.
type bugs struct {
	noLookAhead bool // a bad frame in the last segment is always taken for a torn tail
	noExtent    bool // a roll does not tell the extent of the new segment
	trustExtent bool // recovery trusts what the page cache shows of the extent
	noFloor     bool // truncation does not ask the retainers
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
