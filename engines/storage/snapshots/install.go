package snapshots

import (
	"context"
	"errors"
	"fmt"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/coppice-go/coppice/engines/storage"
	"github.com/coppice-go/coppice/engines/storage/durable"
)

// The suffixes of the directories beside a state's directory while another state is put in its
// place.
const (
	newSuffix = ".new"
	oldSuffix = ".old"
)

// Installing configures an installation.
type Installing struct {
	State string // the directory that the node opens

	// LogID, if set, and Index are given to storage.DB.Adopt for the installed state.
	LogID [16]byte
	Index uint64

	Progress func(done, total uint64) // of the verification; may be nil

	// Verified means that this process took the snapshot a moment ago, so that reading it once more
	// would show nothing new.
	Verified bool
}

// Install verifies a snapshot, unless in.Verified is set, and puts a copy of it in the place of a
// state that is not open. It keeps the old state aside until Discard. A crash leaves either the old
// state or the new one, if Recover is called before a state is opened. Errors are ErrNone and
// ErrDamaged; after these, nothing has changed.
func (d Dir) Install(ctx context.Context, id string, in Installing) (Manifest, error) {
	m, err := d.Find(id)
	if err == nil && !in.Verified {
		m, err = d.Verify(ctx, id, in.Progress)
	}
	if err != nil {
		return m, err
	}
	if err := Recover(d.FS, in.State); err != nil {
		return m, err
	}
	if err := Discard(d.FS, in.State); err != nil {
		return m, err
	}
	if err := d.FS.MkdirAll(d.FS.PathDir(in.State), 0o700); err != nil {
		return m, err
	}

	fresh := in.State + newSuffix
	// Only the rename gives the copy a name that says it is complete. A copy under the temporary
	// name is removed, never used.
	building := fresh + ".tmp"
	if err := d.FS.RemoveAll(building); err != nil {
		return m, err
	}
	if err := d.copyTo(m, building); err != nil {
		return m, errors.Join(fmt.Errorf("installing snapshot %s: %w", m.ID, err), d.FS.RemoveAll(building))
	}

	if in.LogID != ([16]byte{}) {
		if err := adopt(d.FS, building, in); err != nil {
			return m, errors.Join(err, d.FS.RemoveAll(building))
		}
	}

	if err := durable.On(d.FS).Rename(building, fresh); err != nil {
		return m, err
	}
	there, err := exists(d.FS, in.State)
	if err != nil {
		return m, err
	}

	if there {
		if err := durable.On(d.FS).Rename(in.State, in.State+oldSuffix); err != nil {
			return m, err
		}
	}

	return m, durable.On(d.FS).Rename(fresh, in.State)
}

func adopt(fs vfs.FS, dir string, in Installing) error {
	db, err := storage.Open(dir, storage.Options{FS: fs})
	if err != nil {
		return err
	}
	return errors.Join(db.Adopt(in.LogID, in.Index), db.Close())
}

// copyTo makes a durable copy of a snapshot. It shares the tables, which never change. It copies
// the other files, because Pebble appends to them.
func (d Dir) copyTo(m Manifest, to string) error {
	if err := d.FS.MkdirAll(to, 0o700); err != nil {
		return err
	}

	for _, f := range m.Files {
		from, dest := d.FS.PathJoin(d.path(m.ID), f.Name), d.FS.PathJoin(to, f.Name)
		put := vfs.Copy
		if isTable(f.Name) {
			put = vfs.LinkOrCopy
		}
		if err := put(d.FS, from, dest); err != nil {
			return err
		}
	}

	return durable.On(d.FS).SyncDir(to)
}

func isTable(name string) bool {
	const suffix = ".sst"
	return len(name) > len(suffix) && name[len(name)-len(suffix):] == suffix
}

// Recover ends an installation that was interrupted. If the old state had already left its place,
// the new state takes that place; otherwise the new state is removed. Recover does nothing if there
// was no installation.
func Recover(fs vfs.FS, state string) error {
	if err := removeIfThere(fs, state+newSuffix+".tmp"); err != nil {
		return err
	}
	there, err := exists(fs, state)
	if err != nil {
		return err
	}
	if there {
		return removeIfThere(fs, state+newSuffix)
	}

	for _, instead := range []string{state + newSuffix, state + oldSuffix} {
		if there, err := exists(fs, instead); err != nil || there {
			if err == nil {
				err = durable.On(fs).Rename(instead, state)
			}
			return err
		}
	}

	return nil
}

// removeIfThere removes a directory. If there is none, it does nothing, not even on a file system
// that is mounted read-only.
func removeIfThere(fs vfs.FS, dir string) error {
	if there, err := exists(fs, dir); err != nil || !there {
		return err
	}
	return fs.RemoveAll(dir)
}

// Aside reports whether an old state was kept beside an installed one.
func Aside(fs vfs.FS, state string) (bool, error) { return exists(fs, state+oldSuffix) }

// Discard removes the old state that an installation kept aside.
func Discard(fs vfs.FS, state string) error {
	if there, err := exists(fs, state+oldSuffix); err != nil || !there {
		return err
	}
	return fs.RemoveAll(state + oldSuffix)
}

// Undo puts the old state that was kept aside back in its place.
func Undo(fs vfs.FS, state string) error {
	if there, err := exists(fs, state+oldSuffix); err != nil || !there {
		return errors.Join(err, fmt.Errorf("%w: no state was kept beside %s", ErrNone, state))
	}
	if err := fs.RemoveAll(state); err != nil {
		return err
	}
	return durable.On(fs).Rename(state+oldSuffix, state)
}
