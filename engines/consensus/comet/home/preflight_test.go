package home

import (
	"os"
	"path/filepath"
	"regexp"
	"testing"
	"time"

	cfg "github.com/cometbft/cometbft/config"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	// This goroutine ends a second after its Close.
	goleak.VerifyTestMain(m, goleak.IgnoreTopFunction("github.com/syndtr/goleveldb/leveldb.(*DB).mpoolDrain"))
}

// ownHome makes the home of the only validator of a chain.
func ownHome(t *testing.T) string {
	t.Helper()
	home := filepath.Join(t.TempDir(), "comet")
	id, err := Init(home, Options{P2P: "127.0.0.1:0", RPC: "127.0.0.1:0"})
	require.NoError(t, err)
	id.Validator.Power = 10
	require.NoError(t, WriteGenesis(home,
		Genesis{ChainID: "test", Time: time.Now().Add(-time.Second), Validators: []Validator{id.Validator}}))

	return home
}

// edit changes one setting of a CometBFT home.
func edit(t *testing.T, home string, change func(*cfg.Config)) {
	t.Helper()
	c, err := LoadConfig(home)
	require.NoError(t, err)
	change(c)
	require.NoError(t, writeConfig(home, c))
}

// With each of these settings CometBFT ended at every start, often with no text but "exit status
// 1".
func TestWhatCometBFTWouldNotStartWithIsRefusedBefore(t *testing.T) {
	set := func(change func(*cfg.Config)) func(*testing.T, string) {
		return func(t *testing.T, home string) { edit(t, home, change) }
	}

	file := func(path, data string) func(*testing.T, string) {
		return func(t *testing.T, home string) {
			require.NoError(t, os.WriteFile(filepath.Join(home, path), []byte(data), 0o600))
		}
	}

	gone := func(path string) func(*testing.T, string) {
		return func(t *testing.T, home string) { require.NoError(t, os.Remove(filepath.Join(home, path))) }
	}
	const id = "0123456789012345678901234567890123456789"
	home := ownHome(t)

	for _, c := range []struct {
		name   string
		damage func(*testing.T, string)
		want   error
		says   string
	}{
		{"db_backend", set(func(c *cfg.Config) { c.DBBackend = "rocksdb" }), ErrHome, "goleveldb"},
		{"double_sign_check_height", set(func(c *cfg.Config) {
			c.Consensus.DoubleSignCheckHeight = 10
		}), ErrHome, "every restart"},
		{"log_level", set(func(c *cfg.Config) { c.LogLevel = "loud" }), ErrHome, "log_level"},
		{"moniker", set(func(c *cfg.Config) { c.Moniker = "wäldchen" }), ErrHome, "moniker"},
		{"persistent_peers", set(func(c *cfg.Config) { c.P2P.PersistentPeers = "nonsense" }), ErrHome, "id@host:port"},
		{"seeds", set(func(c *cfg.Config) { c.P2P.Seeds = id + "@1.2.3.4" }), ErrHome, "seeds"},
		{"unconditional_peer_ids", set(func(c *cfg.Config) {
			c.P2P.UnconditionalPeerIDs = "12"
		}), ErrHome, "unconditional_peer_ids"},
		{"p2p", set(func(c *cfg.Config) { c.P2P.ListenAddress = "nonsense" }), ErrHome, "[p2p] laddr"},
		{"rpc", set(func(c *cfg.Config) { c.RPC.ListenAddress = "tcp://127.0.0.1:99999" }), ErrHome, "0 to 65535"},
		{"node key garbage", file("config/node_key.json", "garbage"), ErrHome, "node_key.json"},
		{"node key {}", file("config/node_key.json", "{}"), ErrHome, "node_key.json"},
		{"node key gone", gone("config/node_key.json"), ErrHome, "node_key.json"},
		{"validator key garbage", file("config/priv_validator_key.json", "garbage"), ErrHome,
			"priv_validator_key.json"},
		{"validator key {}", file("config/priv_validator_key.json", "{}"), ErrHome, "priv_validator_key.json"},
		{"validator key short",
			file("config/priv_validator_key.json", `{"priv_key":{"type":"tendermint/PrivKeyEd25519","value":"AAAA"}}`),
			ErrHome, "priv_validator_key.json"},
		{"validator key with another address", func(t *testing.T, home string) {
			path := filepath.Join(home, "config", "priv_validator_key.json")
			data, err := os.ReadFile(path)
			require.NoError(t, err)
			other := regexp.MustCompile(`"address": "[0-9A-F]{40}"`).ReplaceAll(data,
				[]byte(`"address": "0000000000000000000000000000000000000000"`))
			require.NotEqual(t, data, other)
			require.NoError(t, os.WriteFile(path, other, 0o600))
		}, ErrHome, "address 0000000000000000000000000000000000000000 is not that of pub_key"},
		{"validator key gone", gone("config/priv_validator_key.json"), ErrHome, "priv_validator_key.json"},
		{"signing state garbage", file("data/priv_validator_state.json", "garbage"), ErrSigning,
			"priv_validator_state.json"},
		{"signing state empty", file("data/priv_validator_state.json", ""), ErrSigning, "priv_validator_state.json"},
		{"signing state {}", file("data/priv_validator_state.json", "{}"), ErrSigning, "no height"},
		{"signing state gone", gone("data/priv_validator_state.json"), ErrSigning, "sign twice"},
	} {
		t.Run(c.name, func(t *testing.T) {
			broken := filepath.Join(t.TempDir(), "comet")
			require.NoError(t, os.CopyFS(broken, os.DirFS(home)))
			conf, err := LoadConfig(broken)
			require.NoError(t, err)
			require.NoError(t, Preflight(conf))
			c.damage(t, broken)
			conf, err = LoadConfig(broken)
			require.NoError(t, err)
			err = Preflight(conf)
			require.ErrorIs(t, err, c.want)
			require.ErrorContains(t, err, c.says)
		})
	}
}

// The chain of a home with another db_dir is looked for there, and not in data.
func TestAMovedDatabaseDirectoryIsLookedInto(t *testing.T) {
	home := ownHome(t)
	edit(t, home, func(c *cfg.Config) { c.DBPath = "elsewhere" })
	conf, err := LoadConfig(home)
	require.NoError(t, err)
	require.ErrorIs(t, CheckChainData(conf, 1), ErrChainData)
	makeDatabase(t, conf, blockDatabase)
	require.ErrorIs(t, CheckChainData(conf, 1), ErrChainData, "the blocks alone are not enough")
	makeDatabase(t, conf, stateDatabase)
	require.NoError(t, CheckChainData(conf, 1))
}

func TestAddressesThatCometBFTCannotListenOn(t *testing.T) {
	for _, c := range []struct{ p2p, rpc, says string }{
		{"foo:bar", "", `port "bar", want 0 to 65535`},
		{"1.2.3.4", "", `"1.2.3.4", want host:port`},
		{":99999", "", "want 0 to 65535"},
		{":26656", "", "there is no host in it"},
		{"tcp://1.2.3.4:5", "", "want host:port"},
		{"a b:5", "", `"a b" is not a host`},
		{"", "foo:bar", "[rpc] laddr"},
		{"", "tcp://1.2.3.4:5", "want host:port"},
		{"127.0.0.1:5", "127.0.0.1:5", "a port of its own"},
		{"0.0.0.0:5", "127.0.0.1:5", "a port of its own"},
	} {
		home := filepath.Join(t.TempDir(), "comet")
		_, err := Init(home, Options{P2P: c.p2p, RPC: c.rpc})
		require.ErrorIs(t, err, ErrHome)
		require.ErrorContains(t, err, c.says)
		require.NoDirExists(t, home, "nothing was made")
	}

	for _, c := range [][2]string{{"0.0.0.0:5", "[::1]:6"}, {"127.0.0.1:0", "127.0.0.1:0"},
		{"127.0.0.2:5", "127.0.0.3:5"}, {"node-1.example.org:5", ":6"}} {
		require.NoError(t, checkAddresses("tcp://"+c[0], "tcp://"+c[1]))
	}

	require.NoError(t, checkAddresses("tcp://127.0.0.1:5", "tcp://127.0.0.1:6,unix:///a/b"))
}
