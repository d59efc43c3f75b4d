package certificate

import (
	"context"
	"sync"

	"github.com/cometbft/cometbft/types"

	"github.com/coppice-go/coppice/engines/chain"
	comethome "github.com/coppice-go/coppice/engines/consensus/comet/home"
)

// Keeper keeps what carries a light client from one epoch to the next, before CometBFT's blocks are
// removed: the first block of each epoch and, if the validators have changed much since, blocks on
// the way from there to the end. It is a light client of the node's own chain. It is safe for
// concurrent use.
type Keeper struct {
	Home  string // of CometBFT
	Fetch func(ctx context.Context, height int64) (*types.LightBlock, error)

	// Step is the number of blocks after which Follow looks for the way again; 0: Follow keeps only
	// the first block, because no blocks are removed.
	Step uint64

	mu    sync.Mutex
	epoch uint64            // of at
	at    *types.LightBlock // the last block that is kept; nil: none of epoch
	seen  *types.LightBlock // the highest block to which at leads at once; nil: none yet
}

// Follow keeps the first block of the epoch that the chain is in and, each Step blocks, what is
// needed before blocks are removed. It returns the height up to which the kept blocks lead, above
// which CometBFT's blocks are still needed; 0: there are none.
func (k *Keeper) Follow(ctx context.Context, s chain.State) (kept uint64, err error) {
	k.mu.Lock()
	defer k.mu.Unlock()

	if err := k.first(ctx, s); err != nil {
		return 0, err
	}
	if last := uint64(k.last().Height); k.Step == 0 || s.Height < last+k.Step {
		return last, nil
	}

	to, err := k.Fetch(ctx, int64(s.Height))
	if err == nil {
		err = k.reach(ctx, to)
	}

	return uint64(k.last().Height), err
}

// last returns the highest block to which the kept blocks lead.
func (k *Keeper) last() *types.LightBlock {
	if k.seen != nil {
		return k.seen
	}
	return k.at
}

// first keeps the first block of the epoch, or reads what is kept of it already.
func (k *Keeper) first(ctx context.Context, s chain.State) error {
	if k.at != nil && k.epoch == s.Period {
		return nil
	}
	k.at, k.seen = nil, nil

	b, err := comethome.FirstBlock.Read(k.Home, s.Period)
	if err != nil {
		return err
	}
	if b == nil {
		first, err := k.Fetch(ctx, int64(max(s.InitialHeight, 1)))
		if err != nil {
			return err
		}
		if b, err = EncodeBlock(first); err != nil {
			return err
		}
		if err := comethome.FirstBlock.Write(k.Home, s.Period, b); err != nil {
			return err
		}
	}

	at, err := DecodeBlock(b)
	if err != nil {
		return err
	}
	way, err := k.way(s.Period)
	if err != nil {
		return err
	}
	if len(way) > 0 {
		at = way[len(way)-1]
	}

	k.at, k.epoch = at, s.Period

	return nil
}

// way returns the blocks on the way that are kept of an epoch.
func (k *Keeper) way(epoch uint64) ([]*types.LightBlock, error) {
	b, err := comethome.Way.Read(k.Home, epoch)
	if err != nil {
		return nil, err
	}
	return DecodeWay(b)
}

// reach keeps the blocks that lead to a later one.
func (k *Keeper) reach(ctx context.Context, to *types.LightBlock) error {
	if to.Height <= k.last().Height {
		return nil
	}

	// Mostly the last kept block leads there at once. If not, the one does to which it led before.
	var client Client
	more, err := client.Way(ctx, k.at, to, func(context.Context, int64) (*types.LightBlock, error) {
		return nil, ErrSignatures
	})
	if err != nil {
		from := k.last()
		if more, err = client.Way(ctx, from, to, k.Fetch); err != nil {
			return err
		}
		if from != k.at {
			more = append([]*types.LightBlock{from}, more...)
		}
	}

	if len(more) > 0 {
		if err := k.add(more); err != nil {
			return err
		}
	}
	k.seen = to

	return nil
}

// add keeps more blocks on the way.
func (k *Keeper) add(more []*types.LightBlock) error {
	way, err := k.way(k.epoch)
	if err != nil {
		return err
	}
	b, err := EncodeWay(append(way, more...))
	if err != nil {
		return err
	}
	if err := comethome.Way.Write(k.Home, k.epoch, b); err != nil {
		return err
	}

	k.at, k.seen = more[len(more)-1], nil
	return nil
}

// Before keeps what leads to F, the block that decided a reset of the chain in state s.
func (k *Keeper) Before(ctx context.Context, s chain.State, c Certificate) error {
	k.mu.Lock()
	defer k.mu.Unlock()

	if err := k.first(ctx, s); err != nil {
		return err
	}
	return k.reach(ctx, c.Decided)
}
