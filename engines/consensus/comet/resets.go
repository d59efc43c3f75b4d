package comet

import (
	"context"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"strconv"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/coppice-go/coppice/engines"
	"github.com/coppice-go/coppice/engines/consensus"
	"github.com/coppice-go/coppice/engines/consensus/comet/bootstrap"
	comethome "github.com/coppice-go/coppice/engines/consensus/comet/home"
	"github.com/coppice-go/coppice/engines/consensus/comet/ladder"
	"github.com/coppice-go/coppice/engines/consensus/comet/manager"
	"github.com/coppice-go/coppice/engines/consensus/comet/manager/bare"
	"github.com/coppice-go/coppice/supervisor"
)

// resets is the manager.Target of a node of ours, and the service of its machine. It outlives
// incarnations of the tree, so its machine's events do, too.
type resets struct {
	driver  Driver
	machine *manager.Machine
	tree    atomic.Pointer[tree] // the one that runs, or ran last
	app     atomic.Pointer[app]  // of that tree

	work     chan func(context.Context) // of the stall ladder
	climbing atomic.Bool                // the machine is on a rung of the ladder
	attempts attempts

	outcome atomic.Pointer[chan error] // gets the outcome of the rebuild that is ordered; nil: nobody waits
}

var _ manager.Target = (*resets)(nil)

// startedWait is how long the answer to a reset waits for CometBFT to be up.
const startedWait = 3 * time.Second

// lookEvery is the time between two looks whether it is.
const lookEvery = 20 * time.Millisecond

func newResets(d Driver) *resets {
	r := &resets{driver: d, work: make(chan func(context.Context))}
	log := d.Log.Named("resets")
	r.machine = manager.NewMachine(r, d.Now, func(e manager.Event) {
		log.Debug(e.Text, zap.String("state", string(e.State)))
		r.tell(e)
	})
	return r
}

// tell passes an event of the machine on: to the health, which the status shows, and to the node.
func (r *resets) tell(e manager.Event) {
	now := r.machine.Status(e.Seq)
	p := consensus.Process{State: string(e.State), Text: e.Text, At: e.At, Since: now.Since,
		Restarts: now.Restarts, Resets: now.Resets}
	r.driver.health.processed(p)
	if r.driver.Changed != nil {
		r.driver.Changed(p)
	}
}

// String names the service in reports.
func (*resets) String() string { return "machine of resets" }

// Serve runs the machine, and its HTTP API if the configuration wants one, until ctx ends.
func (r *resets) Serve(ctx context.Context) error {
	if r.driver.Manager.Listen != "" {
		if err := supervisor.Go(ctx, r.serveAPI); err != nil {
			return err
		}
	}
	return r.machine.Serve(ctx)
}

// retryListen is the time between two attempts to listen.
const retryListen = 5 * time.Second

// serveAPI serves the HTTP API. An address that is taken does not end the consensus.
func (r *resets) serveAPI(ctx context.Context) error {
	m := r.driver.Manager
	listen := func() (net.Listener, error) { return new(net.ListenConfig).Listen(ctx, "tcp", m.Listen) }
	log := r.driver.Log.Named("manager")
	access := manager.Access{Listen: m.Listen, TokenFile: m.TokenFile, AllowUnauthenticated: m.AllowUnauthenticated}
	server := manager.NewServer(r.machine, access, listen, func(text string) { log.Error(text) })

	for {
		err := server.Serve(ctx)
		if ctx.Err() != nil {
			return err
		}
		log.Error("the manager's API does not listen, and tries again", zap.Duration("in", retryListen), zap.Error(err))
		if err := engines.Pause(ctx, retryListen); err != nil {
			return err
		}
	}
}

// Begin implements manager.Target.
func (r *resets) Begin(context.Context) error {
	r.climbing.Store(false) // the machine's last life may have ended on a rung
	return nil
}

// End implements manager.Target.
func (*resets) End(context.Context) {}

// Work implements manager.Target.
func (r *resets) Work() <-chan func(context.Context) { return r.work }

// climb has the machine climb a rung of the stall ladder, for the watchdog. It does not wait for
// that: the machine waits for the supervisor, which may wait for the watchdog.
func (r *resets) climb(ctx context.Context, rung ladder.Rung) error {
	r.climbing.Store(true)
	select {
	case r.work <- func(ctx context.Context) { r.step(ctx, rung) }:
		return nil
	case <-ctx.Done():
		r.climbing.Store(false)
		return context.Cause(ctx)
	}
}

// step climbs a rung. If CometBFT's data cannot be rebuilt, it is restarted with what it has.
func (r *resets) step(ctx context.Context, rung ladder.Rung) {
	defer r.climbing.Store(false)

	if t := r.tree.Load(); rung == ladder.Rebuild && t != nil {
		text, err := r.order(ctx, t, "the stall ladder")
		if err == nil {
			r.machine.Note("", "the stall ladder:"+text, nil)
			return
		}
		r.machine.Note(manager.Stalled, err.Error(), nil)
		r.driver.Log.Warn("the stall ladder restarts CometBFT with the data that it has", zap.Error(err))
	}

	if _, err := r.Gentle(ctx); err != nil && ctx.Err() == nil {
		r.machine.Note("", "the restart of CometBFT: "+err.Error(), nil)
	}
}

// Gentle restarts CometBFT. Nothing that was committed is lost: the event log has it.
func (r *resets) Gentle(ctx context.Context) (string, error) {
	t := r.tree.Load()
	if t == nil {
		return "", errors.New("the consensus is starting")
	}

	say := func(lines ...string) {
		for _, line := range lines {
			t.Log.Info(line)
		}
	}

	if err := t.awaitStart(ctx); err != nil {
		return "", err
	}
	before := t.starts.begun()
	say("Monitoring thread terminated")
	if err := supervisor.Recycle(ctx, t.sup, childProcess); err != nil {
		return "", fmt.Errorf("CometBFT cannot be restarted: %w", err)
	}
	say("Tendermint process stopped", "Tendermint process started", "Monitoring thread started")

	return r.awaitUp(ctx, t, before)
}

// awaitStart waits until no start of CometBFT is under way: the supervisor could not stop CometBFT
// before. A start waits for the transaction core, however long that takes, so this does not.
func (t *tree) awaitStart(ctx context.Context) error {
	late := time.NewTimer(startedWait)
	defer late.Stop()
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()

	for t.starting.Load() {
		select {
		case <-tick.C:
		case <-late.C:
			return fmt.Errorf("a start of CometBFT is under way already, and waits for this node's own data, or until "+
				"its pause is over: see the status; %w", errUnchanged)
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}

	return nil
}

// awaitUp waits until a process that began after the first so many is up.
func (r *resets) awaitUp(ctx context.Context, t *tree, before int) (string, error) {
	late := time.NewTimer(startedWait)
	defer late.Stop()
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()

	for !t.starts.isUp(before) {
		select {
		case <-tick.C:
		case <-late.C:
			if failed, why := t.starts.ended(); failed > 0 {
				return "", fmt.Errorf("CometBFT was started and has ended: %s", why)
			}
			return " CometBFT was started; it has not shaken hands with the application yet.", nil
		case <-ctx.Done():
			return "", context.Cause(ctx)
		}
	}

	return "", nil
}

// errUnchanged is the end of the reason for which a hard reset is refused.
var errUnchanged = errors.New("nothing was changed")

// rebuildTime bounds the wait for a rebuild in the answer to a hard reset. The rebuild itself goes
// on.
const rebuildTime = 30 * time.Second

// Hard rebuilds the data of CometBFT for the present epoch from what its peers have, or makes the
// reset that is due. A node of ours never begins a chain by itself.
func (r *resets) Hard(ctx context.Context, want manager.Reset) (string, error) {
	t := r.tree.Load()
	a := r.app.Load()
	if t == nil || a == nil {
		return "", fmt.Errorf("the consensus is starting; %w", errUnchanged)
	}
	if err := r.checkHard(want); err != nil {
		return "", fmt.Errorf("%w; %w", err, errUnchanged)
	}

	s := a.chain.Load()
	switch {
	case s == nil || !s.Started():
		return "", fmt.Errorf("the chain has not begun; %w", errUnchanged)
	case s.InHold() || a.ended.Load() != nil:
		text, err := r.Gentle(ctx)
		return " The reset that the chain has decided is made as soon as it can be." + text, err
	}

	return r.order(ctx, t, "a hard reset")
}

// checkHard returns an error if a hard reset asks for what would make another chain.
func (r *resets) checkHard(want manager.Reset) error {
	now := r.driver.health.inEpoch()
	if want.PeriodCount != "" {
		period, err := strconv.ParseUint(want.PeriodCount, 10, 64)
		if err != nil {
			return fmt.Errorf("period_count: %q, want the number of an epoch", want.PeriodCount)
		}
		if period != now {
			return fmt.Errorf("period_count %d names another epoch than that of this node, %d: a node that began an "+
				"epoch by itself would stay alone in it, because the nodes of a chain begin one together "+
				"('coppice reset agree')", period, now)
		}
	}

	g, err := comethome.ReadGenesis(r.driver.Home)
	if err != nil {
		return err
	}
	if h := want.InitialHeight; h != "" && h != strconv.FormatUint(g.InitialHeight, 10) {
		return fmt.Errorf("initial_height %s is not that of the genesis, %d, which the nodes of the chain share", h,
			g.InitialHeight)
	}
	if at := want.GenesisTime; at != "" {
		if parsed, err := time.Parse(time.RFC3339Nano, at); err != nil || !parsed.Equal(g.Time) {
			return fmt.Errorf("genesis_time %s is not that of the genesis, %s, which the nodes of the chain share", at,
				g.Time.Format(time.RFC3339Nano))
		}
	}

	return nil
}

// order has the data of CometBFT rebuilt: it makes sure that a peer has what is needed, writes the
// order down, and has the process replaced, whose next start carries the order out.
func (r *resets) order(ctx context.Context, t *tree, by string) (string, error) {
	addresses := t.rpcAddresses(ctx)
	from, err := t.witnesses(addresses)
	defer func() {
		for _, w := range from {
			w.Close()
		}
	}()
	if err != nil {
		return "", fmt.Errorf("%w; %w", err, errUnchanged)
	}
	if err := r.probe(ctx, t, from); err != nil {
		return "", fmt.Errorf("the data of CometBFT is not rebuilt: %w; %w", err, errUnchanged)
	}

	if err := t.awaitStart(ctx); err != nil {
		return "", err
	}
	done := r.awaited()
	order := &comethome.Rebuilding{ChainID: r.app.Load().chain.Load().ChainID, By: by, From: addresses}
	if err := order.Order(t.Home); err != nil {
		return "", err
	}

	before := t.starts.begun()
	t.Log.Info("Monitoring thread terminated")
	if err := supervisor.Recycle(ctx, t.sup, childProcess); err != nil {
		return "", fmt.Errorf("CometBFT cannot be restarted: %w", err)
	}

	late := time.NewTimer(rebuildTime)
	defer late.Stop()
	select {
	case err := <-done:
		if err != nil {
			return "", fmt.Errorf("the data of CometBFT was not rebuilt, and CometBFT goes on with what it has: %w",
				err)
		}
	case <-late.C:
		return "", errors.New("the data of CometBFT is not rebuilt yet, which goes on: see the status")
	case <-ctx.Done():
		return "", context.Cause(ctx)
	}

	text, err := r.awaitUp(ctx, t, before)
	if err == nil {
		t.Log.Info("Tendermint process started")
		t.Log.Info("Monitoring thread started")
	}

	return " The data of CometBFT was rebuilt." + text, err
}

// probe returns an error unless a peer has a base for the present state.
func (r *resets) probe(ctx context.Context, t *tree, from []bootstrap.Witness) error {
	if len(from) == 0 {
		return fmt.Errorf("%w: no peer is connected whose RPC can be reached, and neither reset.peers nor [statesync] "+
			"rpc_servers names one",
			bootstrap.ErrNone)
	}

	state := *r.app.Load().chain.Load() // peers have its next block soon, if the chain goes on
	for late := time.Now().Add(probeTime); ; {
		_, err := bootstrap.Find(ctx, t.Home, state, from)
		if err == nil || ctx.Err() != nil || time.Now().After(late) {
			return err
		}
		if err := engines.Pause(ctx, probeEvery); err != nil {
			return err
		}
	}
}

// Times of probe.
const (
	probeTime  = 3 * time.Second
	probeEvery = 100 * time.Millisecond
)

// awaited returns a channel that gets the outcome of the next rebuild.
func (r *resets) awaited() <-chan error {
	c := make(chan error, 1)
	r.outcome.Store(&c)
	return c
}

// rebuilt tells the caller that waits for it, if there is one, the outcome of a rebuild.
func (r *resets) rebuilt(err error) {
	if c := r.outcome.Swap(nil); c != nil {
		*c <- err
	}
}

// SetParams refuses: the genesis of CometBFT carries that of the home.
func (*resets) SetParams([]byte) error {
	return errors.New("the genesis of a node of ours is that of its home, which all nodes of the chain share; " +
		"nothing was changed: 'coppice peers add' adds a peer, 'coppice validators update' changes the validators")
}

// Identity implements manager.Target.
func (r *resets) Identity() (bare.Identity, error) { return bare.IdentityOf(r.driver.Home) }

// AppHash implements manager.Target.
func (r *resets) AppHash(ctx context.Context, height string) (string, error) {
	home, err := filepath.Abs(r.driver.Home)
	if err != nil {
		return "", err
	}
	return manager.AppHash(ctx, rpcSocket(comethome.SocketDir(home)), height)
}
