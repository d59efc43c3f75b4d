package eventlog_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/coppice-go/coppice/eventlog"
	"github.com/coppice-go/coppice/eventlog/internal/vfs"
)

// faultKinds are the ways in which an operation fails.
var faultKinds = []struct {
	name  string
	kinds string // of operations that may fail in this way
	fault func(op vfs.Op) vfs.Fault
}{
	{"EIO", "write sync syncdir rename create remove", func(vfs.Op) vfs.Fault { return vfs.Fault{Err: syscall.EIO} }},
	{"EIO after half", "write", func(op vfs.Op) vfs.Fault { return vfs.Fault{Err: syscall.EIO, Keep: op.Len / 2} }},
	{"ENOSPC", "write create syncdir", func(op vfs.Op) vfs.Fault {
		return vfs.Fault{Err: syscall.ENOSPC, Keep: op.Len / 3}
	}},
	{"short write", "write", func(op vfs.Op) vfs.Fault { return vfs.Fault{Short: true, Keep: op.Len - 1} }},
}

// withFault runs a workload in which operation n fails, and judges the result. hit is false once n
// lies past the end.
func withFault(ctx context.Context, seed uint64, kind, n int, tamper func(*vfs.Disk) eventlog.FS,
	change func(eventlog.Options) eventlog.Options) (hit bool, err error) {
	fk := faultKinds[kind]
	disk := vfs.NewDisk()
	p := newPromises()
	var struck atomic.Pointer[vfs.Op]
	disk.Before = func(op vfs.Op) vfs.Fault {
		if op.N < n || struck.Load() != nil || !strings.Contains(fk.kinds, string(op.Kind)) {
			return vfs.Fault{}
		}
		if !struck.CompareAndSwap(nil, &op) {
			return vfs.Fault{}
		}
		return fk.fault(op)
	}
	defer func() {
		if err != nil {
			err = fmt.Errorf("seed %d, %s at operation %d (%v): %w", seed, fk.name, n, struck.Load(), err)
		}
	}()

	var fs eventlog.FS = disk
	if tamper != nil {
		fs = tamper(disk)
	}

	err = work(ctx, rand.New(rand.NewPCG(seed, 3)), change(small(fs)), p, 25)
	if struck.Load() == nil {
		return false, err
	}

	// Open may fail if its disk fails.
	if err != nil && !errors.Is(err, syscall.EIO) && !errors.Is(err, syscall.ENOSPC) && !strings.Contains(err.Error(),
		"short write") {
		return true, err
	}

	before := p.Now()
	rng := rand.New(rand.NewPCG(seed, uint64(n)))

	// The power may fail before a new process looks.
	for _, percent := range []int{0, 50, 100} {
		if err := afterCrash(ctx, disk.Crash(rng, percent), rng, p, before, change); err != nil {
			return true, fmt.Errorf("%d%% kept: %w", percent, err)
		}
	}

	// Or a new process opens the log while the page cache still shows bytes that never reached the
	// disk. Whatever that process shows must then survive a crash.
	l, err := openAndCrash(disk, rng, p, before, change)
	if err != nil {
		return true, fmt.Errorf("open after a failure: %w", err)
	}
	if err := p.Check(l, before); err != nil {
		return true, errors.Join(err, l.Close())
	}

	last := l.Durable()
	crashed := disk.Crash(rng, 0)
	if err := l.Close(); err != nil {
		return true, err
	}
	if l, err = eventlog.Open(logDir, change(small(crashed))); err != nil {
		return true, fmt.Errorf("open after a failure, an open and a crash: %w", err)
	}
	defer l.Close()

	if got := l.Durable(); got != last {
		return true, fmt.Errorf("lost: recovery showed records up to %d, after a crash up to %d", last, got)
	}

	return true, readAll(l)
}

// faults runs withFault for every operation of a workload.
func faults(ctx context.Context, seed uint64, tamper func(*vfs.Disk) eventlog.FS,
	change func(eventlog.Options) eventlog.Options) (runs int, err error) {
	for kind := range faultKinds {
		for n := 0; ; n++ {
			hit, err := withFault(ctx, seed, kind, n, tamper, change)
			if err != nil {
				return runs, err
			}
			if !hit {
				break
			}
			runs++
		}
	}
	return runs, nil
}

// TestFaults: each fault at every operation, on fresh and on recycled segments. Failure is sticky,
// nothing acknowledged is lost, and what recovery shows stays.
func TestFaults(t *testing.T) {
	total := 0
	for seed := range uint64(soak(1, 120)) {
		runs, err := faults(t.Context(), seed, nil, unchanged)
		require.NoError(t, err)
		total += runs
	}
	t.Logf("%d faults", total)
}

// TestFailureIsSticky: after a failed sync every append returns ErrFailed with the cause, readers
// keep what is durable and then get the error, and no sync is tried again.
func TestFailureIsSticky(t *testing.T) {
	ctx := t.Context()
	disk := vfs.NewDisk()
	var broken atomic.Bool
	var syncs atomic.Int64
	disk.Before = func(op vfs.Op) vfs.Fault {
		if broken.Load() && op.Kind == vfs.Sync && strings.HasSuffix(op.Path, ".seg") {
			syncs.Add(1)
			return vfs.Fault{Err: syscall.EIO}
		}
		return vfs.Fault{}
	}
	var events []eventlog.Event
	o := small(disk)
	o.Events = func(e eventlog.Event) {
		if _, ok := e.(eventlog.Failed); ok {
			events = append(events, e)
		}
	}
	l, err := eventlog.Open(logDir, o)
	require.NoError(t, err)
	require.NoError(t, l.Append(ctx, recordAt(1)).Wait(ctx))
	c, err := l.Cursor(1)
	require.NoError(t, err)
	defer c.Close()

	broken.Store(true)
	called := make(chan error, 1)
	require.NoError(t, l.AppendFunc(ctx, func(first uint64, err error) { called <- err }, recordAt(2)))
	require.ErrorIs(t, <-called, eventlog.ErrFailed)

	for range 3 {
		err := l.Append(ctx, recordAt(3)).Wait(ctx)
		require.ErrorIs(t, err, eventlog.ErrFailed)
		require.ErrorIs(t, err, syscall.EIO)
	}

	require.ErrorIs(t, l.Sync(ctx), eventlog.ErrFailed)
	_, err = l.Truncate(1)
	require.ErrorIs(t, err, eventlog.ErrFailed)

	e, err := c.Next(ctx)
	require.NoError(t, err)
	require.NoError(t, same(e, 1))
	_, err = c.Next(ctx)
	require.ErrorIs(t, err, eventlog.ErrFailed)
	require.ErrorIs(t, l.Stat().Err, syscall.EIO)
	require.ErrorIs(t, l.Close(), syscall.EIO)
	require.EqualValues(t, 1, syncs.Load(), "a failed sync is never tried again")
	require.Len(t, events, 1)

	_, err = eventlog.Open(logDir, o)
	require.ErrorIs(t, err, syscall.EIO)
	broken.Store(false)
	l, err = eventlog.Open(logDir, small(disk))
	require.NoError(t, err)
	require.NoError(t, readAll(l))
	require.NoError(t, l.Close())
}

// TestDiskFull: a full disk fails the log with an error that says so. What was acknowledged stays,
// and once there is room the log goes on.
func TestDiskFull(t *testing.T) {
	ctx := t.Context()
	disk := vfs.NewDisk()
	disk.Limit = 100 << 10
	l, err := eventlog.Open(logDir, small(disk))
	require.NoError(t, err)
	var acked uint64

	for {
		p := l.Append(ctx, recordAt(acked+1))
		if err = p.Wait(ctx); err != nil {
			break
		}
		acked = p.Last()
	}

	require.ErrorIs(t, err, eventlog.ErrFailed)
	require.ErrorIs(t, err, syscall.ENOSPC)
	require.Greater(t, acked, uint64(100))
	require.ErrorIs(t, l.Close(), syscall.ENOSPC)

	// Reading needs no room.
	l, err = eventlog.OpenReadOnly(logDir, small(disk))
	require.NoError(t, err)
	require.GreaterOrEqual(t, l.Durable(), acked)
	require.NoError(t, readAll(l))
	require.NoError(t, l.Close())

	disk.Limit = 200 << 10
	l, err = eventlog.Open(logDir, small(disk))
	require.NoError(t, err)
	require.NoError(t, l.Append(ctx, recordAt(l.Durable()+1)).Wait(ctx))
	require.NoError(t, readAll(l))
	require.NoError(t, l.Close())
	_, err = eventlog.Verify(logDir, eventlog.Options{FS: disk})
	require.NoError(t, err)
}
