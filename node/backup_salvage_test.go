package node

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/coppice-go/coppice/engines/backend/kv"
	"github.com/coppice-go/coppice/engines/chain"
	"github.com/coppice-go/coppice/node/backup"
	"github.com/coppice-go/coppice/node/exit"
	"github.com/coppice-go/coppice/node/home"
	"github.com/coppice-go/coppice/node/offline"
)

// spoil changes a byte of the first record of a home's log that contains a text.
func spoil(t *testing.T, home, text string) {
	t.Helper()
	harm(t, home, text, func(b []byte) { b[bytes.Index(b, []byte(text))] ^= 1 })
}

// harm changes the first segment of a home's log that contains a text.
func harm(t *testing.T, dir, text string, do func(b []byte)) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(home.LogDir(dir), "*.seg"))
	require.NoError(t, err)

	for _, f := range files {
		b, err := os.ReadFile(f)
		require.NoError(t, err)
		if bytes.Contains(b, []byte(text)) {
			do(b)
			require.NoError(t, os.WriteFile(f, b, 0o600))
			return
		}
	}

	t.Fatalf("no record has %q in it", text)
}

// damaged makes a stopped home whose log has the waiting transaction "early", then blocks, the last
// of them later, and then more waiting transactions, with "late" in the middle. Those after the
// blocks are left out if later is further ahead than a transaction may be valid.
func damaged(t *testing.T, later time.Duration) (home string, waits chain.TxID) {
	t.Helper()
	h := drive(t)
	early := h.submit(h.tx(kv.Put([]byte("early"), []byte("yes")), time.Minute))[0]
	require.NoError(t, early.Err)

	for i, op := range []kv.Op{kv.Put([]byte("block"), []byte("one")), kv.Add([]byte("n"), 1), kv.Add([]byte("n"), 1)} {
		b := h.next(h.tx(op, time.Minute))
		h.order(b)
		h.commit(b)
		if i == 1 {
			h.clock = h.clock.Add(later)
		}
	}

	if later < time.Minute {
		for _, key := range []string{"waiting", "late", "last"} {
			out := h.submit(h.tx(kv.Put([]byte(key), []byte("yes")), time.Minute))[0]
			require.NoError(t, out.Err)
			if key == "waiting" {
				waits = out.ID
			}
		}
	}

	h.close()

	return h.home, waits
}

// The effects of lost records are in the state. Every transaction that they acknowledged has ended
// once the chain's time is past its validity (I1, I10).
func TestASalvagedBackupHasWhatIsBehindTheDamage(t *testing.T) {
	for name, tc := range map[string]struct {
		later   time.Duration
		settled bool
		waiting uint64 // launched behind the damage
	}{
		"the chain's time is past all that was lost": {time.Hour, true, 0},
		"what was lost may have acknowledged more":   {time.Second, false, 3},
	} {
		t.Run(name, func(t *testing.T) {
			home, _ := damaged(t, tc.later)
			spoil(t, home, "early")
			dest := filepath.Join(t.TempDir(), "backup")
			_, err := offline.Backup(t.Context(), home, dest, backup.Options{})
			require.ErrorIs(t, err, exit.ErrDamage)

			info, lost, err := offline.Salvage(t.Context(), home, dest, backup.Options{Program: "test"})
			require.NoError(t, err)
			require.Len(t, lost.Gaps, 1)
			require.Zero(t, lost.Cut)
			require.Equal(t, tc.settled, lost.Settled)
			require.EqualValues(t, 3, info.Height)
			require.NoDirExists(t, dest+offline.SalvageSuffix)

			again := filepath.Join(t.TempDir(), "home")
			_, err = offline.Restore(t.Context(), dest, again, nil)
			require.NoError(t, err)
			v, err := offline.Verify(t.Context(), again, offline.VerifyOptions{})
			require.NoError(t, err)
			require.EqualValues(t, 3, v.Height)
			require.Equal(t, tc.waiting, v.Unfinished)
			h := driveHome(t, again)
			defer h.close()

			value, _, _, err := h.store.Get(t.Context(), []byte("n"), 0)
			require.NoError(t, err)
			require.Equal(t, "2", string(value))
		})
	}
}

// After the newest state, nothing can follow a record that is lost: the backup ends there and says
// so.
func TestASalvagedBackupEndsBeforeDamageBehindTheState(t *testing.T) {
	home, waits := damaged(t, time.Second)
	spoil(t, home, "late")
	dest := filepath.Join(t.TempDir(), "backup")
	info, lost, err := offline.Salvage(t.Context(), home, dest, backup.Options{Program: "test"})
	require.NoError(t, err)
	require.Len(t, lost.Gaps, 1)
	require.Equal(t, lost.Gaps[0].First, lost.Cut)
	require.Equal(t, lost.Cut-1, info.Last)
	require.False(t, lost.Settled)
	again := filepath.Join(t.TempDir(), "home")
	_, err = offline.Restore(t.Context(), dest, again, nil)
	require.NoError(t, err)
	h := driveHome(t, again)
	defer h.close()

	require.True(t, endOf(t, h, waits).Known, "it was acknowledged before the damage")
}

// Records may be lost both before and after the state's place in the log.
func TestASalvagedBackupEndsAtTheStateInTheMiddleOfDamage(t *testing.T) {
	home, _ := damaged(t, time.Second)
	h := driveHome(t, home)
	b := h.next(h.tx(kv.Put([]byte("fourth"), []byte("yes")), time.Minute))
	h.order(b)
	h.commit(b)
	require.NoError(t, h.submit(h.tx(kv.Put([]byte("after"), []byte("yes")), time.Minute))[0].Err)
	h.close()
	harm(t, home, "fourth", func(b []byte) {
		from, to := bytes.LastIndex(b, []byte("fourth")), bytes.LastIndex(b, []byte("after"))
		clear(b[from:to]) // in BlockCommitted, and up to what was launched after it: one gap
	})
	dest := filepath.Join(t.TempDir(), "backup")
	info, lost, err := offline.Salvage(t.Context(), home, dest, backup.Options{Program: "test"})
	require.NoError(t, err)
	require.EqualValues(t, 4, info.Height)
	require.Len(t, lost.Gaps, 1)
	require.Equal(t, info.Last+1, lost.Cut)
	require.False(t, lost.Settled)
	_, err = offline.Restore(t.Context(), dest, filepath.Join(t.TempDir(), "home"), nil)
	require.NoError(t, err)
}

// If the state is damaged too, a snapshot takes its place. Without a snapshot, the backup has what
// the records before the damage lead to.
func TestASalvagedBackupBeginsWithASnapshotIfItMust(t *testing.T) {
	for name, snapshot := range map[string]bool{"there is a snapshot": true, "there is none": false} {
		t.Run(name, func(t *testing.T) {
			dir, _ := damaged(t, time.Hour)
			if snapshot {
				_, fresh, err := offline.CreateSnapshot(t.Context(), dir, offline.SnapshotOptions{Program: "test"})
				require.NoError(t, err)
				require.True(t, fresh)
			}

			spoil(t, dir, "early")
			require.NoError(t, os.RemoveAll(home.StateDir(dir)))
			dest := filepath.Join(t.TempDir(), "backup")
			info, lost, err := offline.Salvage(t.Context(), dir, dest, backup.Options{Program: "test"})

			require.NoError(t, err)

			if !snapshot {
				require.Less(t, info.Height, uint64(3))
				require.Equal(t, lost.Gaps[0].First, lost.Cut)
				require.False(t, lost.Settled)
				restored, err := offline.Restore(t.Context(), dest, filepath.Join(t.TempDir(), "home"), nil)
				require.NoError(t, err)
				require.Equal(t, info.AppHash, restored.AppHash)
				return
			}

			require.True(t, lost.Settled)
			require.EqualValues(t, 3, info.Height)
		})
	}
}

// A home without damage is backed up as Backup does it.
func TestASalvagedBackupOfAWholeHomeHasAll(t *testing.T) {
	home, _ := damaged(t, time.Second)
	dest := filepath.Join(t.TempDir(), "backup")
	info, lost, err := offline.Salvage(t.Context(), home, dest, backup.Options{Program: "test"})
	require.NoError(t, err)
	require.False(t, lost.Any())
	require.True(t, lost.Settled)
	want, err := offline.Backup(t.Context(), home, filepath.Join(t.TempDir(), "backup"),
		backup.Options{Program: "test"})
	require.NoError(t, err)
	require.Equal(t, want.AppHash, info.AppHash)
	require.Equal(t, want.First, info.First)
	require.Equal(t, want.Last, info.Last)
}
