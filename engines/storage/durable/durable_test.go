package durable_test

import (
	"errors"
	"io"
	"io/fs"
	"math/rand/v2"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/coppice-go/coppice/engines/storage/durable"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const home = "home"

// read returns the contents of a file, or "" if it does not exist.
func read(t *testing.T, disk vfs.FS, path string) string {
	t.Helper()
	f, err := disk.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return ""
	}

	require.NoError(t, err)
	defer f.Close()

	data, err := io.ReadAll(f)
	require.NoError(t, err)

	return string(data)
}

// put makes a directory with one file, and gives it its name.
func put(disk vfs.FS, d durable.Dir, name string) error {
	return errors.Join(disk.MkdirAll(d.New(), 0o700),
		durable.On(disk).Write(disk.PathJoin(d.New(), "file"), []byte(name), 0o666), d.Publish(name))
}

// everyCrash runs an action on a disk with a crash before each of its operations, keeping none,
// some and all of the unsynced data, and checks the result. done reports whether the action had
// ended before the crash.
func everyCrash(t *testing.T, before, do func(vfs.FS) error, look func(t *testing.T, left vfs.FS, done bool)) {
	t.Helper()
	for _, keep := range []int{0, 50, 100} {
		crashes := 0
		for at, done := 1, false; !done; at++ {
			disk, rng := vfs.NewCrashableMem(), rand.New(rand.NewPCG(1, uint64(at)))
			crash := func() vfs.FS { return disk.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: keep, RNG: rng}) }
			require.NoError(t, disk.MkdirAll(home, 0o700))
			require.NoError(t, durable.On(disk).SyncDir("/"))
			require.NoError(t, before(disk))
			var left vfs.FS
			ops := 0
			require.NoError(t, do(errorfs.Wrap(disk, errorfs.InjectorFunc(func(o errorfs.Op) error {
				if o.Kind.ReadOrWrite() == errorfs.OpIsWrite || o.Kind == errorfs.OpOpenDir {
					if ops++; ops == at {
						left = crash()
						crashes++
					}
				}
				return nil
			}))))

			if done = left == nil; done {
				left = crash()
			}

			look(t, left, done)
		}

		require.Greater(t, crashes, 3)
	}
}

func TestACrashLeavesTheOldFileOrTheNewOne(t *testing.T) {
	replace := func(with string) func(vfs.FS) error {
		return func(disk vfs.FS) error { return durable.On(disk).Replace(home+"/file", []byte(with), 0o666) }
	}
	everyCrash(t, replace("old"), replace("new"), func(t *testing.T, left vfs.FS, done bool) {
		if is := read(t, left, home+"/file"); done {
			require.Equal(t, "new", is)
		} else {
			require.Contains(t, []string{"old", "new"}, is)
		}
	})
}

func TestACrashLeavesWhatWasSynced(t *testing.T) {
	none := func(vfs.FS) error { return nil }
	write := func(disk vfs.FS) error {
		d := durable.On(disk)
		return errors.Join(d.WriteNew(home+"/first", []byte("first"), 0o666), d.SyncDir(home),
			d.WriteNew(home+"/second", []byte("second"), 0o666), d.SyncDir(home), d.Remove(home+"/first"))
	}
	everyCrash(t, none, write, func(t *testing.T, left vfs.FS, done bool) {
		first, second := read(t, left, home+"/first"), read(t, left, home+"/second")
		if second != "second" && first != "first" {
			require.Empty(t, second, "the second was begun when the first was durable")
		}
		if done {
			require.Equal(t, "", first)
			require.Equal(t, "second", second)
		}
	})
}

// A new file replaces nothing, here too.
func TestNewFilesReplaceNothing(t *testing.T) {
	disk := vfs.NewMem()
	d := durable.On(disk)
	require.NoError(t, d.WriteNew("file", []byte("one"), 0o666))
	require.ErrorIs(t, d.WriteNew("file", []byte("two"), 0o666), fs.ErrExist)
	require.NoError(t, d.Write("file", []byte("two"), 0o666))
	require.Equal(t, "two", read(t, disk, "file"))
}

func TestACrashLeavesWholeDirectories(t *testing.T) {
	in := func(disk vfs.FS) durable.Dir { return durable.Dir{FS: disk, Path: home + "/dir"} }
	begin := func(disk vfs.FS) error {
		_, err := in(disk).Settle()
		return errors.Join(err, put(disk, in(disk), "first"))
	}
	change := func(disk vfs.FS) error { return errors.Join(put(disk, in(disk), "second"), in(disk).Remove("first")) }
	everyCrash(t, begin, change, func(t *testing.T, left vfs.FS, done bool) {
		d := in(left)
		half, err := d.Settle()
		require.NoError(t, err)
		for _, name := range half {
			require.True(t, durable.IsTemporary(name))
		}

		names, err := d.Names()
		require.NoError(t, err)
		all, err := left.List(d.Path)
		require.NoError(t, err)
		require.ElementsMatch(t, names, all, "nothing half is left")
		for _, name := range names {
			require.Equal(t, name, read(t, left, left.PathJoin(d.Join(name), "file")))
		}

		if done {
			require.Equal(t, []string{"second"}, names)
		} else {
			require.NotEmpty(t, names, "the second was there before the first went")
		}
	})
}

func TestWhatIsMissing(t *testing.T) {
	d := durable.Dir{FS: vfs.NewMem(), Path: "none"}
	names, err := d.Names()
	require.NoError(t, err)
	require.Empty(t, names)
	require.ErrorIs(t, d.Publish("a"), fs.ErrNotExist)
	require.ErrorIs(t, d.Remove("a"), fs.ErrNotExist)
	removed, err := d.Settle()
	require.NoError(t, err)
	require.Empty(t, removed)
}
