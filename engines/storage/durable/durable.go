// Package durable makes directories appear on one of Pebble's disks, an FS of package vfs, whole or
// not at all. With On, the durable steps of internal/durable work on such a disk.
//
// Every function returns when its effect is on the disk, except where its comment says otherwise.
// After an error, it is uncertain what a crash would leave. Nothing is retried, and the caller must
// not use that disk any more after a failed sync.
package durable

import (
	"errors"
	"io/fs"
	"slices"
	"strings"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/coppice-go/coppice/internal/durable"
)

// On returns the durable steps on one of Pebble's disks, which ignores file modes. A disk may
// change the bytes that it is given to write.
func On(disk vfs.FS) durable.Disk { return durable.Disk{FS: onPebble{disk}} }

type onPebble struct{ disk vfs.FS }

func (p onPebble) Create(path string, _ fs.FileMode) (durable.File, error) {
	if _, err := p.disk.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		if err == nil {
			err = &fs.PathError{Op: "create", Path: path, Err: fs.ErrExist}
		}
		return nil, err
	}
	return p.disk.Create(path, vfs.WriteCategoryUnspecified)
}

func (p onPebble) Remove(path string) error { return p.disk.Remove(path) }

func (p onPebble) Rename(from, to string) error { return p.disk.Rename(from, to) }

func (p onPebble) SyncDir(path string) error {
	d, err := p.disk.OpenDir(path)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// Dir is a directory of directories, each of which is complete once it has its name:
//
//	<path>/<name>     complete
//	<path>/tmp-new    being made, or left unfinished
//	<path>/tmp-gone-* being removed
//
// Only one caller at a time may change a Dir. Names may be called meanwhile.
type Dir struct {
	FS   vfs.FS
	Path string
}

const temporary = "tmp-"

// Join returns the path of the directory with that name.
func (d Dir) Join(name string) string { return d.FS.PathJoin(d.Path, name) }

// New returns the path where the next directory is made.
func (d Dir) New() string { return d.Join(temporary + "new") }

// Settle removes the directories that a process left half made or half removed when it died, and
// creates the directory if it is missing. It returns the names of the removed ones.
func (d Dir) Settle() (removed []string, err error) {
	if err := d.FS.MkdirAll(d.Path, 0o700); err != nil {
		return nil, err
	}
	names, err := d.FS.List(d.Path)
	if err != nil {
		return nil, err
	}

	for _, name := range names {
		if !IsTemporary(name) {
			continue
		}
		if err := d.FS.RemoveAll(d.Join(name)); err != nil {
			return removed, err
		}
		removed = append(removed, name)
	}

	return removed, On(d.FS).SyncDir(d.FS.PathDir(d.Path))
}

// Names returns the names of the complete directories, in no order. It returns none if the
// directory is missing.
func (d Dir) Names() ([]string, error) {
	names, err := d.FS.List(d.Path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return slices.DeleteFunc(names, IsTemporary), err
}

// IsTemporary reports whether name is that of an incomplete directory.
func IsTemporary(name string) bool { return strings.HasPrefix(name, temporary) }

// Publish renames the directory New to name, which must be free. The files in New must be durable.
func (d Dir) Publish(name string) error {
	if err := On(d.FS).SyncDir(d.New()); err != nil {
		return err
	}
	return On(d.FS).Rename(d.New(), d.Join(name))
}

// Remove removes a directory. The directory loses its name first, so that a crash does not leave a
// half-removed one under that name. The next Settle removes what is left.
func (d Dir) Remove(name string) error {
	gone := d.Join(temporary + "gone-" + name)
	if err := d.FS.RemoveAll(gone); err != nil { // left by an earlier removal that was interrupted
		return err
	}
	if err := On(d.FS).Rename(d.Join(name), gone); err != nil {
		return err
	}
	return d.FS.RemoveAll(gone)
}
