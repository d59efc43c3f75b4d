package streams

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
)

const (
	// defaultChunk is about how many bytes of events a chunk of a bootstrap has.
	defaultChunk = 4 << 20

	// bootstrapWorkers is how many chunks are written at once.
	bootstrapWorkers = 4
)

// bootstrapping is a bootstrap that a slot file names: it is under way, or wanted.
type bootstrapping struct {
	Snapshot   string `json:"snapshot,omitempty"` // empty: none is chosen yet
	Generation string `json:"generation,omitempty"`
	Definition string `json:"definition,omitempty"` // hash
	ChunkBytes int64  `json:"chunk_bytes,omitempty"`
	Payload    int    `json:"payload,omitempty"` // longest, of the sink
}

// checkBootstrap returns an error for a definition that wants a bootstrap and cannot have one.
func (s *Streams) checkBootstrap(d Definition, sink Sink) error {
	_, height := d.bootstrapHeight()
	switch d.Bootstrap {
	case "never", "initial", "always", "when_lost":
	default:
		if !height {
			return d.bad("bootstrap", fmt.Sprintf("is %q, want initial, never, always, when_lost or a height",
				d.Bootstrap))
		}
	}
	if d.Bootstrap == "never" && d.OnGap != "bootstrap" {
		return nil
	}

	key := "bootstrap"
	if d.Bootstrap == "never" {
		key = "on_gap"
	}
	if _, ok := sink.(Bootstrapper); !ok {
		return d.bad(key, fmt.Sprintf("is not possible: a sink of kind %s takes no snapshots", d.Kind))
	}
	if s.o.Snapshots == nil {
		return d.bad(key, "is not possible: this program has no snapshots")
	}

	return nil
}

// bootstrapHeight returns the height that the key bootstrap names, if it names one.
func (d Definition) bootstrapHeight() (height uint64, ok bool) {
	h, err := strconv.ParseUint(d.Bootstrap, 10, 64)
	return h, err == nil && h > 0
}

// whenLost reports whether a sink is to be bootstrapped when the log lacks what it needs.
func (d Definition) whenLost() bool {
	return d.Bootstrap == "when_lost" || d.Bootstrap == "always" || d.OnGap == "bootstrap"
}

// HoldsSnapshot reports whether a snapshot must stay because a slot is being bootstrapped from it,
// or may be: while a slot file cannot be read, all snapshots must stay.
func (s *Streams) HoldsSnapshot(id string) bool {
	s.mu.Lock()
	broken := s.broken != nil
	s.mu.Unlock()

	for _, sl := range s.all() {
		if b := sl.snapshot().Bootstrap; b != nil && b.Snapshot == id {
			return true
		}
	}

	return broken
}

// HeldSnapshots returns the ids of the snapshots that the slot files below data need. An error says
// that a slot file cannot be read: any snapshot may be needed then.
func HeldSnapshots(data string) (map[string]bool, error) {
	slots, err := readSlots(data)
	held := make(map[string]bool)
	for _, f := range slots {
		if b := f.Bootstrap; b != nil && b.Snapshot != "" {
			held[b.Snapshot] = true
		}
	}
	return held, err
}

// Rebuild bootstraps the sink of a slot anew: its data are replaced by the state as it is now, and
// by what follows.
func (s *Streams) Rebuild(ctx context.Context, name, by string) error {
	sl, err := s.slot(name)
	if err != nil {
		return err
	}
	err = sl.use(ctx, func(d *session) error {
		if _, ok := d.sink.(Bootstrapper); !ok || s.o.Snapshots == nil {
			return fmt.Errorf("%w: a sink of kind %s cannot be rebuilt", ErrState, d.def.Kind)
		}
		return nil
	})
	if err != nil {
		return err
	}

	return sl.act(Act{What: "rebuild", By: by}, func(f *slotFile) { f.Bootstrap = &bootstrapping{} })
}

// bootstraps reports whether the sink, which stands at c, is to begin with a snapshot. err is what
// admit says about c.
func (d *session) bootstraps(c Cursor, err error) bool {
	f := d.snapshot()
	_, height := d.def.bootstrapHeight()
	class := ClassOf(err)

	switch {
	case class == Foreign, class == Ahead, class == Unreachable:
		return false
	case f.Bootstrap != nil:
		return true
	case err != nil && class != GapInLog:
		return false
	case class == GapInLog, f.Lost:
		return d.def.whenLost() || c.Empty() && (height || d.def.Bootstrap == "initial")
	}

	return c.Empty() && (height || d.def.Bootstrap == "initial" || d.def.Bootstrap == "always")
}

// bootstrap makes the sink a copy of the state that a snapshot has. After a failure, the next
// session goes on with the chunks that are missing.
func (d *session) bootstrap(ctx context.Context) error {
	b, ok := d.sink.(Bootstrapper)
	if !ok || d.s.o.Snapshots == nil {
		return Fail(Misconfigured, fmt.Errorf("a sink of kind %s cannot be bootstrapped", d.def.Kind))
	}
	if err := d.limit(ctx); err != nil {
		return err
	}
	d.set(Bootstrapping, nil)

	m, from, err := d.pick(ctx)
	if err != nil {
		return err
	}
	defer from.Close()

	err = d.copy(ctx, b, m, from)
	if f := new(Failure); errors.As(err, &f) && f.Class == RejectedEvent && d.def.OnReject == "park" {
		return d.putAside(f.event(from), f)
	}

	return err
}

// copy copies a snapshot to the sink.
func (d *session) copy(ctx context.Context, b Bootstrapper, m bootstrapping, from Snapshot) error {
	chunks, end, last, err := plan(ctx, from, d.o, m.ChunkBytes)
	if err != nil {
		return err
	}

	type begun struct {
		done    map[int]bool
		swapped bool
	}
	before, err := asked(ctx, d.slot, func(ctx context.Context) (g begun, err error) {
		g.done, g.swapped, err = b.Bootstrap(ctx, m.Generation)
		return g, err
	})
	if err != nil || before.swapped {
		return err
	}

	if err := d.chunks(ctx, b, from, chunks, before.done); err != nil {
		return err
	}

	d.cursor, err = asked(ctx, d.slot, func(ctx context.Context) (Cursor, error) { return b.Swap(ctx, last, end) })
	return err
}

// pick opens the snapshot of the slot's bootstrap. If the slot file names none that can be used, it
// picks one, and notes it durably before anything can remove it.
func (d *session) pick(ctx context.Context) (m bootstrapping, from Snapshot, err error) {
	all := d.s.o.Snapshots
	if f := d.snapshot(); f.Bootstrap != nil {
		m = *f.Bootstrap
	}

	if m.Snapshot != "" && m.Definition == d.hash() && m.Payload == d.o.limit {
		from, err = all.Open(ctx, m.Snapshot)
		if err == nil && d.follows(from.At()) {
			return m, from, d.hold(ctx, m, from.At().Index)
		}
		if err == nil {
			from.Close()
		} else if !errors.Is(err, ErrNoSnapshot) {
			return m, nil, Fail(Unreachable, err)
		}
	}

	height, _ := d.def.bootstrapHeight()
	if d.snapshot().Bootstrap != nil {
		height = 0 // an operator wants the present state, or the snapshot of that height is gone
	}
	id, release, err := all.Pick(ctx, height)
	if errors.Is(err, ErrNoSnapshot) && height > 0 {
		return m, nil, Fail(Misconfigured, fmt.Errorf("there is no snapshot of height %d: %w", height, err))
	}
	if err != nil {
		return m, nil, Fail(Unreachable, err)
	}
	defer release()
	if from, err = all.Open(ctx, id); err != nil {
		return m, nil, Fail(Unreachable, err)
	}
	if !d.follows(from.At()) {
		err = fmt.Errorf("the log does not go on after snapshot %s", id)
		return m, nil, errors.Join(Fail(Misconfigured, err), from.Close())
	}

	m = bootstrapping{Snapshot: id, Generation: newGeneration(), Definition: d.hash(), Payload: d.o.limit,
		ChunkBytes: d.s.o.ChunkBytes}
	if err := d.hold(ctx, m, from.At().Index); err != nil {
		return m, nil, errors.Join(err, from.Close())
	}
	d.s.o.Diagnostics.Info("a stream is bootstrapped from a snapshot", zap.String("stream", d.name),
		zap.String("snapshot", id), zap.String("generation", m.Generation))

	return m, from, nil
}

func newGeneration() string {
	var b [8]byte
	rand.Read(b[:])
	return hex.EncodeToString(b[:])
}

// follows reports whether the present log has what comes after a snapshot.
func (d *session) follows(at SnapshotAt) bool {
	d.s.mu.Lock()
	defer d.s.mu.Unlock()
	return d.s.log != nil && logID(d.s.log) == at.LogID && d.s.log.First() <= at.Index+1
}

// hold notes the bootstrap in the slot file, durably, and holds the log after the snapshot.
func (d *session) hold(ctx context.Context, m bootstrapping, index uint64) error {
	log, err := d.s.o.Log()
	if err != nil {
		return Fail(Unreachable, err)
	}

	d.mu.Lock()
	defer d.mu.Unlock()
	f := &d.file
	f.Bootstrap, f.Lost, f.Floor, f.Acks, d.dirty = &m, false, index+1, d.s.now(), true
	d.index, d.points = index, nil

	// A retainer never goes down, so the slot registers another.
	r, err := log.Retain(ctx, retainerName(d.name), f.Floor)
	if err != nil {
		return Fail(Unreachable, err)
	}
	d.retainer = r

	return d.saveLocked()
}

// chunks writes the chunks that the sink lacks, some of them at once.
func (d *session) chunks(ctx context.Context, b Bootstrapper, from Snapshot, all []chunk, done map[int]bool) error {
	d.boot.total.Store(int64(len(all)))
	d.boot.done.Store(int64(len(done)))

	work := make(chan chunk, len(all))
	for _, c := range all {
		if !done[c.Number] {
			work <- c
		}
	}
	close(work)

	var progress atomic.Int64
	advance := func() { progress.Store(d.s.now().UnixNano()) }
	advance()
	since := func() time.Time { return time.Unix(0, progress.Load()) }

	return d.call(ctx, since, func(ctx context.Context) error {
		ctx, cancel := context.WithCancelCause(ctx)
		defer cancel(nil)
		var workers sync.WaitGroup
		for range min(bootstrapWorkers, len(work)) {
			workers.Go(func() {
				for c := range work {
					err := ctx.Err()
					if err == nil {
						err = guarded("the sink", func() error { return d.chunk(ctx, b, from, c, advance) })
					}
					if err != nil {
						cancel(err)
						return
					}
					advance()
					d.boot.done.Add(1)
					d.s.news()
				}
			})
		}
		workers.Wait()

		return context.Cause(ctx)
	})
}

// chunk writes one chunk.
func (d *session) chunk(ctx context.Context, b Bootstrapper, from Snapshot, c chunk, advance func()) error {
	v := newDelivery(nil, c.unit(from, d.o), nil, max(64<<10, d.window()/bootstrapWorkers), d.s.now)
	v.told = func() {
		advance()
		d.credited()
	}
	if err := b.Chunk(ctx, c.Chunk, v); err != nil {
		return err
	}
	d.count(func(n *Counts) {
		n.Events += uint64(v.events)
		n.Bytes += uint64(v.bytes)
	})

	return nil
}

// event returns the event of a state that was refused.
func (f *Failure) event(from Snapshot) Event {
	raw := newStateEvents(from, chunk{})
	for {
		e, err := raw.next()
		if err != nil {
			return Event{Place: f.Place, Body: &Rejected{}}
		}
		if e.Place == f.Place {
			return e.Event
		}
	}
}

// bootRatio is how much of a bootstrap is done.
type bootRatio struct{ done, total atomic.Int64 }

// value returns the share of 1 that is done.
func (r *bootRatio) value() float64 {
	if total := r.total.Load(); total > 0 {
		return float64(r.done.Load()) / float64(total)
	}
	return 0
}
