package statesync

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"

	"go.uber.org/zap"

	"github.com/coppice-go/coppice/engines/consensus"
	"github.com/coppice-go/coppice/engines/storage/portable"
)

// errNoPeer: no peer has given the state that was asked for.
var errNoPeer = errors.New("no peer has given the state at the reset")

// Join takes the state at a reset from the peers: see consensus.Joiner. A peer that gives a wrong
// chunk is left, and its place is taken by one that offers the same snapshot. A snapshot that is
// not what the point says is given up, and the next one is taken. Nothing of either is installed.
func (s *Sync) Join(ctx context.Context, at consensus.ResetPoint, peers []consensus.Peer) error {
	store, err := s.store()
	if err != nil {
		return err
	}
	switch now, err := store.State(ctx); {
	case err != nil:
		return err
	case now.Started() && (now.Period > at.Epoch || now.Period == at.Epoch && now.Height >= at.Height):
		return nil // a Join that was repeated
	}

	offers, failed := s.askForReset(ctx, at, peers)
	for _, o := range offers {
		err := s.takeReset(ctx, at, o)
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if !errors.Is(err, consensus.ErrSnapshot) && !errors.Is(err, errNoPeer) {
			return err // of this node
		}

		s.Diagnostics.Warn("state at a reset not taken", zap.Uint64("epoch", at.Epoch), zap.Uint64("height", at.Height),
			zap.Stringers("peers", o.from), zap.Error(err))
		failed = append(failed, err)
	}

	return fmt.Errorf("%w of epoch %d at height %d: %w", errNoPeer, at.Epoch, at.Height, errors.Join(failed...))
}

// resetOffer is a snapshot that some peers offer.
type resetOffer struct {
	consensus.Snapshot
	bytes uint64
	from  []consensus.Peer
}

// askForReset asks all peers for the state at a reset. It returns what they offer, first what most
// of them do, and of those the smallest, and why the others offer nothing.
func (s *Sync) askForReset(ctx context.Context, at consensus.ResetPoint, peers []consensus.Peer) (offers []resetOffer,
	failed []error) {
	for _, p := range peers {
		snapshot, bytes, err := askOne(ctx, at, p)
		if err != nil {
			failed = append(failed, fmt.Errorf("%v: %w", p, err))
			continue
		}

		same := func(o resetOffer) bool { return string(o.Hash) == string(snapshot.Hash) }
		if i := slices.IndexFunc(offers, same); i >= 0 {
			offers[i].from = append(offers[i].from, p)
		} else {
			offers = append(offers, resetOffer{snapshot, bytes, []consensus.Peer{p}})
		}
	}

	slices.SortStableFunc(offers, func(a, b resetOffer) int {
		if len(a.from) != len(b.from) {
			return len(b.from) - len(a.from)
		}
		return compareSizes(a.bytes, b.bytes)
	})

	return offers, failed
}

func compareSizes(a, b uint64) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

// askOne asks a peer for the state at a reset, and checks that its description is of that state.
func askOne(ctx context.Context, at consensus.ResetPoint, p consensus.Peer) (o consensus.Snapshot, size uint64,
	err error) {
	metadata, err := p.AtReset(ctx, at.Epoch)
	if err != nil {
		return o, 0, err
	}
	m, err := portable.Decode(metadata)
	if err != nil {
		return o, 0, fmt.Errorf("%w: %w", consensus.ErrSnapshot, err)
	}

	switch {
	case m.ChainID != at.ChainID || m.Period != at.Epoch || m.Height != at.Height:
		err = fmt.Errorf("%w: it is of %.60q (epoch %d) at height %d, want %q (epoch %d) at %d", consensus.ErrSnapshot,
			m.ChainID, m.Period, m.Height, at.ChainID, at.Epoch, at.Height)

	case !bytes.Equal(m.AppHash, at.AppHash):
		err = fmt.Errorf("%w: it has app hash %x, want %x", consensus.ErrSnapshot, m.AppHash, at.AppHash)
	}

	return snapshotOf(m), m.Bytes, err
}

// takeReset takes a snapshot from the peers that offer it.
func (s *Sync) takeReset(ctx context.Context, at consensus.ResetPoint, o resetOffer) error {
	if usage, err := s.Disk.GetDiskUsage(s.Home); err == nil && usage.AvailBytes < o.bytes {
		return fmt.Errorf("%w: it has %d bytes, and there are %d left on the disk", consensus.ErrSnapshot, o.bytes,
			usage.AvailBytes)
	}

	if err := s.Offer(ctx, consensus.Offer{Snapshot: o.Snapshot, Chain: at.Started, AppHash: at.AppHash,
		BlockHash: at.BlockHash, Time: at.Time, AtReset: true}); err != nil {
		return err
	}

	s.Diagnostics.Info("taking the state at a reset", zap.Uint64("epoch", at.Epoch), zap.Uint64("height", at.Height),
		zap.Uint64("bytes", o.bytes), zap.Stringers("peers", o.from))

	// Each peer gives a part of the chunks, so that none has the whole load.
	from := slices.Clone(o.from)
	for i := range o.Chunks {
		err := s.takeChunk(ctx, o, i, &from)
		if err != nil {
			return errors.Join(err, s.leave())
		}
	}

	return nil
}

// takeChunk takes a chunk from one of the peers in from. It removes the peers that do not give it.
func (s *Sync) takeChunk(ctx context.Context, o resetOffer, index uint32, from *[]consensus.Peer) error {
	var failed []error

	for len(*from) > 0 {
		at := int(index) % len(*from)
		p := (*from)[at]

		chunk, err := p.ResetChunk(ctx, o.Hash, index)
		if err == nil {
			if err = s.Apply(ctx, index, chunk); err == nil {
				return nil
			}
			if !errors.Is(err, consensus.ErrChunk) {
				return err
			}
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}

		s.Diagnostics.Warn("a peer does not give the state at the reset", zap.Stringer("peer", p),
			zap.Uint32("chunk", index), zap.Error(err))
		failed = append(failed, fmt.Errorf("%v: chunk %d: %w", p, index, err))
		*from = slices.Delete(*from, at, at+1)
	}

	return fmt.Errorf("%w: %w", errNoPeer, errors.Join(failed...))
}

// leave gives up the snapshot that is being taken.
func (s *Sync) leave() error {
	s.taking.Lock()
	defer s.taking.Unlock()
	return s.giveUp()
}

// checkReset returns an error unless the imported state is that at a reset: of its metadata's
// height, which decided it.
func (s *Sync) checkReset(m portable.Metadata) error {
	r, err := s.resetIn(s.importPath())
	if err != nil {
		return err
	}
	if r == nil || r.Epoch != m.Period || r.Height != m.Height || r.TimeNs != m.Clock.UnixNano() {
		return fmt.Errorf("%w: block %d of %s did not decide a reset: the state after it has %v", portable.ErrSnapshot,
			m.Height, m.ChainID, r)
	}
	return nil
}
