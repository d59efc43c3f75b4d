package eventlog_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/coppice-go/coppice/eventlog"
	"github.com/coppice-go/coppice/eventlog/internal/vfs"
	"github.com/coppice-go/coppice/eventlog/segment"
)

func segFiles(d *vfs.Disk) []string {
	files := d.Files(logDir, ".seg")
	slices.Sort(files)
	return files
}

// removals removes segments from a log at random and demands that every way to open it names a
// missing one. The log was usually not closed: the power failed right after a roll, or at any other
// moment.
func removals(ctx context.Context, seed uint64, change func(eventlog.Options) eventlog.Options) error {
	rng := rand.New(rand.NewPCG(seed, 6))
	disk := vfs.NewDisk()
	l, err := eventlog.Open(logDir, change(small(disk)))
	if err != nil {
		return err
	}
	defer l.Close()

	for steps := 20 + rng.IntN(200); steps > 0 || len(l.Stat().Segments) < 3; steps-- {
		next := l.Stat().Next
		if err := l.Append(ctx, recordsAt(next, 1+rng.IntN(4))...).Wait(ctx); err != nil {
			return err
		}

		if rng.IntN(20) == 0 {
			if _, err := l.Truncate(next - min(next, 60)); err != nil {
				return err
			}
		}
	}

	if rng.IntN(3) == 0 {
		if err := l.Close(); err != nil {
			return err
		}
	}

	files := segFiles(disk)
	for _, gone := range [][]string{files[len(files)-1:], files[:1], files, files[1:], files[:len(files)-1],
		files[len(files)/2:][:1]} {
		d := disk.Crash(rng, rng.IntN(101))
		if got := segFiles(d); len(got) > len(files) {
			gone = append(slices.Clone(got[:len(got)-len(files)]), gone...) // truncated segments that the crash kept
		}

		for _, f := range gone {
			if err := d.Remove(f); err != nil {
				return err
			}
		}

		quick := change(small(d))
		quick.QuickOpen = true

		for i, open := range []func() error{
			func() error { _, err := eventlog.Verify(logDir, change(small(d))); return err },
			func() error { _, err := eventlog.OpenReadOnly(logDir, change(small(d))); return err },
			func() error { _, err := eventlog.OpenReadOnly(logDir, quick); return err },
			func() error { _, err := eventlog.Open(logDir, change(small(d))); return err },
		} {
			var where *eventlog.CorruptError
			if err := open(); !errors.As(err, &where) {
				return fmt.Errorf("seed %d: silent loss: with %v removed, way %d to open returned %v", seed,
					gone, i, err)
			} else if !slices.Contains(gone, where.File) {
				return fmt.Errorf("seed %d: with %v removed, way %d blames %v", seed, gone, i, err)
			}
		}
	}

	return nil
}

// TestRemovedSegments: no segment can be removed unnoticed, not even the newest or the oldest, at
// whatever moment the process died.
func TestRemovedSegments(t *testing.T) {
	for seed := range uint64(soak(20, 2000)) {
		require.NoError(t, removals(t.Context(), seed, unchanged))
	}
}

func TestSeededNoExtent(t *testing.T) {
	for seed := range uint64(20) {
		if err := removals(t.Context(), seed, eventlog.WithoutExtent); err != nil {
			t.Log("noticed:", err)
			require.ErrorContains(t, err, "silent loss")
			return
		}
	}
	t.Fatal("not noticed")
}

// TestTruncatedSegmentsComeBack: a crash may bring back any of the files that a truncation removed.
// Reading passes over them, and Open removes them. A file that only looks like one of them is
// reported and left alone.
func TestTruncatedSegmentsComeBack(t *testing.T) {
	disk := vfs.NewDisk()
	l := open(t, small(disk))
	fill(t, l, 400)
	old := disk.Crash(newRand(1), 100)
	_, err := l.Truncate(300)
	require.NoError(t, err)
	first := l.First()
	require.NoError(t, l.Close())

	files := segFiles(old)
	require.NoError(t, disk.Adopt(old, files[1]))
	l, err = eventlog.OpenReadOnly(logDir, small(disk))
	require.NoError(t, err)
	require.Equal(t, first, l.First())
	require.NoError(t, l.Close())
	require.Contains(t, segFiles(disk), files[1])
	l = open(t, small(disk))
	require.Equal(t, first, l.First())
	require.NoError(t, readAll(l))
	require.NoError(t, l.Close())
	require.NotContains(t, segFiles(disk), files[1])

	other := vfs.NewDisk()
	stranger, err := eventlog.Open(logDir, small(other))
	require.NoError(t, err)
	fill(t, stranger, 400)
	require.NoError(t, stranger.Close())
	require.NoError(t, disk.Adopt(other, files[1]))
	_, err = eventlog.Open(logDir, small(disk))
	var where *eventlog.CorruptError
	require.ErrorAs(t, err, &where)
	require.Equal(t, files[1], where.File)
	require.Contains(t, segFiles(disk), files[1], "what is not ours is left alone")
}

// TestExtent: a crash may leave one bad slot. A log without the file is refused, because nothing
// shows what is missing, except a log whose creation was cut short.
func TestExtent(t *testing.T) {
	disk := vfs.NewDisk()
	l := open(t, small(disk))
	fill(t, l, 200)
	_, err := l.Truncate(60)
	require.NoError(t, err)
	first := l.First()
	require.Greater(t, first, uint64(1))
	require.NoError(t, l.Close())
	const name = logDir + "/EXTENT"
	var where *eventlog.CorruptError

	e := readExtent(t, disk)
	require.Equal(t, first, e.FirstIndex)
	require.EqualValues(t, 201, e.Next)
	require.True(t, e.Sealed)
	d := disk.Crash(newRand(1), 100)
	require.NoError(t, d.Damage(name, func(b []byte) {
		clear(b[segment.ExtentOffset(e.Serial+1):][:segment.ExtentSize])
	}))
	l, err = eventlog.Open(logDir, small(d))
	require.NoError(t, err)
	require.NoError(t, readAll(l))
	require.NoError(t, l.Close())

	d = disk.Crash(newRand(1), 100)
	require.NoError(t, d.Damage(name, func(b []byte) { clear(b) }))
	_, err = eventlog.Open(logDir, small(d))
	require.ErrorAs(t, err, &where)
	require.Equal(t, name, where.File)

	d = disk.Crash(newRand(1), 100)
	require.NoError(t, d.Remove(name))
	_, err = eventlog.Open(logDir, small(d))
	require.ErrorAs(t, err, &where)
	require.Equal(t, name, where.File)

	// The EXTENT of another log.
	other := vfs.NewDisk()
	stranger, err := eventlog.Open(logDir, small(other))
	require.NoError(t, err)
	require.NoError(t, stranger.Close())
	d = disk.Crash(newRand(1), 100)
	require.NoError(t, d.Adopt(other, name))
	_, err = eventlog.Open(logDir, small(d))
	require.ErrorIs(t, err, eventlog.ErrCorrupt)
	require.ErrorContains(t, err, "EXTENT")

	// A log that was being created.
	require.NoError(t, other.Remove(name))
	l, err = eventlog.Open(logDir, small(other))
	require.NoError(t, err)
	require.Equal(t, stranger.ID(), l.ID())
	require.NoError(t, l.Close())
	require.NoError(t, other.Damage(name, func(b []byte) {
		e, err := segment.DecodeExtent(b)
		require.NoError(t, err)
		require.Equal(t, stranger.ID(), e.ID)
	}))
}

func readExtent(t *testing.T, d *vfs.Disk) (e segment.Extent) {
	t.Helper()
	require.NoError(t, d.Damage(logDir+"/EXTENT", func(b []byte) {
		var err error
		e, err = segment.DecodeExtent(b)
		require.NoError(t, err)
	}))
	return e
}
