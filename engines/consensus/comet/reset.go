package comet

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.uber.org/zap"

	"github.com/coppice-go/coppice/engines"
	"github.com/coppice-go/coppice/engines/chain"
	"github.com/coppice-go/coppice/engines/consensus/comet/certificate"
	comethome "github.com/coppice-go/coppice/engines/consensus/comet/home"
	"github.com/coppice-go/coppice/engines/consensus/comet/seek"
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

	mistake mistake
	keeper  *certificate.Keeper
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
		now := l.app.chain.Load()
		if !now.InHold() {
			return nil // a process that was replaced meanwhile has begun the next epoch
		}

		err := l.app.preserve(ctx, s)
		if err == nil {
			err = l.certify(ctx, *now)
		}
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

// certify writes the certificate of the reset that is due in state s, unless that of a peer was
// written. It returns an error as long as the held block is not committed.
func (l *leaver) certify(ctx context.Context, s chain.State) error {
	if l.mistake == leaveAtF || certificate.Complete(l.home, s) {
		return nil
	}
	if s.Height <= s.Reset.Height {
		return fmt.Errorf("block %d, which follows the decision, is not committed yet", s.Reset.Height+1)
	}
	if err := pauseBeside(ctx, l.app.lingers(time.Now())); err != nil {
		return err
	}
	if l.mistake == leaveWithoutCertificate {
		return nil
	}

	asking, cancel := context.WithTimeout(ctx, rpcTime)
	defer cancel()
	root, err := l.app.root(asking)
	if err != nil {
		return err
	}
	c, err := l.rpc.certificate(asking, s.Reset.Height, root)
	if err != nil {
		return err
	}
	if err := c.Check(s); err != nil {
		return err
	}
	b, err := c.Encode()
	if err != nil {
		return err
	}

	l.keep(ctx, s, c)

	if err := comethome.WriteCertificate(l.home, s.Period, b); err != nil {
		return err
	}
	l.app.health.step(stepCertified)

	return nil
}

// keepMost is how long a reset waits for what leads a light client to it.
const keepMost = time.Second

// keep keeps what leads a light client to the end of the chain. It must not hinder the reset:
// without these blocks a light client has to be told anew what it may trust, and no more.
func (l *leaver) keep(ctx context.Context, s chain.State, c certificate.Certificate) {
	ctx, cancel := context.WithTimeout(ctx, keepMost)
	defer cancel()

	if err := l.keeper.Before(ctx, s, c); err != nil {
		l.log.Warn("what leads a light client to the end of the chain is not kept: it must be told anew what it may "+
			"trust", zap.String("chain", s.ChainID), zap.Error(err))
	}
}

// keepEvery is the time between two looks whether there is something to keep.
const keepEvery = 250 * time.Millisecond

// follow keeps the first block of each epoch as soon as there is one, and follows the chain if its
// blocks are removed, until ctx ends.
func (l *leaver) follow(ctx context.Context) error {
	told := false

	for {
		if err := pauseBeside(ctx, keepEvery); err != nil {
			return nil //nolint:nilerr // the watchdog reports why its life ends
		}
		s := l.app.chain.Load()
		if s == nil || s.Params.GetResetOffset() == 0 || s.Height == 0 || s.InHold() || l.app.ended.Load() != nil {
			continue
		}

		asking, cancel := context.WithTimeout(ctx, rpcTime)
		kept, err := l.keeper.Follow(asking, *s)
		cancel()
		if kept > 0 {
			l.app.kept.Store(kept)
		}
		if kept == 0 && !told && ctx.Err() == nil && s.Height > s.InitialHeight {
			told = true
			l.log.Warn("the first block of the epoch is not kept, without which no light client goes over the next "+
				"reset", zap.String("chain", s.ChainID), zap.Error(err))
		}
	}
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

// newSeeker returns what asks the peers for this run of the driver.
func (t *tree) newSeeker() *seek.Seeker {
	return &seek.Seeker{
		Home: t.Home, Core: t.core, Agents: t.agents, Left: t.health.leftBehind, Log: t.Log,
		Standing: func() (chain.State, bool) {
			s := t.app.chain.Load()
			switch {
			case s == nil || t.app.ended.Load() != nil:
				return chain.State{}, false
			case !s.Started(): // the chain may have been reset before this node has begun
				return chain.State{}, !t.stateSync
			}
			return *s, true
		},
		Restart: func(ctx context.Context) error { return supervisor.Recycle(ctx, t.sup, childProcess) },
	}
}

// rejoin brings a node that was left behind to the newest reset, between two processes. It returns
// the committed state.
func (t *tree) rejoin(ctx context.Context, s chain.State) (chain.State, error) {
	if t.app.ended.Load() != nil {
		return s, nil // the next epoch begins first
	}
	defer t.app.working()()
	joined, err := t.seeker.Rejoin(ctx, s)
	if err != nil || !joined {
		return s, err
	}

	if s, err = t.app.standing(ctx); err == nil {
		err = seek.Joined(s)
	}
	if err == nil {
		t.Log.Info("this node has taken the state at the newest reset", zap.Uint64("epoch", s.Period),
			zap.Uint64("height", s.Height))
	}

	return s, err
}

// awaiting is what runs in the place of CometBFT while a node that is to begin with the state at a
// reset does not have it. The seeker replaces it.
type awaiting struct{ app *app }

// Serve waits until ctx ends.
func (a awaiting) Serve(ctx context.Context) error {
	defer a.app.working()()
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case f := <-supervisor.Faults(ctx):
			f.Do(ctx)
		}
	}
}

// String names the service in reports.
func (awaiting) String() string { return "a CometBFT that waits for the state at a reset" }

// renew makes the reset that is due, if its certificate is complete, between two processes. It
// returns whether the home is now that of an epoch that has not begun. The order is durable: the
// log knows that the chain has ended before any of its data is removed.
func (t *tree) renew(ctx context.Context, s chain.State) (renewed bool, err error) {
	reset := t.app.ended.Load()

	if reset == nil {
		if !s.InHold() {
			return false, nil
		}
		if t.mistake == dataFirst {
			if err := t.spoil(); err != nil {
				return false, err
			}
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
	t.health.step(stepRenewed)
	t.Log.Info("the chain is reset", zap.String("chain", e.ChainID), zap.Uint64("initial_height", e.InitialHeight))

	return true, nil
}

// end ends the chain in the log. It returns nil if the certificate is not complete: the process of
// the old chain must run to make it.
func (t *tree) end(ctx context.Context, s chain.State) (*logv1.ChainReset, error) {
	b, err := comethome.ReadCertificate(t.Home, s.Period)
	if err != nil || b == nil && !t.mistake.leavesWithout() {
		return nil, err
	}

	c, err := certificate.Decode(b)
	if err == nil {
		err = c.Check(s)
	}
	if t.mistake.leavesWithout() {
		c, err = t.unproved()
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
	t.health.step(stepProcessDead)
	if err := t.mustPreserve(ctx, s); err != nil {
		return nil, err
	}

	var reset *logv1.ChainReset
	err = whileDown(ctx, func() (err error) {
		reset, err = t.core.Ordering.Reset(ctx, chain.Renewal{Validators: c.Validators(),
			AppState: g.AppState, Certificate: b})
		return err
	})
	if errors.Is(err, chain.ErrNoReset) {
		t.Log.Warn("the chain does not end yet", zap.Error(err))
		return nil, nil
	}
	if err == nil {
		t.app.ended.Store(reset)
		t.health.step(stepEnded)
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
	} else if t.stateSync {
		want = g.ChainID // build has checked that it is an epoch of the chain
	}
	if g.ChainID != want {
		return g, fmt.Errorf("%w: %s is of chain %q, the home's log of %q", comethome.ErrGenesis,
			comethome.GenesisPath(t.Home), g.ChainID, want)
	}

	return g, nil
}

// preserve makes the state at the reset that is due in state s durable, for nodes that are left
// behind. The certificate is not used before: what it leads to begins with that state.
func (a *app) preserve(ctx context.Context, s chain.State) error {
	if a.core.StateSync == nil {
		return nil
	}
	return whileDown(ctx, func() error { return a.core.StateSync.Preserve(ctx, s) })
}

// mustPreserve is preserve between two processes. After the decision the reset happens, so it tries
// until it has succeeded.
func (t *tree) mustPreserve(ctx context.Context, s chain.State) error {
	for wait := renewRetry; ; wait = min(2*wait, renewMost) {
		err := t.app.preserve(ctx, s)
		if err == nil || ctx.Err() != nil {
			return err
		}

		t.Log.Warn("the state at the reset cannot be kept yet", zap.Error(err))
		if err := engines.Pause(ctx, wait); err != nil {
			return err
		}
	}
}

// mistake is a fault in the order of a reset that a test plants, to see that it is caught.
type mistake string

const (
	leaveAtF                mistake = "leave at F"
	leaveWithoutCertificate mistake = "leave without a certificate"
	lingerAnew              mistake = "the time on the old chain begins anew with each start"
	dataFirst               mistake = "ChainReset after the data"
	oldChildServed          mistake = "a block of the old child after the switch"
)

// leavesWithout reports whether the mistake is to leave a chain without its certificate.
func (m mistake) leavesWithout() bool { return m == leaveAtF || m == leaveWithoutCertificate }

// unproved returns what stands for the certificate that a node with such a mistake does not have.
func (t *tree) unproved() (certificate.Certificate, error) {
	g, err := comethome.ReadGenesis(t.Home)
	return certificate.Certificate{After: certificate.SetOf(g)}, err
}

// spoil removes the data of the chain before the log knows that the chain has ended.
func (t *tree) spoil() error {
	g, err := comethome.ReadGenesis(t.Home)
	if err != nil {
		return err
	}
	return comethome.Renew(t.Home, comethome.Epoch{ChainID: g.ChainID, Time: g.Time, InitialHeight: g.InitialHeight,
		Validators: g.Validators})
}
