package flock_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/coppice-go/coppice/internal/flock"
)

func TestALockIsHeldOnce(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	_, err := flock.TryLockExisting(path)
	require.ErrorIs(t, err, fs.ErrNotExist)

	f, err := flock.TryLock(path)
	require.NoError(t, err)
	_, err = flock.TryLock(path)
	require.ErrorIs(t, err, flock.ErrLocked)
	require.ErrorContains(t, err, path)
	_, err = flock.TryLockExisting(path)
	require.ErrorIs(t, err, flock.ErrLocked)

	info, err := f.Stat()
	require.NoError(t, err)
	require.Equal(t, fs.FileMode(0o600), info.Mode())

	require.NoError(t, f.Close())
	f, err = flock.TryLockExisting(path)
	require.NoError(t, err)
	require.NoError(t, f.Close())
}

func TestIsLocked(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	held, err := flock.TryLock(path)
	require.NoError(t, err)
	f, err := os.Open(path)
	require.NoError(t, err)
	defer f.Close()

	require.True(t, flock.IsLocked(f))
	require.NoError(t, held.Close())
	require.False(t, flock.IsLocked(f))

	held, err = flock.TryLock(path) // looking has left no lock
	require.NoError(t, err)
	require.NoError(t, held.Close())
}

// What cannot be opened is a *fs.PathError, and not a lock that another has.
func TestWhatCannotBeOpened(t *testing.T) {
	dir := t.TempDir()
	link := filepath.Join(dir, "link")
	require.NoError(t, os.Symlink(filepath.Join(dir, "other"), link))

	for _, path := range []string{dir, link, filepath.Join(dir, "none", "lock")} {
		_, err := flock.TryLock(path)
		var open *fs.PathError
		require.ErrorAs(t, err, &open)
		require.NotErrorIs(t, err, flock.ErrLocked)
	}
	require.NoFileExists(t, filepath.Join(dir, "other"))
}

// Processes that lock a file, remove it and let it go never have the lock of two files at one path.
func TestAFileThatWasRemovedIsNotLocked(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	var inside sync.Mutex
	var wg sync.WaitGroup

	for range 4 {
		wg.Go(func() {
			for range 500 {
				f, err := flock.TryLock(path)
				if errors.Is(err, flock.ErrLocked) || errors.Is(err, fs.ErrNotExist) {
					continue
				}
				if err != nil || !inside.TryLock() {
					t.Errorf("two have the lock (%v)", err)
					return
				}
				inside.Unlock()
				if err := errors.Join(os.Remove(path), f.Close()); err != nil {
					t.Error(err)
				}
			}
		})
	}

	wg.Wait()
}
