package node

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sys/unix"

	"github.com/coppice-go/coppice/engines"
	"github.com/coppice-go/coppice/engines/backend/kv"
	"github.com/coppice-go/coppice/engines/backend/kvstore"
	"github.com/coppice-go/coppice/engines/chain"
	"github.com/coppice-go/coppice/engines/consensus"
	"github.com/coppice-go/coppice/engines/router"
	"github.com/coppice-go/coppice/engines/storage"
	"github.com/coppice-go/coppice/engines/streams"
	"github.com/coppice-go/coppice/eventlog"
	"github.com/coppice-go/coppice/node/api"
	"github.com/coppice-go/coppice/node/backends"
	"github.com/coppice-go/coppice/node/config"
	"github.com/coppice-go/coppice/node/events"
	"github.com/coppice-go/coppice/node/exit"
	"github.com/coppice-go/coppice/node/gate"
	"github.com/coppice-go/coppice/node/history"
	"github.com/coppice-go/coppice/node/home"
	"github.com/coppice-go/coppice/node/host"
	"github.com/coppice-go/coppice/node/inflight"
	"github.com/coppice-go/coppice/node/install"
	"github.com/coppice-go/coppice/node/metrics"
	"github.com/coppice-go/coppice/node/plan"
	"github.com/coppice-go/coppice/node/progress"
	"github.com/coppice-go/coppice/node/readiness"
	"github.com/coppice-go/coppice/node/recorder"
	"github.com/coppice-go/coppice/node/retention"
	"github.com/coppice-go/coppice/node/statesync"
	"github.com/coppice-go/coppice/node/trouble"
	"github.com/coppice-go/coppice/pubsub"
	"github.com/coppice-go/coppice/supervisor"
	"github.com/coppice-go/coppice/supervisor/treemetrics"
)

// leaseBound is how long an operation on the log or the state may go on once its lease has been
// revoked. After that the process ends, because the operation might still change the files.
const leaseBound = 30 * time.Second

// gatePatience is how long a submission waits for a node that starts or restarts, before it is told
// the reason. Most starts are shorter.
const gatePatience = time.Second

// Node is an opened home. Run may be called once.
type Node struct {
	settings
	traits  consensus.Traits // of kind
	alone   bool             // the driver is of a kind whose chains have one node
	plan    plan.Place
	started time.Time

	// The fields of this group and the next outlive the runs of the tree.
	stop       stopper
	lock       *os.File
	guard      guard
	needs      backends.Record // what the chain needs, with what this program has
	table      *inflight.Table
	logLease   *supervisor.Lease[*eventlog.Log]
	state      *supervisor.Lease[*storage.DB]
	keptState  *storage.DB                     // between two incarnations of storage; the turn of the lease guards it
	eventLog   atomic.Pointer[eventlog.Log]    // the newest log that was opened
	history    atomic.Pointer[history.History] // of the log; nil until it was opened
	installs   install.Mutex
	checkedLog eventlog.Checked // the segments that this process has checked
	progress   progress.Tracker
	ready      *readiness.Tracker

	listener *host.Host
	gate     *api.Gate
	streams  *streams.Streams // nil: the program has no sinks
	gates    *gate.Gates      // at which blocks wait for sinks
	space    readiness.Disk   // of the file system of the home
	bus      *pubsub.Bus[engines.Event]
	news     *events.Source
	meter    *metrics.Metrics
	trees    *treemetrics.Metrics
	recorder *recorder.Recorder
	troubles *trouble.Watcher
	snaps    *retention.Snapshotter
	peers    []consensus.Peer

	closePeers func()          // closes idle connections
	stateSync  *statesync.Sync // nil: the consensus carries no snapshots

	healthAddr atomic.Value // string: where healthEngine listens

	// The tree, and what its current run shares.
	host       *supervisor.Supervisor // the root
	damage     exit.DamageWatch
	halted     sync.Once
	haltedBy   atomic.Pointer[gate.HaltError]
	core       atomic.Pointer[core]                  // of the current run of supervised
	supervised atomic.Pointer[supervisor.Supervisor] // the supervisor coppice/node
}

// New opens a home and returns its node. One process may have a home open at a time, until Close or
// the end of Run. Errors are exit.ErrConfig, exit.ErrHomeInUse and exit.ErrDamage.
func New(dir string, c config.Config, opts ...Option) (*Node, error) {
	n := &Node{started: time.Now(), stop: stopper{done: make(chan struct{})}, settings: settings{
		home: dir, config: c, version: "unknown", diagnostics: zap.NewNop(), backends: map[string]chain.Backend{},
		now: time.Now,
	}}

	for _, b := range []chain.Backend{kv.New(), kvstore.New()} {
		n.backends[b.Name()] = b
	}

	for _, o := range opts {
		o(n)
	}

	n.progress.Logger = n.diagnostics

	err := errors.Join(c.Validate(), home.CheckFormat(dir))
	if err != nil {
		return nil, err
	}

	g, rec, err := home.ReadGenesisFile(filepath.Join(dir, chain.GenesisFile))
	if err != nil {
		return nil, err
	}
	n.genesis = rec
	if err := errors.Join(n.bindBackends(g), n.openAgent(g)); err != nil {
		return nil, err
	}

	if n.tokens, err = home.OpenTokens(dir, n.diagnostics); err != nil {
		return nil, err
	}

	if err := n.openListener(); err != nil {
		return nil, err
	}
	if err := errors.Join(n.openPeers(g), n.openConsensus(g)); err != nil {
		return nil, err
	}

	n.space = readiness.NewDisk(n.home)
	if err := n.openStreams(); err != nil {
		return nil, err
	}
	if err := n.openGates(); err != nil {
		return nil, err
	}

	n.ready = readiness.New(n.readinessSources())
	n.gate = api.NewGate(n.whyDown)
	n.gate.Patience = gatePatience

	if n.bus, err = pubsub.New[engines.Event](
		pubsub.Options{Intensity: n.plan.Find(plan.PathPubsub).Intensity}); err != nil {
		return nil, err
	}

	n.news = events.New(events.Options{Bus: n.bus, Log: n.runLog, History: n.history.Load,
		Streams: host.StreamsOf(n.bounds.Conns)})
	n.trees = &treemetrics.Metrics{}
	n.recorder = recorder.New(n.engineStats)
	n.troubles = trouble.New(n.troubleSources(), n.now)
	n.meter = metrics.New(n.sources())
	n.gate.Meter = n.meter.Request
	n.route()

	if n.lock, err = home.Lock(dir); err != nil {
		return nil, err
	}

	n.guard.lost = n.homeLost
	if err := n.guard.watch(n.lock.Name()); err != nil {
		return nil, errors.Join(fmt.Errorf("%w: %w", exit.ErrConfig, err), n.Close())
	}

	if err := n.checkBackends(); err != nil {
		return nil, errors.Join(exit.Classify(err), n.Close())
	}

	if n.table, err = n.openTable(); err != nil { // this is the first step that writes below the home
		if err = exit.Classify(err); errors.Is(err, unix.EROFS) || errors.Is(err, fs.ErrPermission) {
			err = fmt.Errorf("%w: %w", exit.ErrConfig, err)
		}
		return nil, errors.Join(err, n.Close())
	}

	if err := n.openAgentLog(); err != nil {
		return nil, errors.Join(err, n.Close())
	}

	if err := errors.Join(n.recordBackends(), home.StateWithoutLog(n.disk(), dir),
		install.Settle(n.disk(), dir, install.LogOnDisk(n.logDisk, dir), "")); err != nil {
		return nil, errors.Join(exit.Classify(err), n.Close())
	}

	n.logLease = supervisor.NewLease(n.openLog, (*eventlog.Log).Close, leaseBound)
	n.state = supervisor.NewLease(n.openState, n.closeState, leaseBound)

	if n.host, err = supervisor.New(n.hostSpec()); err != nil {
		return nil, errors.Join(err, n.Close())
	}

	return n, nil
}

// Run runs the tree, and closes the node at the end. It returns nil if ctx ended or Stop was
// called, and everything stopped in order, exit.ErrHalted if a gate stopped the node, and otherwise
// the reason why the tree gave up.
func (n *Node) Run(ctx context.Context) error {
	ctx, cancel := n.untilStop(ctx)
	defer cancel()

	run, end := n.damage.Run(ctx)
	defer end()
	defer context.AfterFunc(run, n.gate.End)()

	endGuard := beside(ctx, n.guard.run)
	endReadiness := n.watchReadiness(ctx)
	endRecorder := beside(ctx, n.recorder.Run)
	endTroubles := beside(ctx, n.troubles.Run)

	err := n.host.Serve(run)

	endTroubles()
	endRecorder()
	endReadiness()
	endGuard()

	if damage := n.damage.Reason(); damage != nil {
		err = damage
	} else if by := n.haltedBy.Load(); by != nil {
		err = fmt.Errorf("%w: %w", exit.ErrHalted, by)
	} else if ctx.Err() != nil && (errors.Is(err, ctx.Err()) || errors.Is(err, context.Cause(ctx))) {
		err = nil
	}

	return errors.Join(exit.Classify(err), n.Close())
}

// beside runs f in a goroutine until the returned function is called, which waits for its end. The
// end of ctx does not end it, so that f also sees the stop of the tree.
func beside(ctx context.Context, f func(context.Context)) (end func()) {
	watching, cancel := context.WithCancel(context.WithoutCancel(ctx))

	var done sync.WaitGroup
	done.Go(func() { f(watching) })

	return func() {
		cancel()
		done.Wait()
	}
}

// Close releases the home. Run calls it at its end.
func (n *Node) Close() error {
	var errs []error

	if n.closePeers != nil {
		n.closePeers()
	}

	if n.logLease != nil {
		errs = append(errs, n.logLease.Close(), n.state.Close(), n.endKeptState())
		n.logLease, n.state = nil, nil
	}

	if n.table != nil {
		n.table.Close()
	}

	if n.agentLog != nil {
		errs = append(errs, n.agentLog.Close())
		n.agentLog = nil
	}

	if n.lock != nil {
		n.guard.check()
		n.listener.RemoveNodeFile()
		n.guard.forget(n.lock.Name())
		errs = append(errs, n.lock.Close())
		n.lock = nil
	}

	return errors.Join(errs...)
}

// Addr waits until the node listens, and returns its address.
func (n *Node) Addr(ctx context.Context) (string, error) { return n.listener.Addr(ctx) }

// Reload reads the certificate of the listener, the tokens, the streams and the gates again, and
// takes allowed_hosts and allowed_origins from c. Open connections keep the certificate that they
// have. Errors are exit.ErrConfig. What one of them is about stays as it was.
func (n *Node) Reload(c config.Config) error {
	return errors.Join(n.tokens.Reload(), n.listener.Reload(names(c)), n.reloadStreams())
}

// Bus returns the node's event bus. It outlives restarts of the pubsub part of the tree.
func (n *Node) Bus() *pubsub.Bus[engines.Event] { return n.bus }

// Supervisor returns the root of the tree.
func (n *Node) Supervisor() *supervisor.Supervisor { return n.host }

// die ends the process when an orderly stop is impossible, because an operation that holds the
// files of the state has failed for good. No data is lost: the log has every record.
func (n *Node) die(err error) {
	n.table.Close() // so that this does not count as a death of the transactions in flight
	n.diagnostics.Error("the state cannot go on", zap.Error(err))
	n.diagnostics.Sync()
	fmt.Fprintf(os.Stderr, "coppice: %v\n", err)
	os.Exit(exit.Failed)
}

// homeLost ends the process, because its home is no longer in its place. It writes nothing there:
// what is there now may be another home.
func (n *Node) homeLost(err error) {
	n.diagnostics.Error("the home is no longer in its place", zap.Error(err))
	n.diagnostics.Sync()
	fmt.Fprintf(os.Stderr, "coppice: the home %s was moved, removed or replaced while this node ran in it (%v). "+
		"The node has ended at once, and has written nothing to what is there now. Stop a node before you touch "+
		"its home\n", n.home, err)
	os.Exit(exit.Failed)
}

// core is what the children of coppice/node share during one run of it.
type core struct {
	dir *router.Directory
}
