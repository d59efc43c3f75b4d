package offline

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"github.com/coppice-go/coppice/engines/storage"
	"github.com/coppice-go/coppice/engines/storage/snapshots"
	"github.com/coppice-go/coppice/node/exit"
	"github.com/coppice-go/coppice/node/home"
	"github.com/coppice-go/coppice/node/install"
)

// RestoreSnapshot replaces the state of a stopped home by one of its snapshots. An empty id selects
// the newest snapshot. The next start applies the records that the log has after the snapshot.
// RestoreSnapshot first verifies the snapshot, which must belong to the home's log. A crash leaves
// the old state or the new one. The old state is kept until the new one has been read back
// completely. Errors are exit.ErrDamage, exit.ErrHomeInUse, exit.ErrConfig and snapshots.ErrNone.
func RestoreSnapshot(ctx context.Context, home, id string, progress func(done, total uint64)) (snapshots.Manifest,
	error) {
	h, err := Open(home, nil, nil)
	if err != nil {
		return snapshots.Manifest{}, err
	}
	defer h.Close()

	m, err := h.restore(ctx, id, progress)
	return m, exit.Classify(err)
}

// restore installs a snapshot of the home's own log (see RestoreSnapshot).
func (h *StoppedHome) restore(ctx context.Context, id string, progress func(done, total uint64)) (m snapshots.Manifest,
	err error) {
	if m, err = h.Snapshots().Find(id); err != nil {
		return m, err
	}
	in, err := h.placeInLog(m)
	if err != nil {
		return m, err
	}

	in.State, in.Progress = home.StateDir(h.home), progress
	if m, err = h.Snapshots().Install(ctx, m.ID, in); err != nil {
		return m, err
	}

	return m, h.readBack(ctx, m)
}

// readBack scans the installed state. If it is not the state of m, readBack restores the old state.
func (h *StoppedHome) readBack(ctx context.Context, m snapshots.Manifest) error {
	state := home.StateDir(h.home)
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

	err = fmt.Errorf("snapshot %s was installed but cannot be read back: %w", m.ID, err)
	if aside, asideErr := snapshots.Aside(h.disk, state); asideErr == nil && aside {
		return errors.Join(err, snapshots.Undo(h.disk, state))
	}

	return err
}

// placeInLog returns the place of a snapshot in the home's log, which its installation needs. It
// returns an error if replay of this log cannot continue from the snapshot.
func (h *StoppedHome) placeInLog(m snapshots.Manifest) (in snapshots.Installing, err error) {
	l, err := h.readLog()
	if err != nil {
		return in, err
	}
	defer l.Close()

	in, err = install.PlaceOf(l, m)
	if err != nil {
		return in, err
	}

	return in, install.Agree(l, install.LoggedState{State: install.StateFrom(m, in.Index), Log: l.ID(), Bound: true})
}
