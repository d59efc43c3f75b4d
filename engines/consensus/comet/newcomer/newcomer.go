package newcomer

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/cometbft/cometbft/types"

	"github.com/coppice-go/coppice/engines/chain"
	"github.com/coppice-go/coppice/engines/consensus"
	"github.com/coppice-go/coppice/engines/consensus/comet/certificate"
	comethome "github.com/coppice-go/coppice/engines/consensus/comet/home"
	"github.com/coppice-go/coppice/engines/storage/apphash"
)

// ErrPast is the error for an account of the past of a chain that does not lead to its present
// epoch.
var ErrPast = errors.New("how the chain came to its epoch")

// mostCertificates bounds how many certificates are taken from a peer.
const mostCertificates = 100_000

// Ask asks the peers of a chain for its past. now is the CometBFT genesis of the chain's present
// epoch, in CometBFT's encoding; it is believed. ours is the genesis that it carries. All peers
// that answer must give the same genesis of epoch 0. Errors wrap ErrPast, and name the peers.
func Ask(ctx context.Context, ours chain.Genesis, now []byte, peers []consensus.Peer) (*comethome.Past, error) {
	doc, err := comethome.ParseGenesis(now)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrPast, err)
	}
	epoch, ok := chain.EpochOf(doc.ChainID, ours.ChainID)
	if !ok || epoch == 0 || ours.Resets == nil {
		return nil, fmt.Errorf("%w: %s is no later epoch of chain %q", ErrPast, doc.ChainID, ours.ChainID)
	}

	q := question{ours: ours, epoch: epoch, now: doc}
	var failed []error
	var first []byte
	var from consensus.Peer

	for _, p := range peers {
		b, err := p.FirstGenesis(ctx)
		if err == nil {
			q.first, err = q.checkFirst(b)
		}

		switch {
		case err != nil:
			failed = append(failed, fmt.Errorf("%v: %w", p, err))
		case first == nil:
			first, from = b, p
		case !bytes.Equal(first, b):
			return nil, fmt.Errorf("%w: %v and %v have different genesis documents of epoch 0: one of them lies",
				ErrPast, from, p)
		}
	}

	if first == nil {
		return nil, fmt.Errorf("%w: no peer gives the genesis of epoch 0: %w", ErrPast, errors.Join(failed...))
	}

	for _, p := range peers {
		list, err := all(ctx, p)
		if err == nil {
			err = q.check(list)
		}
		if err == nil {
			return &comethome.Past{FirstGenesis: first, Epochs: list}, nil
		}
		failed = append(failed, fmt.Errorf("%v: %w", p, err))
	}

	return nil, fmt.Errorf("%w: %w", ErrPast, errors.Join(failed...))
}

// all asks a peer until it has no further certificate.
func all(ctx context.Context, p consensus.Peer) (list []comethome.PastEpoch, err error) {
	certificates, err := certificate.AllOf(ctx, p, 0, mostCertificates)
	for _, c := range certificates {
		list = append(list, comethome.PastEpoch{Certificate: c.Proof, Next: c.First})
	}
	return list, err
}

// question is what a past must lead to.
type question struct {
	ours  chain.Genesis
	epoch uint64
	now   *types.GenesisDoc
	first *types.GenesisDoc
}

// checkFirst returns an error unless b is a genesis of epoch 0 of the chain: all that an epoch
// inherits must be as in the present one.
func (q question) checkFirst(b []byte) (*types.GenesisDoc, error) {
	doc, err := comethome.ParseGenesis(b)
	if err != nil {
		return nil, err
	}

	switch {
	case doc.ChainID != q.ours.ChainID:
		return nil, fmt.Errorf("its genesis of epoch 0 is of chain %q, want %q", doc.ChainID, q.ours.ChainID)
	case !sameJSON(doc.AppState, q.now.AppState):
		return nil, fmt.Errorf("its genesis of epoch 0 has another app_state than that of %s", q.now.ChainID)
	case !doc.GenesisTime.Equal(q.ours.GenesisTime) || doc.InitialHeight != int64(q.ours.InitialHeight):
		return nil, fmt.Errorf("its genesis of epoch 0 begins at %v with height %d, %s says %v and %d", doc.GenesisTime,
			doc.InitialHeight, chain.GenesisFile, q.ours.GenesisTime, q.ours.InitialHeight)
	}

	one, err := json.Marshal(doc.ConsensusParams)
	if err != nil {
		return nil, err
	}
	other, err := json.Marshal(q.now.ConsensusParams)
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(one, other) {
		return nil, fmt.Errorf("its genesis of epoch 0 has the consensus_params %s, that of %s has %s", one,
			q.now.ChainID, other)
	}

	return doc, nil
}

// sameJSON reports whether two values are the same as JSON, whatever their layout.
func sameJSON(a, b []byte) bool {
	var one, other bytes.Buffer
	if json.Compact(&one, a) != nil || json.Compact(&other, b) != nil {
		return false
	}
	return bytes.Equal(one.Bytes(), other.Bytes())
}

// check checks certificates one by one, from the validators of epoch 0 on. That of the reset with
// which the present epoch began must lead to its genesis.
func (q question) check(list []comethome.PastEpoch) error {
	if uint64(len(list)) < q.epoch {
		return fmt.Errorf("%w: it has those of %d epochs, want %d", certificate.ErrMissing, len(list), q.epoch)
	}

	trusted := setOf(q.first)
	for i, p := range list {
		e := uint64(i)
		c, err := certificate.Decode(p.Certificate)
		if err == nil {
			err = c.Follows(chain.EpochID(q.ours.ChainID, e), e, trusted)
		}
		if err == nil && e+1 == q.epoch {
			err = q.leadsHere(c)
		}
		if err == nil {
			err = q.begins(c, e+1, p.Next)
		}
		if err != nil {
			return fmt.Errorf("epoch %d: %w", e, err)
		}

		trusted = c.After
	}

	return nil
}

// begins returns an error unless the first block of the next epoch says that the chain was reset
// there. The present epoch may have none yet: its genesis says it.
func (q question) begins(c certificate.Certificate, next uint64, first []byte) error {
	if len(first) == 0 && next >= q.epoch {
		return nil
	}
	if len(first) == 0 {
		return fmt.Errorf("%w: the first block of epoch %d is missing", certificate.ErrNoReset, next)
	}
	b, err := certificate.DecodeBlock(first)
	if err != nil {
		return err
	}
	return c.Begins(chain.EpochID(q.ours.ChainID, next), next, b)
}

// leadsHere returns an error unless a certificate leads to the genesis of the present epoch.
func (q question) leadsHere(c certificate.Certificate) error {
	bad := func(what string, got, want any) error {
		return fmt.Errorf("%w: it leads to %s %v, the genesis of %s has %v", certificate.ErrNoReset, what, got,
			q.now.ChainID, want)
	}

	height, hash := c.Decided.Height+int64(q.ours.Resets.Offset), apphash.Of(c.Root, q.epoch)
	switch {
	case q.now.InitialHeight != height:
		return bad("initial height", height, q.now.InitialHeight)
	case !q.now.GenesisTime.Equal(c.Decided.Time):
		return bad("the time", c.Decided.Time, q.now.GenesisTime)
	case !bytes.Equal(q.now.AppHash, hash):
		return bad("app hash", fmt.Sprintf("%X", hash), q.now.AppHash)
	case !bytes.Equal(setOf(q.now).Hash(), c.After.Hash()):
		return bad("validators with hash", c.After.Hash(), setOf(q.now).Hash())
	}

	return nil
}

// setOf returns the validators of a genesis.
func setOf(doc *types.GenesisDoc) *types.ValidatorSet {
	var members []*types.Validator
	for _, v := range doc.Validators {
		members = append(members, types.NewValidator(v.PubKey, v.Power))
	}
	return types.NewValidatorSet(members)
}
