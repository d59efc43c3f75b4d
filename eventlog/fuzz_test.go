package eventlog_test

import (
	"errors"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/coppice-go/coppice/eventlog"
	"github.com/coppice-go/coppice/eventlog/internal/vfs"
)

// fuzzLogs makes a log of 120 records and returns its disk as it was when the log was closed, and
// as it was when it was killed.
func fuzzLogs(f *testing.F) (closed, unclosed *vfs.Disk) {
	disk := vfs.NewDisk()
	l, err := eventlog.Open(logDir, small(disk))
	require.NoError(f, err)
	for next := uint64(1); next < 120; next += 2 {
		require.NoError(f, l.Append(f.Context(), recordsAt(next, 2)...).Wait(f.Context()))
	}

	unclosed = disk.Crash(newRand(1), 100)
	require.NoError(f, l.Close())

	return disk.Crash(newRand(1), 100), unclosed
}

// FuzzRecovery: a log whose segment was overwritten at any place with any bytes opens or is refused
// as damaged. It never panics, and what it returns is right.
func FuzzRecovery(f *testing.F) {
	closed, unclosed := fuzzLogs(f)
	f.Add(true, 0, 4200, []byte("garbage"))
	f.Add(false, 1, 5000, make([]byte, 4096))
	f.Add(false, 0, 0, make([]byte, 10))
	f.Add(false, 9, 8000, make([]byte, 300))
	f.Fuzz(func(t *testing.T, useClosed bool, which, at int, b []byte) {
		d := unclosed
		if useClosed {
			d = closed
		}

		d = d.Crash(newRand(1), 100)
		files := d.Files(logDir, ".seg")
		slices.Sort(files)
		file := files[uint(which)%uint(len(files))]
		if err := d.Damage(file, func(data []byte) { copy(data[uint(at)%uint(len(data)):], b) }); err != nil {
			t.Fatal(err)
		}

		_, verr := eventlog.Verify(logDir, small(d))

		l, err := eventlog.Open(logDir, small(d))
		if err != nil {
			if !errors.Is(err, eventlog.ErrCorrupt) || verr == nil {
				t.Fatalf("Open: %v; Verify: %v", err, verr)
			}
			return
		}

		if verr != nil {
			t.Fatalf("Verify refuses what Open accepts: %v", verr)
		}
		if err := errors.Join(readAll(l), l.Close()); err != nil {
			t.Fatal(err)
		}
	})
}

// FuzzCursor: a cursor refuses bytes that change under an open log, and never returns them. A
// salvage of what is left is right.
func FuzzCursor(f *testing.F) {
	closed, unclosed := fuzzLogs(f)
	f.Add(true, 0, 4200, uint64(1), []byte("garbage"))
	f.Add(false, 1, 5000, uint64(60), make([]byte, 4096))
	f.Add(true, 9, 0, uint64(100), make([]byte, 5000))
	f.Fuzz(func(t *testing.T, useClosed bool, which, at int, from uint64, b []byte) {
		d := unclosed
		if useClosed {
			d = closed
		}

		d = d.Crash(newRand(1), 100)
		l, err := eventlog.OpenReadOnly(logDir, small(d))
		if err != nil {
			t.Fatal(err)
		}

		files := segFiles(d)
		if err := d.Damage(files[uint(which)%uint(len(files))], func(data []byte) {
			copy(data[uint(at)%uint(len(data)):], b)
		}); err != nil {
			t.Fatal(err)
		}

		from = 1 + from%l.Durable()
		c, err := l.Cursor(from)
		if err != nil {
			t.Fatal(err)
		}

		for want := from; ; want++ {
			e, ok, err := c.TryNext()
			if errors.Is(err, eventlog.ErrCorrupt) {
				break
			}
			if err != nil || ok != (want <= l.Durable()) {
				t.Fatalf("record %d of %d: %t, %v", want, l.Durable(), ok, err)
			}
			if !ok {
				break
			}
			if err := same(e, want); err != nil {
				t.Fatal(err)
			}
		}

		c.Close()
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		got, err := eventlog.Salvage(t.Context(), logDir, salvageDir, small(d))
		if err == nil {
			err = judgeSalvage(d, got)
		}
		if err != nil {
			t.Fatal(err)
		}
	})
}

// FuzzSegmentFile: a file of any bytes under a segment's name is refused, unless it is a segment.
func FuzzSegmentFile(f *testing.F) {
	f.Add([]byte{})
	f.Add([]byte("COPPICE\n"))
	f.Add(make([]byte, 5000))
	f.Fuzz(func(t *testing.T, b []byte) {
		d := vfs.NewDisk()
		require.NoError(t, d.MkdirAll(logDir))
		file, err := d.Create(logDir + "/0000000000000001.seg")
		require.NoError(t, err)
		_, err = file.WriteAt(b, 0)
		require.NoError(t, err)
		require.NoError(t, file.Close())

		l, err := eventlog.Open(logDir, small(d))
		if err == nil {
			err = l.Close()
		} else if errors.Is(err, eventlog.ErrCorrupt) || errors.Is(err, eventlog.ErrVersion) {
			err = nil
		}

		require.NoError(t, err)
	})
}
