package eventlog_test

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/coppice-go/coppice/eventlog"
	"github.com/coppice-go/coppice/eventlog/internal/vfs"
)

// rested returns the options of a log of several segments with damage in the first frame of one of
// them, counted from the newest, and the path of that file.
func rested(t *testing.T, back int) (o eventlog.Options, file string) {
	t.Helper()
	disk := vfs.NewDisk()
	o = small(disk)
	l, err := eventlog.Open(logDir, o)
	require.NoError(t, err)
	for len(l.Stat().Segments) < 6 {
		fill(t, l, l.Stat().Next)
	}
	require.NoError(t, l.Close())

	names, err := disk.List(logDir)
	require.NoError(t, err)
	var segs []string
	for _, n := range names {
		if filepath.Ext(n) == ".seg" {
			segs = append(segs, filepath.Join(logDir, n))
		}
	}
	slices.Sort(segs)
	file = segs[len(segs)-1-back]
	require.NoError(t, disk.Damage(file, func(b []byte) { b[4096+50] ^= 1 }))
	o.QuickOpen = true

	return o, file
}

// A quick Open defers the check of a frame, and does not leave it out: CheckRest finds the damage
// that no reader has met, and names it.
func TestCheckRestFindsWhatAQuickOpenTrusts(t *testing.T) {
	o, file := rested(t, 3)
	l := open(t, o)

	var bad *eventlog.CorruptError
	require.ErrorAs(t, l.CheckRest(t.Context()), &bad)
	require.Equal(t, file, bad.File)
	require.EqualValues(t, 4096, bad.Offset)
}

// Options.Whole bytes of the newest segments are checked by Open itself.
func TestAQuickOpenChecksTheNewestSegments(t *testing.T) {
	o, file := rested(t, 1)
	o.Whole = 2 * o.SegmentSize
	_, err := eventlog.Open(logDir, o)

	var bad *eventlog.CorruptError
	require.ErrorAs(t, err, &bad)
	require.Equal(t, file, bad.File)

	o.Whole = -1
	_, err = eventlog.Open(logDir, o)
	require.ErrorContains(t, err, "Options.Whole is -1, want 0 or more")
}

// A process that opens its log again does not check again what it has checked.
func TestCheckRestLeavesOutWhatIsChecked(t *testing.T) {
	o, file := rested(t, 3)
	disk := o.FS.(*vfs.Disk)
	require.NoError(t, disk.Damage(file, func(b []byte) { b[4096+50] ^= 1 })) // it is good again
	o.Checked = new(eventlog.Checked)

	for range 2 {
		l, err := eventlog.Open(logDir, o)
		require.NoError(t, err)
		require.NoError(t, l.CheckRest(t.Context()))
		require.NoError(t, l.Close())
		require.NoError(t, disk.Damage(file, func(b []byte) { b[4096+50] ^= 1 }))
	}
}

// The end of ctx ends a check, and a segment that was truncated meanwhile needs none.
func TestCheckRestEnds(t *testing.T) {
	o, file := rested(t, 5)
	l := open(t, o)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.ErrorIs(t, l.CheckRest(ctx), context.Canceled)

	_, err := l.Truncate(l.Durable())
	require.NoError(t, err)
	_, err = o.FS.Open(file, false)
	require.ErrorIs(t, err, os.ErrNotExist)
	require.NoError(t, l.CheckRest(t.Context()))
}

// A segment that nobody has checked in this process has no sparse index: its first reader reads
// from the beginning, in large pieces. The next one knows where to begin.
func TestAReaderLeavesWaypoints(t *testing.T) {
	disk := &readCounter{FS: vfs.NewDisk()}
	o := eventlog.Options{FS: disk, SegmentSize: 4 << 20, QuickOpen: true}
	l, err := eventlog.Open(logDir, o)
	require.NoError(t, err)
	for len(l.Stat().Segments) < 3 {
		_, err := l.AppendWait(t.Context(), eventlog.Record{Kind: 1, Data: make([]byte, 8<<10)})
		require.NoError(t, err)
	}
	last := l.Stat().Segments[1].Last
	require.NoError(t, l.Close())
	l = open(t, o)

	disk.calls, disk.bytes = 0, 0
	first, err := l.Read(last)
	require.NoError(t, err)
	require.Greater(t, disk.bytes, int64(3<<20), "it read the segment")
	require.Less(t, disk.calls, 60, "in large pieces")

	disk.calls, disk.bytes = 0, 0
	second, err := l.Read(last)
	require.NoError(t, err)
	require.Equal(t, first, second)
	require.Less(t, disk.bytes, int64(200<<10))
}

// readCounter counts what is read.
type readCounter struct {
	eventlog.FS
	calls int
	bytes int64
}

func (c *readCounter) Open(name string, write bool) (eventlog.File, error) {
	f, err := c.FS.Open(name, write)
	return countedFile{f, c}, err
}

type countedFile struct {
	eventlog.File
	c *readCounter
}

func (f countedFile) ReadAt(b []byte, off int64) (int, error) {
	n, err := f.File.ReadAt(b, off)
	f.c.calls++
	f.c.bytes += int64(n)

	return n, err
}
