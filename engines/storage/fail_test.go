package storage

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
	"github.com/stretchr/testify/require"

	logv1 "github.com/coppice-go/coppice/proto/coppice/log/v1"
)

// failing is a disk on which matching operations fail, from the n-th on.
type failing struct {
	match func(op errorfs.Op) bool
	err   error
	n     atomic.Int64 // matching operations that still succeed
}

func (f *failing) wrap(fs vfs.FS) vfs.FS {
	return errorfs.Wrap(fs, errorfs.InjectorFunc(func(op errorfs.Op) error {
		if f.match(op) && f.n.Add(-1) < 0 {
			return fmt.Errorf("%v %s: %w", op.Kind, op.Path, f.err)
		}
		return nil
	}))
}

func writesTo(suffix string) func(op errorfs.Op) bool {
	return func(op errorfs.Op) bool {
		switch op.Kind {
		case errorfs.OpCreate, errorfs.OpFileWrite, errorfs.OpFileSync, errorfs.OpFileSyncData, errorfs.OpFileClose:
			return strings.HasSuffix(op.Path, suffix)
		}
		return false
	}
}

// history returns a chain of some blocks as a log holds it.
func history(t *testing.T, blocks int) (recs []*logv1.BlockCommitted) {
	d := started(t)
	for i := range blocks {
		recs = append(recs, d.testCommit(t, uint64(i+2), put(fmt.Sprint("key", i%7), fmt.Sprint(i)),
			put("last", fmt.Sprint(i)), del(fmt.Sprint("key", (i+3)%7))))
	}
	return recs
}

// redoAll brings d to the end of the history.
func redoAll(t *testing.T, d *DB, recs []*logv1.BlockCommitted) {
	require.NoError(t, d.StartChain(1, chainStarted(1)))
	for i, rec := range recs {
		require.NoError(t, d.Redo(uint64(i+2), rec))
	}
	require.Equal(t, recs[len(recs)-1].AppHash, d.State().AppHash)
	require.NoError(t, d.VerifyScan(context.Background(), nil))
}

// A full disk, or EIO, at each operation on a table. The error names its cause and is sticky, and
// nothing is reported durable that is not. The disk's contents open again, and redo leads to the
// same state.
func TestDiskFails(t *testing.T) {
	recs := history(t, 20)
	for _, cause := range []error{syscall.ENOSPC, syscall.EIO} {
		failures := 0
		for n := int64(0); ; n++ {
			disk := vfs.NewCrashableMem()
			f := &failing{match: writesTo(".sst"), err: cause}
			f.n.Store(n)
			d, err := Open(dir, Options{FS: f.wrap(disk), MemTableBytes: 1 << 20})
			require.NoError(t, err, "an empty state writes no table")
			require.NoError(t, d.StartChain(1, chainStarted(1)))
			var durable uint64

			for i, rec := range recs {
				if err = d.Redo(uint64(i+2), rec); err != nil {
					break
				}
				if i%5 != 4 {
					continue
				}
				var at uint64
				if at, err = d.Flush(); err != nil {
					break
				}

				require.Equal(t, uint64(i+2), at)
				durable = at
			}

			if err != nil {
				failures++
				require.ErrorIs(t, err, errFailed)
				require.ErrorIs(t, err, cause)
				require.ErrorContains(t, err, "state state: the state failed")
				<-d.Failed()
				require.Equal(t, err, d.Err())
				_, _, _, err = d.Get([]byte("last"), 0)
				require.ErrorIs(t, err, errFailed)
				require.ErrorIs(t, d.StartChain(99, chainStarted(9)), errFailed)
				_, err = d.Begin(block(d, genesis))
				require.ErrorIs(t, err, errFailed)
				_, err = d.durableApplied()
				require.ErrorIs(t, err, errFailed)
				require.ErrorIs(t, d.PutLocal("a", nil), errFailed)
				require.NoError(t, d.Close())
			} else if err := d.Close(); err != nil { // the last flush, or a compaction
				failures++
				require.ErrorIs(t, err, errFailed)
				require.ErrorIs(t, err, cause)
			}

			after := open(t, disk.CrashClone(vfs.CrashCloneCfg{}))
			require.GreaterOrEqual(t, after.State().Index, durable)
			redoAll(t, after, recs)
			require.NoError(t, after.Close())
			if f.n.Load() >= 0 {
				break // all operations succeeded: n was past the last
			}
		}

		require.Greater(t, failures, 10)
	}
}

// A failed read is not taken for an absent key.
func TestReadFails(t *testing.T) {
	disk := vfs.NewMem()
	d := open(t, disk)
	require.NoError(t, d.StartChain(1, chainStarted(1)))
	for i := range 20 { // enough that opening does not read all of it
		d.testCommit(t, uint64(i+2), put(fmt.Sprint("key", i), strings.Repeat(fmt.Sprint(i), 20_000)))
	}

	require.NoError(t, d.Close())

	f := &failing{err: syscall.EIO, match: func(op errorfs.Op) bool {
		return op.Kind == errorfs.OpFileReadAt && path.Ext(op.Path) == ".sst"
	}}
	f.n.Store(1 << 40)
	d, err := Open(dir, Options{FS: f.wrap(disk)})
	require.NoError(t, err)
	f.n.Store(0)
	_, _, _, err = d.Get([]byte("key10"), 0)
	require.ErrorIs(t, err, errFailed)
	require.ErrorIs(t, err, syscall.EIO)
	require.NoError(t, d.Close())
}

const fatalDir = "COPPICE_TEST_FATAL_STATE"

// If Pebble cannot write the manifest, it holds its locks for ever: OnFatal ends the process, and
// the state opens again (fsync failures are fatal).
func TestManifestFailureEndsTheProcess(t *testing.T) {
	recs := history(t, 10)
	if dir := os.Getenv(fatalDir); dir != "" {
		dieOnManifest(t, dir, recs)
		return
	}

	dir := path.Join(t.TempDir(), "state")
	cmd := exec.Command(os.Args[0], "-test.run=^TestManifestFailureEndsTheProcess$")
	cmd.Env = append(os.Environ(), fatalDir+"="+dir)
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	require.True(t, errors.As(err, &exit), "%v\n%s", err, out)
	require.Equal(t, 42, exit.ExitCode(), "%s", out)
	require.Contains(t, string(out), "the state failed beyond repair: MANIFEST sync failed")

	d, err := Open(dir, Options{})
	require.NoError(t, err)
	require.GreaterOrEqual(t, d.State().Index, uint64(6))
	redoAll(t, d, recs)
	require.NoError(t, d.Close())
}

// dieOnManifest runs in the process that ends.
func dieOnManifest(t *testing.T, dir string, recs []*logv1.BlockCommitted) {
	f := &failing{err: syscall.EIO, match: func(op errorfs.Op) bool {
		return op.Kind == errorfs.OpFileSync && strings.Contains(op.Path, "MANIFEST")
	}}
	f.n.Store(1 << 40)
	d, err := Open(dir, Options{FS: f.wrap(vfs.Default), OnFatal: func(err error) {
		fmt.Println(err)
		os.Exit(42)
	}})
	require.NoError(t, err)
	redoAll(t, d, recs[:5])
	_, err = d.Flush()
	require.NoError(t, err)
	require.NoError(t, d.Redo(7, recs[5]))
	f.n.Store(0)
	d.Flush()
}
