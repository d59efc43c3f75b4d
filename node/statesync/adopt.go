package statesync

import (
	"context"
	"fmt"

	"go.uber.org/zap"

	"github.com/coppice-go/coppice/engines/chain"
	"github.com/coppice-go/coppice/engines/storage/portable"
	"github.com/coppice-go/coppice/node/config"
)

// adopt asks for a snapshot that another process has staged to be offered.
type adopt struct {
	staged string
	done   chan<- made // has room for the result
}

// Adopt offers a snapshot that another process has staged (portable.Dir.Stage), and returns it when
// it is offered. It waits for a snapshot that is being made. It is safe for concurrent use. Errors
// are those of portable.Dir.Adopt.
func (s *Sync) Adopt(ctx context.Context, staged string) (portable.Metadata, error) {
	done := make(chan made, 1)
	select {
	case s.adopts <- adopt{staged, done}:
	case <-ctx.Done():
		return portable.Metadata{}, context.Cause(ctx)
	}

	m := <-done // reading the chunks takes no other engine
	return m.Metadata, m.err
}

// take gives a staged snapshot its name, and offers it.
func (s *Sync) take(staged string) (portable.Metadata, error) {
	m, err := s.dir().Adopt(staged, s.Config.Keep, s.mayOffer)
	if err != nil {
		s.Diagnostics.Warn("snapshot for peers not taken from a file", zap.Error(err))
		return m, err
	}

	list, err := s.dir().Keep(s.Config.Keep, s.inUse)
	if err != nil {
		return m, err
	}
	s.count(list)

	s.mu.Lock()
	s.list = list
	s.mu.Unlock()

	s.Diagnostics.Info("snapshot for peers, from a file", zap.Uint64("height", m.Height), zap.Uint64("keys", m.Keys),
		zap.Uint64("bytes", m.Bytes), zap.Int("chunks", len(m.Chunks)))

	return m, nil
}

// mayOffer returns an error if a snapshot is of another chain than the node, or the node offers
// none.
func (s *Sync) mayOffer(m portable.Metadata) error {
	return MayOffer(m, chain.NameOf(s.Genesis.ChainId, s.Genesis.Period), s.Config)
}

// MayOffer returns an error if a node of the chain of that name, with that configuration, does not
// offer the snapshot m. Errors are portable.ErrSnapshot and portable.ErrStale.
func MayOffer(m portable.Metadata, name string, c config.StateSyncConfig) error {
	switch {
	case chain.NameOf(m.ChainID, m.Period) != name:
		return fmt.Errorf("%w: it is of chain %q, the home of %q", portable.ErrSnapshot, m.ChainID, name)
	case c.EveryHeights == 0:
		return fmt.Errorf("%w: state_sync.every_heights is 0, so that the node offers no snapshots and removes those "+
			"that it has", portable.ErrStale)
	}
	return nil
}
