package seek

import (
	"context"
	"errors"
	"fmt"

	"go.uber.org/zap"

	"github.com/coppice-go/coppice/engines/chain"
	comethome "github.com/coppice-go/coppice/engines/consensus/comet/home"
)

// errJoin is the error for a state that was taken and is not the one at the reset.
var errJoin = errors.New("the state at the newest reset")

// Rejoin takes the state at the newest reset, if the chain has gone on without this node, which
// stands at s. The caller runs no CometBFT meanwhile. Rejoin reports whether there is another state
// now. If no peer gives that state, it reports false, and the Seeker asks again.
func (k *Seeker) Rejoin(ctx context.Context, s chain.State) (joined bool, err error) {
	w := k.take()
	if w == nil || w.newest().Epoch < s.Period || k.Core.Joiner == nil {
		return false, nil
	}

	if err := k.write(w); err != nil {
		return false, err
	}

	if err := k.Core.Joiner.Join(ctx, w.point, k.Core.Peers); err != nil {
		if ctx.Err() != nil {
			return false, context.Cause(ctx)
		}
		k.Left(fmt.Sprintf("the chain has gone on to epoch %d without this node, which cannot take the state at its "+
			"begin yet: %v", w.point.Epoch+1, err))
		k.Log.Warn("the state at the newest reset was not taken", zap.Uint64("epoch", w.point.Epoch), zap.Error(err))
		return false, nil
	}

	return true, nil
}

// write keeps what a way has of each epoch. It comes before the state, which begins with the last.
func (k *Seeker) write(w *way) error {
	for _, c := range w.list {
		if len(c.First) > 0 {
			if err := comethome.FirstBlock.Write(k.Home, c.Epoch+1, c.First); err != nil {
				return err
			}
		}
		if err := comethome.WriteCertificate(k.Home, c.Epoch, c.Proof); err != nil {
			return err
		}
	}
	return nil
}

// Joined returns an error if s, which Rejoin has led to, is not the state at a reset.
func Joined(s chain.State) error {
	if !s.InHold() {
		return fmt.Errorf("%w: it leads to height %d of epoch %d, where no reset is due", errJoin, s.Height, s.Period)
	}
	return nil
}
