package eventlog_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/coppice-go/coppice/eventlog"
	"github.com/coppice-go/coppice/eventlog/internal/vfs"
	"github.com/coppice-go/coppice/eventlog/segment"
)

const salvageDir = "/data/salvaged"

// readAround reads a log that may have gaps, judges each record, and returns the gaps that reading
// met.
func readAround(l *eventlog.Log) (records uint64, gaps []eventlog.Gap, err error) {
	from := l.First()
	for {
		c, err := l.Cursor(from)
		if err != nil {
			return records, gaps, err
		}

		for want := from; ; want++ {
			e, ok, err := c.TryNext()
			var where *eventlog.CorruptError
			if errors.As(err, &where) {
				if where.Index != want {
					return records, gaps, fmt.Errorf("a gap at record %d was met at %d", where.Index, want)
				}
				gaps = append(gaps, eventlog.Gap{First: where.Index, Last: where.Index + where.Lost - 1})
				from = where.Index + where.Lost
				break
			}

			if err == nil && ok {
				err = same(e, want)
			}

			if err != nil || !ok {
				c.Close()
				return records, gaps, err
			}

			records++
		}

		c.Close()
	}
}

// judgeSalvage compares a salvaged log with what the salvage reported.
func judgeSalvage(d *vfs.Disk, got eventlog.Salvaged) error {
	o := small(d)
	_, verr := eventlog.Verify(salvageDir, o)
	if (verr == nil) != (len(got.Gaps) == 0) {
		return fmt.Errorf("%d gaps, and Verify says %v", len(got.Gaps), verr)
	}
	l, err := eventlog.Open(salvageDir, o)
	if err != nil {
		return fmt.Errorf("the salvaged log does not open: %w", err)
	}
	defer l.Close()

	records, gaps, err := readAround(l)
	if err != nil {
		return err
	}

	if l.First() != got.First || l.Durable() != got.Last || records != got.Records || l.ID() != got.ID ||
		got.ID == got.Source {
		return fmt.Errorf("log has records %d to %d, %d in all; the salvage said %+v", l.First(), l.Durable(),
			records, got)
	}

	if len(gaps) != len(got.Gaps) || len(gaps) != len(l.Recovery().Gaps) {
		return fmt.Errorf("reading met gaps %v, Open %v, the salvage said %v", gaps, l.Recovery().Gaps, got.Gaps)
	}

	lost := uint64(0)

	for i, g := range gaps {
		if g.First != got.Gaps[i].First || g.Last != got.Gaps[i].Last {
			return fmt.Errorf("reading met gap %v, the salvage said %v", g, got.Gaps[i])
		}
		lost += g.Last + 1 - g.First
	}

	if records+lost != got.Last+1-got.First {
		return fmt.Errorf("%d records and %d lost between %d and %d", records, lost, got.First, got.Last)
	}

	return nil
}

// salvages damages a log in many ways at once. It demands that each unchanged frame is salvaged and
// that everything else is a gap.
func salvages(ctx context.Context, seed uint64) (records, lost int, err error) {
	rng := rand.New(rand.NewPCG(seed, 8))
	disk := vfs.NewDisk()
	l, err := eventlog.Open(logDir, small(disk))
	if err != nil {
		return 0, 0, err
	}

	for l.Stat().Next < 300 {
		next := l.Stat().Next
		if err := l.Append(ctx, recordsAt(next, 1+rng.IntN(5))...).Wait(ctx); err != nil {
			return 0, 0, err
		}

		if next > 100 && rng.IntN(30) == 0 {
			if _, err := l.Truncate(next - 100); err != nil {
				return 0, 0, err
			}
		}
	}

	first := l.First()
	if err := l.Close(); err != nil {
		return 0, 0, err
	}

	last := l.Durable()
	good := map[uint64]bool{}
	files := segFiles(disk)
	gone := ""
	if rng.IntN(3) == 0 {
		gone = files[rng.IntN(len(files))]
	}

	for _, file := range files {
		fs := layout(disk, file, 0)
		if file == gone {
			if err := disk.Remove(file); err != nil {
				return 0, 0, err
			}
			continue
		}

		if err := disk.Damage(file, func(b []byte) {
			before := slices.Clone(b)
			for range rng.IntN(4) {
				damageKinds[rng.IntN(len(damageKinds))].do(rng, b, rng.IntN(fs[len(fs)-1].end))
			}

			for _, f := range fs {
				if string(before[f.at:f.end]) == string(b[f.at:f.end]) {
					for i := f.first; i < f.first+uint64(f.count); i++ {
						good[i] = true
					}
				}
			}
		}); err != nil {
			return 0, 0, err
		}
	}

	if rng.IntN(4) == 0 {
		if err := disk.Rename(files[0], logDir+"/renamed.seg"); err != nil && files[0] != gone {
			return 0, 0, err
		}
	}

	before := disk.Crash(newRand(1), 100)

	got, err := eventlog.Salvage(ctx, logDir, salvageDir, small(disk))
	if err != nil {
		if strings.Contains(err.Error(), "nothing in") && len(good) == 0 {
			err = nil
		}
		return 0, 0, err
	}

	for _, f := range disk.Files(logDir, "") {
		var was, is []byte
		before.Damage(f, func(b []byte) { was = slices.Clone(b) })
		disk.Damage(f, func(b []byte) { is = slices.Clone(b) })
		if string(was) != string(is) {
			return 0, 0, fmt.Errorf("the salvage changed %s", f)
		}
	}

	if err := judgeSalvage(disk, got); err != nil {
		return 0, 0, err
	}
	if got.First != first || got.Last != last {
		return 0, 0, fmt.Errorf("salvaged records %d to %d, the log had %d to %d", got.First, got.Last, first, last)
	}

	missing := map[uint64]bool{}

	for _, g := range got.Gaps {
		for i := g.First; i <= g.Last; i++ {
			missing[i] = true
		}
	}

	for i := first; i <= last; i++ {
		// A good record may be missing if the header of its segment is gone, and with it all frames
		// that could give its first index, because then nothing can be proved.
		if !good[i] && !missing[i] {
			return 0, 0, fmt.Errorf("record %d was damaged, and is not missing", i)
		}
		if good[i] && missing[i] && !slices.ContainsFunc(got.Passed, func(p eventlog.Passed) bool {
			return strings.Contains(p.Reason, "no frame") || strings.Contains(p.Reason, "neither")
		}) {
			return 0, 0, fmt.Errorf("record %d is as it was, and was not salvaged", i)
		}
	}

	return int(got.Records), len(missing), nil
}

// TestSalvage: every provable record is copied, at its index, and what is missing is reported
// exactly.
func TestSalvage(t *testing.T) {
	records, lost := 0, 0
	for seed := range uint64(soak(60, 3000)) {
		r, n, err := salvages(t.Context(), seed)
		require.NoError(t, err, "seed %d", seed)
		records, lost = records+r, lost+n
	}

	require.NotZero(t, records)
	require.NotZero(t, lost)
	t.Logf("%d records salvaged, %d lost", records, lost)
}

// TestSalvageWhole: a salvage of a log without damage misses nothing, whether the log was closed,
// killed or empty, and whatever its files are called.
func TestSalvageWhole(t *testing.T) {
	for _, end := range endings {
		t.Run(end.name, func(t *testing.T) {
			disk := vfs.NewDisk()
			l := open(t, small(disk))
			fill(t, l, 100)
			_, err := end.end(t.Context(), l)
			require.NoError(t, err)
			d := disk.Crash(newRand(1), 100)
			files := segFiles(d)
			require.NoError(t, d.Rename(files[0], logDir+"/tmp"))
			require.NoError(t, d.Rename(files[1], files[0]))
			require.NoError(t, d.Rename(logDir+"/tmp", files[1]))
			_, err = eventlog.Open(logDir, small(d))
			require.ErrorIs(t, err, eventlog.ErrCorrupt, "swapped")
			got, err := eventlog.Salvage(t.Context(), logDir, salvageDir, small(d))
			require.NoError(t, err)
			require.True(t, got.Whole(), "%+v", got)
			require.Equal(t, l.ID(), got.Source)
			require.Equal(t, l.Durable(), got.Last)
			require.NoError(t, judgeSalvage(d, got))
			_, err = eventlog.Salvage(t.Context(), logDir, salvageDir, small(d))
			require.ErrorContains(t, err, "is not empty")
		})
	}

	disk := vfs.NewDisk()
	l := open(t, small(disk))
	killed := disk.Crash(newRand(1), 100)
	require.NoError(t, l.Close())

	for _, d := range []*vfs.Disk{disk, killed} {
		got, err := eventlog.Salvage(t.Context(), logDir, salvageDir, small(d))
		require.NoError(t, err)
		require.True(t, got.Whole(), "%+v", got)
		require.Zero(t, got.Records)
		require.NoError(t, judgeSalvage(d, got))
	}
}

// TestSalvageEnds: what is missing at either end is reported, as far as it can be known.
func TestSalvageEnds(t *testing.T) {
	disk := vfs.NewDisk()
	l := open(t, small(disk))
	fill(t, l, 300)
	segs := l.Stat().Segments
	killed := disk.Crash(newRand(1), 100)
	require.NoError(t, l.Close())
	salvage := func(from *vfs.Disk, gone ...string) eventlog.Salvaged {
		t.Helper()
		d := from.Crash(newRand(1), 100)
		for _, f := range gone {
			require.NoError(t, d.Remove(f))
		}

		got, err := eventlog.Salvage(t.Context(), logDir, salvageDir, small(d))
		require.NoError(t, err)
		require.False(t, got.Whole())
		require.NoError(t, errors.Join(judgeSalvage(d, got)))

		return got
	}
	newest := segs[len(segs)-1]
	got := salvage(disk, newest.File)
	require.Len(t, got.Gaps, 1)
	require.Equal(t, []uint64{newest.First, 300}, []uint64{got.Gaps[0].First, got.Gaps[0].Last})

	got = salvage(killed, newest.File) // nothing shows how many records it had
	require.Len(t, got.Gaps, 1)
	require.Equal(t, []uint64{newest.First, newest.First - 1}, []uint64{got.Gaps[0].First, got.Gaps[0].Last})
	require.Contains(t, got.Gaps[0].String(), "unknown number")

	got = salvage(disk, segs[0].File, segs[1].File)
	require.Len(t, got.Gaps, 1)
	require.Equal(t, []uint64{1, segs[2].First - 1}, []uint64{got.Gaps[0].First, got.Gaps[0].Last})

	got = salvage(disk, logDir+"/EXTENT", segs[0].File)
	require.NotEmpty(t, got.Front)
	require.Len(t, got.Gaps, 1, "the end")
	require.Equal(t, segs[1].First, got.First)

	_, err := eventlog.Salvage(t.Context(), "/none", salvageDir, small(disk))
	require.Error(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = eventlog.Salvage(ctx, logDir, salvageDir, small(disk))
	require.ErrorIs(t, err, context.Canceled)
	_, err = disk.List(salvageDir + ".building")
	require.Error(t, err, "nothing is left behind")
}

// TestSalvageAgain: a gap survives a second salvage, and appends after it.
func TestSalvageAgain(t *testing.T) {
	disk := vfs.NewDisk()
	l := open(t, small(disk))
	fill(t, l, 300)
	seg := l.Stat().Segments[1]
	require.NoError(t, l.Close())
	require.NoError(t, disk.Damage(seg.File, func(b []byte) { clear(b[segment.HeaderSize:]) }))
	first, err := eventlog.Salvage(t.Context(), logDir, salvageDir, small(disk))
	require.NoError(t, err)
	require.Len(t, first.Gaps, 1)
	require.Equal(t, []uint64{seg.First, seg.Last}, []uint64{first.Gaps[0].First, first.Gaps[0].Last})
	require.Equal(t, seg.File, first.Gaps[0].File)
	require.EqualValues(t, segment.HeaderSize, first.Gaps[0].Offset)

	s, err := eventlog.Open(salvageDir, small(disk))
	require.NoError(t, err)
	_, err = s.Read(seg.First)
	var where *eventlog.CorruptError
	require.ErrorAs(t, err, &where)
	require.Equal(t, seg.Last+1-seg.First, where.Lost)
	_, err = s.Read(seg.Last)
	require.ErrorIs(t, err, eventlog.ErrCorrupt, "within the gap")
	e, err := s.Read(seg.Last + 1)
	require.NoError(t, err)
	require.NoError(t, same(e, seg.Last+1))
	fill(t, s, 400)
	require.NoError(t, s.Close())

	again, err := eventlog.Salvage(t.Context(), salvageDir, salvageDir+"2", small(disk))
	require.NoError(t, err)
	require.Len(t, again.Gaps, 1)
	require.Equal(t, first.Gaps[0].First, again.Gaps[0].First)
	require.Equal(t, first.Gaps[0].Last, again.Gaps[0].Last)
	require.EqualValues(t, 400, again.Last)
}
