package node

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/coppice-go/coppice/engines/backend/kv"
	"github.com/coppice-go/coppice/engines/chain"
	"github.com/coppice-go/coppice/engines/consensus/comet"
	"github.com/coppice-go/coppice/engines/consensus/comet/comettest"
	comethome "github.com/coppice-go/coppice/engines/consensus/comet/home"
	"github.com/coppice-go/coppice/engines/logger"
	"github.com/coppice-go/coppice/engines/mempool"
	"github.com/coppice-go/coppice/engines/ordering"
	"github.com/coppice-go/coppice/engines/storage"
	"github.com/coppice-go/coppice/node/config"
	"github.com/coppice-go/coppice/node/exit"
	"github.com/coppice-go/coppice/node/home"
	"github.com/coppice-go/coppice/node/plan"
	"github.com/coppice-go/coppice/supervisor/suptest"
)

// abciHand is a node whose CometBFT is the test: the child process does nothing, and the test
// speaks on its socket.
type abciHand struct {
	*hand
	c *comettest.Client
}

const (
	cometProcess = "coppice/node/engines/consensus/process"
	cometABCI    = "coppice/node/engines/consensus/abci"
)

// idleCommand runs in the place of CometBFT, and does nothing.
var idleCommand = []string{"/bin/sh", "-c", "cat > /dev/null"}

func initABCI(t *testing.T) string {
	t.Helper()
	return initABCIWith(t, func(*home.InitOptions) {})
}

// initABCIWith is initABCI with other options.
func initABCIWith(t *testing.T, edit func(*home.InitOptions)) string {
	t.Helper()
	dir := t.TempDir()
	o := home.InitOptions{
		ChainID: "test", Listen: "127.0.0.1:0", Profile: plan.Chaos,
		Set:       []config.Assignment{{Key: "consensus.kind", Value: comet.Name, Flag: "--consensus"}},
		Consensus: comet.InitOptions{P2P: "127.0.0.1:0", RPC: "127.0.0.1:0"},
	}
	edit(&o)
	_, err := home.Init(dir, o)
	require.NoError(t, err)
	makeCometData(t, dir)

	return dir
}

// makeCometData makes the databases in a home that a real CometBFT would make.
func makeCometData(t *testing.T, dir string) {
	t.Helper()
	for _, name := range []string{"blockstore.db", "state.db"} {
		db := filepath.Join(comethome.Dir(dir), "data", name)
		require.NoError(t, os.MkdirAll(db, 0o700))
		require.NoError(t, os.WriteFile(filepath.Join(db, "CURRENT"), []byte("MANIFEST-000001\n"), 0o600))
		require.NoError(t, os.WriteFile(filepath.Join(db, "MANIFEST-000001"), nil, 0o600))
	}
}

func driveABCI(t *testing.T, home string, opts ...Option) *abciHand {
	t.Helper()
	c, err := config.Load(home)
	require.NoError(t, err)
	h := &hand{t: t, home: home, rec: suptest.NewRecorder(), ended: make(chan error, 1),
		clock: time.Now().Truncate(time.Millisecond)}

	h.Node, err = New(home, c,
		append([]Option{WithObserver(h.rec), WithConsensus(comet.Kind{Command: idleCommand})}, opts...)...)
	require.NoError(t, err)
	ctx, stop := context.WithCancel(context.Background())
	h.stop = stop
	go func() { h.ended <- h.Run(ctx) }()
	_, err = h.Addr(t.Context())
	require.NoError(t, err)
	h.rec.Settle(t, h.Supervisor())
	a := &abciHand{hand: h}
	a.again()

	return a
}

// again connects to the endpoint of the child that runs now.
func (a *abciHand) again() {
	a.t.Helper()
	dir := a.core.Load().dir
	a.ordering, a.pool = ordering.NewClient(dir), mempool.NewClient(dir, a.backends)
	a.store, a.log = storage.NewClient(dir), logger.NewClient(dir)
	sockets, err := filepath.Glob(filepath.Join(comethome.SocketDir(comethome.Dir(a.home)), "abci-*.sock"))
	require.NoError(a.t, err)
	require.Len(a.t, sockets, 1, "one socket for each incarnation of the process, and no other")
	a.c, err = comettest.Dial(sockets[0])
	require.NoError(a.t, err)
	a.t.Cleanup(func() { a.c.Close() })
}

func (a *abciHand) initChain() {
	a.t.Helper()
	g, err := home.ReadGenesis(a.home)
	require.NoError(a.t, err)
	state, err := json.MarshalIndent(g, "", "    ") // however it is laid out
	require.NoError(a.t, err)
	_, err = a.c.InitChain("test", 1, state, g.GenesisTime)
	require.NoError(a.t, err)
}

func (a *abciHand) block(height int64, txs ...[]byte) comettest.Block {
	return comettest.Block{Height: height, Hash: fmt.Appendf(nil, "hash of block %3d", height),
		Time: a.clock.Add(time.Duration(height) * time.Millisecond).UTC(), Txs: txs}
}

func (a *abciHand) finalize(b comettest.Block) comettest.Finalized {
	a.t.Helper()
	f, err := a.c.FinalizeBlock(b)
	require.NoError(a.t, err)
	return f
}

func (a *abciHand) commitABCI() {
	a.t.Helper()
	_, err := a.c.Commit()
	require.NoError(a.t, err)
}

func (a *abciHand) info() (height int64, hash []byte) {
	a.t.Helper()
	height, hash, err := a.c.Info()
	require.NoError(a.t, err)
	return height, hash
}

func (a *abciHand) put(key string) []byte {
	return a.tx(kv.Put([]byte(key), []byte("v")), time.Minute)
}

// The records of the log come in the order of the design. A block that is delivered again appends
// nothing.
func TestABCICommitsInTheOrderOfTheLog(t *testing.T) {
	a := driveABCI(t, initABCI(t))
	h, hash := a.info()
	require.Zero(t, h)
	require.Empty(t, hash)
	a.initChain()
	a.initChain()
	require.EqualValues(t, 1, a.appended(), "ChainStarted, once")
	b := a.block(1, a.put("k"), []byte{1, 2, 3})
	first := a.finalize(b)
	require.Equal(t, []uint32{0, 4}, first.Codes, "what is malformed has a result, and no effect")
	require.EqualValues(t, 2, a.appended(), "OrderDecided")
	require.Equal(t, first, a.finalize(b))
	require.EqualValues(t, 2, a.appended())

	for range 50 { // a storm of abci_info between FinalizeBlock and Commit
		h, _ := a.info()
		require.Zero(t, h)
	}

	a.commitABCI()
	require.EqualValues(t, 3, a.appended(), "BlockCommitted")
	h, hash = a.info()
	require.EqualValues(t, 1, h)
	require.Equal(t, first.AppHash, hash, "the hash that FinalizeBlock answered is the one that is committed")
	value, _, log, err := a.c.Query("/key", []byte("k"), 0)
	require.NoError(t, err, log)
	require.Equal(t, "v", string(value))
	a.close()
}

// The steps of a block at which the tests kill something.
var blockSteps = []struct {
	name string
	run  func(a *abciHand, b comettest.Block, kill func())
}{
	{"before FinalizeBlock", func(a *abciHand, b comettest.Block, kill func()) {
		kill()
		a.finalize(b)
		a.commitABCI()
	}},
	{"during FinalizeBlock", func(a *abciHand, b comettest.Block, kill func()) {
		require.NoError(a.t, a.c.SendFinalizeBlock(b))
		kill()
		_, err := a.c.ReceiveFinalized()
		require.NoError(a.t, err)
		a.commitABCI()
	}},
	{"after FinalizeBlock", func(a *abciHand, b comettest.Block, kill func()) {
		a.finalize(b)
		kill()
		a.commitABCI()
	}},
	{"after Commit", func(a *abciHand, b comettest.Block, kill func()) { a.finalize(b); a.commitABCI(); kill() }},
}

// Each child of the core is killed at each step of a block. CometBFT's process and connection do
// not notice.
func TestKillsOfTheCoreAtEachStepOfABlock(t *testing.T) {
	a := driveABCI(t, initABCI(t))
	a.initChain()
	before, _ := a.Supervisor().Tree().Find(cometProcess)
	height := int64(0)

	for _, step := range blockSteps {
		for _, child := range []string{"storage", "ordering", "mempool/pool"} {
			height++
			b := a.block(height, a.put(step.name+child))
			step.run(a, b, func() { a.cut("coppice/node/transactions/" + child) })
			h, _ := a.info()
			require.Equal(t, height, h, "%s, %s", step.name, child)
		}
	}

	after, _ := a.Supervisor().Tree().Find(cometProcess)
	require.Equal(t, before.Incarnation, after.Incarnation, "CometBFT was not restarted")

	for _, step := range blockSteps {
		for _, child := range []string{"storage", "ordering", "mempool/pool"} {
			value, _, log, err := a.c.Query("/key", []byte(step.name+child), 0)
			require.NoError(t, err)
			require.Equal(t, "v", string(value), log)
		}
	}

	a.close()
}

// The rows of the handshake's table, as the application sees them. After a death of the process at
// any step, Info returns the last committed height. The decided block is delivered again, or is not
// ("saved response"), and nothing is in the log twice.
func TestTheHandshakeAfterARestartAtEachStep(t *testing.T) {
	home := initABCI(t)
	a := driveABCI(t, home)
	again := func() { a.close(); a = driveABCI(t, home) }

	again() // store 0, application 0: InitChain, and it may repeat
	a.initChain()
	again()
	h, _ := a.info()
	require.Zero(t, h, "a chain without a block")
	a.initChain()

	b1 := a.block(1, a.put("one"))
	first := a.finalize(b1)
	records := a.appended()
	again() // store = state + 1, application = state: the real application replays the block
	h, _ = a.info()
	require.Zero(t, h, "what was decided and not committed does not count")
	a.initChain()
	require.Equal(t, first, a.finalize(b1))
	require.Equal(t, records, a.appended(), "the decision stands in the log once")
	a.commitABCI()

	again() // store = state + 1, application = store: the saved response; the application sees nothing
	h, hash := a.info()
	require.EqualValues(t, 1, h)
	require.Equal(t, first.AppHash, hash)
	b2 := a.block(2, a.put("two"))
	second := a.finalize(b2)
	a.commitABCI()

	again() // store = state, application = store: the hash must match
	h, hash = a.info()
	require.EqualValues(t, 2, h)
	require.Equal(t, second.AppHash, hash)
	a.close()
}

// A child that dies between two steps is replaced: its successor finds a socket of its own, and the
// last committed height.
func TestAProcessThatDiesAtEachStepFindsWhereItStood(t *testing.T) {
	a := driveABCI(t, initABCI(t))
	a.initChain()
	die := func() { a.cut(cometProcess); a.again() }
	die()
	a.initChain()
	b := a.block(1, a.put("one"))
	first := a.finalize(b)
	records := a.appended()
	die()
	h, _ := a.info()
	require.Zero(t, h)
	require.Equal(t, first, a.finalize(b))
	require.Equal(t, records, a.appended())
	a.commitABCI()
	die()
	h, hash := a.info()
	require.EqualValues(t, 1, h)
	require.Equal(t, first.AppHash, hash)
	a.cut(cometABCI)
	a.again()
	h, _ = a.info()
	require.EqualValues(t, 1, h)
	a.close()
}

// Two different decisions for one height mean that consensus is broken: the process ends with that
// reason.
func TestAConflictingBlockEndsTheNode(t *testing.T) {
	a := driveABCI(t, initABCI(t))
	a.initChain()
	a.finalize(a.block(1, a.put("one")))
	other := a.block(1, a.put("other"))
	other.Hash = []byte("another block's hash")
	_, err := a.c.FinalizeBlock(other)
	require.Error(t, err)
	err = <-a.ended
	require.ErrorIs(t, err, ordering.ErrConflict)
}

// A home whose CometBFT is of another chain is refused with the reason, and so is one whose chain
// data is gone.
func TestAForeignOrWipedCometHomeIsRefused(t *testing.T) {
	dir := initABCI(t)
	g, err := home.ReadGenesis(dir)
	require.NoError(t, err)
	set, err := comethome.ReadGenesis(comethome.Dir(dir))
	require.NoError(t, err)
	g.ChainID = "other"
	require.NoError(t, comethome.Carry(comethome.Dir(dir), g, comethome.Genesis{Validators: set.Validators}))
	c, err := config.Load(dir)
	require.NoError(t, err)
	n, err := New(dir, c, WithConsensus(comet.Kind{Command: idleCommand}))
	require.NoError(t, err)
	err = n.Run(t.Context())
	require.ErrorIs(t, err, comethome.ErrGenesis)
	require.Equal(t, exit.Config, exit.Code(err))

	dir = initABCI(t)
	a := driveABCI(t, dir)
	a.initChain()
	a.finalize(a.block(1))
	a.commitABCI()
	a.close()

	// From InitChain on, the limits and the governance key are the chain's. A node whose copy was
	// edited would judge transactions differently than the other nodes.
	path := filepath.Join(dir, chain.GenesisFile)
	genesis, err := os.ReadFile(path)
	require.NoError(t, err)
	edited := strings.Replace(string(genesis), `"max_tx_ops": 10000`, `"max_tx_ops": 3`, 1)
	require.NoError(t, os.WriteFile(path, []byte(edited), 0o644))
	n, err = New(dir, c, WithConsensus(comet.Kind{Command: idleCommand}))
	require.NoError(t, err)
	err = n.Run(t.Context())
	require.ErrorIs(t, err, comethome.ErrGenesis)
	require.ErrorContains(t, err, "put the chain's genesis.json back")
	require.Equal(t, exit.Config, exit.Code(err))
	require.NoError(t, os.WriteFile(path, genesis, 0o644))

	require.NoError(t, os.RemoveAll(filepath.Join(comethome.Dir(dir), "data", "blockstore.db")))
	n, err = New(dir, c, WithConsensus(comet.Kind{Command: idleCommand}))
	require.NoError(t, err)
	err = n.Run(t.Context())
	require.ErrorIs(t, err, comethome.ErrChainData)
	require.Equal(t, exit.Damage, exit.Code(err))
}
