package cometclients

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	cfg "github.com/cometbft/cometbft/config"
	"github.com/cometbft/cometbft/p2p"
	"github.com/cometbft/cometbft/privval"
	cmtproto "github.com/cometbft/cometbft/proto/tendermint/types"
	"github.com/cometbft/cometbft/types"
	"github.com/stretchr/testify/require"

	"github.com/coppice-go/coppice/engines/consensus/comet"
	comethome "github.com/coppice-go/coppice/engines/consensus/comet/home"
	"github.com/coppice-go/coppice/node/config"
	"github.com/coppice-go/coppice/node/exit"
	"github.com/coppice-go/coppice/node/home"
)

// signedTo is the height up to which the validator of foreignHome has signed.
const signedTo = 7

// foreignHome returns a CometBFT home as "cometbft init" makes it. Its validator has signed a
// prevote at signedTo.
func foreignHome(t *testing.T) (dir string, c *cfg.Config, doc *types.GenesisDoc) {
	t.Helper()
	dir = t.TempDir()
	cfg.EnsureRoot(dir)
	c = cfg.DefaultConfig().SetRoot(dir)
	pv := privval.GenFilePV(c.PrivValidatorKeyFile(), c.PrivValidatorStateFile())
	pv.Save()
	_, err := p2p.LoadOrGenNodeKey(c.NodeKeyFile())
	require.NoError(t, err)
	key, err := pv.GetPubKey()
	require.NoError(t, err)
	doc = &types.GenesisDoc{
		ChainID: "foreign", GenesisTime: time.Now().Add(-time.Minute), ConsensusParams: types.DefaultConsensusParams(),
		Validators: []types.GenesisValidator{{Address: key.Address(), PubKey: key, Power: 10}},
	}
	require.NoError(t, doc.SaveAs(c.GenesisFile()))
	require.NoError(t, pv.SignVote("foreign",
		&cmtproto.Vote{Type: cmtproto.PrevoteType, Height: signedTo, Timestamp: time.Now()}))

	configure(t, filepath.Join(dir, "config", "config.toml"), "127.0.0.1:26657", freePort(t), "0.0.0.0:26656",
		"127.0.0.1:0", `timeout_commit = "1s"`, `timeout_commit = "0s"`)

	return dir, c, doc
}

func importHome(dir, homeDir string) error {
	_, err := home.Init(homeDir, home.InitOptions{
		Listen:    "127.0.0.1:0",
		Set:       []config.Assignment{{Key: "consensus.kind", Value: comet.Name, Flag: "--consensus"}},
		Consensus: comet.InitOptions{Import: dir},
	})
	return err
}

// Import copies keys, signing state, configuration and genesis. It refuses a home with which the
// validator could not continue, with the reason, and then makes nothing.
func TestAHomeOfCometBFTIsImported(t *testing.T) {
	dir, c, doc := foreignHome(t)
	homeDir := filepath.Join(t.TempDir(), "home")
	refused := func(why string) {
		t.Helper()
		err := importHome(dir, homeDir)
		require.ErrorIs(t, err, exit.ErrConfig)
		require.ErrorContains(t, err, why)
		_, err = os.Stat(comethome.Dir(homeDir))
		require.ErrorIs(t, err, os.ErrNotExist, "nothing was made")
	}

	refused("the only one of chain foreign and has signed up to height 7, and blocks are not imported: it would " +
		"refuse to sign these heights again")

	doc.ChainID, doc.InitialHeight = "foreign-2", signedTo+1
	doc.AppState = []byte(`{"accounts":[]}`)
	require.NoError(t, doc.SaveAs(c.GenesisFile()))
	refused("app_state is another application's")
	doc.AppState = []byte(`{}`)
	doc.ConsensusParams.Block.MaxBytes = -1
	require.NoError(t, doc.SaveAs(c.GenesisFile()))
	refused("lower consensus_params.block.max_bytes")
	doc.ConsensusParams = types.DefaultConsensusParams()
	require.NoError(t, doc.SaveAs(c.GenesisFile()))

	require.NoError(t, os.Rename(c.PrivValidatorStateFile(), c.PrivValidatorStateFile()+".away"))
	refused("signing state")
	require.NoError(t, os.Rename(c.PrivValidatorStateFile()+".away", c.PrivValidatorStateFile()))

	require.NoError(t, os.MkdirAll(filepath.Join(dir, "data", "blockstore.db"), 0o700))
	lock, err := os.Create(filepath.Join(dir, "data", "blockstore.db", "LOCK"))
	require.NoError(t, err)
	require.NoError(t, syscall.Flock(int(lock.Fd()), syscall.LOCK_EX))
	refused("is in use: stop its CometBFT first")
	require.NoError(t, lock.Close())

	_, err = home.Init(homeDir, home.InitOptions{
		ChainID:   "other",
		Set:       []config.Assignment{{Key: "consensus.kind", Value: comet.Name, Flag: "--consensus"}},
		Consensus: comet.InitOptions{Import: dir},
	})
	require.ErrorContains(t, err, `it is of chain "foreign-2", want "other"`)

	require.NoError(t, importHome(dir, homeDir))
	require.ErrorContains(t, importHome(dir, homeDir), "is already a home")
	theirs, err := comethome.ReadIdentity(dir)
	require.NoError(t, err)
	ours, err := comethome.ReadIdentity(comethome.Dir(homeDir))
	require.NoError(t, err)
	require.Equal(t, theirs, ours)

	for _, file := range []string{"config/node_key.json", "config/priv_validator_key.json",
		"data/priv_validator_state.json", "config/genesis.json"} {
		from, err := os.ReadFile(filepath.Join(dir, file))
		require.NoError(t, err)
		to, err := os.ReadFile(filepath.Join(comethome.Dir(homeDir), file))
		require.NoError(t, err)
		require.Equal(t, from, to, file)
		info, err := os.Stat(filepath.Join(comethome.Dir(homeDir), file))
		require.NoError(t, err)
		if !strings.HasSuffix(file, "genesis.json") {
			require.EqualValues(t, 0o600, info.Mode().Perm(), file)
		}
	}
}

// The validator continues above the height up to which it has signed.
func TestAnImportedValidatorGoesOn(t *testing.T) {
	dir, c, doc := foreignHome(t)
	doc.ChainID, doc.InitialHeight = "foreign-2", signedTo+1
	require.NoError(t, doc.SaveAs(c.GenesisFile()))
	home := newHome(t, home.InitOptions{Consensus: comet.InitOptions{Import: dir}})
	r := start(t, home)
	committed, err := r.rpc.BroadcastTxCommit(t.Context(), types.Tx("name=coppice"))
	require.NoError(t, err)
	require.Zero(t, committed.TxResult.Code, committed.TxResult.Log)
	require.Greater(t, committed.Height, int64(signedTo))
	require.Equal(t, "foreign-2", r.status().ChainId)
	key, err := os.ReadFile(filepath.Join(dir, "config", "priv_validator_key.json"))
	require.NoError(t, err)
	status, err := r.rpc.Status(t.Context())
	require.NoError(t, err)
	require.Contains(t, string(key), status.ValidatorInfo.Address.String())
}
