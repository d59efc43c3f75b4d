package node

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"go.uber.org/zap"
	"golang.org/x/sys/unix"

	"github.com/coppice-go/coppice/engines"
	"github.com/coppice-go/coppice/engines/backend/kv"
	"github.com/coppice-go/coppice/engines/backend/kvstore"
	"github.com/coppice-go/coppice/engines/chain"
	"github.com/coppice-go/coppice/engines/consensus"
	"github.com/coppice-go/coppice/engines/router"
	"github.com/coppice-go/coppice/engines/storage"
	"github.com/coppice-go/coppice/eventlog"
	"github.com/coppice-go/coppice/node/api"
	"github.com/coppice-go/coppice/node/config"
	"github.com/coppice-go/coppice/node/events"
	"github.com/coppice-go/coppice/node/exit"
	"github.com/coppice-go/coppice/node/home"
	"github.com/coppice-go/coppice/node/inflight"
	"github.com/coppice-go/coppice/node/install"
	"github.com/coppice-go/coppice/node/metrics"
	"github.com/coppice-go/coppice/node/plan"
	"github.com/coppice-go/coppice/node/progress"
	logv1 "github.com/coppice-go/coppice/proto/coppice/log/v1"
	"github.com/coppice-go/coppice/pubsub"
	"github.com/coppice-go/coppice/supervisor"
	"github.com/coppice-go/coppice/supervisor/treemetrics"
)

// leaseBound is how long a revoked incarnation may keep an operation on the log or the state in
// flight. Past it nobody can tell what it still does to the files, and the process ends.
const leaseBound = 30 * time.Second

// Node is an opened home. Run may be called once.
type Node struct {
	home        string
	config      config.Config
	genesis     *logv1.ChainStarted
	token       string
	submitToken string // empty: there is none
	version     string
	diagnostics *zap.Logger
	started     time.Time

	backends  map[string]chain.Backend
	extra     []Engine
	observers []supervisor.Observer
	kind      consensus.Kind
	traits    consensus.Traits // of kind
	driver    consensus.Driver

	logDisk   eventlog.FS // nil: the operating system's, as the next
	stateDisk vfs.FS

	plan     plan.Place
	lock     *os.File
	table    *inflight.Table
	logLease *supervisor.Lease[*eventlog.Log]
	state    *supervisor.Lease[*storage.DB]
	bus      *pubsub.Bus[engines.Event]
	news     *events.Source
	meter    *metrics.Metrics
	trees    *treemetrics.Metrics
	eventLog atomic.Pointer[eventlog.Log] // the newest that was opened, for its figures
	gate     *api.Gate
	host     *supervisor.Supervisor
	damage   exit.DamageWatch
	bounds   bounds
	core     atomic.Pointer[core] // of the running node supervisor

	supervised  atomic.Pointer[supervisor.Supervisor] // of the node's children, in this run
	snaps       *snapshotter
	stateSync   *stateSync // nil: the consensus carries no snapshots
	installs    install.Mutex
	retainEvery time.Duration // between two rounds of retention
	now         func() time.Time
	progress    progress.Tracker

	address     atomic.Pointer[string]
	certificate atomic.Pointer[tls.Certificate] // nil: no TLS
	up          chan struct{}
}

// Engine is an engine of the user's, hung under "engines".
type Engine struct {
	ID string

	// Start makes one incarnation. The directory resolves the addresses of the node's engines in
	// this run of the node.
	Start func(dir engines.Directory) supervisor.StartFunc
}

// Option changes what New makes.
type Option func(*Node)

// WithBackend adds a transaction backend. One of the name of a shipped backend takes its place.
func WithBackend(b chain.Backend) Option { return func(n *Node) { n.backends[b.Name()] = b } }

// WithEngine hangs an engine under "engines".
func WithEngine(e Engine) Option { return func(n *Node) { n.extra = append(n.extra, e) } }

// WithLogger sends diagnostics to l. They are not the event log.
func WithLogger(l *zap.Logger) Option { return func(n *Node) { n.diagnostics = l } }

// WithObserver sends the events of the tree to o too.
func WithObserver(o supervisor.Observer) Option {
	return func(n *Node) { n.observers = append(n.observers, o) }
}

// WithDisk keeps the event log and the state on other disks than the operating system's: for tests
// that crash and fail them. The other files of the home stay where they are.
func WithDisk(log eventlog.FS, state vfs.FS) Option {
	return func(n *Node) { n.logDisk, n.stateDisk = log, state }
}

// WithVersion is the version that status shows.
func WithVersion(v string) Option { return func(n *Node) { n.version = v } }

// New opens a home: one process at a time, until Close or the end of Run. Errors are exit.ErrConfig and
// ErrHomeInUse.
func New(dir string, c config.Config, opts ...Option) (*Node, error) {
	n := &Node{
		home: dir, config: c, version: "unknown", diagnostics: zap.NewNop(), started: time.Now(),
		backends: map[string]chain.Backend{}, up: make(chan struct{}), retainEvery: retainEvery, now: time.Now,
	}

	for _, b := range []chain.Backend{kv.New(), kvstore.New()} {
		n.backends[b.Name()] = b
	}

	for _, o := range opts {
		o(n)
	}

	n.snaps, n.progress.Logger = newSnapshotter(n), n.diagnostics
	err := errors.Join(c.Validate(), home.CheckFormat(dir))
	if err != nil {
		return nil, err
	}
	g, rec, err := home.ReadGenesisFile(filepath.Join(dir, chain.GenesisFile))
	if err != nil {
		return nil, err
	}
	n.genesis = rec
	if n.token, n.submitToken, err = home.ReadTokens(dir); err != nil {
		return nil, err
	}
	if err := n.Reload(); err != nil {
		return nil, err
	}
	conns, err := checkFiles()
	if err != nil {
		return nil, err
	}
	if n.bounds.conns == 0 {
		n.bounds = newBounds(conns)
	}
	if err := n.openConsensus(g); err != nil {
		return nil, err
	}

	n.gate = api.NewGate(n.whyDown)

	if n.bus, err = pubsub.New[engines.Event](
		pubsub.Options{Intensity: n.plan.Find("coppice/pubsub").Intensity}); err != nil {
		return nil, err
	}

	n.news = events.New(events.Options{Bus: n.bus, Log: n.openEventLog, Streams: streamsOf(n.bounds.conns)})
	n.trees = &treemetrics.Metrics{}
	n.meter = metrics.New(n.sources())
	n.gate.Meter = n.meter.Request
	if n.lock, err = home.Lock(dir); err != nil {
		return nil, err
	}

	if n.table, err = n.openTable(); err != nil { // the first that writes below the home
		if err = exit.Classify(err); errors.Is(err, unix.EROFS) || errors.Is(err, fs.ErrPermission) {
			err = fmt.Errorf("%w: %w", exit.ErrConfig, err)
		}
		return nil, errors.Join(err, n.Close())
	}

	if err := errors.Join(home.StateWithoutLog(n.disk(), dir),
		install.Settle(n.disk(), dir, install.LogOnDisk(n.logDisk, dir), "")); err != nil {
		return nil, errors.Join(exit.Classify(err), n.Close())
	}

	n.logLease = supervisor.NewLease(n.openLog, (*eventlog.Log).Close, leaseBound)
	n.state = supervisor.NewLease(n.openState, (*storage.DB).Close, leaseBound)
	if n.host, err = supervisor.New(n.hostSpec()); err != nil {
		return nil, errors.Join(err, n.Close())
	}

	return n, nil
}

func (n *Node) openLog() (*eventlog.Log, error) {
	keep, _ := n.config.Log.RetainBytes()
	l, err := eventlog.Open(home.LogDir(n.home), eventlog.Options{
		FS: n.logDisk, SegmentSize: n.config.Log.SegmentBytes, Retention: eventlog.Retention{Bytes: keep},
		Events: n.logNotice, Synced: n.meter.Synced,
	})

	if err != nil {
		return nil, err
	}
	if err := home.MarkStarted(n.home, l.ID()); err != nil {
		return nil, errors.Join(err, l.Close())
	}

	n.eventLog.Store(l)

	return l, nil
}

// openState opens the state, after a snapshot of which the log was told has taken its place.
func (n *Node) openState() (*storage.DB, error) {
	n.installs.Lock() // between its name and its record nobody can tell what is to come of an installation
	defer n.installs.Unlock()

	if err := install.Settle(n.disk(), n.home, func() (*eventlog.Log, func() error, error) {
		return n.eventLog.Load(), func() error { return nil }, nil // the logger has started, or this would not
	}, n.installs.Verified); err != nil {
		return nil, err
	}

	return storage.Open(home.StateDir(n.home), storage.Options{
		FS: n.stateDisk, Logger: n.diagnostics.Named("pebble").Sugar(), OnFatal: n.die, Committed: n.meter.Committed,
	})
}

// openTable learns what the process before died of.
func (n *Node) openTable() (*inflight.Table, error) {
	t, err := inflight.Open(home.InflightDir(n.home))
	if err != nil {
		return nil, err
	}
	was := t.Previous()
	if was.Ignored != "" {
		n.diagnostics.Warn("marks of the process before do not count", zap.String("reason", was.Ignored))
	}

	for _, f := range was.Died {
		n.diagnostics.Warn("transaction was executing when the process before died", zap.Stringer("transaction", f.ID),
			zap.Bool("placed", f.Placed))
	}

	return t, nil
}

func (n *Node) logNotice(e eventlog.Event) {
	switch e := e.(type) {
	case eventlog.Failed:
		n.diagnostics.Error("event log", zap.Stringer("event", e))
	case eventlog.TornTail, eventlog.SpareFailed:
		n.diagnostics.Warn("event log", zap.Stringer("event", e))
	case eventlog.Progress:
		n.progress.Update("checking the event log", "bytes", uint64(e.Done), uint64(e.Total))
	default:
		n.diagnostics.Info("event log", zap.Stringer("event", e))
	}
}

// die ends the process where nothing can be stopped in order any more: the state's files are held
// by something that failed for good. Nothing is lost; the log has it.
func (n *Node) die(err error) {
	n.table.Close() // no transaction's fault
	n.diagnostics.Error("the state cannot go on", zap.Error(err))
	n.diagnostics.Sync()
	fmt.Fprintf(os.Stderr, "coppice: %v\n", err)
	os.Exit(exit.Failed)
}

// Run runs the tree. It returns nil when ctx ended and everything stopped in order, and otherwise
// why the tree gave up. It closes the node.
func (n *Node) Run(ctx context.Context) error {
	run, end := n.damage.Run(ctx)
	defer end()

	err := n.host.Serve(run)

	if damage := n.damage.Reason(); damage != nil {
		err = damage
	} else if ctx.Err() != nil && (errors.Is(err, ctx.Err()) || errors.Is(err, context.Cause(ctx))) {
		err = nil
	}

	return errors.Join(exit.Classify(err), n.Close())
}

// Close gives the home back. Run does it itself.
func (n *Node) Close() error {
	var errs []error
	if n.logLease != nil {
		errs = append(errs, n.logLease.Close(), n.state.Close())
		n.logLease, n.state = nil, nil
	}

	if n.table != nil {
		n.table.Close()
	}

	if n.lock != nil {
		os.Remove(filepath.Join(n.home, api.NodeFileName))
		errs = append(errs, n.lock.Close())
		n.lock = nil
	}

	return errors.Join(errs...)
}

// Addr waits until the node listens and answers where.
func (n *Node) Addr(ctx context.Context) (string, error) {
	select {
	case <-n.up:
		return *n.address.Load(), nil
	case <-ctx.Done():
		return "", context.Cause(ctx)
	}
}

// Bus is the node's event bus. It outlives restarts of the pubsub part of the tree.
func (n *Node) Bus() *pubsub.Bus[engines.Event] { return n.bus }

// Supervisor is the root of the tree.
func (n *Node) Supervisor() *supervisor.Supervisor { return n.host }

// core is what one run of the node supervisor shares.
type core struct {
	dir *router.Directory
}
