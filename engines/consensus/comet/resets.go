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
	comethome "github.com/coppice-go/coppice/engines/consensus/comet/home"
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
}

var _ manager.Target = (*resets)(nil)

// startedWait is how long the answer to a reset waits for CometBFT to be up.
const startedWait = 3 * time.Second

// lookEvery is the time between two looks whether it is.
const lookEvery = 20 * time.Millisecond

func newResets(d Driver) *resets {
	r := &resets{driver: d}
	log := d.Log.Named("resets")
	r.machine = manager.NewMachine(r, d.Now, func(e manager.Event) {
		log.Debug(e.Text, zap.String("state", string(e.State)))
	})
	return r
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
func (*resets) Begin(context.Context) error { return nil }

// End implements manager.Target.
func (*resets) End(context.Context) {}

// Work implements manager.Target. The watchdog restarts CometBFT by itself.
func (*resets) Work() <-chan func(context.Context) { return nil }

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

	before := t.starts.begun()
	say("Monitoring thread terminated")
	if err := supervisor.Recycle(ctx, t.sup, childProcess); err != nil {
		return "", fmt.Errorf("CometBFT cannot be restarted: %w", err)
	}
	say("Tendermint process stopped", "Tendermint process started", "Monitoring thread started")

	return r.awaitUp(ctx, t, before)
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

// Hard refuses: a node of ours makes no chain of its own.
func (r *resets) Hard(_ context.Context, want manager.Reset) (string, error) {
	count, now := want.PeriodCount, r.driver.health.inEpoch()
	if count == "" {
		count = strconv.FormatUint(now, 10)
	}

	period, err := strconv.ParseUint(count, 10, 64)
	if err != nil {
		return "", fmt.Errorf("period_count: %q, want the number of an epoch", want.PeriodCount)
	}
	if period != now {
		return "", fmt.Errorf("period_count %d names another epoch than that of this node, %d: a node that began an "+
			"epoch by itself would stay alone in it, because the nodes of a chain begin one together; nothing "+
			"was changed", period, now)
	}

	return "", fmt.Errorf("the data of CometBFT for epoch %d is not rebuilt in a home that has it; nothing was "+
		"changed: if it is damaged, make a new home that joins the chain, 'coppice init --consensus "+
		"cometbft --from RPC,RPC'", now)
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
