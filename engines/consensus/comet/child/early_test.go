package child

import (
	"bytes"
	"testing"
	"time"

	abcicli "github.com/cometbft/cometbft/abci/client"
	abci "github.com/cometbft/cometbft/abci/types"
	cfg "github.com/cometbft/cometbft/config"
	cmtlog "github.com/cometbft/cometbft/libs/log"
	"github.com/cometbft/cometbft/mempool"
	"github.com/cometbft/cometbft/p2p"
	"github.com/cometbft/cometbft/p2p/mock"
	protomem "github.com/cometbft/cometbft/proto/tendermint/mempool"
	"github.com/cometbft/cometbft/proxy"
	"github.com/stretchr/testify/require"
)

// newMempool returns CometBFT's mempool with its reactor, in a node whose block sync runs.
func newMempool(t *testing.T) (*mempool.CListMempool, *mempool.Reactor) {
	t.Helper()
	c := cfg.TestMempoolConfig()
	app := proxy.NewAppConnMempool(abcicli.NewLocalClient(nil, abci.NewBaseApplication()), proxy.NopMetrics())
	mem := mempool.NewCListMempool(c, app, 0)
	r := mempool.NewReactor(c, mem, true)
	r.SetLogger(cmtlog.NewNopLogger())
	return mem, r
}

// CometBFT's mempool loses what comes while block sync runs, and nobody sends it again: validators
// that start together could stand still for ever. Ours has it afterwards.
func TestATransactionThatComesDuringBlockSyncIsKept(t *testing.T) {
	send := func(r p2p.Reactor, from p2p.Peer, txs ...[]byte) {
		r.Receive(p2p.Envelope{ChannelID: mempool.MempoolChannel, Src: from, Message: &protomem.Txs{Txs: txs}})
	}
	honest, greedy := mock.NewPeer(nil), mock.NewPeer(nil)

	mem, theirs := newMempool(t)
	theirs.InitPeer(honest)
	send(theirs, honest, []byte("early"))
	theirs.EnableInOutTxs()
	require.Zero(t, mem.Size(), "CometBFT keeps it by itself now: this reactor is not needed any more")

	mem, theirs = newMempool(t)
	r := &earlyTxs{syncing: theirs, of: make(map[p2p.ID]int)}
	for _, p := range []p2p.Peer{honest, greedy} {
		r.InitPeer(p)
	}
	for i := range 10 { // has room for two of these
		send(r, greedy, bytes.Repeat([]byte{byte(i)}, earlyBytes/2))
	}
	send(r, honest, []byte("early"))
	require.Zero(t, mem.Size())

	r.EnableInOutTxs()
	require.Eventually(t, func() bool { return mem.Size() == 3 }, time.Minute, time.Millisecond)
	send(r, honest, []byte("later"))
	require.Equal(t, 4, mem.Size())
	require.Empty(t, r.kept)
}
