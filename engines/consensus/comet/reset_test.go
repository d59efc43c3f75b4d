package comet

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
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
	"github.com/coppice-go/coppice/engines/chain"
	"github.com/coppice-go/coppice/engines/consensus"
	"github.com/coppice-go/coppice/engines/consensus/comet/certificate"
	"github.com/coppice-go/coppice/engines/consensus/comet/child"
	"github.com/coppice-go/coppice/engines/consensus/comet/comettest"
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

// What the child of the old chain sends after the switch reaches nobody: its endpoint is closed
// before the next epoch begins. FinalizeBlock carries no chain id, so without that a block of the
// old child would become one of the new chain, as the planted mistake shows. Item 51.
func TestABlockOfTheOldChildAfterTheSwitchIsRefused(t *testing.T) {
	for _, m := range []mistake{"", oldChildServed} {
		c := newFakeCore()
		s, path := served(t, c)
		s.app.mistake, s.app.holds = m, make(chan struct{}, 1)
		first := s.now
		old := dial(t, path)
		begin(t, old)
		for _, b := range []comettest.Block{block(1, "reset=1"), block(2)} {
			_, err := old.FinalizeBlock(b)
			require.NoError(t, err)
			_, err = old.Commit()
			require.NoError(t, err)
		}

		s.close() // as the end of the old chain does
		reset, err := c.Reset(t.Context(), chain.Renewal{})
		require.NoError(t, err)
		path, err = s.open()
		require.NoError(t, err)
		child := dial(t, path)
		require.Zero(t, height(t, child))
		_, err = child.InitChain("test-1", 21, nil, time.Unix(0, reset.GenesisTimeNs))
		require.NoError(t, err)

		_, err = old.FinalizeBlock(block(21, "old=1"))
		if m == "" {
			require.Error(t, err)
			require.Nil(t, c.decided)
			_, err = child.FinalizeBlock(block(21, "new=1"))
			require.NoError(t, err)
		} else {
			require.NoError(t, err, "the planted mistake")
			require.Equal(t, "test-1", c.decided.ChainID)
			own := block(21, "new=1")
			own.Hash = []byte("block 21 of the new chain")
			_, err = child.FinalizeBlock(own)
			require.Error(t, err, "the planted mistake has another block in the place of the chain's own")
			first.close()
			s.app.mistake = ""
		}
	}
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
		_, err = certificate.Decode(b)
		require.NoError(t, err, "epoch %d", e)
	}

	// A light client that trusts block 1 of epoch 0 goes over all resets (item 42). The first block
	// of the newest epoch is kept as soon as there is one.
	require.Eventually(t, func() bool {
		b, err := comethome.FirstBlock.Read(home, epoch)
		return err == nil && b != nil
	}, time.Minute, 10*time.Millisecond)
	epochs, err := certificate.Load(comethome.CertificateDir(home))
	require.NoError(t, err)
	require.EqualValues(t, 1, epochs[0].First.Height)
	begins, err := certificate.Client{}.Carry(certificate.Trust{Block: epochs[0].First}, epochs)
	require.NoError(t, err)
	require.Len(t, begins, int(epoch))

	relay := httptest.NewServer(&httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(&url.URL{Scheme: "http", Host: "comet"}) },
		Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", rpcSocket(comethome.SocketDir(home)))
		}, DisableKeepAlives: true},
	})
	defer relay.Close()
	newest, err := certificate.Client{}.Newest(t.Context(), begins[len(begins)-1], relay.URL)
	require.NoError(t, err)
	require.Equal(t, fmt.Sprintf("test-%d", epoch), newest.Block.ChainID)
	_, err = certificate.Client{}.Newest(t.Context(), begins[0], relay.URL)
	require.Error(t, err, "the newest block is of another epoch")
	require.NoError(t, verifyProofs(home, "test"))
	require.ErrorIs(t, verifyProofs(home, "another"), comethome.ErrChainDamage)

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
	require.Nil(t, h.Condition().Hold)
	quiet := h.Condition()

	s := chain.State{Period: 2, Height: 7, Reset: &chain.Reset{Epoch: 2, Height: 7, Offset: 20}}
	h.holds(true)
	h.resets(s)
	begun := h.Condition()
	require.Equal(t, consensus.Ready, begun.State, begun.Reason)
	require.Equal(t, consensus.ResetHold{Epoch: 2, Height: 7, Since: now, Step: stepDecided,
		Text: stepTexts[stepDecided]}, *begun.Hold)
	require.False(t, begun.Like(quiet), "an event reports that the hold has begun")

	s.Height = 8
	h.resets(s)
	h.step(stepCertified)
	h.resets(s) // a restart of the process repeats it
	require.Equal(t, stepCertified, h.Condition().Hold.Step)
	require.True(t, begun.Like(h.Condition()))

	now = now.Add(holdMost)
	long := h.Condition()
	require.Equal(t, consensus.Starting, long.State)
	require.Contains(t, long.Reason, "in hold for 3s, since the decision on a reset at height 7 of epoch 2: "+
		"the certificate is written")
	require.True(t, long.Hold.Long)
	require.False(t, long.Like(begun))
	require.True(t, h.isHeld())

	h.pause = time.Minute // half of it is longer
	require.False(t, h.Condition().Hold.Long)

	// The next epoch has started, without a block. Then the hold is over.
	h.holds(false)
	h.resets(chain.State{Period: 3, Reset: s.Reset})
	require.Equal(t, stepStarted, h.Condition().Hold.Step)
	h.step(stepOrdered)
	require.Contains(t, h.Condition().Hold.String(), "step 11 of 12, the first block of the next epoch is decided")
	h.resets(chain.State{Period: 3, Height: 27})
	h.step(stepOrdered)
	require.Nil(t, h.Condition().Hold)
	require.Equal(t, consensus.Ready, h.Condition().State, h.Condition().Reason)

	h.ended(0, "")
	h.renews(errors.New("no space left on device"))
	require.Equal(t, consensus.ConsensusDown, h.Condition().State)
	require.Contains(t, h.Condition().Reason, "cannot begin yet: no space left on device")
	h.renews(nil)
	require.NotContains(t, h.Condition().Reason, "cannot begin yet")
}

// A node of several validators does not start without the addresses of the others, if the chain can
// be reset.
func TestResetsOfSeveralValidatorsNeedPeers(t *testing.T) {
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
		require.ErrorContains(t, err, "reset.peers is empty")
		require.Equal(t, consensus.Config, comethome.Class(err))
	}

	h.Peers = []string{"127.0.0.1:7070"}
	_, err = Kind{}.Open(h)
	require.NoError(t, err)
	h.Peers, h.Genesis.Resets = nil, nil
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
	r.driver.Home = newNetwork(t, 1)[0].home
	require.NoError(t, r.checkHard(manager.Reset{PeriodCount: "5"}))
	err := r.checkHard(manager.Reset{PeriodCount: "0"})
	require.ErrorContains(t, err, "names another epoch than that of this node, 5")
}
