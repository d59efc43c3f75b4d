package comet

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.uber.org/zap"

	"github.com/coppice-go/coppice/engines"
	"github.com/coppice-go/coppice/engines/chain"
	comethome "github.com/coppice-go/coppice/engines/consensus/comet/home"
	logv1 "github.com/coppice-go/coppice/proto/coppice/log/v1"
	"github.com/coppice-go/coppice/supervisor"
)

// Times of a reset.
const (
	// linger is how long a node stays on the old chain after it has committed the held block, so
	// that its peers get that block too.
	linger = 200 * time.Millisecond

	leaveRetry = 100 * time.Millisecond
	renewRetry = 250 * time.Millisecond // doubles up to renewMost
	renewMost  = 15 * time.Second
)

// leaver ends the process of the old chain once the certificate of a reset is complete, checked and
// written. The next start of the process makes the reset. No node leaves without a certificate.
type leaver struct {
	app  *app
	rpc  rpc
	home string
	sup  *supervisor.Supervisor
	log  *zap.Logger
}

// run leaves each chain whose reset is due, until ctx ends.
func (l *leaver) run(ctx context.Context) error {
	defer l.rpc.close()

	for {
		s := l.app.chain.Load()
		if s == nil || !s.InHold() || l.app.ended.Load() != nil {
			select {
			case <-l.app.holds:
				continue
			case <-ctx.Done():
				return nil
			}
		}

		if err := l.leave(ctx, *s); ctx.Err() != nil {
			return nil
		} else if err != nil {
			return err
		}
	}
}

// leave waits for the certificate of the reset that is due in state s, and then has the process
// replaced.
func (l *leaver) leave(ctx context.Context, s chain.State) error {
	began, told := time.Now(), ""
	l.log.Info("a reset was decided: the chain is in hold", zap.String("chain", s.ChainID),
		zap.Uint64("height", s.Reset.Height), zap.Uint64("next", s.Reset.InitialHeight()))

	for {
		err := l.certify(ctx)
		if err == nil {
			break
		}

		if held := time.Since(began); held > holdMost && err.Error() != told && ctx.Err() == nil {
			told = err.Error()
			l.log.Warn("the chain is in hold, and its reset cannot be made yet", zap.Duration("for", held),
				zap.Error(err))
		}
		if err := pauseBeside(ctx, leaveRetry); err != nil {
			return err
		}
	}

	if err := supervisor.Recycle(ctx, l.sup, childProcess); err != nil {
		return err
	}

	// The start has read the certificate, so this chain is over.
	return pauseBeside(ctx, leaveRetry)
}

// certify writes the certificate of the reset that is due. It returns an error as long as the held
// block is not committed.
func (l *leaver) certify(ctx context.Context) error {
	s := l.app.chain.Load()
	if s.Height <= s.Reset.Height {
		return fmt.Errorf("block %d, which follows the decision, is not committed yet", s.Reset.Height+1)
	}
	if err := pauseBeside(ctx, linger-time.Since(time.Unix(0, l.app.held.Load()))); err != nil {
		return err
	}

	asking, cancel := context.WithTimeout(ctx, rpcTime)
	defer cancel()
	c, err := l.rpc.certificate(asking, s.Reset.Height)
	if err != nil {
		return err
	}
	if err := c.check(*s); err != nil {
		return err
	}
	b, err := c.encode()
	if err != nil {
		return err
	}

	return comethome.WriteCertificate(l.home, s.Period, b)
}

// pauseBeside waits for d, beside a service to which injected faults belong.
func pauseBeside(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return context.Cause(ctx)
	}
	timer := time.NewTimer(d)
	defer timer.Stop()

	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-timer.C:
		return nil
	}
}

// renew makes the reset that is due, if its certificate is complete, between two processes. It
// returns whether the home is now that of an epoch that has not begun. The order is durable: the
// log knows that the chain has ended before any of its data is removed.
func (t *tree) renew(ctx context.Context, s chain.State) (renewed bool, err error) {
	reset := t.app.ended.Load()

	if reset == nil {
		if !s.InHold() {
			return false, nil
		}
		if reset, err = t.end(ctx, s); reset == nil {
			return false, err
		}
	}

	e := comethome.Epoch{ChainID: reset.NewChainId, Time: time.Unix(0, reset.GenesisTimeNs).UTC(),
		InitialHeight: reset.InitialHeight, AppHash: reset.AppHash}
	for _, v := range reset.Validators {
		e.Validators = append(e.Validators, comethome.Validator{PubKey: v.PubKey, Power: v.Power})
	}

	// After the decision the reset happens: a node that cannot make it tries for ever.
	for wait := renewRetry; ; wait = min(2*wait, renewMost) {
		err := comethome.Renew(t.Home, e)
		t.health.renews(err)
		if err == nil {
			break
		}

		t.Log.Warn("the reset cannot be made yet", zap.String("next", e.ChainID), zap.Error(err))
		if err := engines.Pause(ctx, wait); err != nil {
			return false, err
		}
	}

	t.stateSync = false
	t.Log.Info("the chain is reset", zap.String("chain", e.ChainID), zap.Uint64("initial_height", e.InitialHeight))

	return true, nil
}

// end ends the chain in the log. It returns nil if the certificate is not complete: the process of
// the old chain must run to make it.
func (t *tree) end(ctx context.Context, s chain.State) (*logv1.ChainReset, error) {
	b, err := comethome.ReadCertificate(t.Home, s.Period)
	if err != nil || b == nil {
		return nil, err
	}
	c, err := decodeCertificate(b)
	if err == nil {
		err = c.check(s)
	}
	if err != nil {
		t.Log.Warn("the certificate of the reset is of no use, and is made again", zap.Error(err))
		return nil, nil
	}

	g, err := comethome.ReadGenesis(t.Home)
	if err != nil {
		return nil, err
	}
	t.server.close() // what the old process asked for has ended

	var reset *logv1.ChainReset
	err = whileDown(ctx, func() (err error) {
		reset, err = t.core.Ordering.Reset(ctx, chain.Renewal{Validators: c.validators(),
			AppState: g.AppState, Certificate: b})
		return err
	})
	if errors.Is(err, chain.ErrNoReset) {
		t.Log.Warn("the chain does not end yet", zap.Error(err))
		return nil, nil
	}
	if err == nil {
		t.app.ended.Store(reset)
	}

	return reset, err
}

// genesisOf returns an error if the genesis in the CometBFT home is not that of the epoch that the
// chain is in, or of the one that it enters.
func (t *tree) genesisOf(s chain.State) (comethome.Genesis, error) {
	g, err := comethome.ReadGenesis(t.Home)
	if err != nil {
		return g, err
	}

	want := t.core.Genesis.GetChainId()
	if reset := t.app.ended.Load(); reset != nil {
		want = reset.NewChainId
	} else if s.Started() {
		want = s.ChainID
	}
	if g.ChainID != want {
		return g, fmt.Errorf("%w: %s is of chain %q, the home's log of %q", comethome.ErrGenesis,
			comethome.GenesisPath(t.Home), g.ChainID, want)
	}

	return g, nil
}
