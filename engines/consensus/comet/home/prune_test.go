package home

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	cfg "github.com/cometbft/cometbft/config"
	"github.com/cometbft/cometbft/crypto/ed25519"
	sm "github.com/cometbft/cometbft/state"
	"github.com/cometbft/cometbft/store"
	"github.com/cometbft/cometbft/types"
	"github.com/stretchr/testify/require"

	"github.com/coppice-go/coppice/engines/chain"
	"github.com/coppice-go/coppice/engines/consensus"
)

const testBlocks = 40

// testChain makes a home with a chain of testBlocks blocks, one in a minute. Evidence is judged by
// the params, and light clients trust for the period.
func testChain(t *testing.T, params types.EvidenceParams, trust time.Duration) (home string, c *cfg.Config) {
	t.Helper()
	home = filepath.Join(t.TempDir(), "comet")
	_, err := Init(home, Options{})
	require.NoError(t, err)
	c, err = LoadConfig(home)
	require.NoError(t, err)
	c.StateSync.TrustPeriod = trust
	require.NoError(t, writeConfig(home, c))

	key := ed25519.GenPrivKey()
	begin := time.Unix(1_700_000_000, 0).UTC()
	doc := &types.GenesisDoc{ChainID: "test", GenesisTime: begin, InitialHeight: 1,
		ConsensusParams: types.DefaultConsensusParams(),
		Validators:      []types.GenesisValidator{{PubKey: key.PubKey(), Power: 10}}}
	doc.ConsensusParams.Evidence = params
	require.NoError(t, doc.ValidateAndComplete())
	state, err := sm.MakeGenesisState(doc)
	require.NoError(t, err)

	withStores(t, c, func(states sm.Store, blocks *store.BlockStore) {
		require.NoError(t, states.Save(state))
		last := &types.Commit{}
		for h := int64(1); h <= testBlocks; h++ {
			block, err := state.MakeBlock(h, []types.Tx{[]byte(strings.Repeat(fmt.Sprint(h), 500))}, last, nil,
				key.PubKey().Address())
			require.NoError(t, err)
			parts, err := block.MakePartSet(types.BlockPartSizeBytes)
			require.NoError(t, err)
			id := types.BlockID{Hash: block.Hash(), PartSetHeader: parts.Header()}
			last = &types.Commit{Height: h, BlockID: id, Signatures: []types.CommitSig{{
				BlockIDFlag: types.BlockIDFlagCommit, ValidatorAddress: key.PubKey().Address(),
				Timestamp: begin.Add(time.Duration(h) * time.Minute), Signature: make([]byte, 64)}}}
			blocks.SaveBlock(block, parts, last)

			state.LastBlockHeight, state.LastBlockID, state.LastBlockTime = h, id, block.Time
			state.LastValidators = state.Validators.Copy()
			require.NoError(t, states.Save(state))
		}
	})

	return home, c
}

// withStores opens the stores of a home as CometBFT does.
func withStores(t *testing.T, c *cfg.Config, use func(sm.Store, *store.BlockStore)) {
	t.Helper()
	states, err := cfg.DefaultDBProvider(&cfg.DBContext{ID: stateDatabase, Config: c})
	require.NoError(t, err)
	blocks, err := cfg.DefaultDBProvider(&cfg.DBContext{ID: blockDatabase, Config: c})
	require.NoError(t, err)
	s, b := sm.NewStore(states, sm.StoreOptions{}), store.NewBlockStore(blocks)
	use(s, b)
	require.NoError(t, s.Close())
	require.NoError(t, b.Close())
}

// keeping are the options of a pruning that keeps the blocks from a height on.
func keeping(first uint64) consensus.PruneOptions {
	return consensus.PruneOptions{State: chain.State{ChainID: "test", Height: testBlocks},
		Holds: []consensus.Hold{{Name: "test", First: first}}, Progress: func(string, uint64, uint64) {}}
}

// noEvidence makes evidence expire at once.
var noEvidence = types.EvidenceParams{MaxAgeNumBlocks: 1, MaxAgeDuration: time.Nanosecond, MaxBytes: 1000}

// holds checks that a home has the blocks and the states from a height on, and none of those below,
// and the header, commit and validators from the height evidence on.
func requireKept(t *testing.T, c *cfg.Config, first, evidence int64) {
	t.Helper()
	withStores(t, c, func(states sm.Store, blocks *store.BlockStore) {
		require.EqualValues(t, first, blocks.Base())
		require.EqualValues(t, testBlocks, blocks.Height())
		for h := int64(1); h <= testBlocks; h++ {
			require.Equal(t, h >= first, blocks.LoadBlock(h) != nil, "block %d", h)
			require.Equal(t, h >= evidence, blocks.LoadBlockMeta(h) != nil, "header %d", h)
			if h < testBlocks {
				require.Equal(t, h >= evidence, blocks.LoadBlockCommit(h) != nil, "commit %d", h)
			}
			_, err := states.LoadValidators(h)
			if h >= evidence {
				require.NoError(t, err, "validators %d", h)
			}
			if _, err = states.LoadConsensusParams(h); h >= first {
				require.NoError(t, err, "params %d", h)
			}
		}
		require.NotNil(t, blocks.LoadSeenCommit(testBlocks))
	})
	require.NoFileExists(t, unfinishedPath(c))
}

func TestPruneRemovesBlocksAndStatesBelowTheHeight(t *testing.T) {
	home, c := testChain(t, noEvidence, 0)
	dry := keeping(30)
	dry.DryRun = true
	p, err := Prune(t.Context(), home, dry)
	require.NoError(t, err)
	require.EqualValues(t, []uint64{1, 30, testBlocks}, []uint64{p.First, p.Kept, p.Last})
	requireKept(t, c, 1, 1)

	p, err = Prune(t.Context(), home, keeping(30))
	require.NoError(t, err)
	require.EqualValues(t, []uint64{1, 30, testBlocks}, []uint64{p.First, p.Kept, p.Last})
	require.Equal(t, "test", p.Holds[0].Name)
	require.Zero(t, p.Evidence)
	require.Less(t, p.Sizes[0].After, p.Sizes[0].Before)
	requireKept(t, c, 30, 30)

	p, err = Prune(t.Context(), home, keeping(20))
	require.NoError(t, err)
	require.EqualValues(t, []uint64{30, 30, testBlocks}, []uint64{p.First, p.Kept, p.Last}, "nothing is left to remove")
	p, err = Prune(t.Context(), home, keeping(35))
	require.NoError(t, err)
	require.EqualValues(t, 35, p.Kept)
	requireKept(t, c, 35, 35)
	require.NoError(t, verifyChain(t.Context(), c, chain.State{Height: testBlocks, AppHash: nil}))
}

// Whatever is asked for, what a restart, evidence and light clients need stays, and is named.
func TestPruneKeepsWhatIsNeeded(t *testing.T) {
	for name, tc := range map[string]struct {
		evidence       types.EvidenceParams
		trust          time.Duration
		app            uint64
		first, headers int64
		holder         string
	}{
		"restart":                       {noEvidence, 0, testBlocks, testBlocks - 1, testBlocks - 1, holdRestart},
		"an application that is behind": {noEvidence, 0, 33, 32, 32, holdRestart},
		"light clients": {noEvidence, 10 * time.Minute, testBlocks, testBlocks - 10, testBlocks - 10,
			holdLight},
		"evidence, by time": {types.EvidenceParams{MaxAgeNumBlocks: 1, MaxAgeDuration: 15 * time.Minute}, 0, testBlocks,
			testBlocks - 1, testBlocks - 15, holdRestart},
		"evidence, by blocks": {types.EvidenceParams{MaxAgeNumBlocks: 20, MaxAgeDuration: time.Minute}, 0, testBlocks,
			testBlocks - 1, testBlocks - 20, holdRestart},
	} {
		t.Run(name, func(t *testing.T) {
			home, c := testChain(t, tc.evidence, tc.trust)
			o := keeping(testBlocks)
			o.State.Height = tc.app
			p, err := Prune(t.Context(), home, o)
			require.NoError(t, err)
			require.EqualValues(t, tc.first, p.Kept)
			require.Equal(t, tc.holder, p.Holds[0].Name)
			if tc.headers < tc.first {
				require.EqualValues(t, tc.headers, p.Evidence)
			}
			requireKept(t, c, tc.first, tc.headers)
		})
	}
}

// A pruning that is cut between the blocks and the states leaves a home that verifies. The next one
// removes the states that were left, even if the node has gone on and pruned blocks meanwhile, and
// leaves the validators that evidence needs.
func TestAPruningThatIsCutShortIsCompleted(t *testing.T) {
	params := types.EvidenceParams{MaxAgeNumBlocks: 1, MaxAgeDuration: 15 * time.Minute}
	for name, between := range map[string]func(sm.Store, *store.BlockStore){
		"at once": func(sm.Store, *store.BlockStore) {},
		"after the node has pruned by itself": func(states sm.Store, blocks *store.BlockStore) {
			state, err := states.Load()
			require.NoError(t, err)
			base := blocks.Base()
			_, headers, err := blocks.PruneBlocks(base+3, state)
			require.NoError(t, err)
			require.NoError(t, states.PruneStates(base, base+3, headers))
		},
	} {
		t.Run(name, func(t *testing.T) {
			home, c := testChain(t, params, 0)
			ctx, cut := context.WithCancelCause(t.Context())
			end := errors.New("cut")
			o := keeping(30)
			o.Progress = func(step string, _, _ uint64) {
				if step == "blocks" {
					cut(end)
				}
			}
			_, err := Prune(ctx, home, o)
			require.ErrorIs(t, err, end)
			require.FileExists(t, unfinishedPath(c))
			require.NoError(t, verifyChain(t.Context(), c, o.State))
			withStores(t, c, func(states sm.Store, blocks *store.BlockStore) {
				require.EqualValues(t, 30, blocks.Base())
				_, err := states.LoadConsensusParams(5)
				require.NoError(t, err, "the states are left")
				between(states, blocks)
			})

			p, err := Prune(t.Context(), home, keeping(20))
			require.NoError(t, err)
			requireKept(t, c, int64(p.Kept), testBlocks-15)
			withStores(t, c, func(states sm.Store, blocks *store.BlockStore) {
				_, err := states.LoadConsensusParams(5)
				require.Error(t, err)
				_, err = states.LoadValidators(testBlocks - 16)
				require.Error(t, err)
			})
		})
	}
}

func TestAnUnreadableNoteOfAPruningIsNamed(t *testing.T) {
	home, c := testChain(t, noEvidence, 0)
	require.NoError(t, os.WriteFile(unfinishedPath(c), []byte(`{"from": "soon"}`), 0o600))
	_, err := Prune(t.Context(), home, keeping(30))
	require.ErrorIs(t, err, ErrHome)
	require.ErrorContains(t, err, unfinishedFile)
	requireUnpruned := func() {
		withStores(t, c, func(_ sm.Store, blocks *store.BlockStore) { require.EqualValues(t, 1, blocks.Base()) })
	}
	requireUnpruned()
}

// Compact keeps the content of every database and names its size; a context that has ended stops
// it, and the databases stay whole.
func TestCompactKeepsTheContent(t *testing.T) {
	home, c := testChain(t, noEvidence, 0)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := Compact(ctx, home, func(string, uint64, uint64) {})
	require.ErrorIs(t, err, context.Canceled)

	before, err := contents(databaseDir(c, blockDatabase))
	require.NoError(t, err)
	sizes, err := Compact(t.Context(), home, func(string, uint64, uint64) {})
	require.NoError(t, err)
	require.Len(t, sizes, 2)
	require.Equal(t, blockDatabase+databaseSuffix, sizes[0].Name)
	require.NotZero(t, sizes[0].Before)
	after, err := contents(databaseDir(c, blockDatabase))
	require.NoError(t, err)
	require.Equal(t, before, after)
	require.NoError(t, verifyDatabase(t.Context(), databaseDir(c, blockDatabase)))
}

// A full disk is not damage, and neither is any other error of the operating system.
func TestAnErrorOfTheSystemIsNotDamage(t *testing.T) {
	for _, system := range []error{syscall.ENOSPC, syscall.EMFILE, syscall.EIO} {
		err := damaged("blockstore.db", &os.PathError{Op: "write", Path: "MANIFEST-000009", Err: system})
		require.NotErrorIs(t, err, ErrChainDamage)
		require.ErrorIs(t, err, system)
		require.ErrorContains(t, err, "blockstore.db")
		require.NotContains(t, err.Error(), Cure)
	}
	require.ErrorIs(t, damaged("blockstore.db", errors.New("leveldb: corrupted")), ErrChainDamage)
	require.ErrorIs(t, damaged("blockstore.db", &os.PathError{Op: "open", Path: "CURRENT", Err: syscall.ENOENT}),
		ErrChainDamage)

	err := signingError("state.json", &os.PathError{Op: "open", Path: "state.json", Err: syscall.EMFILE})
	require.NotErrorIs(t, err, ErrSigning)
	require.ErrorIs(t, err, syscall.EMFILE)
	for _, lost := range []error{fs.ErrNotExist, errors.New("unexpected end of JSON input")} {
		require.ErrorIs(t, signingError("state.json", lost), ErrSigning)
	}
}
