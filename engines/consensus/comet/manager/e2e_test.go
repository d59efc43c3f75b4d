package manager

import (
	"context"
	"net"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/cometbft/cometbft/abci/example/kvstore"
	"github.com/cometbft/cometbft/abci/server"
	abci "github.com/cometbft/cometbft/abci/types"
	"github.com/stretchr/testify/require"

	"github.com/coppice-go/coppice/engines/consensus/comet/child"
	comethome "github.com/coppice-go/coppice/engines/consensus/comet/home"
)

// agent is somebody else's application: CometBFT's kvstore, which begins anew when the agent is
// told so, as the published agents do before they ask for a hard reset.
type agent struct {
	t    *testing.T
	addr string
	stop func()

	mu    sync.Mutex
	app   *kvstore.Application
	last  abci.ResponseInfo // of the last commit
	anew  bool
	inits []string // chain ids
}

func newAgent(t *testing.T) *agent {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	require.NoError(t, l.Close())
	a := &agent{t: t, addr: "tcp://" + l.Addr().String(), app: kvstore.NewInMemoryApplication()}
	a.serve()
	t.Cleanup(func() { a.stop() })
	return a
}

// serve listens. stop, which it sets, closes all connections: CometBFT reads EOF.
func (a *agent) serve() {
	s := server.NewSocketServer(a.addr, agentApp{a.app, a})
	require.NoError(a.t, s.Start())
	a.stop = sync.OnceFunc(func() { _ = s.Stop() })
}

// restart is a death of the agent that keeps its state.
func (a *agent) restart() {
	a.stop()
	a.serve()
}

// begin makes the agent begin anew.
func (a *agent) begin() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.anew = true
}

func (a *agent) chains() []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return append([]string(nil), a.inits...)
}

// agentApp is the application of an agent.
type agentApp struct {
	abci.Application
	a *agent
}

func (p agentApp) current() *kvstore.Application {
	p.a.mu.Lock()
	defer p.a.mu.Unlock()
	return p.a.app
}

// Info returns the last committed height. That of the kvstore counts a block that was not
// committed, and CometBFT's handshake then fails.
func (p agentApp) Info(context.Context, *abci.RequestInfo) (*abci.ResponseInfo, error) {
	p.a.mu.Lock()
	defer p.a.mu.Unlock()
	if p.a.anew {
		return &abci.ResponseInfo{}, nil
	}
	last := p.a.last
	return &last, nil
}

func (p agentApp) InitChain(ctx context.Context, r *abci.RequestInitChain) (*abci.ResponseInitChain, error) {
	p.a.mu.Lock()
	p.a.app, p.a.last, p.a.anew = kvstore.NewInMemoryApplication(), abci.ResponseInfo{}, false
	p.a.inits = append(p.a.inits, r.ChainId)
	p.a.mu.Unlock()
	return p.current().InitChain(ctx, r)
}

func (p agentApp) PrepareProposal(ctx context.Context,
	r *abci.RequestPrepareProposal) (*abci.ResponsePrepareProposal, error) {
	return p.current().PrepareProposal(ctx, r)
}

func (p agentApp) ProcessProposal(ctx context.Context,
	r *abci.RequestProcessProposal) (*abci.ResponseProcessProposal, error) {
	return p.current().ProcessProposal(ctx, r)
}

func (p agentApp) FinalizeBlock(ctx context.Context,
	r *abci.RequestFinalizeBlock) (*abci.ResponseFinalizeBlock, error) {
	return p.current().FinalizeBlock(ctx, r)
}

func (p agentApp) Commit(ctx context.Context, r *abci.RequestCommit) (*abci.ResponseCommit, error) {
	app := p.current()
	out, err := app.Commit(ctx, r)
	if err != nil {
		return nil, err
	}
	info, err := app.Info(ctx, &abci.RequestInfo{})
	if err != nil {
		return nil, err
	}

	p.a.mu.Lock()
	defer p.a.mu.Unlock()
	if app == p.a.app { // no chain has begun meanwhile
		p.a.last = abci.ResponseInfo{LastBlockHeight: info.LastBlockHeight, LastBlockAppHash: info.LastBlockAppHash}
	}

	return out, nil
}

// awaitHeight waits until CometBFT is past a height, and returns the height that it has then.
func (r *rig) awaitHeight(past int64) int64 {
	r.t.Helper()
	c := newRPC(rpcSocket(r.home))
	defer c.close()
	late, tick := time.After(60*time.Second), time.NewTicker(50*time.Millisecond)
	defer tick.Stop()

	for {
		if h, err := c.height(r.t.Context()); err == nil && h > past {
			return h
		}
		select {
		case <-tick.C:
		case <-late:
			all, _ := r.console.get()
			r.t.Fatalf("the chain did not get past %d; status %+v; the console has:\n%s", past,
				r.m.Machine.Status(0), strings.Join(all[max(0, len(all)-40):], "\n"))
		}
	}
}

// Items 4, 5, 8, 11 and 27, and the must-show "the published client's calls get true answers", with
// CometBFT itself and an application of somebody else. Items 13 and 14 for a foreign application:
// whoever is killed, the chain goes on.
func TestARealCometBFTIsManaged(t *testing.T) {
	a := newAgent(t)
	r := prepare(t)
	require.NoError(t, comethome.EditConfig(r.home, comethome.Text("consensus", "timeout_commit", "20ms")))
	r.start(func(s *Settings, o *Options) {
		s.ProxyApp, s.P2P, s.RPC, s.EmptyBlocks = a.addr, "tcp://127.0.0.1:0", "tcp://127.0.0.1:0", "true"
		o.Command, o.Grace = []string{os.Args[0], child.Command}, DefaultGrace
	})
	first := r.genesis()["chain_id"].(string)
	height := r.awaitHeight(1)

	_, out, text := r.client().call("GET", "/app_hash?height=1", nil)
	require.Contains(t, out, "app_hash", text)
	_, out, _ = r.client().call("GET", "/app_hash?height=1000", nil)
	require.Contains(t, out["error"], "height 1000")

	ok, text := r.client().reset("/gentle_reset")
	require.True(t, ok, text)
	require.Equal(t, []string{first}, a.chains())
	height = r.awaitHeight(height + 1)

	// The application dies, and comes back.
	r.awaitState(Running)
	r.console.clear()
	a.restart()
	require.Equal(t, restartedLines, published(r.console.await(t, "\t\t E[", 1)))
	height = r.awaitHeight(height + 1)

	// CometBFT dies.
	pid := r.awaitState(Running).PID
	require.NoError(t, syscall.Kill(pid, syscall.SIGKILL))
	require.NoError(t, awaitPID(managed{r}, pid, 30*time.Second))
	height = r.awaitHeight(height + 1)
	require.Equal(t, []string{first}, a.chains())

	// A new chain.
	r.awaitState(Running)
	r.console.clear()
	a.begin()
	ok, text = r.client().reset("/hard_reset?period_count=1&initial_height=0&genesis_time=2026-01-31T12:00:00.000000Z")
	require.True(t, ok, text)
	require.Equal(t, hardLines(zeroedLine), r.published())
	require.Equal(t, []string{first, "autonolas-1"}, a.chains())
	require.Less(t, r.awaitHeight(0), height+10)

	// And one with the offset height, for which the signing state is kept.
	height = r.awaitHeight(2)
	a.begin()
	ok, text = r.client().reset("/hard_reset?period_count=2&initial_height=500")
	require.True(t, ok, text)
	all, _ := r.console.get()
	require.Contains(t, strings.Join(published(all), "\n"), "Kept private validator state at height ")
	require.GreaterOrEqual(t, r.awaitHeight(height+100), int64(500))
	require.Equal(t, []string{first, "autonolas-1", "autonolas-2"}, a.chains())
}
