package cometclients

import (
	"context"
	"flag"
	"fmt"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	rpchttp "github.com/cometbft/cometbft/rpc/client/http"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest"

	"github.com/coppice-go/coppice/client"
	"github.com/coppice-go/coppice/engines/consensus"
	"github.com/coppice-go/coppice/engines/consensus/comet"
	"github.com/coppice-go/coppice/engines/consensus/comet/child"
	comethome "github.com/coppice-go/coppice/engines/consensus/comet/home"
	"github.com/coppice-go/coppice/node"
	"github.com/coppice-go/coppice/node/config"
	"github.com/coppice-go/coppice/node/home"
	"github.com/coppice-go/coppice/node/plan"
	apiv1 "github.com/coppice-go/coppice/proto/coppice/api/v1"
	"github.com/coppice-go/coppice/supervisor/process"
	"github.com/coppice-go/coppice/supervisor/suptest"
)

// TestMain is also the main function of CometBFT's process: the test binary re-executed, as the
// coppice binary is.
func TestMain(m *testing.M) {
	consensus.Register(comet.Kind{})
	if len(os.Args) > 1 && os.Args[1] == child.Command {
		os.Exit(childMain(os.Args[2:]))
	}
	// A goroutine of the RPC client that never ends.
	goleak.VerifyTestMain(m, goleak.IgnoreTopFunction("github.com/rcrowley/go-metrics.(*meterArbiter).tick"))
}

func childMain(args []string) int {
	process.WatchParent()
	var o child.Options
	f := flag.NewFlagSet(child.Command, flag.ExitOnError)
	o.Flags(f)
	f.Parse(args)
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()

	err := child.Run(ctx, o)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
	}

	return child.Status(err)
}

// cometProcess is the path of CometBFT's process in the tree.
const cometProcess = "coppice/node/engines/consensus/process"

// running is a whole node, the only validator of its chain, with clients of its API and of
// CometBFT's RPC.
type running struct {
	*node.Node
	t     *testing.T
	home  string
	api   *client.Client
	rpc   *rpchttp.HTTP // connected, also by websocket
	addr  string        // of the RPC, as a URL
	rec   *suptest.Recorder
	stop  context.CancelFunc
	ended chan error
}

// newHome makes a home whose CometBFT keeps what its clients may ask for: an index of transactions,
// and the results of blocks.
func newHome(t *testing.T, o home.InitOptions) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "home")
	o.Listen, o.Profile = "127.0.0.1:0", plan.Chaos
	theirs, _ := o.Consensus.(comet.InitOptions)
	if o.ChainID == "" && theirs.Import == "" {
		o.ChainID = "test"
	}

	o.Set = []config.Assignment{{Key: "consensus.kind", Value: comet.Name, Flag: "--consensus"}}
	if theirs.Import == "" {
		theirs.P2P, theirs.RPC = "127.0.0.1:0", freePort(t)
	}

	o.Consensus = theirs

	_, err := home.Init(dir, o)
	require.NoError(t, err)
	configure(t, filepath.Join(comethome.Dir(dir), "config", "config.toml"), `indexer = "null"`, `indexer = "kv"`,
		"discard_abci_responses = true", "discard_abci_responses = false")

	return dir
}

// freePort returns a free port for the RPC, which does not report where it listens.
func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	require.NoError(t, l.Close())
	return l.Addr().String()
}

// configure replaces lines of a configuration, as an operator would.
func configure(t *testing.T, path string, oldNew ...string) {
	t.Helper()
	data, err := os.ReadFile(path)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(path, []byte(strings.NewReplacer(oldNew...).Replace(string(data))), 0o600))
}

func start(t *testing.T, home string, opts ...node.Option) *running {
	t.Helper()
	return startWith(t, home, comet.Kind{}, opts...)
}

// startWith starts a node with a kind of consensus whose command is the test binary.
func startWith(t *testing.T, home string, kind comet.Kind, opts ...node.Option) *running {
	t.Helper()
	c, err := config.Load(home)
	require.NoError(t, err)
	self, err := os.Executable()
	require.NoError(t, err)
	kind.Command = []string{self, child.Command}
	log := zap.NewNop()
	if testing.Verbose() {
		log = zaptest.NewLogger(t, zaptest.WrapOptions(zap.IncreaseLevel(zap.InfoLevel)))
	}

	r := &running{t: t, home: home, rec: suptest.NewRecorder(), ended: make(chan error, 1)}
	r.Node, err = node.New(home, c,
		append(opts, node.WithLogger(log), node.WithObserver(r.rec),
			node.WithConsensus(kind))...)
	require.NoError(t, err)
	ctx, stop := context.WithCancel(context.Background())
	r.stop = stop
	go func() { r.ended <- r.Run(ctx) }()
	t.Cleanup(r.close)
	address, err := r.Addr(t.Context())
	require.NoError(t, err)
	r.api = client.New(address)
	_, err = r.api.WaitReady(t.Context())
	require.NoError(t, err)
	_, address, err = comethome.Addresses(comethome.Dir(home))
	require.NoError(t, err)
	r.addr = "http://" + address
	r.connect()

	return r
}

// connect creates the client of the running CometBFT's RPC.
func (r *running) connect() {
	r.t.Helper()
	var err error
	r.rpc, err = rpchttp.New(r.addr, "/websocket")
	require.NoError(r.t, err)
	require.NoError(r.t, patient(r.t, func() error {
		_, err := r.rpc.Status(r.t.Context())
		return err
	}), "CometBFT's RPC answers")
	require.NoError(r.t, r.rpc.Start())
}

// patient repeats f, which asks over the network, until f succeeds or too much time has passed.
func patient(t *testing.T, f func() error) (err error) {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()

	late := time.After(30 * time.Second)

	for {
		if err = f(); err == nil {
			return nil
		}
		select {
		case <-tick.C:
		case <-late:
			return err
		case <-t.Context().Done():
			return err
		}
	}
}

// cutComet kills CometBFT's process and waits for its successor.
func (r *running) cutComet() {
	r.t.Helper()
	r.rpc.Stop() // its websocket would try for seconds to reconnect
	before, _ := r.Supervisor().Tree().Find(cometProcess)
	require.NoError(r.t, r.Supervisor().Kill(cometProcess, nil))
	require.NoError(r.t, patient(r.t, func() error {
		now, ok := r.Supervisor().Tree().Find(cometProcess)
		if !ok || now.Incarnation == before.Incarnation {
			return fmt.Errorf("CometBFT is still incarnation %d", before.Incarnation)
		}
		return nil
	}))
	r.connect()
}

func (r *running) close() {
	if r.stop == nil {
		return
	}
	if r.rpc != nil {
		r.rpc.Stop()
	}

	r.stop()
	r.stop = nil
	require.NoError(r.t, <-r.ended)
	if r.api != nil {
		r.api.CloseIdle()
	}
}

func (r *running) status() *apiv1.StatusResponse {
	r.t.Helper()
	s, err := r.api.Status(r.t.Context())
	require.NoError(r.t, err)
	return s
}
