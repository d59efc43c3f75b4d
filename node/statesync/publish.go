package statesync

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/coppice-go/coppice/engines/chain"
	"github.com/coppice-go/coppice/engines/storage"
	"github.com/coppice-go/coppice/engines/storage/portable"
)

// due is a state of which a snapshot is to be made.
type due struct {
	*storage.Pinned
	done chan<- made // receives the result and has room for it; nil: nobody waits
}

// made is the result of making a snapshot.
type made struct {
	portable.Metadata
	err error
}

// Publish makes a snapshot of the present state for peers, at whatever height that is, and returns
// it when it is offered. Other nodes do not have the same snapshot, so a peer takes all of it from
// this node. It waits for a snapshot that is being made. It is safe for concurrent use.
func (s *Sync) Publish(ctx context.Context) (portable.Metadata, error) {
	store, err := s.store()
	if err != nil {
		return portable.Metadata{}, err
	}
	p, err := store.Pin(ctx)
	if err != nil {
		return portable.Metadata{}, err
	}
	if p.Height() == 0 {
		return portable.Metadata{}, errors.Join(
			fmt.Errorf("%w: there is no block, and no state for a snapshot", chain.ErrNotStarted), p.Close())
	}

	s.mu.Lock()
	at := slices.IndexFunc(s.list, func(m portable.Metadata) bool { return m.Height == p.Height() })
	if at >= 0 {
		m := s.list[at]
		s.mu.Unlock()
		return m, p.Close()
	}
	if s.making == 0 {
		s.making = p.Height()
	}
	s.mu.Unlock()

	done := make(chan made, 1)
	select {
	case s.due <- due{p, done}:
	case <-ctx.Done():
		return portable.Metadata{}, errors.Join(context.Cause(ctx), p.Close())
	}

	select {
	case m := <-done:
		if m.err != nil {
			return portable.Metadata{}, fmt.Errorf("snapshot for peers at height %d: %w", p.Height(), m.err)
		}
		return m.Metadata, nil
	case <-ctx.Done(): // the snapshot is made nevertheless
		return portable.Metadata{}, context.Cause(ctx)
	}
}
