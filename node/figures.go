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
	"github.com/coppice-go/coppice/supervisor/treemetrics"
)

// sources are where the node's metrics look at a scrape.
func (n *Node) sources() metrics.Sources {
	f := &figures{node: n}
	return metrics.Sources{
		Version: n.version,
		Up:      func() bool { return n.whyDown() == "" },
		Streams: n.news.Open,
		Tree:    func() treemetrics.Snapshot { return n.trees.Snapshot(n.host.Tree()) },
		Engines: f.engines,
		Log:     f.log,
		Storage: f.storage,
		Chain:   f.chain,
		Pool:    f.pool,
	}
}

// figures asks the engines of the run of the node that there is now.
type figures struct {
	node *Node

	mu    sync.Mutex
	of    *core
	store storage.Client // it keeps a grant, so that it need not ask each time
	queue mempool.Client
}

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

func (f *figures) engines() []router.Entry {
	c := f.node.core.Load()
	if c == nil {
		return nil
	}
	return c.dir.Table().List()
}

func (f *figures) log() (eventlog.Stat, bool) {
	l := f.node.eventLog.Load()
	if l == nil {
		return eventlog.Stat{}, false
	}
	return l.Stat(), true
}

func (f *figures) storage(ctx context.Context) (storage.Stat, error) {
	store, _, err := f.clients()
	if err != nil {
		return storage.Stat{}, err
	}
	return store.Stat(ctx)
}

func (f *figures) chain(ctx context.Context) (chain.State, error) {
	store, _, err := f.clients()
	if err != nil {
		return chain.State{}, err
	}
	return store.State(ctx)
}

func (f *figures) pool(ctx context.Context) (mempool.Stat, error) {
	_, pool, err := f.clients()
	if err != nil {
		return mempool.Stat{}, err
	}
	return pool.Stat(ctx)
}
