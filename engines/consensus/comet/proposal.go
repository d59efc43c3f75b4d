package comet

import (
	"context"
	"fmt"
	"math/bits"
	"slices"
	"sync"
	"time"

	abci "github.com/cometbft/cometbft/abci/types"

	"github.com/coppice-go/coppice/engines/chain"
	logv1 "github.com/coppice-go/coppice/proto/coppice/log/v1"
)

// Codes of CheckTx and Query beyond those of results.
const (
	codeRefused      = 100 // CheckTx: the log says why
	codeNoAppMempool = 101
	codeQuery        = 102 // Query: the log says why
)

const (
	// askTime bounds a call of the engines for a request whose answer may be given without them. If
	// the core is down, such a request neither fails nor waits longer than this.
	askTime = 500 * time.Millisecond
)

// checkTx decides whether a transaction enters, or stays in, CometBFT's mempool. If an engine is
// down, it admits every transaction, because otherwise a recheck would evict transactions that only
// wait.
func (a *app) checkTx(ctx context.Context, req *abci.RequestCheckTx) *abci.ResponseCheckTx {
	s, ok := a.glance(ctx)
	if !ok {
		return &abci.ResponseCheckTx{} // FinalizeBlock decides
	}

	id := chain.HashTx(req.Tx)
	refuse := func(err error) *abci.ResponseCheckTx {
		a.shares.Release(id)
		return &abci.ResponseCheckTx{Code: codeRefused, Log: err.Error(), Codespace: "coppice"}
	}

	sender, most := a.core.Feed.Sender(req.Tx)
	crowd := func() error {
		return fmt.Errorf("%w for %s: CometBFT's mempool has %d of its transactions", chain.ErrPoolFull, sender,
			most.Waiting)
	}

	// A sender at its bound is refused before its signature is verified, which costs most.
	check := a.core.Feed.Check
	switch held, room := a.shares.Look(id, sender, most.Waiting); {
	case held:
		check = a.core.Feed.Recheck
	case sender != "" && !room:
		return refuse(crowd())
	}

	if err := check(req.Tx, s, time.Now()); err != nil {
		return refuse(err)
	}
	if sender != "" && !a.shares.Admit(id, sender, most.Waiting) {
		return refuse(crowd())
	}
	if req.Type == abci.CheckTxType_Recheck {
		return &abci.ResponseCheckTx{} // CometBFT has removed committed transactions
	}

	asking := &brief{Context: ctx, time: askTime}
	defer asking.end()

	found, err := a.core.State.Results(asking, []chain.TxID{id})
	if err == nil && found[0] != nil {
		a.shares.Release(id)
		return &abci.ResponseCheckTx{
			Code: uint32(logv1.Code_CODE_REPEATED), Log: "it was applied at " +
				chain.VersionFromProto(found[0].Version).String(), Codespace: "coppice",
		}
	}

	return &abci.ResponseCheckTx{}
}

// glance returns the committed state of the chain, and whether it is known. It waits for at most
// askTime.
func (a *app) glance(ctx context.Context) (chain.State, bool) {
	if s := a.chain.Load(); s != nil && s.Started() {
		return *s, true
	}
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	s, err := a.standing(ctx)
	return s, err == nil && s.Started()
}

// prepareProposal proposes first the transactions that the extender makes of the last votes, then
// those of CometBFT's mempool, in its order, and then those of our pool that are not yet in that
// mempool. It leaves out transactions that no node could apply: those that are malformed, too
// large, expired or repeated.
func (a *app) prepareProposal(ctx context.Context, req *abci.RequestPrepareProposal) *abci.ResponsePrepareProposal {
	a.agreeing.Store(true)
	a.judged.Store(req.Height)
	s, ok := a.glance(ctx)
	if !ok {
		return &abci.ResponsePrepareProposal{} // transactions cannot be checked, and an empty block does no harm
	}
	if s.InHold() {
		return &abci.ResponsePrepareProposal{} // the next epoch takes the transactions
	}
	if txs, ok := a.proposed.again(req); ok {
		return &abci.ResponsePrepareProposal{Txs: txs}
	}

	now := req.Time
	p := proposal{left: min(req.MaxTxBytes, int64(s.Params.GetMaxBlockBytes())), has: make(map[chain.TxID]bool),
		sender: a.core.Feed.Sender, of: make(map[string]int)}

	check := func(tx []byte) bool { return a.core.Feed.Check(tx, s, now) == nil }
	for _, txs := range [][][]byte{a.ofExtensions(ctx, s, req), req.Txs} {
		for _, tx := range txs {
			p.add(tx, check)
		}
	}

	if p.left > 0 && len(p.txs) < chain.MaxBlockTxs {
		ctx, cancel := context.WithTimeout(ctx, askTime)
		defer cancel()

		// If the pool is down, its transactions come with a later block.
		ours, _, _ := a.core.Feed.Offer(ctx, 0, chain.MaxBlockTxs, int(p.left)+len(p.has), false)
		for _, tx := range ours {
			if !p.add(tx, check) {
				break
			}
		}
	}

	a.proposed.keep(req, p.txs)

	return &abci.ResponsePrepareProposal{Txs: p.txs}
}

// lastProposal is the last proposal. A CometBFT that was killed after it signed a proposal may sign
// only that proposal again. If CometBFT repeats its request, it therefore gets the same proposal;
// otherwise its validator would sit out the rest of the round.
type lastProposal struct {
	mu       sync.Mutex
	height   int64
	time     time.Time
	max      int64
	proposer string
	txs      [][]byte
}

func (l *lastProposal) again(req *abci.RequestPrepareProposal) (txs [][]byte, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	ok = req.Height == l.height && req.Time.Equal(l.time) && req.MaxTxBytes == l.max &&
		string(req.ProposerAddress) == l.proposer
	return l.txs, ok && len(l.txs) > 0
}

func (l *lastProposal) keep(req *abci.RequestPrepareProposal, txs [][]byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.height, l.time, l.max, l.proposer, l.txs = req.Height, req.Time, req.MaxTxBytes, string(req.ProposerAddress), txs
}

// proposal gathers transactions up to a size.
type proposal struct {
	txs  [][]byte
	has  map[chain.TxID]bool
	left int64

	sender func(tx []byte) (sender string, most chain.Bounds)
	of     map[string]int // transactions, by sender that has a bound
}

// add adds a transaction that passes the check, unless the proposal has as many of its sender as it
// may have. It reports whether there may be room for more.
func (p *proposal) add(tx []byte, check func(tx []byte) bool) bool {
	id := chain.HashTx(tx)
	if p.has[id] {
		return true
	}
	size := protoSize(len(tx))
	full := size > p.left || len(p.txs) == chain.MaxBlockTxs

	sender, most := p.sender(tx)
	if sender != "" && p.of[sender] >= most.Block || !check(tx) {
		return true
	}
	if full {
		return false
	}
	if sender != "" {
		p.of[sender]++
	}

	p.has[id] = true
	p.txs = append(p.txs, tx)
	p.left -= size

	return true
}

// protoSize returns the number of bytes that a transaction of n bytes takes in a block, which
// stores it as a tag, its length as a varint, and its bytes.
func protoSize(n int) int64 {
	return int64(1 + max(1, (bits.Len(uint(n))+6)/7) + n)
}

// processProposal judges a proposal by the block and the chain's limits alone, so that all nodes
// judge alike. It refuses a proposal that no honest proposer makes: one that is too large, has too
// many transactions, or has bytes that are not a transaction, or a transaction before its time.
// FinalizeBlock refuses transactions for reasons of time or state.
func (a *app) processProposal(ctx context.Context,
	req *abci.RequestProcessProposal) (*abci.ResponseProcessProposal, error) {
	defer a.working()()

	a.agreeing.Store(true)
	a.judged.Store(req.Height)
	s, err := a.known(ctx)
	if err != nil {
		return nil, err
	}

	resp := &abci.ResponseProcessProposal{Status: abci.ResponseProcessProposal_ACCEPT}
	premature := func(tx []byte) bool { return a.core.Feed.Premature(tx, req.Time) }
	if !proposable(req.Txs, s.Params) || slices.ContainsFunc(req.Txs, premature) || s.InHold() && !holdable(s, req) {
		resp.Status = abci.ResponseProcessProposal_REJECT
	}

	return resp, nil
}

// holdable reports whether a proposal may follow the block that decided a reset: one empty block
// proves that the decision is committed, and no other block comes in that chain.
func holdable(s chain.State, req *abci.RequestProcessProposal) bool {
	return len(req.Txs) == 0 && req.Height == int64(s.Reset.Height)+1
}

func proposable(txs [][]byte, limits *logv1.Params) bool {
	if len(txs) > chain.MaxBlockTxs {
		return false
	}

	left := int64(limits.GetMaxBlockBytes())
	for _, tx := range txs {
		if left -= protoSize(len(tx)); left < 0 || uint64(len(tx)) > limits.GetMaxTxBytes() {
			return false
		}
		if _, err := chain.DecodeTx(tx); err != nil {
			return false
		}
	}

	return true
}
