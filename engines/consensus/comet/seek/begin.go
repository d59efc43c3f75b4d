package seek

import (
	"context"
	"errors"
	"fmt"
	"math"

	"go.uber.org/zap"

	"github.com/coppice-go/coppice/engines/chain"
	"github.com/coppice-go/coppice/engines/consensus"
	"github.com/coppice-go/coppice/engines/consensus/comet/certificate"
	comethome "github.com/coppice-go/coppice/engines/consensus/comet/home"
)

// unstarted returns what counts as the state of a node whose chain has not started: the beginning
// of epoch 0.
func (k *Seeker) unstarted() chain.State {
	return chain.State{ChainID: k.Core.Genesis.GetChainId(), Params: k.Core.Genesis.GetParams()}
}

// Awaits reports whether a node whose chain has not started is to begin with the state at a reset,
// because its home has the certificate of one. In epoch 0 there is nobody left to agree with, so
// the driver then runs no CometBFT until Rejoin has brought the state. It returns comethome.ErrHome
// if there is nobody to ask.
func (k *Seeker) Awaits() (bool, error) {
	kept, err := k.kept()
	if err != nil || len(kept) == 0 {
		return false, err
	}
	if k.Core.Joiner == nil || len(k.Core.Peers) == 0 {
		return false, fmt.Errorf("%w: this node is to begin with the state at the reset of epoch %d, which its peers "+
			"have, and reset.peers is empty: want the addresses of their APIs", comethome.ErrHome,
			kept[len(kept)-1].Epoch)
	}
	return true, nil
}

// begin has the driver take the state at the newest reset, if a node whose chain has not started is
// to begin with it.
func (k *Seeker) begin(ctx context.Context) (begun bool, err error) {
	kept, err := k.kept()
	if err != nil || len(kept) == 0 {
		return false, err
	}

	w, err := k.newest(ctx, kept)
	if err != nil {
		if text := err.Error(); !k.told[text] && ctx.Err() == nil {
			k.told[text] = true
			k.Log.Warn("the state at the newest reset cannot be taken yet", zap.Error(err))
		}
		k.Left(fmt.Sprintf("this node is to begin with the state at the newest reset, and cannot take it yet: %v", err))
		return true, nil
	}

	k.mu.Lock()
	k.way = w
	k.mu.Unlock()

	return true, k.Restart(ctx)
}

// kept returns the certificates of a home that begins in epoch 0, from that epoch on.
func (k *Seeker) kept() ([]consensus.Certificate, error) {
	g, err := comethome.ReadGenesis(k.Home)
	if err != nil || g.ChainID != k.Core.Genesis.GetChainId() {
		return nil, err
	}
	return certificate.Served(k.Home, 0, math.MaxInt)
}

// newest returns the way to the newest reset that the home or a peer proves. Peers have the state
// of their newest one only, and the chain may have been reset since the home was made.
func (k *Seeker) newest(ctx context.Context, kept []consensus.Certificate) (best *way, err error) {
	asking, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()

	answers := []answer{{list: kept}}
	var failed []error
	for _, p := range k.Core.Peers {
		list, err := certificate.AllOf(asking, p, 0, mostCertificates)
		if err != nil {
			failed = append(failed, fmt.Errorf("%v: %w", p, err))
		}
		if len(list) > 0 {
			answers = append(answers, answer{peer: p, list: list})
		}
	}

	for i := range answers {
		w, err := k.check(k.unstarted(), answers[:i+1])
		switch {
		case err != nil:
			failed = append(failed, err)
		case best == nil || w.newest().Epoch > best.newest().Epoch:
			best = w
		}
	}

	if best == nil {
		return nil, errors.Join(failed...)
	}
	return best, nil
}
