package snapshots

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/coppice-go/coppice/engines/chain"
	"github.com/coppice-go/coppice/engines/storage"
	"github.com/coppice-go/coppice/engines/storage/durable"
	logv1 "github.com/coppice-go/coppice/proto/coppice/log/v1"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const stateDir = "home/state"

var (
	logID   = [16]byte{1, 2, 3}
	genesis = time.Unix(1_700_000_000, 0)
)

// state is a state on a disk, to which blocks are added.
type state struct {
	t  *testing.T
	fs vfs.FS
	db *storage.DB
}

func newState(t *testing.T, fs vfs.FS) *state {
	t.Helper()
	s := &state{t: t, fs: fs, db: open(t, fs)}
	require.NoError(t, s.db.BindLog(logID))
	require.NoError(t, s.db.StartChain(1, &logv1.ChainStarted{
		ChainId: "snap", InitialHeight: 1, GenesisTimeNs: genesis.UnixNano(), Params: chain.DefaultParams(),
	}))
	return s
}

func open(t *testing.T, fs vfs.FS) *storage.DB {
	t.Helper()
	db, err := storage.Open(stateDir, storage.Options{FS: fs, MemTableBytes: 1 << 20, CacheBytes: 1 << 20})
	require.NoError(t, err)
	return db
}

// blocks commits n blocks of one write each.
func (s *state) blocks(n int) {
	s.t.Helper()
	for range n {
		at := s.db.State()
		raw, err := chain.Tx{Backend: "kv", Nonce: fmt.Appendf(nil, "%d", at.Height),
			ValidUntil: genesis.Add(time.Minute)}.Encode()
		require.NoError(s.t, err)
		b := chain.Block{ChainID: at.ChainID, Height: at.Next(), Time: genesis, Txs: [][]byte{raw}}
		b.Hash = b.ContentHash()
		_, err = s.db.Begin(b)
		require.NoError(s.t, err)
		v := chain.Version{Height: b.Height}
		require.NoError(s.t, s.db.Finish(v,
			[]*logv1.Change{{Version: v.Proto(), Key: fmt.Appendf(nil, "k%d", b.Height%5),
				Value: fmt.Appendf(nil, "%d", b.Height)}}, &logv1.TxResult{}))
		staged, err := s.db.Seal()
		require.NoError(s.t, err)
		require.NoError(s.t, s.db.Commit(at.Index+1, &logv1.BlockCommitted{
			ChainId: b.ChainID, Height: b.Height, BlockHash: b.Hash, TimeNs: b.Time.UnixNano(), Results: staged.Results,
			Changes: staged.Changes, AppHash: staged.AppHash,
		}))
	}
}

func (s *state) dir() Dir { return Dir{FS: s.fs, Path: "home/snapshots"} }

func (s *state) taking() Taking {
	return Taking{Checkpoint: func(_ context.Context, dir string) error {
		return s.db.Checkpoint(dir)
	}, Program: "test", Now: genesis}
}

func TestASnapshotIsWhatTheStateWas(t *testing.T) {
	s := newState(t, vfs.NewMem())
	defer s.db.Close()

	s.blocks(10)
	m, err := s.dir().Take(t.Context(), s.taking())
	require.NoError(t, err)
	require.Equal(t, "0-10-11", m.ID)
	require.EqualValues(t, s.db.State().AppHash, m.AppHash)
	require.EqualValues(t, s.db.Root(), m.StateRoot)
	require.EqualValues(t, logID[:], m.LogID)
	require.EqualValues(t, 5, m.Keys)
	require.EqualValues(t, 10, m.IDs)

	_, err = s.dir().Take(t.Context(), s.taking())
	require.ErrorIs(t, err, ErrExists, "the state has not moved")

	s.blocks(10) // the snapshot does not change
	_, err = s.dir().Take(t.Context(), s.taking())
	require.NoError(t, err)
	s.blocks(1)
	newest, err := s.dir().Take(t.Context(), s.taking())
	require.NoError(t, err)

	for _, id := range []string{"0-10-11", "0-20-21", ""} {
		_, err := s.dir().Verify(t.Context(), id, nil)
		require.NoError(t, err)
	}

	found, err := s.dir().Find("")
	require.NoError(t, err)
	require.Equal(t, newest.ID, found.ID)
	require.NotEqual(t, m.Hash(), found.Hash())

	removed, err := s.dir().Keep(1, func(m Manifest) bool { return m.Height == 20 })
	require.NoError(t, err)
	require.Equal(t, []string{"0-10-11"}, removed, "20 is pinned")
	_, err = s.dir().Find("0-10-11")
	require.ErrorIs(t, err, ErrNone)

	for _, id := range []string{"../state", "tmp-new", "nothing"} {
		_, err = s.dir().Find(id)
		require.ErrorIs(t, err, ErrNone, id)
	}
}

// cutting clones the disk at one operation, as a power failure there would leave it.
type cutting struct {
	mem   *vfs.MemFS
	at    int64
	keep  int
	rng   *rand.Rand
	ops   atomic.Int64
	after *vfs.MemFS
}

func (c *cutting) fs() vfs.FS {
	return errorfs.Wrap(c.mem, errorfs.InjectorFunc(func(op errorfs.Op) error {
		if op.Kind == errorfs.OpLink {
			return errors.New("no links on this disk") // MemFS's own Link may wait for itself if it is cloned meanwhile
		}
		if c.ops.Add(1) == c.at {
			c.after = c.mem.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: c.keep, RNG: c.rng})
		}
		return nil
	}))
}

// stride returns the distance between the crashes of a test; with COPPICE_SOAK, there is one at
// each operation.
func stride() int64 {
	if os.Getenv("COPPICE_SOAK") != "" {
		return 1
	}
	return 13
}

// crashable returns a disk that has a durable home.
func crashable(t *testing.T) *vfs.MemFS {
	t.Helper()
	disk := vfs.NewCrashableMem()
	require.NoError(t, disk.MkdirAll(stateDir, 0o700))
	for _, dir := range []string{"/", "home"} {
		require.NoError(t, durable.On(disk).SyncDir(dir))
	}
	return disk
}

// A crash at each operation of taking and removing snapshots: afterwards, every listed snapshot is
// complete, half-made ones are gone, the state opens, and a snapshot that Take returned is there.
func TestACrashWhileASnapshotIsTakenLeavesNoHalfOne(t *testing.T) {
	for start, keep := range []int{0, 50, 100} {
		crashes := 0
		for at := int64(1 + start); ; at += stride() {
			disk := crashable(t)
			s := newState(t, disk)
			s.blocks(3)
			require.NoError(t, s.db.Close())
			c := &cutting{mem: disk, at: at, keep: keep, rng: rand.New(rand.NewPCG(1, uint64(at)))}
			s = &state{t: t, fs: c.fs(), db: open(t, c.fs())}
			told := []string{}
			take := func() {
				m, err := s.dir().Take(t.Context(), s.taking())
				require.NoError(t, err)
				if c.after == nil {
					told = append(told, m.ID)
				}
			}
			take()
			s.blocks(2)
			take()
			if c.after == nil {
				told = told[1:] // it may be removed from here on
			}

			_, err := s.dir().Keep(1, nil)
			require.NoError(t, err)
			require.NoError(t, s.db.Close())
			if c.after == nil {
				break
			}

			crashes++
			d := Dir{FS: c.after, Path: "home/snapshots"}
			_, err = d.Settle()
			require.NoError(t, err)
			names, err := c.after.List(d.Path)
			require.NoError(t, err)
			listed := []string{}

			for _, name := range names {
				require.False(t, durable.IsTemporary(name))
				_, err := d.Verify(t.Context(), name, nil)
				require.NoError(t, err, "crash at operation %d, %d %% kept", at, keep)
				listed = append(listed, name)
			}

			require.Subset(t, listed, told)
			require.NoError(t, open(t, c.after).Close())
		}

		require.Greater(t, crashes, 10)
	}
}

// A crash at each operation of an installation: the state is the old one or the new one, and it is
// the new one if Install had returned.
func TestACrashWhileASnapshotIsInstalledLeavesOneState(t *testing.T) {
	for start, keep := range []int{0, 50, 100} {
		crashes, heights := 0, map[uint64]int{}
		for at := int64(1 + start); ; at += stride() {
			disk := crashable(t)
			c := &cutting{mem: disk, keep: keep, rng: rand.New(rand.NewPCG(2, uint64(at)))}
			fs := c.fs()
			s := newState(t, fs)
			s.blocks(3)
			m, err := s.dir().Take(t.Context(), s.taking())
			require.NoError(t, err)
			s.blocks(4)
			require.NoError(t, s.db.Close())
			c.ops.Store(0)
			c.at = at
			_, err = s.dir().Install(t.Context(), m.ID, Installing{State: stateDir, LogID: [16]byte{9}, Index: 77})
			require.NoError(t, err)
			installed := c.after == nil
			require.NoError(t, Discard(fs, stateDir))

			if c.after == nil {
				db := open(t, fs)
				require.EqualValues(t, 3, db.State().Height)
				require.NoError(t, db.Close())
				break
			}

			crashes++
			require.NoError(t, Recover(c.after, stateDir))
			there, err := exists(c.after, stateDir)
			require.NoError(t, err)
			require.True(t, there, "crash at operation %d, %d %% kept: there is no state", at, keep)
			db := open(t, c.after)
			require.NoError(t, db.VerifyScan(t.Context(), nil))
			id, _, err := db.LogID()
			require.NoError(t, err)
			heights[db.State().Height]++

			switch db.State().Height {
			case 3:
				require.Equal(t, [16]byte{9}, id)
				require.EqualValues(t, 77, db.State().Index)
			case 7:
				require.False(t, installed, "crash at operation %d: it was told that the snapshot is installed", at)
				require.Equal(t, logID, id)
			default:
				t.Fatalf("a state at height %d", db.State().Height)
			}

			require.NoError(t, db.Close())
		}

		require.Greater(t, crashes, 10)
		if stride() == 1 {
			require.Len(t, heights, 2)
		}
	}
}

// A disk that is full or fails, at each operation: the error says so, no half-made snapshot is
// listed, and the state continues.
func TestAFailingDiskLeavesNoHalfSnapshot(t *testing.T) {
	for _, cause := range []error{syscall.ENOSPC, syscall.EIO} {
		failures := 0
		for n := int64(0); ; n++ {
			disk := vfs.NewCrashableMem()
			s := newState(t, disk)
			s.blocks(3)
			var armed atomic.Bool
			var left atomic.Int64
			left.Store(n)
			failing := errorfs.Wrap(disk, errorfs.InjectorFunc(func(op errorfs.Op) error {
				if armed.Load() && op.Kind.ReadOrWrite() == errorfs.OpIsWrite && strings.Contains(op.Path,
					"snapshots") && op.Kind != errorfs.OpRemoveAll && left.Add(-1) < 0 {
					return cause
				}
				return nil
			}))
			require.NoError(t, s.db.Close())
			s = &state{t: t, fs: failing, db: open(t, failing)}
			armed.Store(true)
			_, err := s.dir().Take(t.Context(), s.taking())
			armed.Store(false)

			if err == nil {
				require.NoError(t, s.db.Close())
				break
			}

			failures++
			require.ErrorIs(t, err, cause)
			require.NoError(t, s.db.Err(), "the state is not what failed")
			_, err = s.dir().Settle()
			require.NoError(t, err)
			list, err := s.dir().List()
			require.NoError(t, err)

			for _, e := range list { // its name may be there and not yet durable
				_, err := s.dir().Verify(t.Context(), e.ID, nil)
				require.NoError(t, err)
			}

			s.blocks(1)
			require.NoError(t, s.db.Close())
		}

		require.Greater(t, failures, 5)
	}
}

// Every byte of a snapshot counts: a flipped byte or a missing file is reported with its name, and
// the snapshot is not installed.
func TestADamagedSnapshotIsRefused(t *testing.T) {
	fs := vfs.NewMem()
	s := newState(t, fs)
	s.blocks(20)
	m, err := s.dir().Take(t.Context(), s.taking())
	require.NoError(t, err)
	require.NoError(t, s.db.Close())

	for _, f := range m.Files {
		path := fs.PathJoin("home/snapshots", m.ID, f.Name)
		whole, err := readFile(fs, path)
		require.NoError(t, err)

		for name, damage := range map[string]func(b []byte) []byte{
			"flipped": func(b []byte) []byte {
				if len(b) == 0 {
					return []byte{1}
				}
				b[len(b)/2] ^= 4
				return b
			},
			"longer": func(b []byte) []byte { return append(b, 0) },
		} {
			require.NoError(t, durable.On(fs).Write(path, damage(append([]byte(nil), whole...)), 0o666))
			_, err = s.dir().Verify(t.Context(), m.ID, nil)
			require.ErrorIs(t, err, ErrDamaged, "%s %s", f.Name, name)
			require.ErrorContains(t, err, f.Name)
			_, err = s.dir().Install(t.Context(), m.ID, Installing{State: stateDir})
			require.ErrorIs(t, err, ErrDamaged)
			// a MemFS may scramble what it was given
			require.NoError(t, durable.On(fs).Write(path, append([]byte(nil), whole...), 0o666))
		}
	}

	_, err = s.dir().Verify(t.Context(), m.ID, nil)
	require.NoError(t, err)
	manifest := fs.PathJoin("home/snapshots", m.ID, manifestName)
	whole, err := readFile(fs, manifest)
	require.NoError(t, err)

	for what, with := range map[string]string{`"height": 20`: `"height": 21`, `"format": 1`: `"format": 2`,
		`"keys"`: `"kes"`} {
		require.NoError(t, durable.On(fs).Write(manifest, []byte(strings.Replace(string(whole), what, with, 1)), 0o666))
		_, err = s.dir().Verify(t.Context(), m.ID, nil)
		require.ErrorIs(t, err, ErrDamaged, what)
		list, err := s.dir().List()
		require.NoError(t, err)
		require.Error(t, list[0].Err, "it is listed as what it is")
		usable, err := s.dir().Whole()
		require.NoError(t, err)
		require.Empty(t, usable)
	}
}

// An installation whose state cannot be read back is undone.
func TestAnInstallationCanBeUndone(t *testing.T) {
	fs := vfs.NewMem()
	s := newState(t, fs)
	s.blocks(2)
	m, err := s.dir().Take(t.Context(), s.taking())
	require.NoError(t, err)
	s.blocks(2)
	require.NoError(t, s.db.Close())
	require.ErrorIs(t, Undo(fs, stateDir), ErrNone)
	_, err = s.dir().Install(t.Context(), m.ID, Installing{State: stateDir})
	require.NoError(t, err)
	aside, err := Aside(fs, stateDir)
	require.NoError(t, err)
	require.True(t, aside)
	require.NoError(t, Undo(fs, stateDir))
	db := open(t, fs)
	require.EqualValues(t, 4, db.State().Height)
	require.NoError(t, db.Close())
}
