package node

import (
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
	"github.com/stretchr/testify/require"

	"github.com/coppice-go/coppice/engines/backend/kv"
	"github.com/coppice-go/coppice/engines/chain"
	"github.com/coppice-go/coppice/engines/storage"
	"github.com/coppice-go/coppice/node/api"
	"github.com/coppice-go/coppice/node/backup"
	"github.com/coppice-go/coppice/node/config"
	"github.com/coppice-go/coppice/node/exit"
	"github.com/coppice-go/coppice/node/home"
	"github.com/coppice-go/coppice/node/offline"
	"github.com/coppice-go/coppice/supervisor"
	"github.com/coppice-go/coppice/supervisor/suptest"
)

// stopped makes a home with some blocks in it, whose node was stopped in order.
func stopped(t *testing.T) string {
	t.Helper()
	h := drive(t)

	for range 3 {
		b := h.next(h.tx(kv.Add([]byte("n"), 1), time.Minute))
		h.order(b)
		h.commit(b)
	}

	h.close()
	return h.home
}

// startCode returns the exit code of a start that fails.
func startCode(t *testing.T, home string) (int, error) {
	t.Helper()
	c, err := config.Load(home)
	require.NoError(t, err)
	n, err := New(home, c)
	if err == nil {
		err = n.Run(t.Context())
	}
	return exit.Code(err), err
}

// A start and verify report damage with exit code 5, and likewise parts that do not belong
// together. A foreign genesis is a matter of configuration (exit code 3).
func TestDamageHasItsExitCode(t *testing.T) {
	for name, tc := range map[string]struct {
		do            func(t *testing.T, home string)
		start, verify int
		says          string
	}{
		"the log is gone": {func(t *testing.T, dir string) {
			require.NoError(t, os.RemoveAll(home.LogDir(dir)))
		}, exit.Damage, exit.Damage, ""},
		"the log is another home's": {func(t *testing.T, dir string) {
			other := drive(t)
			other.close()
			require.NoError(t, os.RemoveAll(home.LogDir(dir)))
			require.NoError(t, os.Rename(home.LogDir(other.home), home.LogDir(dir)))
		}, exit.Damage, exit.Damage, "the log"},
		"the state's tables are gone": {func(t *testing.T, dir string) {
			tables, err := filepath.Glob(filepath.Join(home.StateDir(dir), "*.sst"))
			require.NoError(t, err)
			require.NotEmpty(t, tables)
			for _, f := range tables {
				require.NoError(t, os.Remove(f))
			}
		}, exit.Damage, exit.Damage, "sst"},
		"another genesis": {func(t *testing.T, home string) {
			path := filepath.Join(home, chain.GenesisFile)
			b, err := os.ReadFile(path)
			require.NoError(t, err)
			require.NoError(t,
				os.WriteFile(path, []byte(strings.Replace(string(b), `"max_tx_ops": 10000`, `"max_tx_ops": 3`, 1)),
					0o644))
		}, exit.Config, exit.Config, "genesis does not match"},
	} {
		t.Run(name, func(t *testing.T) {
			home := stopped(t)
			tc.do(t, home)
			_, err := offline.Verify(t.Context(), home, offline.VerifyOptions{})
			require.Equal(t, tc.verify, exit.Code(err), "verify: %v", err)

			if name == "another genesis" { // the shipped driver compares it
				dest := filepath.Join(t.TempDir(), "backup")
				_, err := offline.Backup(t.Context(), home, dest, backup.Options{Program: "test"})
				require.Equal(t, exit.Config, exit.Code(err), "what would not start is not backed up: %v", err)
				require.NoDirExists(t, dest)
				code, err := startCode(t, home)
				require.Equal(t, tc.start, code, "start: %v", err)
				require.ErrorContains(t, err, tc.says)
				return
			}

			code, err := startCode(t, home)
			require.Equal(t, tc.start, code, "start: %v", err)
			require.ErrorContains(t, err, tc.says)
		})
	}
}

// A state that is gone is rebuilt from the log.
func TestAStateThatIsGoneIsMadeAgain(t *testing.T) {
	dir := stopped(t)
	require.NoError(t, os.RemoveAll(home.StateDir(dir)))
	_, err := offline.Verify(t.Context(), dir, offline.VerifyOptions{})
	require.NoError(t, err)
	h := driveHome(t, dir)
	defer h.close()

	value, _, _, err := h.store.Get(t.Context(), []byte("n"), 0)
	require.NoError(t, err)
	require.Equal(t, "3", string(value))
}

func TestVerifyChangesNothing(t *testing.T) {
	home := stopped(t)
	sums := func() (all []string) {
		require.NoError(t, filepath.WalkDir(home, func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			b, err := os.ReadFile(path)
			all = append(all, fmt.Sprintf("%s %x", path, sha256.Sum256(b)))
			return err
		}))
		return all
	}
	before := sums()
	v, err := offline.Verify(t.Context(), home, offline.VerifyOptions{})
	require.NoError(t, err)
	require.EqualValues(t, 3, v.Height)
	require.EqualValues(t, 3, v.State)
	require.Equal(t, before, sums())
}

// Requests for the same few keys, again and again, must not fill the node's memory.
func TestAReadIsBounded(t *testing.T) {
	h := drive(t)
	defer h.close()

	b := h.next(h.tx(kv.Put([]byte("k"), make([]byte, 100_000)), time.Minute))
	h.order(b)
	h.commit(b)
	keys := make([][]byte, 50)
	for i := range keys {
		keys[i] = []byte("k")
	}

	back := newAPICore(h.Node, h.core.Load())
	_, err := back.Get(t.Context(), keys, 0, 1<<20)
	require.ErrorIs(t, err, api.ErrTooMuch)
	require.ErrorContains(t, err, "the values of the first 11 of 50 have 1100000 bytes, want at most 1048576")
	_, err = back.Get(t.Context(), keys, 0, 5_000_000)
	require.NoError(t, err)
}

// rotten is a disk whose tables cannot be read any more once the flag is set.
type rotten struct{ set atomic.Bool }

func (r *rotten) MaybeError(op errorfs.Op) error {
	if r.set.Load() && op.Kind == errorfs.OpFileReadAt && strings.HasSuffix(op.Path, ".sst") {
		return pebble.ErrCorruption
	}
	return nil
}

func (r *rotten) String() string { return "rotten tables" }

// submit submits a transaction until a node that runs takes it, and does not wait for its result.
func (n *diskNode) submit(t *testing.T, ops ...kv.Op) chain.TxID {
	t.Helper()
	body, err := kv.Encode(ops...)
	require.NoError(t, err)
	raw, err := chain.NewTx("kv", body, time.Minute).Encode()
	require.NoError(t, err)

	for {
		out, err := n.pool.Submit(t.Context(), [][]byte{raw})
		if err != nil && len(n.ended) == 0 { // the chain has not started, or the pool is down for a moment
			runtime.Gosched()
			continue
		}
		if err == nil {
			require.NoError(t, out[0].Err)
		}
		return chain.HashTx(raw)
	}
}

// Damage that the node meets while it runs ends it at once, with the exit code of damage: no
// restart mends a table, and each would read it again.
func TestDamageMetWhileRunningEndsTheNodeAtOnce(t *testing.T) {
	for name, meet := range map[string]func(t *testing.T, n *diskNode){
		"by a read": func(t *testing.T, n *diskNode) {
			_, _, _, err := n.store.Get(t.Context(), []byte("k1"), 0)
			require.ErrorIs(t, err, storage.ErrDamaged)
		},
		"by a block": func(t *testing.T, n *diskNode) {
			n.submit(t, kv.Add([]byte("k1"), 1))
		},
		"by a block after a kill": func(t *testing.T, n *diskNode) {
			require.NoError(t, n.Supervisor().Kill(corePath+"/storage", errors.New("cut")))
			n.submit(t, kv.Add([]byte("k1"), 1))
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			_, err := home.Init(dir, home.InitOptions{ChainID: "rotten", Listen: "127.0.0.1:0"})
			require.NoError(t, err)
			mem := vfs.NewCrashableMem()
			n := startOnDisk(t, dir, mem)
			// Blocks of the table before it and after it, so that the start does not read the one
			// that has it.
			ops := []kv.Op{kv.Add([]byte("k1"), 1)}

			for i := range 20 {
				value := make([]byte, 1000)
				rand.Read(value)
				ops = append(ops, kv.Put(fmt.Appendf(nil, "%c%d", "az"[i%2], i), value))
			}

			ends, err := n.pool.Wait(t.Context(), []chain.TxID{n.submit(t, ops...)})
			require.NoError(t, err)
			require.NotNil(t, ends[0].Result)
			n.stopNow(t)

			disk := new(rotten)
			n = startOnDisk(t, dir, errorfs.Wrap(mem, disk))
			disk.set.Store(true)
			meet(t, n)
			err = <-n.ended
			require.ErrorIs(t, err, exit.ErrDamage)
			require.Equal(t, exit.Damage, exit.Code(err))
			require.ErrorContains(t, err, "the state is damaged")
			require.Zero(t, suptest.Count(n.rec, func(e supervisor.GaveUp) bool {
				return e.Path == "coppice" || e.Path == "coppice/node"
			}), "no limit is used up first:\n%v", n.rec)
		})
	}
}

// A home that had a log and has none does not begin anew, because its file system may not be
// mounted. The transactions that it acknowledged would silently be lost (I1).
func TestAHomeWhoseDataAreGoneDoesNotBeginAnew(t *testing.T) {
	home := stopped(t)
	away := filepath.Join(t.TempDir(), "data")
	require.NoError(t, os.Rename(filepath.Join(home, "data"), away))
	code, err := startCode(t, home)
	require.Equal(t, exit.Damage, code)
	require.ErrorContains(t, err, "is its file system mounted?")
	_, err = offline.Verify(t.Context(), home, offline.VerifyOptions{})
	require.ErrorIs(t, err, exit.ErrDamage)
	_, err = offline.Backup(t.Context(), home, filepath.Join(t.TempDir(), "backup"), backup.Options{})
	require.ErrorIs(t, err, exit.ErrDamage)
	require.NoError(t, os.RemoveAll(filepath.Join(home, "data")))
	require.NoError(t, os.Rename(away, filepath.Join(home, "data")))
	work(t, home, 1)
}

// A verification that was killed leaves a state behind. The next verification removes it.
func TestVerifyRemovesWhatAKilledOneLeft(t *testing.T) {
	home := stopped(t)
	left := filepath.Join(home, "data", "verify-1")
	require.NoError(t, os.MkdirAll(filepath.Join(left, "state"), 0o700))
	_, err := offline.Verify(t.Context(), home, offline.VerifyOptions{})
	require.NoError(t, err)
	require.NoDirExists(t, left)
}
