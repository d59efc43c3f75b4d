package comet

import (
	"bytes"
	"crypto/ed25519"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	abci "github.com/cometbft/cometbft/abci/types"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap"

	"github.com/coppice-go/coppice/engines"
	"github.com/coppice-go/coppice/engines/backend/governance"
	"github.com/coppice-go/coppice/engines/chain"
	"github.com/coppice-go/coppice/engines/consensus"
	"github.com/coppice-go/coppice/engines/consensus/comet/child"
	comethome "github.com/coppice-go/coppice/engines/consensus/comet/home"
	"github.com/coppice-go/coppice/engines/consensus/comet/manager"
)

// decided returns a chain whose block 1 has decided on a reset, and a client of its application.
func decidedApp(t *testing.T) (*fakeCore, *app) {
	t.Helper()
	c := newFakeCore()
	a := &app{core: c.core("test"), health: newHealth(nil), log: zap.NewNop(), holds: make(chan struct{}, 1)}
	_, err := a.initChain(t.Context(), &abci.RequestInitChain{ChainId: "test", InitialHeight: 1,
		Time: time.Unix(1000, 0)})
	require.NoError(t, err)
	finalize(t, a, 1, "reset=1")
	return c, a
}

func finalize(t *testing.T, a *app, height int64, txs ...string) {
	t.Helper()
	_, b, err := a.finalizeBlock(t.Context(), finalizing(height, txs...))
	require.NoError(t, err)
	_, err = a.commit(t.Context(), *b)
	require.NoError(t, err)
}

func finalizing(height int64, txs ...string) *abci.RequestFinalizeBlock {
	req := &abci.RequestFinalizeBlock{Height: height, Hash: fmt.Appendf(nil, "block %d", height),
		Time: time.Unix(1000+height, 0)}
	for _, tx := range txs {
		req.Txs = append(req.Txs, []byte(tx))
	}
	return req
}

// After the decision one empty block comes, and no other.
func TestAHeldChainProposesOneEmptyBlock(t *testing.T) {
	c, a := decidedApp(t)
	require.Len(t, a.holds, 1)
	c.submit("waiting=1")
	p := a.prepareProposal(t.Context(), &abci.RequestPrepareProposal{Height: 2, MaxTxBytes: 1 << 20,
		Txs: [][]byte{[]byte("theirs=1")}})
	require.Empty(t, p.Txs)

	for _, r := range []struct {
		height int64
		txs    [][]byte
		want   abci.ResponseProcessProposal_ProposalStatus
	}{
		{2, nil, abci.ResponseProcessProposal_ACCEPT},
		{2, [][]byte{[]byte("a=b")}, abci.ResponseProcessProposal_REJECT},
		{3, nil, abci.ResponseProcessProposal_REJECT},
	} {
		got, err := a.processProposal(t.Context(), &abci.RequestProcessProposal{Height: r.height, Txs: r.txs})
		require.NoError(t, err)
		require.Equal(t, r.want, got.Status, "height %d, %d transactions", r.height, len(r.txs))
	}
}

// Between the end of the chain and InitChain of the next epoch, the application stands at height 0,
// takes no block, and starts nothing but that epoch.
func TestAnEndedChainWaitsForItsNextEpoch(t *testing.T) {
	c, a := decidedApp(t)
	finalize(t, a, 2)
	reset, err := c.Reset(t.Context(), chain.Renewal{})
	require.NoError(t, err)

	for range 2 { // the second time as after a restart
		info, err := a.info(t.Context())
		require.NoError(t, err)
		require.Zero(t, info.LastBlockHeight)
		require.Empty(t, info.LastBlockAppHash)
		_, _, err = a.finalizeBlock(t.Context(), finalizing(3))
		require.ErrorIs(t, err, errOrder, "a block of the old child")
		a = &app{core: c.core("test"), health: newHealth(nil), log: zap.NewNop()}
	}

	right := abci.RequestInitChain{ChainId: "test-1", InitialHeight: 21, Time: time.Unix(0, reset.GenesisTimeNs)}
	for what, spoil := range map[string]func(*abci.RequestInitChain){
		"of chain":       func(r *abci.RequestInitChain) { r.ChainId = "test" },
		"CometBFT start": func(r *abci.RequestInitChain) { r.ChainId = "test-2" },
		"initial_height": func(r *abci.RequestInitChain) { r.InitialHeight = 3 },
		"genesis_time":   func(r *abci.RequestInitChain) { r.Time = time.Unix(1, 0) },
		"app_state":      func(r *abci.RequestInitChain) { r.AppStateBytes = []byte(`{"a":1}`) },
	} {
		wrong := right
		spoil(&wrong)
		_, err := a.initChain(t.Context(), &wrong)
		require.Error(t, err, what)
	}

	for range 2 {
		got, err := a.initChain(t.Context(), &right)
		require.NoError(t, err)
		require.Equal(t, reset.AppHash, got.AppHash)
	}
	_, _, err = a.finalizeBlock(t.Context(), finalizing(3))
	require.ErrorIs(t, err, errOrder, "a block below the initial height")
	finalize(t, a, 21, "a=b")
	require.Nil(t, c.state.Reset)
}

// A lone validator is killed at each step of a reset, twice in a row. Each reset is made once, and
// no data is removed before the log knows that the chain has ended.
func TestALoneValidatorIsResetWhereverItIsKilled(t *testing.T) {
	c := newFakeCore()
	c.idle = true
	home := newHome(t, comethome.Options{})
	run := drive(t, home, c)
	c.submit("first=1")
	c.await(t, func() bool { return len(c.pool) == 0 })

	c.mu.Lock()
	c.ends = func() { // with c.mu held
		g, err := comethome.ReadGenesis(home)
		require.NoError(t, err)
		require.Equal(t, c.state.ChainID, g.ChainID, "the genesis is replaced after the log knows")
		require.DirExists(t, filepath.Join(home, "data", "blockstore.db"), "data is removed after the log knows")
	}
	c.mu.Unlock()

	epoch := uint64(0)
	for _, at := range []string{"", "commit", "reset", "reset logged", "init", "init logged", "order"} {
		var kills, commits atomic.Int64
		c.mu.Lock()
		c.fail = func(what string) error {
			switch {
			case at != what || kills.Load() == 2 || !c.state.InHold() && c.reset == nil && c.state.Reset == nil:
				return nil
			case at == "commit" && commits.Add(1)%2 == 0:
				return nil // one kill for each commit in hold
			}
			kills.Add(1)
			go run.Kill("consensus/"+childABCI, nil) // the process ends with it
			return &engines.DownError{Engine: "ordering"}
		}
		c.mu.Unlock()

		epoch++
		c.submit(fmt.Sprintf("reset=%d", epoch))
		c.submit(fmt.Sprintf("after=%d", epoch))
		c.await(t, func() bool { return len(c.pool) == 0 && c.state.Period == epoch && c.state.Height > 0 })
		want := 2
		if at == "" {
			want = 0
		} else if strings.HasSuffix(at, "logged") { // which happens once
			want = 1
		}
		require.EqualValues(t, want, kills.Load(), at)
		c.mu.Lock()
		require.EqualValues(t, epoch, c.resets, "at %q", at)
		c.mu.Unlock()
	}

	require.NoError(t, syscall.Kill(pidOf(t, home), syscall.SIGKILL))
	c.submit("last=1")
	c.await(t, func() bool { return len(c.pool) == 0 })
	g, err := comethome.ReadFirstGenesis(home)
	require.NoError(t, err)
	require.Equal(t, "test", g.ChainID)

	for e := range epoch {
		b, err := comethome.ReadCertificate(home, e)
		require.NoError(t, err)
		_, err = decodeCertificate(b)
		require.NoError(t, err, "epoch %d", e)
	}
	_, err = os.Stat(filepath.Join(home, "config", "genesis.json.new"))
	require.ErrorIs(t, err, os.ErrNotExist)
}

// A hold ends by itself within a second. One that lasts says why the node is not able.
func TestALongHoldIsToldOf(t *testing.T) {
	now := time.Unix(1000, 0)
	h := newHealth(func() time.Time { return now })
	h.came()
	h.committed(7)
	h.polled(&observed{height: 7, address: "A", validators: []validator{{"A", 10}},
		clocks: map[string]time.Time{"A": now}}, nil)
	h.holds(true)
	require.Equal(t, consensus.Ready, h.Condition().State, h.Condition().Reason)

	now = now.Add(holdMost)
	h.holds(true)
	require.Equal(t, consensus.Starting, h.Condition().State)
	require.Contains(t, h.Condition().Reason, "in hold for 3s")
	require.True(t, h.isHeld())

	h.holds(false)
	require.Equal(t, consensus.Ready, h.Condition().State, h.Condition().Reason)

	h.ended(0, "")
	h.renews(errors.New("no space left on device"))
	require.Equal(t, consensus.ConsensusDown, h.Condition().State)
	require.Contains(t, h.Condition().Reason, "cannot begin yet: no space left on device")
	h.renews(nil)
	require.NotContains(t, h.Condition().Reason, "cannot begin yet")
}

// A chain with several validators is not begun with resets that could not be made.
func TestResetsOfSeveralValidatorsAreRefused(t *testing.T) {
	dir := t.TempDir()
	_, err := comethome.Init(comethome.Dir(dir), comethome.Options{P2P: "127.0.0.1:0", RPC: "127.0.0.1:0"})
	require.NoError(t, err)
	var set []comethome.Validator
	h := consensus.Home{Dir: dir, Genesis: chain.NewGenesis("test", time.Unix(1000, 0)), Log: zap.NewNop()}
	h.Genesis.Resets = &chain.Resets{Mode: chain.Regenesis, Offset: 20}

	for i := range byte(2) {
		key := ed25519.NewKeyFromSeed(bytes.Repeat([]byte{i}, ed25519.SeedSize)).Public().(ed25519.PublicKey)
		set = append(set, comethome.Validator{PubKey: key, Power: 10})
		require.NoError(t, comethome.Carry(comethome.Dir(dir), h.Genesis, comethome.Genesis{Validators: set}))
		_, err := Kind{}.Open(h)
		if i == 0 {
			require.NoError(t, err)
			continue
		}
		require.ErrorIs(t, err, governance.ErrNotYet)
		require.Equal(t, consensus.Config, comethome.Class(err))
	}

	h.Genesis.Resets = nil
	_, err = Kind{}.Open(h)
	require.NoError(t, err)
}

// A peer that begins where the epoch does has the next block.
func TestThePeersOfAnEpochHaveItsFirstBlock(t *testing.T) {
	h := newHealth(nil)
	h.of(comethome.Genesis{InitialHeight: 80}, false)
	h.reported(child.Report{Peers: []child.Peer{{Height: 90, Base: 80}}})
	require.False(t, h.pruned())
	h.reported(child.Report{Peers: []child.Peer{{Height: 90, Base: 81}}})
	require.True(t, h.pruned())
}

// The manager of a node names the epoch that the chain is in, which is not that of its genesis.
func TestAManagerKnowsTheEpoch(t *testing.T) {
	r := idleResets()
	r.driver.health.enters(5)
	_, err := r.Hard(t.Context(), manager.Reset{PeriodCount: "5"})
	require.ErrorContains(t, err, "for epoch 5 is not rebuilt")
	_, err = r.Hard(t.Context(), manager.Reset{PeriodCount: "0"})
	require.ErrorContains(t, err, "names another epoch than that of this node, 5")
}
