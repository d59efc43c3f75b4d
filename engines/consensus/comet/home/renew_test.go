package home

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/coppice-go/coppice/internal/flock"
)

// renewable makes the home of a chain that has made blocks and signed votes.
func renewable(t *testing.T) (home string, own Validator) {
	t.Helper()
	home = filepath.Join(t.TempDir(), "comet")
	id, err := Init(home, Options{P2P: "127.0.0.1:0", RPC: "127.0.0.1:0"})
	require.NoError(t, err)
	own = id.Validator
	own.Power = 10
	require.NoError(t, WriteGenesis(home, Genesis{ChainID: "orchard", Time: time.Unix(1000, 0), InitialHeight: 1,
		MaxBlockBytes: 4 << 20, Validators: []Validator{own}, AppState: []byte(`{"chain_id":"orchard"}`)}))
	for _, dir := range []string{"blockstore.db", "state.db", "tx_index.db", "cs.wal"} {
		require.NoError(t, os.MkdirAll(filepath.Join(home, "data", dir), 0o700))
		require.NoError(t, os.WriteFile(filepath.Join(home, "data", dir, "LOCK"), []byte("x"), 0o600))
	}
	require.NoError(t, os.WriteFile(filepath.Join(home, "config", "addrbook.json"), []byte("{}"), 0o600))
	return home, own
}

func epoch(own Validator, n uint64) Epoch {
	return Epoch{ChainID: "orchard-1", Time: time.Unix(2000, 5).UTC(), InitialHeight: n, AppHash: []byte("hash"),
		Validators: []Validator{own}}
}

// A renewed home has the genesis of the next epoch and no block. What must outlive a reset is as it
// was: keys, signing state, configuration, and the genesis of epoch 0. Whatever a crash has left of
// the steps, they end in the same home.
func TestARenewedHomeBeginsTheNextEpoch(t *testing.T) {
	home, own := renewable(t)
	kept := map[string][]byte{}
	for _, name := range []string{"data/priv_validator_state.json", "config/priv_validator_key.json",
		"config/node_key.json", "config/config.toml", "config/genesis.json"} {
		b, err := os.ReadFile(filepath.Join(home, name))
		require.NoError(t, err)
		kept[name] = b
	}

	kept["config/genesis-0.json"] = kept["config/genesis.json"]
	delete(kept, "config/genesis.json")

	for _, crash := range []string{"", "data/state.db", "data/cs.wal", "config/genesis.json"} {
		if crash != "" { // some of it is gone, and some is back
			require.NoError(t, os.RemoveAll(filepath.Join(home, crash)))
			require.NoError(t, os.MkdirAll(filepath.Join(home, "data", "blockstore.db"), 0o700))
		}
		require.NoError(t, Renew(home, epoch(own, 30)), crash)

		g, err := ReadGenesis(home)
		require.NoError(t, err)
		require.Equal(t, "orchard-1", g.ChainID)
		require.EqualValues(t, 30, g.InitialHeight)
		require.True(t, time.Unix(2000, 5).Equal(g.Time))
		require.JSONEq(t, `{"chain_id":"orchard"}`, string(g.AppState))
		require.Equal(t, own.PubKey, g.Validators[0].PubKey)
		first, err := ReadFirstGenesis(home)
		require.NoError(t, err)
		require.Equal(t, "orchard", first.ChainID)

		left, err := os.ReadDir(filepath.Join(home, "data"))
		require.NoError(t, err)
		require.Len(t, left, 1)
		require.NoFileExists(t, filepath.Join(home, "config", "addrbook.json"))
		for name, was := range kept {
			b, err := os.ReadFile(filepath.Join(home, name))
			require.NoError(t, err)
			require.Equal(t, string(was), string(b), name)
		}
	}
}

// State sync would look for the new epoch in the old chain.
func TestARenewedHomeDoesNotBeginByStateSync(t *testing.T) {
	home, own := renewable(t)
	require.NoError(t, SetStateSync(home, StateSync{RPC: []string{"127.0.0.1:1", "127.0.0.1:2"}, Height: 1,
		Hash: strings.Repeat("AB", 32)}))
	require.NoError(t, Renew(home, epoch(own, 30)))
	c, err := LoadConfig(home)
	require.NoError(t, err)
	require.False(t, c.StateSync.Enable)
}

func TestACertificateIsKept(t *testing.T) {
	home, _ := renewable(t)
	b, err := ReadCertificate(home, 3)
	require.NoError(t, err)
	require.Nil(t, b)
	require.NoError(t, WriteCertificate(home, 3, []byte("old")))
	require.NoError(t, WriteCertificate(home, 3, []byte("proof")))
	b, err = ReadCertificate(home, 3)
	require.NoError(t, err)
	require.Equal(t, "proof", string(b))
}

// Nothing is removed under a CometBFT that still runs, for example one whose node was killed just
// now.
func TestAHomeInUseIsNotRenewed(t *testing.T) {
	home, own := renewable(t)
	f, err := flock.TryLock(filepath.Join(home, "data", "state.db", "LOCK")) // as goleveldb does
	require.NoError(t, err)
	require.ErrorIs(t, Renew(home, epoch(own, 30)), errRunning)
	require.DirExists(t, filepath.Join(home, "data", "blockstore.db"))
	g, err := ReadGenesis(home)
	require.NoError(t, err)
	require.Equal(t, "orchard", g.ChainID)

	require.NoError(t, f.Close())
	require.NoError(t, Renew(home, epoch(own, 30)))
}
