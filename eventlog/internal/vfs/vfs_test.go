package vfs

import (
	"math/rand/v2"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/coppice-go/coppice/eventlog"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestContract(t *testing.T) { Contract(t, NewDisk(), "/") }

func write(t *testing.T, f eventlog.File, s string, off int64) {
	t.Helper()
	_, err := f.WriteAt([]byte(s), off)
	require.NoError(t, err)
}

func read(t *testing.T, d *Disk, name string) string {
	t.Helper()
	f, err := d.Open(name, false)
	require.NoError(t, err)
	size, err := f.Size()
	require.NoError(t, err)
	b := make([]byte, size)

	if size > 0 {
		_, err = f.ReadAt(b, 0)
		require.NoError(t, err)
	}

	return string(b)
}

// TestDiskCrash: what is synced stays. Each other sector and each other name survives or not by
// itself.
func TestDiskCrash(t *testing.T) {
	d := NewDisk()
	require.NoError(t, d.MkdirAll("/d"))
	require.NoError(t, d.SyncDir("/"))
	f, err := d.Create("/d/f")
	require.NoError(t, err)
	rng := rand.New(rand.NewPCG(1, 1))

	names, err := d.Crash(rng, 0).List("/d")
	require.NoError(t, err)
	require.Empty(t, names, "the name was not synced")
	require.NoError(t, d.SyncDir("/d"))
	write(t, f, "old", 0)
	require.NoError(t, f.Sync())
	write(t, f, "new", 0)
	write(t, f, "far", 10*Sector)
	require.Equal(t, "old", read(t, d.Crash(rng, 0), "/d/f"))
	require.Equal(t, "new", read(t, d.Crash(rng, 100), "/d/f")[:3])
	torn := map[[2]bool]bool{} // which of the two sectors were kept

	for range 100 {
		got := read(t, d.Crash(rng, 50), "/d/f")
		torn[[2]bool{strings.HasPrefix(got, "new"), strings.HasSuffix(got, "far")}] = true
	}

	require.Len(t, torn, 4)

	require.NoError(t, d.Rename("/d/f", "/d/g"))
	names, err = d.Crash(rng, 0).List("/d")
	require.NoError(t, err)
	require.Equal(t, []string{"f"}, names)
}

// TestDiskFailedSync: after a failed sync, reading shows bytes that the disk does not have, and
// only writing them again brings them there.
func TestDiskFailedSync(t *testing.T) {
	d := NewDisk()
	fail := false
	d.Before = func(op Op) Fault {
		if fail && op.Kind == Sync {
			return Fault{Err: syscall.EIO}
		}
		return Fault{}
	}
	f, err := d.Create("/f")
	require.NoError(t, err)
	require.NoError(t, d.SyncDir("/"))
	write(t, f, "data", 0)
	fail = true
	require.ErrorIs(t, f.Sync(), syscall.EIO)
	fail = false
	require.NoError(t, f.Sync(), "the kernel has nothing left to write")
	rng := rand.New(rand.NewPCG(1, 1))
	require.Equal(t, "data", read(t, d, "/f"))
	require.NotContains(t, read(t, d.Crash(rng, 100), "/f"), "data")
	write(t, f, "data", 0)
	require.NoError(t, f.Sync())
	require.Equal(t, "data", read(t, d.Crash(rng, 0), "/f"))
}

func TestDiskFull(t *testing.T) {
	d := NewDisk()
	d.Limit = 10
	f, err := d.Create("/f")
	require.NoError(t, err)
	n, err := f.WriteAt(make([]byte, 20), 0)
	require.ErrorIs(t, err, syscall.ENOSPC)
	require.Equal(t, 10, n)
	write(t, f, "within", 0)
	require.EqualValues(t, 10, d.used())
}
