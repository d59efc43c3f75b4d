package bare

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cometbft/cometbft/crypto/ed25519"
	"github.com/cometbft/cometbft/privval"
	cmtproto "github.com/cometbft/cometbft/proto/tendermint/types"
	"github.com/cometbft/cometbft/types"
	"github.com/stretchr/testify/require"

	comethome "github.com/coppice-go/coppice/engines/consensus/comet/home"
)

// newHome returns the home of a validator, alone or among two.
func newHome(t testing.TB, alone bool) *Home {
	t.Helper()
	h, err := Open(filepath.Join(t.TempDir(), "tm"))
	require.NoError(t, err)
	if alone {
		return h
	}

	g, err := comethome.ReadGenesis(h.dir)
	require.NoError(t, err)
	g.Validators = append(g.Validators, comethome.Validator{Name: "other", Power: 10,
		PubKey: ed25519.GenPrivKeyFromSecret([]byte("other")).PubKey().Bytes()})
	require.NoError(t, comethome.WriteGenesis(h.dir, g))

	return h
}

// signer returns CometBFT's own signer, as a start reads it.
func (h *Home) signer(t require.TestingT) *privval.FilePV {
	c, err := h.Config()
	require.NoError(t, err)
	return privval.LoadFilePV(c.PrivValidatorKeyFile(), c.PrivValidatorStateFile())
}

// votes are the votes that a key has signed, by chain, height, round and type.
type votes map[string]string

// sign has a signer sign a vote for a block, and returns an error if it has signed another one for
// the same place.
func (v votes) sign(pv *privval.FilePV, chainID string, height int64, round int32, block byte) error {
	hash := make([]byte, 32)
	hash[0] = block
	vote := &cmtproto.Vote{Type: cmtproto.PrecommitType, Height: height, Round: round,
		ValidatorAddress: pv.GetAddress(), BlockID: cmtproto.BlockID{Hash: hash,
			PartSetHeader: cmtproto.PartSetHeader{Total: 1, Hash: hash}}}
	if pv.SignVote(chainID, vote) != nil {
		return nil // it refuses: that is what the state is for
	}

	place := fmt.Sprintf("%s/%d/%d", chainID, height, round)
	if was, ok := v[place]; ok && was != string(hash) {
		return fmt.Errorf("two votes for %s", place)
	}
	v[place] = string(hash)

	return nil
}

// histories is the number of random histories of a test.
const histories = 8

// history makes hard resets to chain ids that return, with all kinds of initial heights, and signs
// votes as consensus would: up to some height, for blocks that differ from chain to chain. It is
// item 35 of the checklist for one key. reset makes the reset.
func history(t *testing.T, r *rand.Rand, h *Home, reset func(p Period) error) error {
	signed := votes{}
	doc, err := h.Genesis()
	require.NoError(t, err)
	chainID, height := doc.ChainID, int64(1)

	for step := range 3 + r.IntN(4) {
		pv := h.signer(t)
		for range r.IntN(6) {
			if err := signed.sign(pv, chainID, height, 0, byte(step)); err != nil {
				return err
			}
			height++
		}

		chainID = fmt.Sprintf("autonolas-%d", r.IntN(3))
		height = int64(1 + r.IntN(12))
		if err := reset(Period{InitialHeight: fmt.Sprint(height), ChainID: chainID}); err != nil {
			return err
		}
	}

	return nil
}

// Item 35: no key signs two votes for one place, whatever resets are made.
func TestNoKeySignsTwiceWhateverResetsAreMade(t *testing.T) {
	for range histories {
		seed := rand.Uint64()
		h := newHome(t, false)
		err := history(t, rand.New(rand.NewPCG(seed, 0)), h, func(p Period) error { return h.Reset(p, silent{}) })
		require.NoError(t, err, "seed %d", seed)
	}
}

// Item 35, the defect: with the signing state zeroed at each reset, as the original does it, the
// same history has two votes for one place.
func TestWithTheStateZeroedTheSameHistorySignsTwice(t *testing.T) {
	twice := false
	for seed := range uint64(histories) {
		h := newHome(t, false)
		err := history(t, rand.New(rand.NewPCG(seed, 0)), h, func(p Period) error {
			err := h.Reset(p, silent{})
			require.NoError(t, os.WriteFile(filepath.Join(h.dir, "data", comethome.SigningStateFile), zero(), 0o600))
			return err
		})
		twice = twice || err != nil
	}
	require.True(t, twice)
}

// The state of a chain whose genesis was replaced by other means than a reset is kept, too.
func TestAGenesisThatWasReplacedSwitchesTheSigningState(t *testing.T) {
	h := newHome(t, false)
	_, err := h.ForStart()
	require.NoError(t, err)
	g, err := comethome.ReadGenesis(h.dir)
	require.NoError(t, err)
	require.NoError(t, votes{}.sign(h.signer(t), g.ChainID, 9, 0, 1))

	first := g.ChainID
	for _, c := range []struct {
		chain string
		want  Signing
	}{{"other", Signing{Zeroed: true}}, {first, Signing{Returned: true, Height: 9, Waits: true}},
		{first, Signing{Height: 9}}} {
		g.ChainID = c.chain
		require.NoError(t, comethome.WriteGenesis(h.dir, g))
		s, err := h.ForStart()
		require.NoError(t, err)
		require.Equal(t, c.want, s, c.chain)
	}
}

// A kept state is never replaced by one that is not as far.
func TestAKeptStateOnlyGoesForward(t *testing.T) {
	k := kept{dir: filepath.Join(t.TempDir(), "kept", "key")}
	state := func(height, round, step int) []byte {
		return fmt.Appendf(nil, `{"height":"%d","round":%d,"step":%d}`, height, round, step)
	}
	for _, s := range []struct {
		state []byte
		want  []byte
	}{{state(5, 1, 2), state(5, 1, 2)}, {state(5, 1, 1), state(5, 1, 2)}, {state(5, 0, 3), state(5, 1, 2)},
		{state(4, 9, 3), state(5, 1, 2)}, {zero(), state(5, 1, 2)}, {state(5, 1, 3), state(5, 1, 3)},
		{state(5, 2, 1), state(5, 2, 1)}, {state(6, 0, 1), state(6, 0, 1)}} {
		require.NoError(t, k.keep("../chain", s.state))
		got, _, err := k.of("../chain")
		require.NoError(t, err)
		require.Equal(t, string(s.want), string(got))
	}
	entries, err := os.ReadDir(k.dir) // whatever a chain is called, its file stays there
	require.NoError(t, err)
	require.Len(t, entries, 1)
}

// A signing state that is damaged or lost is never replaced by an empty one.
func TestADamagedSigningStateStopsAReset(t *testing.T) {
	for name, damage := range map[string]func(path string) error{
		"lost":   os.Remove,
		"torn":   func(path string) error { return os.WriteFile(path, []byte(`{"height":`), 0o600) },
		"zeroed": func(path string) error { return os.Truncate(path, 0) },
	} {
		h := newHome(t, false)
		require.NoError(t, damage(filepath.Join(h.dir, "data", comethome.SigningStateFile)), name)
		require.ErrorIs(t, h.Reset(Period{InitialHeight: "1", ChainID: "next"}, silent{}), comethome.ErrSigning, name)
		_, err := h.ForStart()
		require.ErrorIs(t, err, comethome.ErrSigning, name)
	}
}

// killer ends a reset after some of its steps, as a SIGKILL does.
type killer struct{ left int }

func (k *killer) step() {
	if k.left--; k.left == 0 {
		panic("killed")
	}
}

func (k *killer) AddressBookRemoved() { k.step() }
func (k *killer) HistoryRemoved()     { k.step() }
func (k *killer) Signing(Signing)     { k.step() }

// A reset that was killed after any of its steps, once or twice in a row, is finished by the next
// start.
func TestAResetThatWasKilledIsFinished(t *testing.T) {
	for first := range 3 {
		for second := range 4 {
			h := newHome(t, false)
			require.NoError(t, os.MkdirAll(filepath.Join(h.dir, "data", "blockstore.db"), 0o700))
			g, err := h.Genesis()
			require.NoError(t, err)
			require.NoError(t, votes{}.sign(h.signer(t), g.ChainID, 9, 0, 1))

			p := Period{InitialHeight: "3", ChainID: "autonolas-1", GenesisTime: "2026-01-31T12:00:00Z"}
			require.Panics(t, func() { _ = h.Reset(p, &killer{first + 1}) })
			if second > 0 {
				require.Panics(t, func() { _ = h.reset(p, &killer{second}) })
			}

			h, err = Open(h.dir)
			require.NoError(t, err)
			doc, err := h.Genesis()
			require.NoError(t, err)
			require.Equal(t, "autonolas-1", doc.ChainID)
			require.EqualValues(t, 3, doc.InitialHeight)
			require.NoDirExists(t, filepath.Join(h.dir, "data", "blockstore.db"))
			require.NoFileExists(t, h.note())
			s, err := h.ForStart()
			require.NoError(t, err)
			require.Zero(t, s.Height)

			// The old chain's state is kept.
			p.ChainID = g.ChainID
			require.NoError(t, h.Reset(p, silent{}))
			s, err = h.ForStart()
			require.NoError(t, err)
			require.Equal(t, Signing{Height: 9}, s)
		}
	}
}

// A db_dir that contains keys or configuration is refused before anything is removed.
func TestAResetRemovesNoKeys(t *testing.T) {
	h := newHome(t, true)
	for _, dir := range []string{".", "config", "..", "../.."} {
		require.NoError(t, comethome.EditConfig(h.dir, comethome.Text("", "db_dir", dir)))
		err := h.Check(Period{InitialHeight: "1", ChainID: "next"})
		require.ErrorContains(t, err, "which a reset must not remove", dir)
		require.Error(t, h.Reset(Period{InitialHeight: "1", ChainID: "next"}, silent{}))
	}
	_, err := IdentityOf(h.dir)
	require.NoError(t, err)
}

// The home of one of our nodes is refused: without its blocks its state could not go on.
func TestTheHomeOfANodeIsRefused(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "coppice.toml"), nil, 0o600))
	_, err := Open(comethome.Dir(dir))
	require.ErrorContains(t, err, "belongs to the node in "+dir)
	require.NoDirExists(t, comethome.Dir(dir))
}

// A home that lacks a file is not made anew: new keys would make it another validator.
func TestAHomeThatLacksAFileIsNotMadeAnew(t *testing.T) {
	for _, name := range []string{"config.toml", "genesis.json"} {
		h := newHome(t, true)
		require.NoError(t, os.Remove(filepath.Join(h.dir, "config", name)))
		_, err := Open(h.dir)
		require.ErrorContains(t, err, name)
	}
}

// The file of a genesis keeps what a reset does not name.
func TestAResetKeepsTheRestOfTheGenesis(t *testing.T) {
	h := newHome(t, true)
	path := comethome.GenesisPath(h.dir)
	data, err := os.ReadFile(path)
	require.NoError(t, err)
	data = []byte(strings.Replace(string(data), `"app_hash": ""`,
		`"app_hash": "", "app_state": {"a": 1}, "of": "others"`, 1))
	require.NoError(t, os.WriteFile(path, data, 0o600))

	require.NoError(t, h.Reset(Period{InitialHeight: "0", ChainID: "next"}, silent{}))
	data, err = os.ReadFile(path)
	require.NoError(t, err)
	require.Contains(t, string(data), `"of": "others"`)
	doc, err := types.GenesisDocFromJSON(data)
	require.NoError(t, err)
	require.JSONEq(t, `{"a":1}`, string(doc.AppState))
}
