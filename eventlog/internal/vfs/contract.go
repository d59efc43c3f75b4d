package vfs

import (
	"errors"
	"io/fs"
	"path/filepath"
	"slices"
	"testing"

	"github.com/coppice-go/coppice/eventlog"
)

// Contract fails the test if fsys, used below root, breaks what eventlog.FS and eventlog.File
// promise. It uses no assertion library, because files that are not tests import none.
func Contract(t *testing.T, fsys eventlog.FS, root string) {
	ok := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	fails := func(err, target error) {
		t.Helper()
		if !errors.Is(err, target) {
			t.Fatalf("got error %v, want %v", err, target)
		}
	}
	reads := func(f eventlog.File, off int64, size int, want string, ends bool) {
		t.Helper()
		b := make([]byte, size)
		n, err := f.ReadAt(b, off)
		if string(b[:n]) != want || (err != nil) != ends {
			t.Fatalf("read %q and error %v, want %q and an error: %t", b[:n], err, want, ends)
		}
	}
	writes := func(f eventlog.File, s string, off int64) {
		t.Helper()
		_, err := f.WriteAt([]byte(s), off)
		ok(err)
	}
	sized := func(f eventlog.File, want int64) {
		t.Helper()
		if got, err := f.Size(); err != nil || got != want {
			t.Fatalf("size %d and error %v, want %d", got, err, want)
		}
	}

	dir := filepath.Join(root, "a", "b")
	one, two, lock := filepath.Join(dir, "one"), filepath.Join(dir, "two"), filepath.Join(dir, "LOCK")

	// A missing file or directory is reported as missing.
	_, err := fsys.List(dir)
	fails(err, fs.ErrNotExist)
	ok(fsys.MkdirAll(dir))
	ok(fsys.MkdirAll(dir))
	_, err = fsys.Open(one, true)
	fails(err, fs.ErrNotExist)
	_, err = fsys.Open(one, false)
	fails(err, fs.ErrNotExist)

	f, err := fsys.Create(one)
	ok(err)
	writes(f, "world", 6)
	writes(f, "hello ", 0)
	ok(f.Sync())
	sized(f, 11)
	ok(fsys.Rename(one, two))
	ok(fsys.SyncDir(dir))

	names, err := fsys.List(dir)
	ok(err)
	if !slices.Equal(names, []string{"two"}) {
		t.Fatalf("listed %q, want two", names)
	}
	ok(f.Close())

	// An open file outlives its name.
	f, err = fsys.Open(two, false)
	ok(err)
	reads(f, 0, 20, "hello world", true)
	ok(fsys.Remove(two))
	reads(f, 6, 5, "world", false)
	ok(f.Close())

	// Create replaces an existing file by an empty one.
	f, err = fsys.Create(one)
	ok(err)
	writes(f, "x", 0)
	ok(f.Close())
	f, err = fsys.Create(one)
	ok(err)
	sized(f, 0)
	ok(f.Close())

	held, err := fsys.Lock(lock)
	ok(err)
	_, err = fsys.Lock(lock)
	fails(err, eventlog.ErrLocked)
	ok(held.Close())
	held, err = fsys.Lock(lock)
	ok(err)
	ok(held.Close())
}
