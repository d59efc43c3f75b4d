package home

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	cfg "github.com/cometbft/cometbft/config"
	"github.com/stretchr/testify/require"
)

// A new home of either profile leaves nothing open, for small and for large transactions.
func TestANewHomeIsClosed(t *testing.T) {
	for _, p := range []Profile{Tuned, Stock} {
		for _, n := range []uint64{0, 1 << 10, 40 << 20} {
			home := filepath.Join(t.TempDir(), "comet")
			_, err := Init(home, Options{Profile: p, MaxTxBytes: n})
			require.NoError(t, err)
			c, err := LoadConfig(home)
			require.NoError(t, err)
			require.Empty(t, Exposures(c))
			require.GreaterOrEqual(t, c.RPC.MaxBodyBytes, int64(n)*4/3+FeedBytes)
			require.Equal(t, RPCBatch, c.RPC.MaxRequestBatchSize)
			require.Contains(t, c.LogLevel, "p2p:error")
		}
	}
}

func TestWhatACarelessConfigurationIsToldOf(t *testing.T) {
	for want, set := range map[string]func(*cfg.Config){
		"p2p.pex": func(c *cfg.Config) { c.P2P.PexReactor = true },
		"rpc.laddr": func(c *cfg.Config) {
			c.RPC.ListenAddress = "tcp://127.0.0.1:1,tcp://0.0.0.0:26657"
		},
		"rpc.unsafe":               func(c *cfg.Config) { c.RPC.Unsafe = true },
		"rpc.cors_allowed_origins": func(c *cfg.Config) { c.RPC.CORSAllowedOrigins = []string{"*"} },
		"rpc.grpc_laddr":           func(c *cfg.Config) { c.RPC.GRPCListenAddress = "tcp://127.0.0.1:1" },
		"rpc.pprof_laddr":          func(c *cfg.Config) { c.RPC.PprofListenAddress = ":6060" },
		"prometheus_listen_addr": func(c *cfg.Config) {
			c.Instrumentation.Prometheus, c.Instrumentation.PrometheusListenAddr = true, ":26660"
		},
		"rpc.max_body_bytes":         func(c *cfg.Config) { c.RPC.MaxBodyBytes = 32 << 20 },
		"rpc.max_request_batch_size": func(c *cfg.Config) { c.RPC.MaxRequestBatchSize = 0 },
	} {
		c := newConfig(Options{})
		set(c)
		require.Len(t, Exposures(c), 1, want)
		require.Contains(t, Exposures(c)[0], want)
	}
	for address, is := range map[string]bool{
		"": false, "unix:///run/x.sock": false, "tcp://127.0.0.1:1": false, "tcp://localhost:1": false,
		"tcp://[::1]:1":   false,
		"tcp://0.0.0.0:1": true, "tcp://[::]:1": true, ":1": true, "10.0.0.7:1": true, "tcp://node.example:1": true,
	} {
		require.Equal(t, is, isPublic(address), address)
	}
}

// CometBFT silently accepts a misspelled key, and a file without the keys that keep it closed. Both
// are refused here.
func TestAConfigurationThatSaysLessThanItSeems(t *testing.T) {
	home := filepath.Join(t.TempDir(), "comet")
	_, err := Init(home, Options{})
	require.NoError(t, err)
	good, err := os.ReadFile(configPath(home))
	require.NoError(t, err)
	refused := func(text, want string) {
		t.Helper()
		require.NoError(t, os.WriteFile(configPath(home), []byte(text), 0o600))
		_, err := LoadConfig(home)
		require.ErrorIs(t, err, ErrHome)
		require.ErrorContains(t, err, want)
	}
	line := 1 + strings.Count(string(good[:strings.Index(string(good), "\ntimeout_propose =")+1]), "\n")
	refused(strings.Replace(string(good), "\ntimeout_propose =", "\ntimeout_prpose =", 1),
		fmt.Sprintf(`line %d: unknown key "consensus.timeout_prpose"`, line))
	refused("monicker = \"a\"\n"+string(good), `line 1: unknown key "monicker"`)
	refused(string(good)+"\n[fastsync]\nversion = \"v0\"\n", `unknown key "fastsync"`)
	refused("", `rpc.laddr is not set`)
	refused(strings.Replace(string(good), "\npex = false", "", 1),
		`p2p.pex is not set, and CometBFT's default is "true"`)

	refused(strings.Replace(string(good), "\nmax_request_batch_size = 100", "\nmax_request_batch_size = 10", 1),
		"rpc.max_request_batch_size: 10, want at least 100")

	refused(regexp.MustCompile(`(?m)^max_body_bytes = .*$`).ReplaceAllString(string(good), "max_body_bytes = 1000000"),
		"rpc.max_body_bytes: 1000000, want at least")
}
