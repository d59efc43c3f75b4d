package comet

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"

	cfg "github.com/cometbft/cometbft/config"
	"go.uber.org/zap"

	"github.com/coppice-go/coppice/engines"
	"github.com/coppice-go/coppice/engines/consensus"
	"github.com/coppice-go/coppice/engines/consensus/comet/certificate"
	"github.com/coppice-go/coppice/engines/consensus/comet/ladder"
	"github.com/coppice-go/coppice/engines/consensus/comet/manager"
	"github.com/coppice-go/coppice/supervisor"
)

// timing is the part of CometBFT's configuration that the watchdog needs.
type timing struct {
	bound time.Duration // how long a height may stand still
	empty bool          // empty blocks come too
}

// Bounds of the watchdog.
const (
	watchEvery   = 250 * time.Millisecond
	watchAtLeast = 3 * time.Second
	watchAtMost  = 2 * time.Minute // the longest pause between two restarts by the watchdog

	// watchPatience is the bound in two cases: for a CometBFT whose consensus has not asked for a
	// proposal or a judgement of one since its start, as on a busy machine, and for a CometBFT that
	// fetches blocks, which first dials for up to 3 s and asks its peers for their heights every 10
	// s.
	watchPatience = 20 * time.Second

	// syncPatience is the bound on the wait for a part of a snapshot. CometBFT sometimes gives up a
	// state sync and then lives on without one.
	syncPatience = 2 * time.Minute
)

// timingOf returns the part of c that the watchdog needs. The bound is more than three times the
// length of a round, added to the longest pause between two blocks.
func timingOf(c *cfg.Config) timing {
	n := c.Consensus
	round := n.TimeoutPropose + n.TimeoutPrevote + n.TimeoutPrecommit
	t := timing{bound: max(3*round+round/2, watchAtLeast), empty: n.CreateEmptyBlocks}
	t.bound += n.TimeoutCommit
	if t.empty {
		t.bound += n.CreateEmptyBlocksInterval
	}
	return t
}

// watchdog restarts a CometBFT process that lives but makes no progress. It judges by the committed
// height alone, because CometBFT still reports that it is healthy after its consensus has ended. It
// restarts CometBFT only if there is something to commit, CometBFT does not wait for this node's
// answer, and CometBFT cannot be waiting for other nodes: we are the only validator, or peers are
// ahead, or the process does not even answer. In all other cases it logs once that the height
// stands still, because a lost quorum or an idle chain is not a fault of CometBFT.
type watchdog struct {
	timing
	stateSync bool
	app       *app
	health    *health
	pool      consensus.Feed
	rpc       rpc
	sup       *supervisor.Supervisor
	resets    *manager.Machine
	log       *zap.Logger

	// The stall ladder. climb has a rung climbed and does not wait for it; climbing reports whether
	// that goes on. attempts outlives the incarnations of the watchdog.
	peers    []consensus.Peer
	agents   int
	climb    func(context.Context, ladder.Rung) error
	climbing func() bool
	attempts *attempts
	asks     time.Duration // between two questions
}

// attempts counts what the ladder has tried at a height.
type attempts struct{ height, count atomic.Uint64 }

// at returns the number of attempts at a height.
func (a *attempts) at(height uint64) int {
	if a.height.Load() != height {
		return 0
	}
	return int(a.count.Load())
}

func (a *attempts) set(height uint64, count int) {
	a.height.Store(height)
	a.count.Store(uint64(count))
}

func (t *tree) startWatchdog(context.Context) (supervisor.Service, error) {
	c, err := newRPC(t.rpcSocket())
	if err != nil {
		return nil, err
	}
	w := &watchdog{timing: t.timing, stateSync: t.stateSync, app: t.app, health: t.health, pool: t.core.Feed, rpc: c,
		sup: t.sup, resets: t.resets.machine, log: t.Log, peers: t.core.Peers, agents: t.agents,
		climb: t.resets.climb, climbing: t.resets.climbing.Load, attempts: &t.resets.attempts,
		asks: cmp.Or(t.asks, askPeersEvery)}

	asks, err := newRPC(t.rpcSocket())
	if err != nil {
		return nil, err
	}
	k := &certificate.Keeper{Home: t.Home, Fetch: asks.lightBlock}
	if t.Retain > 0 { // a step is a part of the blocks that stay, so that the removal goes on
		k.Step = max(1, min(t.Retain/2, 1000))
	}
	l := &leaver{app: t.app, rpc: asks, home: t.Home, sup: t.sup, log: t.Log, keeper: k, mistake: t.mistake}

	return monitored{w, &monitor{c, t.health, t.signs}, l, t.seeker}, nil
}

// String names the service in reports.
func (w *watchdog) String() string { return "watchdog of the committed height" }

// Serve watches until ctx ends.
func (w *watchdog) Serve(ctx context.Context) error {
	defer w.rpc.close()

	// An earlier incarnation may have ended between stop and start.
	if err := supervisor.Revive(ctx, w.sup, childProcess); err != nil {
		return err
	}

	height, told, said := w.app.height.Load(), "", ""
	restarts := w.attempts.at(height)
	agreeing, asks := false, time.Now()
	var stood watch
	stood.reset()
	began := time.Now() // of this life of CometBFT

	for {
		if err := engines.Pause(ctx, watchEvery); err != nil {
			return err
		}

		if h := w.app.height.Load(); h != height {
			height, restarts, told, said = h, 0, "", ""
			stood.reset()
			continue
		}

		// Either the time of a start is over and that of a round begins, or a start begins.
		if now := w.app.agreeing.Load(); now != agreeing {
			agreeing = now
			stood.reset()
		}

		if excuse := w.excuse(ctx, began); excuse != "" {
			stood.reset()
			continue
		}

		bound := w.patience(agreeing, restarts)
		if stood.look() < stood.until(bound) {
			continue
		}

		asked := time.Now()
		why, act, answers := w.judge(ctx, height, stood.total)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}

		if why == "" || w.app.height.Load() != height || w.app.busy.Load() > 0 { // it may have moved while we asked
			stood.answered = stood.answered || answers
			continue
		}

		if act && told != "" { // until now CometBFT was not to blame: its time begins only now
			told = ""
			stood.reset()
			continue
		}

		if act && answers && !stood.answered {
			stood.confirm(bound)
			continue
		}

		if act && !answers && stood.total+time.Since(asked) < bound {
			continue
		}

		if !act && why != told {
			w.log.Warn("the committed height stands still", zap.Uint64("height", height),
				zap.Duration("for", stood.total), zap.String("reason", why))
			w.resets.Note(manager.Stalled, fmt.Sprintf("no block after %d: %s", height, why), nil)
			told, asks = why, time.Now()
		}
		if !act && time.Since(asks) < w.asks {
			continue
		}

		asks = time.Now()
		step := w.next(ctx, ladder.Stall{Epoch: w.health.inEpoch(), Height: height, Attempts: restarts, Why: why,
			Fit: act, Alone: !answers || why == whyAlone})
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if w.app.height.Load() != height {
			continue
		}

		if step.Rung == ladder.Wait {
			if step.Text != said {
				w.resets.Note(manager.Stalled, step.Text, nil)
				w.log.Warn(step.Text)
				said = step.Text
			}
			if act {
				stood.reset()
			}
			continue
		}

		w.tell(step)
		if err := w.climb(ctx, step.Rung); err != nil {
			return err
		}

		restarts++
		w.attempts.set(height, restarts)
		told = ""
		stood.reset()
		began = time.Now()
	}
}

// whyAlone is the reason for a height of the only validator.
const whyAlone = "this is the only validator"

// askPeersEvery is the time between two questions to the peers about a height that stands still
// because validators seem to be missing. Their API may be reachable although they are not
// connected.
const askPeersEvery = time.Minute

// next returns what the stall ladder wants to be done. It asks the peers where they stand, if that
// matters.
func (w *watchdog) next(ctx context.Context, s ladder.Stall) ladder.Step {
	if !s.Asks() || len(w.peers) == 0 {
		return s.Next(nil)
	}

	ctx, cancel := context.WithTimeout(ctx, rpcTime)
	defer cancel()

	answers := &ladder.Answers{Agents: w.agents, Asked: len(w.peers)}
	var mu sync.Mutex
	var asked sync.WaitGroup
	for _, p := range w.peers {
		asked.Go(func() {
			at, err := p.Standing(ctx)
			if err != nil {
				return // it counts as one that has not answered
			}
			mu.Lock()
			defer mu.Unlock()
			answers.Stands = append(answers.Stands, at)
		})
	}
	asked.Wait()

	return s.Next(answers)
}

// tell notes a step of the ladder.
func (w *watchdog) tell(step ladder.Step) {
	state := manager.Stalled
	if step.GaveUp {
		state = manager.Abandoned
		w.log.Error(step.Text)
	} else {
		w.log.Warn("restarting CometBFT: the committed height stands still", zap.String("reason", step.Text))
	}
	w.resets.Note(state, step.Text, func(s *manager.Status) { s.Restarts++ })
}

// patience returns how long the height may stand still after the given number of restarts in a row.
// Until a process is agreeing with others on a block, the bound for a start applies instead of that
// for a round. On a busy machine a start takes longer than a round, and so would the start after a
// restart.
func (w *watchdog) patience(agreeing bool, restarts int) time.Duration {
	bound := w.bound
	if !agreeing {
		bound = max(bound, watchPatience)
	}
	return min(bound<<min(restarts, 6), watchAtMost)
}

// watch measures how long the watchdog has seen a height stand still. The time between two looks
// counts only up to mostOfLook. If a look comes later than that, the watchdog itself was stopped or
// starved, and perhaps the rest of the node too, for which CometBFT is not to blame.
type watch struct {
	total    time.Duration
	last     time.Time
	answered bool // CometBFT has answered meanwhile
}

const mostOfLook = 2 * watchEvery

func (w *watch) reset() { *w = watch{last: time.Now()} }

func (w *watch) look() time.Duration {
	now := time.Now()
	w.total, w.last = w.total+min(now.Sub(w.last), mostOfLook), now
	return w.total
}

// until returns how long a height must have stood still when the watchdog next asks CometBFT
// whether it lives. The first question comes before the bound is over: a CometBFT that was stopped
// (SIGSTOP) answers as soon as it continues, before it has a block, and its answer says nothing
// about the time before.
func (w *watch) until(bound time.Duration) time.Duration {
	if w.answered {
		return bound
	}
	return bound - bound/3
}

// confirm notes that CometBFT has answered. The next question comes after a third of the bound,
// which is longer than a round.
func (w *watch) confirm(bound time.Duration) {
	w.answered = true
	w.total, w.last = min(w.total, bound-bound/3), time.Now()
}

// begins reports whether CometBFT begins with a snapshot and has not brought its first block yet.
func (w *watchdog) begins() bool { return w.stateSync && !w.app.follows.Load() }

// excuse returns a reason why the height may stand still without a fault, or "" if there is none.
func (w *watchdog) excuse(ctx context.Context, began time.Time) string {
	if w.climbing() {
		return "a reset is under way"
	}
	if w.app.busy.Load() > 0 {
		return "the application has not answered"
	}
	if s := w.app.chain.Load(); s != nil && s.InHold() {
		return "held: the chain is about to be reset"
	}
	if w.health.waitsForGenesis() {
		return "the genesis time lies ahead, and CometBFT waits for it"
	}

	if w.begins() {
		if time.Since(time.Unix(0, max(w.app.synced.Load(), began.UnixNano()))) < syncPatience {
			return "CometBFT looks for a snapshot or takes one"
		}
		return "" // there is work to do: the state has not arrived
	}

	if w.empty {
		return ""
	}

	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()

	txs, _, err := w.pool.Offer(ctx, 0, 1, 1, false)
	switch {
	case err != nil:
		return "the pool is down"
	case len(txs) == 0:
		return "there is no work"
	}

	return ""
}

// judge asks CometBFT and returns why the height stands still, whether a restart may help, and
// whether CometBFT has answered. The reason is empty if it is too early to say. judge asks again if
// a question was cut off: if CometBFT has just ended, its supervisor restarts it, and the watchdog
// with it. A question that times out means that CometBFT hangs.
func (w *watchdog) judge(ctx context.Context, height uint64, stood time.Duration) (why string, act, answers bool) {
	if w.begins() {
		return "no part of a snapshot has arrived", true, true
	}

	why, act, err := w.ask(ctx, height, stood)
	if slow := net.Error(nil); err != nil && !(errors.As(err, &slow) && slow.Timeout()) {
		if engines.Pause(ctx, watchEvery) != nil {
			return "", false, false
		}
		why, act, err = w.ask(ctx, height, stood)
	}

	if op := (*net.OpError)(nil); errors.As(err, &op) && op.Op == "dial" && stood < watchPatience {
		return "", false, false
	}
	if err != nil {
		return fmt.Sprintf("CometBFT does not answer: %v", err), true, false
	}

	return why, act, true
}

func (w *watchdog) ask(ctx context.Context, height uint64, stood time.Duration) (why string, act bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, rpcTime)
	defer cancel()

	alone, catchingUp, err := w.rpc.role(ctx)
	if err != nil || alone {
		return whyAlone, true, err
	}

	ahead, err := w.rpc.peersAhead(ctx, height, w.bound/2)
	switch {
	case err != nil:
		return "", false, err
	case ahead && catchingUp && stood < watchPatience:
		return "", false, nil
	case ahead && w.health.pruned():
		return "no peer has kept the next block", false, nil
	case ahead:
		return "peers are ahead", true, nil
	}

	return "no quorum: too few validators are connected", false, nil
}
