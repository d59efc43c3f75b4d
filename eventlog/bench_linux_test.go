package eventlog_test

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/coppice-go/coppice/eventlog"
)

const benchRecord = 256

// rawSyncs is the loop with which the log is compared: write and fdatasync, on a file of zeros.
func rawSyncs(tb testing.TB, dir string, n, size int, sync bool) (elapsed, used time.Duration) {
	f, err := os.Create(filepath.Join(dir, "raw"))
	require.NoError(tb, err)
	defer os.Remove(f.Name())
	defer f.Close()

	const space = 64 << 20
	zero := make([]byte, 1<<20)
	for at := int64(0); at < space; at += int64(len(zero)) {
		_, err = f.WriteAt(zero, at)
		require.NoError(tb, err)
	}

	require.NoError(tb, f.Sync())
	b := make([]byte, size)
	for i := range b {
		b[i] = byte(i)
	}

	start, cpu := time.Now(), cpuTime(tb)
	at := int64(0)

	for range n {
		if at+int64(size) > space {
			at = 0
		}
		if _, err := f.WriteAt(b, at); err != nil {
			tb.Fatal(err)
		}

		if sync {
			if err := syscall.Fdatasync(int(f.Fd())); err != nil {
				tb.Fatal(err)
			}
		}

		at += int64(size)
	}

	return time.Since(start), cpuTime(tb) - cpu
}

// cpuTime returns the processor time that the calling thread has used. On a machine that does other
// work too, elapsed time includes that work; processor time shows what the log costs. The caller
// must be locked to its thread.
func cpuTime(tb testing.TB) time.Duration {
	const thread = 1 // RUSAGE_THREAD
	var u syscall.Rusage
	require.NoError(tb, syscall.Getrusage(thread, &u))
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func benchLog(b *testing.B) (*eventlog.Log, string) {
	dir := b.TempDir()
	l, err := eventlog.Open(filepath.Join(dir, "log"), eventlog.Options{})
	require.NoError(b, err)
	b.Cleanup(func() { require.NoError(b, l.Close()) })
	return l, dir
}

// BenchmarkSyncEach has one writer that waits for each record.
func BenchmarkSyncEach(b *testing.B) {
	l, dir := benchLog(b)
	ctx := b.Context()
	rec := eventlog.Record{Kind: 1, Data: make([]byte, benchRecord)}
	var ours, raw time.Duration
	const n = 200

	for b.Loop() {
		took, _ := rawSyncs(b, dir, n, benchRecord, true)
		raw += took
		start := time.Now()

		for range n {
			if _, err := l.AppendWait(ctx, rec); err != nil {
				b.Fatal(err)
			}
		}

		ours += time.Since(start)
	}

	b.ReportMetric(float64(raw)/float64(ours), "ratio")
	b.ReportMetric(float64(ours.Microseconds())/float64(n*b.N), "µs/append")
}

// BenchmarkConcurrent compares 64 writers with 64 records in one write.
func BenchmarkConcurrent(b *testing.B) {
	l, dir := benchLog(b)
	ctx := b.Context()
	const writers, each = 64, 100
	var ours, raw time.Duration

	for b.Loop() {
		took, _ := rawSyncs(b, dir, each, writers*benchRecord, true)
		raw += took
		var wg sync.WaitGroup
		start := time.Now()

		for range writers {
			wg.Go(func() {
				rec := eventlog.Record{Kind: 1, Data: make([]byte, benchRecord)}
				for range each {
					if err := l.Append(ctx, rec).Wait(ctx); err != nil {
						b.Error(err)
						return
					}
				}
			})
		}

		wg.Wait()
		ours += time.Since(start)
	}

	st := l.Stat()
	b.ReportMetric(float64(raw)/float64(ours), "ratio")
	b.ReportMetric(float64(st.Durable)/float64(st.Syncs), "records/sync")
	b.ReportMetric(float64(b.N*writers*each)/ours.Seconds(), "records/s")
}

// BenchmarkBatches compares batches of 1000 that are not synced with plain writes of the same size.
// The raw loop never waits for the disk, but the log does when it rolls. So one figure is for
// appends within a segment, and the other for all appends.
func BenchmarkBatches(b *testing.B) {
	l, dir := benchLog(b)
	ctx := b.Context()
	recs := make([]eventlog.Record, 1000)
	for i := range recs {
		recs[i] = eventlog.Record{Kind: 1, Data: make([]byte, benchRecord)}
	}

	var ours, raw, within, rawWithin, ourCPU, rawCPU time.Duration
	const n = 50
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()

	for b.Loop() {
		rawTime, rawUsed := rawSyncs(b, dir, n, len(recs)*benchRecord, false)
		segment := l.Stat().Segments[len(l.Stat().Segments)-1].Number
		start, used := time.Now(), cpuTime(b)

		for range n {
			if _, err := l.AppendNoSync(ctx, recs...); err != nil {
				b.Fatal(err)
			}
		}

		took := time.Since(start)
		ourCPU, rawCPU = ourCPU+cpuTime(b)-used, rawCPU+rawUsed
		require.NoError(b, l.Sync(ctx))
		ours, raw = ours+took, raw+rawTime
		if l.Stat().Segments[len(l.Stat().Segments)-1].Number == segment {
			within, rawWithin = within+took, rawWithin+rawTime
		}

		_, err := l.Truncate(l.Durable())
		require.NoError(b, err)
	}

	b.ReportMetric(float64(rawWithin)/float64(within), "ratio-within")
	b.ReportMetric(float64(raw)/float64(ours), "ratio")
	b.ReportMetric(float64(rawCPU)/float64(ourCPU), "ratio-cpu")
	b.ReportMetric(float64(b.N*n*len(recs))/ours.Seconds(), "records/s")
}

// BenchmarkReplay opens a log of a million records and reads all of them.
func BenchmarkReplay(b *testing.B) {
	dir := b.TempDir()
	recs := make([]eventlog.Record, 64)
	// frames as 64 writers make them
	l, err := eventlog.Open(dir, eventlog.Options{MaxBatch: int64(len(recs)) * (benchRecord + 16)})
	require.NoError(b, err)
	const total = 1_000_000
	for i := range recs {
		recs[i] = eventlog.Record{Kind: 1, Data: make([]byte, benchRecord)}
	}

	for range total / len(recs) {
		_, err := l.AppendNoSync(b.Context(), recs...)
		require.NoError(b, err)
	}

	require.NoError(b, l.Close())
	for _, quick := range []bool{false, true} {
		b.Run(fmt.Sprintf("quick=%t", quick), func(b *testing.B) { replay(b, dir, total, quick) })
	}
}

func replay(b *testing.B, dir string, total int, quick bool) {
	var open, replay time.Duration
	for b.Loop() {
		start := time.Now()
		l, err := eventlog.Open(dir, eventlog.Options{QuickOpen: quick})
		require.NoError(b, err)
		open += time.Since(start)
		start = time.Now()
		c, err := l.Cursor(1)
		require.NoError(b, err)
		var n int

		for {
			e, ok, err := c.TryNext()
			if err != nil {
				b.Fatal(err)
			}
			if !ok {
				break
			}
			n += len(e.Data) / benchRecord
		}

		replay += time.Since(start)
		require.Equal(b, total, n)
		c.Close()
		require.NoError(b, l.Close())
	}

	b.ReportMetric(float64(total*b.N)/(open+replay).Seconds(), "records/s")
	b.ReportMetric(float64(open.Milliseconds())/float64(b.N), "open-ms")
	b.ReportMetric(float64(replay.Milliseconds())/float64(b.N), "replay-ms")
}
