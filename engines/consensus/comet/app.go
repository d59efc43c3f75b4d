package comet

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"sync/atomic"
	"time"

	abci "github.com/cometbft/cometbft/abci/types"
	"go.uber.org/zap"
	"google.golang.org/protobuf/proto"

	"github.com/coppice-go/coppice/engines"
	"github.com/coppice-go/coppice/engines/chain"
	"github.com/coppice-go/coppice/engines/consensus"
	comethome "github.com/coppice-go/coppice/engines/consensus/comet/home"
	"github.com/coppice-go/coppice/engines/consensus/comet/shares"
	"github.com/coppice-go/coppice/engines/consensus/comet/wire"
	logv1 "github.com/coppice-go/coppice/proto/coppice/log/v1"
	"github.com/coppice-go/coppice/supervisor"
)

// app is the ABCI application: the transaction core of this node, as CometBFT calls it. All
// connections share it.
type app struct {
	core     consensus.Core
	home     string // of CometBFT
	version  string
	retain   uint64                 // blocks that CometBFT keeps; 0 is all
	keep     *blockKeep             // keeps all blocks while a copy is made; nil: there are no copies
	extender consensus.VoteExtender // nil: none
	log      *zap.Logger
	health   *health

	proposed lastProposal
	shares   shares.Shares // of CometBFT's mempool

	// The chain's last committed state, as far as this incarnation knows; nil before it has asked.
	chain  atomic.Pointer[chain.State]
	height atomic.Uint64 // of the last commit, for the watchdog
	busy   atomic.Int64  // requests whose answers the consensus waits for

	synced  atomic.Int64 // when a part of a snapshot last arrived, in Unix nanoseconds
	follows atomic.Bool  // a block has arrived

	judged    atomic.Int64 // the height of the proposal that the running process asked about last
	validator []byte       // address of the home's key; nil if a remote signer has it

	ended atomic.Pointer[logv1.ChainReset] // the chain has ended, and its next epoch has not begun; nil: it has not
	held  atomic.Int64                     // when the held block was committed, in Unix nanoseconds; 0: not known
	holds chan struct{}                    // gets a value when the chain enters a hold

	mistake mistake
	prunes  bool
	pruned  atomic.Uint64 // the height of the last decision to drop the history, as far as it is known; 0: none

	kept atomic.Uint64 // the height up to which CometBFT's blocks are not needed as proofs any more

	agreeing atomic.Bool // the running process has asked for a proposal, or for a judgement of one
}

// pauseDown is the time between two calls to a core that is down.
const pauseDown = 5 * time.Millisecond

// whileDown repeats f as long as the engines that f needs are down. It has no time limit: either
// the restarting core comes back, or its supervisor restarts the node, which ends ctx (ADR 0050).
func whileDown(ctx context.Context, f func() error) error {
	for {
		err := f()
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if !errors.Is(err, engines.ErrDown) {
			return err
		}

		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case f := <-supervisor.Faults(ctx):
			f.Do(ctx)
		case <-time.After(pauseDown):
		}
	}
}

// working counts a request for whose answer CometBFT's consensus waits. It counts until the caller
// calls done.
func (a *app) working() (done func()) {
	a.busy.Add(1)
	return func() { a.busy.Add(-1) }
}

// standing asks the core for the committed state of the chain.
func (a *app) standing(ctx context.Context) (chain.State, error) {
	var s chain.Standing
	err := whileDown(ctx, func() (err error) {
		s, err = a.core.Ordering.Info(ctx)
		return err
	})
	if err == nil {
		a.ended.Store(s.Reset)
		a.note(s.Committed)
	}
	return s.Committed, err
}

// root asks the core for the root of the state at the reset that is due.
func (a *app) root(ctx context.Context) ([]byte, error) {
	var s chain.Standing
	err := whileDown(ctx, func() (err error) {
		s, err = a.core.Ordering.Info(ctx)
		return err
	})
	return s.Root.State, err
}

// lingers returns how long this node still stays on the old chain after its commit of the held
// block. A restart does not begin that time anew: a node that is restarted again and again would
// never leave.
func (a *app) lingers(now time.Time) time.Duration {
	held := a.held.Load()
	if held == 0 && a.mistake == lingerAnew {
		return linger
	}
	return max(0, linger-now.Sub(time.Unix(0, held)))
}

func (a *app) note(s chain.State) {
	if was := a.chain.Swap(&s); s.InHold() {
		if was != nil && was.Height == s.Reset.Height && s.Height > was.Height {
			a.held.Store(time.Now().UnixNano())
		}
		select {
		case a.holds <- struct{}{}:
		default:
		}
	}

	a.height.Store(s.Height)
	a.health.holds(s.InHold())
	a.health.resets(s)
	a.health.enters(s.Period)
	a.health.committed(s.Height)
}

// known returns the committed state of the chain as this incarnation knows it. If it knows none
// yet, it asks the core.
func (a *app) known(ctx context.Context) (chain.State, error) {
	if s := a.chain.Load(); s != nil && s.Started() {
		return *s, nil
	}
	return a.standing(ctx)
}

// info returns the last committed height and its app hash. If the chain has ended, it answers as at
// the beginning of the next epoch. It has no side effects, because CometBFT
// sends the same request for the RPC's abci_info. A block that was executed but not committed does
// not count; otherwise CometBFT would never send its Commit.
func (a *app) info(ctx context.Context) (*abci.ResponseInfo, error) {
	s, err := a.standing(ctx)
	if err != nil {
		return nil, err
	}

	resp := &abci.ResponseInfo{Data: "coppice", Version: a.version, AppVersion: appVersion}
	if s.Height > 0 && a.ended.Load() == nil {
		resp.LastBlockHeight, resp.LastBlockAppHash = int64(s.Height), s.AppHash
	}

	return resp, nil
}

// appVersion is the version of the application in block headers. It changes when the same block
// would have another outcome.
const appVersion = 0

// initChain starts the chain. If the chain has started already, initChain succeeds too, because
// CometBFT repeats the request until it has a first block.
func (a *app) initChain(ctx context.Context, req *abci.RequestInitChain) (*abci.ResponseInitChain, error) {
	defer a.working()()

	known, err := a.standing(ctx)
	if err != nil {
		return nil, err
	}
	rec, err := a.genesis(req, known)
	if err != nil {
		return nil, err
	}

	var s chain.State
	err = whileDown(ctx, func() (err error) {
		s, err = a.core.Ordering.InitChain(ctx, rec)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("start of chain %s: %w", rec.ChainId, err)
	}

	a.ended.Store(nil)
	a.note(s)

	return &abci.ResponseInitChain{AppHash: s.AppHash}, nil
}

// genesis returns the record that starts the chain, or its next epoch, made from the request. The
// limits in it are those of the home. It returns an error if the request does not agree with them.
func (a *app) genesis(req *abci.RequestInitChain, s chain.State) (*logv1.ChainStarted, error) {
	g := a.core.Genesis
	want, epoch, hash := g.ChainId, g.Period, []byte(nil)

	switch reset := a.ended.Load(); {
	case reset != nil:
		want, epoch, hash = reset.NewChainId, reset.NewPeriod, reset.AppHash
	case s.Period > 0: // repeated, before the first block
		want, epoch, hash = s.ChainID, s.Period, s.AppHash
	}
	if req.ChainId != want {
		return nil, fmt.Errorf("%w: CometBFT starts chain %q, the home's genesis.json is of %q", comethome.ErrGenesis,
			req.ChainId, want)
	}

	if err := sameState(req.AppStateBytes, g.AppState); err != nil {
		return nil, fmt.Errorf("%w: app_state: %w", comethome.ErrGenesis, err)
	}
	raw, err := req.Marshal()
	if err != nil {
		return nil, err
	}

	rec := &logv1.ChainStarted{
		ChainId: req.ChainId, Period: epoch, AppHash: hash, InitialHeight: uint64(max(req.InitialHeight, 1)),
		GenesisTimeNs: req.Time.UnixNano(),
		Params:        proto.CloneOf(g.Params), AppState: req.AppStateBytes, InitChain: raw,
	}

	for _, v := range req.Validators {
		u, err := updateRecord(v)
		if err != nil {
			return nil, err
		}
		rec.Validators = append(rec.Validators, u)
	}

	return rec, nil
}

// sameGenesis returns an error if initChain would refuse the genesis in the CometBFT home.
func (a *app) sameGenesis() error {
	theirs, err := comethome.ReadGenesis(a.home)
	if err != nil {
		return err
	}
	if err := sameState(theirs.AppState, a.core.Genesis.AppState); err != nil {
		return fmt.Errorf("%w: app_state: %w; all nodes of a chain have both files, genesis.json and "+
			"comet/config/genesis.json, from one place", comethome.ErrGenesis, err)
	}

	return nil
}

// sameState returns an error for two app_states that differ as JSON. An imported chain may have
// none; the home then has its own limits.
func sameState(theirs, ours []byte) error {
	if !comethome.CarriesState(theirs) || len(ours) == 0 {
		return nil
	}
	var t, o bytes.Buffer
	if err := json.Compact(&t, theirs); err != nil {
		return err
	}
	if err := json.Compact(&o, ours); err != nil {
		return err
	}
	if !bytes.Equal(t.Bytes(), o.Bytes()) {
		return fmt.Errorf("CometBFT has %.200s, the home's genesis.json is %.200s", t.Bytes(), o.Bytes())
	}

	return nil
}

// finalizeBlock executes and stages the decided block. If a block is delivered again, the answer is
// the same and nothing is appended to the log.
func (a *app) finalizeBlock(ctx context.Context,
	req *abci.RequestFinalizeBlock) (*abci.ResponseFinalizeBlock, *chain.Block, error) {
	defer a.working()()

	a.follows.Store(true)
	a.health.finalizes(req.Height, a.judged.Load() == req.Height, accused(req))
	a.alarm(req.Height, req.Misbehavior)

	s, err := a.known(ctx)
	if err != nil {
		return nil, nil, err
	}
	b, err := blockOf(s, req)
	if err != nil {
		return nil, nil, err
	}
	staged, err := a.order(ctx, b)
	if err != nil {
		return nil, nil, err
	}
	if s.Reset != nil && !s.InHold() {
		a.health.step(stepOrdered)
	}
	if len(staged.Results) != len(b.Txs) {
		return nil, nil, fmt.Errorf("%v is committed already, and CometBFT has not saved our answer", b)
	}

	resp := &abci.ResponseFinalizeBlock{AppHash: staged.AppHash,
		TxResults: make([]*abci.ExecTxResult, len(staged.Results))}

	for i, r := range staged.Results {
		resp.TxResults[i] = &abci.ExecTxResult{Code: uint32(r.Code), Data: r.Data, Log: r.Log,
			Codespace: codespace(r.Code), Events: eventsOf(r)}
	}

	if resp.ValidatorUpdates, err = updates(staged.Validators); err != nil {
		return nil, nil, err
	}

	return resp, &b, nil
}

// eventsOf returns the events that a transaction emitted, as CometBFT has them. It indexes all
// attributes.
func eventsOf(r *logv1.TxResult) []abci.Event {
	events := make([]abci.Event, 0, len(r.Events))
	for _, e := range r.Events {
		attributes := make([]abci.EventAttribute, 0, len(e.Attributes))
		for _, a := range e.Attributes {
			attributes = append(attributes, abci.EventAttribute{Key: a.Key, Value: a.Value, Index: true})
		}
		events = append(events, abci.Event{Type: e.Type, Attributes: attributes})
	}
	return events
}

// accused returns the addresses of the validators against which a block holds evidence.
func accused(req *abci.RequestFinalizeBlock) (addresses []string) {
	for _, m := range req.Misbehavior {
		addresses = append(addresses, fmt.Sprintf("%X", m.Validator.Address))
	}
	return addresses
}

// codespace returns the codespace of a code in an ABCI answer, which names the origin of the code:
// "coppice", or "" for success.
func codespace(c logv1.Code) string {
	if c == logv1.Code_CODE_OK {
		return ""
	}
	return "coppice"
}

// blockOf returns the block of a request. The block's Request field holds the request as well, but
// without the transactions, which the block has already.
func blockOf(s chain.State, req *abci.RequestFinalizeBlock) (chain.Block, error) {
	if req.Height <= 0 || req.Height == math.MaxInt64 {
		return chain.Block{}, fmt.Errorf("%w: a block at height %d", wire.ErrFrame, req.Height)
	}

	rest := *req
	rest.Txs = nil
	raw, err := rest.Marshal()
	if err != nil {
		return chain.Block{}, err
	}
	return chain.Block{
		ChainID: s.ChainID, Period: s.Period, Height: uint64(req.Height), Hash: req.Hash, Time: req.Time,
		Txs: req.Txs, Proposer: req.ProposerAddress, Request: raw,
	}, nil
}

func (a *app) order(ctx context.Context, b chain.Block) (chain.Staged, error) {
	var staged chain.Staged
	err := whileDown(ctx, func() (err error) {
		staged, err = a.core.Ordering.Order(ctx, b)
		return err
	})
	if err != nil {
		return staged, fmt.Errorf("order of %v: %w", b, err)
	}
	return staged, nil
}

// commit makes b final. It returns only when BlockCommitted is durable in the event log. If the
// core has restarted since finalizeBlock, it finds b in its log and executes it again. If the log
// has lost that record, commit orders b again. Each of these steps may be repeated.
func (a *app) commit(ctx context.Context, b chain.Block) (*abci.ResponseCommit, error) {
	defer a.working()()

	var s chain.State
	err := whileDown(ctx, func() (err error) {
		if s, err = a.core.Ordering.Commit(ctx, b.Height); errors.Is(err, engines.ErrDown) {
			if _, again := a.core.Ordering.Order(ctx, b); again != nil {
				return again
			}
			s, err = a.core.Ordering.Commit(ctx, b.Height)
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("commit of %v: %w", b, err)
	}

	a.note(s)
	a.shares.Committed(b.Txs)
	if a.core.StateSync != nil {
		a.core.StateSync.Committed(ctx, s) // the next block would change the state to export
	}

	a.prune(ctx)

	return &abci.ResponseCommit{RetainHeight: a.retainHeight(s)}, nil
}

// prune looks whether the chain has decided to drop its history. It does not wait for a state that
// is not available: a later commit looks again.
func (a *app) prune(ctx context.Context) {
	if !a.prunes {
		return
	}
	b, found, _, err := a.core.State.Get(ctx, []byte(chain.PruneKey), 0)
	if err != nil || !found {
		return
	}

	p, err := chain.DecodePruned(b)
	if err != nil {
		a.log.Error("the history is not dropped", zap.Error(err))
		return
	}
	if a.pruned.Swap(p.Height) != p.Height {
		a.log.Info("the history of the chain is dropped", zap.Uint64("before", p.Height))
	}
}

// retainHeight returns the height of the lowest block that CometBFT must keep, or 0 for all blocks.
// The blocks below it are in our log. A node that begins with a snapshot needs the blocks from the
// snapshot's height on: its light client reads the first ones, and block sync reads the rest.
func (a *app) retainHeight(s chain.State) int64 {
	keep := a.pruned.Load()
	if a.retain > 0 && s.Height > a.retain {
		keep = max(keep, s.Height-a.retain)
	}
	if keep == 0 || a.keep.held() {
		return 0
	}

	if a.core.StateSync != nil {
		if oldest := a.core.StateSync.Oldest(); oldest > 0 {
			keep = min(keep, oldest)
		}
	}
	if s.Params.GetResetOffset() > 0 {
		keep = min(keep, a.kept.Load())
	}

	return int64(max(keep, s.InitialHeight))
}
