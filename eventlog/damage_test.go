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

// ending is how a log's last writes went before it was damaged, and which records damage may cost
// then.
type ending struct {
	name string
	open bool // the log was not closed
	end  func(ctx context.Context, l *eventlog.Log) (mayLoseFrom uint64, err error)
}

var endings = []ending{
	{"closed", false, func(_ context.Context, l *eventlog.Log) (uint64, error) {
		next := l.Stat().Next
		return next, l.Close()
	}},
	// Nothing later proves that the last frame was ever durable, so it alone may be taken for torn.
	{"killed after one frame", true, func(ctx context.Context, l *eventlog.Log) (uint64, error) {
		next := l.Stat().Next
		return next, l.Append(ctx, recordsAt(next, 3)...).Wait(ctx)
	}},
	// A mark after them proves it.
	{"killed after a sync of many", true, func(ctx context.Context, l *eventlog.Log) (uint64, error) {
		next := l.Stat().Next
		for range 4 {
			if _, err := l.AppendNoSync(ctx, recordAt(next)); err != nil {
				return 0, err
			}
			next++
			for frames := l.Stat().Frames; l.Stat().Pending > 0 || l.Stat().Frames < frames; {
			}
		}

		if err := l.Sync(ctx); err != nil {
			return 0, err
		}
		return next, l.Sync(ctx) // comes after the mark
	}},
}

// damageKinds change bytes at an offset.
var damageKinds = []struct {
	name string
	do   func(rng *rand.Rand, b []byte, at int)
}{
	{"bit flip", func(rng *rand.Rand, b []byte, at int) { b[at] ^= 1 << rng.IntN(8) }},
	{"zeroed page", func(_ *rand.Rand, b []byte, at int) {
		at &^= 4095
		clear(b[at:min(at+4096, len(b))])
	}},
	{"zeroed sector", func(_ *rand.Rand, b []byte, at int) {
		at &^= 511
		clear(b[at:min(at+512, len(b))])
	}},
	{"garbage", func(rng *rand.Rand, b []byte, at int) {
		for i := at; i < min(at+64, len(b)); i++ {
			b[i] = byte(rng.Uint32())
		}
	}},
}

// damages builds one log and damages many copies of it. It returns the first case of wrong data or
// of a silent loss.
func damages(ctx context.Context, seed uint64, end ending, tries int, change func(eventlog.Options) eventlog.Options) (
	refused, kept int, err error) {
	rng := rand.New(rand.NewPCG(seed, 4))
	disk := vfs.NewDisk()
	o := change(small(disk))
	l, err := eventlog.Open(logDir, o)
	if err != nil {
		return 0, 0, err
	}

	for l.Stat().Next < 400 {
		next := l.Stat().Next
		if err := l.Append(ctx, recordsAt(next, 1+rng.IntN(5))...).Wait(ctx); err != nil {
			return 0, 0, err
		}

		if next == 200 || rng.IntN(30) == 0 {
			if _, err := l.Truncate(next / 2); err != nil { // so that files are recycled
				return 0, 0, err
			}
		}
	}

	mayLose, err := end.end(ctx, l)
	if err != nil {
		return 0, 0, err
	}

	first := l.First()
	whole := disk.Crash(rng, 100)
	if err := l.Close(); err != nil {
		return 0, 0, err
	}
	rep, err := eventlog.Verify(logDir, change(small(whole.Crash(rng, 100))))
	if err != nil {
		return 0, 0, fmt.Errorf("an undamaged log does not verify: %w", err)
	}

	used := map[string]int64{}
	for _, f := range rep.Files {
		used[f.File] = f.Bytes + segment.HeaderSize
	}

	last := rep.Files[len(rep.Files)-1]
	tail := layout(whole, last.File, last.First)

	for range tries {
		d := whole.Crash(rng, 100)
		files := d.Files(logDir, ".seg")
		slices.Sort(files)
		file := files[rng.IntN(len(files))]
		kind := damageKinds[rng.IntN(len(damageKinds))]
		var at int
		may := mayLose
		if err := d.Damage(file, func(b []byte) {
			at = rng.IntN(min(len(b), int(used[file])+64))
			before := slices.Clone(b)
			kind.do(rng, b, at)
			if file == last.File && end.open {
				may = min(may, tail.mayLose(before, b))
			}
		}); err != nil {
			return refused, kept, err
		}

		opened, err := damaged(d, file, first, may, change)
		if err != nil {
			return refused, kept, fmt.Errorf("seed %d, %s, %s at %s+%d: %w", seed, end.name, kind.name, file, at, err)
		}

		if opened {
			kept++
		} else {
			refused++
		}
	}

	return refused, kept, nil
}

// frames says where the frames of a segment are.
type frames []struct {
	at, end int
	first   uint64
	count   uint32
}

// layout returns the frames of a segment file.
func layout(d *vfs.Disk, file string, first uint64) (fs frames) {
	d.Damage(file, func(b []byte) {
		h, err := segment.DecodeHeader(b)
		if err != nil {
			panic(err)
		}

		at := segment.HeaderSize

		for {
			f, size, err := segment.Decode(b[at:], h.Seed(), int64(at))
			if err != nil {
				return
			}

			fs = append(fs, struct {
				at, end int
				first   uint64
				count   uint32
			}{at, at + int(size), f.First, f.Count})
			at += int(size)
		}
	})
	return fs
}

// mayLose returns the index from which records of a log that was not closed may be lost. If the
// damage reaches the last frame, which alone could prove that what precedes it was durable, that is
// the first record of the first damaged frame.
func (fs frames) mayLose(before, after []byte) uint64 {
	differs := func(i int) bool { return string(before[fs[i].at:fs[i].end]) != string(after[fs[i].at:fs[i].end]) }
	if n := len(fs); n > 0 && differs(n-1) {
		for i := range fs {
			if differs(i) {
				return fs[i].first
			}
		}
	}

	return 1 << 63
}

// damaged judges one damaged log. kept is true if it opened; then nothing may be missing.
func damaged(d *vfs.Disk, file string, first, mayLose uint64, change func(eventlog.Options) eventlog.Options) (
	kept bool, err error) {
	o := change(small(d))
	_, verr := eventlog.Verify(logDir, o)
	quick := o
	quick.QuickOpen = true

	for _, o := range []eventlog.Options{quick, o} {
		l, err := openToRead(o)
		if err == nil {
			// What Open has trusted, CheckRest finds: there is no damage that neither of them
			// finds.
			if rest := l.CheckRest(context.Background()); (rest == nil) != (verr == nil) {
				l.Close()
				return false, fmt.Errorf("Verify returned %v, a quick Open nothing, and CheckRest %v", verr, rest)
			}
			err = judgeRead(l, first, mayLose)
			l.Close()
			if err == nil {
				kept = true
				continue
			}
		}

		var where *eventlog.CorruptError
		if !errors.As(err, &where) {
			return false, err
		}
		if where.File != file {
			return false, fmt.Errorf("damage was found in another file: %w", err)
		}
		if verr == nil {
			return false, fmt.Errorf("reading refuses what Verify accepts: %w", err)
		}

		kept = false
	}

	if kept && verr != nil {
		return false, fmt.Errorf("Verify refuses what opens and reads well: %w", verr)
	}
	l, err := eventlog.Open(logDir, o)
	if (err == nil) != kept {
		return false, fmt.Errorf("Open returned %v, OpenReadOnly and reading differ", err)
	}

	if err == nil {
		err = errors.Join(judgeRead(l, first, mayLose), l.Close())
	} else if errors.Is(err, eventlog.ErrCorrupt) {
		err = nil
	}

	return kept, err
}

func openToRead(o eventlog.Options) (*eventlog.Log, error) { return eventlog.OpenReadOnly(logDir, o) }

func judgeRead(l *eventlog.Log, first, mayLose uint64) error {
	if l.First() != first {
		return fmt.Errorf("silent loss: begins with %d, want %d", l.First(), first)
	}
	if l.Durable()+1 < mayLose {
		return fmt.Errorf("silent loss: ends with %d, want at least %d", l.Durable(), mayLose-1)
	}
	return readAll(l)
}

// TestDamage: a damaged log never returns wrong data, and is never cut silently except in the last
// frame (I10).
func TestDamage(t *testing.T) {
	for _, end := range endings {
		t.Run(end.name, func(t *testing.T) {
			var refused, kept int
			for seed := range uint64(soak(1, 50)) {
				r, k, err := damages(t.Context(), seed, end, soak(150, 1000), unchanged)
				require.NoError(t, err)
				refused, kept = refused+r, kept+k
			}
			require.NotZero(t, refused)
			t.Logf("%d refused, %d harmless", refused, kept)
		})
	}
}

// TestMissingSegment: the error names a segment that is gone from the middle, or the missing last
// one of a log that was closed.
func TestMissingSegment(t *testing.T) {
	disk := vfs.NewDisk()
	l, err := eventlog.Open(logDir, small(disk))
	require.NoError(t, err)
	for l.Stat().Next < 300 {
		require.NoError(t, l.Append(t.Context(), recordAt(l.Stat().Next)).Wait(t.Context()))
	}

	require.NoError(t, l.Close())
	files := disk.Files(logDir, ".seg")
	slices.Sort(files)

	for _, gone := range []string{files[1], files[len(files)-1]} {
		d := disk.Crash(rand.New(rand.NewPCG(1, 1)), 100)
		require.NoError(t, d.Remove(gone))
		_, err = eventlog.Open(logDir, small(d))
		var where *eventlog.CorruptError
		require.ErrorAs(t, err, &where)
		require.Equal(t, gone, where.File)
	}
}

// TestNewerVersion: a segment of a newer format is refused with ErrVersion, and left alone.
func TestNewerVersion(t *testing.T) {
	disk := vfs.NewDisk()
	l, err := eventlog.Open(logDir, small(disk))
	require.NoError(t, err)
	require.NoError(t, l.Append(t.Context(), recordAt(1)).Wait(t.Context()))
	require.NoError(t, l.Close())
	require.NoError(t, disk.Damage(disk.Files(logDir, ".seg")[0], segment.RaiseVersion))
	_, err = eventlog.Open(logDir, small(disk))
	require.ErrorIs(t, err, eventlog.ErrVersion)
	_, err = eventlog.Verify(logDir, small(disk))
	require.ErrorIs(t, err, eventlog.ErrVersion)
}
