package certificate

import (
	"bytes"
	"errors"
	"fmt"
	"slices"

	"github.com/cometbft/cometbft/types"

	"github.com/coppice-go/coppice/engines/chain"
	comethome "github.com/coppice-go/coppice/engines/consensus/comet/home"
	"github.com/coppice-go/coppice/engines/storage/apphash"
	logv1 "github.com/coppice-go/coppice/proto/coppice/log/v1"
)

// Certificate proves that a chain has ended at a reset.
type Certificate struct {
	Decided *types.LightBlock   // F, the block that decided the reset
	Held    *types.LightBlock   // F+1
	After   *types.ValidatorSet // of F+2; the next epoch begins with it
	Root    []byte              // of the state after F
}

// ErrCertificate is the error for a certificate, or for a sequence of them, that proves nothing
// about the chain. The errors below say what is wrong, and wrap it.
var ErrCertificate = errors.New("certificate of a reset")

// What is wrong with a certificate.
var (
	ErrForm       = fault("it cannot be read")
	ErrBlock      = fault("wrong block")
	ErrRoot       = fault("wrong state root")
	ErrSet        = fault("wrong validator set")
	ErrSignatures = fault("too few signatures")
	ErrNoReset    = fault("no reset at that height")
	ErrMissing    = fault("missing epoch")
)

// fault is one of the things that can be wrong.
type fault string

// Error implements error.
func (f fault) Error() string { return string(f) }

// Is makes each fault an ErrCertificate.
func (fault) Is(target error) bool { return target == ErrCertificate }

// because returns an error with the fault f. It begins with what a certificate is.
func (f fault) because(format string, args ...any) error {
	return fmt.Errorf("%w: %w: %w", ErrCertificate, f, fmt.Errorf(format, args...))
}

// Check returns an error if the certificate is not that of the reset which is due in state s. The
// state after F is our own, so nothing else has to say that F decided the reset.
func (c Certificate) Check(s chain.State) error {
	if !s.InHold() {
		return ErrNoReset.because("no reset is due in %s at height %d", s.ChainID, s.Height)
	}
	if c.Decided.Height != int64(s.Reset.Height) {
		return ErrBlock.because("it has block %d, want %d, which decided the reset", c.Decided.Height,
			s.Reset.Height)
	}

	// The held block has not changed the state.
	if !bytes.Equal(c.Held.AppHash, s.AppHash) {
		return ErrRoot.because("block %d has app hash %X, the state at the reset has %x", c.Held.Height, c.Held.AppHash,
			s.AppHash)
	}
	if err := c.Verify(s.ChainID, s.Period); err != nil {
		return err
	}
	// What this node has committed itself says whose signatures count.
	own := c.Decided
	if s.Height > s.Reset.Height {
		own = c.Held
	}
	if !bytes.Equal(own.Hash(), s.BlockHash) {
		return ErrBlock.because("block %d is %X, this node has committed %X", own.Height, own.Hash(), s.BlockHash)
	}

	if c.Decided.Time.UnixNano() != s.Reset.TimeNs {
		return ErrBlock.because("block %d is of %v, the reset of %v", c.Decided.Height, c.Decided.Time.UTC(),
			s.Reset.Time().UTC())
	}

	return nil
}

// Verify returns an error if the certificate contradicts itself: each of both blocks of the chain
// with the given id must be signed by more than two thirds of its validators, F+1 must follow F and
// name the validators after it, and the root must be that of the app hash in an epoch. It does not
// say that F is a block of the chain (Carry does), nor that F decided a reset.
func (c Certificate) Verify(chainID string, epoch uint64) error {
	if c.Held.Height != c.Decided.Height+1 {
		return ErrBlock.because("it has the blocks %d and %d, want one after the other", c.Decided.Height,
			c.Held.Height)
	}
	for _, b := range []*types.LightBlock{c.Decided, c.Held} {
		if err := signed(chainID, b, b.ValidatorSet); err != nil {
			return err
		}
	}

	switch decided, held := c.Decided.Header, c.Held.Header; {
	case !bytes.Equal(held.LastBlockID.Hash, c.Decided.Hash()):
		return ErrBlock.because("block %d follows %X, want %X", held.Height, held.LastBlockID.Hash, c.Decided.Hash())
	case !bytes.Equal(decided.NextValidatorsHash, held.ValidatorsHash):
		return ErrSet.because("the validators of block %d are not those that block %d names", held.Height,
			decided.Height)
	case !bytes.Equal(c.After.Hash(), held.NextValidatorsHash):
		return ErrSet.because("the validators after block %d are not those that it names", held.Height)
	case !bytes.Equal(apphash.Of(c.Root, epoch), held.AppHash):
		return ErrRoot.because("block %d has app hash %X, the root %x leads to %x in epoch %d", held.Height,
			held.AppHash, c.Root, apphash.Of(c.Root, epoch), epoch)
	}

	return nil
}

// Begins returns an error if a block is not the first one of the epoch that follows the
// certificate, which has the given id and number. It is what says that the chain was reset at F.
func (c Certificate) Begins(chainID string, epoch uint64, first *types.LightBlock) error {
	if first.Height <= c.Held.Height {
		return ErrBlock.because("%s begins at height %d, want one above %d", chainID, first.Height, c.Held.Height)
	}
	if !bytes.Equal(first.ValidatorsHash, c.After.Hash()) {
		return ErrSet.because("the validators of the first block of %s are not those after block %d", chainID,
			c.Held.Height)
	}
	if err := signed(chainID, first, c.After); err != nil {
		return err
	}

	switch want := apphash.Of(c.Root, epoch); {
	case !first.LastBlockID.IsZero():
		return ErrBlock.because("block %d of %s is not the first one", first.Height, chainID)
	case !bytes.Equal(first.AppHash, want):
		return ErrNoReset.because("%s begins with app hash %X, the state after block %d leads to %x", chainID,
			first.AppHash, c.Decided.Height, want)
	case !first.Time.Equal(c.Decided.Time):
		return ErrNoReset.because("%s begins at %v, block %d is of %v", chainID, first.Time.UTC(), c.Decided.Height,
			c.Decided.Time.UTC())
	case !bytes.Equal(first.ConsensusHash, c.Held.ConsensusHash):
		return ErrBlock.because("%s begins with other limits of its blocks than block %d has", chainID, c.Held.Height)
	}

	return nil
}

// signed returns an error unless more than two thirds of a set have signed a block of a chain.
func signed(chainID string, b *types.LightBlock, by *types.ValidatorSet) error {
	if b.ChainID != chainID {
		return ErrBlock.because("block %d is of chain %q, want %q", b.Height, b.ChainID, chainID)
	}
	if err := b.ValidatorSet.ValidateBasic(); err != nil {
		return ErrSet.because("block %d: %w", b.Height, err)
	}
	if !bytes.Equal(b.ValidatorSet.Hash(), b.ValidatorsHash) {
		return ErrSet.because("block %d: its validators are not those that its header names", b.Height)
	}
	if err := b.ValidateBasic(chainID); err != nil {
		return ErrBlock.because("block %d: %w", b.Height, err)
	}
	if err := by.VerifyCommitLight(chainID, b.Commit.BlockID, b.Height, b.Commit); err != nil {
		return ErrSignatures.because("block %d: %w", b.Height, err)
	}
	return nil
}

// Validators returns the set with which the next epoch begins, sorted by key.
func (c Certificate) Validators() []*logv1.ValidatorUpdate {
	var out []*logv1.ValidatorUpdate
	for _, v := range c.After.Validators {
		out = append(out, &logv1.ValidatorUpdate{KeyType: comethome.KeyEd25519, PubKey: v.PubKey.Bytes(),
			Power: v.VotingPower})
	}
	slices.SortFunc(out, func(a, b *logv1.ValidatorUpdate) int { return bytes.Compare(a.PubKey, b.PubKey) })
	return out
}
