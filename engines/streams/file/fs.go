package file

import (
	"errors"
	"io"
	"io/fs"
	"os"

	"github.com/coppice-go/coppice/internal/flock"
)

// FS is what the sink needs of a file system. Tests use one that crashes and fails.
type FS interface {
	MkdirAll(dir string) error
	List(dir string) ([]string, error) // base names, in any order
	SyncDir(dir string) error
	Create(name string) (File, error) // the name must not exist
	Open(name string, write bool) (File, error)
	Remove(name string) error // a file, or an empty folder
	Rename(from, to string) error
	Lock(name string) (io.Closer, error) // does not wait
}

// File is an open file.
type File interface {
	io.ReaderAt
	io.WriterAt
	io.Closer
	Sync() error
	Truncate(size int64) error
	Size() (int64, error)
	Is(name string) (bool, error) // whether the file has this name, and not another one or none
}

// osFS is the operating system's file system.
type osFS struct{}

func (osFS) MkdirAll(dir string) error { return os.MkdirAll(dir, 0o700) }

func (osFS) List(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}

	names := make([]string, len(entries))
	for i, e := range entries {
		names[i] = e.Name()
	}
	return names, nil
}

func (osFS) SyncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

func (osFS) Create(name string) (File, error) {
	return osOpen(name, os.O_RDWR|os.O_CREATE|os.O_EXCL)
}

func (osFS) Open(name string, write bool) (File, error) {
	if write {
		return osOpen(name, os.O_RDWR)
	}
	return osOpen(name, os.O_RDONLY)
}

func (osFS) Remove(name string) error { return os.Remove(name) }

func (osFS) Rename(from, to string) error { return os.Rename(from, to) }

func (osFS) Lock(name string) (io.Closer, error) { return flock.TryLock(name) }

func osOpen(name string, flags int) (File, error) {
	f, err := os.OpenFile(name, flags, 0o600)
	if err != nil {
		return nil, err
	}
	return osFile{f}, nil
}

type osFile struct{ *os.File }

func (f osFile) Sync() error { return datasync(f.File) }

func (f osFile) Is(name string) (bool, error) {
	named, err := os.Stat(name)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	open, err := f.Stat()
	return err == nil && os.SameFile(named, open), err
}

func (f osFile) Size() (int64, error) {
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}
