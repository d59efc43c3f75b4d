// Package pebblefs lets an event log live on a file system of pebble's vfs package, so that a log
// and a pebble store share one disk, and in tests one crash (MemFS) or one failure (errorfs).
package pebblefs

import (
	"errors"
	"fmt"
	"io"
	"syscall"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/coppice-go/coppice/eventlog"
)

// category is the category of a log's writes in pebble's statistics.
const category = vfs.WriteCategoryUnspecified

// Adapt returns a pebble file system as the file system of an event log.
func Adapt(fs vfs.FS) eventlog.FS { return adapted{fs} }

type adapted struct{ fs vfs.FS }

func (a adapted) MkdirAll(dir string) error            { return a.fs.MkdirAll(dir, 0o755) }
func (a adapted) List(dir string) ([]string, error)    { return a.fs.List(dir) }
func (a adapted) Rename(oldname, newname string) error { return a.fs.Rename(oldname, newname) }
func (a adapted) Remove(name string) error             { return a.fs.Remove(name) }
func (a adapted) open(name string) (eventlog.File, error) {
	return wrap(a.fs.OpenReadWrite(name, category))
}
func (a adapted) stat(name string) error { _, err := a.fs.Stat(name); return err }

func (a adapted) SyncDir(dir string) error {
	d, err := a.fs.OpenDir(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// Create opens the file for WriteAt, which pebble's own Create does not promise.
func (a adapted) Create(name string) (eventlog.File, error) {
	if a.stat(name) == nil {
		if err := a.fs.Remove(name); err != nil {
			return nil, err
		}
	}
	return a.open(name)
}

func (a adapted) Open(name string, write bool) (eventlog.File, error) {
	if !write {
		return wrap(a.fs.Open(name))
	}
	if err := a.stat(name); err != nil {
		return nil, err
	}
	return a.open(name)
}

func (a adapted) Lock(name string) (io.Closer, error) {
	c, err := a.fs.Lock(name)
	if err == nil {
		return c, nil
	}

	// Pebble has no error value for a lock that this process holds.
	if errors.Is(err, syscall.EAGAIN) || errors.Is(err, syscall.EACCES) ||
		err.Error() == "lock held by current process" {
		return nil, fmt.Errorf("%w: %s: %v", eventlog.ErrLocked, name, err)
	}

	return nil, err
}

func wrap(f vfs.File, err error) (eventlog.File, error) {
	if err != nil {
		return nil, err
	}
	return file{f}, nil
}

type file struct{ vfs.File }

func (f file) Sync() error { return f.SyncData() }

func (f file) Size() (int64, error) {
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}
