package comet

import (
	"context"
	"encoding/hex"
	"fmt"
	"math"
	"path/filepath"
	"runtime/debug"
	"strconv"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
	"google.golang.org/protobuf/proto"

	"github.com/coppice-go/coppice/engines"
	"github.com/coppice-go/coppice/engines/chain"
	"github.com/coppice-go/coppice/engines/consensus"
	"github.com/coppice-go/coppice/engines/consensus/comet/bootstrap"
	"github.com/coppice-go/coppice/engines/consensus/comet/certificate"
	"github.com/coppice-go/coppice/engines/consensus/comet/child"
	comethome "github.com/coppice-go/coppice/engines/consensus/comet/home"
	"github.com/coppice-go/coppice/engines/consensus/comet/manager"
	"github.com/coppice-go/coppice/engines/consensus/comet/seek"
	logv1 "github.com/coppice-go/coppice/proto/coppice/log/v1"
	"github.com/coppice-go/coppice/supervisor"
	"github.com/coppice-go/coppice/supervisor/process"
)

// Driver is consensus by CometBFT.
type Driver struct {
	// Home is the CometBFT home, which comethome.Init has made.
	Home string

	// AppState is the home's own genesis in the form in which CometBFT's genesis carries it. nil
	// stands for the genesis of the Core.
	AppState []byte

	// Command is a program that calls child.Run, and its arguments; Start appends the flags. nil
	// stands for this program with child.Command.
	Command []string

	// Intensity limits the restarts of the driver's four children.
	Intensity supervisor.Intensity

	// Retain is the lowest number of blocks that CometBFT keeps; 0 stands for all. Blocks after a
	// snapshot for peers are kept as long as the snapshot.
	Retain uint64

	// Prunes says that the state may have a decision to drop the history (chain.PruneKey), which
	// CometBFT's blocks then follow, whatever Retain is.
	Prunes bool

	// MemoryShare is the percentage of GOMEMLIMIT that CometBFT's process gets as its own; 0 stands
	// for all of it.
	MemoryShare int

	// Extender, if set, extends votes. The chain must also have vote_extensions_enable_height set.
	Extender consensus.VoteExtender

	// Version is the version in the answer to Info.
	Version string

	// Manager says where the HTTP API of resets listens, if it does.
	Manager consensus.Manager

	// Changed, if set, is told each change of the machine that starts and resets CometBFT. It must
	// not wait.
	Changed func(consensus.Process)

	// Log takes diagnostics, including CometBFT's own; nil discards them.
	Log *zap.Logger

	// Now returns the wall clock's time; nil means time.Now.
	Now func() time.Time

	health *health    // nil: Start makes one, and Condition knows nothing
	keep   *blockKeep // nil: Copy does not keep the blocks that it needs

	agents int // of genesis.json

	mistake mistake       // empty but in tests
	asks    time.Duration // askPeersEvery; shorter in tests
}

// Condition returns whether the consensus is able, and if it is not, why: see
// consensus.Conditioned.
func (d Driver) Condition() consensus.Condition {
	if d.health == nil {
		return consensus.Condition{State: consensus.Ready}
	}
	return d.health.Condition()
}

// Name returns the name of the Kind.
func (Driver) Name() string { return Name }

// Certificates implements consensus.Certifier.
func (d Driver) Certificates(from uint64, maxBytes int) ([]consensus.Certificate, error) {
	return certificate.Served(d.Home, from, maxBytes)
}

// FirstGenesis implements consensus.Certifier.
func (d Driver) FirstGenesis() ([]byte, error) { return comethome.FirstGenesisDoc(d.Home) }

// LightBlock implements consensus.Certifier. It asks the running CometBFT.
func (d Driver) LightBlock(ctx context.Context, height uint64) (block, validators []byte, err error) {
	c, err := newRPC(rpcSocket(comethome.SocketDir(d.Home)))
	if err != nil {
		return nil, nil, err
	}
	defer c.close()
	return bootstrap.Serve(ctx, c, height)
}

// Start returns the StartFunc of a supervisor. The package comment shows its tree.
func (d Driver) Start(core consensus.Core) supervisor.StartFunc {
	if d.Log == nil {
		d.Log = zap.NewNop()
	}

	if d.AppState != nil {
		core.Genesis = proto.CloneOf(core.Genesis)
		core.Genesis.AppState = d.AppState
	}

	if d.health == nil {
		d.health = newHealth(d.Now)
	}

	begun := &starts{}
	resets := newResets(d)
	return func(context.Context) (supervisor.Service, error) {
		t := &tree{Driver: d, core: core, command: d.Command, starts: begun, resets: resets}
		var err error

		// Self is the running program, not the file that may lie at its path when CometBFT is
		// started again.
		if t.command == nil {
			self, name, err := process.Self()
			if err != nil {
				return nil, err
			}
			t.command, t.name = []string{self, child.Command}, name
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
	name    string // of the process, if it is not the command's
	sup     *supervisor.Supervisor
	starts  *starts
	resets  *resets

	timing    timing
	stateSync bool   // CometBFT takes a snapshot if it has no chain
	signs     string // the file of the signing state; empty if the key is elsewhere
	dir       string
	// These fields belong to the living incarnation. Earlier incarnations have ended before it
	// starts, and the children that use the fields start after it.
	server *server
	app    *app
	seeker *seek.Seeker
	streak startStreak

	starting atomic.Bool // a start of the process is under way
	torn     atomic.Bool // the write-ahead log of the running process is torn, and that was logged
}

// Children of the driver, in start order.
const (
	childResets   = "resets"
	childABCI     = "abci"
	childProcess  = "process"
	childWatchdog = "watchdog"
	childFeed     = "feed"
)

// Shutdown times of the process. The process also bounds its own stop. SIGKILL follows.
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
	conf, err := comethome.LoadConfig(home)
	if err != nil {
		return nil, err
	}
	if err := comethome.Preflight(conf); err != nil {
		return nil, err
	}

	for _, e := range comethome.Exposures(conf) {
		t.Log.Warn("CometBFT's config.toml is less careful than a new home's", zap.String("setting", e))
	}

	t.timing, t.stateSync = timingOf(conf), conf.StateSync.Enable
	g, err := comethome.ReadGenesis(home)
	if err != nil {
		return nil, err
	}

	// Which epoch it must be of is known once the core has been asked, at the start of the process.
	own, resets := t.core.Genesis.GetChainId(), t.core.Genesis.GetParams().GetResetOffset() > 0
	if epoch, ok := chain.EpochOf(g.ChainID, own); !ok || epoch > 0 && !resets {
		return nil, fmt.Errorf("%w: %s is of chain %q, the home's genesis.json of %q", comethome.ErrGenesis,
			comethome.GenesisPath(home),
			g.ChainID, own)
	}

	t.seeker = t.newSeeker()
	t.health.of(g, t.stateSync)
	if t.signs = conf.PrivValidatorStateFile(); conf.PrivValidatorListenAddr != "" {
		t.signs = ""
	}

	t.dir = comethome.SocketDir(home)
	t.starting.Store(true) // until the process has started
	t.resets.tree.Store(t)

	return []supervisor.Child{
		{ID: childResets, Start: func(context.Context) (supervisor.Service, error) { return t.resets, nil }},
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
	release, err := comethome.HoldSockets(t.Home)
	if err != nil {
		return nil, err
	}

	t.app = &app{core: t.core, home: t.Home, version: t.Version, retain: t.Retain,
		prunes: t.Prunes, keep: t.keep, extender: t.Extender,
		log: t.Log, health: t.health, holds: make(chan struct{}, 1), mistake: t.mistake}
	if id, err := comethome.ReadIdentity(t.Home); err == nil {
		t.app.validator, _ = hex.DecodeString(id.Validator.Address)
	}

	t.resets.app.Store(t.app)

	t.server = &server{
		app: t.app, dir: t.dir, release: release, limit: int(2*t.core.Genesis.GetParams().GetMaxBlockBytes()) +
			frameOverhead, log: t.Log, ctx: ctx,
	}

	return t.server, nil
}

// frameOverhead is the number of bytes that a request may have beyond twice the transactions of a
// block: for a commit, evidence, or a chunk of a snapshot.
const frameOverhead = 20 << 20

// startProcess starts a process of CometBFT with an endpoint of its own.
func (t *tree) startProcess(ctx context.Context) (supervisor.Service, error) {
	t.starting.Store(true)
	defer t.starting.Store(false)

	// What the old process asked for ends before the state is read: it may have begun an epoch.
	t.server.close()
	s, err := t.app.standing(ctx) // waits for the core, so that the handshake does not have to
	if err != nil {
		return nil, err
	}
	if err := engines.Pause(ctx, max(t.streak.delay(s.Height), t.starts.pause())); err != nil {
		return nil, err
	}

	if s, err = t.rejoin(ctx, s); err != nil {
		return nil, err
	}
	if !s.Started() {
		if awaits, err := t.seeker.Awaits(); err != nil {
			return refused(err), nil
		} else if awaits {
			return awaiting{t.app}, nil
		}
	}
	renewed, err := t.renew(ctx, s)
	if err != nil {
		return nil, err
	}
	height := s.Height
	if renewed {
		height = 0
	} else if err := t.rebuild(ctx, s); err != nil {
		if comethome.Class(err) != consensus.None {
			return refused(err), nil
		}
		return nil, err
	}

	conf, err := comethome.LoadConfig(t.Home)
	if err == nil {
		err = comethome.Preflight(conf)
	}
	if err == nil && !t.stateSync { // a state sync would fetch the state again
		err = comethome.CheckChainData(conf, height)
	}
	if err == nil {
		var g comethome.Genesis
		if g, err = t.genesisOf(s); err == nil && renewed {
			t.health.of(g, t.stateSync)
		}
	}
	if err == nil {
		err = sameLimits(s, t.core.Genesis)
	}
	if err == nil && !s.Started() {
		err = t.app.sameGenesis()
	}

	switch {
	case err != nil && child.Busy(err):
		return nil, err
	case err != nil:
		return refused(err), nil
	}

	socket, err := t.server.open()
	if err != nil {
		return nil, err
	}

	t.app.agreeing.Store(false)
	t.app.judged.Store(0)
	t.app.shares.Begin()
	t.torn.Store(false)

	o := child.Options{Home: t.Home, ABCI: socket, RPC: t.rpcSocket()}
	args := append(append([]string{}, t.command[1:]...), o.Args()...)

	t.starts.begin()
	t.resets.machine.Note(manager.Starting, "CometBFT is started", func(now *manager.Status) {
		now.Height = int64(s.Height)
		if g, err := comethome.ReadGenesis(t.Home); err == nil {
			now.ChainID = g.ChainID
		}
	})
	t.health.began()
	p, err := process.Start(process.Spec{
		Name: "cometbft", Path: t.command[0], Argv0: t.name, Args: args, Dir: t.Home,
		Env:    childEnv(t.MemoryShare),
		Stdout: t.stdout, Stderr: t.stderr,
		Grace: processGrace, ExitZero: process.ExitZeroAbnormal,
	})(ctx)
	if err != nil {
		return nil, err
	}

	if renewed {
		t.health.step(stepProcess)
	}
	if line := t.starts.takeDropped(); line != "" {
		for _, said := range []string{"Tendermint process stopped", "Tendermint process started", manager.SayDropped,
			line} {
			t.Log.Info(said)
		}
	}

	return attempt{p, t.starts, t.health, t.resets.machine}, nil
}

// childEnv returns the environment of the process: what Go's runtime reads of ours. The process
// gets a share of the node's memory limit, in percent; 0 stands for all of it.
func childEnv(share int) []string {
	env := process.Inherit("PATH", "TMPDIR", "GORACE", "GOCOVERDIR", "GOGC", "GOTRACEBACK", "GODEBUG",
		child.VoteLog)
	if own := process.Inherit("GOMEMLIMIT"); len(own) > 0 && (share == 0 || share == 100) {
		return append(env, own...)
	}

	limit := debug.SetMemoryLimit(-1) // of GOMEMLIMIT, or of a program that has set it by itself
	if limit == math.MaxInt64 {
		return env
	}
	if share > 0 {
		limit = limit / 100 * int64(share)
	}

	return append(env, "GOMEMLIMIT="+strconv.FormatInt(limit, 10))
}

// sameLimits returns an error if the genesis was edited after the chain began. CometBFT sends the
// genesis only once, at InitChain. Afterwards the limits and the governance key would differ from
// node to node.
func sameLimits(s chain.State, g *logv1.ChainStarted) error {
	if !s.Started() || proto.Equal(s.Params, g.Params) {
		return nil
	}
	return fmt.Errorf("%w: chain %s was started with the limits {%v}, the home's genesis.json has {%v}: put the "+
		"chain's genesis.json back", comethome.ErrGenesis, s.ChainID, s.Params, g.Params)
}

// startStreak counts consecutive starts at the same committed height. A process that has made a
// block is started again at once, however short its life was. A process that has not is delayed,
// because its next round takes about a second to come and each start postpones that round.
type startStreak struct {
	height uint64
	starts int
}

const (
	streakMin    = 2 * time.Millisecond
	streakMax    = time.Second
	streakFactor = 4
)

// delay counts a start at height, and returns how long that start must wait.
func (r *startStreak) delay(height uint64) time.Duration {
	if height != r.height {
		*r = startStreak{height: height}
	}
	r.starts++
	if r.starts == 1 {
		return 0
	}

	d := streakMin
	for range min(r.starts-2, 8) {
		d = min(d*streakFactor, streakMax)
	}

	return d
}

func (t *tree) rpcSocket() string { return rpcSocket(t.dir) }

// rpcSocket returns the path of the socket on which CometBFT serves its RPC to us.
func rpcSocket(dir string) string { return filepath.Join(dir, "rpc.sock") }

func (t *tree) startFeed(context.Context) (supervisor.Service, error) {
	c, err := newRPC(t.rpcSocket())
	if err != nil {
		return nil, err
	}
	return &feed{pool: t.core.Feed, rpc: c, log: t.Log}, nil
}
