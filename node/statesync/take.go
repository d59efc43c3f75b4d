package statesync

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"go.uber.org/zap"

	"github.com/coppice-go/coppice/engines/chain"
	"github.com/coppice-go/coppice/engines/consensus"
	"github.com/coppice-go/coppice/engines/logger"
	"github.com/coppice-go/coppice/engines/ordering"
	"github.com/coppice-go/coppice/engines/storage/durable"
	"github.com/coppice-go/coppice/engines/storage/portable"
	"github.com/coppice-go/coppice/engines/storage/snapshots"
	"github.com/coppice-go/coppice/node/home"
	"github.com/coppice-go/coppice/node/install"
	"github.com/coppice-go/coppice/node/plan"
	"github.com/coppice-go/coppice/supervisor"
)

// incoming is a peer's snapshot that is being taken.
type incoming struct {
	*portable.Import
	began time.Time

	// atReset means that the snapshot must be of the state at a reset.
	atReset bool

	// already means that the node's state already is the state of the snapshot. The chunks are
	// checked and change nothing. This happens when the consensus died after the state was in its
	// place, but before the consensus had noted that, so it takes the snapshot once more.
	already bool
	passed  uint32 // chunks that were checked if already is set
	ended   bool   // all chunks have come, and the state is in its place
}

// want returns the index of the next chunk.
func (in *incoming) want() uint32 {
	if in.already {
		return in.passed
	}

	next, _ := in.Next()
	return uint32(next)
}

// pendingInstall is an imported state that waits to be installed.
type pendingInstall struct {
	in   *incoming
	done chan error // holds one
}

// importPath returns the path of ImportDir.
func (s *Sync) importPath() string {
	return s.Disk.PathJoin(home.StateSyncDir(s.Home), ImportDir)
}

// Offer begins to take a snapshot: see consensus.StateSync.
func (s *Sync) Offer(ctx context.Context, o consensus.Offer) error {
	s.taking.Lock()
	defer s.taking.Unlock()

	if err := s.giveUp(); err != nil {
		return err
	}

	if o.Format != portable.Format {
		return fmt.Errorf("%w: %d, want %d", consensus.ErrSnapshotFormat, o.Format, portable.Format)
	}

	m, err := portable.Decode(o.Metadata)
	switch {
	case errors.Is(err, portable.ErrFormat):
		return fmt.Errorf("%w: %w", consensus.ErrSnapshotFormat, err)
	case err != nil:
		return fmt.Errorf("%w: %w", consensus.ErrSnapshot, err)
	case m.Height != o.Height || uint64(len(m.Chunks)) != uint64(o.Chunks) || !bytes.Equal(m.Hash(), o.Hash):
		return fmt.Errorf("%w: it is offered as height %d with %d chunks and hash %x, but its metadata has height %d, "+
			"%d chunks and hash %x",
			consensus.ErrSnapshot, o.Height, o.Chunks, o.Hash, m.Height, len(m.Chunks), m.Hash())
	}

	in := &incoming{began: time.Now(), atReset: o.AtReset}
	if in.Import, err = portable.NewImport(m, portable.Target{
		FS: s.Disk, Dir: s.importPath(), Fatal: s.Die, Chain: o.Chain, AppHash: o.AppHash, BlockHash: o.BlockHash,
		Time: o.Time,
	}); err != nil {
		return fmt.Errorf("%w: %w", consensus.ErrSnapshot, err)
	}

	store, err := s.store()
	if err != nil {
		return err
	}

	at, err := store.State(ctx)
	switch {
	case err != nil:
		return err

	case !at.Started() || chain.NameOf(at.ChainID, at.Period) == chain.NameOf(m.ChainID, m.Period) &&
		(at.Period < m.Period || at.Period == m.Period && at.Height < m.Height):
		// the snapshot is ahead of the state

	case at.ChainID == m.ChainID && at.Period == m.Period && at.Height == m.Height &&
		bytes.Equal(at.AppHash, m.AppHash):
		in.already = true

	default:
		return fmt.Errorf("%w: it is of %s at height %d (period %d), but the state is of %s at height %d (period %d) "+
			"with app hash %x",
			consensus.ErrSnapshot, m.ChainID, m.Height, m.Period, at.ChainID, at.Height, at.Period, at.AppHash)
	}

	s.in = in

	return nil
}

// giveUp drops the snapshot that is being taken, if there is one. The caller holds s.taking.
func (s *Sync) giveUp() error {
	in := s.in
	s.in = nil
	if in == nil || in.already || in.ended {
		return nil
	}
	return in.Abort()
}

// Apply takes the next chunk of the snapshot that was offered: see consensus.StateSync.
func (s *Sync) Apply(ctx context.Context, index uint32, chunk []byte) error {
	s.taking.Lock()
	defer s.taking.Unlock()

	if s.in == nil {
		return fmt.Errorf("%w: none was offered", consensus.ErrNoSnapshot)
	}

	err := s.apply(ctx, s.in, index, chunk)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, portable.ErrChunk):
		return fmt.Errorf("%w: %w", consensus.ErrChunk, err)
	case errors.Is(err, portable.ErrOrder):
		return &consensus.ChunkOrderError{Want: s.in.want(), Err: err}
	case errors.Is(err, portable.ErrSnapshot):
		err = fmt.Errorf("%w: %w", consensus.ErrSnapshot, err)
	}

	return errors.Join(err, s.giveUp())
}

// apply takes a chunk of in. The last one installs the imported state.
func (s *Sync) apply(ctx context.Context, in *incoming, index uint32, chunk []byte) error {
	if in.already || in.ended {
		if err := in.Check(index, chunk); err != nil || in.ended || index < in.passed {
			return err
		}
		if index > in.passed {
			return fmt.Errorf("%w: %d, want %d", portable.ErrOrder, index, in.passed)
		}

		in.passed++

		return nil
	}

	if err := in.Apply(index, chunk); err != nil {
		return err
	}
	if next, of := in.Next(); next < of {
		return nil
	}

	if err := in.Finish(); err != nil {
		return err
	}
	if in.atReset {
		if err := s.checkReset(in.Metadata); err != nil {
			return err
		}
	}
	if err := s.exchange(ctx, in); err != nil {
		return err
	}

	in.ended = true
	s.Diagnostics.Info("state taken from peers", zap.Uint64("height", in.Height), zap.Uint64("keys", in.Keys),
		zap.Uint64("bytes", in.Bytes), zap.Duration("took", time.Since(in.began)))

	return nil
}

// exchange has the service install the imported state, and waits until the transaction core has
// started with that state.
func (s *Sync) exchange(ctx context.Context, in *incoming) error {
	p := pendingInstall{in, make(chan error, 1)}
	select {
	case s.installs <- p:
	case <-ctx.Done():
		return context.Cause(ctx)
	}

	select {
	case err := <-p.done:
		if err != nil {
			return err
		}
	case <-ctx.Done():
		return context.Cause(ctx)
	}

	at, err := ordering.NewClient(s.Directory()).Info(ctx)
	if err == nil && (at.Committed.Height != in.Height || !bytes.Equal(at.Committed.AppHash, in.AppHash)) {
		err = fmt.Errorf("the state is at height %d with app hash %x, want the snapshot's: height %d with app hash %x",
			at.Committed.Height, at.Committed.AppHash, in.Height, in.AppHash)
	}

	return err
}

// install makes a snapshot of the imported state, and puts it in the place of the node's state. The
// marker data/installing names the snapshot, the snapshot is verified, and a record in the log says
// that it is installed. The files are exchanged when storage next opens the state. A crash at any
// step leaves the old state or the new one.
func (s *Sync) install(ctx context.Context, p pendingInstall) error {
	alone, err := s.Snapshots.Alone(ctx)
	if err != nil {
		return err
	}
	defer alone()

	if err := s.begin(ctx, snapshots.ID(p.in.Period, p.in.Height, 0)); err != nil {
		return err
	}

	return s.recycleCore(ctx)
}

// begin names the snapshot id in data/installing, makes and verifies that snapshot of the imported
// state, and writes the record of its installation to the log.
func (s *Sync) begin(ctx context.Context, id string) error {
	s.Installs.Lock()
	defer s.Installs.Unlock()

	log := logger.NewClient(s.Directory())

	st, err := log.Stat(ctx)
	if err != nil {
		return err
	}
	if err := install.WriteMarker(s.Disk, s.Home, install.Marker{SnapshotID: id, From: st.Durable + 1}); err != nil {
		return err
	}

	s.Installs.Verified = ""
	m, err := s.named(ctx, id)
	if err != nil {
		return err
	}

	s.Installs.Verified = m.ID
	rec, err := install.NewRecord(m)
	if err != nil {
		return err
	}

	_, err = log.Append(ctx, rec)
	return err
}

// named makes the snapshot id of the imported state, and returns its manifest.
func (s *Sync) named(ctx context.Context, id string) (snapshots.Manifest, error) {
	dir := s.Snapshots.Dir()
	if _, err := dir.Find(id); !errors.Is(err, snapshots.ErrNone) { // left by an attempt that failed
		if err := dir.Remove(id); err != nil {
			return snapshots.Manifest{}, err
		}
	}

	m, err := dir.Take(ctx, snapshots.Taking{
		Program: "coppice " + s.Version, Source: install.PeerSource, Now: time.Now(),
		Checkpoint: func(_ context.Context, to string) error {
			if err := s.Disk.Rename(s.importPath(), to); err != nil {
				return err
			}
			return durable.On(s.Disk).SyncDir(home.StateSyncDir(s.Home))
		},
	})

	if err == nil && m.ID != id {
		err = fmt.Errorf("the imported state is snapshot %s, want %s", m.ID, id)
	}

	return m, err
}

// recycleCore stops the transaction core and starts it again. When storage then opens the state, it
// installs the snapshot that data/installing names.
func (s *Sync) recycleCore(ctx context.Context) error {
	return supervisor.Recycle(ctx, s.Supervised(), plan.Transactions)
}
