package node

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
	"github.com/stretchr/testify/require"

	"github.com/coppice-go/coppice/engines/backend/kv"
	"github.com/coppice-go/coppice/engines/chain"
	"github.com/coppice-go/coppice/engines/logger"
	"github.com/coppice-go/coppice/engines/mempool"
	"github.com/coppice-go/coppice/engines/storage"
	"github.com/coppice-go/coppice/eventlog/pebblefs"
	"github.com/coppice-go/coppice/node/config"
	"github.com/coppice-go/coppice/node/home"
	"github.com/coppice-go/coppice/node/offline"
	"github.com/coppice-go/coppice/node/plan"
	logv1 "github.com/coppice-go/coppice/proto/coppice/log/v1"
	"github.com/coppice-go/coppice/supervisor/suptest"
)

// crashing cuts off the disk of log and state at one operation: it clones what a power failure
// would leave at that instant, and the node goes on without knowing.
type crashing struct {
	mem    *vfs.MemFS
	home   string // on the machine's disk, which does not crash
	at     int64  // the operation at which it happens
	keep   int    // how much of what was not synced survives, in per cent
	rng    *rand.Rand
	known  *counted
	ops    atomic.Int64
	where  string        // what the operation was about
	marked bool          // the home said already that it has a log
	cut    chan struct{} // closed when it has happened
	after  *vfs.MemFS
	acked  map[chain.TxID]string // what was known before the clone began, and so must be in it
	hashes map[uint64]string
}

func (c *crashing) fs() vfs.FS { return errorfs.Wrap(c.mem, errorfs.InjectorFunc(c.before)) }

// before runs before each operation.
func (c *crashing) before(op errorfs.Op) error {
	if op.Kind == errorfs.OpLink {
		return errors.New("no links on this disk") // MemFS's own may wait for itself when it is cloned meanwhile
	}

	if c.ops.Add(1) == c.at {
		c.where = about(op.Path)
		_, err := os.Stat(filepath.Join(c.home, "STARTED"))
		c.marked = err == nil
		c.acked, c.hashes = c.known.snapshot()
		c.after = c.mem.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: c.keep, RNG: c.rng})
		close(c.cut)
	}

	return nil
}

// about returns the part of a home that a path is in.
func about(path string) string {
	_, path, _ = strings.Cut(path, "/data/")
	part, _, _ := strings.Cut(path, "/")
	return part
}

// counted is what is known outside of the node: which counters were acknowledged, and which app
// hash each height had.
type counted struct {
	mu      sync.Mutex
	settled *counted              // was looked at after an earlier crash
	acked   map[chain.TxID]string // id → key
	hashes  map[uint64]string     // height → app hash, of what was told to be committed
}

func newCounted() *counted {
	return &counted{acked: make(map[chain.TxID]string), hashes: make(map[uint64]string)}
}

// settle sets aside all but a few of the facts that are known so far.
func (k *counted) settle() {
	k.mu.Lock()
	defer k.mu.Unlock()

	for id, key := range k.acked {
		if len(k.acked) <= 20 {
			break
		}
		k.settled.acked[id] = key
		delete(k.acked, id)
	}

	for height, hash := range k.hashes {
		if len(k.hashes) <= 20 {
			break
		}
		k.settled.hashes[height] = hash
		delete(k.hashes, height)
	}
}

func (k *counted) snapshot() (acked map[chain.TxID]string, hashes map[uint64]string) {
	k.mu.Lock()
	defer k.mu.Unlock()

	acked, hashes = make(map[chain.TxID]string, len(k.acked)), make(map[uint64]string, len(k.hashes))
	for id, key := range k.acked {
		acked[id] = key
	}

	for h, a := range k.hashes {
		hashes[h] = a
	}

	return acked, hashes
}

// A whole node runs on a disk that crashes at random operations under load, again and again. After
// each crash every acknowledged transaction has its result, once (I1, I2), each height that was
// reported has the app hash that it had (I3), and state and log are in step (I4). Snapshots,
// pruning and truncation go on all the time; a truncated log is checked by replay from the oldest
// snapshot. A home is replaced after crashesPerHome crashes: ids never expire here, so the state of
// an older one would be too large for a snapshot between two crashes, and its log would only grow.
// COPPICE_CRASHES sets the number of crashes, and COPPICE_CRASH_SEED the seed.
func TestTheNodeSurvivesCrashesOfItsDisk(t *testing.T) {
	crashes, seed := int(fromEnv(t, "COPPICE_CRASHES", 15)), fromEnv(t, "COPPICE_CRASH_SEED", 1)
	for number := uint64(0); crashes > 0; number++ {
		n := min(crashes, crashesPerHome)
		t.Run(fmt.Sprintf("home%d", number), func(t *testing.T) { crashOneHome(t, n, seed, number) })
		if crashes -= n; t.Failed() {
			return
		}
	}
}

const crashesPerHome = 50

// fromEnv returns the number in an environment variable, or another if it is not set.
func fromEnv(t *testing.T, name string, otherwise uint64) uint64 {
	t.Helper()
	s := os.Getenv(name)
	if s == "" {
		return otherwise
	}
	n, err := strconv.ParseUint(s, 10, 64)
	require.NoError(t, err, name)
	return n
}

// crashOneHome crashes the disk of one home. Its choices depend on the seed and the home's number.
func crashOneHome(t *testing.T, crashes int, seed, number uint64) {
	rng := rand.New(rand.NewPCG(seed, number))
	homeDir := t.TempDir()
	g := chain.NewGenesis("crash", time.Now())
	// a transaction that waits through many crashes in a row must not expire meanwhile
	g.Limits.Window = longest.String()
	_, err := home.Init(homeDir, home.InitOptions{Genesis: &g, Listen: "127.0.0.1:0", Profile: plan.Chaos})
	require.NoError(t, err)
	known := newCounted()
	known.settled = newCounted()
	mem := vfs.NewCrashableMem()
	var keys atomic.Int64
	redone := 0
	starting := int64(0) // operations of the last start: half of the cuts fall behind as many
	places := make(map[string]int)

	for crash := range crashes {
		if crash%15 == 14 {
			verifyCrashed(t, homeDir, mem, crash)
		}

		c := &crashing{
			mem: mem, home: homeDir, at: 1 + rng.Int64N(1200+2*starting), keep: rng.IntN(101),
			rng:   rand.New(rand.NewPCG(rng.Uint64(), rng.Uint64())),
			known: known, cut: make(chan struct{}),
		}
		n := startOnDisk(t, homeDir, c.fs(), often)
		starting = c.ops.Load()
		redone += n.check(t, known, crash)
		n.loadFromTwo(t, known, &keys, c.cut)
		n.stopNow(t)
		if !c.marked { // the node went on after the cut, and made the mark that the crash has prevented
			require.NoError(t, os.Remove(filepath.Join(homeDir, "STARTED")))
		}
		mem = c.after
		places[c.where]++
		known = &counted{acked: c.acked, hashes: c.hashes, settled: known.settled}
	}

	n := startOnDisk(t, homeDir, mem, often)
	n.check(t, known, crashes)
	known.settled.settled = newCounted()
	n.check(t, known.settled, crashes)
	truncated := make(chan struct{})
	go func() { // few crashes may leave no time for it
		defer close(truncated)

		log := logger.NewClient(n.core.Load().dir)

		for first := uint64(0); first <= 1; {
			var err error
			if first, err = log.First(t.Context()); err != nil {
				t.Errorf("the log's first record: %v", err)
				return
			}
			runtime.Gosched()
		}
	}()

	n.loadFromTwo(t, known, &keys, truncated)
	n.stopNow(t)
	first := verifyCrashed(t, homeDir, mem, crashes)
	require.Greater(t, first, uint64(1), "the log was never truncated")
	t.Logf("seed %d, home %d: %d crashes (at operations on %v), %d transactions submitted, %d of those acknowledged "+
		"found without a result and finished; the log begins at record %d",
		seed, number, crashes, places, keys.Load(), redone, first)
}

// longest is the longest window that a genesis may set.
const longest = 24 * time.Hour

// often makes snapshots, pruning and truncation happen all the time.
func often(c *config.Config) Option {
	c.Snapshots = config.SnapshotsConfig{EveryBytes: 6 << 10, Keep: 2}
	c.Retention.Versions = 25
	c.Log.Retain = config.RetainSnapshot
	return func(n *Node) { n.retainEvery = 2 * time.Millisecond }
}

// verifyCrashed verifies the home as a crash left it: log, state and every snapshot, and that
// replaying gives the state (I3, I4).
func verifyCrashed(t *testing.T, home string, mem vfs.FS, crash int) (first uint64) {
	t.Helper()
	h, err := offline.Open(home, mem, pebblefs.Adapt(mem))
	require.NoError(t, err, "crash %d", crash)
	list, err := h.Snapshots().List()
	require.NoError(t, err)

	for _, s := range list {
		_, err := h.Snapshots().Verify(t.Context(), s.ID, nil)
		require.NoError(t, err, "crash %d: snapshot %s", crash, s.ID)
	}

	require.NoError(t, h.Close())
	v, err := offline.Verify(t.Context(), home, offline.VerifyOptions{Disk: mem, Logs: pebblefs.Adapt(mem)})
	require.NoError(t, err, "crash %d", crash)

	return v.First
}

type diskNode struct {
	*Node
	rec   *suptest.Recorder
	pool  mempool.Client
	store storage.Client
	stop  context.CancelFunc
	ended chan error
}

func startOnDisk(t *testing.T, home string, fs vfs.FS, tune ...func(*config.Config) Option) *diskNode {
	t.Helper()
	c, err := config.Load(home)
	require.NoError(t, err)
	c.Log.SegmentBytes = 1 << 20
	n := &diskNode{rec: suptest.NewRecorder(), ended: make(chan error, 1)}
	opts := []Option{WithDisk(pebblefs.Adapt(fs), fs), WithObserver(n.rec)}
	for _, f := range tune {
		opts = append(opts, f(&c))
	}

	n.Node, err = New(home, c, opts...)
	require.NoError(t, err)
	ctx, stop := context.WithCancel(context.Background())
	n.stop = stop
	go func() { n.ended <- n.Run(ctx) }()

	up := make(chan error, 1)
	go func() {
		_, err := n.Addr(ctx)
		up <- err
	}()

	select {
	case err := <-up:
		require.NoError(t, err)
	case err := <-n.ended:
		t.Fatalf("the node did not start: %v", err)
	}

	n.rec.Settle(t, n.Supervisor())
	dir := n.core.Load().dir
	n.pool, n.store = mempool.NewClient(dir, n.backends), storage.NewClient(dir)

	return n
}

func (n *diskNode) stopNow(t *testing.T) {
	t.Helper()
	n.stop()
	require.NoError(t, <-n.ended)
}

// check compares the node with the facts that were known before the crash. Facts that hold are
// settled, and after a later crash only some of them are checked again.
func (n *diskNode) check(t *testing.T, known *counted, crash int) (unfinished int) {
	t.Helper()
	acked, hashes := known.snapshot()
	defer known.settle()

	var ids []chain.TxID
	for id := range acked {
		ids = append(ids, id)
	}

	if len(ids) > 0 {
		now, err := n.pool.Look(t.Context(), ids)
		require.NoError(t, err)

		for _, e := range now {
			if e.Result == nil {
				unfinished++
			}
		}

		ends, err := n.pool.Wait(t.Context(), ids)
		require.NoError(t, err)

		for _, e := range ends {
			if e.Known { // an id is forgotten after its time; the counter is not
				require.NotNil(t, e.Result, "crash %d: %s (I1)", crash, e.ID)
				require.Equal(t, logv1.Code_CODE_OK, e.Result.Code)
			}
			value, _, _, err := n.store.Get(t.Context(), []byte(acked[e.ID]), 0)
			require.NoError(t, err)
			require.Equal(t, "1", string(value), "crash %d: %s was acknowledged (I1), once (I2)", crash, acked[e.ID])
		}
	}

	for height, hash := range hashes {
		meta, err := n.store.Block(t.Context(), height)
		if errors.Is(err, storage.ErrPruned) {
			continue
		}
		require.NoError(t, err, "crash %d: height %d was told and is gone (I4)", crash, height)
		require.Equal(t, hash, fmt.Sprintf("%x", meta.AppHash), "crash %d: height %d (I3)", crash, height)
	}

	return unfinished
}

// loadFromTwo submits transactions from two clients, so that blocks overlap, until the disk is cut
// off.
func (n *diskNode) loadFromTwo(t *testing.T, known *counted, keys *atomic.Int64, cut <-chan struct{}) {
	t.Helper()
	var clients sync.WaitGroup
	for range 2 {
		clients.Go(func() { n.load(t, known, keys, cut) })
	}
	clients.Wait()
}

// load submits transactions until the disk is cut off.
func (n *diskNode) load(t *testing.T, known *counted, keys *atomic.Int64, cut <-chan struct{}) {
	for round := 0; ; round++ {
		select {
		case <-cut:
			return
		default:
		}

		var txs [][]byte
		var names []string

		for range 3 {
			key := "k" + strconv.FormatInt(keys.Add(1), 10)
			body, err := kv.Encode(kv.Add([]byte(key), 1))
			require.NoError(t, err)
			raw, err := chain.NewTx("kv", body, longest-time.Hour).Encode()
			require.NoError(t, err)
			txs, names = append(txs, raw), append(names, key)
		}

		out, err := n.pool.Submit(t.Context(), txs)
		if err != nil { // the chain is about to start
			continue
		}

		known.mu.Lock()
		var ids []chain.TxID

		for i, o := range out {
			require.NoError(t, o.Err)
			known.acked[o.ID] = names[i]
			ids = append(ids, o.ID)
		}

		known.mu.Unlock()

		if round%2 == 0 {
			continue // do not wait for these
		}

		ends, err := n.pool.Wait(t.Context(), ids)
		require.NoError(t, err)
		height := ends[0].Result.Version.Height
		meta, err := n.store.Block(t.Context(), height)
		if errors.Is(err, storage.ErrPruned) {
			continue
		}

		require.NoError(t, err)
		known.mu.Lock()
		known.hashes[height] = fmt.Sprintf("%x", meta.AppHash)
		known.mu.Unlock()
	}
}
