package resetfire

import (
	"context"
	"crypto/ed25519"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/coppice-go/coppice/client"
	"github.com/coppice-go/coppice/cmd/coppice/internal/load"
	"github.com/coppice-go/coppice/cmd/coppice/internal/rig"
	"github.com/coppice-go/coppice/cmd/coppice/internal/testnet"
	"github.com/coppice-go/coppice/engines/consensus/comet/child"
	comethome "github.com/coppice-go/coppice/engines/consensus/comet/home"
	"github.com/coppice-go/coppice/node/plan"
)

// Config configures a run.
type Config struct {
	Bin      string // the coppice binary
	Dir      string // where the testnet is made; it must be short, because sockets lie in it
	Nodes    int
	Seed     uint64
	Duration time.Duration // of the fire; the checks take extra time
	Every    time.Duration // the pause between the first block of an epoch and the next reset
	Kills    time.Duration // between two kills; 0: none
	Aimed    bool          // pause and cut off nodes at F, F+1 and the first block
	Rate     float64       // of the load, in transactions per second
	Doing    func(string)  // called with what is being done; may be nil
}

// Result is the outcome of a run.
type Result struct {
	Resets       uint64 // the epoch at the end
	Kills        int    // by SIGKILL, of nodes and of CometBFTs
	Pauses, Cuts int    // aimed ones
	ByPeer       int    // how often a node has left an epoch with the certificate of a peer
	Rejoined     int    // how often a node below F, or epochs behind, has taken the state at a reset
	Acknowledged int
	Unknown      int // submissions without an answer
	Heights      int // that were compared
	Votes        int // that were compared

	// Took are the times from the commit of F to the first block, on the nodes that showed both.
	Took []time.Duration

	Violations []string
}

// settleWithin is how long the nodes may take to stand at one epoch once the fire is over.
const settleWithin = 2 * time.Minute

// Run makes a testnet, sets fire to it and checks what is left. The result says which rules did not
// hold. Run returns an error if the rules could not be checked.
func Run(ctx context.Context, c Config) (res Result, err error) {
	public, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		return res, err
	}
	net, err := testnet.Init(c.Dir, testnet.InitOptions{Nodes: c.Nodes, ChainID: "fire", EmptyEvery: time.Second,
		Profile: plan.Chaos, CometProfile: comethome.Tuned, GovernanceKey: public, ResetOffset: 20})
	if err != nil {
		return res, err
	}

	votes := filepath.Join(c.Dir, "votes")
	if err := os.MkdirAll(votes, 0o700); err != nil {
		return res, err
	}
	if err := os.Setenv(child.VoteLog, votes); err != nil { // the nodes inherit it
		return res, err
	}
	out, err := newOutput(filepath.Join(c.Dir, "nodes.log"))
	if err != nil {
		return res, err
	}
	defer out.file.Close()

	f := &fire{Config: c, net: net, key: key, out: out, ledger: rig.NewLedger(),
		rand: rand.New(rand.NewPCG(c.Seed, 54)), res: &res}
	for i := range c.Nodes {
		cl, err := rig.Dial(net.Home(i), 5*time.Millisecond, 100*time.Millisecond)
		if err != nil {
			return res, err
		}
		defer cl.CloseIdle()
		f.clients = append(f.clients, cl)
	}

	running, stop := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() {
		ended <- net.Run(running, testnet.RunOptions{Bin: c.Bin, Out: out, Env: []string{child.VoteLog}, Level: "info"})
	}()

	err = f.burn(ctx)
	f.wake()
	stop()
	if stopped := <-ended; err == nil {
		err = stopped
	}
	if err != nil {
		return res, err
	}

	return res, f.inspect(votes)
}

// fire is one run.
type fire struct {
	Config
	net     *testnet.Net
	key     ed25519.PrivateKey
	clients []*client.Client
	out     *output
	ledger  *rig.Ledger
	res     *Result
	next    uint64 // the number of the next decision; 0: not known. Only reset uses it.

	mu   sync.Mutex // guards rand and res
	rand *rand.Rand
}

func (f *fire) doing(format string, args ...any) {
	if f.Doing != nil {
		f.Doing(fmt.Sprintf(format, args...))
	}
}

func (f *fire) charge(format string, args ...any) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.res.Violations) < 30 {
		f.res.Violations = append(f.res.Violations, fmt.Sprintf(format, args...))
	}
}

// intN returns a random number below n.
func (f *fire) intN(n int) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.rand.IntN(n)
}

// burn keeps the fire for its duration, lets the nodes come back, and reads everything back.
func (f *fire) burn(ctx context.Context) error {
	if err := f.settle(ctx, settleWithin); err != nil {
		return err
	}
	stopLoad := make(chan struct{})
	loading, endLoad := context.WithCancel(ctx)
	defer endLoad()
	loads, err := f.load(loading, stopLoad)
	if err != nil {
		return err
	}

	burning, out := context.WithTimeout(ctx, f.Duration)
	defer out()
	var all sync.WaitGroup
	all.Go(func() { f.reset(burning) })
	all.Go(func() { f.kill(burning) })
	for i := range f.clients {
		all.Go(func() { f.watch(burning, i) })
	}
	all.Wait()
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}

	f.doing("the fire is out: the nodes come back")
	f.wake()
	if err := f.net.Partition(ctx, [][]int{}); err != nil {
		return err
	}
	if err := f.settle(ctx, settleWithin); err != nil {
		f.charge("%v", err)
		return nil //nolint:nilerr // it is what the run has found out
	}

	f.doing("ending the load")
	close(stopLoad)
	late := time.AfterFunc(time.Minute, endLoad)
	loads.Wait()
	late.Stop()

	return f.audit(ctx)
}

// load begins the load on all nodes.
func (f *fire) load(ctx context.Context, stop chan struct{}) (*sync.WaitGroup, error) {
	all := new(sync.WaitGroup)
	prefix := load.NewPrefix()

	for i, c := range f.clients {
		runs, err := rig.Loads(load.Config{Client: c, Clients: 2, Batch: 2, Rate: f.Rate / float64(f.Nodes),
			Acked: f.ledger.Write, Stop: stop, Failed: func(_ load.Item, err error) bool {
				f.mu.Lock()
				defer f.mu.Unlock()
				f.res.Unknown++
				return true
			}}, fmt.Sprintf("%s%d.", prefix, i))
		if err != nil {
			return nil, err
		}
		for _, r := range runs {
			all.Go(func() {
				if _, err := r.Run(ctx); err != nil && ctx.Err() == nil {
					f.charge("the load on node %d ended: %v", i, err)
				}
			})
		}
	}

	return all, nil
}

// kill kills a node or its CometBFT again and again.
func (f *fire) kill(ctx context.Context) {
	if f.Kills == 0 {
		return
	}
	for rig.Pause(ctx, f.Kills) == nil {
		node, comet := f.intN(f.Nodes), f.intN(2) == 0
		if f.net.Signal(ctx, node, comet, syscall.SIGKILL) == nil {
			f.mu.Lock()
			f.res.Kills++
			f.mu.Unlock()
		}
	}
}

// wake continues all processes that may be paused.
func (f *fire) wake() {
	for i := range f.Nodes {
		for _, comet := range []bool{false, true} {
			_ = f.net.Signal(context.Background(), i, comet, syscall.SIGCONT) // one that does not run is not paused
		}
	}
}

// audit reads the counter of each acknowledged transaction back from each node.
func (f *fire) audit(ctx context.Context) error {
	items := f.ledger.All()
	f.res.Acknowledged = len(items)
	f.doing("reading %d transactions back from each node", len(items))

	for i, c := range f.clients {
		asking, cancel := context.WithTimeout(ctx, settleWithin)
		count, err := rig.Audit(asking, c, items)
		cancel()
		if err != nil {
			return fmt.Errorf("reading back from node %d: %w", i, err)
		}
		if count.Bad() {
			f.charge("node %d: of %d acknowledged %d are lost and %d were applied twice: %v", i, len(items), count.Lost,
				count.Twice, count.Examples)
		}
	}

	return nil
}
