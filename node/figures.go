package node

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/coppice-go/coppice/engines"
	"github.com/coppice-go/coppice/engines/chain"
	"github.com/coppice-go/coppice/engines/mempool"
	"github.com/coppice-go/coppice/engines/router"
	"github.com/coppice-go/coppice/engines/storage"
	"github.com/coppice-go/coppice/engines/streams"
	"github.com/coppice-go/coppice/eventlog"
	"github.com/coppice-go/coppice/node/api"
	"github.com/coppice-go/coppice/node/inflight"
	"github.com/coppice-go/coppice/node/metrics"
	"github.com/coppice-go/coppice/node/retention"
	"github.com/coppice-go/coppice/node/trouble"
	"github.com/coppice-go/coppice/pubsub"
	"github.com/coppice-go/coppice/supervisor"
	"github.com/coppice-go/coppice/supervisor/treemetrics"
)

// sources returns the functions that the node's metrics call at a scrape.
func (n *Node) sources() metrics.Sources {
	f := &figures{node: n}

	return metrics.Sources{
		Version: n.version,
		Up:      func() bool { return n.whyDown() == "" },
		Ready:   n.ready.Condition,
		Streams: n.news.Open,
		Tree:    func() treemetrics.Snapshot { return n.trees.Snapshot(n.host.Tree()) },
		Engines: f.engines,
		Log:     f.log,
		Storage: f.storage,
		Chain:   f.chain,
		Pool:    f.pool,

		Snapshots: n.snapshotFigures,
		Gates:     n.gateFigures,
		Slots:     n.streamFigures,
	}
}

// snapshotFigures returns the figures of the node's snapshots.
func (n *Node) snapshotFigures() []metrics.SnapshotStat {
	of := func(kind string, s retention.TallyStat) metrics.SnapshotStat {
		return metrics.SnapshotStat{Kind: kind, Taken: s.Taken, Failed: s.Failed, Kept: s.Kept, Bytes: s.Bytes,
			Last: s.Last}
	}

	list := []metrics.SnapshotStat{of("local", n.snaps.Tally.Stat())}
	if n.stateSync != nil {
		list = append(list, of("peers", n.stateSync.Tally.Stat()))
	}

	return list
}

// figures asks the engines of the current run of the node.
type figures struct {
	node *Node

	mu    sync.Mutex
	of    *core          // the run that the clients belong to
	store storage.Client // kept: a new client must first ask storage for a grant to read
	queue mempool.Client
}

// clients returns clients of storage and the pool in the current run, or an error before the first
// run.
func (f *figures) clients() (storage.Client, mempool.Client, error) {
	c := f.node.core.Load()
	if c == nil {
		return storage.Client{}, mempool.Client{}, fmt.Errorf("%w: the node has not started", api.ErrUnavailable)
	}

	f.mu.Lock()
	defer f.mu.Unlock()

	if f.of != c {
		f.of, f.store, f.queue = c, storage.NewClient(c.dir), mempool.NewClient(c.dir, f.node.backends)
	}

	return f.store, f.queue, nil
}

// engines returns the engines that are registered, or nil before the first run.
func (f *figures) engines() []router.Entry {
	c := f.node.core.Load()
	if c == nil {
		return nil
	}

	return c.dir.Table().List()
}

// log returns the figures of the event log; ok is false before it was opened.
func (f *figures) log() (s eventlog.Stat, ok bool) {
	l := f.node.eventLog.Load()
	if l == nil {
		return eventlog.Stat{}, false
	}

	return l.Stat(), true
}

// storage asks storage for its figures.
func (f *figures) storage(ctx context.Context) (storage.Stat, error) {
	store, _, err := f.clients()
	if err != nil {
		return storage.Stat{}, err
	}

	return store.Stat(ctx)
}

// chain asks storage for the state of the chain.
func (f *figures) chain(ctx context.Context) (chain.State, error) {
	store, _, err := f.clients()
	if err != nil {
		return chain.State{}, err
	}

	return store.State(ctx)
}

// pool asks the pool for its figures.
func (f *figures) pool(ctx context.Context) (mempool.Stat, error) {
	_, pool, err := f.clients()
	if err != nil {
		return mempool.Stat{}, err
	}

	return pool.Stat(ctx)
}

// engineStats returns what the living engines are doing, or nil before the first run.
func (n *Node) engineStats() []engines.Stat {
	c := n.core.Load()
	if c == nil {
		return nil
	}

	return c.dir.Table().Stats()
}

// troubleSources returns what the node's troubles are found in. Nothing of it asks an engine.
func (n *Node) troubleSources() trouble.Sources {
	return trouble.Sources{
		Condition: n.ready.Condition, Engines: n.engineStats, Filters: n.bus.Stats, Mailbox: pubsub.DefaultMailbox,
		Place:   func(path string) (supervisor.Tree, error) { return n.host.Place(path) },
		Orphans: func() []supervisor.Orphan { return n.host.Orphans() },
		Streams: n.streamStatuses,
		Sync:    n.syncMean, Suspects: func() []inflight.Suspect { return n.table.Suspects() },
		LogFailed: func() error {
			if l := n.eventLog.Load(); l != nil {
				return l.Stat().Err
			}
			return nil
		},
		Disk: n.room,
	}
}

// streamStatuses returns how the streams stand to the newest block that the node knows.
func (n *Node) streamStatuses() []streams.Status { return n.streamFigures(n.ready.Seen()) }

// room returns the free bytes of the file system of the home, and its size.
func (n *Node) room() (free, size uint64, ok bool) { return n.space.Room(n.now()) }

// syncSpan is the number of seconds in which syncMean looks for syncs.
const syncSpan = 10

// syncMean returns the mean time of the syncs of the log in the last seconds, and in how many of
// these seconds there were some.
func (n *Node) syncMean() (mean time.Duration, seconds int) {
	_, past := n.recorder.Past(syncSpan, "sync mean")
	sum := 0.0
	for _, s := range past {
		for _, ms := range s.Values {
			if ms > 0 {
				sum += float64(ms)
				seconds++
			}
		}
	}
	if seconds == 0 {
		return 0, 0
	}

	return time.Duration(sum / float64(seconds) * float64(time.Millisecond)), seconds
}
