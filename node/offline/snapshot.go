package offline

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/coppice-go/coppice/engines/storage"
	"github.com/coppice-go/coppice/engines/storage/snapshots"
	"github.com/coppice-go/coppice/node/exit"
	"github.com/coppice-go/coppice/node/home"
)

// Snapshots lists the snapshots of a home, the oldest state first. The home may be running.
func Snapshots(dir string) ([]snapshots.Entry, error) {
	if err := home.CheckFormat(dir); err != nil {
		return nil, err
	}
	return snapshots.Dir{FS: vfs.Default, Path: home.SnapshotDir(dir)}.List()
}

// VerifySnapshot reads every byte of a snapshot of a home, the newest for an empty id, and
// recomputes its app hash. The home may be running. Errors are ErrDamage, ErrConfig and
// snapshots.ErrNone.
func VerifySnapshot(ctx context.Context, dir, id string, progress func(done, total uint64)) (snapshots.Manifest,
	error) {
	if err := home.CheckFormat(dir); err != nil {
		return snapshots.Manifest{}, err
	}
	m, err := snapshots.Dir{FS: vfs.Default, Path: home.SnapshotDir(dir)}.Verify(ctx, id, progress)
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
	h, err := Open(home, nil, nil)
	if err != nil {
		return m, false, err
	}
	defer h.Close()
	h.fatal = o.Fatal
	m, fresh, err = h.create(ctx, o.Program, o.Progress)
	return m, fresh, exit.Classify(err)
}

func (h *StoppedHome) create(ctx context.Context, program string,
	progress func(done, total uint64)) (m snapshots.Manifest, fresh bool, err error) {
	if err := home.StateWithoutLog(h.disk, h.home); err != nil {
		return m, false, err
	}
	if err = h.checkAgreement(); err == nil {
		m, err = h.takeState(ctx, program, progress)
	}

	switch {
	case errors.Is(err, snapshots.ErrExists):
		m, err = h.Snapshots().Find(m.ID)
		return m, false, err
	case errors.Is(err, snapshots.ErrNone), errors.Is(err, fs.ErrNotExist):
		err = h.emptyStateError(err)
	}

	return m, err == nil, err
}

// empty says why the home's state has nothing in it: no node was started, or one that was cut off
// before the state was written, and then all there is stands in the log.
func (h *StoppedHome) emptyStateError(none error) error {
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
func (h *StoppedHome) takeState(ctx context.Context, program string,
	progress func(done, total uint64)) (snapshots.Manifest, error) {
	return h.Snapshots().Take(ctx, snapshots.Taking{
		Program: program, Now: time.Now(), Progress: progress,
		Checkpoint: func(_ context.Context, dir string) error {
			db, err := storage.Open(home.StateDir(h.home), storage.Options{FS: h.disk, OnFatal: h.fatal})
			if err != nil {
				return err
			}
			return errors.Join(db.Checkpoint(dir), db.Close())
		},
	})
}
