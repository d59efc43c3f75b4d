package node

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"sync"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"go.uber.org/zap"

	"github.com/coppice-go/coppice/engines/storage"
	"github.com/coppice-go/coppice/engines/storage/snapshots"
	"github.com/coppice-go/coppice/eventlog"
	"github.com/coppice-go/coppice/node/api"
	"github.com/coppice-go/coppice/node/config"
	"github.com/coppice-go/coppice/node/exit"
)

const snapshotDir = "data/snapshots"

// SnapshotDir is where the snapshots of a home lie.
func SnapshotDir(home string) string { return filepath.Join(home, filepath.FromSlash(snapshotDir)) }

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
	return snapshots.Dir{FS: s.n.disk(), Path: SnapshotDir(s.n.home)}
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
	if in, err := readInstalling(s.n.disk(), s.n.home); err != nil || in.id == m.ID {
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

// snapshotShare is how much of one processor the verification of a snapshot may use: the node comes
// first.
const snapshotShare = 0.5

// pace makes a background job wait in proportion to its work.
type pace struct {
	share float64
	last  time.Time
}

// wait waits so long that the work since the last wait was only its share of the time.
func (p *pace) wait(ctx context.Context) error {
	now := time.Now()
	work := min(now.Sub(p.last), 100*time.Millisecond) // the first call, and one after a long stop, know of no work
	if work < 5*time.Millisecond {
		return ctx.Err()
	}

	t := time.NewTimer(time.Duration(float64(work) * (1/p.share - 1)))
	defer t.Stop()

	select {
	case <-t.C:
	case <-ctx.Done():
		return context.Cause(ctx)
	}

	p.last = time.Now()

	return nil
}

// stoppedHome is a home that no node runs in, held by this process.
type stoppedHome struct {
	home string
	disk vfs.FS
	logs eventlog.FS // nil: the operating system's
	free func() error

	fatal func(error) // as VerifyOptions.Fatal, of its state
}

// openStopped locks a home. Close gives it back. Errors are ErrConfig and ErrHomeInUse.
func openStopped(home string, disk vfs.FS, logs eventlog.FS) (*stoppedHome, error) {
	if err := checkFormat(home); err != nil {
		return nil, err
	}
	lock, err := lockHome(home)
	if err != nil {
		return nil, err
	}
	if disk == nil {
		disk = vfs.Default
	}
	h := &stoppedHome{home: home, disk: disk, logs: logs, free: lock.Close}
	if err := h.settle(); err != nil {
		return nil, errors.Join(err, h.Close())
	}

	return h, nil
}

// Close gives the home back.
func (h *stoppedHome) Close() error { return h.free() }

func (h *stoppedHome) dir() snapshots.Dir {
	return snapshots.Dir{FS: h.disk, Path: SnapshotDir(h.home)}
}

// settle ends what a crash cut short.
func (h *stoppedHome) settle() error {
	return settleInstall(h.disk, h.home, logOnDisk(h.logs, h.home), "")
}

func (h *stoppedHome) readLog() (*eventlog.Log, error) {
	return eventlog.OpenReadOnly(LogDir(h.home), eventlog.Options{FS: h.logs})
}

// Snapshots lists the snapshots of a home, the oldest state first. The home may be running.
func Snapshots(home string) ([]snapshots.Entry, error) {
	if err := checkFormat(home); err != nil {
		return nil, err
	}
	return snapshots.Dir{FS: vfs.Default, Path: SnapshotDir(home)}.List()
}

// VerifySnapshot reads every byte of a snapshot of a home, the newest for an empty id, and
// recomputes its app hash. The home may be running. Errors are ErrDamage, ErrConfig and
// snapshots.ErrNone.
func VerifySnapshot(ctx context.Context, home, id string, progress func(done, total uint64)) (snapshots.Manifest,
	error) {
	if err := checkFormat(home); err != nil {
		return snapshots.Manifest{}, err
	}
	m, err := snapshots.Dir{FS: vfs.Default, Path: SnapshotDir(home)}.Verify(ctx, id, progress)
	return m, exit.Classify(err)
}

// SnapshotOptions say who takes a snapshot.
type SnapshotOptions struct {
	Program  string // that takes it, and its version
	Progress func(done, total uint64)

	// Fatal ends the process where the home's state can neither be read nor closed: its disk is
	// full, for one. It must not return; nil panics.
	Fatal func(error)
}

// CreateSnapshot takes a snapshot of a stopped home. fresh is false where the newest one is of the
// same state. What the log has and the state has not yet is not in it: a start applies that first.
// Errors are ErrDamage, ErrHomeInUse, ErrConfig and snapshots.ErrNone.
func CreateSnapshot(ctx context.Context, home string, o SnapshotOptions) (m snapshots.Manifest, fresh bool, err error) {
	h, err := openStopped(home, nil, nil)
	if err != nil {
		return m, false, err
	}
	defer h.Close()
	h.fatal = o.Fatal
	m, fresh, err = h.create(ctx, o.Program, o.Progress)
	return m, fresh, exit.Classify(err)
}

func (h *stoppedHome) create(ctx context.Context, program string,
	progress func(done, total uint64)) (m snapshots.Manifest, fresh bool, err error) {
	if err := stateWithoutLog(h.disk, h.home); err != nil {
		return m, false, err
	}
	if err = h.agreed(); err == nil {
		m, err = h.takeState(ctx, program, progress)
	}

	switch {
	case errors.Is(err, snapshots.ErrExists):
		m, err = h.dir().Find(m.ID)
		return m, false, err
	case errors.Is(err, snapshots.ErrNone), errors.Is(err, fs.ErrNotExist):
		err = h.empty(err)
	}

	return m, err == nil, err
}

// empty says why the home's state has nothing in it: no node was started, or one that was cut off
// before the state was written, and then all there is stands in the log.
func (h *stoppedHome) empty(none error) error {
	l, err := h.readLog()
	if err != nil {
		return errors.Join(none, err)
	}
	defer l.Close()

	if n := l.Durable() + 1 - l.First(); n > 0 {
		return fmt.Errorf("the state is empty, and the log has %d records that it is to be made of: start the node, "+
			"which applies them, and try again", n)
	}

	return none
}

// takeState takes a snapshot of the home's state. With snapshots.ErrExists the manifest has the id
// of the one there is.
func (h *stoppedHome) takeState(ctx context.Context, program string,
	progress func(done, total uint64)) (snapshots.Manifest, error) {
	return h.dir().Take(ctx, snapshots.Taking{
		Program: program, Now: time.Now(), Progress: progress,
		Checkpoint: func(_ context.Context, dir string) error {
			db, err := storage.Open(StateDir(h.home), storage.Options{FS: h.disk, OnFatal: h.fatal})
			if err != nil {
				return err
			}
			return errors.Join(db.Checkpoint(dir), db.Close())
		},
	})
}

// agreed holds the home's state against its log, without writing to either.
func (h *stoppedHome) agreed() error {
	db, err := storage.Open(StateDir(h.home), storage.Options{FS: h.disk, ReadOnly: true})
	if err != nil {
		return err
	}
	s, err := standingOf(db)
	if err = errors.Join(err, db.Close()); err != nil {
		return err
	}

	return h.agreesWith(s)
}

func (h *stoppedHome) agreesWith(s standing) error {
	l, err := h.readLog()
	if err != nil {
		return err
	}
	defer l.Close()
	return agree(l, s)
}

// RestoreSnapshot makes a snapshot of a stopped home, the newest for an empty id, its state; the
// next start applies what the log has after it. The snapshot is verified before, and must belong to
// the home's log. A crash leaves the old state or the new one. The old state is kept beside the new
// one until that has been read back whole. Errors are ErrDamage, ErrHomeInUse, ErrConfig and
// snapshots.ErrNone.
func RestoreSnapshot(ctx context.Context, home, id string, progress func(done, total uint64)) (snapshots.Manifest,
	error) {
	h, err := openStopped(home, nil, nil)
	if err != nil {
		return snapshots.Manifest{}, err
	}
	defer h.Close()
	m, err := h.restore(ctx, id, progress)
	return m, exit.Classify(err)
}

func (h *stoppedHome) restore(ctx context.Context, id string, progress func(done, total uint64)) (m snapshots.Manifest,
	err error) {
	if m, err = h.dir().Find(id); err != nil {
		return m, err
	}
	in, err := h.belongs(m)
	if err != nil {
		return m, err
	}

	in.State, in.Progress = StateDir(h.home), progress
	if m, err = h.dir().Install(ctx, m.ID, in); err != nil {
		return m, err
	}

	return m, h.readBack(ctx, m)
}

// readBack scans an installed state, and puts the old one back if it is not what it should be.
func (h *stoppedHome) readBack(ctx context.Context, m snapshots.Manifest) error {
	state := StateDir(h.home)
	db, err := storage.Open(state, storage.Options{FS: h.disk, ReadOnly: true})
	if err == nil {
		err = db.VerifyScan(ctx, nil)
		if s := db.State(); err == nil && (s.Height != m.Height || !bytes.Equal(s.AppHash, m.AppHash)) {
			err = fmt.Errorf("%w: the installed state is at height %d with app hash %x, want %d with %v",
				exit.ErrDamage, s.Height, s.AppHash, m.Height, m.AppHash)
		}
		err = errors.Join(err, db.Close())
	}

	if err == nil {
		return snapshots.Discard(h.disk, state)
	}

	err = fmt.Errorf("snapshot %s was installed and can not be read back: %w", m.ID, err)
	if aside, asideErr := snapshots.Aside(h.disk, state); asideErr == nil && aside {
		return errors.Join(err, snapshots.Undo(h.disk, state))
	}

	return err
}

// belongs tells whether replay can go on from a snapshot with this home's log, and as what the
// state is to be installed. The snapshot may be of the log that this one was begun from (Base), or
// one that a record of this log installed.
func (h *stoppedHome) belongs(m snapshots.Manifest) (in snapshots.Installing, err error) {
	l, err := h.readLog()
	if err != nil {
		return in, err
	}
	defer l.Close()

	in, err = placeOf(l, m)
	if err != nil {
		return in, err
	}

	return in, agree(l, standing{State: stateOf(m, in.Index), log: l.ID(), bound: true})
}

// placeOf is where in a log a snapshot stands.
func placeOf(l *eventlog.Log, m snapshots.Manifest) (in snapshots.Installing, err error) {
	in = snapshots.Installing{LogID: l.ID(), Index: m.Index}
	id := l.ID()
	if bytes.Equal(m.LogID, id[:]) {
		return in, nil
	}
	base, err := baseOf(l)
	if err != nil {
		return in, err
	}
	if base != nil && bytes.Equal(base.OriginLogId, m.LogID) && base.OriginIndex == m.Index {
		return in, nil // the log goes on counting as the one before
	}
	at, err := installedAt(l, m)
	if err != nil {
		return in, err
	}

	if at == 0 {
		return in, fmt.Errorf("%w: snapshot %s is of log %s, this is log %s, and no record of it installed "+
			"that snapshot", storage.ErrOtherLog, m.ID, m.LogID, hex.EncodeToString(id[:]))
	}

	in.Index = at

	return in, nil
}
