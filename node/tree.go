package node

import (
	"context"

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
	"github.com/coppice-go/coppice/node/plan"
	"github.com/coppice-go/coppice/supervisor"
)

// hostSpec returns the spec of the whole tree. Each supervisor has a build function, which makes
// what the supervisor's children share. It is called for each run of the supervisor, so each run
// begins afresh.
func (n *Node) hostSpec() supervisor.Spec {
	s := n.plan.Spec(func() ([]supervisor.Child, error) {
		return []supervisor.Child{
			n.plan.Find("admin").Child(n.listener.Start),
			n.plan.Find("coppice").Nested(n.buildCoppice),
		}, nil
	})

	s.Observers = append([]supervisor.Observer{
		newCalm(n.diagnostics),
		&n.damage,
		supervisor.ObserverFunc(func(e supervisor.Event) { n.bus.Publish(engines.TreeChanged{Event: e}) }),
		n.trees,
		n.troubles,
		n.news, // not through the bus, which is a part of the tree whose events these are
	}, n.observers...)

	return s
}

// buildCoppice returns the children of the supervisor coppice.
func (n *Node) buildCoppice() ([]supervisor.Child, error) {
	return []supervisor.Child{
		n.plan.Find(plan.PathPubsub).Child(supervisor.Nested(n.bus.Spec())),
		n.plan.Find(plan.PathNode).Child(n.startNode),
	}, nil
}

// startNode makes the supervisor coppice/node, and keeps it in n.supervised: state sync restarts
// children of it.
func (n *Node) startNode(context.Context) (supervisor.Service, error) {
	s, err := supervisor.New(n.plan.Find(plan.PathNode).Spec(n.buildNode))
	if err != nil {
		return nil, err
	}

	n.supervised.Store(s)

	return s, nil
}

// buildNode returns the children of coppice/node.
func (n *Node) buildNode() ([]supervisor.Child, error) {
	at := n.plan.Find(plan.PathNode)
	c := &core{dir: router.NewDirectory().Measure(n.meter.CallTimes)}
	n.core.Store(c)

	return []supervisor.Child{
		at.Find("router").Child(router.Child(c.dir)),
		withoutStartTimeout(at.Find("logger").Child(logger.Child(c.dir,
			logger.Config{Lease: n.logLease, Publish: n.publish}))),
		at.Find(plan.Transactions).Nested(func() ([]supervisor.Child, error) { return n.buildTransactions(c), nil }),
		at.Find("engines").Nested(func() ([]supervisor.Child, error) { return n.buildEngines(c), nil }),
	}, nil
}

// publish publishes a record of the log on the bus. The logger calls it once the record is durable.
func (n *Node) publish(e eventlog.Entry) {
	n.meter.Logged(e.Kind, len(e.Data))
	n.bus.Publish(engines.RecordLogged{Index: e.Index, Kind: e.Kind, Size: len(e.Data)})
}

// withoutStartTimeout returns c with StartTimeout set to Infinity. It is for a child whose start
// reads the log or the state, and takes the longer the larger they are. Node.Progress shows how far
// such a start is.
func withoutStartTimeout(c supervisor.Child) supervisor.Child {
	c.StartTimeout = supervisor.Infinity
	return c
}

// withLog returns a start function that waits for the log and then calls start. If the log has
// died, the whole node is about to restart. It first stops the engines, which may take seconds, and
// then the children that use the log. Until this start is stopped too, it waits, instead of failing
// again and again.
func withLog(c *core, start supervisor.StartFunc) supervisor.StartFunc {
	return func(ctx context.Context) (supervisor.Service, error) {
		if _, err := c.dir.Await(ctx, logger.Name, 0); err != nil {
			<-ctx.Done() // the router has died, and the node restarts too
			return nil, context.Cause(ctx)
		}

		return start(ctx)
	}
}

// buildTransactions returns the children of coppice/node/transactions.
func (n *Node) buildTransactions(c *core) []supervisor.Child {
	at := n.plan.Find(plan.PathTransactions)

	return []supervisor.Child{
		withoutStartTimeout(at.Find("storage").Child(withLog(c, storage.Child(c.dir, storage.Config{Lease: n.state})))),

		// Each incarnation of ordering gets clients of its own: a replaced incarnation must not
		// find the grants of its successor in them.
		withoutStartTimeout(at.Find("ordering").Child(func(ctx context.Context) (supervisor.Service, error) {
			if err := n.agree(ctx, c); err != nil {
				return nil, err
			}

			store := storage.NewClient(c.dir).SameGeneration()
			return ordering.Child(c.dir, ordering.Config{
				Log: logger.NewClient(c.dir), Store: store, Pool: mempool.NewClient(c.dir, n.backends),
				Hooks: n.hooks(store), Progress: n.progress.ReplayFunc(), Validators: n.traits.Validators,
			})(ctx)
		})),

		at.Find("mempool").Nested(func() ([]supervisor.Child, error) { return n.buildMempool(c) }),
	}
}

// buildMempool returns the children of coppice/node/transactions/mempool.
func (n *Node) buildMempool(c *core) ([]supervisor.Child, error) {
	at := n.plan.Find(plan.PathMempool)
	store := storage.NewClient(c.dir).SameGeneration()

	dynamic, err := supervisor.NewDynamic(supervisor.DynamicSpec[*mempool.Task]{
		Name: "workers", Restart: supervisor.Temporary, Shutdown: at.Find("pool").Shutdown,
		Intensity: at.Find("workers").Intensity,
		Start: func(_ context.Context, t *mempool.Task) (supervisor.Service, error) {
			return t.Watch(&worker.Worker{Job: t.Job, Store: store, Marks: n.table}), nil
		},
	})
	if err != nil {
		return nil, err
	}

	return []supervisor.Child{
		withoutStartTimeout(at.Find("pool").Child(mempool.Child(c.dir, mempool.Config{
			Log: logger.NewClient(c.dir), Store: store, Workers: workers{dynamic}, Suspects: n.table,
			Orderer: ordering.Name, Alone: n.alone, Backends: n.backends, MaxTxs: n.config.Pool.MaxTxs,
			MaxBytes: n.config.Pool.MaxBytes, MaxEager: n.config.Pool.MaxEager, Now: n.now,
		}))),
		at.Find("workers").Child(func(context.Context) (supervisor.Service, error) { return dynamic, nil }),
	}, nil
}

// buildEngines returns the children of coppice/node/engines.
func (n *Node) buildEngines(c *core) []supervisor.Child {
	at := n.plan.Find(plan.PathEngines)

	pool := mempool.NewClient(c.dir, n.backends)
	drive := consensus.Core{
		Ordering: n.halting(n.gates.Wrap(ordering.NewClient(c.dir)), pool), Pool: pool, Genesis: n.genesis,
		Feed: pool, State: storage.NewClient(c.dir), Peers: n.peers,
	}

	if n.stateSync != nil {
		drive.StateSync, drive.Joiner = n.stateSync, n.stateSync
	}

	children := append(n.buildStreams(c), []supervisor.Child{
		at.Find("consensus").Child(n.driver.Start(drive)),
		at.Find("api").Child(func(context.Context) (supervisor.Service, error) {
			return &api.Service{Gate: n.gate, Core: newAPICore(n, c), Options: n.apiOptions()}, nil
		}),
		at.Find("retention").Child(n.snaps.Start(c.dir)),
	}...)

	if n.stateSync != nil {
		children = append(children, at.Find(plan.StateSync).Child(n.stateSync.Start))
	}

	for _, e := range n.extra {
		children = append(children, at.Find(e.ID).Child(e.Start(c.dir)))
	}

	return children
}
