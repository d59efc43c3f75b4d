package node

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/coppice-go/coppice/engines/backend/kv"
	"github.com/coppice-go/coppice/engines/chain"
	"github.com/coppice-go/coppice/engines/storage"
	"github.com/coppice-go/coppice/eventlog"
	"github.com/coppice-go/coppice/node/config"
	"github.com/coppice-go/coppice/node/home"
	"github.com/coppice-go/coppice/node/offline"
	"github.com/coppice-go/coppice/node/progress"
	logv1 "github.com/coppice-go/coppice/proto/coppice/log/v1"
	"github.com/coppice-go/coppice/supervisor"
)

// longBlock is the number of transactions in a block of the long log.
const longBlock = 5_000

// longLog writes a log of n transactions into a home, as a node would have written it. Each
// transaction is launched, ordered in a block, and committed with its result and its change, on a
// real state.
func longLog(t *testing.T, dir string, n int) {
	t.Helper()
	_, genesis, err := home.ReadGenesisFile(filepath.Join(dir, chain.GenesisFile))
	require.NoError(t, err)
	l, err := eventlog.Open(home.LogDir(dir), eventlog.Options{})
	require.NoError(t, err)
	db, err := storage.Open(home.StateDir(dir), storage.Options{})
	require.NoError(t, err)
	require.NoError(t, db.BindLog(l.ID()))
	add := func(m ...any) (index uint64) {
		var recs []eventlog.Record
		for _, m := range m {
			var r eventlog.Record
			var err error

			switch m := m.(type) {
			case *logv1.ChainStarted:
				r, err = chain.NewRecord(m)
			case *logv1.TxLaunched:
				r, err = chain.NewRecord(m)
			case *logv1.OrderDecided:
				r, err = chain.NewRecord(m)
			case *logv1.BlockCommitted:
				r, err = chain.NewRecord(m)
			}

			require.NoError(t, err)
			recs = append(recs, r)
		}

		index, err := l.AppendNoSync(context.Background(), recs...)
		require.NoError(t, err)
		return index
	}
	require.NoError(t, db.StartChain(add(genesis), genesis))
	clock := time.Unix(0, genesis.GenesisTimeNs)

	for done := 0; done < n; done += longBlock {
		clock = clock.Add(time.Second)
		s := db.State()
		b := chain.Block{ChainID: s.ChainID, Period: s.Period, Height: s.Next(), Time: clock}
		launched := make([]any, longBlock)

		for i := range longBlock {
			body, err := kv.Encode(kv.Put(fmt.Appendf(nil, "key%d", (done+i)%1_000_000),
				fmt.Appendf(nil, "value of transaction %d", done+i)))
			require.NoError(t, err)
			raw, err := chain.Tx{Backend: "kv", Nonce: fmt.Appendf(nil, "%d", done+i),
				ValidUntil: clock.Add(2 * time.Minute), Body: body}.Encode()
			require.NoError(t, err)
			b.Txs = append(b.Txs, raw)
			launched[i] = &logv1.TxLaunched{Tx: raw, ReceivedNs: clock.UnixNano()}
		}

		add(launched...)
		b.Hash = b.ContentHash()
		decided := add(b.Record())
		_, err := db.Begin(b)
		require.NoError(t, err)

		for i := range longBlock {
			v := chain.Version{Period: b.Period, Height: b.Height, Index: uint32(i)}
			require.NoError(t, db.Finish(v, []*logv1.Change{{
				Version: v.Proto(), Key: fmt.Appendf(nil, "key%d", (done+i)%1_000_000),
				Value: fmt.Appendf(nil, "value of transaction %d", done+i),
			}}, &logv1.TxResult{}))
		}

		staged, err := db.Seal()
		require.NoError(t, err)
		rec := &logv1.BlockCommitted{
			ChainId: b.ChainID, Period: b.Period, Height: b.Height, BlockHash: b.Hash, TimeNs: b.Time.UnixNano(),
			Results: staged.Results, Changes: staged.Changes, AppHash: staged.AppHash, DecidedIndex: decided,
		}
		require.NoError(t, db.Commit(add(rec), rec))
	}

	require.NoError(t, db.Close())
	require.NoError(t, l.Close())
}

// peakMiB returns the most memory that the process had resident so far.
func peakMiB() int64 {
	var r syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &r) != nil {
		return 0
	}
	return r.Maxrss >> 10
}

// This measures the time and memory of a start with the state, with a snapshot, and with neither.
// The log has COPPICE_LONG_TXS transactions (10000000 is the aim). It is in COPPICE_LONG_DIR, and
// is made if there is no home. COPPICE_LONG_STEP selects one step, so that each step can have a
// process of its own: make, state, snapshot, nothing, verify.
func TestALongLogStartsInBoundedMemory(t *testing.T) {
	n, err := strconv.Atoi(os.Getenv("COPPICE_LONG_TXS"))
	step, homeDir := os.Getenv("COPPICE_LONG_STEP"), os.Getenv("COPPICE_LONG_DIR")
	if err != nil || n == 0 {
		n, homeDir, step = 20_000, t.TempDir(), "nothing"
	}

	began := time.Now()

	if _, err := os.Stat(home.LogDir(homeDir)); err != nil {
		_, err := home.Init(homeDir, home.InitOptions{ChainID: "long", Listen: "127.0.0.1:0",
			Set: []config.Assignment{{Key: "snapshots.every_bytes", Value: "0", Flag: "--set"}}})
		require.NoError(t, err)
		longLog(t, homeDir, n)
		t.Logf("made: %d transactions in %v", n, time.Since(began))
	}

	runtime.GC()
	began = time.Now()

	switch step {
	case "make":
		m, _, err := offline.CreateSnapshot(t.Context(), homeDir, offline.SnapshotOptions{Program: "test"})
		require.NoError(t, err)
		t.Logf("snapshot of %d MiB in %v", m.Bytes>>20, time.Since(began))
		return

	case "verify":
		v, err := offline.Verify(t.Context(), homeDir, offline.VerifyOptions{})
		require.NoError(t, err)
		t.Logf("verified: log %v, state %v, replay of %d transactions %v (%.0f/s); peak %d MiB",
			v.LogTook, v.StateTook, v.Txs, v.ReplayTook, float64(v.Txs)/v.ReplayTook.Seconds(), peakMiB())
		return

	case "snapshot":
		_, err := offline.RestoreSnapshot(t.Context(), homeDir, "", nil)
		require.NoError(t, err)
		t.Logf("snapshot restored in %v", time.Since(began))

	case "nothing":
		require.NoError(t, os.RemoveAll(home.StateDir(homeDir)))
	}

	c, err := config.Load(homeDir)
	require.NoError(t, err)
	began = time.Now()
	up := make(chan struct{})
	apiUp := supervisor.ObserverFunc(func(e supervisor.Event) {
		if s, ok := e.(supervisor.ChildStarted); ok && s.Subject() == "coppice/node/engines/api" {
			close(up)
		}
	})
	told := make(chan progress.Step, 10_000)
	node, err := New(homeDir, c, WithDriver(byHand{}), WithObserver(apiUp), WithProgress(func(p progress.Step) {
		told <- p
	}))
	require.NoError(t, err)
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- node.Run(ctx) }()
	_, err = node.Addr(t.Context())
	require.NoError(t, err)

	select { // however long it takes
	case <-up:
	case err := <-ended:
		t.Fatal(err)
	}

	took := time.Since(began)
	state, err := storage.NewClient(node.core.Load().dir).State(t.Context())
	require.NoError(t, err)
	require.EqualValues(t, n/longBlock, state.Height)
	stop()
	require.NoError(t, <-ended)
	close(told)

	for p := range told {
		if p.Done == p.Total {
			t.Log(p)
		}
	}

	t.Logf("start with %s: %d transactions in %v (%.0f/s); peak %d MiB", step, n, took,
		float64(n)/took.Seconds(), peakMiB())
}

// A start that replays a long log must not be cut off by a timeout: the next start would be, too.
// (Found with 10 million transactions, which take longer than supervisor.DefaultStartTimeout.)
func TestWhatReadsTheLogHasNoStartTimeout(t *testing.T) {
	dir := t.TempDir()
	_, err := home.Init(dir, home.InitOptions{ChainID: "long", Listen: "127.0.0.1:0"})
	require.NoError(t, err)
	c, err := config.Load(dir)
	require.NoError(t, err)
	n, err := New(dir, c, WithDriver(byHand{}))
	require.NoError(t, err)
	defer func() { require.NoError(t, n.Close()) }()

	children, err := n.buildNode()
	require.NoError(t, err)
	children = append(children, n.buildTransactions(n.core.Load())...)
	pool, err := n.buildMempool(n.core.Load())
	require.NoError(t, err)
	found := 0

	for _, c := range append(children, pool...) {
		switch c.ID {
		case "logger", "storage", "ordering", "pool":
			found++
			require.Equal(t, supervisor.Infinity, c.StartTimeout, c.ID)
		}
	}

	require.Equal(t, 4, found)
}
