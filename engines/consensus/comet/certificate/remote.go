package certificate

import (
	"context"
	"fmt"

	lighthttp "github.com/cometbft/cometbft/light/provider/http"
	"github.com/cometbft/cometbft/types"
)

// Newest asks the CometBFT RPC at an address for the newest block of the epoch of a trusted block,
// and verifies it. An error that wraps ErrCertificate is about what the server says.
func (c Client) Newest(ctx context.Context, trusted Trust, address string) (Trust, error) {
	provider, err := lighthttp.New(trusted.Block.ChainID, address)
	if err != nil {
		return Trust{}, fmt.Errorf("the RPC %s: %w", address, err)
	}

	newest, err := provider.LightBlock(ctx, 0)
	if err != nil {
		return Trust{}, fmt.Errorf("the newest block of the RPC %s: %w", address, err)
	}
	if newest.Height < trusted.Block.Height {
		return Trust{}, fmt.Errorf("the RPC %s: %w", address, ErrBlock.because("its newest block is %d of %s, and "+
			"the epoch has block %d", newest.Height, newest.ChainID, trusted.Block.Height))
	}
	if newest.Height == trusted.Block.Height {
		return trusted, same(trusted.Block, newest)
	}

	if _, err := c.Way(ctx, trusted.Block, newest, func(ctx context.Context, height int64) (*types.LightBlock, error) {
		return provider.LightBlock(ctx, height)
	}); err != nil {
		return Trust{}, fmt.Errorf("the RPC %s: %w", address, err)
	}

	return Trust{trusted.Epoch, newest}, nil
}
