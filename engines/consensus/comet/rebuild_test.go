package comet

import (
	"context"
	"encoding/json"
	"errors"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/cometbft/cometbft/types"
	"github.com/stretchr/testify/require"

	"github.com/coppice-go/coppice/engines/chain"
	"github.com/coppice-go/coppice/engines/consensus/comet/bootstrap"
	"github.com/coppice-go/coppice/engines/consensus/comet/child"
	comethome "github.com/coppice-go/coppice/engines/consensus/comet/home"
	"github.com/coppice-go/coppice/engines/consensus/comet/manager"
	"github.com/coppice-go/coppice/supervisor"
)

// height returns the height of a member's state.
func (m *member) height() uint64 {
	m.core.mu.Lock()
	defer m.core.mu.Unlock()
	return m.core.state.Height
}

// state returns a member's state.
func (m *member) state() chain.State {
	m.core.mu.Lock()
	defer m.core.mu.Unlock()
	return m.core.state
}

// past waits until a member's state is past a height.
func (m *member) past(t *testing.T, height uint64) {
	t.Helper()
	m.core.await(t, func() bool { return m.core.state.Height > height })
}

// network starts n validators, and returns them with their runs once each has committed a few
// blocks.
func network(t *testing.T, n int) (all []*member, runs []*supervisor.Run) {
	t.Helper()
	all = newNetwork(t, n)
	for _, m := range all {
		m.manager = freePort(t)
		runs = append(runs, m.start(t))
	}
	for _, m := range all {
		m.past(t, 3)
	}
	return all, runs
}

// reset asks the member's manager for a reset.
func (m *member) reset(t *testing.T, path string) (bool, string) {
	t.Helper()
	a := call(t, "GET", "http://"+m.manager+path, "")
	return a["status"].(bool), a["message"].(string)
}

// signed returns the height of the member's signing state.
func (m *member) signed(t *testing.T) int64 {
	t.Helper()
	height, _, _, _, err := comethome.Signed(m.home)
	require.NoError(t, err)
	return height
}

// files returns the parts of a home that a rebuild keeps.
func (m *member) files(t *testing.T) map[string]string {
	t.Helper()
	all := make(map[string]string)
	for _, name := range []string{"config/genesis.json", "config/node_key.json", "config/priv_validator_key.json",
		"config/config.toml"} {
		data, err := os.ReadFile(filepath.Join(m.home, name))
		require.NoError(t, err)
		all[name] = string(data)
	}
	return all
}

// A hard reset of a node of ours with the present epoch rebuilds CometBFT's data where the node's
// own state is. Genesis, keys and state stay, the chain goes on, and the validator signs again.
// Items 5, 20, 36.
func TestAHardResetOfOurNodeRebuildsTheDataOfCometBFT(t *testing.T) {
	all, _ := network(t, 4)
	m := all[3]
	kept, was := m.files(t), m.height()

	ok, text := m.reset(t, "/hard_reset?period_count=1")
	require.False(t, ok)
	require.Contains(t, text, "names another epoch than that of this node, 0")
	require.Contains(t, text, "nothing was changed")
	ok, text = m.reset(t, "/hard_reset?initial_height=7")
	require.False(t, ok)
	require.Contains(t, text, "initial_height 7 is not that of the genesis, 1")
	ok, text = m.reset(t, "/hard_reset?genesis_time="+url.QueryEscape("2026-01-31T12:00:00Z"))
	require.False(t, ok)
	require.Contains(t, text, "is not that of the genesis")

	ok, text = m.reset(t, "/hard_reset?period_count=0")
	require.True(t, ok, text)
	require.Contains(t, text, "The data of CometBFT was rebuilt")
	require.Equal(t, kept, m.files(t))
	require.GreaterOrEqual(t, m.height(), was)
	require.NoFileExists(t, filepath.Join(m.home, "rebuild.json"))

	m.past(t, m.height()+3)
	var lines []string
	for _, e := range m.logs.All() {
		lines = append(lines, e.Message)
	}
	require.Subset(t, lines, []string{"Removed existing address book", "Removed all blockchain history"})
	requireOrder(t, lines, "Monitoring thread terminated", "Tendermint process stopped",
		"Removed existing address book", "Removed all blockchain history", "Kept private validator state",
		"Tendermint process started", "Monitoring thread started")
	require.NotContains(t, lines, manager.SayDropped, "a planned stop (item 30)")

	status := call(t, "GET", "http://"+m.manager+"/status", "")
	require.EqualValues(t, 1, status["resets"])

	// The validator takes part again: its peers need its votes once another one is gone.
	signed := m.signed(t)
	ok, text = all[0].reset(t, "/hard_reset")
	require.True(t, ok, text)
	require.Eventually(t, func() bool { return m.signed(t) > signed+3 }, time.Minute, 50*time.Millisecond)
}

// A chain that needs the validator does not make the block that proves its state. The reset is
// refused, and the chain goes on. Item 20.
func TestAValidatorWithoutPeersAheadKeepsItsData(t *testing.T) {
	m := newNetwork(t, 1)[0]
	m.manager = freePort(t)
	m.start(t)
	m.past(t, 2)

	ok, text := m.reset(t, "/hard_reset")
	require.False(t, ok)
	require.Contains(t, text, "no peer is connected whose RPC can be reached")
	require.Contains(t, text, "nothing was changed")
	require.NoFileExists(t, filepath.Join(m.home, "rebuild.json"))
	m.past(t, m.height()+2)
}

// A home without CometBFT's data ends the start. With an order, which a command writes into the
// stopped home, the next start rebuilds the data and catches up.
func TestAStoppedHomeIsRebuiltByItsNextStart(t *testing.T) {
	all, runs := network(t, 4)
	m := all[3]
	require.NoError(t, runs[3].Stop(t.Context()))
	was := m.height()
	dirs, err := filepath.Glob(filepath.Join(m.home, "data", "*.db"))
	require.NoError(t, err)
	require.NotEmpty(t, dirs)
	for _, dir := range dirs {
		require.NoError(t, os.RemoveAll(dir))
	}
	all[0].past(t, was+2)

	err = comethome.Verify(t.Context(), m.home, m.state())
	require.ErrorIs(t, err, comethome.ErrChainData)
	require.ErrorContains(t, err, "coppice reset hard")

	_, rpc, err := comethome.Addresses(all[0].home)
	require.NoError(t, err)
	order := comethome.Rebuilding{ChainID: "test", By: "a test", From: []string{rpc}}
	require.NoError(t, order.Order(m.home))
	m.start(t)
	m.past(t, all[0].height())
	require.NoFileExists(t, filepath.Join(m.home, "rebuild.json"))
}

// A start after a crash at any point of a rebuild finishes it. The signing state is never moved.
// Item 20.
func TestARebuildThatIsCutShortIsFinished(t *testing.T) {
	all, runs := network(t, 4)
	m := all[3]
	_, rpc, err := comethome.Addresses(all[0].home)
	require.NoError(t, err)
	run := runs[3]

	for i, c := range []struct {
		name  string
		crash func(o *comethome.Rebuilding, b bootstrap.Base)
	}{
		{"a part is gone", func(*comethome.Rebuilding, bootstrap.Base) { m.remove(t, "state.db") }},
		{"one database is in", func(_ *comethome.Rebuilding, b bootstrap.Base) {
			m.rebuild(t, b)
			m.remove(t, "state.db")
		}},
		{"ordered", func(o *comethome.Rebuilding, _ bootstrap.Base) { o.Next, o.Proof = 0, nil }},
		{"written down", func(*comethome.Rebuilding, bootstrap.Base) {}},
		{"all is gone", func(*comethome.Rebuilding, bootstrap.Base) { m.remove(t, "*.db", "cs.wal") }},
		{"both are in", func(_ *comethome.Rebuilding, b bootstrap.Base) { m.rebuild(t, b) }},
		{"another height", func(o *comethome.Rebuilding, _ bootstrap.Base) { o.Next-- }},
	} {
		if i == 2 && os.Getenv("COPPICE_SOAK") == "" {
			t.Log("short form with two crashes; COPPICE_SOAK=1 runs them all")
			break
		}
		name, crash := c.name, c.crash
		require.NoError(t, run.Stop(t.Context()))
		was, signed := m.state(), m.signed(t)
		all[0].past(t, was.Height+1)

		b := m.base(t, was, rpc)
		proof, err := b.Encode()
		require.NoError(t, err)
		order := &comethome.Rebuilding{ChainID: "test", By: name, From: []string{rpc}, Next: was.Height + 1,
			Proof: proof}
		crash(order, b)
		require.NoError(t, order.Order(m.home))
		require.Equal(t, signed, m.signed(t), name)

		run = m.start(t)
		m.past(t, all[0].height())
		require.NoFileExists(t, filepath.Join(m.home, "rebuild.json"), name)
		require.GreaterOrEqual(t, m.signed(t), signed, name)
		require.NotEmpty(t, m.logs.FilterMessageSnippet("the data of CometBFT was rebuilt").All(), name)
	}
}

// CometBFT's data that begins at a state is usable before its first block, also after a kill, and
// passes the checks of a stopped home.
func TestARebuiltHomeIsVerifiedBeforeItsFirstBlock(t *testing.T) {
	all, runs := network(t, 4)
	m := all[3]
	_, rpc, err := comethome.Addresses(all[0].home)
	require.NoError(t, err)
	require.NoError(t, runs[3].Stop(t.Context()))
	was := m.state()
	all[0].past(t, was.Height+1)
	m.rebuild(t, m.base(t, was, rpc))

	require.NoError(t, comethome.Verify(t.Context(), m.home, was))
	require.NoError(t, child.Verify(m.home))

	// Without peers the node stays where it is. A kill then finds it without the mark that CometBFT
	// removes at each start.
	for _, r := range runs[:3] {
		require.NoError(t, r.Stop(t.Context()))
	}
	run := m.start(t)
	m.up(t)
	require.NoError(t, run.Stop(t.Context()))
	m.start(t)
	m.up(t)
	for _, o := range all[:3] {
		o.start(t)
	}
	m.past(t, was.Height+3)
}

// What peers say about the base is believed only if it proves itself.
func TestABaseThatProvesNothingIsRefused(t *testing.T) {
	all, runs := network(t, 4)
	m := all[3]
	_, rpc, err := comethome.Addresses(all[0].home)
	require.NoError(t, err)
	m.past(t, 2) // a signing state of height 1 is then behind it
	require.NoError(t, runs[3].Stop(t.Context()))
	was := m.state()
	all[0].past(t, was.Height+3)
	good := m.base(t, was, rpc)
	later := was
	later.Height++

	other := was
	other.BlockHash = []byte("another")
	require.ErrorContains(t, good.Check(other, m.home), "the home's own data has")
	other = was
	other.AppHash = []byte("another")
	require.ErrorContains(t, good.Check(other, m.home), "has app hash")
	other = was
	other.ChainID = "another"
	require.ErrorContains(t, good.Check(other, m.home), "another")

	for name, spoil := range map[string]func(*bootstrap.Base){
		"another block": func(b *bootstrap.Base) { b.Next = b.Last },
		"no quorum": func(b *bootstrap.Base) {
			h := *b.Next
			commit := *h.Commit
			commit.Signatures = append(commit.Signatures[:0:0], commit.Signatures...)
			for i := range 2 {
				commit.Signatures[i].BlockIDFlag, commit.Signatures[i].Signature = 1, nil
				commit.Signatures[i].ValidatorAddress, commit.Signatures[i].Timestamp = nil, time.Time{}
			}
			h.SignedHeader = &(*h.SignedHeader)
			signed := *h.SignedHeader
			signed.Commit = &commit
			h.SignedHeader = &signed
			b.Next = &h
		},
		"other validators": func(b *bootstrap.Base) {
			b.After = b.After.Copy()
			b.After.Validators[0].VotingPower++
			b.After.Validators = append(b.After.Validators[:0:0], b.After.Validators...)
		},
	} {
		b := good
		spoil(&b)
		require.Error(t, b.Check(was, m.home), name)
	}
	require.NoError(t, good.Check(was, m.home))

	// A peer that lies, or is gone, does not keep the others from being asked.
	dead, err := bootstrap.RPC(freePort(t))
	require.NoError(t, err)
	honest, err := bootstrap.RPC(rpc)
	require.NoError(t, err)
	_, err = bootstrap.Find(t.Context(), m.home, was, []bootstrap.Witness{dead, honest})
	require.NoError(t, err)
	_, err = bootstrap.Find(t.Context(), m.home, was, []bootstrap.Witness{dead})
	require.ErrorIs(t, err, bootstrap.ErrNone)

	// A signing state beyond the base wants a proof of that block. One that is behind it is lost.
	path := filepath.Join(m.home, "data", "priv_validator_state.json")
	state, err := os.ReadFile(path)
	require.NoError(t, err)
	m.sign(t, int64(was.Height)+3)
	_, err = bootstrap.Find(t.Context(), m.home, was, []bootstrap.Witness{honest})
	require.NoError(t, err)
	m.sign(t, 1<<40)
	_, err = bootstrap.Find(t.Context(), m.home, was, []bootstrap.Witness{honest})
	require.ErrorContains(t, err, "this validator has signed at height")
	m.sign(t, 1)
	_, err = bootstrap.Find(t.Context(), m.home, was, []bootstrap.Witness{honest})
	if m.votedIn(t, good.Last) || m.votedIn(t, good.Next) { // three of four suffice for a block
		require.ErrorContains(t, err, comethome.ErrSigningOld.Error())
	} else {
		require.NoError(t, err)
	}
	require.NoError(t, os.WriteFile(path, state, 0o600))
}

// An invalid order is named, and so is one of another chain withdrawn.
func TestAnOrderIsReadStrictly(t *testing.T) {
	home := t.TempDir()
	r, err := comethome.ReadRebuilding(home)
	require.NoError(t, err)
	require.Nil(t, r)
	for _, text := range []string{"", "{", "{}", `{"chain_id":"a","next":3}`, `{"chain_id":"a","proof":"AA=="}`} {
		require.NoError(t, os.WriteFile(filepath.Join(home, "rebuild.json"), []byte(text), 0o600))
		_, err := comethome.ReadRebuilding(home)
		require.ErrorIs(t, err, comethome.ErrHome, text)
		require.ErrorContains(t, err, "rebuild.json")
	}
}

// sign writes a signing state.
func (m *member) sign(t *testing.T, height int64) {
	t.Helper()
	editJSON(t, filepath.Join(m.home, "data", "priv_validator_state.json"), func(doc map[string]any) {
		doc["height"] = json.Number(itoa(uint64(height))).String()
	})
}

// votedIn reports whether the commit of a block has the member's signature.
func (m *member) votedIn(t *testing.T, l *types.LightBlock) bool {
	t.Helper()
	if l == nil {
		return false
	}
	id, err := comethome.ReadIdentity(m.home)
	require.NoError(t, err)
	return slices.ContainsFunc(l.Commit.Signatures, func(s types.CommitSig) bool {
		return s.BlockIDFlag != types.BlockIDFlagAbsent && s.ValidatorAddress.String() == id.Validator.Address
	})
}

// up waits until a CometBFT of the member is up.
func (m *member) up(t *testing.T) {
	t.Helper()
	limit := time.After(time.Minute)
	for m.logs.FilterMessageSnippet(child.UpLine).Len() == 0 {
		select {
		case <-m.changed:
		case <-limit:
			require.FailNow(t, "CometBFT is not up")
		}
	}
}

// base fetches a base for a state of the member.
func (m *member) base(t *testing.T, s chain.State, rpc string) bootstrap.Base {
	t.Helper()
	w, err := bootstrap.RPC(rpc)
	require.NoError(t, err)
	defer w.Close()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for {
		b, err := bootstrap.Find(ctx, m.home, s, []bootstrap.Witness{w})
		if err == nil {
			return b
		}
		if ctx.Err() != nil || !errors.Is(err, bootstrap.ErrNone) {
			require.NoError(t, err)
		}
		<-time.After(50 * time.Millisecond)
	}
}

// rebuild rebuilds the member's data without an order.
func (m *member) rebuild(t *testing.T, b bootstrap.Base) {
	t.Helper()
	require.NoError(t, b.Rebuild(m.home))
}

// remove removes parts of the member's data.
func (m *member) remove(t *testing.T, patterns ...string) {
	t.Helper()
	for _, p := range patterns {
		found, err := filepath.Glob(filepath.Join(m.home, "data", p))
		require.NoError(t, err)
		for _, path := range found {
			require.NoError(t, os.RemoveAll(path))
		}
	}
}

// requireOrder requires that lines contains lines with these beginnings in this order.
func requireOrder(t *testing.T, lines []string, want ...string) {
	t.Helper()
	for _, line := range lines {
		if len(want) > 0 && len(line) >= len(want[0]) && line[:len(want[0])] == want[0] {
			want = want[1:]
		}
	}
	require.Empty(t, want, "of %q", lines)
}
