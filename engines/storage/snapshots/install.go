package snapshots

import (
	"context"
	"errors"
	"fmt"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/coppice-go/coppice/engines/storage"
	"github.com/coppice-go/coppice/engines/storage/durable"
)

// The names beside a state's directory while another state is put in its place.
const (
	newSuffix = ".new"
	oldSuffix = ".old"
)

// Installing says what state to put where.
type Installing struct {
	State string // the directory that the node opens

	// LogID and Index, if LogID is set, are what the installed state is bound to: see
	// storage.DB.Adopt.
	LogID [16]byte
	Index uint64

	Progress func(done, total uint64) // of the verification; may be nil

	// Verified says that this process has taken the snapshot itself a moment ago, so that reading
	// all of it once more would tell nothing.
	Verified bool
}

// Install verifies a snapshot, unless that was done, and puts a copy of it in the place of a state
// that nobody has open. What was there stays aside until Discard. A crash leaves the old state or
// the new one: call Recover before a state is opened. Errors are ErrNone and ErrDamaged, after
// which nothing has changed.
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
	// Its name says that it is complete only from the rename on: what is built under another name
	// is removed, not used.
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

// copyTo makes a durable copy. Tables never change and are shared; the other files are appended to
// and are not.
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

// Recover ends an installation that was cut short: the new state takes its place if the old one had
// left it, and else is removed. It does nothing where there was none.
func Recover(fs vfs.FS, state string) error {
	if err := fs.RemoveAll(state + newSuffix + ".tmp"); err != nil {
		return err
	}
	there, err := exists(fs, state)
	if err != nil {
		return err
	}
	if there {
		return fs.RemoveAll(state + newSuffix)
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

// Aside reports whether an old state was kept beside an installed one.
func Aside(fs vfs.FS, state string) (bool, error) { return exists(fs, state+oldSuffix) }

// Discard removes the state that an installation kept aside.
func Discard(fs vfs.FS, state string) error {
	if there, err := exists(fs, state+oldSuffix); err != nil || !there {
		return err
	}
	return fs.RemoveAll(state + oldSuffix)
}

// Undo puts the state that was kept aside back in its place.
func Undo(fs vfs.FS, state string) error {
	if there, err := exists(fs, state+oldSuffix); err != nil || !there {
		return errors.Join(err, fmt.Errorf("%w: no state was kept beside %s", ErrNone, state))
	}
	if err := fs.RemoveAll(state); err != nil {
		return err
	}
	return durable.On(fs).Rename(state+oldSuffix, state)
}
