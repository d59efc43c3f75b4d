package storage

import (
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
	"github.com/stretchr/testify/require"
)

// The state opens again after a crash at any operation, whichever names of the directory the disk
// has kept.
func TestTheStateOpensAfterACrashAtAnyOperation(t *testing.T) {
	mem := vfs.NewCrashableMem()
	db, err := Open("state", Options{FS: mem})
	require.NoError(t, err)
	require.NoError(t, db.Close())
	rounds := 0

	for at := 1; ; at++ {
		// One clone for each of several ways in which the unsynced names may survive.
		var clones []*vfs.MemFS
		var mu sync.Mutex // Pebble works in the background too
		ops := 0
		disk := mem.CrashClone(vfs.CrashCloneCfg{})
		fs := errorfs.Wrap(disk, errorfs.InjectorFunc(func(errorfs.Op) error {
			mu.Lock()
			defer mu.Unlock()

			if ops++; ops == at {
				for seed := range uint64(8) {
					clones = append(clones,
						disk.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: 50,
							RNG: rand.New(rand.NewPCG(seed, uint64(at)))}))
				}
			}

			return nil
		}))
		db, err := Open("state", Options{FS: fs})
		require.NoError(t, err)
		_, err = db.Flush()
		require.NoError(t, err)
		require.NoError(t, db.Close())
		if clones == nil {
			break // the run has no more operations
		}

		for seed, clone := range clones {
			again, err := Open("state", Options{FS: clone})
			require.NoError(t, err, "crash at operation %d, seed %d", at, seed)
			require.NoError(t, again.Close())
			rounds++
		}
	}

	require.Greater(t, rounds, 100)
}
