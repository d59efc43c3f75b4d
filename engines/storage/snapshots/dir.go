package snapshots

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	iofs "io/fs"
	"slices"
	"strings"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/coppice-go/coppice/engines/storage"
	"github.com/coppice-go/coppice/engines/storage/durable"
	"github.com/coppice-go/coppice/internal/syserr"
)

// Dir is a directory of snapshots. Only one of its methods may run at a time, except List.
type Dir struct {
	FS   vfs.FS
	Path string
}

// Entry is one snapshot of a List.
type Entry struct {
	ID string
	Manifest
	Err error // why the snapshot cannot be used; if set, the Manifest may be incomplete
}

// Taking configures how a snapshot is made, and holds values for its manifest.
type Taking struct {
	// Checkpoint copies the state to a directory that does not exist; see storage.DB.Checkpoint.
	Checkpoint func(ctx context.Context, dir string) error

	Program  string
	Source   string
	Now      time.Time
	Progress func(done, total uint64) // of the scan; may be nil

	// Pace, if set, is called from time to time during the scan. It may wait, to leave the
	// processor to other work.
	Pace func(ctx context.Context) error
}

func notExist(err error) bool { return errors.Is(err, iofs.ErrNotExist) }

// Settle removes what a process that died left half done, and creates the directory if it is
// missing. It returns the names of what it removed.
func (d Dir) Settle() (removed []string, err error) {
	if removed, err = d.durable().Settle(); err != nil {
		err = fmt.Errorf("snapshots: %w", err)
	}
	return removed, err
}

func (d Dir) durable() durable.Dir { return durable.Dir{FS: d.FS, Path: d.Path} }

func (d Dir) path(name string) string { return d.durable().Join(name) }

// List returns the snapshots, the oldest state first. It returns none if the directory is missing.
func (d Dir) List() ([]Entry, error) {
	names, err := d.durable().Names()
	if err != nil {
		return nil, fmt.Errorf("snapshots: %w", err)
	}

	var list []Entry

	for _, name := range names {
		e := Entry{ID: name}
		e.Manifest, e.Err = d.manifest(name)
		list = append(list, e)
	}

	slices.SortFunc(list, func(a, b Entry) int {
		return cmp.Or(cmp.Compare(a.Index, b.Index), cmp.Compare(a.ID, b.ID))
	})

	return list, nil
}

// Whole returns the snapshots that can be used: those entries of List that have no Err.
func (d Dir) Whole() ([]Entry, error) {
	list, err := d.List()
	return slices.DeleteFunc(list, func(e Entry) bool { return e.Err != nil }), err
}

func (d Dir) manifest(id string) (Manifest, error) {
	data, err := readFile(d.FS, d.FS.PathJoin(d.path(id), manifestName))
	if notExist(err) {
		return Manifest{}, fmt.Errorf("%w: %s has no %s", ErrDamaged, d.path(id), manifestName)
	}
	if err != nil {
		return Manifest{}, err
	}
	m, err := ParseManifest(data)
	if err == nil && m.ID != id {
		err = fmt.Errorf("%w: %s is of snapshot %s", ErrDamaged, d.path(id), m.ID)
	}

	return m, err
}

// Find returns the snapshot with the given id, or the newest usable one if id is empty. Errors are
// ErrNone and ErrDamaged.
func (d Dir) Find(id string) (Manifest, error) {
	if id == "" {
		list, err := d.Whole()
		if err != nil {
			return Manifest{}, err
		}
		if len(list) == 0 {
			return Manifest{}, fmt.Errorf("%w: there is none in %s", ErrNone, d.Path)
		}
		return list[len(list)-1].Manifest, nil
	}

	if there, err := exists(d.FS, d.path(id)); err != nil || !there || durable.IsTemporary(id) ||
		strings.ContainsAny(id, `/\`) {
		return Manifest{}, errors.Join(err, fmt.Errorf("%w: %q in %s", ErrNone, id, d.Path))
	}

	return d.manifest(id)
}

// Take makes a snapshot of the state. When it returns, the snapshot is verified and durable, and
// has its name. Errors: ErrExists if the state has not changed since the last snapshot,
// storage.ErrDamaged if the state itself is damaged, or an error of the file system. After an
// error, Take leaves nothing behind.
func (d Dir) Take(ctx context.Context, t Taking) (m Manifest, err error) {
	if _, err := d.Settle(); err != nil {
		return m, err
	}

	tmp := d.durable().New()
	defer func() {
		if err != nil {
			d.FS.RemoveAll(tmp) // what cannot be removed now is removed at the next start
		}
	}()

	if err := t.Checkpoint(ctx, tmp); err != nil {
		return m, err
	}
	if m, err = d.describe(ctx, tmp, t); err != nil {
		return m, err
	}
	if there, err := exists(d.FS, d.path(m.ID)); err != nil || there {
		return m, errors.Join(err, fmt.Errorf("%w: %s", ErrExists, m.ID))
	}

	return m, d.name(m)
}

// name gives a finished snapshot its manifest and its name.
func (d Dir) name(m Manifest) error {
	dir := d.durable()
	err := durable.On(d.FS).Write(d.FS.PathJoin(dir.New(), manifestName), m.encode(), 0o666)
	if err == nil {
		err = dir.Publish(m.ID)
	}
	if err != nil {
		return fmt.Errorf("snapshot %s: %w", m.ID, err)
	}

	return nil
}

// describe opens a checkpoint, scans it, and returns its manifest.
func (d Dir) describe(ctx context.Context, dir string, t Taking) (m Manifest, err error) {
	if m, err = scan(ctx, d.FS, dir, t.Progress, t.Pace); err != nil {
		return m, fmt.Errorf("snapshot: %w", err)
	}

	m.Format, m.ID, m.Program, m.Source = formatVersion, m.id(), t.Program, t.Source
	m.Created = t.Now.UTC().Truncate(time.Millisecond)

	names, err := d.FS.List(dir)
	if err != nil {
		return m, err
	}

	slices.Sort(names)

	for _, name := range names {
		if !partOfState(name) {
			continue
		}

		if t.Pace != nil {
			if err := t.Pace(ctx); err != nil {
				return m, err
			}
		}

		f, err := sumFile(d.FS, dir, name)
		if err != nil {
			return m, err
		}

		m.Files, m.Bytes = append(m.Files, f), m.Bytes+f.Size
	}

	return m, nil
}

// scan opens a state read-only, recomputes its app hash, and returns a manifest of its contents.
func scan(ctx context.Context, fs vfs.FS, dir string, progress func(done, total uint64),
	pace func(context.Context) error) (m Manifest, err error) {
	db, err := storage.Open(dir, storage.Options{FS: fs, ReadOnly: true, CacheBytes: 8 << 20})
	if err != nil {
		return m, err
	}
	defer func() { err = errors.Join(err, db.Close()) }()

	var paced error
	if err := db.VerifyScan(ctx, func(done, total uint64) {
		if progress != nil {
			progress(done, total)
		}
		if pace != nil && paced == nil {
			paced = pace(ctx)
		}
	}); err != nil || paced != nil {
		return m, errors.Join(err, paced)
	}

	s := db.State()
	if !s.Started() {
		return m, fmt.Errorf("%w: no chain has started in it", ErrNone)
	}
	stat, err := db.Stat()
	if err != nil {
		return m, err
	}
	id, _, err := db.LogID()
	if err != nil {
		return m, err
	}
	return Manifest{
		ChainID: s.ChainID, Period: s.Period, Height: s.Height, AppHash: s.AppHash, StateRoot: db.Root(),
		Keys: stat.Keys, IDs: stat.IDs, LogID: id[:], Index: s.Index,
	}, nil
}

// Verify reads every byte of a snapshot. It checks the hash of each file, and that the scan gives
// the app hash. Errors are ErrNone and ErrDamaged.
func (d Dir) Verify(ctx context.Context, id string, progress func(done, total uint64)) (Manifest, error) {
	m, err := d.Find(id)
	if err != nil {
		return m, err
	}
	return m, verify(ctx, d.FS, d.path(m.ID), m, progress)
}

func verify(ctx context.Context, fs vfs.FS, dir string, m Manifest, progress func(done, total uint64)) error {
	damaged := func(format string, args ...any) error {
		err := fmt.Errorf(format, args...)
		if syserr.Is(err) {
			return fmt.Errorf("snapshot %s: %w", dir, err)
		}
		return fmt.Errorf("%w: %s: %w", ErrDamaged, dir, err)
	}

	for _, want := range m.Files {
		if err := ctx.Err(); err != nil {
			return context.Cause(ctx)
		}

		have, err := sumFile(fs, dir, want.Name)
		switch {
		case err != nil:
			return damaged("%w", err)
		case have.Size != want.Size:
			return damaged("%s has %d bytes, want %d", want.Name, have.Size, want.Size)
		case !bytes.Equal(have.SHA256, want.SHA256):
			return damaged("%s has SHA-256 %v, want %v", want.Name, have.SHA256, want.SHA256)
		}
	}

	is, err := scan(ctx, fs, dir, progress, nil)
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if err != nil {
		return damaged("%w", err)
	}

	if !is.same(m) || is.Index != m.Index || !bytes.Equal(is.LogID, m.LogID) {
		return damaged("state is of %s at height %d, record %d of log %v, app hash %v; manifest says %s at %d, "+
			"record %d of log %v, app hash %v",
			is.ChainID, is.Height, is.Index, is.LogID, is.AppHash, m.ChainID, m.Height, m.Index, m.LogID, m.AppHash)
	}

	return nil
}

// Remove removes a snapshot. It is safe in a crash: afterwards the snapshot is either complete
// under its name, or has no name.
func (d Dir) Remove(id string) error {
	if err := d.durable().Remove(id); err != nil {
		return fmt.Errorf("snapshot %s: %w", id, err)
	}
	return nil
}

// Keep removes the oldest usable snapshots until n are left, except those for which pinned returns
// true. It returns the ids of the removed ones.
func (d Dir) Keep(n int, pinned func(Manifest) bool) (removed []string, err error) {
	list, err := d.Whole()
	if err != nil {
		return nil, err
	}

	for len(list) > n {
		m := list[0].Manifest
		list = list[1:]
		if pinned != nil && pinned(m) {
			continue
		}
		if err := d.Remove(m.ID); err != nil {
			return removed, err
		}

		removed = append(removed, m.ID)
	}

	return removed, nil
}
