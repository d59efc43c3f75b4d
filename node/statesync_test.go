package node

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
	"github.com/stretchr/testify/require"

	"github.com/coppice-go/coppice/engines/consensus/comet/comettest"
	comethome "github.com/coppice-go/coppice/engines/consensus/comet/home"
	"github.com/coppice-go/coppice/engines/storage/portable"
	"github.com/coppice-go/coppice/eventlog/pebblefs"
	"github.com/coppice-go/coppice/node/config"
	"github.com/coppice-go/coppice/node/home"
	"github.com/coppice-go/coppice/node/host"
	"github.com/coppice-go/coppice/node/install"
	"github.com/coppice-go/coppice/node/offline"
	"github.com/coppice-go/coppice/node/statesync"
	"github.com/coppice-go/coppice/supervisor"
)

// joining is a node that offers a snapshot, and what a joining node gets of that snapshot.
type joining struct {
	*abciHand
	s      *comettest.Snapshot
	chunks [][]byte
	blocks []comettest.Block // from height 1 on
	next   []comettest.Block // those after the snapshot's height
}

const snapshotHeight = 4

// offering runs a node to the height of its first snapshot, and beyond.
func offering(t *testing.T) (j *joining, other string) {
	t.Helper()
	home := initABCI(t)
	require.NoError(t, os.WriteFile(filepath.Join(home, config.FileName), []byte(
		"listen = \"127.0.0.1:0\"\nprofile = \"chaos\"\n[consensus]\nkind = \"cometbft\"\nretain_blocks = "+
			"1\n[state_sync]\nevery_heights = 4\nkeep = 1\n"), 0o644))
	other = filepath.Join(t.TempDir(), "other")
	require.NoError(t, os.CopyFS(other, os.DirFS(home)))
	require.NoError(t, os.Chmod(filepath.Join(other, "admin.token"), 0o600))
	a := driveABCI(t, home)
	a.initChain()
	j = &joining{abciHand: a}

	for h := int64(1); h <= snapshotHeight+3; h++ {
		b := a.block(h, a.put(fmt.Sprintf("key %d", h)), a.put(fmt.Sprintf("more %d", h)))
		a.finalize(b)
		a.commitABCI()
		j.blocks = append(j.blocks, b)
	}

	j.next = j.blocks[snapshotHeight:]
	j.fetch(snapshotHeight)

	return j, other
}

// fetch waits until the node offers the snapshot of a height, and takes its chunks.
func (j *joining) fetch(height uint64) {
	j.t.Helper()
	require.Eventually(j.t, func() bool {
		list, err := j.c.Snapshots()
		require.NoError(j.t, err)
		if len(list) == 1 {
			j.s = list[0]
		}
		return j.s != nil
	}, time.Minute, 5*time.Millisecond)
	require.EqualValues(j.t, height, j.s.Height)

	for i := range j.s.Chunks {
		c, err := j.c.Chunk(j.s.Height, j.s.Format, i)
		require.NoError(j.t, err)
		require.NotEmpty(j.t, c)
		j.chunks = append(j.chunks, c)
	}
}

// vouch writes what the light client of the child would write.
func (j *joining) vouch(home string, height uint64) (appHash []byte) {
	j.t.Helper()
	m, err := j.store.Block(j.t.Context(), height)
	require.NoError(j.t, err)
	data, err := json.Marshal(map[string]any{"height": m.Height, "app_hash": m.AppHash, "block_hash": m.Hash,
		"time": m.Time})
	require.NoError(j.t, err)
	require.NoError(j.t, os.WriteFile(filepath.Join(comethome.Dir(home), "data", "statesync-trusted.json"),
		data, 0o600))
	return m.AppHash
}

// join takes the snapshot as CometBFT would.
func (j *joining) join(b *abciHand) {
	j.t.Helper()
	j.give(b, snapshotHeight)
}

// give offers the snapshot of a height with its chunks to a node.
func (j *joining) give(b *abciHand, height uint64) {
	j.t.Helper()
	hash := j.vouch(b.home, height)
	r, err := b.c.Offer(j.s, hash)
	require.NoError(j.t, err)
	require.Equal(j.t, "ACCEPT", r)

	for i, c := range j.chunks {
		r, err := b.c.Apply(uint32(i), c, "peer")
		require.NoError(j.t, err)
		require.Equal(j.t, "ACCEPT", r.Result)
	}

	h, have := b.info()
	require.EqualValues(j.t, height, h)
	require.Equal(j.t, hash, have)
}

// follow executes the blocks after the snapshot, and compares the app hashes.
func (j *joining) follow(b *abciHand) {
	j.t.Helper()
	at, _ := b.info()

	for _, blk := range j.next {
		if blk.Height <= at {
			continue
		}
		f := b.finalize(blk)
		b.commitABCI()
		m, err := j.store.Block(j.t.Context(), uint64(blk.Height))
		require.NoError(j.t, err)
		require.Equal(j.t, m.AppHash, f.AppHash)
	}
}

// A node begins with a peer's snapshot and goes on as the peer did, through kills of its engines, a
// restart, and verify.
func TestANodeBeginsWithASnapshotOfItsPeers(t *testing.T) {
	j, dir := offering(t)
	defer j.close()

	b := driveABCI(t, dir)
	list, err := b.c.Snapshots()
	require.NoError(t, err)
	require.Empty(t, list)
	j.join(b)
	require.EqualValues(t, 1, b.appended(), "SnapshotInstalled, and nothing else")
	j.join(b) // CometBFT died before it noted that it has the state
	require.EqualValues(t, 1, b.appended(), "which changes nothing")

	for _, path := range []string{"coppice/node/transactions/storage", "coppice/node/transactions/mempool/pool",
		"coppice/node/engines/statesync", "coppice/node/logger"} {
		b.cut(path)
		b.again()
		h, _ := b.info()
		require.EqualValues(t, snapshotHeight, h, path)
	}

	j.follow(b)
	one := j.next[0] // of which the joined node has the block
	repeated := b.finalize(b.block(int64(snapshotHeight+len(j.next)+1), one.Txs[0]))
	require.Equal(t, []uint32{5}, repeated.Codes, "CODE_REPEATED")
	b.close()

	v, err := offline.Verify(t.Context(), dir, offline.VerifyOptions{SkipConsensus: true})
	require.NoError(t, err)
	require.EqualValues(t, snapshotHeight, v.BaseHeight)
	require.EqualValues(t, len(j.next), v.Blocks)
	require.EqualValues(t, snapshotHeight+len(j.next), v.Height)

	b = driveABCI(t, dir)
	h, _ := b.info()
	require.EqualValues(t, v.Height, h)
	b.close()

	// The state is gone: the snapshot that it began with is there, and the log leads on from it.
	require.NoError(t, os.RemoveAll(home.StateDir(dir)))
	m, err := offline.RestoreSnapshot(t.Context(), dir, "", nil)
	require.NoError(t, err)
	require.EqualValues(t, snapshotHeight, m.Height)
	require.Equal(t, install.PeerSource, m.Source)
	b = driveABCI(t, dir)
	h, _ = b.info()
	require.EqualValues(t, v.Height, h)
	b.close()
}

// A node that has a state and is far behind takes a snapshot too. A transaction that it had
// acknowledged, and that was applied in a block which it never saw, ends.
func TestANodeThatIsBehindTakesASnapshot(t *testing.T) {
	j, home := offering(t)
	defer j.close()

	b := driveABCI(t, home)
	b.initChain()

	for _, blk := range j.blocks[:2] {
		b.finalize(blk)
		b.commitABCI()
	}

	applied, later := j.blocks[2].Txs[0], j.next[0].Txs[0]
	for _, s := range b.submit(applied, later) {
		require.NoError(t, s.Err)
	}

	b.finalize(j.blocks[2]) // decided, and never committed
	j.join(b)
	b.again()
	st, err := b.pool.Stat(t.Context())
	require.NoError(t, err)
	require.Equal(t, 1, st.Txs, "what comes after the snapshot is still to be applied")
	j.follow(b)
	b.close()
	v, err := offline.Verify(t.Context(), home, offline.VerifyOptions{SkipConsensus: true})
	require.NoError(t, err)
	require.EqualValues(t, 2, v.Launched)
	require.Zero(t, v.Unfinished)
	require.EqualValues(t, 2+len(j.next), v.Blocks)
	require.EqualValues(t, snapshotHeight, v.BaseHeight)
	b = driveABCI(t, home)
	st, err = b.pool.Stat(t.Context())
	require.NoError(t, err)
	require.Zero(t, st.Txs)
	b.close()
}

// Nothing that a peer or CometBFT sends makes anything stop. Each request gets its answer, and the
// same connection goes on.
func TestWhatPeersSendInAStateSyncHasItsAnswer(t *testing.T) {
	j, dir := offering(t)
	defer j.close()

	b := driveABCI(t, dir)
	defer b.close()

	offer := func(change func(s *comettest.Snapshot)) string {
		s := *j.s
		change(&s)
		hash := j.vouch(dir, snapshotHeight)
		r, err := b.c.Offer(&s, hash)
		require.NoError(t, err)
		return r
	}

	apply := func(i uint32, chunk []byte) comettest.Applied {
		r, err := b.c.Apply(i, chunk, "mallory")
		require.NoError(t, err)
		return r
	}
	require.Equal(t, "RETRY_SNAPSHOT", apply(0, j.chunks[0]).Result, "none was offered")
	r, err := b.c.Offer(nil, nil)
	require.NoError(t, err)
	require.Equal(t, "REJECT", r)
	r, err = b.c.Offer(j.s, make([]byte, 32))
	require.NoError(t, err)
	require.Equal(t, "REJECT", r, "nobody vouches for it")
	require.Equal(t, "REJECT_FORMAT", offer(func(s *comettest.Snapshot) { s.Format++ }))
	require.Equal(t, "REJECT", offer(func(s *comettest.Snapshot) { s.Height++ }))
	require.Equal(t, "REJECT", offer(func(s *comettest.Snapshot) { s.Chunks++ }))
	require.Equal(t, "REJECT", offer(func(s *comettest.Snapshot) { s.Hash = make([]byte, 32) }))
	require.Equal(t, "REJECT", offer(func(s *comettest.Snapshot) { s.Metadata = s.Metadata[:50] }))
	require.Equal(t, "REJECT", offer(func(s *comettest.Snapshot) { s.Metadata = nil }))

	accept := func() { require.Equal(t, "ACCEPT", offer(func(*comettest.Snapshot) {})) }
	accept()
	bad := append([]byte(nil), j.chunks[0]...)
	bad[len(bad)/2] ^= 1
	again := comettest.Applied{Result: "RETRY", Refetch: []uint32{0}, Reject: []string{"mallory"}}
	require.Equal(t, again, apply(0, bad))
	require.Equal(t, again, apply(0, nil))
	require.Equal(t, "REJECT_SNAPSHOT", apply(7, j.chunks[0]).Result, "a place that there is not")
	require.Equal(t, "RETRY_SNAPSHOT", apply(0, j.chunks[0]).Result, "it was given up")

	// One that holds together and is of another state.
	m, err := portable.Decode(j.s.Metadata)
	require.NoError(t, err)
	forged := append([]byte(nil), j.chunks[0]...)
	forged[len(forged)-1] ^= 1
	m.Chunks[0] = sha256.Sum256(forged)
	require.Equal(t, "ACCEPT", offer(func(s *comettest.Snapshot) { s.Metadata, s.Hash = m.Encode(), m.Hash() }))
	require.Equal(t, "REJECT_SNAPSHOT", apply(0, forged).Result)
	h, _ := b.info()
	require.Zero(t, h)
	require.Zero(t, b.appended(), "nothing counts before the app hash is right")

	accept()
	require.Equal(t, "ACCEPT", apply(0, j.chunks[0]).Result)
	require.Equal(t, "ACCEPT", apply(0, j.chunks[0]).Result, "repeated after the end")
	require.Equal(t, again, apply(0, bad))
	j.follow(b)
	require.Equal(t, "REJECT", offer(func(*comettest.Snapshot) {}), "it is behind now")

	chunk, err := b.c.Chunk(99, 1, 0)
	require.NoError(t, err)
	require.Empty(t, chunk)
	chunk, err = j.c.Chunk(j.s.Height, j.s.Format, 99)
	require.NoError(t, err)
	require.Empty(t, chunk)
	require.NoError(t, os.WriteFile(filepath.Join(home.StateSyncDir(j.home), "0-4", "00000000.chunk"), bad, 0o600))
	chunk, err = j.c.Chunk(j.s.Height, j.s.Format, 0)
	require.NoError(t, err)
	require.Empty(t, chunk, "what is not what was written is not handed out")
	list, err := j.c.Snapshots()
	require.NoError(t, err)
	require.Empty(t, list, "nor offered any more")
}

// A state sync is cut short by the death of any part of the node, or by a power failure at any
// operation of its disk. The node comes back at height 0 or at the snapshot's height, nothing that
// was half imported is left, and the sync begins anew.
func TestAStateSyncThatIsCutShortBeginsAnew(t *testing.T) {
	j, dir := offering(t)
	defer j.close()

	points := 12
	if os.Getenv("COPPICE_SOAK") != "" {
		points = 400
	}

	total := int64(0)

	for n := range points {
		other := filepath.Join(t.TempDir(), "home")
		require.NoError(t, os.CopyFS(other, os.DirFS(dir)))
		require.NoError(t, os.Chmod(filepath.Join(other, "admin.token"), 0o600))
		c := &cutDisk{mem: vfs.NewCrashableMem(), rng: rand.New(rand.NewPCG(uint64(n), 7))}
		fs := errorfs.Wrap(c.mem, errorfs.InjectorFunc(c.before))
		b := driveABCI(t, other, WithDisk(pebblefs.Adapt(fs), fs))
		if total > 0 {
			c.at.Store(1 + int64(n)*total/int64(points))
		}

		c.ops.Store(0)
		j.join(b)

		if n == 0 {
			total = c.ops.Load()
			require.Greater(t, total, int64(50))
		}

		after := c.mem
		c.mu.Lock()
		if c.after != nil {
			after = c.after
		}

		c.mu.Unlock()

		b.close()

		b = driveABCI(t, other, WithDisk(pebblefs.Adapt(after), after))
		h, _ := b.info()
		require.Contains(t, []int64{0, snapshotHeight}, h, "operation %d of %d", c.at.Load(), total)
		names, err := after.List(home.StateSyncDir(other))
		require.NoError(t, err)
		require.NotContains(t, names, statesync.ImportDir)

		if h == 0 {
			list, err := after.List(home.SnapshotDir(other))
			require.NoError(t, err)
			require.Empty(t, list, "operation %d of %d: a snapshot that was not installed", c.at.Load(), total)
		}

		j.join(b)
		j.follow(b)
		b.close()
		verified, err := offline.Verify(t.Context(), other,
			offline.VerifyOptions{SkipConsensus: true, Disk: after, Logs: pebblefs.Adapt(after)})
		require.NoError(t, err, "operation %d of %d", c.at.Load(), total)
		require.EqualValues(t, snapshotHeight+len(j.next), verified.Height)
	}
}

// A core that restarts while a snapshot is being installed waits until the log has recorded that,
// and comes back with the snapshot: it must not forget what is about to be recorded.
func TestACoreThatRestartsDuringAnInstallationWaitsForItsRecord(t *testing.T) {
	j, home := offering(t)
	defer j.close()

	const storagePlace = "coppice/node/transactions/storage"
	var b *abciHand
	var struck atomic.Bool
	mem := vfs.NewMem()
	fs := errorfs.Wrap(mem, errorfs.InjectorFunc(func(op errorfs.Op) error {
		if op.Kind != errorfs.OpCreate || filepath.Base(op.Path) != "snapshot.json" || struck.Swap(true) {
			return nil
		}

		before, _ := b.Supervisor().Tree().Find(storagePlace)
		require.NoError(t, b.Supervisor().Kill("coppice/node/transactions/ordering", host.ErrByHand))

		for { // until storage opens the state again
			now, ok := b.Supervisor().Tree().Find(storagePlace)
			if ok && (now.Incarnation > before.Incarnation || now.State == supervisor.Starting) {
				return nil
			}
			runtime.Gosched()
		}
	}))
	b = driveABCI(t, home, WithDisk(pebblefs.Adapt(fs), fs))
	j.join(b)
	require.True(t, struck.Load())
	j.follow(b)
	b.close()
	v, err := offline.Verify(t.Context(), home, offline.VerifyOptions{SkipConsensus: true, Disk: mem,
		Logs: pebblefs.Adapt(mem)})
	require.NoError(t, err)
	require.EqualValues(t, snapshotHeight+len(j.next), v.Height)
}

// cutDisk clones what a power failure would leave on the disk at one operation.
type cutDisk struct {
	mem     *vfs.MemFS
	rng     *rand.Rand
	at, ops atomic.Int64

	mu    sync.Mutex
	after *vfs.MemFS
}

func (c *cutDisk) before(op errorfs.Op) error {
	if op.Kind == errorfs.OpLink {
		return fmt.Errorf("no links on this disk")
	}

	if n := c.ops.Add(1); n == c.at.Load() {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.after = c.mem.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: c.rng.IntN(101), RNG: c.rng})
	}

	return nil
}

// The blocks that a node needs after taking a snapshot stay, whatever retain_blocks says.
func TestBlocksAfterASnapshotStay(t *testing.T) {
	j, _ := offering(t)
	defer j.close()
	h := int64(snapshotHeight + len(j.next) + 1)
	j.finalize(j.block(h))
	retain, err := j.c.Commit()
	require.NoError(t, err)
	require.EqualValues(t, snapshotHeight, retain)
}
