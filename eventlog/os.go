package eventlog

import (
	"fmt"
	"io"
	"os"
)

// osFS is the operating system's file system.
type osFS struct{}

func (osFS) MkdirAll(dir string) error { return os.MkdirAll(dir, 0o755) }

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

func (osFS) SyncDir(dir string) error { return syncDir(dir) }

func (osFS) Create(name string) (File, error) {
	return osOpen(name, os.O_RDWR|os.O_CREATE|os.O_TRUNC)
}

func (osFS) Open(name string, write bool) (File, error) {
	info, err := os.Stat(name)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() { // opening a pipe would wait
		return nil, fmt.Errorf("%s is a %v, want a file", name, info.Mode().Type())
	}
	if write {
		return osOpen(name, os.O_RDWR)
	}

	return osOpen(name, os.O_RDONLY)
}

func (osFS) Rename(oldname, newname string) error { return os.Rename(oldname, newname) }
func (osFS) Remove(name string) error             { return os.Remove(name) }

func (osFS) Lock(name string) (io.Closer, error) {
	f, err := lockFile(name)
	if err != nil {
		return nil, err
	}
	return osLock{f, name}, nil
}

// osLock is a lock on a file. It implements Holder.
type osLock struct {
	*os.File
	name string
}

// Held compares the locked file with the file that has its name now.
func (l osLock) Held() error {
	ours, err := l.Stat()
	if err != nil {
		return err
	}
	is, err := os.Stat(l.name)
	if err == nil && !os.SameFile(ours, is) {
		err = fmt.Errorf("%s is another file", l.name)
	}
	if err != nil {
		return fmt.Errorf("the log's directory was moved or its LOCK removed while the log was open: %w", err)
	}

	return nil
}

func osOpen(name string, flag int) (File, error) {
	f, err := os.OpenFile(name, flag, 0o644)
	if err != nil {
		return nil, err
	}
	return osFile{f}, nil
}

type osFile struct{ *os.File }

// Sync replaces (*os.File).Sync by the cheapest call that keeps File's promise on this system.
func (f osFile) Sync() error { return syncData(f.File) }

func (f osFile) Size() (int64, error) {
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}
