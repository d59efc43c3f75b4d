package child

import (
	"sync"
	"time"

	"github.com/cometbft/cometbft/node"
	"github.com/cometbft/cometbft/p2p"
	protomem "github.com/cometbft/cometbft/proto/tendermint/mempool"
)

const (
	// earlyBytes bounds what is kept of one peer. More than one transaction may be dropped, but not
	// all: the first ones are enough to make blocks, in which the peer proposes the rest.
	earlyBytes = 1 << 20

	earlyPause = 20 * time.Millisecond // between two looks whether block sync is over
)

// syncing is the reactor of CometBFT's mempool.
type syncing interface {
	p2p.Reactor
	p2p.MsgBytesFilter
	WaitSync() bool
	EnableInOutTxs()
}

// earlyTxs is the reactor of CometBFT's mempool, which drops the transactions that come while block
// sync runs. A peer sends each transaction once, and block sync runs for a moment at each start. So
// of validators that start together, only one may have a transaction. Without empty blocks the
// others, of which one has to propose, would wait for it for ever (ADR 0170). This reactor keeps
// what comes early, and has the mempool take it once block sync is over.
type earlyTxs struct {
	syncing

	mu    sync.Mutex
	kept  []p2p.Envelope // in the order in which they came
	of    map[p2p.ID]int // bytes that are kept of a peer
	waits bool           // a goroutine waits for the end of block sync
}

// keepEarly gives a node such a reactor.
func keepEarly(n *node.Node) {
	sw, ok := n.Switch().(*p2p.Switch)
	if !ok {
		return
	}
	reactor, _ := sw.Reactor("MEMPOOL")
	if m, ok := reactor.(syncing); ok && m.WaitSync() {
		sw.RemoveReactor("MEMPOOL", reactor)
		sw.AddReactor("MEMPOOL", &earlyTxs{syncing: m, of: make(map[p2p.ID]int)})
	}
}

// Receive implements p2p.Reactor.
func (r *earlyTxs) Receive(e p2p.Envelope) {
	if !r.keep(e) {
		r.syncing.Receive(e)
	}
}

// keep keeps a message for later. It returns false if the mempool takes or refuses it now.
func (r *earlyTxs) keep(e p2p.Envelope) bool {
	txs, ok := e.Message.(*protomem.Txs)
	if !ok || e.Src == nil || !r.WaitSync() {
		return false
	}
	size := 0
	for _, tx := range txs.Txs {
		size += len(tx)
	}

	r.mu.Lock()
	defer r.mu.Unlock()
	id := e.Src.ID()
	if !r.WaitSync() || len(txs.Txs) == 0 || r.of[id] > 0 && r.of[id]+size > earlyBytes {
		return false
	}

	r.kept, r.of[id] = append(r.kept, e), r.of[id]+size
	if !r.waits {
		r.waits = true
		go r.pass()
	}

	return true
}

// pass waits for the end of block sync, and then passes on what was kept.
func (r *earlyTxs) pass() {
	for r.WaitSync() {
		select {
		case <-r.Quit():
			return
		case <-time.After(earlyPause):
		}
	}

	r.mu.Lock()
	kept := r.kept
	r.kept, r.of = nil, make(map[p2p.ID]int)
	r.mu.Unlock()

	for _, e := range kept {
		r.syncing.Receive(e)
	}
}
