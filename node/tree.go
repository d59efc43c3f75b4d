package node

import (
	"context"

	"go.uber.org/zap"

	"github.com/coppice-go/coppice/engines"
	"github.com/coppice-go/coppice/engines/consensus"
	"github.com/coppice-go/coppice/engines/logger"
	"github.com/coppice-go/coppice/engines/mempool"
	"github.com/coppice-go/coppice/engines/ordering"
	"github.com/coppice-go/coppice/engines/router"
	"github.com/coppice-go/coppice/engines/storage"
	"github.com/coppice-go/coppice/engines/worker"
	"github.com/coppice-go/coppice/eventlog"
	"github.com/coppice-go/coppice/node/api"
	"github.com/coppice-go/coppice/supervisor"
	"github.com/coppice-go/coppice/supervisor/zapevents"
)

// hostSpec is the whole tree. What a supervisor's children share is made in its build function, so that each of its runs
// begins afresh.
func (n *Node) hostSpec() supervisor.Spec {
	s := n.plan.spec(func() ([]supervisor.Child, error) {
		return []supervisor.Child{
			n.plan.find("admin").child(n.startAdmin),
			n.plan.find("coppice").nested(n.buildCoppice),
		}, nil
	})
	s.Observers = []supervisor.Observer{
		zapevents.New(n.log),
		supervisor.ObserverFunc(func(e supervisor.Event) { n.bus.Publish(engines.TreeChanged{Event: e}) }),
	}
	return s
}

func (n *Node) buildCoppice() ([]supervisor.Child, error) {
	return []supervisor.Child{
		n.plan.find("coppice/pubsub").child(supervisor.Nested(n.bus.Spec())),
		n.plan.find("coppice/node").nested(n.buildNode),
	}, nil
}

func (n *Node) buildNode() ([]supervisor.Child, error) {
	at := n.plan.find("coppice/node")
	c := &core{table: router.NewTable()}
	n.core.Store(c)
	return []supervisor.Child{
		at.find("router").child(router.Child(c.table)),
		at.find("logger").child(logger.Child(c.table, logger.Config{Lease: n.files, Publish: n.publish})),
		at.find("transactions").nested(func() ([]supervisor.Child, error) { return n.buildTransactions(c), nil }),
		at.find("engines").nested(func() ([]supervisor.Child, error) { return n.buildEngines(c), nil }),
	}, nil
}

// publish is the bus's news of the log: after the record is durable, never before.
func (n *Node) publish(e eventlog.Entry) {
	n.bus.Publish(engines.RecordLogged{Index: e.Index, Kind: e.Kind, Size: len(e.Data)})
}

func (n *Node) buildTransactions(c *core) []supervisor.Child {
	at := n.plan.find("coppice/node/transactions")
	return []supervisor.Child{
		at.find("storage").child(storage.Child(c.table, storage.Config{Lease: n.state})),
		at.find("ordering").child(ordering.Child(c.table, ordering.Config{
			Log: logger.NewClient(c.table), Store: storage.NewClient(c.table), Pool: mempool.NewClient(c.table, n.backends),
			Progress: n.replayProgress,
		})),
		at.find("mempool").nested(func() ([]supervisor.Child, error) { return n.buildMempool(c) }),
	}
}

func (n *Node) replayProgress(index, last uint64) {
	if index%100_000 == 0 || index == last {
		n.log.Info("replaying the event log", zap.Uint64("record", index), zap.Uint64("last", last))
	}
}

func (n *Node) buildMempool(c *core) ([]supervisor.Child, error) {
	at := n.plan.find("coppice/node/transactions/mempool")
	store := storage.NewClient(c.table)
	dynamic, err := supervisor.NewDynamic(supervisor.DynamicSpec[mempool.Job]{
		Name: "workers", Restart: supervisor.Temporary, Shutdown: at.find("pool").Shutdown, Intensity: at.find("workers").Intensity,
		Start: func(_ context.Context, j mempool.Job) (supervisor.Service, error) {
			return j.Watch(worker.Job{
				ID: j.ID, Tx: j.Tx, Backend: j.Backend, Params: j.Params, Store: store, Place: j.Place, Late: j.Late, Handed: j.Handed,
			}), nil
		},
	})
	if err != nil {
		return nil, err
	}
	return []supervisor.Child{
		at.find("pool").child(mempool.Child(c.table, mempool.Config{
			Log: logger.NewClient(c.table), Store: store, Workers: workers{dynamic}, Backends: n.backends,
			MaxTxs: n.config.Pool.MaxTxs, MaxBytes: n.config.Pool.MaxBytes, MaxEager: n.config.Pool.MaxEager,
		})),
		at.find("workers").child(func(context.Context) (supervisor.Service, error) { return dynamic, nil }),
	}, nil
}

func (n *Node) buildEngines(c *core) []supervisor.Child {
	at := n.plan.find("coppice/node/engines")
	children := []supervisor.Child{
		at.find("consensus").child(n.driver.Start(consensus.Core{
			Ordering: ordering.NewClient(c.table), Pool: mempool.NewClient(c.table, n.backends), Genesis: n.genesis,
		})),
		at.find("api").child(func(context.Context) (supervisor.Service, error) {
			return &api.Service{Gate: n.gate, Backend: newBackend(n, c)}, nil
		}),
	}
	for _, e := range n.extra {
		children = append(children, at.find(e.ID).child(e.Start(c.table)))
	}
	return children
}
