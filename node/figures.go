package node

import (
	"context"
	"fmt"
	"sync"

	"github.com/coppice-go/coppice/engines/chain"
	"github.com/coppice-go/coppice/engines/mempool"
	"github.com/coppice-go/coppice/engines/router"
	"github.com/coppice-go/coppice/engines/storage"
	"github.com/coppice-go/coppice/eventlog"
	"github.com/coppice-go/coppice/node/api"
	"github.com/coppice-go/coppice/node/metrics"
	"github.com/coppice-go/coppice/node/retention"
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

// figures gets the figures of the metrics from the engines of the current run of the node.
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
