package eventlog_test

import (
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/coppice-go/coppice/eventlog"
	"github.com/coppice-go/coppice/eventlog/internal/vfs"
	"github.com/coppice-go/coppice/eventlog/segment"
)

// The tests below seed a mistake and demand that the campaign meant for it notices. A campaign that
// misses its mistake is worth nothing. docs/eventlog.md has the table.

func crashesNotice(t *testing.T, says string, tamper func(*vfs.Disk) eventlog.FS) {
	t.Helper()
	var count atomic.Int64

	for seed := range uint64(400) {
		if err := crashes(t.Context(), seed, tamper, unchanged, &count); err != nil {
			t.Logf("noticed after %d crashes: %v", count.Load(), err)
			require.ErrorContains(t, err, says)
			return
		}
	}

	t.Fatalf("not noticed in %d crashes", count.Load())
}

// careless is a disk that skips some syncs, as a careless caller would.
type careless struct {
	eventlog.FS
	skipDir  func(dir string) bool
	skipFile bool
}

func (c careless) SyncDir(dir string) error {
	if c.skipDir != nil && c.skipDir(dir) {
		return nil
	}
	return c.FS.SyncDir(dir)
}

func (c careless) Create(name string) (eventlog.File, error) { return c.file(c.FS.Create(name)) }

func (c careless) Open(name string, write bool) (eventlog.File, error) {
	return c.file(c.FS.Open(name, write))
}

func (c careless) file(f eventlog.File, err error) (eventlog.File, error) {
	if err == nil && c.skipFile {
		f = carelessFile{f}
	}
	return f, err
}

type carelessFile struct{ eventlog.File }

func (f carelessFile) Sync() error { return nil }

func TestSeededNoDirectorySync(t *testing.T) {
	crashesNotice(t, "", func(d *vfs.Disk) eventlog.FS {
		return careless{FS: d, skipDir: func(dir string) bool { return dir == logDir }}
	})
}

func TestSeededNoParentSync(t *testing.T) {
	crashesNotice(t, "lost", func(d *vfs.Disk) eventlog.FS {
		return careless{FS: d, skipDir: func(dir string) bool { return dir != logDir }}
	})
}

func TestSeededNoSync(t *testing.T) {
	crashesNotice(t, "", func(d *vfs.Disk) eventlog.FS {
		return careless{FS: d, skipFile: true}
	})
}

// hasty acknowledges a sync at once and performs it before the next operation on the file.
type hasty struct{ eventlog.FS }

func (h hasty) Create(name string) (eventlog.File, error) {
	f, err := h.FS.Create(name)
	return &hastyFile{File: f}, err
}

func (h hasty) Open(name string, write bool) (eventlog.File, error) {
	f, err := h.FS.Open(name, write)
	return &hastyFile{File: f}, err
}

type hastyFile struct {
	eventlog.File
	owed bool
}

func (f *hastyFile) Sync() error { f.owed = true; return nil }

func (f *hastyFile) pay() error {
	if !f.owed {
		return nil
	}
	f.owed = false
	return f.File.Sync()
}

func (f *hastyFile) WriteAt(b []byte, off int64) (int, error) {
	if err := f.pay(); err != nil {
		return 0, err
	}
	return f.File.WriteAt(b, off)
}

func (f *hastyFile) Close() error {
	if err := f.pay(); err != nil {
		return err
	}
	return f.File.Close()
}

func TestSeededAckBeforeSync(t *testing.T) {
	crashesNotice(t, "", func(d *vfs.Disk) eventlog.FS { return hasty{d} })
}

// stubborn tries a failed sync again and believes the second result.
type stubborn struct{ eventlog.FS }

func (s stubborn) Create(name string) (eventlog.File, error) {
	f, err := s.FS.Create(name)
	return stubbornFile{f}, err
}

func (s stubborn) Open(name string, write bool) (eventlog.File, error) {
	f, err := s.FS.Open(name, write)
	return stubbornFile{f}, err
}

type stubbornFile struct{ eventlog.File }

func (f stubbornFile) Sync() error {
	if f.File.Sync() != nil {
		return f.File.Sync()
	}
	return nil
}

func faultsNotice(t *testing.T, tamper func(*vfs.Disk) eventlog.FS, change func(eventlog.Options) eventlog.Options) {
	t.Helper()
	runs := 0

	for seed := range uint64(10) {
		n, err := faults(t.Context(), seed, tamper, change)
		runs += n
		if err != nil {
			t.Logf("noticed after %d faults: %v", runs, err)
			return
		}
	}

	t.Fatalf("not noticed in %d faults", runs)
}

func TestSeededSyncTriedAgain(t *testing.T) {
	faultsNotice(t, func(d *vfs.Disk) eventlog.FS { return stubborn{d} }, unchanged)
}

func TestSeededNoRewrite(t *testing.T) {
	faultsNotice(t, nil, eventlog.WithoutRewrite)
}

// TestSeededTrustedExtent needs a sync of the extent that fails and a power failure in the Open
// after it. It tries every such pair in a history, and in up to four histories, because the order
// of a history's operations depends on the scheduler.
func TestSeededTrustedExtent(t *testing.T) {
	defer func(n int) { recoveryCrashes = n }(recoveryCrashes)

	recoveryCrashes = 1

	for seed := range uint64(4) {
		for n := 40; n < 80; n++ {
			if _, err := withFault(t.Context(), 1+seed, 0, n, nil, eventlog.TrustingExtent); err != nil {
				t.Logf("noticed: %v", err)
				return
			}
		}
	}

	t.Fatal("not noticed")
}

func TestSeededNoLookAhead(t *testing.T) {
	for seed := range uint64(10) {
		for _, end := range endings {
			if _, _, err := damages(t.Context(), seed, end, 100, eventlog.WithoutLookAhead); err != nil {
				t.Log("noticed:", err)
				require.ErrorContains(t, err, "silent loss")
				return
			}
		}
	}
	t.Fatal("not noticed")
}

// strangers counts the frames of older segments that validate behind the end of a recycled segment.
func strangers(t *testing.T, change func(eventlog.Options) eventlog.Options,
	seed func(segment.Header) segment.Seed) (recycled, found int) {
	ctx := t.Context()
	disk := vfs.NewDisk()
	l, err := eventlog.Open(logDir, change(small(disk)))
	require.NoError(t, err)

	for l.Stat().Next < 600 {
		require.NoError(t, l.Append(ctx, recordAt(l.Stat().Next)).Wait(ctx))
		_, err := l.Truncate(l.Durable())
		require.NoError(t, err)
	}

	segs := l.Stat().Segments
	require.NoError(t, l.Close())

	for _, s := range segs {
		err := disk.Damage(s.File, func(b []byte) {
			h, err := segment.DecodeHeader(b)
			require.NoError(t, err)
			if !h.Recycled {
				return
			}

			recycled++
			at := segment.HeaderSize + int(s.Bytes) + 2*segment.FrameHeaderSize

			for {
				i := segment.Find(b[at:], seed(h), int64(at), 1)
				if i < 0 {
					return
				}
				found++
				at += i + segment.Align
			}
		})
		require.NoError(t, err)
	}

	return recycled, found
}

// TestRecycledBytesNeverValidate: checksums are seeded by log, segment and first index.
func TestRecycledBytesNeverValidate(t *testing.T) {
	recycled, found := strangers(t, unchanged, segment.Header.Seed)
	require.NotZero(t, recycled)
	require.Zero(t, found)
}

func TestSeededNoSeed(t *testing.T) {
	recycled, found := strangers(t, eventlog.WithoutSeed, func(segment.Header) segment.Seed { return segment.Seed{} })
	require.NotZero(t, recycled)
	require.NotZero(t, found, "without a seed, old frames validate; if they do not, TestRecycledBytesNeverValidate "+
		"shows nothing")
}

// floorHolds truncates past what a retainer needs, and reports whether the retained record is still
// there.
func floorHolds(t *testing.T, change func(eventlog.Options) eventlog.Options) bool {
	l := open(t, change(small(vfs.NewDisk())))
	fill(t, l, 400)
	hold := l.Retain("pool", 120)
	defer hold.Release()
	_, err := l.Truncate(l.Durable())
	require.NoError(t, err)
	e, err := l.Read(120)
	return err == nil && same(e, 120) == nil
}

// TestFloorHolds: truncation removes nothing that a retainer needs.
func TestFloorHolds(t *testing.T) { require.True(t, floorHolds(t, unchanged)) }

func TestSeededNoFloor(t *testing.T) {
	require.False(t, floorHolds(t, eventlog.WithoutFloor),
		"without asking the retainers, a truncation goes past them; if it does not, TestFloorHolds shows nothing")
}
