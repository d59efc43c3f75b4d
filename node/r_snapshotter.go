package node

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/coppice-go/coppice/engines/storage"
	"github.com/coppice-go/coppice/engines/storage/snapshots"
	"github.com/coppice-go/coppice/node/api"
	"github.com/coppice-go/coppice/node/config"
	"github.com/coppice-go/coppice/node/home"
	"github.com/coppice-go/coppice/node/install"
)

// snapshotter takes snapshots of a running node, one at a time, and knows which may not go.
type snapshotter struct {
	n     *Node
	turn  chan struct{} // holds one token: whoever has it takes, keeps or installs
	pace  pace
	mu    sync.Mutex
	holds map[string]int // snapshots that are being read, by id
}

func newSnapshotter(n *Node) *snapshotter {
	s := &snapshotter{n: n, turn: make(chan struct{}, 1), holds: make(map[string]int), pace: pace{share: snapshotShare}}
	s.turn <- struct{}{}
	return s
}

func (s *snapshotter) dir() snapshots.Dir {
	return snapshots.Dir{FS: s.n.disk(), Path: home.SnapshotDir(s.n.home)}
}

// alone waits for its turn.
func (s *snapshotter) alone(ctx context.Context) (done func(), err error) {
	select {
	case <-s.turn:
		return func() { s.turn <- struct{}{} }, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// take makes a snapshot of the running node and removes those that are more than are to be kept.
// Where the state has not moved since the newest one, that is the answer and fresh is false.
func (s *snapshotter) take(ctx context.Context) (m snapshots.Manifest, fresh bool, err error) {
	done, err := s.alone(ctx)
	if err != nil {
		return m, false, err
	}
	defer done()

	c := s.n.core.Load()
	if c == nil {
		return m, false, fmt.Errorf("%w: the node has not started", api.ErrUnavailable)
	}

	store := storage.NewClient(c.dir)
	state, err := store.State(ctx)
	if err != nil {
		return m, false, unavailable(err)
	}
	if newest, err := s.dir().Find(""); err == nil && newest.Index == state.Index {
		return newest, false, nil
	}

	began := time.Now()
	m, err = s.dir().Take(ctx, snapshots.Taking{
		Checkpoint: store.Checkpoint, Program: "coppice " + s.n.version, Now: began, Pace: s.pace.wait,
	})
	if errors.Is(err, snapshots.ErrExists) { // it moved by nothing that changes it
		m, err = s.dir().Find(m.ID)
		return m, false, err
	}

	if err != nil {
		return m, false, err
	}

	s.n.diagnostics.Info("snapshot taken", zap.String("snapshot", m.ID), zap.Int64("bytes", m.Bytes),
		zap.Duration("took", time.Since(began)))

	return m, true, s.keep()
}

// keep removes the oldest snapshots.
func (s *snapshotter) keep() error {
	removed, err := s.dir().Keep(s.n.config.Snapshots.Keep, s.pinned)
	for _, id := range removed {
		s.n.diagnostics.Info("snapshot removed", zap.String("snapshot", id))
	}
	return err
}

// pinned tells whether a snapshot must stay: it is being read or installed, or it came from
// elsewhere and is what the log begins with, so that replaying the log needs it for as long as the
// log is kept whole.
func (s *snapshotter) pinned(m snapshots.Manifest) bool {
	if in, err := install.ReadMarker(s.n.disk(), s.n.home); err != nil || in.SnapshotID == m.ID {
		return true
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.holds[m.ID] > 0 || m.Source != "" && s.n.config.Log.Retain == config.RetainAll
}

// hold keeps a snapshot from being removed until release.
func (s *snapshotter) hold(id string) (release func()) {
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
