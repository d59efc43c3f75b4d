package retention

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/coppice-go/coppice/engines/storage"
	"github.com/coppice-go/coppice/engines/storage/snapshots"
	"github.com/coppice-go/coppice/engines/streams"
)

// ForStreams returns the snapshots as streams use them.
func (s *Snapshotter) ForStreams() streams.Snapshots {
	return &forStreams{s: s, open: make(map[string]*openSnapshot)}
}

// forStreams implements streams.Snapshots. A snapshot is opened once, however many read it, because
// its directory has one lock.
type forStreams struct {
	s *Snapshotter

	mu   sync.Mutex
	open map[string]*openSnapshot
}

// Pick takes a snapshot of the state as it is now, or looks for one of a height.
func (f *forStreams) Pick(ctx context.Context, height uint64) (string, func(), error) {
	if height == 0 {
		m, release, err := f.s.takeHeld(ctx)
		return m.ID, release, err
	}

	list, err := f.s.Dir().Whole()
	if err != nil {
		return "", nil, err
	}
	for _, e := range list {
		if e.Height != height {
			continue
		}
		release := f.s.hold(e.ID)
		if _, err := f.s.Dir().Find(e.ID); err == nil { // else it was removed before it was held
			return e.ID, release, nil
		}
		release()
	}

	return "", nil, fmt.Errorf("%w of height %d", streams.ErrNoSnapshot, height)
}

// Open opens a snapshot read-only.
func (f *forStreams) Open(_ context.Context, id string) (streams.Snapshot, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if o := f.open[id]; o != nil {
		o.users++
		return &reading{openSnapshot: o}, nil
	}

	m, err := f.s.Dir().Find(id)
	if errors.Is(err, snapshots.ErrNone) || errors.Is(err, snapshots.ErrDamaged) {
		return nil, fmt.Errorf("%w: %w", streams.ErrNoSnapshot, err)
	}
	if err != nil {
		return nil, err
	}
	db, err := storage.Open(f.s.Disk.PathJoin(f.s.Dir().Path, id), storage.Options{FS: f.s.Disk, ReadOnly: true,
		CacheBytes: 8 << 20})
	if errors.Is(err, storage.ErrDamaged) || errors.Is(err, storage.ErrNone) {
		return nil, fmt.Errorf("%w: %w", streams.ErrNoSnapshot, err)
	}
	if err != nil {
		return nil, err
	}

	state := db.State()
	at := streams.SnapshotAt{ChainID: m.ChainID, Position: streams.Position{Period: m.Period, Height: m.Height},
		AppHash: m.AppHash, LogID: m.LogID.String(), Index: m.Index}
	if m.Height == 0 {
		at.Height = max(state.InitialHeight, 1) - 1 // where the unit stands that begins the period
	} else {
		at.BlockHash = state.BlockHash
	}

	o := &openSnapshot{of: f, id: id, db: db, at: at, users: 1}
	f.open[id] = o

	return &reading{openSnapshot: o}, nil
}

// openSnapshot is a snapshot that is open for some readers.
type openSnapshot struct {
	of    *forStreams
	id    string
	db    *storage.DB
	at    streams.SnapshotAt
	users int // under of.mu
}

// reading is the use of a snapshot by one reader. It implements streams.Snapshot.
type reading struct {
	*openSnapshot
	once sync.Once
}

// At returns the place of the snapshot.
func (o *openSnapshot) At() streams.SnapshotAt { return o.at }

// Keys reads keys in order.
func (o *openSnapshot) Keys(after []byte, f func(key, value []byte) bool) error {
	pin, err := o.db.Pin()
	if err != nil {
		return err
	}
	defer pin.Close()

	return pin.Read(func(r *storage.Reader) error {
		for e, err := range r.KeysAfter(after) {
			if err != nil {
				return err
			}
			if !f(e.Key, e.Value) {
				break
			}
		}
		return nil
	})
}

// Close ends the use.
func (r *reading) Close() (err error) {
	r.once.Do(func() {
		r.of.mu.Lock()
		defer r.of.mu.Unlock()
		if r.users--; r.users == 0 {
			delete(r.of.open, r.id)
			err = r.db.Close()
		}
	})
	return err
}
