package pebblefs_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"sync"
	"testing"

	"github.com/cockroachdb/pebble/v2"
	pvfs "github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/coppice-go/coppice/eventlog"
	"github.com/coppice-go/coppice/eventlog/internal/vfs"
	"github.com/coppice-go/coppice/eventlog/internal/workload"
	"github.com/coppice-go/coppice/eventlog/pebblefs"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestContract(t *testing.T) {
	t.Run("mem", func(t *testing.T) { vfs.Contract(t, pebblefs.Adapt(pvfs.NewCrashableMem()), "/") })
	t.Run("os", func(t *testing.T) { vfs.Contract(t, pebblefs.Adapt(pvfs.Default), t.TempDir()) })
}

// TestCrashesOnPebbleDisk holds a log to its promises on pebble's crashable MemFS, another model of
// a disk: pages of 4 KiB, and a removed name comes back unless its directory was synced.
func TestCrashesOnPebbleDisk(t *testing.T) {
	count, seeds := 0, 15
	if os.Getenv("COPPICE_SOAK") != "" {
		seeds = 1_000
	}

	for seed := range uint64(seeds) {
		rng := rand.New(rand.NewPCG(seed, 2))
		mem := pvfs.NewCrashableMem()
		p := workload.NewPromises()
		fs := &observed{FS: pebblefs.Adapt(mem)}
		var broken error
		fs.after = func(n int) {
			if n%9 != int(seed%9) || broken != nil {
				return
			}

			r := rand.New(rand.NewPCG(seed, uint64(n)))
			before := p.Now()
			clone := mem.CrashClone(pvfs.CrashCloneCfg{UnsyncedDataPercent: r.IntN(101), RNG: r})
			count++

			l, err := eventlog.Open(workload.Dir, workload.Small(pebblefs.Adapt(clone)))
			if err == nil {
				err = p.Check(l, before)
				l.Close()
			}

			if err != nil {
				broken = fmt.Errorf("seed %d, operation %d: %w", seed, n, err)
			}
		}
		require.NoError(t, workload.Run(t.Context(), rng, workload.Small(fs), p, 40))
		require.NoError(t, broken)
	}

	t.Logf("%d crashes", count)
}

// TestLogAndStoreShareADisk: one crash hits both, and after it the store is never ahead of the log
// (I4).
func TestLogAndStoreShareADisk(t *testing.T) {
	ctx := t.Context()
	mem := pvfs.NewCrashableMem()
	l, err := eventlog.Open("/home/log", eventlog.Options{FS: pebblefs.Adapt(mem), SegmentSize: 64 << 10})
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
		l2, err := eventlog.Open("/home/log", eventlog.Options{FS: pebblefs.Adapt(crashed)})
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
	l, err := eventlog.Open("/log", eventlog.Options{FS: pebblefs.Adapt(errorfs.Wrap(pvfs.NewMem(), inject))})
	require.NoError(t, err)
	mu.Lock()
	broken = true
	mu.Unlock()

	err = l.Append(t.Context(), eventlog.Record{}).Wait(t.Context())
	require.ErrorIs(t, err, eventlog.ErrFailed)
	require.ErrorIs(t, err, errorfs.ErrInjected)
	require.ErrorIs(t, l.Close(), eventlog.ErrFailed)
}
