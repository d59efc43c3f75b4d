package node

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/coppice-go/coppice/client"
	"github.com/coppice-go/coppice/engines"
	"github.com/coppice-go/coppice/engines/backend/kv"
	"github.com/coppice-go/coppice/engines/consensus"
	"github.com/coppice-go/coppice/engines/consensus/solo"
	"github.com/coppice-go/coppice/engines/streams"
	"github.com/coppice-go/coppice/node/api"
	"github.com/coppice-go/coppice/node/config"
	"github.com/coppice-go/coppice/node/exit"
	"github.com/coppice-go/coppice/node/gate"
	"github.com/coppice-go/coppice/node/home"
	"github.com/coppice-go/coppice/node/plan"
	"github.com/coppice-go/coppice/pubsub"
	"github.com/coppice-go/coppice/supervisor"
)

// ledger is the only sink of a node, which a test moves.
type ledger struct {
	mu      sync.Mutex
	sink    gate.Sink
	changed chan struct{}
}

func newLedger() *ledger {
	return &ledger{sink: gate.Sink{State: "retrying"}, changed: make(chan struct{})}
}

func (l *ledger) Sink(name string) (gate.Sink, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.sink, name == "ledger"
}

func (l *ledger) Ack(name string) (streams.AckLevel, bool) { return streams.Durable, name == "ledger" }
func (l *ledger) Names() []string                          { return []string{"ledger"} }
func (l *ledger) Drop(string, string) error                { return errors.ErrUnsupported }

func (l *ledger) Changed() <-chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.changed
}

// has makes the sink say where it stands. Above the chain, it has every block.
func (l *ledger) has(height uint64) { l.set(gate.Sink{Known: true, State: "live"}, height) }

// dies makes the sink one that has not answered.
func (l *ledger) dies() { l.set(gate.Sink{State: "retrying"}, 0) }

func (l *ledger) set(s gate.Sink, height uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	s.At.Height = height
	l.sink = s
	close(l.changed)
	l.changed = make(chan struct{})
}

// always is above every height of a test.
const always = 1 << 40

func withSinks(s gate.Sinks) Option { return func(n *Node) { n.sinks = s } }

// everyGate matches the news of gates.
var everyGate = pubsub.Chain[engines.Event]{pubsub.Equal("type", func(e engines.Event) string {
	if _, ok := e.(engines.GateChanged); ok {
		return "gate"
	}
	return ""
}).Is("gate")}

// books makes a gate that waits for the ledger.
func books(t *testing.T, dir, more string) {
	t.Helper()
	require.NoError(t, os.MkdirAll(home.StreamsDir(dir), 0o700))
	require.NoError(t, os.WriteFile(filepath.Join(home.StreamsDir(dir), gate.FileName),
		[]byte("[[gate]]\nname = \"books\"\nsinks = [\"ledger\"]\nn = \"all\"\n"+more), 0o600))
}

// gated runs a node of a home, and returns its events and its end.
type gated struct {
	*Node
	t     *testing.T
	news  <-chan engines.Event
	ended chan error
	stop  context.CancelFunc
	addr  string
	cl    *client.Client
}

func runGated(t *testing.T, dir string, opts ...Option) *gated {
	t.Helper()
	c, err := config.Load(dir)
	require.NoError(t, err)
	g := &gated{t: t, ended: make(chan error, 1)}
	g.Node, err = New(dir, c, append([]Option{WithConsensus(solo.Kind{})}, opts...)...)
	require.NoError(t, err)

	ctx, stop := context.WithCancel(context.Background())
	g.stop = stop
	done := make(chan struct{})
	go func() {
		defer close(done)
		g.ended <- g.Run(ctx)
	}()
	t.Cleanup(func() {
		stop()
		<-done
	})

	g.addr, err = g.Addr(t.Context())
	require.NoError(t, err)
	token, err := os.ReadFile(filepath.Join(dir, api.TokenFileName))
	require.NoError(t, err)
	g.cl = client.New(g.addr, client.WithToken(strings.TrimSpace(string(token))))
	t.Cleanup(g.cl.CloseIdle)

	return g
}

// submit has a transaction accepted, and returns its id.
func (g *gated) submit(key string, wait bool) (client.Outcome, error) {
	g.t.Helper()
	body, err := kv.Encode(kv.Put([]byte(key), []byte("v")))
	require.NoError(g.t, err)
	raw, err := g.cl.NewTx(kv.Name, body, time.Minute).Encode()
	require.NoError(g.t, err)
	ctx, cancel := context.WithTimeout(g.t.Context(), time.Minute)
	defer cancel()
	outs, err := g.cl.SubmitMany(ctx, [][]byte{raw}, wait)
	if err != nil {
		return client.Outcome{}, err
	}
	return outs[0], outs[0].Err
}

// becomes waits for a state of the readiness.
func (g *gated) becomes(state consensus.Readiness) consensus.Condition {
	g.t.Helper()
	limit := time.After(time.Minute)
	look := time.NewTicker(10 * time.Millisecond) // the condition is computed when it is asked for
	defer look.Stop()

	for {
		if c := g.Condition(); c.State == state {
			return c
		}

		select {
		case <-look.C:
		case err := <-g.ended:
			require.NoError(g.t, err)
			g.t.Fatal("the node has ended")
		case <-limit:
			g.t.Fatalf("the node is %v, want %s", g.Condition(), state)
		}
	}
}

// probe returns the answer of a probe.
func (g *gated) probe(path string) (code int, text string) {
	g.t.Helper()
	resp, err := http.Get("http://" + g.addr + path)
	require.NoError(g.t, err)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	require.NoError(g.t, err)
	return resp.StatusCode, string(body)
}

// heldIsNotDown asserts all of R35 about a node that books holds before a block.
func (g *gated) heldIsNotDown(height uint64) {
	g.t.Helper()
	why := fmt.Sprintf("gate books holds block %d, waiting for ledger (retrying)", height)
	c := g.becomes(consensus.Held)
	require.Equal(g.t, why, c.Reason)
	require.True(g.t, g.Up(), "systemd gets READY=1: the node has started")

	code, text := g.probe("/readyz")
	require.Equal(g.t, http.StatusServiceUnavailable, code)
	require.Equal(g.t, "not ready: held: "+why+"\n", text)
	code, text = g.probe("/healthz")
	require.Equal(g.t, http.StatusOK, code, text)
	code, _ = g.probe("/metrics")
	require.Equal(g.t, http.StatusOK, code)

	ctx, cancel := context.WithTimeout(g.t.Context(), time.Minute)
	defer cancel()
	require.NoError(g.t, g.Alive(ctx), "the watchdog of the service manager is fed")

	s, err := g.cl.Status(ctx)
	require.NoError(g.t, err)
	require.False(g.t, s.Ready, "status exits 1")
	require.Len(g.t, s.Held, 1)
	require.Equal(g.t, "books", s.Held[0].Gate)
	require.Equal(g.t, height, s.Held[0].Height)
	require.Equal(g.t, "ledger", s.Held[0].Sinks[0].Name)
	require.Nil(g.t, s.Held[0].Sinks[0].Height)

	_, _, err = g.cl.Get(ctx, []byte("k"))
	require.NoError(g.t, err, "get answers")
	_, err = g.submit("accepted while held", false)
	require.NoError(g.t, err, "submit answers")
	h, err := g.cl.Health(ctx)
	require.NoError(g.t, err, "admin answers")
	require.Equal(g.t, "held", h.Readiness.State)
}

func gatedHome(t *testing.T, more string) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "home")
	_, err := home.Init(dir, home.InitOptions{ChainID: "test", Listen: "127.0.0.1:0", Profile: plan.Chaos})
	require.NoError(t, err)
	books(t, dir, more)
	return dir
}

// Item 41, with a driver that has no peers: a node whose sink is down is held, and not down. When
// the sink answers, the block passes.
func TestANodeWhoseSinkIsDownIsHeldAndNotDown(t *testing.T) {
	t.Parallel()
	l := newLedger()
	g := runGated(t, gatedHome(t, `on_exceed = "pause"`), withSinks(l))
	sub, err := g.Bus().SubscribeWait(t.Context(), everyGate, pubsub.DropOldest{Buffer: 16})
	require.NoError(t, err)
	_, err = g.submit("k", false)
	require.NoError(t, err)
	g.heldIsNotDown(1)
	told, err := sub.Next(t.Context())
	require.NoError(t, err)
	require.Equal(t, engines.GateChanged{Gate: "books", Phase: "held", Height: 1, Sinks: []string{"ledger"}}, told)

	// Item 63: consensus is killed in every way while it waits. The block is still held, and
	// nothing else restarts.
	before, ok := g.Supervisor().Tree().Find(plan.PathTransactions + "/ordering")
	require.True(t, ok)
	for name, do := range map[string]func(context.Context){
		"panic": func(context.Context) { panic("a fault") }, "goexit": func(context.Context) { runtime.Goexit() },
	} {
		fault := supervisor.Fault{Name: name, Do: do}
		err := g.Supervisor().Inject(t.Context(), plan.PathConsensus, fault)
		for errors.Is(err, supervisor.ErrNotInjectable) || errors.Is(err, supervisor.ErrNotRunning) { // it restarts
			err = g.Supervisor().Inject(t.Context(), plan.PathConsensus, fault)
		}
		require.NoError(t, err)
	}
	g.heldIsNotDown(1)
	after, _ := g.Supervisor().Tree().Find(plan.PathTransactions + "/ordering")
	require.Equal(t, before.Incarnation, after.Incarnation)

	l.has(always)
	g.becomes(consensus.Ready)
	told, err = sub.Next(t.Context())
	require.NoError(t, err)
	require.Equal(t, engines.GateChanged{Gate: "books", Phase: "open"}, told)
	out, err := g.submit("k2", true)
	require.NoError(t, err)
	require.NotNil(t, out.Result)

	g.stop()
	require.NoError(t, <-g.ended)
}

// Items 4 and 73: halt is an ordered stop with the exit code 7, and names gate, sink and height. It
// halts again at the next start, unless the sink is left out.
func TestAGateHaltsTheNodeAndAStartMayLeaveTheSinkOut(t *testing.T) {
	t.Parallel()
	l := newLedger()
	dir := gatedHome(t, "on_exceed = \"halt\"\ntimeout = \"250ms\"")
	l.has(always)
	g := runGated(t, dir, withSinks(l))
	_, err := g.submit("k", true)
	require.NoError(t, err)
	l.dies()
	_, err = g.submit("k2", false)
	require.NoError(t, err)

	err = <-g.ended
	require.ErrorIs(t, err, exit.ErrHalted)
	require.Equal(t, exit.Halted, exit.Code(err))
	require.EqualError(t, err, "halted: gate books halts the node before block 2, because of ledger: mend the sink, "+
		"or start once with --without-sink ledger")

	c, err := config.Load(dir)
	require.NoError(t, err)
	again, err := New(dir, c, WithConsensus(solo.Kind{}), withSinks(l))
	require.NoError(t, err)
	require.ErrorIs(t, again.Run(t.Context()), exit.ErrHalted, "the accepted transaction makes a block, which halts")

	_, err = New(dir, c, WithConsensus(solo.Kind{}), withSinks(l), WithoutSink("leger"))
	require.ErrorIs(t, err, exit.ErrConfig)
	require.ErrorContains(t, err, `"leger" is left out, want one of: ledger`)

	g = runGated(t, dir, withSinks(l), WithoutSink("ledger"))
	_, err = g.submit("k3", true)
	require.NoError(t, err)
	_, found, err := g.cl.Get(t.Context(), []byte("k2"))
	require.NoError(t, err)
	require.True(t, found, "what was accepted before the halt is there")
	g.stop()
	require.NoError(t, <-g.ended)
}

// A bad file of gates is a bad configuration, and is named with file, line and column. After a
// reload of one, the gates stay as they are.
func TestABadFileOfGatesIsABadConfiguration(t *testing.T) {
	l := newLedger()
	dir := gatedHome(t, "speed = 9")
	c, err := config.Load(dir)
	require.NoError(t, err)
	_, err = New(dir, c, withSinks(l))
	require.ErrorIs(t, err, exit.ErrConfig)
	require.ErrorContains(t, err, filepath.Join("streams", "gates.toml")+`:5:1: unknown key "speed" of a gate`)

	books(t, dir, "")
	_, err = New(dir, c)
	require.ErrorIs(t, err, exit.ErrConfig)
	require.ErrorContains(t, err, `:3:1: sinks: there is no sink "ledger"`)

	g := runGated(t, dir, withSinks(l))
	books(t, dir, "speed = 9")
	require.ErrorIs(t, g.Reload(c), exit.ErrConfig)
	require.Equal(t, []string{"books"}, g.gates.Of("ledger"))
	g.stop()
	require.NoError(t, <-g.ended)
}

// Item 41, with CometBFT: a block that the handshake replays waits, and so does one that consensus
// has just decided. Info, queries and submissions answer meanwhile, and the watchdog leaves the
// process alone.
func TestACometBFTThatWaitsAtTheGateIsLeftAlone(t *testing.T) {
	t.Parallel()
	l := newLedger()
	dir := initABCI(t)
	books(t, dir, `on_exceed = "pause"`)
	a := driveABCI(t, dir, withSinks(l))
	a.initChain()
	process, _ := a.Supervisor().Tree().Find(cometProcess)

	b := a.block(1, a.put("k"))
	require.NoError(t, a.c.SendFinalizeBlock(b))
	g := &gated{Node: a.Node, t: t, ended: a.ended}
	c := g.becomes(consensus.Held)
	require.Equal(t, "gate books holds block 1, waiting for ledger (retrying)", c.Reason)
	require.True(t, a.Up())
	require.EqualValues(t, 1, a.appended(), "no block passes")
	a.submit(a.put("submitted while held"))

	// Item 63: another incarnation of everything of the driver waits again.
	a.cut(cometABCI)
	a.again()
	process, _ = a.Supervisor().Tree().Find(cometProcess)
	require.NoError(t, a.c.SendFinalizeBlock(b))
	g.becomes(consensus.Held)
	if os.Getenv("COPPICE_SOAK") != "" {
		<-time.After(45 * time.Second) // more than the patience of CometBFT's watchdog
	}
	now, _ := a.Supervisor().Tree().Find(cometProcess)
	require.Equal(t, process.Incarnation, now.Incarnation)

	l.has(0)
	_, err := a.c.ReceiveFinalized()
	require.NoError(t, err)
	a.commitABCI()
	l.has(1)
	a.close()
}

// Item 62: the core dies between FinalizeBlock and Commit, so that the driver orders the block
// again inside Commit. The sink has died meanwhile, and nothing waits. The seeded mistake, a gate
// that forgets what has passed, is caught in TestWhatHasPassedPassesAgainAtOnce.
func TestABlockThatIsOrderedAgainInsideCommitDoesNotWait(t *testing.T) {
	t.Parallel()
	l := newLedger()
	dir := initABCI(t)
	books(t, dir, `on_exceed = "pause"`)
	a := driveABCI(t, dir, withSinks(l))
	a.initChain()

	for height, child := range []string{"storage", "ordering", "mempool/pool"} {
		l.has(uint64(height))
		b := a.block(int64(height)+1, a.put(child))
		a.finalize(b)
		l.dies()
		a.cut(plan.PathTransactions + "/" + child)
		a.commitABCI()
	}

	// A process that dies after the decision is durable finds the block decided, and it passes.
	l.has(3)
	b := a.block(4, a.put("k"))
	a.finalize(b)
	l.dies()
	a.close()
	a = driveABCI(t, dir, withSinks(l))
	a.finalize(b)
	a.commitABCI()
	a.close()
}
