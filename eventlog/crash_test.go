package eventlog_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/coppice-go/coppice/eventlog"
	"github.com/coppice-go/coppice/eventlog/internal/vfs"
)

// crashes runs a workload on a disk. At operations chosen at random it clones the disk as after a
// power failure, and judges each clone. If tamper is not nil, it makes the log's file system lie.
// crashes returns the first broken promise.
func crashes(ctx context.Context, seed uint64, tamper func(*vfs.Disk) eventlog.FS,
	change func(eventlog.Options) eventlog.Options, count *atomic.Int64) error {
	rng := rand.New(rand.NewPCG(seed, 1))
	disk := vfs.NewDisk()
	p := newPromises()
	var broken atomic.Pointer[error]
	// Operations of one disk may overlap: those of the committer and those that prepare the next
	// segment. Each operation has its own chance.
	look := func(op vfs.Op, side uint64) {
		r := rand.New(rand.NewPCG(seed, uint64(op.N)*2+side))
		if r.IntN(12) != 0 || broken.Load() != nil {
			return
		}

		before := p.Now()
		percent := []int{0, 100, r.IntN(101)}[r.IntN(3)]
		if err := afterCrash(ctx, disk.Crash(r, percent), r, p, before, change); err != nil {
			err = fmt.Errorf("seed %d, crash at operation %d (%s %s), %d%% kept: %w", seed, op.N, op.Kind, op.Path,
				percent, err)
			broken.CompareAndSwap(nil, &err)
		}

		count.Add(1)
	}
	before := func(op vfs.Op) vfs.Fault { look(op, 0); return vfs.Fault{} }
	if disk.Before == nil {
		disk.Before = before
	}

	disk.After = func(op vfs.Op) { look(op, 1) }
	var fs eventlog.FS = disk
	if tamper != nil {
		fs = tamper(disk)
	}
	if err := work(ctx, rng, change(small(fs)), p, 40); err != nil {
		return fmt.Errorf("seed %d: %w", seed, err)
	}
	if e := broken.Load(); e != nil {
		return *e
	}

	return nil
}

// recoveryCrashes is how many recoveries there are for each one that is cut short everywhere.
var recoveryCrashes = soak(16, 4)

// openAndCrash opens a log, lets the power fail inside every operation of that too, and judges what
// each of those crashes leaves.
func openAndCrash(disk *vfs.Disk, rng *rand.Rand, p *promises, before kept,
	change func(eventlog.Options) eventlog.Options) (*eventlog.Log, error) {
	var broken atomic.Pointer[error]
	var done atomic.Bool
	look := func(op vfs.Op, side uint64) {
		if broken.Load() != nil || done.Load() {
			return
		}

		r := rand.New(rand.NewPCG(uint64(op.N), side))
		percent := []int{0, 100, r.IntN(101)}[r.IntN(3)]
		l, err := eventlog.Open(logDir, change(small(disk.Crash(r, percent))))
		if err == nil {
			err = errors.Join(p.Check(l, before), l.Close())
		}

		if err != nil {
			err = fmt.Errorf("crash at operation %d of recovery (%s %s), %d%% kept: %w", op.N, op.Kind, op.Path,
				percent, err)
			broken.CompareAndSwap(nil, &err)
		}
	}

	if rng.IntN(recoveryCrashes) == 0 {
		disk.Before = func(op vfs.Op) vfs.Fault { look(op, 0); return vfs.Fault{} }
		disk.After = func(op vfs.Op) { look(op, 1) }
		defer func() { done.Store(true) }() // the next segment may still be prepared
	}

	l, err := eventlog.Open(logDir, change(small(disk)))
	if e := broken.Load(); e != nil && err == nil {
		return nil, errors.Join(*e, l.Close())
	}

	return l, err
}

// afterCrash opens what a crash left, judges it, goes on a little, and crashes again.
func afterCrash(ctx context.Context, disk *vfs.Disk, rng *rand.Rand, p *promises, before kept,
	change func(eventlog.Options) eventlog.Options) error {
	l, err := openAndCrash(disk, rng, p, before, change)
	if err != nil {
		return fmt.Errorf("open after a crash: %w", err)
	}
	defer l.Close()

	if err := p.Check(l, before); err != nil {
		return err
	}

	next := l.Stat().Next
	n := 1 + rng.IntN(3)
	if err := l.Append(ctx, recordsAt(next, n)...).Wait(ctx); err != nil {
		return fmt.Errorf("append after a crash: %w", err)
	}

	last := l.Durable()
	again, err := eventlog.Open(logDir, change(small(disk.Crash(rng, rng.IntN(101)))))
	if err != nil {
		return fmt.Errorf("open after a second crash: %w", err)
	}
	defer again.Close()

	if got := again.Durable(); got != last {
		return fmt.Errorf("lost in a second crash: recovered up to %d, acknowledged up to %d", got, last)
	}

	return readAll(again)
}

func unchanged(o eventlog.Options) eventlog.Options { return o }

// TestCrashes: recovery finds everything that was acknowledged, as a gap-free prefix, plus at most
// what was in flight, and Open never fails.
func TestCrashes(t *testing.T) {
	var count atomic.Int64
	for seed := range uint64(soak(25, 4_000)) {
		require.NoError(t, crashes(t.Context(), seed, nil, unchanged, &count))
	}
	t.Logf("%d crashes", count.Load())
}
