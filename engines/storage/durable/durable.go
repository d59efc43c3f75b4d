// Package durable brings directories to one of pebble's disks whole or not at all, and has the
// steps of internal/durable on such a disk.
//
// Every function returns when what it did is on the disk, except where it says otherwise. After an
// error it is open what a crash would find. Nothing is tried again, and the caller must treat a
// failed sync as the end of that disk.
package durable

import (
	"errors"
	"io/fs"
	"slices"
	"strings"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/coppice-go/coppice/internal/durable"
)

// On returns the durable steps on one of pebble's disks, which knows no modes. Writing may change
// the bytes that are written.
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

// Dir is a directory of directories, each of which is whole once it has its name:
//
//	<path>/<name>     whole
//	<path>/tmp-new    one that is being made, or was not finished
//	<path>/tmp-gone-* one that is being removed
//
// Only one caller at a time may change it; Names may be called meanwhile.
type Dir struct {
	FS   vfs.FS
	Path string
}

const temporary = "tmp-"

// Join returns the path of what has that name.
func (d Dir) Join(name string) string { return d.FS.PathJoin(d.Path, name) }

// New returns the path where the next directory is made.
func (d Dir) New() string { return d.Join(temporary + "new") }

// Settle removes what a process that died left half made or half removed, and makes the directory
// if it is missing. It returns the names of what it removed.
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

// Names lists what is whole, in no order. A directory that is missing has nothing.
func (d Dir) Names() ([]string, error) {
	names, err := d.FS.List(d.Path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return slices.DeleteFunc(names, IsTemporary), err
}

// IsTemporary says whether a name is one of those that are not whole.
func IsTemporary(name string) bool { return strings.HasPrefix(name, temporary) }

// Publish gives the directory New, whose files are durable, its name, which must be free.
func (d Dir) Publish(name string) error {
	if err := On(d.FS).SyncDir(d.New()); err != nil {
		return err
	}
	return On(d.FS).Rename(d.New(), d.Join(name))
}

// Remove removes a directory. It loses its name first, so that a crash leaves no half one; the rest
// may come with the next Settle.
func (d Dir) Remove(name string) error {
	gone := d.Join(temporary + "gone-" + name)
	if err := d.FS.RemoveAll(gone); err != nil { // of a removal before, cut short
		return err
	}
	if err := On(d.FS).Rename(d.Join(name), gone); err != nil {
		return err
	}
	return d.FS.RemoveAll(gone)
}
