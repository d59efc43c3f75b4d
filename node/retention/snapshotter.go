package retention

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"go.uber.org/zap"

	"github.com/coppice-go/coppice/engines"
	"github.com/coppice-go/coppice/engines/consensus"
	"github.com/coppice-go/coppice/engines/storage"
	"github.com/coppice-go/coppice/engines/storage/snapshots"
	"github.com/coppice-go/coppice/engines/streams"
	"github.com/coppice-go/coppice/node/api"
	"github.com/coppice-go/coppice/node/config"
	"github.com/coppice-go/coppice/node/home"
	"github.com/coppice-go/coppice/node/install"
)

// Options are what a Snapshotter needs from a node.
type Options struct {
	Home        string
	Disk        vfs.FS // of state, log and snapshots
	Config      config.Config
	Version     string // of the program
	Diagnostics *zap.Logger

	// Directory resolves the engines of the current run of the node; it is nil before the first.
	Directory func() engines.Directory

	// Consensus returns the driver of the consensus whose files a backup needs, or nil if the
	// consensus keeps none of its own.
	Consensus func() (consensus.Copier, error)

	// Bootstraps reports whether a sink is being bootstrapped from a snapshot, or may be; nil: none
	// is.
	Bootstraps func(id string) bool

	// Versions returns the oldest position whose versions a sink needs, and whether one needs any;
	// nil: none does.
	Versions func() (streams.Position, bool)

	// Every is the time between two rounds of retention; 0 means DefaultEvery.
	Every time.Duration
}

// Snapshotter takes snapshots of a running node, one at a time, and does not remove those that are
// in use. It implements api.Snapshots, except for the snapshots for peers. It is safe for
// concurrent use.
type Snapshotter struct {
	Options
	Tally Tally
	turn  chan struct{} // has one token: its holder takes, removes or installs snapshots
	pace  Pace

	mu    sync.Mutex
	holds map[string]int // how many readers each snapshot has, by id
}

// New returns a Snapshotter.
func New(o Options) *Snapshotter {
	if o.Every == 0 {
		o.Every = DefaultEvery
	}

	s := &Snapshotter{Options: o, turn: make(chan struct{}, 1), holds: make(map[string]int),
		pace: Pace{Share: PaceShare}}
	s.turn <- struct{}{}

	return s
}

// Dir returns the directory of the snapshots.
func (s *Snapshotter) Dir() snapshots.Dir {
	return snapshots.Dir{FS: s.Disk, Path: home.SnapshotDir(s.Home)}
}

// Alone waits until no other caller takes, removes or installs snapshots, and lets none do so until
// done is called.
func (s *Snapshotter) Alone(ctx context.Context) (done func(), err error) {
	select {
	case <-s.turn:
		return func() { s.turn <- struct{}{} }, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// take makes a snapshot of the running node, and removes the oldest snapshots if there are more
// than the configuration keeps. If the state has not changed since the newest snapshot, take
// returns that one and fresh is false.
func (s *Snapshotter) take(ctx context.Context) (m snapshots.Manifest, fresh bool, err error) {
	done, err := s.Alone(ctx)
	if err != nil {
		return m, false, err
	}
	defer done()

	c := s.Directory()
	if c == nil {
		return m, false, fmt.Errorf("%w: the node has not started", api.ErrUnavailable)
	}

	store := storage.NewClient(c)
	state, err := store.State(ctx)
	if err != nil {
		return m, false, api.Unavailable(err)
	}

	if newest, err := s.Dir().Find(""); err == nil && newest.Index == state.Index {
		return newest, false, nil
	}

	began := time.Now()
	m, err = s.Dir().Take(ctx, snapshots.Taking{
		Checkpoint: store.Checkpoint, Program: "coppice " + s.Version, Now: began, Pace: s.pace.Wait,
	})
	if errors.Is(err, snapshots.ErrExists) { // the state's index has moved, but its content has not
		m, err = s.Dir().Find(m.ID)
		return m, false, err
	}

	if err != nil {
		if ctx.Err() == nil && !errors.Is(err, engines.ErrDown) && !errors.Is(err, storage.ErrClosed) {
			s.Tally.Failed()
		}
		return m, false, err
	}

	s.Tally.Took()
	s.Diagnostics.Info("snapshot taken", zap.String("snapshot", m.ID), zap.Int64("bytes", m.Bytes),
		zap.Duration("took", time.Since(began)))

	return m, true, s.keep()
}

// keep removes the oldest snapshots, so that as many are left as the configuration keeps.
func (s *Snapshotter) keep() error {
	removed, err := s.Dir().Keep(s.Config.Snapshots.Keep, s.pinned)
	for _, id := range removed {
		s.Diagnostics.Info("snapshot removed", zap.String("snapshot", id))
	}
	if err != nil {
		return err
	}

	list, err := s.Dir().Whole()
	if n := len(list); n > 0 {
		s.Tally.Keeps(n, list[n-1].Bytes, list[n-1].Created)
	} else if err == nil {
		s.Tally.Keeps(0, 0, time.Time{})
	}

	return err
}

// pinned reports whether a snapshot must stay, because it is being read or installed. A snapshot
// that came from elsewhere stays as long as the log is kept whole, because replaying the log begins
// with that snapshot.
func (s *Snapshotter) pinned(m snapshots.Manifest) bool {
	if in, err := install.ReadMarker(s.Disk, s.Home); err != nil || in.SnapshotID == m.ID {
		return true
	}

	if s.Bootstraps != nil && s.Bootstraps(m.ID) {
		return true
	}

	s.mu.Lock()
	defer s.mu.Unlock()

	return s.holds[m.ID] > 0 || m.Source != "" && s.Config.Log.Retain == config.RetainAll
}

// hold keeps a snapshot from being removed until release is called.
func (s *Snapshotter) hold(id string) (release func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.holds[id]++

	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()

		if s.holds[id]--; s.holds[id] == 0 {
			delete(s.holds, id)
		}
	}
}
