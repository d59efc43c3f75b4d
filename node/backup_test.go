package node

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"

	"github.com/coppice-go/coppice/engines/backend/kv"
	"github.com/coppice-go/coppice/engines/chain"
	"github.com/coppice-go/coppice/engines/consensus/comet"
	"github.com/coppice-go/coppice/engines/storage"
	"github.com/coppice-go/coppice/engines/storage/durable"
	"github.com/coppice-go/coppice/engines/storage/snapshots"
	"github.com/coppice-go/coppice/eventlog"
	"github.com/coppice-go/coppice/node/backup"
	"github.com/coppice-go/coppice/node/config"
	"github.com/coppice-go/coppice/node/exit"
	"github.com/coppice-go/coppice/node/home"
	"github.com/coppice-go/coppice/node/install"
	"github.com/coppice-go/coppice/node/offline"
	"github.com/coppice-go/coppice/node/plan"
	apiv1 "github.com/coppice-go/coppice/proto/coppice/api/v1"
	logv1 "github.com/coppice-go/coppice/proto/coppice/log/v1"
)

// I1, for a backup of a running node: every transaction that was acknowledged before the call is in
// it, with its result or without. The restored home verifies, goes on, and counts its records as
// the old home did.
func TestABackupUnderLoadHasAllThatWasAcknowledged(t *testing.T) {
	dir := t.TempDir()
	_, err := home.Init(dir, home.InitOptions{ChainID: "backup", Listen: "127.0.0.1:0", Profile: plan.Chaos})
	require.NoError(t, err)
	n := startOnDisk(t, dir, vfs.Default)
	known := newCounted()
	known.settled = newCounted()
	ctx, stopLoad := context.WithCancel(t.Context())
	var load sync.WaitGroup
	enough := make(chan struct{})
	load.Go(func() {
		for i := 0; ctx.Err() == nil; i++ {
			key := "k" + strconv.Itoa(i)
			body, err := kv.Encode(kv.Add([]byte(key), 1))
			require.NoError(t, err)
			raw, err := chain.NewTx("kv", body, 5*time.Minute).Encode()
			require.NoError(t, err)
			out, err := n.pool.Submit(ctx, [][]byte{raw})
			if err != nil {
				continue
			}

			require.NoError(t, out[0].Err)
			known.mu.Lock()
			known.acked[out[0].ID] = key
			acked := len(known.acked)
			known.mu.Unlock()

			if acked == 300 { // counted by answers: a submission may be refused while the pool is full
				close(enough)
			}
		}
	})
	<-enough
	_, _, err = n.snaps.Create(t.Context())
	require.NoError(t, err)
	acked, _ := known.snapshot()
	dest := filepath.Join(t.TempDir(), "backup")
	w, err := backup.NewWriter(dest, backup.Options{Program: "test"})
	require.NoError(t, err)
	require.NoError(t, n.snaps.Backup(t.Context(), w.Take))
	stopLoad()
	load.Wait()
	info, err := w.Finish(t.Context())
	require.NoError(t, err)
	n.stopNow(t)

	require.NoFileExists(t, filepath.Join(dest, "admin.token"))
	again := filepath.Join(t.TempDir(), "home")
	restored, err := offline.Restore(t.Context(), dest, again, nil)
	require.NoError(t, err)
	require.Equal(t, info.AppHash, restored.AppHash)
	v, err := offline.Verify(t.Context(), again, offline.VerifyOptions{})
	require.NoError(t, err)
	require.Equal(t, info.Height, v.Height)
	require.EqualValues(t, info.AppHash, v.AppHash, "the app hash is the backup's (I3)")
	n = startOnDisk(t, again, vfs.Default)
	defer n.stopNow(t)

	n.check(t, &counted{acked: acked, hashes: map[uint64]string{}, settled: newCounted()}, 0)
}

// backedUp makes a stopped home in which a transaction waits, and its backup.
func backedUp(t *testing.T) (home, dest string, waits chain.TxID) {
	t.Helper()
	home = stopped(t)
	h := driveHome(t, home)
	waits = h.submit(h.tx(kv.Put([]byte("waiting"), []byte("yes")), time.Minute))[0].ID
	b := h.next(h.tx(kv.Add([]byte("n"), 1), time.Minute))
	h.order(b)
	h.commit(b)
	h.close()
	dest = filepath.Join(t.TempDir(), "backup")
	_, err := offline.Backup(t.Context(), home, dest,
		backup.Options{Program: "test", Token: []byte("a token of twenty letters\n")})
	require.NoError(t, err)

	return home, dest, waits
}

// The log of a restored home begins with its Base. Replay and verify start there, and a transaction
// that waited still waits.
func TestARestoredHomeBeginsWithItsBase(t *testing.T) {
	dir, dest, waits := backedUp(t)
	old := logID(t, dir)
	again := filepath.Join(t.TempDir(), "home")
	info, err := offline.Restore(t.Context(), dest, again, nil)
	require.NoError(t, err)
	require.EqualValues(t, 8, info.First, "TxLaunched of what waits")
	l, err := eventlog.OpenReadOnly(home.LogDir(again), eventlog.Options{})
	require.NoError(t, err)
	require.NotEqual(t, old, l.ID())
	base, err := install.BaseOf(l)
	require.NoError(t, err)
	require.EqualValues(t, 7, l.First())
	require.Equal(t, old[:], base.OriginLogId)
	require.EqualValues(t, 4, base.Height)
	require.EqualValues(t, info.AppHash, base.AppHash)
	require.NoError(t, l.Close())
	token, err := home.ReadToken(filepath.Join(again, "admin.token"))
	require.NoError(t, err)
	require.Equal(t, "a token of twenty letters", token)

	v, err := offline.Verify(t.Context(), again, offline.VerifyOptions{})
	require.NoError(t, err)
	require.Equal(t, info.Snapshot, v.Base)
	require.EqualValues(t, 1, v.Unfinished)
	work(t, again, 2)
	h := driveHome(t, again)
	require.True(t, endOf(t, h, waits).Known, "it was acknowledged (I1)")
	h.close()
	_, err = offline.RestoreSnapshot(t.Context(), again, "", nil)
	require.NoError(t, err, "the snapshot that the log begins with")
	work(t, again, 1)
	v, err = offline.Verify(t.Context(), again, offline.VerifyOptions{})
	require.NoError(t, err)
	require.EqualValues(t, 7, v.Height)
	require.EqualValues(t, 3, v.Blocks, "from the Base on")

	require.NoError(t, os.RemoveAll(home.StateDir(again)))
	code, err := startCode(t, again)
	require.Equal(t, exit.Damage, code)
	require.ErrorContains(t, err, "the log begins with the Base of a restored state at height 4")
}

// I10: a backup that is not whole is refused, and a home is never overwritten.
func TestABackupThatIsNotWholeIsRefused(t *testing.T) {
	home, dest, _ := backedUp(t)
	_, err := offline.Restore(t.Context(), dest, home, nil)
	require.ErrorIs(t, err, exit.ErrConfig)
	require.ErrorContains(t, err, "is not empty")
	_, err = offline.Backup(t.Context(), home, dest, backup.Options{})
	require.ErrorContains(t, err, "is not empty")
	_, err = offline.Restore(t.Context(), t.TempDir(), filepath.Join(t.TempDir(), "h"), nil)
	require.ErrorContains(t, err, "is no backup of coppice")

	for name, damage := range map[string]func(t *testing.T, dir string){
		"a table": func(t *testing.T, dir string) { flipIn(t, filepath.Join(dir, "snapshots", "*", "*.sst")) },
		"the log": func(t *testing.T, dir string) { flipIn(t, filepath.Join(dir, "log", "*.seg")) },
		"what it says of itself": func(t *testing.T, dir string) {
			info, err := backup.Read(dir)
			require.NoError(t, err)
			info.Last--
			data, err := json.Marshal(info)
			require.NoError(t, err)
			require.NoError(t, os.WriteFile(filepath.Join(dir, backup.FileName), data, 0o600))
		},
		"its program": func(t *testing.T, dir string) {
			swapIn(t, filepath.Join(dir, backup.FileName), `"test"`, `"tesd"`)
		},
		"the genesis": func(t *testing.T, dir string) { flipIn(t, filepath.Join(dir, chain.GenesisFile)) },
		"the configuration": func(t *testing.T, dir string) {
			swapIn(t, filepath.Join(dir, config.FileName), "\n", "\n\n")
		},
		"no genesis": func(t *testing.T, dir string) {
			require.NoError(t, os.Remove(filepath.Join(dir, chain.GenesisFile)))
		},
		"no token": func(t *testing.T, dir string) {
			require.NoError(t, os.Remove(filepath.Join(dir, "admin.token")))
		},
		"no backup.json": func(t *testing.T, dir string) {
			require.NoError(t, os.Remove(filepath.Join(dir, backup.FileName)))
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "backup")
			require.NoError(t, os.CopyFS(dir, os.DirFS(dest)))
			damage(t, dir)
			again := filepath.Join(t.TempDir(), "home")
			_, err := offline.Restore(t.Context(), dir, again, nil)
			require.ErrorIs(t, err, exit.ErrDamage)
			require.NoDirExists(t, again)
		})
	}
}

func flipIn(t *testing.T, pattern string) {
	t.Helper()
	list, err := filepath.Glob(pattern)
	require.NoError(t, err)
	require.NotEmpty(t, list)
	b, err := os.ReadFile(list[0])
	require.NoError(t, err)
	b[min(len(b)/2, 4200)] ^= 1
	require.NoError(t, os.WriteFile(list[0], b, 0o600))
}

// A backup that is cut short leaves nothing behind, and parts that do not belong to it are refused.
// A node that was cut off before its state was written has everything that it acknowledged in its
// log: such a node does not count as "never started".
func TestABackupOfAnEmptyStateTellsWhatTheLogHas(t *testing.T) {
	h := drive(t)
	require.NoError(t, h.submit(h.tx(kv.Put([]byte("k"), []byte("v")), time.Minute))[0].Err)
	h.close()

	empty := h.home
	for name, harm := range map[string]func(){
		"emptied": func() {
			require.NoError(t, os.RemoveAll(home.StateDir(empty)))
			db, err := storage.Open(home.StateDir(empty), storage.Options{})
			require.NoError(t, err)
			require.NoError(t, db.Close())
		},
		"gone": func() { require.NoError(t, os.RemoveAll(home.StateDir(empty))) },
	} {
		harm()
		_, err := offline.Backup(t.Context(), empty, filepath.Join(t.TempDir(), "backup"),
			backup.Options{Program: "test"})
		require.ErrorContains(t, err, "the state is empty, but the log has", name)
		_, _, err = offline.CreateSnapshot(t.Context(), empty, offline.SnapshotOptions{Program: "test"})
		require.ErrorContains(t, err, "the state is empty, but the log has", name)
	}
}

func TestABackupThatIsCutShortLeavesNothing(t *testing.T) {
	home := stopped(t)
	h := driveHome(t, home)
	defer h.close()

	cut := errors.New("cut")

	for stop := range 9 {
		dest := filepath.Join(t.TempDir(), "backup")
		w, err := backup.NewWriter(dest, backup.Options{})
		require.NoError(t, err)
		parts := 0
		err = h.snaps.Backup(t.Context(), func(p *apiv1.BackupResponse) error {
			if parts++; parts > stop {
				return cut
			}
			return w.Take(p)
		})
		require.ErrorIs(t, err, cut)
		_, err = w.Finish(t.Context())
		require.ErrorContains(t, err, "is not complete")
		w.Abandon()
		require.NoDirExists(t, dest)
		require.NoDirExists(t, dest+backup.PartialSuffix)
	}

	w, err := backup.NewWriter(filepath.Join(t.TempDir(), "backup"), backup.Options{})
	require.NoError(t, err)
	defer w.Abandon()

	require.ErrorContains(t, w.Take(
		&apiv1.BackupResponse{Part: &apiv1.BackupResponse_File{File: &apiv1.BackupFile{Name: "../../x"}}}),
		"does not belong in a backup")
	require.ErrorContains(t, w.Take(&apiv1.BackupResponse{}), "unknown part")
}

// A snapshot of another node of the chain takes the place of the state, and the log records that:
// replay and verify go on from there. After a crash between the record and the new state, the next
// start finishes the installation.
func TestASnapshotOfAnotherNodeIsInstalled(t *testing.T) {
	from, to := t.TempDir(), t.TempDir()
	g, err := home.Init(from, home.InitOptions{ChainID: "test", Listen: "127.0.0.1:0", Profile: plan.Chaos})
	require.NoError(t, err)
	_, err = home.Init(to, home.InitOptions{Genesis: &g, Listen: "127.0.0.1:0", Profile: plan.Chaos})
	require.NoError(t, err)

	for _, home := range []string{from, to} {
		h := driveHome(t, home)
		_, err := h.ordering.InitChain(t.Context(), h.genesis)
		require.NoError(t, err)
		h.close()
	}

	work(t, from, 5)
	m, _, err := offline.CreateSnapshot(t.Context(), from, offline.SnapshotOptions{Program: "test"})
	require.NoError(t, err)
	at := filepath.Join(home.SnapshotDir(to), m.ID)
	require.NoError(t, os.CopyFS(at, os.DirFS(filepath.Join(home.SnapshotDir(from), m.ID))))
	m.Source = "a node of the chain"
	data, err := json.Marshal(m)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(at, "snapshot.json"), data, 0o600))
	_, err = offline.RestoreSnapshot(t.Context(), to, m.ID, nil)
	require.ErrorContains(t, err, "no record installed that snapshot")

	// The log records the installation, and then the process dies.
	require.NoError(t, durable.On(vfs.Default).Replace(install.MarkerPath(to), []byte(m.ID), 0o666))
	l, err := eventlog.Open(home.LogDir(to), eventlog.Options{})
	require.NoError(t, err)
	rec, err := chain.NewRecord(&logv1.SnapshotInstalled{ChainId: m.ChainID, Period: m.Period, Height: m.Height,
		AppHash: m.AppHash, SnapshotHash: m.Hash(), Source: m.Source})
	require.NoError(t, err)
	_, err = l.AppendWait(t.Context(), rec)
	require.NoError(t, err)
	require.NoError(t, l.Close())
	work(t, to, 2)
	v, err := offline.Verify(t.Context(), to, offline.VerifyOptions{})
	require.NoError(t, err)
	require.EqualValues(t, 7, v.Height)
	require.EqualValues(t, 2, v.Blocks)
	require.Equal(t, m.ID, v.Base)

	_, err = offline.InstallSnapshot(t.Context(), to, m.ID, nil)
	require.ErrorContains(t, err, "want a snapshot of the same chain that is ahead of the log")
	work(t, from, 5)
	next, _, err := offline.CreateSnapshot(t.Context(), from, offline.SnapshotOptions{Program: "test"})
	require.NoError(t, err)
	require.NoError(t, os.CopyFS(filepath.Join(home.SnapshotDir(to), next.ID),
		os.DirFS(filepath.Join(home.SnapshotDir(from), next.ID))))
	_, err = offline.InstallSnapshot(t.Context(), to, next.ID, nil)
	require.NoError(t, err)
	work(t, to, 1)
	v, err = offline.Verify(t.Context(), to, offline.VerifyOptions{})
	require.NoError(t, err)
	require.EqualValues(t, 11, v.Height)
	_, err = snapshots.Dir{FS: vfs.Default, Path: home.SnapshotDir(to)}.Find(m.ID)
	require.NoError(t, err)
}

func swapIn(t *testing.T, path, old, now string) {
	t.Helper()
	b, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Contains(t, string(b), old)
	require.NoError(t, os.WriteFile(path, []byte(strings.Replace(string(b), old, now, 1)), 0o600))
}

// verify compares the genesis with the log, as a start does.
func TestVerifyRefusesAnotherGenesis(t *testing.T) {
	home := stopped(t)
	v, err := offline.Verify(t.Context(), home, offline.VerifyOptions{SkipReplay: true})
	require.NoError(t, err)
	swapIn(t, filepath.Join(home, chain.GenesisFile), `"chain_id": "`+v.ChainID, `"chain_id": "another-`+v.ChainID)
	_, err = offline.Verify(t.Context(), home, offline.VerifyOptions{SkipReplay: true})
	require.Equal(t, exit.Config, exit.Code(err), "%v", err)
	require.ErrorContains(t, err, "genesis does not match: chain "+v.ChainID+" has already started")
}

// A home whose consensus has lost its files, or whose kind of consensus gives none to a backup, has
// no backup.
func TestABackupWithoutTheFilesOfTheConsensusIsNone(t *testing.T) {
	home := stopped(t)
	setConsensus(t, home)
	dest := filepath.Join(t.TempDir(), "backup")
	_, err := offline.Backup(t.Context(), home, dest, backup.Options{})
	require.ErrorContains(t, err, "comet does not exist")
	require.Equal(t, exit.Config, exit.Code(err))
	require.NoDirExists(t, dest)

	n := new(Node)
	n.home, n.kind = home, comet.Kind{} // its driver is another
	_, err = n.copier()
	require.NoError(t, err, "it has no files")
	require.NoError(t, os.Mkdir(filepath.Join(home, "comet"), 0o700))
	_, err = n.copier()
	require.ErrorContains(t, err, "a home with consensus cometbft has files that no backup has")
	require.Equal(t, exit.Config, exit.Code(err))
}

func setConsensus(t *testing.T, home string) {
	t.Helper()
	require.NoError(t, os.WriteFile(filepath.Join(home, config.FileName),
		[]byte("[consensus]\nkind = \"cometbft\"\n"), 0o600))
}
