package eventlog_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/coppice-go/coppice/eventlog"
	"github.com/coppice-go/coppice/eventlog/internal/vfs"
	"github.com/coppice-go/coppice/eventlog/segment"
)

// TestForeignFiles: a file that is not the log's own is neither read nor touched, whatever its name
// is.
func TestForeignFiles(t *testing.T) {
	dir := t.TempDir()
	foreign := []string{"notes.spare", "x.seg", "README", "1.seg", "000000000000000G.seg", "00000000000000AB.seg",
		".seg", ".spare", "END", "EXTENT.bak", "0000000000000001.seg~"}

	for _, name := range foreign {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte("mine: "+name), 0o644))
	}

	require.NoError(t, os.MkdirAll(filepath.Join(dir, "sub", "0000000000000001.seg"), 0o755))

	for range 3 {
		l, err := eventlog.Open(dir, eventlog.Options{SegmentSize: 8 << 10})
		require.NoError(t, err)

		for range 100 {
			_, err = l.AppendWait(t.Context(), recordAt(l.Stat().Next))
			require.NoError(t, err)
		}

		_, err = l.Truncate(l.Durable())
		require.NoError(t, err)
		require.NoError(t, l.Close())
	}

	for _, name := range foreign {
		b, err := os.ReadFile(filepath.Join(dir, name))
		require.NoError(t, err)
		require.Equal(t, "mine: "+name, string(b))
	}
}

// TestLinks: a log may be opened through a link. It is the same log and has the same lock.
func TestLinks(t *testing.T) {
	dir := t.TempDir()
	real, link := filepath.Join(dir, "real"), filepath.Join(dir, "link")
	require.NoError(t, os.Symlink("real", link))
	_, err := eventlog.Open(link, eventlog.Options{})
	require.Error(t, err, "a link to nothing")
	l, err := eventlog.Open(real, eventlog.Options{})
	require.NoError(t, err)

	for _, other := range []string{real, link, real + "/../real/."} {
		_, err = eventlog.Open(other, eventlog.Options{})
		require.ErrorIs(t, err, eventlog.ErrLocked)
		_, err = eventlog.OpenReadOnly(other, eventlog.Options{})
		require.ErrorIs(t, err, eventlog.ErrLocked)
		_, err = eventlog.Salvage(t.Context(), other, filepath.Join(dir, "to"), eventlog.Options{})
		require.ErrorIs(t, err, eventlog.ErrLocked)
	}

	_, err = l.AppendWait(t.Context(), recordAt(1))
	require.NoError(t, err)
	require.NoError(t, l.Close())
	l, err = eventlog.Open(link, eventlog.Options{})
	require.NoError(t, err)
	require.NoError(t, readAll(l))
	require.EqualValues(t, 1, l.Durable())
	require.NoError(t, l.Close())
}

// shuffles are changes that people and programs make to the files of a log. Every way to open the
// log notices each of them.
var shuffles = []struct {
	name string
	do   func(t *testing.T, d, other *vfs.Disk, files []string)
}{
	{"a middle segment of another log", func(t *testing.T, d, other *vfs.Disk, files []string) {
		require.NoError(t, d.Adopt(other, files[1]))
	}},
	{"the last segment of another log", func(t *testing.T, d, other *vfs.Disk, files []string) {
		require.NoError(t, d.Adopt(other, files[len(files)-1]))
	}},
	{"all segments of another log", func(t *testing.T, d, other *vfs.Disk, files []string) {
		for _, f := range files {
			require.NoError(t, d.Adopt(other, f))
		}
	}},
	{"two swapped", func(t *testing.T, d, _ *vfs.Disk, files []string) {
		require.NoError(t, d.Rename(files[1], "/data/x"))
		require.NoError(t, d.Rename(files[2], files[1]))
		require.NoError(t, d.Rename("/data/x", files[2]))
	}},
	{"renamed past the end", func(t *testing.T, d, _ *vfs.Disk, files []string) {
		require.NoError(t, d.Rename(files[1], logDir+"/00000000000000ff.seg"))
	}},
	{"duplicated as the next", func(t *testing.T, d, _ *vfs.Disk, files []string) {
		copyTo(t, d, files[len(files)-1], fmt.Sprintf("%s/%016x.seg", logDir, len(files)+1))
	}},
	{"duplicated as the last number there is", func(t *testing.T, d, _ *vfs.Disk, files []string) {
		copyTo(t, d, files[1], logDir+"/ffffffffffffffff.seg")
	}},
	{"a middle segment empty", func(t *testing.T, d, _ *vfs.Disk, files []string) { resize(t, d, files[1], 0) }},
	{"the last segment empty", func(t *testing.T, d, _ *vfs.Disk, files []string) {
		resize(t, d, files[len(files)-1], 0)
	}},
	{"another first index in the first header", func(t *testing.T, d, _ *vfs.Disk, files []string) {
		rewriteHeader(t, d, files[0], func(h *segment.Header) { h.FirstIndex++ })
	}},
	{"another first index in the last header", func(t *testing.T, d, _ *vfs.Disk, files []string) {
		rewriteHeader(t, d, files[len(files)-1], func(h *segment.Header) { h.FirstIndex++ })
	}},
	{"another identity in the last header", func(t *testing.T, d, _ *vfs.Disk, files []string) {
		rewriteHeader(t, d, files[len(files)-1], func(h *segment.Header) { h.ID[3]++ })
	}},
	{"another seal in a header", func(t *testing.T, d, _ *vfs.Disk, files []string) {
		rewriteHeader(t, d, files[2], func(h *segment.Header) { h.PrevSeal.CRC++ })
	}},
}

func copyTo(t *testing.T, d *vfs.Disk, from, to string) {
	var b []byte
	require.NoError(t, d.Damage(from, func(data []byte) { b = slices.Clone(data) }))
	f, err := d.Create(to)
	require.NoError(t, err)
	_, err = f.WriteAt(b, 0)
	require.NoError(t, errors.Join(err, f.Sync(), f.Close()))
}

// resize cuts a file, or extends it with zeros.
func resize(t *testing.T, d *vfs.Disk, name string, size int) {
	var b []byte
	require.NoError(t, d.Damage(name, func(data []byte) { b = slices.Clone(data) }))
	f, err := d.Create(name)
	require.NoError(t, err)
	if size > len(b) {
		b = append(b, make([]byte, size-len(b))...)
	}

	_, err = f.WriteAt(b[:size], 0)
	require.NoError(t, errors.Join(err, f.Sync(), f.Close()))
}

func rewriteHeader(t *testing.T, d *vfs.Disk, name string, change func(*segment.Header)) {
	require.NoError(t, d.Damage(name, func(b []byte) {
		h, err := segment.DecodeHeader(b)
		require.NoError(t, err)
		change(&h)
		copy(b, h.Append(nil))
	}))
}

func TestShuffledFiles(t *testing.T) {
	logs := func() (killed, closed *vfs.Disk) {
		d := vfs.NewDisk()
		l := open(t, small(d))
		fill(t, l, 200)
		killed = d.Crash(newRand(1), 100)
		require.NoError(t, l.Close())
		return killed, d
	}
	killed, closed := logs()
	other, _ := logs()

	for _, s := range shuffles {
		for ending, from := range map[string]*vfs.Disk{"killed": killed, "closed": closed} {
			t.Run(s.name+" "+ending, func(t *testing.T) {
				d := from.Crash(newRand(1), 100)
				s.do(t, d, other, segFiles(d))
				quick := small(d)
				quick.QuickOpen = true

				for _, open := range []func() error{
					func() error { _, err := eventlog.Verify(logDir, small(d)); return err },
					func() error { _, err := eventlog.OpenReadOnly(logDir, small(d)); return err },
					func() error { _, err := eventlog.OpenReadOnly(logDir, quick); return err },
					func() error { _, err := eventlog.Open(logDir, small(d)); return err },
				} {
					require.ErrorIs(t, open(), eventlog.ErrCorrupt)
				}

				got, err := eventlog.Salvage(t.Context(), logDir, salvageDir, small(d))
				require.NoError(t, err)
				require.NoError(t, judgeSalvage(d, got))
			})
		}
	}
}

// TestEveryLength: a segment that was cut to any length, or grown, opens with all of its records or
// is refused. A killed log may lose its last frame, and nothing before it.
func TestEveryLength(t *testing.T) {
	disk := vfs.NewDisk()
	l := open(t, small(disk))
	fill(t, l, 60)
	killed := disk.Crash(newRand(1), 100)
	require.NoError(t, l.Close())
	step := soak(211, 1)

	for _, from := range []*vfs.Disk{killed, disk} {
		files := segFiles(from)
		for _, file := range files {
			var size int
			require.NoError(t, from.Damage(file, func(b []byte) { size = len(b) }))
			fs := layout(from, file, 0)

			for n := 0; n <= size+4096; n += step {
				d := from.Crash(newRand(1), 100)
				resize(t, d, file, n)
				_, verr := eventlog.Verify(logDir, small(d))
				l, err := eventlog.Open(logDir, small(d))
				require.Equal(t, err == nil, verr == nil, "%s cut to %d: Open: %v; Verify: %v", file, n, err, verr)

				if err != nil {
					require.ErrorIs(t, err, eventlog.ErrCorrupt)
					continue
				}

				if n < fs[len(fs)-1].at {
					require.Same(t, killed, from, "%s cut to %d", file, n)
					require.Equal(t, files[len(files)-1], file)
				} else if n >= fs[len(fs)-1].end {
					require.EqualValues(t, 60, l.Durable(), "%s cut to %d", file, n)
				}

				require.NoError(t, readAll(l))
				require.NoError(t, l.Close())
			}
		}
	}
}
