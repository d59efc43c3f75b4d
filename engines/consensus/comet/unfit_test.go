package comet

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	cfg "github.com/cometbft/cometbft/config"
	sm "github.com/cometbft/cometbft/state"
	"github.com/cometbft/cometbft/store"
	"github.com/stretchr/testify/require"
	"github.com/thejerf/suture/v4"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/coppice-go/coppice/supervisor"
	"github.com/coppice-go/coppice/supervisor/process"
)

// edit changes one setting of a CometBFT home.
func edit(t *testing.T, home string, change func(*cfg.Config)) {
	t.Helper()
	c, err := loadConfig(home)
	require.NoError(t, err)
	change(c)
	require.NoError(t, writeConfig(home, c))
}

// Each of these had CometBFT end, or say nothing but "exit status 1", at each of its starts, for
// ever.
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
	home := newHome(t, HomeOptions{})

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
			conf, err := loadConfig(broken)
			require.NoError(t, err)
			require.NoError(t, preflight(conf))
			c.damage(t, broken)
			conf, err = loadConfig(broken)
			require.NoError(t, err)
			err = preflight(conf)
			require.ErrorIs(t, err, c.want)
			require.ErrorContains(t, err, c.says)
		})
	}
}

// serve runs the driver until it ends.
func serve(t *testing.T, home string, c *fakeCore) error {
	t.Helper()
	self, err := os.Executable()
	require.NoError(t, err)
	d := Driver{Home: home, Command: []string{self, ChildCommand},
		Intensity: supervisor.Intensity{Max: 3, Period: time.Minute}}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()

	s, err := d.Start(c.core("test"))(ctx)
	require.NoError(t, err)

	return s.Serve(ctx)
}

// blocks is a home with some blocks.
func blocks(t *testing.T, n int) (string, *fakeCore) {
	t.Helper()
	c, home := newFakeCore(), newHome(t, HomeOptions{})
	run := drive(t, home, c)

	for i := range n {
		c.submit(strings.Repeat("x", i+1) + "=1")
		c.await(t, func() bool { return len(c.pool) == 0 })
	}

	require.NoError(t, run.Stop(t.Context()))
	require.NoError(t, os.RemoveAll(SocketDir(home))) // a copy would have another mode

	return home, c
}

// CometBFT's data and ours were restored from different times, or CometBFT's were cut: it ended so
// at each start, for ever, with a stack or a line that says nothing of a cure. No restart mends it:
// it ends the tree at once. COPPICE_SOAK=1 has all of them.
func TestDataOfDifferentTimesEndTheTree(t *testing.T) {
	home, c := blocks(t, 3)
	cut := func(pattern string) func(*testing.T, string, *fakeCore) {
		return func(t *testing.T, home string, _ *fakeCore) {
			files, err := filepath.Glob(filepath.Join(home, "data", pattern))
			require.NoError(t, err)
			require.NotEmpty(t, files)
			for _, f := range files {
				require.NoError(t, os.Truncate(f, 10))
			}
		}
	}
	for i, k := range []struct {
		name   string
		damage func(t *testing.T, home string, c *fakeCore)
		says   string
	}{
		{"ours is newer", func(_ *testing.T, _ string, c *fakeCore) { c.state.Height += 5 }, "is higher than core"},
		{"ours is older than what was pruned", func(t *testing.T, home string, c *fakeCore) {
			conf, err := loadConfig(home)
			require.NoError(t, err)
			stores(t, conf, func(s sm.Store, b *store.BlockStore) {
				state, err := s.Load()
				require.NoError(t, err)
				_, _, err = b.PruneBlocks(b.Height(), state)
				require.NoError(t, err)
			})
			c.state.Height = 1
		}, "too far below block store base"},
		{"state.db is cut", cut("state.db/[0-9]*"), "panic: StoreBlockHeight"},
		{"blockstore.db is cut", cut("blockstore.db/[0-9]*"), "panic: state"},
		{"a manifest is cut", cut("state.db/MANIFEST*"), "manifest corrupted"},
		{"state.db is gone", func(t *testing.T, home string, _ *fakeCore) {
			require.NoError(t, os.RemoveAll(filepath.Join(home, "data", "state.db")))
		}, "panic: StoreBlockHeight"},
		{"our app hash is another", func(_ *testing.T, _ string, c *fakeCore) {
			c.state.AppHash = make([]byte, 32)
		}, "panic: state.AppHash does not match"},
	} {
		if i > 2 && os.Getenv("COPPICE_SOAK") == "" {
			break
		}
		t.Run(k.name, func(t *testing.T) {
			broken := filepath.Join(t.TempDir(), "comet")
			require.NoError(t, os.CopyFS(broken, os.DirFS(home)))
			own := newFakeCore()
			own.state = c.state
			k.damage(t, broken, own)
			err := serve(t, broken, own)
			require.ErrorIs(t, err, ErrChainDamage)
			require.ErrorIs(t, err, ErrFinal)
			require.ErrorContains(t, err, k.says)
			require.ErrorContains(t, err, "put comet and data back from one backup")
			require.NotContains(t, err.Error(), "\n")
		})
	}
}

// ended is the end of a process by itself.
func ended(status int, last ...string) error {
	return fmt.Errorf("wrapped: %w", &process.ExitError{Name: "cometbft", Status: status, LastLines: last})
}

// A start that fails is tried again, later each time; one in a row too many ends the tree, with the
// reason. It took ten in twelve seconds before, and then began anew, for ever.
func TestStartsThatFailInARowEndTheTree(t *testing.T) {
	s := &starts{}
	taken := ended(1, "before", "coppice: listen tcp 127.0.0.1:26657: bind: address already in use")
	var all time.Duration

	for range mostFailed - 1 {
		s.begin()
		require.NotErrorIs(t, s.judge(taken), ErrFinal)
		all += s.pause()
	}

	require.Equal(t, 90*time.Second, all, "besides what the starts themselves take")
	s.begin()
	err := s.judge(taken)
	require.ErrorIs(t, err, ErrFinal)
	require.ErrorIs(t, err, suture.ErrTerminateSupervisorTree)
	require.ErrorContains(t, err, "CometBFT ended 12 times in a row before it was up, at last with: listen tcp "+
		"127.0.0.1:26657: bind: address already in use")
	require.NotErrorIs(t, err, ErrHome)

	s.came() // one that came up
	require.Zero(t, s.pause())
	for range 3 * mostFailed { // and ends, again and again: the limits of the tree are for that
		require.NotErrorIs(t, s.judge(taken), ErrFinal)
	}

	s.begin()

	for range 3 * mostFailed { // kills and stops say nothing about the next
		require.NotErrorIs(t, s.judge(&process.ExitError{Status: -1, Signal: 9}), ErrFinal)
		require.NotErrorIs(t, s.judge(&process.ExitError{Status: 1, Asked: true}), ErrFinal)
		require.NotErrorIs(t, s.judge(ended(0)), ErrFinal, "its connection to us has ended")
		require.NotErrorIs(t, s.judge(context.Canceled), ErrFinal)
	}
}

// The limit of the driver's supervisor must not be reached before: it would restart all of it, and
// know nothing of it.
func TestThePausesOfFailedStartsStayBelowTheLimit(t *testing.T) {
	s, at := &starts{}, []time.Duration{0}
	for range mostFailed - 2 {
		_ = s.judge(ended(1))
		at = append(at, at[len(at)-1]+s.pause())
	}

	for i := range at {
		n := 0
		for _, other := range at[i:] {
			if other-at[i] < time.Minute {
				n++
			}
		}
		require.LessOrEqual(t, n, 10, "restarts in 60 s, from the %d. on", i)
	}
}

func TestWhatAProcessEndedOfIsTold(t *testing.T) {
	s := &starts{}
	s.begin()
	require.ErrorIs(t, s.judge(ended(statusConfig, "coppice: "+ErrGenesis.Error()+": another")), ErrGenesis)
	require.ErrorIs(t, s.judge(ended(statusConfig, ErrHome.Error()+": a file")), ErrHome)
	require.ErrorIs(t, s.judge(ended(statusDamage, "coppice: "+ErrSigning.Error()+": gone")), ErrSigning)
	require.ErrorIs(t, s.judge(ended(statusDamage)), ErrChainDamage)

	core, logs := observer.New(zap.ErrorLevel)
	tr := &tree{Driver: Driver{Log: zap.New(core)}, starts: s}

	for _, l := range []string{"I[x] all is well", "E[x] a peer", "E[x] CONSENSUS FAILURE!!! err=...",
		"panic: out of luck", "goroutine 1 [running]:"} {
		tr.stderr([]byte(l))
	}

	require.Equal(t, 2, logs.Len(), "what ends it is an error: %v", logs.All())
	err := s.judge(ended(2, "goroutine 1 [running]:", "main.main()"))
	require.ErrorContains(t, err, "panic: out of luck", "the begin of a panic, not the end of its stack")
	s.begin()
	tr.stdout([]byte("LoadState: Data has been corrupted or its spec has changed:"))
	require.ErrorIs(t, s.judge(ended(1)), ErrChainDamage,
		"where CometBFT ends the process it says so on stdout, and by status 1")
	tr.stdout([]byte(upLine))
	require.True(t, s.up)
}

// A home whose db_dir is another has its chain there, and not in data.
func TestAMovedDatabaseDirectoryIsLookedInto(t *testing.T) {
	home := newHome(t, HomeOptions{})
	edit(t, home, func(c *cfg.Config) { c.DBPath = "elsewhere" })
	conf, err := loadConfig(home)
	require.NoError(t, err)
	require.ErrorIs(t, checkChainData(conf, 1), ErrChainData)
	require.NoError(t, os.MkdirAll(filepath.Join(home, "elsewhere", "blockstore.db"), 0o700))
	require.NoError(t, checkChainData(conf, 1))
}

func TestAddressesThatCometBFTCannotListenOn(t *testing.T) {
	for _, c := range []struct{ p2p, rpc, says string }{
		{"foo:bar", "", `port "bar", want 0 to 65535`},
		{"1.2.3.4", "", `"1.2.3.4", want host:port`},
		{":99999", "", "want 0 to 65535"},
		{":26656", "", "there is no host in it"},
		{"tcp://1.2.3.4:5", "", "want host:port"},
		{"a b:5", "", `"a b" is no host`},
		{"", "foo:bar", "[rpc] laddr"},
		{"", "tcp://1.2.3.4:5", "want host:port"},
		{"127.0.0.1:5", "127.0.0.1:5", "a port of its own"},
		{"0.0.0.0:5", "127.0.0.1:5", "a port of its own"},
	} {
		home := filepath.Join(t.TempDir(), "comet")
		_, err := InitHome(home, HomeOptions{P2P: c.p2p, RPC: c.rpc})
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
