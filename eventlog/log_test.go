package eventlog_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"github.com/coppice-go/coppice/eventlog"
	"github.com/coppice-go/coppice/eventlog/internal/vfs"
)

func open(t *testing.T, o eventlog.Options) *eventlog.Log {
	t.Helper()
	l, err := eventlog.Open(logDir, o)
	require.NoError(t, err)
	t.Cleanup(func() { l.Close() })
	return l
}

// fill appends records up to an index, one frame for each.
func fill(t *testing.T, l *eventlog.Log, last uint64) {
	t.Helper()
	for next := l.Stat().Next; next <= last; next++ {
		require.NoError(t, l.Append(t.Context(), recordAt(next)).Wait(t.Context()))
	}
}

// holdSync makes the first sync of a segment after hold is set close entered and wait for release.
// The file for the next segment is filled and synced at any time.
func holdSync(disk *vfs.Disk) (hold *atomic.Bool, entered, release chan struct{}) {
	hold, entered, release = new(atomic.Bool), make(chan struct{}), make(chan struct{})
	disk.Before = func(op vfs.Op) vfs.Fault {
		if op.Kind == vfs.Sync && filepath.Ext(op.Path) == ".seg" && hold.CompareAndSwap(true, false) {
			close(entered)
			<-release
		}
		return vfs.Fault{}
	}

	return hold, entered, release
}

func TestReopenContinuesWithoutGap(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a", "b")
	ctx := t.Context()
	var n uint64

	for round := range 4 {
		l, err := eventlog.Open(dir, eventlog.Options{SegmentSize: 16 << 10})
		require.NoError(t, err)
		require.Equal(t, n, l.Durable())
		require.Equal(t, round == 0, l.Recovery().Created)
		require.True(t, l.Recovery().Clean)

		for range 100 {
			p := l.Append(ctx, recordsAt(n+1, 2)...)
			require.Equal(t, n+1, p.First())
			require.Equal(t, n+2, p.Last())
			require.NoError(t, p.Wait(ctx))
			n += 2
		}

		require.NoError(t, readAll(l))

		for _, i := range []uint64{1, 2, n / 2, n} {
			e, err := l.Read(i)
			require.NoError(t, err)
			require.NoError(t, same(e, i))
		}

		_, err = l.Read(n + 1)
		require.ErrorIs(t, err, eventlog.ErrNotFound)
		require.NoError(t, l.Close())
		rep, err := eventlog.Verify(dir, eventlog.Options{})
		require.NoError(t, err)
		require.Equal(t, n, rep.Records)
		require.True(t, rep.Clean)
	}

	// A closed log is only as large as its records, in segments of the first size.
	spares, err := filepath.Glob(filepath.Join(dir, "*.spare"))
	require.NoError(t, err)
	require.Empty(t, spares)
}

// TestLocked: only one process, and one opener in it, can have the log at a time.
func TestLocked(t *testing.T) {
	dir := t.TempDir()
	l, err := eventlog.Open(dir, eventlog.Options{})
	require.NoError(t, err)
	_, err = eventlog.Open(dir, eventlog.Options{})
	require.ErrorIs(t, err, eventlog.ErrLocked)
	_, err = eventlog.Verify(dir, eventlog.Options{})
	require.ErrorIs(t, err, eventlog.ErrLocked)
	_, err = eventlog.OpenReadOnly(dir, eventlog.Options{})
	require.ErrorIs(t, err, eventlog.ErrLocked)
	require.NoError(t, l.Close())
	l, err = eventlog.Open(dir, eventlog.Options{})
	require.NoError(t, err)
	require.NoError(t, l.Close())
}

// TestSmallLogIsSmall: a new log on a real disk takes about as much as its first segment, not a
// full one.
func TestSmallLogIsSmall(t *testing.T) {
	dir := t.TempDir()
	l, err := eventlog.Open(dir, eventlog.Options{})
	require.NoError(t, err)
	require.NoError(t, l.Append(t.Context(), recordAt(1)).Wait(t.Context()))
	var size int64
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)

	for _, e := range entries {
		info, err := e.Info()
		require.NoError(t, err)
		size += info.Size()
	}

	require.LessOrEqual(t, size, int64(2<<20))
	require.NoError(t, l.Close())
}

func TestReadOnly(t *testing.T) {
	ctx := t.Context()
	disk := vfs.NewDisk()
	l := open(t, small(disk))
	fill(t, l, 200)
	require.NoError(t, l.Close())
	ops := disk.Ops()
	l, err := eventlog.OpenReadOnly(logDir, small(disk))
	require.NoError(t, err)
	require.NoError(t, readAll(l))
	require.ErrorIs(t, l.Append(ctx, recordAt(201)).Wait(ctx), eventlog.ErrReadOnly)
	_, err = l.AppendNoSync(ctx, recordAt(201))
	require.ErrorIs(t, err, eventlog.ErrReadOnly)
	_, err = l.Truncate(100)
	require.ErrorIs(t, err, eventlog.ErrReadOnly)
	require.NoError(t, l.Close())
	require.Equal(t, ops, disk.Ops(), "reading changed the disk")
	_, err = eventlog.OpenReadOnly("/data/none", small(disk))
	require.ErrorIs(t, err, os.ErrNotExist)
}

func TestRefusals(t *testing.T) {
	ctx := t.Context()
	o := small(vfs.NewDisk())
	o.MaxRecord = 1000
	l := open(t, o)
	big := eventlog.Record{Data: make([]byte, 1000)}
	_, err := l.AppendWait(ctx, big)
	require.ErrorIs(t, err, eventlog.ErrTooLarge)
	require.ErrorIs(t, l.Append(ctx, big).Wait(ctx), eventlog.ErrTooLarge)
	require.Zero(t, l.Append(ctx, big).First())
	require.Error(t, l.Append(ctx).Wait(ctx), "an append of nothing has no index")
	gone, cancel := context.WithCancel(ctx)
	cancel()
	require.ErrorIs(t, l.Append(gone, recordAt(1)).Err(), context.Canceled)
	require.Error(t, l.AppendFunc(gone, func(uint64, error) { t.Error("called for a refused append") }, recordAt(1)))
	// None of these calls used up an index or failed the log.
	fill(t, l, 1)
	require.EqualValues(t, 1, l.Durable())
	_, err = l.Cursor(0)
	require.ErrorIs(t, err, eventlog.ErrTruncated)
	require.NoError(t, l.Close())
	require.NoError(t, l.Close())
	require.ErrorIs(t, l.Append(ctx, recordAt(2)).Wait(ctx), eventlog.ErrClosed)
	require.ErrorIs(t, l.Sync(ctx), eventlog.ErrClosed)
	_, err = l.Cursor(1)
	require.ErrorIs(t, err, eventlog.ErrClosed)
	_, err = l.Read(1)
	require.ErrorIs(t, err, eventlog.ErrClosed)

	for _, bad := range []eventlog.Options{{SegmentSize: -1}, {SegmentSize: 100}, {MaxRecord: 2 << 30}, {MaxBatch: -5},
		{Retention: eventlog.Retention{Bytes: -1}}} {
		_, err := eventlog.Open(logDir, bad)
		require.ErrorContains(t, err, "eventlog: Options.")
	}
}

// TestLargeRecord: a segment grows to hold one large frame, and its record is read back whole.
func TestLargeRecord(t *testing.T) {
	disk := vfs.NewDisk()
	l := open(t, small(disk))
	ctx := t.Context()
	data := bytes.Repeat([]byte("0123456789abcdef"), 20_000)
	fill(t, l, 3)
	require.NoError(t, l.Append(ctx, eventlog.Record{Kind: 9, Data: data}).Wait(ctx))
	require.NoError(t, l.Append(ctx, recordAt(5)).Wait(ctx))
	require.NoError(t, l.Close())
	l = open(t, small(disk))
	e, err := l.Read(4)
	require.NoError(t, err)
	require.Equal(t, data, e.Data)
	e, err = l.Read(5)
	require.NoError(t, err)
	require.NoError(t, same(e, 5))
	require.NoError(t, l.Close())
}

func TestFirstIndex(t *testing.T) {
	disk := vfs.NewDisk()
	o := small(disk)
	o.FirstIndex = 1000
	l := open(t, o)
	require.EqualValues(t, 1000, l.First())
	require.EqualValues(t, 999, l.Durable())
	fill(t, l, 1010)
	_, err := l.Cursor(999)
	require.ErrorIs(t, err, eventlog.ErrTruncated)
	require.NoError(t, l.Close())
	l = open(t, small(disk)) // an existing log keeps its own
	require.EqualValues(t, 1000, l.First())
	require.NoError(t, readAll(l))
	require.NoError(t, l.Close())
}

// TestGroupCommit: appends that arrive while a sync is under way share the next one.
func TestGroupCommit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := vfs.NewDisk()
		hold, entered, release := holdSync(disk)
		l, err := eventlog.Open(logDir, small(disk))
		require.NoError(t, err)
		synctest.Wait() // until the next segment is prepared
		ctx := t.Context()
		hold.Store(true)
		first := l.Append(ctx, recordAt(1))
		<-entered
		var wg sync.WaitGroup
		for range 50 {
			wg.Go(func() { require.NoError(t, l.Append(ctx, eventlog.Record{}).Wait(ctx)) })
		}

		synctest.Wait()
		require.EqualValues(t, 52, l.Stat().Next)
		require.Zero(t, l.Durable(), "nobody sees what is not durable")
		require.NoError(t, first.Err())
		close(release)
		wg.Wait()
		require.NoError(t, first.Wait(ctx))
		require.EqualValues(t, 2, l.Stat().Syncs)
		require.EqualValues(t, 2, l.Stat().Frames)
		require.NoError(t, l.Close())
	})
}

// TestBackpressure: with two batches full an append waits until its context ends, and an append
// that gave up takes no index.
func TestBackpressure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := vfs.NewDisk()
		hold, entered, release := holdSync(disk)
		o := small(disk)
		o.MaxBatch = 1000
		l, err := eventlog.Open(logDir, o)
		require.NoError(t, err)
		synctest.Wait()
		ctx := t.Context()
		rec := eventlog.Record{Data: make([]byte, 600)}
		hold.Store(true)
		a := l.Append(ctx, rec)
		<-entered
		b := l.Append(ctx, rec)
		impatient, cancel := context.WithCancel(ctx)
		result := make(chan *eventlog.Pending)
		go func() { result <- l.Append(impatient, rec) }()
		synctest.Wait()
		require.EqualValues(t, 3, l.Stat().Next)
		cancel()
		require.ErrorIs(t, (<-result).Err(), context.Canceled)
		go func() { result <- l.Append(ctx, rec) }()
		synctest.Wait()
		require.EqualValues(t, 3, l.Stat().Next)
		close(release)
		c := <-result
		require.EqualValues(t, 3, c.First())
		for _, p := range []*eventlog.Pending{a, b, c} {
			require.NoError(t, p.Wait(ctx))
		}

		require.NoError(t, l.Close())
	})
}

// TestAppendWait: writers that lead, writers that wait and writers that do neither share one order
// and lose nothing. Close waits for the writer that leads.
func TestAppendWait(t *testing.T) {
	disk := vfs.NewDisk()
	l := open(t, small(disk))
	ctx := t.Context()
	var wg sync.WaitGroup
	var total atomic.Uint64

	for i := range 6 {
		wg.Go(func() {
			for n := range 200 {
				var err error
				switch (i + n/20) % 3 {
				case 0:
					var first uint64
					if first, err = l.AppendWait(ctx, eventlog.Record{}, eventlog.Record{}); err == nil &&
						first+1 > l.Durable() {
						t.Errorf("acknowledged %d and %d, durable is %d", first, first+1, l.Durable())
					}

				case 1:
					err = l.Append(ctx, eventlog.Record{}, eventlog.Record{}).Wait(ctx)

				case 2:
					_, err = l.AppendNoSync(ctx, eventlog.Record{}, eventlog.Record{})
				}

				if errors.Is(err, eventlog.ErrClosed) {
					return
				}
				if err != nil {
					t.Error(err)
				}

				if total.Add(2) == 1500 {
					wg.Go(func() {
						if err := l.Close(); err != nil {
							t.Error(err)
						}
					})
				}
			}
		})
	}

	wg.Wait()
	last := total.Load()
	l = open(t, small(disk))
	require.EqualValues(t, last, l.Durable())
	require.True(t, l.Recovery().Clean)
	require.NoError(t, l.Close())
}

// TestCallbacksComeInOrder: AppendFunc calls back in index order, whichever goroutine appended.
func TestCallbacksComeInOrder(t *testing.T) {
	l := open(t, small(vfs.NewDisk()))
	ctx := t.Context()
	var got []uint64 // the committer's only, until Close
	var wg sync.WaitGroup

	for range 8 {
		wg.Go(func() {
			for range 50 {
				err := l.AppendFunc(ctx, func(first uint64, err error) {
					got = append(got, first)
					if err != nil {
						t.Error(err)
					}
				}, eventlog.Record{}, eventlog.Record{})
				if err != nil {
					t.Error(err)
				}
			}
		})
	}

	wg.Wait()
	require.NoError(t, l.Close())
	require.Len(t, got, 400)
	for i, first := range got {
		require.EqualValues(t, 1+2*i, first)
	}
}

// TestWaitUnknown: a Wait whose context ends leaves the outcome open, and the append goes on.
func TestWaitUnknown(t *testing.T) {
	disk := vfs.NewDisk()
	hold, _, release := holdSync(disk)
	l := open(t, small(disk))
	fill(t, l, 1)
	hold.Store(true)
	p := l.Append(t.Context(), recordAt(2))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.ErrorIs(t, p.Wait(ctx), context.Canceled)
	close(release)
	require.NoError(t, p.Wait(t.Context()))
	require.NoError(t, p.Wait(ctx), "what is known counts")
	require.False(t, errors.Is(p.Err(), context.Canceled))
}
