package statesync

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	iofs "io/fs"
	"slices"
	"time"

	"go.uber.org/zap"

	"github.com/coppice-go/coppice/engines/chain"
	"github.com/coppice-go/coppice/engines/consensus"
	"github.com/coppice-go/coppice/engines/storage"
	"github.com/coppice-go/coppice/engines/storage/durable"
	"github.com/coppice-go/coppice/engines/storage/portable"
	"github.com/coppice-go/coppice/node/home"
	"github.com/coppice-go/coppice/node/retention"
)

// keepResets is the number of states at resets that are kept, beside those that a peer reads.
const keepResets = 1

// resets returns the directory of the states at resets, for peers.
func (s *Sync) resets() portable.Dir {
	return portable.Dir{FS: s.Disk, Path: home.ResetsDir(s.Home)}
}

// copies returns the directory of the copies of the state from which the states at resets are made.
// A copy shares its files with the state, so it is made at once; it is removed when the state is
// complete in its form for peers.
func (s *Sync) copies() durable.Dir {
	return durable.Dir{FS: s.Disk, Path: home.ResetCopiesDir(s.Home)}
}

// copyName returns the name of the copy of the state at a reset.
func copyName(r chain.Reset) string { return fmt.Sprintf("%d-%d", r.Epoch, r.Height) }

// Preserve makes a copy of the state at a reset durable: see consensus.StateSync. The service then
// makes the state for peers of it.
func (s *Sync) Preserve(ctx context.Context, at chain.State) error {
	if !at.InHold() {
		return fmt.Errorf("%w: %s is at height %d", chain.ErrNoReset, at.ChainID, at.Height)
	}

	s.preserving.Lock()
	defer s.preserving.Unlock()

	d, name := s.copies(), copyName(*at.Reset)
	if preserved, err := s.preserved(*at.Reset); err != nil || preserved {
		return err
	}

	store, err := s.store()
	if err != nil {
		return err
	}
	if err := errors.Join(d.FS.MkdirAll(d.Path, 0o700), d.FS.RemoveAll(d.New())); err != nil {
		return err
	}
	if err := store.Checkpoint(ctx, d.New()); err != nil {
		return err
	}
	if r, err := s.resetIn(d.New()); err != nil || r == nil || *r != *at.Reset {
		return errors.Join(err, d.FS.RemoveAll(d.New()),
			fmt.Errorf("%w in the copy of the state: it has %v, want %v", chain.ErrNoReset, r, at.Reset))
	}
	if err := d.Publish(name); err != nil {
		return err
	}

	select {
	case s.copied <- struct{}{}:
	default: // the service will look
	}

	return nil
}

// preserved reports whether the state at a reset is durable, as a copy or in its form for peers.
func (s *Sync) preserved(r chain.Reset) (bool, error) {
	for _, path := range []string{s.copies().Join(copyName(r)), s.Disk.PathJoin(s.resets().Path, copyName(r))} {
		_, err := s.Disk.Stat(path)
		if err == nil || !errors.Is(err, iofs.ErrNotExist) {
			return err == nil, err
		}
	}
	return false, nil
}

// resetIn returns the reset that is due in the state in a directory, or nil if none is.
func (s *Sync) resetIn(dir string) (due *chain.Reset, err error) {
	db, err := s.openCopy(dir)
	if err != nil {
		return nil, err
	}
	if at := db.State(); at.InHold() {
		due = at.Reset
	}
	return due, db.Close()
}

func (s *Sync) openCopy(dir string) (*storage.DB, error) {
	return storage.Open(dir, storage.Options{FS: s.Disk, ReadOnly: true, CacheBytes: 8 << 20})
}

// settleResets removes what is unfinished, and offers the complete states at resets.
func (s *Sync) settleResets() error {
	s.preserving.Lock() // a replaced incarnation of the consensus may still make a copy
	_, err := s.copies().Settle()
	s.preserving.Unlock()

	if err == nil {
		err = s.resets().Settle()
	}
	if err == nil {
		err = s.offerResets(nil)
	}
	return err
}

// offerResets removes the old states at resets, except those in use, and offers the others.
func (s *Sync) offerResets(inUse func(portable.Metadata) bool) error {
	list, err := s.resets().Keep(keepResets, inUse)
	if err != nil {
		return err
	}

	s.mu.Lock()
	defer s.mu.Unlock()
	s.atResets = list

	return nil
}

// exportResets makes the states for peers of all copies, and removes the copies.
// If one fails, its copy is tried again at the next reset and at the next start.
func (s *Sync) exportResets(ctx context.Context) {
	names, err := s.copies().Names()
	if err != nil {
		s.Diagnostics.Warn("the states at resets are not offered to peers", zap.Error(err))
		return
	}

	for _, name := range names {
		began := time.Now()
		m, err := s.exportReset(ctx, name)

		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			s.Tally.Failed()
			s.Diagnostics.Warn("state at a reset not made for peers", zap.String("copy", name), zap.Error(err))
		default:
			s.Diagnostics.Info("state at a reset, for peers", zap.Uint64("epoch", m.Period),
				zap.Uint64("height", m.Height), zap.Uint64("keys", m.Keys), zap.Uint64("bytes", m.Bytes),
				zap.Duration("took", time.Since(began)))
		}
	}
}

// exportReset makes the state for peers of a copy, unless there is one of a later reset.
func (s *Sync) exportReset(ctx context.Context, name string) (m portable.Metadata, err error) {
	path := s.copies().Join(name)
	db, err := s.openCopy(path)
	if err != nil {
		return m, err
	}
	defer func() { err = errors.Join(err, db.Close()) }()

	p, err := db.Pin()
	if err != nil {
		return m, err
	}
	pace := retention.Pace{Share: retention.PaceShare}
	if !s.hasLater(p.Period()) {
		m, err = s.resets().Take(ctx, p, portable.Taking{AtReset: true, Pace: pace.Wait})
	}
	if err := errors.Join(err, p.Close()); err != nil {
		return m, err
	}
	if err := s.offerResets(s.resetInUse); err != nil {
		return m, err
	}

	s.preserving.Lock()
	defer s.preserving.Unlock()
	return m, s.copies().Remove(name)
}

// hasLater reports whether the state at the reset of a later epoch is offered.
func (s *Sync) hasLater(epoch uint64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.ContainsFunc(s.atResets, func(m portable.Metadata) bool { return m.Period > epoch })
}

// resetInUse reports whether a peer may be about to take a chunk of m.
func (s *Sync) resetInUse(m portable.Metadata) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.Now().Sub(s.resetUsed[string(m.Hash())]) < useTime
}

// AtReset returns the metadata of the state at the reset that ended an epoch. It returns
// consensus.ErrNoSnapshot if the node does not have that state, no longer has it, or still makes
// it.
func (s *Sync) AtReset(epoch uint64) ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()

	at := slices.IndexFunc(s.atResets, func(m portable.Metadata) bool { return m.Period == epoch })
	if at < 0 {
		return nil, fmt.Errorf("%w: of the reset of epoch %d", consensus.ErrNoSnapshot, epoch)
	}

	m := s.atResets[at]
	s.useReset(m)
	return m.Encode(), nil
}

// useReset notes that a peer reads m. The caller holds s.mu.
func (s *Sync) useReset(m portable.Metadata) { s.resetUsed[string(m.Hash())] = s.Now() }

// ResetChunk returns a chunk of the state whose metadata has that hash. The errors are
// consensus.ErrNoSnapshot and those of the disk. If the chunk on disk is not as it was written, the
// state is no longer offered.
func (s *Sync) ResetChunk(hash []byte, index uint32) ([]byte, error) {
	has := func(m portable.Metadata) bool { return bytes.Equal(m.Hash(), hash) }
	var m portable.Metadata

	s.mu.Lock()
	at := slices.IndexFunc(s.atResets, has)
	if at >= 0 {
		m = s.atResets[at]
		s.useReset(m)
	}
	s.mu.Unlock()

	if at < 0 {
		return nil, fmt.Errorf("%w: of a reset, with hash %x", consensus.ErrNoSnapshot, hash)
	}

	chunk, err := s.resets().Chunk(m, index)
	if errors.Is(err, portable.ErrNone) {
		return nil, fmt.Errorf("%w: %w", consensus.ErrNoSnapshot, err)
	}
	if errors.Is(err, portable.ErrChunk) {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.atResets = slices.DeleteFunc(s.atResets, has)
	}

	return chunk, err
}
