package durable_test

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/coppice-go/coppice/internal/durable"
)

var errFault = errors.New("fault")

// faulty is a file system whose operation with the number at fails, 1 being the first.
type faulty struct {
	durable.FS
	at, ops int
}

func (f *faulty) fault() error {
	if f.ops++; f.ops == f.at {
		return errFault
	}
	return nil
}

func (f *faulty) Create(path string, mode fs.FileMode) (durable.File, error) {
	if err := f.fault(); err != nil {
		return nil, err
	}
	file, err := f.FS.Create(path, mode)
	return faultyFile{file, f}, err
}

func (f *faulty) Rename(from, to string) error {
	if err := f.fault(); err != nil {
		return err
	}
	return f.FS.Rename(from, to)
}

func (f *faulty) SyncDir(path string) error { return errors.Join(f.fault(), f.FS.SyncDir(path)) }

type faultyFile struct {
	durable.File
	fs *faulty
}

// Write writes half of p if it fails.
func (f faultyFile) Write(p []byte) (int, error) {
	if err := f.fs.fault(); err != nil {
		n, _ := f.File.Write(p[:len(p)/2])
		return n, err
	}
	return f.File.Write(p)
}

func (f faultyFile) Sync() error { return errors.Join(f.fs.fault(), f.File.Sync()) }

func (f faultyFile) Close() error { return errors.Join(f.fs.fault(), f.File.Close()) }

// everyFault does something once with each operation failing, and looks at the directory.
func everyFault(t *testing.T, do func(d durable.Disk, dir string) error, look func(dir string)) {
	t.Helper()
	for at := 1; ; at++ {
		dir := t.TempDir()
		require.NoError(t, os.WriteFile(filepath.Join(dir, "file"), []byte("old"), 0o600))
		f := &faulty{FS: durable.OS.FS, at: at}
		err := do(durable.Disk{FS: f}, dir)
		if f.ops < at {
			require.NoError(t, err)
			require.Greater(t, at, 3)
			return
		}

		require.ErrorIs(t, err, errFault)
		look(dir)
	}
}

func content(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	require.NoError(t, err)
	return string(b)
}

func names(t *testing.T, dir string) (names []string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

// A file that could not be written and synced does not get the name.
func TestAFaultLeavesTheOldFileOrTheNewOne(t *testing.T) {
	everyFault(t, func(d durable.Disk, dir string) error {
		return d.Replace(filepath.Join(dir, "file"), []byte("new one"), 0o600)
	}, func(dir string) {
		require.Contains(t, []string{"old", "new one"}, content(t, filepath.Join(dir, "file")))
	})

	everyFault(t, func(d durable.Disk, dir string) error {
		f, err := d.Create(filepath.Join(dir, "next"), 0o600)
		if err != nil {
			return err
		}
		if _, err = io.WriteString(f, "new one"); err != nil {
			return errors.Join(err, f.Close())
		}
		return d.Publish(f, filepath.Join(dir, "next"), filepath.Join(dir, "file"))
	}, func(dir string) {
		require.Contains(t, []string{"old", "new one"}, content(t, filepath.Join(dir, "file")))
	})
}

// A new file that fails is not there, so that it can be made again.
func TestAFaultLeavesNoHalfFile(t *testing.T) {
	everyFault(t, func(d durable.Disk, dir string) error {
		return d.CopyNew(filepath.Join(dir, "new"), io.LimitReader(strings.NewReader("content"), 7), 0o600)
	}, func(dir string) { require.Equal(t, []string{"file"}, names(t, dir)) })
}

func TestNewFilesReplaceNothing(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	require.NoError(t, durable.OS.WriteNew(path, []byte("one"), 0o600))
	require.ErrorIs(t, durable.OS.WriteNew(path, []byte("two"), 0o600), fs.ErrExist)
	require.ErrorIs(t, durable.OS.CopyNew(path, strings.NewReader("two"), 0o600), fs.ErrExist)
	require.Equal(t, "one", content(t, path))

	require.NoError(t, durable.OS.Write(path, nil, 0o600))
	require.Empty(t, content(t, path))
}

// The mode is that of the call, whatever an earlier file or a leftover had. What a leftover links
// to is not written.
func TestReplaceHasItsOwnMode(t *testing.T) {
	dir := t.TempDir()
	path, other := filepath.Join(dir, "file"), filepath.Join(dir, "other")
	require.NoError(t, os.WriteFile(path, []byte("old"), 0o644))
	require.NoError(t, os.WriteFile(other, []byte("other"), 0o644))
	require.NoError(t, os.Symlink(other, path+".tmp"))

	require.NoError(t, durable.OS.Replace(path, []byte("new"), 0o600))
	require.Equal(t, "new", content(t, path))
	require.Equal(t, "other", content(t, other))
	require.Equal(t, []string{"file", "other"}, names(t, dir))
	info, err := os.Lstat(path)
	require.NoError(t, err)
	require.Equal(t, fs.FileMode(0o600), info.Mode())
}

func TestRemove(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	require.ErrorIs(t, durable.OS.Remove(path), fs.ErrNotExist)
	require.NoError(t, durable.OS.WriteNew(path, nil, 0o600))
	require.NoError(t, durable.OS.Remove(path))
	require.NoFileExists(t, path)
}
