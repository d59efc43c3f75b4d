package sinktest

import (
	"context"
	"fmt"
	"io"
	"runtime"
	"testing"
	"time"

	"github.com/coppice-go/coppice/engines/streams"
)

// The size of a block of Large, and how much memory a sink may take for it, in bytes.
const (
	largeBlock  = 120 << 20
	largeValue  = 4 << 20
	largeMemory = 64 << 20
)

// Large writes a block of 120 MiB to an empty target, and expects that the heap of this process
// grows by no more than 64 MiB meanwhile. It reads the block back. Items 25 and 58.
func Large(t *testing.T, f streams.Factory, target Target) {
	t.Helper()
	k := &kit{t: t, factory: f, target: target, timeout: 5 * time.Minute}
	s, _, err := k.open()
	if err != nil {
		t.Fatal(err)
	}
	defer k.close(s) //nolint:errcheck // the test is over
	first := NewUnit(nil, &streams.Started{InitialHeight: 1})
	if err := k.write(s, first); err != nil {
		t.Fatal(err)
	}
	limit, err := k.limitOf(s)
	if err != nil {
		t.Fatal(err)
	}

	after := first.Position()
	d := &large{limit: limit, after: after, value: make([]byte, largeValue)}
	d.at = streams.Place{ChainID: ChainID, Position: streams.Position{Height: after.Height + 1}}
	d.digest.Begin(ChainID, d.at.Position)
	runtime.GC()
	d.idle = heap()
	if err := k.deliver(s, d); err != nil {
		t.Fatal(err)
	}
	t.Logf("idle %d MiB, peak %d MiB", d.idle>>20, d.peak>>20)
	if d.peak > d.idle+largeMemory {
		t.Errorf("the heap grew from %d to %d MiB, want at most %d MiB more", d.idle>>20, d.peak>>20, largeMemory>>20)
	}

	ctx, cancel := k.ctx()
	defer cancel()
	var size int
	err = s.Read(ctx, d.at.Position, d.at.Position, func(e streams.Event) error {
		size += len(e.Payload())
		return nil
	})
	if err != nil || size != largeBlock {
		t.Errorf("%d bytes came back, want %d (%v)", size, largeBlock, err)
	}
}

// heap returns the bytes of the heap that are in use, after a collection: what is garbage is no
// memory that a sink holds.
func heap() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapInuse
}

// large delivers one block of changes that it makes as they are taken.
type large struct {
	limit int
	after streams.Position
	value []byte

	at     streams.Place
	parts  []streams.Event
	count  uint64
	digest streams.Digester
	ended  bool

	idle, peak uint64
}

func (d *large) Next(context.Context) (streams.Event, error) {
	if len(d.parts) == 0 {
		if d.ended {
			return streams.Event{}, io.EOF
		}
		if err := d.make(); err != nil {
			return streams.Event{}, err
		}
	}
	e := d.parts[0]
	d.parts = d.parts[1:]

	return e, nil
}

// make makes the next event, in parts.
func (d *large) make() error {
	d.peak = max(d.peak, heap())
	e := streams.Event{Place: d.at}
	if d.count*largeValue >= largeBlock {
		sum, err := d.digest.Sum()
		if err != nil {
			return err
		}
		d.ended = true
		e.Body = &streams.End{BlockHash: hash("large"), AppHash: hash("large state"), Events: d.count + 1,
			Delivered: d.count, Digest: sum, After: &d.after}
		d.parts = append(d.parts[:0:0], e)
		return nil
	}

	e.Body = &streams.Change{Key: fmt.Appendf(nil, "large/%d", d.count), Value: d.value}
	d.count++
	d.at.Index++

	return streams.Split(e, d.limit, func(part streams.Event) error {
		body := *part.Body.(*streams.Change)
		part.Body = &body
		d.parts = append(d.parts, part)
		return d.digest.Add(part)
	})
}

func (d *large) Credit(int) { /* what is made is taken at once */ }
