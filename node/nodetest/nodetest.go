package nodetest

import (
	"context"
	"encoding/json"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/coppice-go/coppice/client"
	"github.com/coppice-go/coppice/engines/consensus"
	"github.com/coppice-go/coppice/engines/consensus/solo"
	"github.com/coppice-go/coppice/eventlog/pebblefs"
	"github.com/coppice-go/coppice/node"
	"github.com/coppice-go/coppice/node/api"
	"github.com/coppice-go/coppice/node/config"
	"github.com/coppice-go/coppice/node/home"
	"github.com/coppice-go/coppice/node/plan"
	"github.com/coppice-go/coppice/supervisor"
	"github.com/coppice-go/coppice/supervisor/suptest"
)

// Timeout limits every wait of this package. A longer wait fails the test and prints the tree.
const Timeout = time.Minute

// chainID is the id of the chain in a home that Start makes.
const chainID = "test"

// Node is the node of a test. It stands for all lives of that node.
type Node struct {
	t    testing.TB
	o    options
	home string
	rng  *rand.Rand

	mu    sync.Mutex // guards the next fields: clients resolve the address from any goroutine
	mem   *vfs.MemFS // nil on the operating system's disk
	life  *life
	lives int

	clients []*client.Client
}

// life is one run of the node, as a process would be.
type life struct {
	node  *node.Node
	rec   *suptest.Recorder
	addr  string
	stop  context.CancelFunc
	ended chan struct{} // closed once err is set
	err   error
	seen  bool // the test knows that it ended
}

// Start makes a home and runs its node until the test ends. It returns when the node answers.
func Start(t testing.TB, opts ...Option) *Node {
	t.Helper()
	if _, ok := consensus.Lookup(solo.Name); !ok {
		consensus.Register(solo.Kind{})
	}

	n := &Node{t: t, o: options{profile: plan.Default}}
	for _, o := range opts {
		o(&n.o)
	}

	n.rng = rand.New(rand.NewPCG(n.o.seed, n.o.seed))

	n.home = n.o.home
	if n.home == "" {
		n.home = filepath.Join(t.TempDir(), "home")
		n.makeHome()
	}

	if !n.o.onDisk {
		n.mem = vfs.NewCrashableMem()
	}

	t.Cleanup(n.close)
	n.begin()

	return n
}

func (n *Node) makeHome() {
	n.t.Helper()
	g, err := home.Init(n.home, home.InitOptions{ChainID: chainID, Listen: "127.0.0.1:0", Profile: n.o.profile})
	if err != nil {
		n.t.Fatalf("nodetest: %v", err)
	}
	if len(n.o.genesis) == 0 {
		return
	}

	for _, edit := range n.o.genesis {
		edit(&g)
	}

	data, err := json.MarshalIndent(g, "", "  ")
	if err == nil {
		err = os.WriteFile(filepath.Join(n.home, "genesis.json"), data, 0o644)
	}
	if err != nil {
		n.t.Fatalf("nodetest: %v", err)
	}
}

// begin starts a life and waits until the node answers.
func (n *Node) begin() {
	n.t.Helper()
	c, err := config.Load(n.home)
	if err != nil {
		n.t.Fatalf("nodetest: %v", err)
	}

	for _, edit := range n.o.config {
		edit(&c)
	}

	l := &life{rec: suptest.NewRecorder(), ended: make(chan struct{})}
	l.rec.Timeout = Timeout
	opts := append([]node.Option{node.WithObserver(l.rec)}, n.o.node...)
	if n.mem != nil {
		opts = append(opts, node.WithDisk(pebblefs.Adapt(n.mem), n.mem))
	}
	if l.node, err = node.New(n.home, c, opts...); err != nil {
		n.t.Fatalf("nodetest: %v", err)
	}

	ctx, stop := context.WithCancel(context.Background())
	l.stop = stop
	go func() {
		defer close(l.ended)
		l.err = l.node.Run(ctx)
	}()

	n.mu.Lock()
	n.life = l
	n.lives++
	n.mu.Unlock()

	limit, cancel := context.WithTimeoutCause(ctx, Timeout, errors.New("no answer in time"))
	defer cancel()

	addr, err := l.node.Addr(limit)
	if err != nil {
		n.t.Fatalf("nodetest: the node does not listen: %v%s", err, n.why(l))
	}

	n.mu.Lock()
	l.addr = addr
	n.mu.Unlock()

	l.rec.Settle(n.t, l.node.Supervisor())
	if err := n.ready(limit, l); err != nil {
		n.t.Fatalf("nodetest: the node does not answer: %v%s", err, n.why(l))
	}
}

// ready asks for the status until the node answers or the life has ended.
func (n *Node) ready(ctx context.Context, l *life) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)

	go func() {
		select {
		case <-l.ended:
			cancel(errors.New("the node ended"))
		case <-ctx.Done():
		}
	}()

	c := client.New(l.addr, client.WithToken(n.Token()))
	defer c.CloseIdle()

	_, err := c.WaitReady(ctx)
	return err
}

// why returns how a life has ended, or a drawing of the tree if the life goes on.
func (n *Node) why(l *life) string {
	select {
	case <-l.ended:
		return "; it ended: " + errText(l.err)
	default:
		return "\n" + l.node.Supervisor().Tree().String()
	}
}

func errText(err error) string {
	if err == nil {
		return "in order"
	}
	return err.Error()
}

func (n *Node) now() *life {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.life
}

// historyShown is the number of the tree's last events that a failed test prints.
const historyShown = 60

func (n *Node) close() {
	l := n.now()
	if l != nil {
		l.stop()
		select {
		case <-l.ended:
			if l.err != nil && !l.seen {
				n.t.Errorf("nodetest: the node ended by itself: %v", l.err)
			}
		case <-time.After(Timeout):
			n.t.Errorf("nodetest: the node does not stop:\n%v", l.node.Supervisor().Tree())
		}

		if n.t.Failed() {
			lines := strings.Split(strings.TrimSpace(l.rec.String()), "\n")
			n.t.Logf("the tree's last events:\n%s", strings.Join(lines[max(0, len(lines)-historyShown):], "\n"))
		}
	}

	for _, c := range n.clients {
		c.CloseIdle()
	}
}

// Home returns the node's directory.
func (n *Node) Home() string { return n.home }

// Address returns the address on which the node listens in this life: host:port.
func (n *Node) Address() string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.life.addr
}

// Token returns the admin token, which calls such as Kill require as "authorization: Bearer".
func (n *Node) Token() string {
	n.t.Helper()
	b, err := os.ReadFile(filepath.Join(n.home, api.TokenFileName))
	if err != nil {
		n.t.Fatalf("nodetest: %v", err)
	}
	return strings.TrimSpace(string(b))
}

// Client returns a client that has the admin token and finds the node in each of its lives. It is
// safe for concurrent use.
func (n *Node) Client(opts ...client.Option) *client.Client {
	n.t.Helper()
	resolve := func() (string, error) {
		l, addr := n.now(), n.Address()
		select {
		case <-l.ended:
			return "", errors.New("the node is stopped")
		default:
		}

		if addr == "" {
			return "", errors.New("the node does not listen yet")
		}
		return addr, nil
	}
	c := client.New("", append([]client.Option{client.WithResolver(resolve), client.WithToken(n.Token())}, opts...)...)
	n.clients = append(n.clients, c)

	return c
}

// Node returns this life's node.
func (n *Node) Node() *node.Node { return n.now().node }

// Supervisor returns the root of this life's tree, for Kill, Inject and Tree.
func (n *Node) Supervisor() *supervisor.Supervisor { return n.now().node.Supervisor() }

// Recorder returns the recorder of the events of this life's tree.
func (n *Node) Recorder() *suptest.Recorder { return n.now().rec }

// Lives returns the number of times that the node was started.
func (n *Node) Lives() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.lives
}
