package certificate

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/cometbft/cometbft/light"
	"github.com/cometbft/cometbft/types"

	"github.com/coppice-go/coppice/engines/chain"
)

// Trust is a block that a light client trusts, and the epoch that it is of.
type Trust struct {
	Epoch uint64
	Block *types.LightBlock
}

// ErrTrust: the block that is to be trusted is not among those that are kept.
var ErrTrust = errors.New("trusted block")

// Client is a light client that goes over resets. The zero value is usable.
type Client struct {
	// Period is the largest age of the block that is trusted at the beginning; 0: any. On a chain
	// whose validators may sign an old chain anew without a loss, an old trust is worth little.
	Period time.Duration

	// Now returns the time; nil means time.Now.
	Now func() time.Time
}

// Bounds of CometBFT's light verification. Client judges the age of a trust itself.
const (
	anyAge   = time.Duration(math.MaxInt64)
	mostLead = 10 * time.Second // of a header over this machine's clock
)

func (c Client) now() time.Time {
	if c.Now == nil {
		return time.Now()
	}
	return c.Now()
}

// Find returns the block with a height and a hash among those that are kept of a chain.
func Find(epochs []Epoch, height int64, hash []byte) (Trust, error) {
	var kept []string
	for _, e := range epochs {
		for _, b := range e.blocks() {
			kept = append(kept, fmt.Sprint(b.Height))
			if b.Height != height {
				continue
			}
			if !bytes.Equal(b.Hash(), hash) {
				return Trust{}, fmt.Errorf("%w: block %d has the hash %X here, want %X", ErrTrust, height, b.Hash(),
					hash)
			}
			return Trust{e.Number, b}, nil
		}
	}
	return Trust{}, fmt.Errorf("%w: block %d is not kept, want one of the blocks %s", ErrTrust, height,
		cmp.Or(strings.Join(kept, ", "), "(there are none)"))
}

// Carry carries trust in a block to the newest of the epochs, and returns the first block of each
// epoch after that of the block. Within an epoch it verifies as CometBFT's light client does. From
// an epoch to the next one it wants the certificate of the reset, and a first block that more than
// two thirds of the validators have signed that the certificate names. The epochs are in order. An
// error wraps ErrCertificate, and names the epoch.
func (c Client) Carry(trusted Trust, epochs []Epoch) (begins []Trust, err error) {
	name := chain.NameOf(trusted.Block.ChainID, trusted.Epoch)
	if err := signed(idOf(name, trusted.Epoch), trusted.Block, trusted.Block.ValidatorSet); err != nil {
		return nil, fmt.Errorf("epoch %d: %w", trusted.Epoch, err)
	}
	if age := c.now().Sub(trusted.Block.Time); c.Period > 0 && age > c.Period {
		return nil, fmt.Errorf("%w: block %d is %v old, want at most %v", ErrTrust, trusted.Block.Height,
			age.Round(time.Second), c.Period)
	}

	now := trusted
	for _, e := range epochs {
		switch {
		case e.Number < now.Epoch:
			continue
		case e.Number > now.Epoch:
			if now, err = begin(name, epochs, now.Epoch, e); err != nil {
				return nil, fmt.Errorf("epoch %d: %w", e.Number, err)
			}
			begins = append(begins, now)
		}

		if e.End == nil {
			continue
		}
		if err := c.end(name, now, e); err != nil {
			return nil, fmt.Errorf("epoch %d: %w", e.Number, err)
		}
	}

	if len(epochs) == 0 {
		return nil, nil
	}
	if last := epochs[len(epochs)-1]; last.End != nil && last.Number >= now.Epoch {
		return nil, fmt.Errorf("epoch %d: %w", last.Number+1, ErrMissing.because("its first block is not kept, so "+
			"nothing says that the chain was reset at height %d", last.End.Decided.Height))
	}

	return begins, nil
}

// begin returns the trust in the first block of an epoch, which follows an epoch whose end was
// verified.
func begin(name string, epochs []Epoch, before uint64, e Epoch) (Trust, error) {
	i := slices.IndexFunc(epochs, func(b Epoch) bool { return b.Number == before })
	if e.Number != before+1 || i < 0 || epochs[i].End == nil {
		return Trust{}, ErrMissing.because("there is no certificate of the reset that ended epoch %d", before)
	}
	if e.First == nil {
		return Trust{}, ErrMissing.because("its first block is not kept, so nothing says that the chain was reset at "+
			"height %d", epochs[i].End.Decided.Height)
	}
	return Trust{e.Number, e.First}, epochs[i].End.Begins(idOf(name, e.Number), e.Number, e.First)
}

// end verifies the certificate of the reset that ended an epoch, from a block of that epoch.
func (c Client) end(name string, now Trust, e Epoch) error {
	if err := e.End.Verify(idOf(name, e.Number), e.Number); err != nil {
		return err
	}

	decided := e.End.Decided
	switch {
	case now.Block.Height > e.End.Held.Height:
		return ErrBlock.because("block %d is trusted, and the certificate says that the epoch ended with %d",
			now.Block.Height, e.End.Held.Height)
	case now.Block.Height == e.End.Held.Height: // it names the block before
		return same(now.Block, e.End.Held)
	case now.Block.Height == decided.Height:
		return same(now.Block, decided)
	}

	at := now.Block
	for _, next := range append(slices.Clone(e.Way), decided) {
		if next.Height <= at.Height || next.Height > decided.Height {
			continue // it lies before the block that is trusted
		}
		if next.Height == decided.Height {
			next = decided
		}
		if err := c.verify(at, next); err != nil {
			return err
		}
		at = next
	}

	return nil
}

// same returns an error if two blocks of one height differ.
func same(trusted, kept *types.LightBlock) error {
	if !bytes.Equal(trusted.Hash(), kept.Hash()) {
		return ErrBlock.because("block %d is %X, want the trusted %X", kept.Height, kept.Hash(), trusted.Hash())
	}
	return nil
}

// verify verifies a block from one before it in the same epoch.
func (c Client) verify(trusted, next *types.LightBlock) error {
	if err := signed(trusted.ChainID, next, next.ValidatorSet); err != nil {
		return err
	}

	err := light.Verify(trusted.SignedHeader, trusted.ValidatorSet, next.SignedHeader, next.ValidatorSet, anyAge,
		c.now(), mostLead, light.DefaultTrustLevel)
	switch {
	case errors.As(err, new(light.ErrNewValSetCantBeTrusted)):
		return ErrSignatures.because("block %d: too few of the validators of block %d have signed it: %w", next.Height,
			trusted.Height, err)
	case err != nil:
		return ErrBlock.because("block %d: %w", next.Height, err)
	}

	return nil
}

// Way verifies a block from one before it in the same epoch, and returns the blocks between them
// that a light client needs for that. It fetches them with fetch; mostly it needs none, because
// enough of the validators of the first block have signed the last one.
func (c Client) Way(ctx context.Context, from, to *types.LightBlock,
	fetch func(ctx context.Context, height int64) (*types.LightBlock, error)) (way []*types.LightBlock, err error) {
	at, ahead := from, []*types.LightBlock{to}

	for len(ahead) > 0 {
		next := ahead[len(ahead)-1]
		err := c.verify(at, next)
		if err == nil {
			at, ahead = next, ahead[:len(ahead)-1]
			if len(ahead) > 0 {
				way = append(way, next)
			}
			continue
		}

		middle := at.Height + (next.Height-at.Height)/2
		if !errors.Is(err, ErrSignatures) || middle == at.Height {
			return nil, err
		}
		between, fetched := fetch(ctx, middle)
		if fetched != nil {
			return nil, fmt.Errorf("block %d: %w", middle, fetched)
		}
		if between.Height != middle {
			return nil, ErrBlock.because("asked for block %d, got %d", middle, between.Height)
		}
		ahead = append(ahead, between)
	}

	return way, nil
}

// idOf returns the chain id of an epoch.
func idOf(name string, epoch uint64) string { return chain.EpochID(name, epoch) }
