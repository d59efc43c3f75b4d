package certificate

import (
	"context"
	"fmt"
	"time"

	"github.com/coppice-go/coppice/engines/chain"
)

// Trusted describes a block that is trusted.
type Trusted struct {
	Epoch      uint64
	ChainID    string
	Height     int64
	Hash       []byte
	Time       time.Time
	Validators int
}

// Handover is trust that went over resets.
type Handover struct {
	From   Trusted
	Begins []Trusted // the first block of each later epoch
	Newest *Trusted  // of the last epoch, if it was asked for
}

// Over carries trust in the block with a height and a hash over the resets whose proofs lie in a
// directory. With the address of a CometBFT RPC it also verifies the newest block there. It is
// Find, Carry and Newest for callers that do not know CometBFT's types.
func (c Client) Over(ctx context.Context, dir string, height int64, hash []byte, rpc string) (h Handover, err error) {
	epochs, err := Load(dir)
	if err != nil {
		return h, err
	}
	from, err := Find(epochs, height, hash)
	if err != nil {
		return h, fmt.Errorf("%s: %w", dir, err)
	}

	// The name is not proved by certificates alone: a block of another epoch is another chain's.
	if id := from.Block.ChainID; from.Epoch > 0 && chain.NameOf(id, from.Epoch) == id {
		return h, fmt.Errorf("%s: %w", dir, ErrBlock.because("block %d of epoch %d is of chain %q", height, from.Epoch,
			id))
	}

	begins, err := c.Carry(from, epochs)
	if err != nil {
		return h, fmt.Errorf("%s: %w", dir, err)
	}
	h.From = describe(from)
	last := from
	for _, b := range begins {
		h.Begins, last = append(h.Begins, describe(b)), b
	}

	if rpc != "" {
		newest, err := c.Newest(ctx, last, rpc)
		if err != nil {
			return h, err
		}
		seen := describe(newest)
		h.Newest = &seen
	}

	return h, nil
}

func describe(t Trust) Trusted {
	return Trusted{Epoch: t.Epoch, ChainID: t.Block.ChainID, Height: t.Block.Height, Hash: t.Block.Hash(),
		Time: t.Block.Time.UTC(), Validators: t.Block.ValidatorSet.Size()}
}
