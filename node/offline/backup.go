package offline

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"github.com/coppice-go/coppice/engines/consensus"
	"github.com/coppice-go/coppice/engines/storage/snapshots"
	"github.com/coppice-go/coppice/eventlog"
	"github.com/coppice-go/coppice/node/backends"
	"github.com/coppice-go/coppice/node/backup"
	"github.com/coppice-go/coppice/node/exit"
	"github.com/coppice-go/coppice/node/history"
	"github.com/coppice-go/coppice/node/home"
)

// Backup makes a backup of a stopped home in dest, which must not exist or must be an empty
// directory. The backup appears there complete and verified, or not at all. Errors are
// exit.ErrDamage, exit.ErrConfig and exit.ErrHomeInUse. Use the SnapshotService of a running node
// to back up the home that it uses.
func Backup(ctx context.Context, dir, dest string, o backup.Options) (backup.Info, error) {
	if err := home.CheckFormat(dir); err != nil {
		return backup.Info{}, err
	}
	if o.Prove == nil {
		o.Prove = Rehearse
	}

	w, err := backup.NewWriter(dest, o) // first: it says which of two backups to dest goes on
	if err != nil {
		return backup.Info{}, err
	}
	defer w.Abandon()

	h, err := Open(dir, nil, nil)
	if err != nil {
		return backup.Info{}, err
	}
	defer h.Close()

	h.fatal = o.Fatal
	if _, _, err := home.Restorer(dir); err != nil {
		return backup.Info{}, err
	}
	if err := checkFiles(dir, false); err != nil {
		return backup.Info{}, err
	}

	info, err := h.backup(ctx, w, o)
	return info, exit.Classify(err)
}

// backup takes a snapshot of the home, and writes the backup from it.
func (h *StoppedHome) backup(ctx context.Context, w *backup.Writer, o backup.Options) (info backup.Info, err error) {
	progress := o.ProgressFunc()
	m, _, err := h.create(ctx, o.Program, func(done, total uint64) { progress("snapshot", done, total) })
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, snapshots.ErrNone) {
		return info, fmt.Errorf("%w: %s was never started: there is nothing to back up except its files",
			exit.ErrConfig, h.home)
	}
	if err != nil {
		return info, err
	}

	needs, err := backends.Needed(ctx, h.home, h.logs, func(done, total uint64) { progress("backends", done, total) })
	if err != nil {
		return info, err
	}

	l, err := h.readLog()
	if err != nil {
		return info, err
	}
	defer l.Close()

	floor, err := poolFloor(ctx, l, progress)
	if err != nil {
		return info, err
	}

	files, err := h.copyConsensus(ctx)
	if err != nil {
		return info, err
	}
	if files != nil {
		defer files.Close()
	}

	b := backup.Sender{Home: h.home, Snapshots: h.Snapshots(), Manifest: m, First: min(m.Index+1, floor),
		Last: l.Durable(), OpenLog: l.Cursor, Send: w.Take, Backends: needs, History: h.history(),
		Consensus: files}
	if err := b.Run(ctx); err != nil {
		return info, err
	}

	return w.Finish(ctx)
}

// copyConsensus returns a copy of the files of the home's consensus, or nil if it keeps none of its
// own.
func (h *StoppedHome) copyConsensus(ctx context.Context) (consensus.Copy, error) {
	k, c, err := home.Restorer(h.home)
	if err != nil || k == nil {
		return nil, err
	}
	g, err := home.ReadGenesis(h.home)
	if err != nil {
		return nil, err
	}
	return k.CopyStopped(ctx, c.ConsensusHome(h.home, g))
}

// history returns the history of the home's log, or nil if it is unknown: then no cursor of before
// is accepted by a node that is restored from the backup.
func (h *StoppedHome) history() *history.History {
	was, err := history.Read(h.home)
	if err != nil {
		return nil
	}
	return was
}

// poolFloor returns the index of a log's oldest TxLaunched whose transaction has not ended. If
// there is none, it returns the index after the log's last record.
func poolFloor(ctx context.Context, l *eventlog.Log, progress func(step string, done, total uint64)) (uint64, error) {
	pending, first, last := newPending(), l.First(), l.Durable()
	err := backup.EachRecord(ctx, l, first, last, func(e eventlog.Entry) error {
		if e.Index%1024 == 0 {
			progress("pool", e.Index-first, last+1-first)
		}
		return pending.entry(e)
	})
	return pending.floor(last + 1), err
}
