// Package chaos runs a testnet under load and under troubles that a seed chooses, and checks from
// outside what a network of validators promises: no fork, nothing acknowledged lost and nothing
// applied twice, no block without a quorum and a new one soon after the quorum is back, and
// registers that behave as if there were only one copy of each.
package chaos

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/coppice-go/coppice/cmd/coppice/internal/rig"
	"github.com/coppice-go/coppice/node/exit"
	"github.com/coppice-go/coppice/node/plan"
)

// Config configures a run.
type Config struct {
	Bin      string // the coppice binary
	Dir      string // where the testnet is made; it must contain no testnet yet
	Nodes    int    // at least 4: with fewer, the loss of one node is the loss of the quorum
	Seed     uint64
	Duration time.Duration // of the episodes; the checks afterwards take extra time
	Rate     float64       // of the load, in transactions per second over all nodes
	Profile  plan.Profile  // of the trees' limits

	Begun   func()        // called when all nodes have committed; may be nil
	Doing   func(string)  // called with what is being done; may be nil
	Episode func(Episode) // called with each episode when it is over; may be nil

	made func(home string) error // changes the configuration of a new node before it runs; may be nil
}

// Bounds of how long a network may take.
const (
	startWithin = 60 * time.Second // from the start to the first height on all nodes
	backWithin  = 30 * time.Second // from the end of a trouble to a new height on a quorum
	allWithin   = 60 * time.Second // and on all nodes
	drainWithin = 60 * time.Second
	proofWithin = 60 * time.Second // until the load and the registers have something to judge
	checkWithin = 60 * time.Second // of the history of one register
	inFlight    = 2                // heights that were decided before the quorum was lost, and may still be committed
)

// Run runs the testnet. The result says which rules did not hold. Run returns an error if the
// testnet could not be run, or if ctx ended.
func Run(ctx context.Context, c Config) (res Result, err error) {
	began := time.Now()
	if c.Dir, err = filepath.Abs(c.Dir); err != nil {
		return res, err
	}
	file, err := os.OpenFile(filepath.Join(c.Dir, "nodes.log"), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
	if err != nil {
		return res, fmt.Errorf("%w: want a directory that had no chaos yet: %w", exit.ErrConfig, err)
	}
	defer file.Close()

	r := &campaign{Config: c, began: began, court: newCourt(began), out: &output{file: file, began: began}, res: &res}
	res = Result{Dir: c.Dir, Troubles: make(map[string]int), Engines: make(map[string]int)}
	defer func() {
		res.Elapsed, res.Load = time.Since(began), loadAverage()
		res.Violations = r.court.all()
		if ctx.Err() != nil {
			err = context.Cause(ctx) // and not the error of the step that it interrupted
		}
	}()

	r.doing("starting %d nodes", c.Nodes)
	if r.net, err = begin(c, r.out); err != nil {
		return res, err
	}

	if err = r.run(ctx); err != nil {
		r.close()
		return res, err
	}

	err = r.finish(ctx)
	return res, err
}

// campaign is the state of one call of Run.
type campaign struct {
	Config
	began time.Time
	court *court
	out   *output
	net   *network
	work  *work
	res   *Result

	top    uint64 // the highest height seen
	closed bool
}

// highest returns the highest height seen on any node so far. It never falls, even if the node that
// was highest does not answer.
func (r *campaign) highest(ctx context.Context) uint64 {
	for _, h := range r.net.heights(ctx) {
		r.top = max(r.top, h)
	}
	return r.top
}

func (r *campaign) doing(format string, args ...any) {
	if r.Doing != nil {
		r.Doing(fmt.Sprintf(format, args...))
	}
}

// run starts the work and goes through episodes until the time is over.
func (r *campaign) run(ctx context.Context) error {
	if err := r.net.beyond(ctx, 0, r.Nodes, startWithin); err != nil {
		return err
	}
	var err error
	if r.work, err = employ(r.Config, r.net, r.court); err != nil {
		return err
	}
	if r.Begun != nil {
		r.Begun()
	}

	plan := newPlanner(r.Nodes, r.Seed)

	for end := time.Now().Add(r.Duration); time.Now().Before(end); {
		e := plan.next()
		e.hold = min(e.hold, max(time.Until(end), shortest))
		if err := r.episode(ctx, e); err != nil {
			return err
		}
		if err := r.net.died(); err != nil {
			return err
		}
	}

	return nil
}

// episode starts the trouble of e, executes the strikes, ends the trouble, and checks that the
// chain goes on.
func (r *campaign) episode(ctx context.Context, e episode) error {
	told := Episode{N: r.res.Episodes + 1, Trouble: e.trouble, Nodes: slices.Sorted(slices.Values(e.nodes)),
		Began: time.Since(r.began)}
	r.doing("episode %d: %v %v for %v", told.N, e.trouble, told.Nodes, e.hold.Round(100*time.Millisecond))
	base := r.highest(ctx)
	since := time.Now()
	if err := r.net.bring(ctx, e); err != nil {
		return err
	}

	floor := r.highest(ctx)

	for _, s := range e.strikes {
		if err := rig.Pause(ctx, time.Until(since.Add(min(s.at, e.hold)))); err != nil {
			return err
		}
		if s.at < e.hold && r.fall(ctx, s) {
			told.Blows++
		}
	}

	if err := rig.Pause(ctx, time.Until(since.Add(e.hold))); err != nil {
		return err
	}

	if e.trouble.stands() {
		r.res.Standing += time.Since(since)
		r.stood(ctx, e, since.Sub(r.began), floor)
	}

	if e.hold > 0 {
		base = r.highest(ctx)
		told.Lasted = time.Since(since)
	}

	back := since.Add(told.Lasted)
	if err := r.net.lift(ctx, e); err != nil {
		return err
	}

	if err := r.net.beyond(ctx, base, quorum(r.Nodes), backWithin); err != nil {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		r.late(told, err)
	}

	told.Back = time.Since(back)
	r.res.Slowest = max(r.res.Slowest, told.Back)

	if err := r.net.beyond(ctx, base, r.Nodes, allWithin); err != nil {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		r.late(told, err)
	}

	told.Height, told.Bad = r.highest(ctx), len(r.court.all())
	r.res.Episodes++
	r.res.Troubles[e.trouble.String()]++
	if r.Episode != nil {
		r.Episode(told)
	}

	return rig.Pause(ctx, e.rest)
}

// late records that the chain did not go on in time after an episode. The record includes the load
// average, because a busy machine may be the reason.
func (r *campaign) late(e Episode, err error) {
	r.court.charge(Onward, "after episode %d, %v %v, at load average %.1f: %v", e.N, e.Trouble, e.Nodes,
		loadAverage(), err)
}

// stood records the violations while the nodes had no quorum: a new height, and a watchdog that
// restarted CometBFT. A restart counts only if the watchdog's node was not paused. floor is the
// height when the quorum was lost.
func (r *campaign) stood(ctx context.Context, e episode, since time.Duration, floor uint64) {
	awake := func(node int) bool { return !e.trouble.pauses() || !slices.Contains(e.nodes, node) }
	if top := r.highest(ctx); top > floor+inFlight {
		r.court.charge(Standing, "%v %v: height %d was committed without a quorum, which was lost at %d", e.trouble,
			e.nodes, top, floor)
	}
	for _, w := range r.out.restarted(since, awake) {
		r.court.charge(Silent, "%v %v: node %d: %s", e.trouble, e.nodes, w.node, w.line)
	}
}

// fall executes a strike and reports whether it hit.
func (r *campaign) fall(ctx context.Context, s strike) bool {
	hit, err := r.net.fall(ctx, s)
	switch {
	case err != nil:
		r.res.Missed++
		return false

	case s.blow == KillNode:
		r.res.Nodes++

	case s.blow == KillComet:
		r.res.Comets++

	default:
		r.res.Engines[hit]++
	}

	return true
}

// finish ends the work in order, and checks what is left.
func (r *campaign) finish(ctx context.Context) error {
	defer r.close()

	r.doing("waiting for the answers that a verdict needs")
	r.work.prove(ctx, proofWithin)
	r.doing("ending the load")
	r.work.drain(ctx, drainWithin)
	r.doing("reading everything back from every node")
	if err := r.work.audit(ctx, r.res); err != nil {
		return err
	}
	if err := r.net.died(); err != nil {
		return err
	}

	r.close()
	r.doing("checking the registers' history")
	var err error
	if r.res.Register, err = r.work.history.Check(checkWithin, filepath.Join(r.Dir, "register.html")); err != nil {
		return err
	}

	r.judge()
	r.doing("reading the nodes' logs")
	if err := r.net.logs(r.work.chain); err != nil {
		r.court.charge(NoFork, "%v", err)
	}

	r.res.Heights, r.res.Compared = r.work.chain.seen()
	r.doing("verifying the nodes' homes")
	if err := r.net.verify(ctx, r.Bin); err != nil && ctx.Err() == nil {
		r.court.charge(Verified, "%v", err)
	}

	return nil
}

// judge records the violations that the registers' history and the nodes' output show.
func (r *campaign) judge() {
	v := r.res.Register
	switch {
	case len(v.Not) > 0:
		r.court.charge(Linear, "the history of %d of %d registers is not: %v; see register.html", len(v.Not),
			v.Keys, v.Not)
	case len(v.Undecided) > 0:
		r.court.charge(Linear, "undecided within %v: %v", checkWithin, v.Undecided)
	case v.Gets == 0 || v.Puts+v.CAS == 0:
		r.court.charge(Linear, "there is no history: %d reads, %d writes", v.Gets, v.Puts+v.CAS)
	}

	r.out.mu.Lock()
	defer r.out.mu.Unlock()

	if n := r.stands(); n >= enoughStands && r.out.noQuorum == 0 {
		r.court.charge(Silent, "the quorum was lost %d times, and no watchdog reported it: silence proves nothing", n)
	}

	for _, line := range r.out.alarms {
		r.court.charge(Orderly, "%s", line)
	}

	for _, line := range r.out.ended {
		if strings.Contains(line, sayGaveUp) && r.Profile != plan.Chaos {
			r.res.GaveUp++
			continue
		}
		r.court.charge(Orderly, "it ended by itself: %s", line)
	}

	r.res.NoQuorum, r.res.Restarts = r.out.noQuorum, len(r.out.restarts)
}

// stands returns how many episodes kept the quorum away for longer than a watchdog waits before it
// acts.
func (r *campaign) stands() (n int) {
	for t := range troubles {
		if t.stands() {
			n += r.res.Troubles[t.String()]
		}
	}
	return n
}

// enoughStands is the number of losses of the quorum of which a watchdog must have reported at
// least one. A single loss may go unreported: a watchdog waits anew after a blow, and the last
// episode may be short.
const enoughStands = 3

// close ends the work and the nodes. A second call does nothing.
func (r *campaign) close() {
	if r.closed {
		return
	}

	r.closed = true
	if r.work != nil {
		r.work.close()
	}
	if err := r.net.stop(); err != nil {
		r.court.charge(Orderly, "the testnet did not stop in order: %v", err)
	}
}
