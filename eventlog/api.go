package eventlog

import (
	"context"
	"errors"
)

// Kind says what a record is. Its meaning belongs to the log's user.
type Kind uint8

// Record is what is appended.
type Record struct {
	Kind Kind
	Data []byte // copied before the append call returns
}

// Entry is a record that was read. Data belongs to the reader only as long as the call it came from says.
type Entry struct {
	Index uint64 // 1-based, without gaps
	Kind  Kind
	Data  []byte
}

// Log is an open log. All methods are safe for concurrent use.
type Log struct{}

var errStep1 = errors.New("api only")

// Open opens the log in dir, creating it if there is none, and recovers it: the lock on dir, every
// segment checked, a torn tail cut, the last frames written and synced anew. Errors: ErrLocked,
// *CorruptError, ErrVersion, or what the file system said.
func Open(dir string, o Options) (*Log, error) { return nil, errStep1 }

// OpenReadOnly opens a log that nobody is writing, without changing a byte of it. What Open would cut
// is not shown. Appending methods return ErrReadOnly.
func OpenReadOnly(dir string, o Options) (*Log, error) { return nil, errStep1 }

// Recovery is what Open found.
func (l *Log) Recovery() Recovery { return Recovery{} }

// ID is the log's identity, drawn when it was created and held in every segment.
func (l *Log) ID() [16]byte { return [16]byte{} }

// First is the index of the first record that is kept; Durable()+1 if there is none.
func (l *Log) First() uint64 { return 0 }

// Durable is the index of the last durable record: First()-1 if there is none.
func (l *Log) Durable() uint64 { return 0 }

// Append adds records, with consecutive indexes, atomically: after a crash all of them are there or
// none. It waits only while too much is pending, and then no longer than ctx; the records are durable
// when the Pending says so.
func (l *Log) Append(ctx context.Context, records ...Record) *Pending { return nil }

// AppendNoSync adds records like Append but asks for no sync: they become durable, and visible, with
// the next append or Sync that does. An error means that nothing was appended.
func (l *Log) AppendNoSync(ctx context.Context, records ...Record) (first uint64, err error) {
	return 0, errStep1
}

// AppendFunc adds records like Append and calls done from the committer, in index order, once they are
// durable or the log failed. done must not block and must not append. If AppendFunc returns an error,
// nothing was appended and done is not called.
func (l *Log) AppendFunc(ctx context.Context, done func(first uint64, err error), records ...Record) error {
	return errStep1
}

// Sync waits until all that was appended before the call is durable.
func (l *Log) Sync(ctx context.Context) error { return errStep1 }

// Pending is an append on its way.
type Pending struct{}

// First is the index of the append's first record; 0 if it was refused.
func (p *Pending) First() uint64 { return 0 }

// Last is the index of the append's last record; 0 if it was refused.
func (p *Pending) Last() uint64 { return 0 }

// Done is closed when the outcome is known.
func (p *Pending) Done() <-chan struct{} { return nil }

// Err is nil until Done is closed; then nil means durable. ErrFailed means that the log failed, and the append may or may
// not be there after recovery; any other error that nothing was appended.
func (p *Pending) Err() error { return errStep1 }

// Wait waits for Done, and returns Err. If ctx ends first it returns ctx's error, and the outcome is unknown.
func (p *Pending) Wait(ctx context.Context) error { return errStep1 }

// Read returns a durable record. Its Data is the caller's. Errors: ErrTruncated, ErrNotFound, *CorruptError.
func (l *Log) Read(index uint64) (Entry, error) { return Entry{}, errStep1 }

// Cursor returns a reader that begins at index from, which may lie ahead of the log. A from before
// First is ErrTruncated. A cursor holds back no truncation: that is what Retain is for.
func (l *Log) Cursor(from uint64) (*Cursor, error) { return nil, errStep1 }

// Cursor reads a log in order. It is for one goroutine at a time.
type Cursor struct{}

// Next returns the next record, waiting until there is a durable one. Data is valid until the next call on the cursor.
// When the log fails or closes, Next first returns all that is durable, then ErrFailed or ErrClosed.
func (c *Cursor) Next(ctx context.Context) (Entry, error) { return Entry{}, errStep1 }

// TryNext is Next that does not wait: ok is false if no further record is durable.
func (c *Cursor) TryNext() (e Entry, ok bool, err error) { return Entry{}, false, errStep1 }

// Close releases the cursor.
func (c *Cursor) Close() {}

// Retain registers name as a reader that still needs every record from floor on. Truncate removes none of them. A name
// that is already registered is taken over: the earlier Retainer then does nothing.
func (l *Log) Retain(name string, floor uint64) *Retainer { return nil }

// Retainer holds back truncation.
type Retainer struct{}

// Advance raises the floor. A lower one is ignored.
func (r *Retainer) Advance(floor uint64) {}

// Release ends the hold.
func (r *Retainer) Release() {}

// Truncate removes whole segments from the front that hold only records with an index below before, below every
// retainer's floor and outside Options.Retention, and returns the number of segments removed. The newest segment always stays.
func (l *Log) Truncate(before uint64) (removed int, err error) { return 0, errStep1 }

// Stat is a picture of a log.
type Stat struct {
	ID        [16]byte
	Dir       string
	First     uint64
	Durable   uint64
	Next      uint64 // the index the next append will get
	Segments  []SegmentStat
	Bytes     int64 // of frames in all segments
	Pending   int64 // bytes appended that are not yet written
	Retainers []RetainerStat
	Frames    uint64 // frames written since Open
	Syncs     uint64 // syncs of frames since Open
	Err       error  // the sticky failure, if any
}

// SegmentStat is one segment of a Stat.
type SegmentStat struct {
	File   string
	Number uint64
	First  uint64
	Last   uint64 // First-1 if it holds no record
	Bytes  int64  // of frames
	Sealed bool
}

// RetainerStat is one retainer of a Stat.
type RetainerStat struct {
	Name  string
	Floor uint64
}

// Stat returns a picture of the log, retainers sorted by floor, the one that holds back most first.
func (l *Log) Stat() Stat { return Stat{} }

// Close makes everything appended durable, seals the log and unlocks its directory. Appends from then on are ErrClosed. Close of
// a failed log returns its failure, but releases everything too. A second Close returns what the first did.
func (l *Log) Close() error { return errStep1 }

// Report is what Verify found.
type Report struct {
	Recovery
	Records uint64
	Frames  uint64
	Files   []SegmentStat
	Damage  []*CorruptError // every one found; at most one per segment
}

// Verify reads a log that nobody is writing, in full, and changes nothing: every frame, record, checksum, seal and the chain of
// seals. The error joins every *CorruptError of the report. A torn tail, which Open would cut, is no damage: see TornBytes.
func Verify(dir string, o Options) (Report, error) { return Report{}, errStep1 }
