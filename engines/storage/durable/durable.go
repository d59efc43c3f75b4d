// Package durable writes files and directories so that each appears on the disk complete or not at
// all. A file or directory that has its name is complete, even after a crash.
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
)

// WriteFile creates a file that holds data. Its name is durable after the next SyncDir of its
// directory.
func WriteFile(disk vfs.FS, path string, data []byte) error {
	f, err := disk.Create(path, vfs.WriteCategoryUnspecified)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}

	return errors.Join(err, f.Close())
}

// ReplaceFile makes path hold data. After a crash, path holds either data or its former contents,
// and a half-written file with the suffix ".tmp" may be beside it.
func ReplaceFile(disk vfs.FS, path string, data []byte) error {
	tmp := path + ".tmp"
	if err := WriteFile(disk, tmp, data); err != nil {
		return err
	}
	return Rename(disk, tmp, path)
}

// Rename renames a file or a directory. After a crash, it has either the old name or the new one.
func Rename(disk vfs.FS, from, to string) error {
	if err := disk.Rename(from, to); err != nil {
		return err
	}
	return SyncDir(disk, disk.PathDir(to))
}

// SyncDir makes the names in a directory durable.
func SyncDir(disk vfs.FS, path string) error {
	d, err := disk.OpenDir(path)
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

// Settle removes what a process that died left half made or half removed, and creates the directory
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

	return removed, SyncDir(d.FS, d.FS.PathDir(d.Path))
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
	if err := SyncDir(d.FS, d.New()); err != nil {
		return err
	}
	return Rename(d.FS, d.New(), d.Join(name))
}

// Remove removes a directory. The directory loses its name first, so that a crash does not leave a
// half-removed one under that name. The next Settle removes any rest.
func (d Dir) Remove(name string) error {
	gone := d.Join(temporary + "gone-" + name)
	if err := d.FS.RemoveAll(gone); err != nil { // left by an earlier removal that was interrupted
		return err
	}
	if err := Rename(d.FS, d.Join(name), gone); err != nil {
		return err
	}
	return d.FS.RemoveAll(gone)
}
