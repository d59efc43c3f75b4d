package storage

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"syscall"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"
)

// bytesOf returns how many bytes the tables of a state have.
func bytesOf(t *testing.T, disk vfs.FS) (n int64) {
	t.Helper()
	names, err := disk.List(dir)
	require.NoError(t, err)
	for _, name := range names {
		if strings.HasSuffix(name, ".sst") {
			info, err := disk.Stat(disk.PathJoin(dir, name))
			require.NoError(t, err)
			n += info.Size()
		}
	}
	return n
}

// What was pruned takes no room after a compaction, and what is kept is read as before.
func TestACompactionGivesBackTheRoomOfWhatWasPruned(t *testing.T) {
	disk := vfs.NewMem()
	d := open(t, disk)
	require.NoError(t, d.StartChain(1, chainStarted(1)))
	for i := range 50 {
		d.testCommit(t, uint64(i+2), put("key", strings.Repeat(fmt.Sprint(i%10), 400)))
	}
	_, err := d.Flush()
	require.NoError(t, err)
	before, hash := bytesOf(t, disk), d.State().AppHash

	require.NoError(t, d.Prune(t.Context(), 48))
	require.NoError(t, d.Compact(t.Context()))
	require.NoError(t, d.Close())
	require.Less(t, bytesOf(t, disk), before)

	d = open(t, disk)
	defer d.Close()
	require.NoError(t, d.VerifyScan(t.Context(), nil))
	require.Equal(t, hash, d.State().AppHash)
	require.Equal(t, strings.Repeat("7", 400), d.testGet(t, "key", 48))
	_, _, _, err = d.Get([]byte("key"), 47)
	require.ErrorIs(t, err, ErrPruned)
}

// A compaction ends when its context does, and the state goes on. When the disk fails, the state
// has failed.
func TestACompactionThatIsCutShort(t *testing.T) {
	d := started(t)
	d.testCommit(t, 2, put("key", "value"))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.ErrorIs(t, d.Compact(ctx), context.Canceled)
	require.NoError(t, d.Err())
	d.testCommit(t, 3, put("key", "other"))
	require.NoError(t, d.Compact(t.Context()))
	require.Equal(t, "other", d.testGet(t, "key", 0))

	full := &failing{match: writesTo(".sst"), err: syscall.ENOSPC}
	f, err := Open(dir, Options{FS: full.wrap(vfs.NewMem()), MemTableBytes: 1 << 20})
	require.NoError(t, err)
	require.NoError(t, f.StartChain(1, chainStarted(1)))
	err = f.Compact(t.Context())
	require.ErrorIs(t, err, errFailed)
	require.ErrorIs(t, err, syscall.ENOSPC)
	require.True(t, errors.Is(f.Err(), syscall.ENOSPC))
	f.Close()
}
