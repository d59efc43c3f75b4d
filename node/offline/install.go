package offline

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"github.com/coppice-go/coppice/engines/chain"
	"github.com/coppice-go/coppice/engines/storage/snapshots"
	"github.com/coppice-go/coppice/eventlog"
	"github.com/coppice-go/coppice/node/exit"
	"github.com/coppice-go/coppice/node/home"
	"github.com/coppice-go/coppice/node/install"
)

// InstallSnapshot replaces the state of a stopped home by a snapshot from another node of the same
// chain. The snapshot must be in the home's directory of snapshots, and must be ahead of the state.
// A record in the log (SnapshotInstalled) says that it was installed, and replay and verification
// continue from that record. InstallSnapshot verifies the snapshot first, but the caller must know
// that its app hash is the chain's. After a crash, the next start completes the installation or
// undoes it. Errors are exit.ErrDamage, exit.ErrHomeInUse, exit.ErrConfig and snapshots.ErrNone.
func InstallSnapshot(ctx context.Context, home, id string, progress func(done, total uint64)) (snapshots.Manifest,
	error) {
	h, err := Open(home, nil, nil)
	if err != nil {
		return snapshots.Manifest{}, err
	}
	defer h.Close()

	m, err := h.install(ctx, id, progress)
	return m, exit.Classify(err)
}

// install installs a snapshot (see InstallSnapshot).
func (h *StoppedHome) install(ctx context.Context, id string, progress func(done, total uint64)) (m snapshots.Manifest,
	err error) {
	if m, err = h.Snapshots().Verify(ctx, id, progress); err != nil {
		return m, err
	}
	if err := h.checkAhead(m); err != nil {
		return m, err
	}

	rec, err := install.NewRecord(m)
	if err != nil {
		return m, err
	}
	l, err := eventlog.Open(home.LogDir(h.home), eventlog.Options{FS: h.logs})
	if err != nil {
		return m, err
	}
	if err = install.WriteMarker(h.disk, h.home, install.Marker{SnapshotID: m.ID, From: l.Durable() + 1}); err == nil {
		_, err = l.AppendWait(ctx, rec)
	}
	if err = errors.Join(err, l.Close()); err != nil {
		return m, err
	}

	return m, h.settle()
}

// checkAhead returns an error if the snapshot is of another chain than the log, or not ahead of the
// log.
func (h *StoppedHome) checkAhead(m snapshots.Manifest) error {
	l, err := h.readLog()
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer l.Close()

	last, err := lastCommitted(l)
	if err != nil || !last.Started() {
		return err
	}

	if chain.NameOf(last.ChainID, last.Period) != chain.NameOf(m.ChainID, m.Period) || last.Period > m.Period ||
		last.Period == m.Period && last.Height >= m.Height {
		return fmt.Errorf("%w: snapshot %s is of %s at height %d (period %d), but the log already has %s at height "+
			"%d (period %d): want a snapshot of the same chain that is ahead of the log",
			exit.ErrConfig, m.ID, m.ChainID, m.Height, m.Period, last.ChainID, last.Height, last.Period)
	}

	return nil
}

// lastCommitted returns the state that the log's records lead to.
func lastCommitted(l *eventlog.Log) (s chain.State, err error) {
	for e, err := range chain.Records(l.Cursor, l.First(), chain.End,
		chain.KindChainStarted, chain.KindBlockCommitted, chain.KindSnapshotInstalled, chain.KindBase) {
		if err != nil {
			return s, err
		}

		m, err := chain.DecodeRecord(e)
		if err != nil {
			return s, fmt.Errorf("%w: %w", exit.ErrDamage, err)
		}

		s, _ = install.StateAfter(m, e.Index)
	}

	return s, nil
}
