package offline

import (
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
	"github.com/stretchr/testify/require"

	"github.com/coppice-go/coppice/eventlog/pebblefs"
	"github.com/coppice-go/coppice/node/home"
)

// cutDisk clones what a power failure would leave of a disk before one of its operations. The work
// goes on without knowing.
type cutDisk struct {
	mem  *vfs.MemFS
	at   int // the operation; 0: none
	cfg  vfs.CrashCloneCfg
	left *vfs.MemFS // what the power failure leaves; nil: it has not come

	mu  sync.Mutex
	ops int
}

func (d *cutDisk) fs() vfs.FS {
	return errorfs.Wrap(d.mem, errorfs.InjectorFunc(func(op errorfs.Op) error {
		if op.Kind == errorfs.OpLink {
			return errors.New("no links on this disk") // MemFS's own may wait for itself when it is cloned meanwhile
		}

		d.mu.Lock()
		defer d.mu.Unlock()
		if d.ops++; d.ops == d.at {
			d.left = d.mem.CrashClone(d.cfg)
		}

		return nil
	}))
}

// onMem copies the data of a home to a disk in memory.
func onMem(t *testing.T, dir string) *vfs.MemFS {
	t.Helper()
	mem := vfs.NewCrashableMem()
	data := filepath.Dir(home.LogDir(dir))
	require.NoError(t, mem.MkdirAll(data, 0o700))
	_, err := vfs.Clone(vfs.Default, mem, data, data, vfs.CloneSync)
	require.NoError(t, err)
	for at := data; at != filepath.Dir(at); at = filepath.Dir(at) {
		d, err := mem.OpenDir(filepath.Dir(at))
		require.NoError(t, err)
		require.NoError(t, errors.Join(d.Sync(), d.Close()))
	}
	return mem
}

// A power failure at any operation of a pruning leaves a home that verifies, with all that was
// acknowledged; the next pruning completes the work, and the home starts.
func TestAPruningSurvivesAPowerFailure(t *testing.T) {
	s := makePruneSpecimen(t, home.InitOptions{})
	want := s.height - 2
	prune := func(disk vfs.FS) (Pruned, error) {
		return Prune(t.Context(), s.home, PruneOptions{Before: want, Disk: disk, Logs: pebblefs.Adapt(disk)})
	}

	whole := &cutDisk{mem: onMem(t, s.home)}
	_, err := prune(whole.fs())
	require.NoError(t, err)
	reading := &cutDisk{mem: onMem(t, s.home)}
	_, err = Prune(t.Context(), s.home, PruneOptions{Before: want, DryRun: true, Disk: reading.fs(),
		Logs: pebblefs.Adapt(reading.fs())})
	require.NoError(t, err)

	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d; %d operations, %d of them before the first change", seed, whole.ops, reading.ops)
	rng := rand.New(rand.NewPCG(seed, 1))

	begin := reading.ops * 9 / 10 // what a dry run reads last is read after the first change
	cuts := 0

	for range 12 {
		disk := &cutDisk{mem: onMem(t, s.home), at: begin + rng.IntN(whole.ops-begin),
			cfg: vfs.CrashCloneCfg{UnsyncedDataPercent: rng.IntN(101), RNG: rng}}
		_, err := prune(disk.fs())
		require.NoError(t, err)
		if disk.left == nil {
			continue // fewer operations than in the first run
		}
		cuts++

		verify := func() Verified {
			t.Helper()
			v, err := Verify(t.Context(), s.home, VerifyOptions{Disk: disk.left, Logs: pebblefs.Adapt(disk.left)})
			require.NoError(t, err, "cut before operation %d", disk.at)
			return v
		}

		verify()
		done, err := prune(disk.left)
		require.NoError(t, err, "cut before operation %d", disk.at)
		require.Equal(t, want, done.State.Kept)
		require.Equal(t, done.Log.Kept, verify().First)
		require.Greater(t, done.Log.Kept, uint64(1))

		if cuts == 1 {
			dir := image(t, s.home)
			data := filepath.Dir(home.LogDir(dir))
			require.NoError(t, os.RemoveAll(data))
			_, err := vfs.Clone(disk.left, vfs.Default, filepath.Dir(home.LogDir(s.home)), data)
			require.NoError(t, err)
			s.requireReads(t, dir, want)
		}
	}

	require.Greater(t, cuts, 6)
}
