package eventlog

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/coppice-go/coppice/eventlog/segment"
)

// errEmpty is returned for an append of no records, which would have no index.
var errEmpty = errors.New("eventlog: append of no records")

// batch holds the records that are written as one frame. Their appenders wait for it.
type batch struct {
	buf   []byte // room for the frame header, then records
	first uint64 // index of the first record
	count uint32
	flags segment.Flags // set only for a Builder's gap
	calls int           // append and sync calls that joined the batch
	sync  bool          // at least one call waits for durability
	funcs []callback

	err  error         // written before done is closed
	done chan struct{} // closed when the outcome is known
}

type callback struct {
	first uint64
	done  func(uint64, error)
}

func newBatch(buf []byte) *batch {
	if cap(buf) < segment.FrameHeaderSize {
		buf = make([]byte, segment.FrameHeaderSize, 4<<10)
	}
	return &batch{buf: buf[:segment.FrameHeaderSize], done: make(chan struct{})}
}

func (b *batch) finish(err error) {
	b.err = err
	close(b.done)
	for _, f := range b.funcs {
		f.done(f.first, err)
	}
}

// Pending is an append whose outcome may not be known yet. Its methods are safe for concurrent use.
type Pending struct {
	batch *batch // nil if the append was refused
	first uint64
	count uint64
	err   error // why the append was refused
}

// First returns the index of the append's first record, or 0 if the append was refused.
func (p *Pending) First() uint64 { return p.first }

// Last returns the index of the append's last record, or 0 if the append was refused.
func (p *Pending) Last() uint64 {
	if p.first == 0 {
		return 0
	}
	return p.first + p.count - 1
}

var closedChan = func() chan struct{} { c := make(chan struct{}); close(c); return c }()

// Done returns a channel that is closed when the outcome is known.
func (p *Pending) Done() <-chan struct{} {
	if p.batch == nil {
		return closedChan
	}
	return p.batch.done
}

// Err returns nil until Done is closed. From then on nil means that the append is durable. If First
// is not 0, ErrFailed means that the log failed, and that the append may or may not be there after
// recovery. If First is 0, nothing was appended.
func (p *Pending) Err() error {
	if p.batch == nil {
		return p.err
	}
	select {
	case <-p.batch.done:
		return p.batch.err
	default:
		return nil
	}
}

// Wait waits for Done and returns Err. If ctx ends first, Wait returns ctx's error, and the outcome
// is unknown.
func (p *Pending) Wait(ctx context.Context) error {
	select {
	case <-p.Done():
		return p.Err()
	case <-ctx.Done():
		// If both happened, the outcome counts.
		select {
		case <-p.Done():
			return p.Err()
		default:
			return ctx.Err()
		}
	}
}

// Append adds records with consecutive indexes, atomically: after a crash either all of them are
// there or none. It waits only while too much is pending, and no longer than ctx. If ctx has
// already ended, nothing is appended. The records are durable when the Pending says so. An append
// of no records is refused.
func (l *Log) Append(ctx context.Context, records ...Record) *Pending {
	b, first, err := l.join(ctx, records, wait, nil)
	if err != nil {
		return &Pending{err: err}
	}
	return &Pending{batch: b, first: first, count: uint64(len(records))}
}

// AppendWait is Append and Wait in one call. It is faster for a lone writer: if the committer has
// nothing to do, the caller does the committer's work, so no goroutine has to be woken twice for
// each record. AppendWait looks at ctx at the start and while it waits for others, but not while
// the caller itself writes.
func (l *Log) AppendWait(ctx context.Context, records ...Record) (first uint64, err error) {
	b, first, err := l.join(ctx, records, lead, nil)
	if err != nil {
		return 0, err
	}
	return first, (&Pending{batch: b}).Wait(ctx)
}

// AppendNoSync adds records like Append but asks for no sync. They become durable, and visible to
// readers, with the next append or Sync that asks for one. They are written at once or soon, so
// they outlive the process. An error means that nothing was appended. A write that fails is
// reported by the Sync or append after it.
func (l *Log) AppendNoSync(ctx context.Context, records ...Record) (first uint64, err error) {
	_, first, err = l.join(ctx, records, noSync, nil)
	return first, err
}

// AppendFunc adds records like Append and calls done, in index order, once they are durable or the
// log has failed. The goroutine that commits calls done, and it may belong to another appender:
// done must not block, must not append, and must not need a lock that is held around an append. If
// AppendFunc returns an error, nothing was appended and done is not called.
func (l *Log) AppendFunc(ctx context.Context, done func(first uint64, err error), records ...Record) error {
	_, _, err := l.join(ctx, records, wait, done)
	return err
}

// AppendLater adds records like AppendNoSync, and calls done like AppendFunc, once they are durable
// or the log has failed. It asks for no sync itself: the records become durable with the next
// append or sync that asks for one, or when the log is closed. So one sync can cover records whose
// appenders do not know of each other.
func (l *Log) AppendLater(ctx context.Context, done func(first uint64, err error), records ...Record) error {
	_, _, err := l.join(ctx, records, noSync, done)
	return err
}

// SyncSoon asks for a sync of all records that were appended before the call, and does not wait for
// it. It does nothing if the log has failed or is closed.
func (l *Log) SyncSoon() {
	l.mu.Lock()
	defer l.mu.Unlock()

	if l.appendError() != nil {
		return
	}
	l.cur.sync = true
	l.cur.calls++
	l.wakeCommitter()
}

// Sync waits until all records that were appended before the call are durable.
func (l *Log) Sync(ctx context.Context) error {
	l.mu.Lock()
	if err := l.appendError(); err != nil {
		l.mu.Unlock()
		return err
	}

	b := l.cur
	b.sync = true
	b.calls++
	l.wakeCommitter()
	l.mu.Unlock()

	return (&Pending{batch: b}).Wait(ctx)
}

// mode says what an appender asks of the committer.
type mode int

const (
	noSync mode = iota // write; the caller does it if the committer sleeps
	lead               // write and sync; the caller does it if the committer sleeps
	wait               // write and sync, while the caller goes on
)

// join adds records to the batch that is filling, and returns the batch and the first index.
func (l *Log) join(ctx context.Context, records []Record, mode mode, done func(uint64, error)) (*batch, uint64, error) {
	if len(records) == 0 {
		return nil, 0, errEmpty
	}

	var size int64
	for i := range records {
		size += segment.RecordSize(len(records[i].Data))
	}

	if size > l.opts.MaxRecord {
		return nil, 0, fmt.Errorf("%w: %d bytes in %d records, at most %d", ErrTooLarge, size, len(records),
			l.opts.MaxRecord)
	}

	if err := ctx.Err(); err != nil {
		return nil, 0, err
	}

	l.mu.Lock()
	defer l.mu.Unlock()

	for {
		if err := l.appendError(); err != nil {
			return nil, 0, err
		}
		if l.cur.count == 0 || int64(len(l.cur.buf))+size <= l.opts.MaxBatch {
			break
		}
		if err := l.awaitRoom(ctx); err != nil {
			return nil, 0, err
		}
	}

	b := l.cur
	b.buf = slices.Grow(b.buf, int(size)+segment.Align) // and the padding
	for i := range records {
		b.buf = segment.AppendRecord(b.buf, uint8(records[i].Kind), records[i].Data)
	}

	first := l.next
	l.next += uint64(len(records))
	b.count += uint32(len(records))
	b.calls++
	b.sync = b.sync || mode != noSync
	if done != nil {
		b.funcs = append(b.funcs, callback{first, done})
	}

	if mode != wait && l.idle {
		l.lead()
	} else {
		l.wakeCommitter()
	}

	return b, first, nil
}

// appendError returns why nothing can be appended any more, or nil. mu is held.
func (l *Log) appendError() error {
	switch {
	case l.readOnly:
		return ErrReadOnly
	case l.failed.Load() != nil:
		return l.failure()
	case l.closing:
		return ErrClosed
	}
	return nil
}

// awaitRoom waits until the committer has taken the full batch. mu is held on entry and return, but
// not during the wait.
func (l *Log) awaitRoom(ctx context.Context) error {
	if l.room == nil {
		l.room = make(chan struct{})
	}

	room := l.room
	l.mu.Unlock()
	defer l.mu.Lock()

	select {
	case <-room:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// makeRoom wakes the appenders that wait for room. mu is held.
func (l *Log) makeRoom() {
	if l.room != nil {
		close(l.room)
		l.room = nil
	}
}

// wakeCommitter wakes the committer if it sleeps. mu is held.
func (l *Log) wakeCommitter() {
	if l.idle {
		l.idle = false
		l.wake <- struct{}{}
	}
}
