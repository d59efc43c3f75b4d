package node

import (
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"go.uber.org/zap"

	"github.com/coppice-go/coppice/engines"
	"github.com/coppice-go/coppice/engines/logger"
	"github.com/coppice-go/coppice/engines/storage"
	"github.com/coppice-go/coppice/eventlog"
	"github.com/coppice-go/coppice/node/api"
	"github.com/coppice-go/coppice/node/config"
	"github.com/coppice-go/coppice/node/events"
	"github.com/coppice-go/coppice/node/exit"
	"github.com/coppice-go/coppice/node/history"
	"github.com/coppice-go/coppice/node/home"
	"github.com/coppice-go/coppice/node/host"
	"github.com/coppice-go/coppice/node/inflight"
	"github.com/coppice-go/coppice/node/install"
	"github.com/coppice-go/coppice/node/retention"
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
	n.listener.Route(api.GRPCRoutes(n.view())...)
	n.listener.Route(n.meter.Routes()...)
	if n.service != nil {
		healthy := func() bool { c := n.ready.Condition(); return c.Able() }
		n.listener.Route(api.Route{Pattern: "/healthcheck", Class: api.Plain,
			Handler: api.Unread(n.service.handler(n.now, healthy))})
	}
	n.listener.Route(api.Route{Pattern: "/", Handler: n.gate, Class: api.Work})
}

// view returns the view that the admin service has of the process.
func (n *Node) view() host.View {
	return host.View{
		Root: func() *supervisor.Supervisor { return n.host }, Plan: n.plan, Profile: n.config.Profile, Down: n.whyDown,
		Ready:   n.ready.Condition,
		Version: n.version, Started: n.started, Home: n.home, News: n.news, End: n.Stop, Inspector: n.inspector(),
	}
}

// openSnapshots makes the snapshotter.
func (n *Node) openSnapshots() {
	n.snaps = retention.New(retention.Options{
		Home: n.home, Disk: n.disk(), Config: n.config, Version: n.version, Diagnostics: n.diagnostics,
		Directory: n.runDirectory, Consensus: n.copier, Every: n.retainEvery,
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

// openLog opens the event log, and marks the home as one that has a log.
func (n *Node) openLog() (*eventlog.Log, error) {
	keep, _ := n.config.Log.RetainBytes()

	l, err := eventlog.Open(home.LogDir(n.home), eventlog.Options{
		FS: n.logDisk, SegmentSize: n.config.Log.SegmentBytes, Retention: eventlog.Retention{Bytes: keep},
		Events: n.logNotice, Synced: n.synced,
	})
	if err != nil {
		return nil, err
	}

	if err := home.MarkStarted(n.home, l.ID()); err != nil {
		return nil, errors.Join(err, l.Close())
	}

	if err := n.beginEra(l); err != nil {
		return nil, errors.Join(err, l.Close())
	}

	n.eventLog.Store(l)

	return l, nil
}

// synced is called after each sync of the log, before what it made durable is acknowledged.
func (n *Node) synced(took time.Duration) {
	n.guard.check()
	n.meter.Synced(took)
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

// openState opens the state. If a record of the log says that a snapshot was installed, openState
// first puts that snapshot in the place of the old state.
func (n *Node) openState() (*storage.DB, error) {
	// While state sync names a snapshot and has not recorded it yet, Settle could not tell whether
	// to install it.
	n.installs.Lock()
	defer n.installs.Unlock()

	if err := install.Settle(n.disk(), n.home, func() (*eventlog.Log, func() error, error) {
		return n.eventLog.Load(), func() error { return nil }, nil // there is one: storage starts after the logger
	}, n.installs.Verified); err != nil {
		return nil, err
	}

	db, err := storage.Open(home.StateDir(n.home), storage.Options{
		FS: n.disk(), Logger: pebbleLog{n.diagnostics.Named("pebble").Sugar()}, OnFatal: n.die,
		Committed: n.meter.Committed,
	})
	if err != nil || n.stateDisk != nil {
		return db, err
	}
	if err := n.guard.watch(n.stateLock()); err != nil {
		return nil, errors.Join(err, db.Close())
	}

	return db, nil
}

// closeState closes the state. From then on, its directory may be exchanged.
func (n *Node) closeState(db *storage.DB) error {
	n.guard.check()
	n.guard.forget(n.stateLock())
	return db.Close()
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
