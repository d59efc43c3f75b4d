package offline

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
	"github.com/stretchr/testify/require"

	"github.com/coppice-go/coppice/engines/chain"
	"github.com/coppice-go/coppice/engines/storage"
	"github.com/coppice-go/coppice/node/exit"
	"github.com/coppice-go/coppice/node/home"
)

// failing returns a disk on which the operations that hit selects fail with err.
func failing(disk vfs.FS, err error, hit func(op errorfs.Op) bool) vfs.FS {
	return errorfs.Wrap(disk, errorfs.InjectorFunc(func(op errorfs.Op) error {
		if hit(op) {
			return err
		}
		return nil
	}))
}

// A verification that is interrupted at a snapshot, or cannot read it because of the operating
// system, says nothing about the snapshot: nobody is told to remove it. Prune and Compact read
// snapshots in the same way.
func TestOnlyADamagedSnapshotIsToBeRemoved(t *testing.T) {
	s := makeSpecimen(t, "solo", home.InitOptions{}, func(s *specimen, r running) { s.put(t, r, "a", "1") })
	m, _, err := CreateSnapshot(t.Context(), s.home, SnapshotOptions{})
	require.NoError(t, err)
	const advice = "verify again"

	why := errors.New("interrupted")
	ctx, stop := context.WithCancelCause(t.Context())
	stop(why)
	r := verification{VerifyOptions: VerifyOptions{Disk: vfs.Default}, home: s.home, report: new(Verified)}
	err = r.readSnapshots(ctx)
	require.ErrorIs(t, err, why)
	require.NotContains(t, err.Error(), advice)
	require.Equal(t, exit.Failed, exit.Code(err))

	dir := filepath.Join(home.SnapshotDir(s.home), m.ID)
	for _, system := range []error{syscall.EIO, syscall.EMFILE} {
		disk := failing(vfs.Default, system, func(op errorfs.Op) bool {
			return filepath.Dir(op.Path) == dir && op.Kind == errorfs.OpOpen
		})
		_, err := Verify(t.Context(), s.home, VerifyOptions{Disk: disk})
		require.ErrorIs(t, err, system)
		require.NotContains(t, err.Error(), advice)
		require.Equal(t, exit.Failed, exit.Code(err))
	}

	require.NoError(t, os.Remove(filepath.Join(dir, m.Files[0].Name)))
	_, err = Verify(t.Context(), s.home, VerifyOptions{})
	require.Equal(t, exit.Damage, exit.Code(err))
	require.ErrorContains(t, err, advice)
}

// The state that replay works on may fail because the disk is full. The log and the home's state
// are not damaged then.
func TestAFullDiskOfAReplayIsNotDamage(t *testing.T) {
	g := chain.NewGenesis("test", time.Now())
	own := oneBlock(t, vfs.NewMem(), g)
	r := verification{report: new(Verified), state: own, replayed: oneBlock(t, vfs.NewMem(), g)}
	require.NoError(t, r.compareEnd())

	full := false
	r.replayed = oneBlock(t, failing(vfs.NewMem(), syscall.ENOSPC, func(op errorfs.Op) bool {
		return full && op.Kind.ReadOrWrite() == errorfs.OpIsWrite
	}), g)
	full = true
	_, err := r.replayed.Flush()
	require.ErrorIs(t, err, syscall.ENOSPC)

	err = exit.Classify(r.compareEnd())
	require.ErrorIs(t, err, syscall.ENOSPC)
	require.Equal(t, exit.Failed, exit.Code(err))

	empty, err := storage.Open("state", storage.Options{FS: vfs.NewMem()})
	require.NoError(t, err)
	defer empty.Close()
	r.replayed = empty
	require.ErrorIs(t, r.compareEnd(), exit.ErrDamage)
}
