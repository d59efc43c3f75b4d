package node

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"google.golang.org/protobuf/proto"

	"github.com/coppice-go/coppice/engines"
	"github.com/coppice-go/coppice/engines/chain"
	"github.com/coppice-go/coppice/engines/logger"
	"github.com/coppice-go/coppice/engines/storage"
	"github.com/coppice-go/coppice/eventlog"
	"github.com/coppice-go/coppice/node/api"
	"github.com/coppice-go/coppice/node/config"
	"github.com/coppice-go/coppice/node/dashboard"
	"github.com/coppice-go/coppice/node/events"
	"github.com/coppice-go/coppice/node/exit"
	"github.com/coppice-go/coppice/node/history"
	"github.com/coppice-go/coppice/node/home"
	"github.com/coppice-go/coppice/node/host"
	"github.com/coppice-go/coppice/node/inflight"
	"github.com/coppice-go/coppice/node/install"
	"github.com/coppice-go/coppice/node/retention"
	apiv1 "github.com/coppice-go/coppice/proto/coppice/api/v1"
	"github.com/coppice-go/coppice/supervisor"
)

// openListener makes the host, which listens once the tree has started the child admin.
func (n *Node) openListener() (err error) {
	conns, err := host.CheckFiles()
	if err != nil {
		return err
	}

	if n.bounds.Conns == 0 {
		n.bounds = host.NewBounds(conns)
	}

	n.listener, err = host.New(host.Options{
		Home: n.home, Listen: n.config.Listen, TLS: n.config.TLS, Names: names(n.config),
		Tokens: n.tokens.Current, Bounds: n.bounds, Diagnostics: n.diagnostics,
	})

	return err
}

// names returns what the configuration says about browsers.
func names(c config.Config) host.Names { return host.Names{Hosts: c.Hosts(), Origins: c.Origins()} }

// route fills the listener's table of routes.
func (n *Node) route() {
	n.listener.Route(api.AdminRoutes(n.view(), n.news, n.tokens.Current, n.meter.Request)...)
	n.listener.Route(api.SnapshotRoutes(copies{n.snaps, n}, n.tokens.Current)...)
	n.listener.Route(api.PeerRoutes(n.peerSource())...)
	n.listener.Route(api.GRPCRoutes(n.view())...)
	if n.streams != nil {
		n.listener.Route(api.StreamsRoutes(n, n.tokens.Current)...)
	}
	n.listener.Route(n.meter.Routes()...)
	d := n.dashboard()
	n.listener.Route(d.Routes()...)
	n.listener.Login(d.Login())
	if n.service != nil {
		n.listener.Route(api.Route{Pattern: "/healthcheck", Class: api.Plain, Handler: n.healthHandler()})
	}
	n.listener.Route(api.FollowRoute(n.gate))
	n.listener.Route(api.Route{Pattern: "/", Handler: n.gate, Class: api.Work})
}

// dashboard returns the pages about this node.
func (n *Node) dashboard() *dashboard.Dashboard {
	v := n.view()
	o := dashboard.Options{
		Mode: dashboard.Mode(n.config.Dashboard), Host: v, Looker: v, Recorder: n.recorder, Tokens: n.tokens.Current,
		Log: (&figures{node: n}).log, Filters: n.bus.Stats, Chain: n.ready.Seen, Gates: n.gates.Statuses,
		Disk: n.room, Streams: n.streamStatuses, Epochs: n.endedEpochs,
		Explorer: func() api.Explorer {
			if c := n.core.Load(); c != nil {
				return newAPICore(n, c)
			}
			return nil
		},
	}
	if n.service != nil {
		o.Rounds = n.roundsNow
	}

	return dashboard.New(o)
}

// endedEpochs describes the epochs of the chain that resets have ended, the oldest first.
func (n *Node) endedEpochs(ctx context.Context) (list []string, err error) {
	certificates, err := n.peerSource().Certificates(ctx, 0)
	if err != nil {
		return nil, err
	}

	for _, c := range certificates {
		var p apiv1.ResetPoint
		if err := proto.Unmarshal(c.Point, &p); err != nil {
			return nil, err
		}
		list = append(list, fmt.Sprintf("epoch %d of %s, ended by the block at height %d", p.Epoch, p.Name, p.Height))
	}

	return list, nil
}

// view returns the view that the admin service has of the process.
func (n *Node) view() host.View {
	return host.View{
		Root: func() *supervisor.Supervisor { return n.host }, Plan: n.plan, Profile: n.config.Profile, Down: n.whyDown,
		Ready:   n.ready.Condition,
		Version: n.version, Started: n.started, Home: n.home, News: n.news, End: n.Stop, Inspector: n.inspector(),
		Recorder: n.recorder, Watcher: n.troubles, Level: n.setLevel(),
	}
}

// openSnapshots makes the snapshotter.
func (n *Node) openSnapshots() {
	n.snaps = retention.New(retention.Options{
		Home: n.home, Disk: n.disk(), Config: n.config, Version: n.version, Diagnostics: n.diagnostics,
		Directory: n.runDirectory, Consensus: n.copier, Every: n.retainEvery,
		Bootstraps: func(id string) bool { return n.streams != nil && n.streams.HoldsSnapshot(id) },
		Versions:   n.heldVersions,
	})
}

// runDirectory returns the directory of the current run of the node, or nil before the first.
func (n *Node) runDirectory() engines.Directory {
	if c := n.core.Load(); c != nil {
		return c.dir
	}

	return nil
}

// disk returns the file system of the state and the snapshots.
func (n *Node) disk() vfs.FS {
	if n.stateDisk != nil {
		return n.stateDisk
	}

	return guardedFS{vfs.Default, n.guard.check}
}

// wholeLog is how many bytes of the newest records are checked before the node starts. It takes
// some 20 ms. The logger checks the rest while the node runs. Whatever the node reads is checked in
// any case.
const wholeLog = 8 << 20

// openLog opens the event log, and marks the home as one that has a log.
func (n *Node) openLog() (*eventlog.Log, error) {
	keep, _ := n.config.Log.RetainBytes()

	l, err := eventlog.Open(home.LogDir(n.home), eventlog.Options{
		FS: n.logDisk, SegmentSize: n.config.Log.SegmentBytes, Retention: eventlog.Retention{Bytes: keep},
		QuickOpen: true, Whole: wholeLog, Checked: &n.checkedLog, Events: n.logNotice, Synced: n.synced,
	})
	if err != nil {
		return nil, err
	}

	if err := home.MarkStarted(n.home, l.ID()); err != nil {
		return nil, errors.Join(err, l.Close())
	}

	if n.history.Load() == nil { // the first run: nothing uses the backends yet
		started, err := chain.FirstStart(l.Cursor, l.First(), l.Durable())
		if err != nil {
			return nil, errors.Join(err, l.Close())
		}
		chain.BindStart(started, n.backends)
	}
	if err := n.beginEra(l); err != nil {
		return nil, errors.Join(err, l.Close())
	}

	if n.streams != nil {
		n.streams.Hold(l) // before anything can truncate the log
	}
	n.eventLog.Store(l)

	return l, nil
}

// synced is called after each sync of the log, before what it made durable is acknowledged.
func (n *Node) synced(took time.Duration) {
	n.guard.check()
	n.meter.Synced(took)
	n.recorder.Synced(took)
}

// committed is called after each commit of a block to the state.
func (n *Node) committed(txs int, took time.Duration) {
	n.meter.Committed(txs, took)
	n.recorder.Committed(txs)
}

// setLevel returns the function that changes the level of the diagnostics, or nil.
func (n *Node) setLevel() func(string) (string, error) {
	if n.level == nil {
		return nil
	}

	return func(name string) (before string, err error) {
		level, err := zapcore.ParseLevel(name)
		if err != nil || level < zap.DebugLevel || level > zap.ErrorLevel {
			return "", fmt.Errorf("%q, want debug, info, warn or error", name)
		}
		before = n.level.String()
		n.level.SetLevel(level)
		n.diagnostics.Warn("the level of the diagnostics was changed through the API", zap.String("before", before),
			zap.Stringer("level", level))

		return before, nil
	}
}

// beginEra notes durably that this process begins to write the log, when it opens it for the first
// time.
func (n *Node) beginEra(l *eventlog.Log) error {
	if n.history.Load() != nil {
		return nil
	}

	was, err := history.Read(n.home)
	switch {
	case errors.Is(err, history.ErrFile):
		n.diagnostics.Warn("cursors of earlier starts will be refused, because their history is unknown",
			zap.String("file", history.Path(n.home)), zap.Error(err))
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("%w: %w", exit.ErrConfig, err)
	}

	now := was.Begin(l.ID(), l.First(), l.Durable())
	if err := now.Write(n.home); err != nil {
		return err
	}

	n.history.Store(now)

	return nil
}

// runLog returns the event log of the current run of the node. Streams of events outlive a
// run, and call it again for the next.
func (n *Node) runLog() (events.Log, error) {
	c := n.core.Load()
	if c == nil {
		return nil, fmt.Errorf("%w: the node has not started", api.ErrUnavailable)
	}

	return logger.NewClient(c.dir), nil
}

// openState opens the state, or takes the one that closeState has kept. If a record of the log says
// that a snapshot was installed, openState first puts that snapshot in the place of the old state.
func (n *Node) openState() (*storage.DB, error) {
	// While state sync names a snapshot and has not recorded it yet, Settle could not tell whether
	// to install it.
	n.installs.Lock()
	defer n.installs.Unlock()

	kept := n.keptState
	n.keptState = nil
	if kept != nil {
		if in, err := install.ReadMarker(n.disk(), n.home); err == nil && in.SnapshotID == "" && kept.Renew() {
			return kept, nil
		}
		if err := n.endState(kept); err != nil {
			return nil, err
		}
	}

	if err := install.Settle(n.disk(), n.home, func() (*eventlog.Log, func() error, error) {
		return n.eventLog.Load(), func() error { return nil }, nil // there is one: storage starts after the logger
	}, n.installs.Verified); err != nil {
		return nil, err
	}

	db, err := storage.Open(home.StateDir(n.home), storage.Options{
		FS: n.disk(), Logger: pebbleLog{n.diagnostics.Named("pebble").Sugar()}, OnFatal: n.die,
		Committed: n.committed,
	})
	if err != nil || n.stateDisk != nil {
		return db, err
	}
	if err := n.guard.watch(n.stateLock()); err != nil {
		return nil, errors.Join(err, db.Close())
	}

	return db, nil
}

// closeState ends the use of the state by one incarnation of storage, whose operations have ended.
// It keeps a state that nothing is wrong with, for the next incarnation: to write its memory out,
// and to read it in again, would take most of the time of a restart.
func (n *Node) closeState(db *storage.DB) error {
	if db.Reusable() {
		n.keptState = db
		return nil
	}
	return n.endState(db)
}

// endState closes the state. From then on, its directory may be exchanged.
func (n *Node) endState(db *storage.DB) error {
	n.guard.check()
	n.guard.forget(n.stateLock())
	return db.Close()
}

// endKeptState closes the state that closeState has kept.
func (n *Node) endKeptState() error {
	db := n.keptState
	n.keptState = nil
	if db == nil {
		return nil
	}
	return n.endState(db)
}

// openTable opens the table of transactions in flight. It logs which transactions were executing
// when the previous process died.
func (n *Node) openTable() (*inflight.Table, error) {
	t, err := inflight.Open(home.InflightDir(n.home))
	if err != nil {
		return nil, err
	}

	was := t.Previous()
	if was.Ignored != "" {
		n.diagnostics.Warn("marks of the previous process do not count", zap.String("reason", was.Ignored))
	}

	for _, f := range was.Died {
		n.diagnostics.Warn("transaction was executing when the previous process died",
			zap.Stringer("transaction", f.ID), zap.Bool("placed", f.Placed))
	}

	return t, nil
}

// logNotice writes an event of the event log to the diagnostics.
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
