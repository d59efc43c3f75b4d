package bootstrap

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/cometbft/cometbft/light"
	"github.com/cometbft/cometbft/types"

	"github.com/coppice-go/coppice/engines/chain"
	"github.com/coppice-go/coppice/engines/consensus/comet/certificate"
	comethome "github.com/coppice-go/coppice/engines/consensus/comet/home"
)

// Base is what CometBFT's data begins with after a rebuild. If the chain has no block yet, Last is
// nil.
type Base struct {
	Last  *types.LightBlock   // the last block of our own state
	Next  *types.LightBlock   // the block after it
	After *types.ValidatorSet // of the block after that
}

// ErrNone is the error if no peer has a base for our state.
var ErrNone = errors.New("no peer has what CometBFT's data could begin with")

// askWitness bounds the questions to one peer.
const askWitness = 10 * time.Second

// Find asks the witnesses for a base for state s of a home, and checks what they have. The order of
// the proposers is the one thing that no header names: the base of the most witnesses counts. Find
// returns ErrNone if there is none.
func Find(ctx context.Context, home string, s chain.State, from []Witness) (Base, error) {
	type found struct {
		Base
		by []string
	}
	var mu sync.Mutex
	var all []found
	var why []string

	var asked sync.WaitGroup
	for _, w := range from {
		asked.Go(func() {
			b, err := ask(ctx, home, s, w)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				why = append(why, fmt.Sprintf("%v: %v", w, err))
				return
			}
			i := slices.IndexFunc(all, func(f found) bool { return f.like(b) })
			if i < 0 {
				i, all = len(all), append(all, found{Base: b})
			}
			all[i].by = append(all[i].by, w.String())
		})
	}
	asked.Wait()

	slices.SortFunc(all, func(a, b found) int { return len(b.by) - len(a.by) })
	switch {
	case ctx.Err() != nil:
		return Base{}, context.Cause(ctx)
	case len(from) == 0:
		return Base{}, fmt.Errorf("%w: no peer is known that could be asked", ErrNone)
	case len(all) == 0:
		slices.Sort(why)
		return Base{}, fmt.Errorf("%w: %s", ErrNone, strings.Join(why, "; "))
	case len(all) > 1 && len(all[0].by) == len(all[1].by):
		return Base{}, fmt.Errorf("%w: %s and %s differ in whose turn it is to propose: ask more peers", ErrNone,
			strings.Join(all[0].by, ", "), strings.Join(all[1].by, ", "))
	}

	return all[0].Base, nil
}

// askBase asks one witness.
func ask(ctx context.Context, home string, s chain.State, w Witness) (b Base, err error) {
	ctx, cancel := context.WithTimeout(ctx, askWitness)
	defer cancel()

	next := int64(s.Next())
	if s.Height > 0 {
		b.Last, err = w.LightBlock(ctx, int64(s.Height))
	}
	if err == nil {
		b.Next, err = w.LightBlock(ctx, next)
	}
	if err == nil {
		b.After, err = w.Validators(ctx, next+1)
	}
	if err == nil {
		err = b.Check(s, home)
	}
	if err == nil {
		err = b.covers(ctx, home, w)
	}

	return b, err
}

// Check returns an error unless b is a base for state s of a home. It needs nobody's word: the
// state names the last block by its hash, that block names the validators of the next one, and
// these have committed the next one.
func (b Base) Check(s chain.State, home string) error {
	validators, err := b.begins(s, home)
	if err != nil {
		return err
	}

	next := b.Next
	if uint64(next.Height) != s.Next() {
		return fmt.Errorf("it has block %d, want %d", next.Height, s.Next())
	}
	if !bytes.Equal(next.ValidatorsHash, validators) {
		return fmt.Errorf("the validators of block %d are not those that the chain has there", next.Height)
	}
	if err := signed(s.ChainID, next); err != nil {
		return err
	}

	switch {
	case b.Last != nil && !next.LastBlockID.Equals(b.Last.Commit.BlockID):
		return fmt.Errorf("block %d follows %v, want %v", next.Height, next.LastBlockID, b.Last.Commit.BlockID)
	case !bytes.Equal(next.AppHash, s.AppHash):
		return fmt.Errorf("block %d has app hash %X, the home's own data has %x", next.Height, next.AppHash, s.AppHash)
	case !bytes.Equal(b.After.Hash(), next.NextValidatorsHash):
		return fmt.Errorf("the validators after block %d are not those that it names", next.Height)
	}

	return nil
}

// begins checks the last block, and returns the hash of the validators of the next one.
func (b Base) begins(s chain.State, home string) (validators []byte, err error) {
	if s.Height == 0 {
		doc, err := comethome.ReadGenesisDoc(comethome.GenesisPath(home))
		if err != nil {
			return nil, err
		}
		return doc.ValidatorHash(), nil
	}

	if b.Last == nil || !bytes.Equal(b.Last.Hash(), s.BlockHash) {
		return nil, fmt.Errorf("its block %d is not the one that the home's own data has, %X", s.Height, s.BlockHash)
	}
	return b.Last.NextValidatorsHash, signed(s.ChainID, b.Last)
}

// signed returns an error unless a block is one of a chain and has the commit of its validators.
func signed(chainID string, b *types.LightBlock) error {
	if err := b.ValidateBasic(chainID); err != nil {
		return fmt.Errorf("block %d: %w", b.Height, err)
	}
	if err := b.ValidatorSet.VerifyCommitLight(chainID, b.Commit.BlockID, b.Height, b.Commit); err != nil {
		return fmt.Errorf("block %d: %w", b.Height, err)
	}
	return nil
}

// covers returns an error if this validator has signed what the committed blocks do not cover. Its
// signing state must not be older than its signatures in them. And if it is beyond the next block,
// the chain must be there: CometBFT's write-ahead log says to what this validator is bound at the
// height of its newest signature, and goes with the data.
func (b Base) covers(ctx context.Context, home string, w Witness) error {
	height, round, step, ours, err := comethome.Signed(home)
	if err != nil || !ours {
		return err
	}
	id, err := comethome.ReadIdentity(home)
	if err != nil {
		return err
	}

	for _, l := range []*types.LightBlock{b.Last, b.Next} {
		if l == nil {
			continue
		}
		for _, sig := range l.Commit.Signatures {
			if sig.BlockIDFlag == types.BlockIDFlagAbsent || sig.ValidatorAddress.String() != id.Validator.Address {
				continue
			}
			if at := l.Commit; before(height, round, step, at) {
				return fmt.Errorf("%w: it is at height %d, round %d, step %d, and block %d has this validator's "+
					"precommit of round %d", comethome.ErrSigningOld, height, round, step, at.Height, at.Round)
			}
		}
	}

	if height <= b.Next.Height {
		return nil
	}
	if err := reaches(ctx, w, b, height); err != nil {
		return fmt.Errorf("this validator has signed at height %d, and that block is not proved: %w", height, err)
	}

	return nil
}

// before reports whether a signing state is before the precommit of a commit.
func before(height int64, round int32, step int8, at *types.Commit) bool {
	const stepPrecommit = 3
	switch {
	case height != at.Height:
		return height < at.Height
	case round != at.Round:
		return round < at.Round
	}
	return step < stepPrecommit
}

// reaches verifies block height by its commit, from b on, as a light client does.
func reaches(ctx context.Context, w Witness, b Base, height int64) error {
	const (
		always     = 100 * 365 * 24 * time.Hour // our own state is trusted whatever its age
		clockDrift = time.Minute
	)

	trusted, next := b.Next.SignedHeader, b.After
	for trusted.Height < height {
		for to := height; ; to = trusted.Height + (to-trusted.Height)/2 {
			l, err := w.LightBlock(ctx, to)
			if err != nil {
				return err
			}
			if err := l.ValidateBasic(trusted.ChainID); err != nil {
				return fmt.Errorf("block %d: %w", to, err)
			}
			err = light.Verify(trusted, next, l.SignedHeader, l.ValidatorSet, always, time.Now(), clockDrift,
				light.DefaultTrustLevel)
			if errors.As(err, new(light.ErrNewValSetCantBeTrusted)) && to > trusted.Height+1 {
				continue
			}
			if err != nil {
				return fmt.Errorf("block %d: %w", to, err)
			}

			trusted, next = l.SignedHeader, l.ValidatorSet
			break
		}
	}

	return nil
}

// like reports whether two bases have the same order of proposers.
func (b Base) like(o Base) bool {
	return sameOrder(b.Next.ValidatorSet, o.Next.ValidatorSet) && sameOrder(b.After, o.After)
}

func sameOrder(a, b *types.ValidatorSet) bool {
	return slices.EqualFunc(a.Validators, b.Validators, func(x, y *types.Validator) bool {
		return x.ProposerPriority == y.ProposerPriority && bytes.Equal(x.Address, y.Address)
	})
}

// Encode returns the base in a form that Decode reads.
func (b Base) Encode() ([]byte, error) {
	c := certificate.Certificate{Decided: b.Last, Held: b.Next, After: b.After}
	if b.Last == nil {
		c.Decided = b.Next // which no chain has
	}
	return c.Encode()
}

// Decode decodes what Encode has returned. It verifies nothing.
func Decode(data []byte) (Base, error) {
	c, err := certificate.Decode(data)
	if err != nil {
		return Base{}, fmt.Errorf("base: %w", err)
	}
	b := Base{Last: c.Decided, Next: c.Held, After: c.After}
	if b.Last.Height == b.Next.Height {
		b.Last = nil
	}
	return b, nil
}

// Rebuild rebuilds CometBFT's data in a home (see comethome.Rebuild).
func (b Base) Rebuild(home string) error {
	return comethome.Rebuild(home, comethome.Base{Last: b.Last, Next: b.Next, After: b.After})
}
