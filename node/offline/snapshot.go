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

// Snapshots returns the snapshots of a home, the one with the oldest state first. A node may be
// running in the home.
func Snapshots(dir string) ([]snapshots.Entry, error) {
	if err := home.CheckFormat(dir); err != nil {
		return nil, err
	}
	return snapshots.Dir{FS: vfs.Default, Path: home.SnapshotDir(dir)}.List()
}

// VerifySnapshot reads every byte of a home's snapshot, computes its app hash again, and returns
// its manifest. An empty id selects the newest snapshot. A node may be running in the home. Errors
// are exit.ErrDamage, exit.ErrConfig and snapshots.ErrNone.
func VerifySnapshot(ctx context.Context, dir, id string, progress func(done, total uint64)) (snapshots.Manifest,
	error) {
	if err := home.CheckFormat(dir); err != nil {
		return snapshots.Manifest{}, err
	}
	m, err := snapshots.Dir{FS: vfs.Default, Path: home.SnapshotDir(dir)}.Verify(ctx, id, progress)
	return m, exit.Classify(err)
}

// SnapshotOptions name the program that takes a snapshot, and the functions that it calls
// meanwhile.
type SnapshotOptions struct {
	Program  string // the program that takes the snapshot, and its version
	Progress func(done, total uint64)

	// Fatal ends the process when the home's state can neither be read nor closed, for example
	// because its disk is full. It must not return; nil panics.
	Fatal func(error)
}

// CreateSnapshot takes a snapshot of a stopped home. If there already is a snapshot of the same
// state, it returns that one and fresh is false. Records of the log that the state has not yet
// applied are not in the snapshot; the next start applies them. Errors are exit.ErrDamage,
// exit.ErrHomeInUse, exit.ErrConfig and snapshots.ErrNone.
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

// create takes a snapshot (see CreateSnapshot).
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

// emptyStateError returns the reason why the home's state is empty. If no node was ever started,
// that is the error none. Otherwise a node ended before it wrote the state, and the log has all
// records.
func (h *StoppedHome) emptyStateError(none error) error {
	l, err := h.readLog()
	if err != nil {
		return errors.Join(none, err)
	}
	defer l.Close()

	if n := l.Durable() + 1 - l.First(); n > 0 {
		return fmt.Errorf("the state is empty, but the log has %d records to make it from: start the node, which "+
			"applies them, and try again", n)
	}

	return none
}

// takeState takes a snapshot of the home's state. If there already is one, the error is
// snapshots.ErrExists and the manifest has its id.
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
