package offline

import (
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/coppice-go/coppice/engines/storage/portable"
	"github.com/coppice-go/coppice/internal/flock"
	"github.com/coppice-go/coppice/node/backup"
	"github.com/coppice-go/coppice/node/exit"
	"github.com/coppice-go/coppice/node/home"
)

// Of two backups to one place, and of two homes that are made in one place, the first goes on. The
// other one says so, and touches nothing. The place is free again afterwards.
func TestOnlyOneProcessMakesADirectory(t *testing.T) {
	s := makeSpecimen(t, "solo", home.InitOptions{}, func(s *specimen, r running) { s.put(t, r, "a", "1") })
	dir := t.TempDir()
	dest, fresh := filepath.Join(dir, "backup"), filepath.Join(dir, "fresh")
	inUse := func(err error, says string) {
		t.Helper()
		require.Equal(t, exit.HomeInUse, exit.Code(err), "%v", err)
		require.EqualError(t, err, says)
	}

	tried := false
	_, err := Backup(t.Context(), s.home, dest, backup.Options{Progress: func(string, uint64, uint64) {
		if tried {
			return
		}
		tried = true
		_, err := Backup(t.Context(), s.home, dest, backup.Options{})
		inUse(err, "another backup is writing to "+dest)
	}})
	require.NoError(t, err)
	require.True(t, tried)
	require.Equal(t, []string{"backup"}, names(t, dir))

	_, _, err = CreateSnapshot(t.Context(), s.home, SnapshotOptions{})
	require.NoError(t, err)
	file := exportAs(t, s.home, func(*portable.About) {})
	says := "another restore or init --from is writing to " + fresh
	tried = false
	_, err = RestoreWith(t.Context(), dest, fresh, RestoreOptions{Progress: func(step string, _, _ uint64) {
		if tried || step != "log" {
			return
		}
		tried = true
		_, err := Restore(t.Context(), dest, fresh, nil)
		inUse(err, says)
		_, err = InitFrom(t.Context(), fresh, file, home.InitOptions{}, SnapshotOptions{})
		inUse(err, says)
		require.Equal(t, []string{"backup", "fresh.restoring", "fresh.restoring.lock"}, names(t, dir))
	}})
	require.NoError(t, err)
	require.True(t, tried)
	require.Equal(t, []string{"backup", "fresh"}, names(t, dir))
	requireVerified(t, fresh)

	w, err := backup.NewWriter(filepath.Join(dir, "other"), backup.Options{})
	require.NoError(t, err)
	w.Abandon()
	require.Equal(t, []string{"backup", "fresh"}, names(t, dir))
}

// Of two processes that make one home, the second makes nothing of it.
func TestOnlyOneProcessMakesAHome(t *testing.T) {
	dir := t.TempDir()
	first, err := flock.TryLockToRead(dir)
	require.NoError(t, err)

	_, err = home.Init(dir, home.InitOptions{Listen: "127.0.0.1:0"})
	require.Equal(t, exit.HomeInUse, exit.Code(err), "%v", err)
	require.EqualError(t, err, "another process is making the home "+dir)
	require.Empty(t, names(t, dir))

	require.NoError(t, first.Close())
	_, err = home.Init(dir, home.InitOptions{Listen: "127.0.0.1:0"})
	require.NoError(t, err)
}
