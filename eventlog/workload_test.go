package eventlog_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"sync"
	"sync/atomic"
	"testing"

	"go.uber.org/goleak"

	"github.com/coppice-go/coppice/eventlog"
)

const logDir = "/data/log"

func TestMain(m *testing.M) {
	if dir := os.Getenv(childEnv); dir != "" {
		os.Exit(childMain(dir))
	}
	if dir := os.Getenv(faultyEnv); dir != "" {
		os.Exit(faultyMain(dir))
	}
	goleak.VerifyTestMain(m)
}

// soak returns long if COPPICE_SOAK is set, so that the campaigns run at length, and short
// otherwise.
func soak(short, long int) int {
	if os.Getenv("COPPICE_SOAK") != "" {
		return long
	}
	return short
}

// small returns options that make everything happen often.
func small(fs eventlog.FS) eventlog.Options {
	return eventlog.Options{FS: fs, SegmentSize: 8 << 10}
}

// recordAt returns the record that every test appends at an index, so that a record that is read
// can be judged without notes.
func recordAt(index uint64) eventlog.Record {
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

func recordsAt(first uint64, n int) []eventlog.Record {
	var recs []eventlog.Record
	for i := range n {
		recs = append(recs, recordAt(first+uint64(i)))
	}
	return recs
}

// promises is what a log has promised so far. A clone of its disk at any moment can be held to it.
type promises struct {
	acked    atomic.Uint64 // last index that must be there
	asked    atomic.Uint64 // last index that may be there
	mayStart atomic.Uint64 // first index that must be there, if it was ever appended

	mu   sync.Mutex
	ends map[uint64]bool // last indexes of append calls: a prefix ends at one of them
}

func newPromises() *promises {
	p := &promises{ends: map[uint64]bool{0: true}}
	p.mayStart.Store(1)
	return p
}

func (p *promises) willAsk(last uint64) {
	p.mu.Lock()
	p.ends[last] = true
	p.mu.Unlock()
	p.asked.Store(last)
}

func (p *promises) ack(last uint64) {
	for {
		old := p.acked.Load()
		if old >= last || p.acked.CompareAndSwap(old, last) {
			return
		}
	}
}

// kept is the part of the promises that held at one moment.
type kept struct{ acked, mayStart uint64 }

func (p *promises) now() kept { return kept{p.acked.Load(), p.mayStart.Load()} }

// check compares an opened log with what was promised before its disk was cloned.
func (p *promises) check(l *eventlog.Log, before kept) error {
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

	return readAll(l)
}

// readAll reads a whole log and judges each record.
func readAll(l *eventlog.Log) error {
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
		if err := same(e, want); err != nil {
			return err
		}
	}

	if want < end+1 {
		return fmt.Errorf("reading ended before record %d, durable are %d", want, end)
	}

	return nil
}

func same(e eventlog.Entry, index uint64) error {
	rec := recordAt(index)
	if e.Index != index || e.Kind != rec.Kind || string(e.Data) != string(rec.Data) {
		return fmt.Errorf("wrong data: read index %d kind %d and %d bytes, want record %d, kind %d and %d bytes",
			e.Index, e.Kind, len(e.Data), index, rec.Kind, len(rec.Data))
	}
	return nil
}

// work takes random steps until the log fails, and keeps the promises up to date. It returns an
// error only if the log breaks its contract; a failure of the log is not one. It leaves the log
// closed.
func work(ctx context.Context, rng *rand.Rand, o eventlog.Options, p *promises, steps int) error {
	var l *eventlog.Log
	open := func() error {
		before := p.now()
		var err error
		if l, err = eventlog.Open(logDir, o); err != nil {
			return fmt.Errorf("open: %w", err)
		}
		if err := p.check(l, before); err != nil {
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
				_, err = l.AppendWait(ctx, recordsAt(next, n)...)
			} else {
				err = l.Append(ctx, recordsAt(next, n)...).Wait(ctx)
			}

			if err == nil {
				p.ack(next + uint64(n) - 1)
			}

		case 6, 7, 8:
			p.willAsk(next + uint64(n) - 1)
			_, err = l.AppendNoSync(ctx, recordsAt(next, n)...)

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
			if again := l.Append(ctx, recordAt(next)).Wait(ctx); !errors.Is(again, eventlog.ErrFailed) {
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
