// Package workload drives a log at random and notes what it promises, so that a test can judge the
// log that it finds on a disk that crashed or failed.
package workload

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"

	"github.com/coppice-go/coppice/eventlog"
)

// Dir is the directory of the log.
const Dir = "/data/log"

// Small returns options that make everything happen often.
func Small(fs eventlog.FS) eventlog.Options {
	return eventlog.Options{FS: fs, SegmentSize: 8 << 10}
}

// RecordAt returns the record that every test appends at an index, so that a record that is read
// can be judged without notes.
func RecordAt(index uint64) eventlog.Record {
	rng := rand.New(rand.NewPCG(index, 7))
	n := rng.IntN(120)
	if rng.IntN(40) == 0 {
		n = rng.IntN(3000)
	}

	b := binary.LittleEndian.AppendUint64(make([]byte, 0, n+8), index)
	for range n / 8 {
		b = binary.LittleEndian.AppendUint64(b, rng.Uint64())
	}

	return eventlog.Record{Kind: eventlog.Kind(index % 251), Data: b}
}

// RecordsAt returns n records, beginning with the one at first.
func RecordsAt(first uint64, n int) []eventlog.Record {
	var recs []eventlog.Record
	for i := range n {
		recs = append(recs, RecordAt(first+uint64(i)))
	}
	return recs
}

// Promises is what a log has promised so far. A clone of its disk at any moment can be held to it.
type Promises struct {
	acked    atomic.Uint64 // last index that must be there
	asked    atomic.Uint64 // last index that may be there
	mayStart atomic.Uint64 // first index that must be there, if it was ever appended

	mu   sync.Mutex
	ends map[uint64]bool // last indexes of append calls: a prefix ends at one of them
}

// NewPromises returns the promises of a log that does not exist yet.
func NewPromises() *Promises {
	p := &Promises{ends: map[uint64]bool{0: true}}
	p.mayStart.Store(1)
	return p
}

func (p *Promises) willAsk(last uint64) {
	p.mu.Lock()
	p.ends[last] = true
	p.mu.Unlock()
	p.asked.Store(last)
}

func (p *Promises) ack(last uint64) {
	for {
		old := p.acked.Load()
		if old >= last || p.acked.CompareAndSwap(old, last) {
			return
		}
	}
}

// Kept is the part of the promises that held at one moment.
type Kept struct{ acked, mayStart uint64 }

// Now returns what the log has promised so far.
func (p *Promises) Now() Kept { return Kept{p.acked.Load(), p.mayStart.Load()} }

// Check compares an opened log with what was promised before its disk was cloned.
func (p *Promises) Check(l *eventlog.Log, before Kept) error {
	r := l.Recovery()
	if r.LastIndex < before.acked {
		return fmt.Errorf("lost: recovered up to %d, acknowledged up to %d", r.LastIndex, before.acked)
	}
	if asked := p.asked.Load(); r.LastIndex > asked {
		return fmt.Errorf("invented: recovered up to %d, appended up to %d", r.LastIndex, asked)
	}

	p.mu.Lock()
	whole := p.ends[r.LastIndex]
	p.mu.Unlock()

	if !whole {
		return fmt.Errorf("torn: recovery ends with %d, which is inside one append", r.LastIndex)
	}
	if may := p.mayStart.Load(); r.FirstIndex > max(may, 1) {
		return fmt.Errorf("truncated too far: begins with %d, truncated to %d", r.FirstIndex, may)
	}

	return ReadAll(l)
}

// ReadAll reads a whole log and judges each record.
func ReadAll(l *eventlog.Log) error {
	c, err := l.Cursor(l.First())
	if err != nil {
		return err
	}
	defer c.Close()

	want, end := l.First(), l.Durable()
	for ; ; want++ {
		e, ok, err := c.TryNext()
		if err != nil {
			return fmt.Errorf("reading record %d: %w", want, err)
		}
		if !ok {
			break
		}
		if err := Same(e, want); err != nil {
			return err
		}
	}

	if want < end+1 {
		return fmt.Errorf("reading ended before record %d, durable are %d", want, end)
	}

	return nil
}

// Same returns an error unless e is the record that RecordAt returns for index.
func Same(e eventlog.Entry, index uint64) error {
	rec := RecordAt(index)
	if e.Index != index || e.Kind != rec.Kind || string(e.Data) != string(rec.Data) {
		return fmt.Errorf("wrong data: read index %d kind %d and %d bytes, want record %d, kind %d and %d bytes",
			e.Index, e.Kind, len(e.Data), index, rec.Kind, len(rec.Data))
	}
	return nil
}

// Run takes random steps until the log fails, and keeps the promises up to date. It returns an
// error only if the log breaks its contract; a failure of the log is not one. It leaves the log
// closed.
func Run(ctx context.Context, rng *rand.Rand, o eventlog.Options, p *Promises, steps int) error {
	var l *eventlog.Log
	open := func() error {
		before := p.Now()
		var err error
		if l, err = eventlog.Open(Dir, o); err != nil {
			return fmt.Errorf("open: %w", err)
		}
		if err := p.Check(l, before); err != nil {
			return errors.Join(err, l.Close())
		}

		p.ack(l.Durable())
		p.willAsk(l.Durable())

		return nil
	}

	if err := open(); err != nil {
		return err
	}

	for range steps {
		next := l.Stat().Next
		n := 1 + rng.IntN(4)
		var err error

		switch rng.IntN(12) {
		case 0, 1, 2, 3, 4, 5:
			p.willAsk(next + uint64(n) - 1)
			if n%2 == 0 {
				_, err = l.AppendWait(ctx, RecordsAt(next, n)...)
			} else {
				err = l.Append(ctx, RecordsAt(next, n)...).Wait(ctx)
			}

			if err == nil {
				p.ack(next + uint64(n) - 1)
			}

		case 6, 7:
			p.willAsk(next + uint64(n) - 1)
			_, err = l.AppendNoSync(ctx, RecordsAt(next, n)...)

		case 8:
			last := next + uint64(n) - 1
			p.willAsk(last)
			err = l.AppendLater(ctx, func(_ uint64, err error) {
				if err == nil {
					p.ack(last)
				}
			}, RecordsAt(next, n)...)
			if err == nil && n%2 == 0 {
				l.SyncSoon()
			}

		case 9:
			if err = l.Sync(ctx); err == nil {
				p.ack(next - 1)
			}

		case 10:
			before := l.Durable() - min(l.Durable(), rng.Uint64N(40))
			if old := p.mayStart.Load(); before > old {
				p.mayStart.Store(before)
			}
			_, err = l.Truncate(before)

		case 11:
			if err = l.Close(); err == nil {
				p.ack(next - 1)
				err = open()
				if err != nil {
					return err
				}
			}
		}

		if err != nil {
			if l.Stat().Err == nil {
				continue // a Truncate that failed before it changed anything
			}
			if again := l.Append(ctx, RecordAt(next)).Wait(ctx); !errors.Is(again, eventlog.ErrFailed) {
				return errors.Join(fmt.Errorf("append after a failure returned %v, want ErrFailed", again), l.Close())
			}
			break
		}
	}

	last := l.Stat().Next - 1
	if err := l.Close(); err == nil {
		p.ack(last)
	}

	return nil
}
