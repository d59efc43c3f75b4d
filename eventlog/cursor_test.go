package eventlog_test

import (
	"context"
	"os"
	"runtime"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"github.com/coppice-go/coppice/eventlog"
	"github.com/coppice-go/coppice/eventlog/internal/vfs"
)

// TestCursorWaits: a cursor at the end waits for records to become durable, and returns no others.
func TestCursorWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, err := eventlog.Open(logDir, small(vfs.NewDisk()))
		require.NoError(t, err)
		ctx := t.Context()
		c, err := l.Cursor(3) // ahead of the log
		require.NoError(t, err)
		got := make(chan uint64, 100)
		done := make(chan error)
		go func() {
			for {
				e, err := c.Next(ctx)
				if err == nil {
					err = same(e, e.Index)
				}

				if err != nil {
					c.Close()
					done <- err
					return
				}

				got <- e.Index
			}
		}()

		require.NoError(t, l.Append(ctx, recordsAt(1, 3)...).Wait(ctx))
		require.EqualValues(t, 3, <-got)
		_, err = l.AppendNoSync(ctx, recordAt(4))
		require.NoError(t, err)
		synctest.Wait()
		require.Empty(t, got)
		require.NoError(t, l.Sync(ctx))
		require.EqualValues(t, 4, <-got)
		require.NoError(t, l.Close())
		require.ErrorIs(t, <-done, eventlog.ErrClosed)
	})
}

func TestCursorContext(t *testing.T) {
	l := open(t, small(vfs.NewDisk()))
	c, err := l.Cursor(1)
	require.NoError(t, err)
	defer c.Close()

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = c.Next(ctx)
	require.ErrorIs(t, err, context.Canceled)
	fill(t, l, 1)
	e, err := c.Next(t.Context())
	require.NoError(t, err, "a context that ended is not the cursor's end")
	require.NoError(t, same(e, 1))
}

// TestReadersBesideWriters: cursors and random reads see every record while the log rolls, is
// truncated behind the slowest reader, and recycles its files.
func TestReadersBesideWriters(t *testing.T) {
	const last, readers = 3000, 4
	l := open(t, small(vfs.NewDisk()))
	ctx := t.Context()
	var wg sync.WaitGroup

	for i := range readers {
		hold := l.Retain(string(rune('a'+i)), 1)
		c, err := l.Cursor(1)
		require.NoError(t, err)
		wg.Go(func() {
			defer c.Close()
			defer hold.Release()

			for want := uint64(1); want <= last; want++ {
				e, err := c.Next(ctx)
				if err == nil {
					err = same(e, want)
				}

				if err == nil && want%97 == 0 {
					if e, err = l.Read(want); err == nil {
						err = same(e, want)
					}
				}

				if err != nil {
					t.Error(err)
					return
				}

				hold.Advance(want)
			}
		})
	}

	for next := uint64(1); next <= last; next += 3 {
		p := l.Append(ctx, recordsAt(next, 3)...)
		if next%5 == 0 {
			require.NoError(t, p.Wait(ctx))
			_, err := l.Truncate(next)
			require.NoError(t, err)
		}
	}

	require.NoError(t, l.Sync(ctx))
	wg.Wait()
	require.Empty(t, l.Stat().Retainers)
	_, err := l.Truncate(l.Durable())
	require.NoError(t, err)
	require.Greater(t, l.First(), uint64(last-200))
	require.NoError(t, readAll(l))
}

// TestTruncation: the front moves to the smallest of the requested index, every retainer's floor
// and the retention, in whole segments.
func TestTruncation(t *testing.T) {
	o := small(vfs.NewDisk())
	o.Retention = eventlog.Retention{Records: 50}
	var last eventlog.Truncated
	o.Events = func(e eventlog.Event) {
		if e, ok := e.(eventlog.Truncated); ok {
			last = e
		}
	}
	l := open(t, o)
	fill(t, l, 1000)
	c, err := l.Cursor(1)
	require.NoError(t, err)
	defer c.Close()

	slow := l.Retain("slow", 300)
	fast := l.Retain("fast", 900)
	n, err := l.Truncate(5000)
	require.NoError(t, err)
	require.NotZero(t, n)
	require.LessOrEqual(t, l.First(), uint64(300))
	require.Greater(t, l.First(), uint64(200))
	require.Equal(t, eventlog.Truncated{First: l.First(), Removed: n, Recycled: last.Recycled, HeldBy: "slow"}, last)
	require.Equal(t, []eventlog.RetainerStat{{Name: "slow", Floor: 300}, {Name: "fast", Floor: 900}},
		l.Stat().Retainers)
	_, err = l.Cursor(1)
	require.ErrorIs(t, err, eventlog.ErrTruncated)
	_, err = l.Read(l.First() - 1)
	require.ErrorIs(t, err, eventlog.ErrTruncated)
	require.NoError(t, readAll(l))

	// The cursor was overtaken. It reads the right data to the end of its segment, and then gets
	// the error.
	for want := uint64(1); ; want++ {
		e, err := c.Next(t.Context())
		if err != nil {
			require.ErrorIs(t, err, eventlog.ErrTruncated)
			break
		}
		require.NoError(t, same(e, want))
	}

	// A new owner of a name takes it over, and the earlier one no longer has any effect.
	again := l.Retain("slow", 600)
	slow.Advance(10_000)
	slow.Release()
	_, err = l.Truncate(5000)
	require.NoError(t, err)
	require.LessOrEqual(t, l.First(), uint64(600))
	require.Greater(t, l.First(), uint64(500))
	again.Advance(20) // lower: ignored
	again.Release()
	fast.Release()
	_, err = l.Truncate(5000)
	require.NoError(t, err)
	require.LessOrEqual(t, l.First(), uint64(951), "retention")
	require.Greater(t, l.First(), uint64(800))
	n, err = l.Truncate(5000)
	require.NoError(t, err)
	require.Zero(t, n)
}

func TestRetentionBytes(t *testing.T) {
	o := small(vfs.NewDisk())
	o.Retention = eventlog.Retention{Bytes: 30 << 10}
	l := open(t, o)
	fill(t, l, 1000)
	_, err := l.Truncate(l.Durable())
	require.NoError(t, err)
	require.GreaterOrEqual(t, l.Stat().Bytes, int64(30<<10))
	require.Less(t, l.Stat().Bytes, int64(40<<10))
}

// TestManyCursors: ten thousand waiting cursors need no file of their own and hardly any memory,
// and all of them are woken.
func TestManyCursors(t *testing.T) {
	dir := t.TempDir()
	l, err := eventlog.Open(dir, eventlog.Options{})
	require.NoError(t, err)
	ctx := t.Context()
	rec := eventlog.Record{Data: make([]byte, 1000)}

	const records = 20
	for range records {
		_, err = l.AppendNoSync(ctx, rec)
		require.NoError(t, err)
	}

	require.NoError(t, l.Sync(ctx))
	files := func() int {
		fds, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			return 0 // not on this system
		}
		return len(fds)
	}

	heap := func() uint64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	const many = 10_000
	before, memory := files(), heap()
	var ready, wg sync.WaitGroup
	ready.Add(many)

	for range many {
		c, err := l.Cursor(1)
		require.NoError(t, err)
		wg.Go(func() {
			defer c.Close()
			for want := uint64(1); want <= records+1; want++ {
				if want == records+1 {
					ready.Done()
				}
				e, err := c.Next(ctx)
				if err != nil || e.Index != want || len(e.Data) != 1000 {
					t.Errorf("record %d: %d, %v", want, e.Index, err)
					return
				}
			}
		})
	}

	ready.Wait()
	require.LessOrEqual(t, files(), before+4)
	require.Less(t, heap()-min(heap(), memory), uint64(100<<20))
	_, err = l.AppendWait(ctx, rec)
	require.NoError(t, err)
	wg.Wait()
	require.NoError(t, l.Close())
	require.Less(t, files(), before, "no file stays open")
}
