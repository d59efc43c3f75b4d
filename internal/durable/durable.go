// Package durable writes small files whole: after a crash, a file has its old content or its new
// content, and never a part of it.
//
// The effect of a method is on the disk when the method returns, except where its comment says
// otherwise. After an error, a later crash may undo the effect or leave it. No method tries again,
// because a disk whose sync has failed may have lost what was written before.
package durable

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// FS is the part of a file system that Disk uses.
type FS interface {
	// Create makes an empty file. If the path exists, the error is fs.ErrExist.
	Create(path string, mode fs.FileMode) (File, error)

	Remove(path string) error
	Rename(from, to string) error

	// SyncDir makes the names in a directory durable.
	SyncDir(path string) error
}

// File is a file that is being written.
type File interface {
	io.WriteCloser
	Sync() error
}

// Disk writes, renames and removes files of a file system, and makes each step durable.
type Disk struct{ FS }

// OS is the disk of the operating system.
var OS = Disk{osFS{}}

// WriteNew makes a file with the content data. The path must not exist. The content is durable when
// WriteNew returns, but the name is not: call SyncDir for its directory. If WriteNew fails, it
// removes the file that it has made.
func (d Disk) WriteNew(path string, data []byte, mode fs.FileMode) error {
	return d.CopyNew(path, bytes.NewReader(data), mode)
}

// CopyNew does the same as WriteNew, with the content that it reads from a reader.
func (d Disk) CopyNew(path string, from io.Reader, mode fs.FileMode) error {
	f, err := d.Create(path, mode)
	if err != nil {
		return err
	}

	_, err = io.Copy(f, from)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		_ = d.FS.Remove(path) // the first error says why
	}

	return err
}

// Write removes the file at path, if there is one, and then does the same as WriteNew.
func (d Disk) Write(path string, data []byte, mode fs.FileMode) error {
	if err := d.FS.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return d.WriteNew(path, data, mode)
}

// Replace makes path hold data. A crash may leave an unfinished file beside it, with the suffix
// ".tmp", which the next Replace removes.
func (d Disk) Replace(path string, data []byte, mode fs.FileMode) error {
	tmp := path + ".tmp"
	if err := d.Write(tmp, data, mode); err != nil {
		return err
	}
	return d.Rename(tmp, path)
}

// Publish makes the open file f durable, closes it, and renames it. Its name so far is from, and
// its new name is to.
func (d Disk) Publish(f File, from, to string) error {
	if err := errors.Join(f.Sync(), f.Close()); err != nil {
		return err
	}
	return d.Rename(from, to)
}

// Rename renames a file or a directory. Both names must be in the same file system. After a crash
// it has the old name or the new one.
func (d Disk) Rename(from, to string) error {
	if err := d.FS.Rename(from, to); err != nil {
		return err
	}
	return d.SyncDir(filepath.Dir(to))
}

// Remove removes a file.
func (d Disk) Remove(path string) error {
	if err := d.FS.Remove(path); err != nil {
		return err
	}
	return d.SyncDir(filepath.Dir(path))
}

type osFS struct{}

func (osFS) Create(path string, mode fs.FileMode) (File, error) {
	return os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
}

func (osFS) Remove(path string) error { return os.Remove(path) }

func (osFS) Rename(from, to string) error { return os.Rename(from, to) }

func (osFS) SyncDir(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
