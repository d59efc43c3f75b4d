package portable

import (
	"bytes"
	"math/rand/v2"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
	"github.com/stretchr/testify/require"

	"github.com/coppice-go/coppice/engines/storage"
)

// A full disk fails only this attempt: it is neither the chunk's fault nor the snapshot's.
func TestADiskThatIsFullIsNoFaultOfTheSnapshot(t *testing.T) {
	n, m, chunks := full(t)
	var isFull atomic.Bool
	isFull.Store(true)
	mem := vfs.NewMem()
	fs := errorfs.Wrap(mem, errorfs.InjectorFunc(func(op errorfs.Op) error {
		table := strings.HasSuffix(op.Path, ".sst") || strings.HasSuffix(op.Path, ".chunk")
		if isFull.Load() && table && (op.Kind == errorfs.OpFileWrite || op.Kind == errorfs.OpCreate) {
			return syscall.ENOSPC
		}
		return nil
	}))

	take := func() error {
		i, err := NewImport(m, n.target(fs))
		require.NoError(t, err)
		err = applyAll(i, bytes.Join(chunks, nil))
		require.NoError(t, i.Abort())
		return err
	}
	err := take()
	require.ErrorIs(t, err, syscall.ENOSPC)
	require.NotErrorIs(t, err, ErrSnapshot)
	require.NotErrorIs(t, err, ErrChunk)
	p, err := n.db.Pin()
	require.NoError(t, err)
	defer p.Close()

	d := Dir{FS: fs, Path: "peers"}
	require.NoError(t, d.Settle())
	_, err = d.Take(t.Context(), p, Taking{ChunkBytes: 1000})
	require.ErrorIs(t, err, syscall.ENOSPC)
	names, err := mem.List("peers")
	require.NoError(t, err)
	require.Empty(t, names)
	isFull.Store(false)
	require.NoError(t, take())
	again, err := d.Take(t.Context(), p, Taking{ChunkBytes: 1000})
	require.NoError(t, err)
	require.Equal(t, m, again)
}

// A power failure at any operation of a snapshot leaves the earlier snapshots, and the new one
// either complete or not at all.
func TestACrashWhileASnapshotIsTakenLeavesWholeOnes(t *testing.T) {
	for at := int64(1); ; at++ {
		mem := vfs.NewCrashableMem()
		var ops atomic.Int64
		var after *vfs.MemFS
		var armed atomic.Bool
		fs := errorfs.Wrap(mem, errorfs.InjectorFunc(func(op errorfs.Op) error {
			if armed.Load() && ops.Add(1) == at {
				after = mem.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: int(at*37) % 101,
					RNG: rand.New(rand.NewPCG(uint64(at), 1))})
			}
			return nil
		}))
		n := newNode(t, fs)
		n.block(write{key: "a", value: "1"}, write{key: "b", value: "2"})
		n.take(minChunkBytes)
		n.block(write{key: "c", value: "3"}, write{key: "d", value: "4"})
		armed.Store(true)
		n.take(minChunkBytes)
		_, err := n.dir().Keep(1, nil)
		require.NoError(t, err)
		armed.Store(false)
		require.NoError(t, n.db.Close())

		if after == nil {
			require.Greater(t, at, int64(20), "operations")
			return
		}

		d := Dir{FS: after, Path: "peers"}
		require.NoError(t, d.Settle())
		list, err := d.List()
		require.NoError(t, err)
		names, err := after.List("peers")
		require.NoError(t, err)
		require.Len(t, names, len(list), "operation %d: nothing half done is left: %v", at, names)
		require.NotEmpty(t, list, "operation %d", at)

		for _, m := range list {
			for k := range m.Chunks {
				_, err := d.Chunk(m, uint32(k))
				require.NoError(t, err, "operation %d", at)
			}
		}
	}
}

// An import that a power failure interrupts at any operation leaves no state; begun again, it
// succeeds.
func TestACrashWhileASnapshotIsImportedLeavesNoState(t *testing.T) {
	n := newNode(t, vfs.NewMem())
	defer n.db.Close()

	n.block(write{key: "a", value: "1"}, write{key: "b", value: "2"})
	m := n.take(minChunkBytes)

	for at := int64(1); ; at += 3 {
		mem := vfs.NewCrashableMem()
		var ops atomic.Int64
		var after *vfs.MemFS
		to := n.target(errorfs.Wrap(mem, errorfs.InjectorFunc(func(errorfs.Op) error {
			if ops.Add(1) == at {
				after = mem.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: int(at*37) % 101,
					RNG: rand.New(rand.NewPCG(uint64(at), 2))})
			}
			return nil
		})))

		run := func(to Target) {
			i, err := NewImport(m, to)
			require.NoError(t, err)
			for k := range m.Chunks {
				c, err := n.dir().Chunk(m, uint32(k))
				require.NoError(t, err)
				require.NoError(t, i.Apply(uint32(k), c))
			}
			require.NoError(t, i.Finish())
		}
		run(to)

		if after == nil {
			require.Greater(t, at, int64(20), "operations")
			return
		}

		again := n.target(after)
		if db, err := storage.Open(again.Dir, storage.Options{FS: after, ReadOnly: true}); err == nil {
			if db.State().Started() { // then it must be complete
				require.NoError(t, db.VerifyScan(t.Context(), nil), "operation %d", at)
				require.Equal(t, m.AppHash, db.State().AppHash)
			}
			require.NoError(t, db.Close())
		}

		run(again)
		db, err := storage.Open(again.Dir, storage.Options{FS: after, ReadOnly: true})
		require.NoError(t, err, "operation %d", at)
		require.NoError(t, db.VerifyScan(t.Context(), nil))
		require.NoError(t, db.Close())
	}
}
