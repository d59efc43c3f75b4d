package comet

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/coppice-go/coppice/engines/chain"
	"github.com/coppice-go/coppice/engines/consensus"
	"github.com/coppice-go/coppice/engines/consensus/comet/certificate"
	"github.com/coppice-go/coppice/engines/consensus/comet/child"
	"github.com/coppice-go/coppice/engines/storage/apphash"
	logv1 "github.com/coppice-go/coppice/proto/coppice/log/v1"
	"github.com/coppice-go/coppice/supervisor/process"
)

// TestMain is also the main function of the child: the test binary re-executed, as the coppice
// binary is.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == child.Command {
		os.Exit(childMain(os.Args[2:]))
	}
	// This goroutine ends a second after its Close.
	goleak.VerifyTestMain(m, goleak.IgnoreTopFunction("github.com/syndtr/goleveldb/leveldb.(*DB).mpoolDrain"))
}

func childMain(args []string) int {
	process.WatchParent()
	var o child.Options
	f := flag.NewFlagSet(child.Command, flag.ExitOnError)
	o.Flags(f)
	f.Parse(args)
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()

	o.Signer = votesKept(o.Home)
	err := child.Run(ctx, o)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
	}

	return child.Status(err)
}

// fakeCore is a transaction core in memory that behaves like ordering: it stages the blocks that it
// is told to order, commits staged blocks, and refuses everything else. Its app hash covers all
// transactions in order.
type fakeCore struct {
	idle bool // empty blocks change nothing, so that CometBFT makes none without work

	mu      sync.Mutex
	moved   chan struct{} // closed at each commit
	state   chain.State
	root    []byte // of the state
	decided *chain.Block
	reset   *logv1.ChainReset
	appends int // orders and commits that would have been logged
	checks  atomic.Int64
	pool    [][]byte
	applied map[chain.TxID]bool

	resets int      // records of an end of the chain that would have been logged
	broken []string // what was wrong about them

	fail    func(what string) error  // before each operation, if set
	updates []*logv1.ValidatorUpdate // that the next blocks make
	ends    func()                   // before the record of an end of the chain, if set
	blocked chan struct{}            // Get waits for it, if set
}

// testParams are the parameters of the tests' chains, which may be reset.
func testParams() *logv1.Params {
	p := chain.DefaultParams()
	p.ResetOffset = 20
	return p
}

func newFakeCore() *fakeCore {
	return &fakeCore{moved: make(chan struct{}), applied: make(map[chain.TxID]bool)}
}

func (c *fakeCore) core(chainID string) consensus.Core {
	return consensus.Core{
		Ordering: c, Feed: c, State: c,
		Genesis: &logv1.ChainStarted{ChainId: chainID, InitialHeight: 1, Params: testParams()},
	}
}

func (c *fakeCore) enter(what string) error {
	if c.fail != nil {
		return c.fail(what)
	}
	return nil
}

func (c *fakeCore) Info(context.Context) (chain.Standing, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return chain.Standing{Committed: c.state, Leftover: c.decided, Reset: c.reset, Root: c.standing()}, c.enter("info")
}

// standing returns the root of the state, at a reset.
func (c *fakeCore) standing() chain.Root {
	return chain.Root{State: c.root, AppHash: apphash.Of(c.root, c.state.Period+1)}
}

func (c *fakeCore) Reset(_ context.Context, with chain.Renewal) (*logv1.ChainReset, error) {
	c.mu.Lock()
	defer c.mu.Unlock()

	if err := c.enter("reset"); err != nil {
		return nil, err
	}
	if c.reset != nil {
		return c.reset, nil
	}

	if c.decided != nil && c.state.InHold() { // as ordering does
		c.state.Height, c.state.BlockHash, c.decided = c.decided.Height, c.decided.Hash, nil
	}
	rec, err := c.state.ChainReset(c.standing(), with)
	if err != nil {
		return nil, err
	}
	if cert, err := certificate.Decode(with.Certificate); err != nil {
		c.broken = append(c.broken, fmt.Sprintf("no certificate: %v", err))
	} else if err := cert.Check(c.state); err != nil {
		c.broken = append(c.broken, err.Error())
	}
	if c.ends != nil {
		c.ends()
	}
	c.reset = rec
	c.resets++

	return rec, c.enter("reset logged")
}

func (c *fakeCore) InitChain(_ context.Context, rec *logv1.ChainStarted) (chain.State, error) {
	c.mu.Lock()
	defer c.mu.Unlock()

	if err := c.enter("init"); err != nil {
		return chain.State{}, err
	}

	if c.reset != nil {
		if err := chain.Succeeds(c.reset, rec); err != nil {
			return c.state, err
		}
		reset := c.state.Reset
		c.state = chain.AfterReset(c.reset)
		c.state.Reset, c.reset = reset, nil
		return c.state, c.enter("init logged")
	}

	if !c.state.Started() {
		c.state = chain.State{ChainID: rec.ChainId, InitialHeight: rec.InitialHeight, Params: rec.Params,
			AppHash: apphash.Of(nil, 0)}
	}

	return c.state, nil
}

var errOrder = errors.New("not the next block")

func (c *fakeCore) Order(_ context.Context, b chain.Block) (chain.Staged, error) {
	c.mu.Lock()
	defer c.mu.Unlock()

	if err := c.enter("order"); err != nil {
		return chain.Staged{}, err
	}

	switch {
	case c.reset != nil:
		return chain.Staged{}, fmt.Errorf("%w: the chain has ended: %v", errOrder, b)
	case b.Height == c.state.Height && bytes.Equal(b.Hash, c.state.BlockHash):
		return chain.Staged{Block: b, AppHash: c.state.AppHash}, nil
	case b.Height != c.state.Next(), c.decided != nil && !c.decided.Same(b):
		return chain.Staged{}, fmt.Errorf("%w: %v", errOrder, b)
	}

	if c.decided == nil {
		c.decided = &b
		c.appends++
	}

	s := chain.Staged{Block: b, AppHash: apphash.Of(c.rootAfter(b), b.Period), Validators: c.updates}
	for _, tx := range b.Txs {
		s.Results = append(s.Results, &logv1.TxResult{Data: tx})
	}

	return s, nil
}

// rootAfter returns the root of the state after a block.
func (c *fakeCore) rootAfter(b chain.Block) []byte {
	if c.state.InHold() || c.idle && len(b.Txs) == 0 {
		return c.root
	}
	h := sha256.New()
	h.Write(c.root)
	for _, tx := range b.Txs {
		h.Write(tx)
	}
	return h.Sum(nil)
}

// CommitLater is for drivers that decide alone: this one never calls it.
func (c *fakeCore) CommitLater(context.Context, uint64) (chain.State, error) {
	return chain.State{}, errors.ErrUnsupported
}

func (c *fakeCore) Commit(_ context.Context, height uint64) (chain.State, error) {
	c.mu.Lock()
	defer c.mu.Unlock()

	if err := c.enter("commit"); err != nil {
		return chain.State{}, err
	}
	if height == c.state.Height {
		return c.state, nil
	}
	if c.decided == nil || c.decided.Height != height {
		return c.state, fmt.Errorf("%w: commit of %d", errOrder, height)
	}

	b := *c.decided
	c.root = c.rootAfter(b)
	c.state.AppHash = apphash.Of(c.root, b.Period)
	c.state.Height, c.state.BlockHash, c.state.Time = b.Height, b.Hash, b.Time
	c.decided = nil
	c.appends++

	if c.state.Reset != nil && !c.state.InHold() {
		c.state.Reset = nil // this is the first block of an epoch
	}
	for _, tx := range b.Txs {
		if bytes.HasPrefix(tx, []byte("reset=")) {
			c.state.Reset = &chain.Reset{Epoch: b.Period, Height: b.Height, TimeNs: b.Time.UnixNano(), Offset: 20}
		}
	}

	for _, tx := range b.Txs {
		c.applied[chain.HashTx(tx)] = true
	}

	c.pool = slices.DeleteFunc(slices.Clone(c.pool), func(tx []byte) bool { return c.applied[chain.HashTx(tx)] })
	close(c.moved)
	c.moved = make(chan struct{})

	return c.state, nil
}

// submit puts a plain transaction into the pool.
func (c *fakeCore) submit(tx string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.pool = append(c.pool, []byte(tx))
	close(c.moved)
	c.moved = make(chan struct{})
}

func (c *fakeCore) Offer(ctx context.Context, after uint64, maxTxs, _ int, wait bool) ([][]byte, uint64, error) {
	for {
		c.mu.Lock()
		txs, moved := c.pool, c.moved
		c.mu.Unlock()

		if len(txs) > 0 || !wait {
			return slices.Clone(txs[:min(len(txs), maxTxs)]), after, nil
		}

		select {
		case <-moved:
		case <-ctx.Done():
			return nil, 0, context.Cause(ctx)
		}
	}
}

func (c *fakeCore) Check(raw []byte, _ chain.State, now time.Time) error {
	c.checks.Add(1)
	if c.Premature(raw, now) {
		return errors.New("not yet")
	}
	if bytes.HasPrefix(raw, []byte("bad")) {
		return errors.New("the pool refuses it")
	}
	return nil
}

// Sender gives each transaction with a colon to the sender before it, of which two may wait, and
// one may be in a block.
func (*fakeCore) Sender(raw []byte) (string, chain.Bounds) {
	sender, _, named := strings.Cut(string(raw), ":")
	if !named {
		return "", chain.Bounds{}
	}
	return sender, chain.Bounds{Waiting: 2, Block: 1}
}

// Recheck accepts what was accepted before.
func (*fakeCore) Recheck([]byte, chain.State, time.Time) error { return nil }

// Premature defers what begins with "later" until the second 100.
func (*fakeCore) Premature(raw []byte, at time.Time) bool {
	return bytes.Contains(raw, []byte("later")) && !at.After(time.Unix(100, 0))
}

func (c *fakeCore) Get(ctx context.Context, key []byte, _ uint64) ([]byte, bool, uint64, error) {
	if c.blocked != nil {
		select {
		case <-c.blocked:
		case <-ctx.Done():
			return nil, false, 0, context.Cause(ctx)
		}
	}
	return append([]byte("value of "), key...), true, c.state.Height, nil
}

func (c *fakeCore) Results(_ context.Context, ids []chain.TxID) ([]*logv1.TxResult, error) {
	c.mu.Lock()
	defer c.mu.Unlock()

	out := make([]*logv1.TxResult, len(ids))
	for i, id := range ids {
		if c.applied[id] {
			out[i] = &logv1.TxResult{Id: id[:]}
		}
	}

	return out, nil
}

// await waits until the chain satisfies f.
func (c *fakeCore) await(t *testing.T, f func() bool) {
	t.Helper()
	late := time.After(60 * time.Second)

	for {
		c.mu.Lock()
		ok, moved := f(), c.moved
		c.mu.Unlock()

		if ok {
			return
		}

		select {
		case <-moved:
		case <-late:
			t.Fatal("the chain did not reach the awaited state")
		}
	}
}
