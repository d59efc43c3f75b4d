package vfs

import (
	"io/fs"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/cockroachdb/pebble/v2"
	pvfs "github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/coppice-go/coppice/eventlog"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// TestContract holds every file system to what eventlog.FS and eventlog.File say.
func TestContract(t *testing.T) {
	for name, at := range map[string]func(t *testing.T) (eventlog.FS, string){
		"disk":       func(*testing.T) (eventlog.FS, string) { return NewDisk(), "/" },
		"pebble mem": func(*testing.T) (eventlog.FS, string) { return Adapt(pvfs.NewCrashableMem()), "/" },
		"pebble os":  func(t *testing.T) (eventlog.FS, string) { return Adapt(pvfs.Default), t.TempDir() },
	} {
		t.Run(name, func(t *testing.T) {
			fsys, root := at(t)
			dir := filepath.Join(root, "a", "b")
			_, err := fsys.List(dir)
			require.ErrorIs(t, err, fs.ErrNotExist)
			require.NoError(t, fsys.MkdirAll(dir))
			require.NoError(t, fsys.MkdirAll(dir))
			one, two := filepath.Join(dir, "one"), filepath.Join(dir, "two")
			_, err = fsys.Open(one, true)
			require.ErrorIs(t, err, fs.ErrNotExist)
			_, err = fsys.Open(one, false)
			require.ErrorIs(t, err, fs.ErrNotExist)

			f, err := fsys.Create(one)
			require.NoError(t, err)
			_, err = f.WriteAt([]byte("world"), 6)
			require.NoError(t, err)
			_, err = f.WriteAt([]byte("hello "), 0)
			require.NoError(t, err)
			require.NoError(t, f.Sync())
			size, err := f.Size()
			require.NoError(t, err)
			require.EqualValues(t, 11, size)
			require.NoError(t, fsys.Rename(one, two))
			require.NoError(t, fsys.SyncDir(dir))
			names, err := fsys.List(dir)
			require.NoError(t, err)
			require.Equal(t, []string{"two"}, names)
			require.NoError(t, f.Close())

			f, err = fsys.Open(two, false)
			require.NoError(t, err)
			b := make([]byte, 20)
			n, err := f.ReadAt(b, 0)
			require.Error(t, err)
			require.Equal(t, "hello world", string(b[:n]))
			require.NoError(t, fsys.Remove(two))
			_, err = f.ReadAt(b[:5], 6)
			require.NoError(t, err, "an open file outlives its name")
			require.Equal(t, "world", string(b[:5]))
			require.NoError(t, f.Close())

			f, err = fsys.Create(one)
			require.NoError(t, err)
			_, err = f.WriteAt([]byte("x"), 0)
			require.NoError(t, err)
			require.NoError(t, f.Close())
			f, err = fsys.Create(one)
			require.NoError(t, err)
			size, err = f.Size()
			require.NoError(t, err)
			require.Zero(t, size, "Create replaces")
			require.NoError(t, f.Close())

			lock, err := fsys.Lock(filepath.Join(dir, "LOCK"))
			require.NoError(t, err)
			_, err = fsys.Lock(filepath.Join(dir, "LOCK"))
			require.ErrorIs(t, err, eventlog.ErrLocked)
			require.NoError(t, lock.Close())
			lock, err = fsys.Lock(filepath.Join(dir, "LOCK"))
			require.NoError(t, err)
			require.NoError(t, lock.Close())
		})
	}
}

func write(t *testing.T, f eventlog.File, s string, off int64) {
	t.Helper()
	_, err := f.WriteAt([]byte(s), off)
	require.NoError(t, err)
}

func read(t *testing.T, d *Disk, name string) string {
	t.Helper()
	f, err := d.Open(name, false)
	require.NoError(t, err)
	size, err := f.Size()
	require.NoError(t, err)
	b := make([]byte, size)

	if size > 0 {
		_, err = f.ReadAt(b, 0)
		require.NoError(t, err)
	}

	return string(b)
}

// TestDiskCrash: what is synced stays. Each other sector and each other name survives or not by
// itself.
func TestDiskCrash(t *testing.T) {
	d := NewDisk()
	require.NoError(t, d.MkdirAll("/d"))
	require.NoError(t, d.SyncDir("/"))
	f, err := d.Create("/d/f")
	require.NoError(t, err)
	rng := rand.New(rand.NewPCG(1, 1))

	names, err := d.Crash(rng, 0).List("/d")
	require.NoError(t, err)
	require.Empty(t, names, "the name was not synced")
	require.NoError(t, d.SyncDir("/d"))
	write(t, f, "old", 0)
	require.NoError(t, f.Sync())
	write(t, f, "new", 0)
	write(t, f, "far", 10*Sector)
	require.Equal(t, "old", read(t, d.Crash(rng, 0), "/d/f"))
	require.Equal(t, "new", read(t, d.Crash(rng, 100), "/d/f")[:3])
	torn := map[[2]bool]bool{} // which of the two sectors were kept

	for range 100 {
		got := read(t, d.Crash(rng, 50), "/d/f")
		torn[[2]bool{strings.HasPrefix(got, "new"), strings.HasSuffix(got, "far")}] = true
	}

	require.Len(t, torn, 4)

	require.NoError(t, d.Rename("/d/f", "/d/g"))
	names, err = d.Crash(rng, 0).List("/d")
	require.NoError(t, err)
	require.Equal(t, []string{"f"}, names)
}

// TestDiskFailedSync: after a failed sync, reading shows bytes that the disk does not have, and
// only writing them again brings them there.
func TestDiskFailedSync(t *testing.T) {
	d := NewDisk()
	fail := false
	d.Before = func(op Op) Fault {
		if fail && op.Kind == Sync {
			return Fault{Err: syscall.EIO}
		}
		return Fault{}
	}
	f, err := d.Create("/f")
	require.NoError(t, err)
	require.NoError(t, d.SyncDir("/"))
	write(t, f, "data", 0)
	fail = true
	require.ErrorIs(t, f.Sync(), syscall.EIO)
	fail = false
	require.NoError(t, f.Sync(), "the kernel has nothing left to write")
	rng := rand.New(rand.NewPCG(1, 1))
	require.Equal(t, "data", read(t, d, "/f"))
	require.NotContains(t, read(t, d.Crash(rng, 100), "/f"), "data")
	write(t, f, "data", 0)
	require.NoError(t, f.Sync())
	require.Equal(t, "data", read(t, d.Crash(rng, 0), "/f"))
}

func TestDiskFull(t *testing.T) {
	d := NewDisk()
	d.Limit = 10
	f, err := d.Create("/f")
	require.NoError(t, err)
	n, err := f.WriteAt(make([]byte, 20), 0)
	require.ErrorIs(t, err, syscall.ENOSPC)
	require.Equal(t, 10, n)
	write(t, f, "within", 0)
	require.EqualValues(t, 10, d.used())
}

// TestLogAndStoreShareADisk: one crash hits both, and after it the store is never ahead of the log
// (I4).
func TestLogAndStoreShareADisk(t *testing.T) {
	ctx := t.Context()
	mem := pvfs.NewCrashableMem()
	l, err := eventlog.Open("/home/log", eventlog.Options{FS: Adapt(mem), SegmentSize: 64 << 10})
	require.NoError(t, err)
	db, err := pebble.Open("/home/store", &pebble.Options{FS: mem, Logger: quiet{}})
	require.NoError(t, err)

	for i := range 50 {
		p := l.Append(ctx, eventlog.Record{Data: []byte{byte(i)}})
		require.NoError(t, p.Wait(ctx))
		require.NoError(t, db.Set([]byte("applied"), []byte{byte(p.First())}, pebble.NoSync))
		if i == 30 {
			require.NoError(t, db.Flush())
		}
	}

	rng := rand.New(rand.NewPCG(1, 1))

	for _, percent := range []int{0, 50, 100} {
		crashed := mem.CrashClone(pvfs.CrashCloneCfg{UnsyncedDataPercent: percent, RNG: rng})
		l2, err := eventlog.Open("/home/log", eventlog.Options{FS: Adapt(crashed)})
		require.NoError(t, err)
		db2, err := pebble.Open("/home/store", &pebble.Options{FS: crashed, Logger: quiet{}})
		require.NoError(t, err)
		v, closer, err := db2.Get([]byte("applied"))
		require.NoError(t, err)
		require.GreaterOrEqual(t, v[0], byte(31))
		require.LessOrEqual(t, uint64(v[0]), l2.Durable())
		require.EqualValues(t, 50, l2.Durable())
		require.NoError(t, closer.Close())
		require.NoError(t, db2.Close())
		require.NoError(t, l2.Close())
	}

	require.NoError(t, db.Close())
	require.NoError(t, l.Close())
}

type quiet struct{}

func (quiet) Infof(string, ...any)  {}
func (quiet) Errorf(string, ...any) {}
func (quiet) Fatalf(string, ...any) {}

// TestErrorfs: pebble's error injection works through the adapter.
func TestErrorfs(t *testing.T) {
	var mu sync.Mutex
	broken := false
	inject := errorfs.InjectorFunc(func(op errorfs.Op) error {
		mu.Lock()
		defer mu.Unlock()
		if broken && op.Kind == errorfs.OpFileSync || broken && op.Kind == errorfs.OpFileSyncData {
			return errorfs.ErrInjected
		}
		return nil
	})
	l, err := eventlog.Open("/log", eventlog.Options{FS: Adapt(errorfs.Wrap(pvfs.NewMem(), inject))})
	require.NoError(t, err)
	mu.Lock()
	broken = true
	mu.Unlock()

	err = l.Append(t.Context(), eventlog.Record{}).Wait(t.Context())
	require.ErrorIs(t, err, eventlog.ErrFailed)
	require.ErrorIs(t, err, errorfs.ErrInjected)
	require.ErrorIs(t, l.Close(), eventlog.ErrFailed)
}
