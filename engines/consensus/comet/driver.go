package comet

import (
	"context"
	"fmt"
	"path/filepath"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
	"google.golang.org/protobuf/proto"

	"github.com/coppice-go/coppice/engines/chain"
	"github.com/coppice-go/coppice/engines/consensus"
	logv1 "github.com/coppice-go/coppice/proto/coppice/log/v1"
	"github.com/coppice-go/coppice/supervisor"
	"github.com/coppice-go/coppice/supervisor/process"
)

// Driver is consensus by CometBFT.
type Driver struct {
	// Home is CometBFT's, made by InitHome.
	Home string

	// Command is the program that calls RunChild with the flags that follow; nil is this program
	// with ChildCommand.
	Command []string

	// Intensity limits restarts of the four children.
	Intensity supervisor.Intensity

	// Retain is how many blocks CometBFT keeps at least; 0 is all. Those after a snapshot for peers
	// stay with it.
	Retain uint64

	// Extender, if set, extends votes. The chain's vote_extensions_enable_height must say so, too.
	Extender consensus.VoteExtender

	// Version is what Info tells.
	Version string

	// Log takes diagnostics, CometBFT's own among them; nil discards them.
	Log *zap.Logger
}

// ChildCommand is the hidden command of the coppice binary that runs CometBFT.
const ChildCommand = "comet-child"

// Name is "cometbft".
func (Driver) Name() string { return "cometbft" }

// Start returns a supervisor's StartFunc: see the package's picture.
func (d Driver) Start(core consensus.Core) supervisor.StartFunc {
	if d.Log == nil {
		d.Log = zap.NewNop()
	}

	begun := &starts{}
	return func(context.Context) (supervisor.Service, error) {
		t := &tree{Driver: d, core: core, command: d.Command, starts: begun}
		var err error

		// the program that runs, not whatever lies at its path when CometBFT has to be started
		// again
		if t.command == nil {
			self, name, err := process.Self()
			if err != nil {
				return nil, err
			}
			t.command, t.name = []string{self, ChildCommand}, name
		}

		t.sup, err = supervisor.New(supervisor.Spec{Name: "consensus", Strategy: supervisor.RestForOne,
			Intensity: d.Intensity, Build: t.build})

		return t.sup, err
	}
}

// tree is one run of the driver.
type tree struct {
	Driver
	core    consensus.Core
	command []string
	name    string // the process's own, if not that of the command
	sup     *supervisor.Supervisor
	starts  *starts

	timing    timing
	stateSync bool // CometBFT is to take a snapshot if it has no chain
	dir       string
	// of the living incarnation: its elders are gone before it starts, and what comes after it is
	// started after
	server *server
	app    *app
	row    row
	torn   atomic.Bool // the write-ahead log of the process that runs is, and it was told
}

// Children of the driver, in start order.
const (
	childABCI     = "abci"
	childProcess  = "process"
	childWatchdog = "watchdog"
	childFeed     = "feed"
)

// Shutdown times. The process's own stop is bounded by stopTime; SIGKILL follows.
const (
	processGrace = 2 * time.Second
	killTime     = 2 * time.Second
)

func (t *tree) build(context.Context) ([]supervisor.Child, error) {
	home, err := filepath.Abs(t.Home)
	if err != nil {
		return nil, err
	}

	t.Home = home
	conf, err := loadConfig(home)
	if err != nil {
		return nil, err
	}
	if err := preflight(conf); err != nil {
		return nil, err
	}

	for _, e := range exposures(conf) {
		t.Log.Warn("CometBFT's config.toml is less careful than a new home's", zap.String("setting", e))
	}

	t.timing, t.stateSync = timingOf(conf), conf.StateSync.Enable
	g, err := ReadGenesis(home)
	if err != nil {
		return nil, err
	}

	if own := t.core.Genesis.GetChainId(); g.ChainID != own {
		return nil, fmt.Errorf("%w: %s is of chain %q, the home's genesis.json of %q", ErrGenesis, genesisPath(home),
			g.ChainID, own)
	}

	t.dir = SocketDir(home)
	return []supervisor.Child{
		{ID: childABCI, Start: t.startServer},
		{
			ID: childProcess, Start: t.startProcess, Shutdown: processGrace + killTime,
			StartTimeout: supervisor.Infinity,
		},
		{ID: childWatchdog, Start: t.startWatchdog},
		{ID: childFeed, Start: t.startFeed},
	}, nil
}

func (t *tree) startServer(ctx context.Context) (supervisor.Service, error) {
	release, err := holdSockets(t.Home)
	if err != nil {
		return nil, err
	}

	t.app = &app{core: t.core, home: t.Home, version: t.Version, retain: t.Retain, extender: t.Extender, log: t.Log}
	t.server = &server{
		app: t.app, dir: t.dir, release: release, limit: int(2*t.core.Genesis.GetParams().GetMaxBlockBytes()) +
			frameOverhead, log: t.Log, ctx: ctx,
	}

	return t.server, nil
}

// frameOverhead is what a request may have beyond twice a block's transactions: a commit, evidence,
// a snapshot's chunk.
const frameOverhead = 20 << 20

// startProcess starts a child, on an endpoint of its own.
func (t *tree) startProcess(ctx context.Context) (supervisor.Service, error) {
	s, err := t.app.standing(ctx) // also: the transaction core is up, so that the handshake need not wait for it
	if err != nil {
		return nil, err
	}
	if err := pause(ctx, max(t.row.delay(s.Height), t.starts.pause())); err != nil {
		return nil, err
	}
	conf, err := loadConfig(t.Home)
	if err == nil {
		err = preflight(conf)
	}
	if err == nil && !t.stateSync { // which would bring the state anew
		err = checkChainData(conf, s.Height)
	}
	if err == nil {
		err = sameLimits(s, t.core.Genesis)
	}
	if err == nil && !s.Started() {
		err = t.app.sameGenesis()
	}

	switch {
	case err != nil && busy(err):
		return nil, err
	case err != nil:
		return refused(err), nil
	}

	socket, err := t.server.open()
	if err != nil {
		return nil, err
	}

	t.app.agreeing.Store(false)
	t.torn.Store(false)
	o := ChildOptions{Home: t.Home, ABCI: socket, RPC: t.rpcSocket()}
	args := append(append([]string{}, t.command[1:]...), o.Args()...)
	t.starts.begin()
	p, err := process.Start(process.Spec{
		Name: "cometbft", Path: t.command[0], Argv0: t.name, Args: args, Dir: t.Home,
		Env:    process.Inherit("PATH", "TMPDIR", "GORACE", "GOCOVERDIR"),
		Stdout: t.stdout, Stderr: t.stderr,
		Grace: processGrace, ExitZero: process.ExitZeroAbnormal,
	})(ctx)

	if err != nil {
		return nil, err
	}

	return attempt{p, t.starts}, nil
}

// sameLimits refuses a genesis that was edited after the chain began. CometBFT asks for it once, at
// InitChain; who governs and what is a limit would then differ from node to node.
func sameLimits(s chain.State, g *logv1.ChainStarted) error {
	if !s.Started() || s.Period != g.Period || proto.Equal(s.Params, g.Params) {
		return nil
	}
	return fmt.Errorf("%w: chain %s was started with the limits {%v}, the home's genesis.json has {%v}: put the "+
		"chain's genesis.json back", ErrGenesis, s.ChainID, s.Params, g.Params)
}

// row is one of starts at the same committed height. A process that has made a block is started
// again at once, however short it lived; one that has not may be in the way of its own next round,
// which takes a second or so to come, and each start puts that off.
type row struct {
	height uint64
	starts int
}

const (
	rowMin    = 2 * time.Millisecond
	rowMax    = time.Second
	rowFactor = 4
)

// delay is how long the next start waits.
func (r *row) delay(height uint64) time.Duration {
	if height != r.height {
		*r = row{height: height}
	}
	r.starts++
	if r.starts == 1 {
		return 0
	}

	d := rowMin
	for range min(r.starts-2, 8) {
		d = min(d*rowFactor, rowMax)
	}

	return d
}

func (t *tree) rpcSocket() string { return rpcSocket(t.dir) }

// rpcSocket is where CometBFT serves its RPC to us, in a directory of sockets.
func rpcSocket(dir string) string { return filepath.Join(dir, "rpc.sock") }

func (t *tree) startFeed(context.Context) (supervisor.Service, error) {
	c, err := newRPC(t.rpcSocket())
	if err != nil {
		return nil, err
	}
	return &feed{pool: t.core.Feed, rpc: c, log: t.Log}, nil
}
