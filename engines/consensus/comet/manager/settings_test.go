package manager

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// environment returns a function that reads variables from a table.
func environment(v map[string]string) func(string) string {
	return func(name string) string { return v[name] }
}

// Item 33: every variable.
func TestTheEnvironmentHasThePublishedVariables(t *testing.T) {
	all := map[string]string{
		"PROXY_APP": "127.0.0.1:26658", "TMHOME": "/tm", "CREATE_EMPTY_BLOCKS": "false", "USE_GRPC": "false",
		"LOG_FILE": "/log/node.log", "WRITE_TO_LOG": "True", "LOG_FILE_MAX_BYTES": "1000", "DEV_MODE": "1", "ID": "3",
		"P2P_LADDR": "tcp://0.0.0.0:26656", "RPC_LADDR": "tcp://127.0.0.1:26657", "TMSTATE": "/state",
	}
	for _, name := range Variables {
		require.NotEmpty(t, all[name], name)
	}

	s, err := FromEnvironment(environment(all))
	require.NoError(t, err)
	require.NoError(t, s.Check())
	require.Equal(t, Settings{
		Home: "/tm", ProxyApp: "tcp://127.0.0.1:26658", EmptyBlocks: "false", P2P: "tcp://0.0.0.0:26656",
		RPC: "tcp://127.0.0.1:26657", LogFile: "/log/node.log", LogBytes: 1000, DumpDir: "/state", ID: "3",
		ChainName: "autonolas", StallAfter: defaultStall,
	}, s)
	o := s.options()
	require.Equal(t, []string{"tcp://127.0.0.1:26658", "tcp://0.0.0.0:26656", "tcp://127.0.0.1:26657", "false"},
		[]string{o.Foreign.ProxyApp, o.Foreign.P2P, o.Foreign.RPC, o.Foreign.EmptyBlocks})

	// The defaults.
	s, err = FromEnvironment(environment(map[string]string{"PROXY_APP": "unix:///app.sock", "TMHOME": "/tm",
		"WRITE_TO_LOG": "true", "DEV_MODE": "1"}))
	require.NoError(t, err)
	require.NoError(t, s.Check())
	require.Equal(t, []any{"tendermint.log", int64(50 << 20), "/tm_state", ""},
		[]any{s.LogFile, s.LogBytes, s.DumpDir, s.EmptyBlocks})
	s, err = FromEnvironment(environment(map[string]string{"LOG_FILE": "/log/node.log", "TMSTATE": "/state"}))
	require.NoError(t, err)
	require.Empty(t, s.LogFile+s.DumpDir) // WRITE_TO_LOG and DEV_MODE say whether
}

// Item 33: what is wrong is named, with what is wanted.
func TestWrongSettingsAreNamed(t *testing.T) {
	for name, change := range map[string][2]string{
		"USE_GRPC is true, want false or nothing: over gRPC": {"USE_GRPC", "true"},
		`USE_GRPC is "perhaps"`:                              {"USE_GRPC", "perhaps"},
		`WRITE_TO_LOG is "1"`:                                {"WRITE_TO_LOG", "1"},
		`LOG_FILE_MAX_BYTES is "0"`:                          {"LOG_FILE_MAX_BYTES", "0"},
		`DEV_MODE is "yes"`:                                  {"DEV_MODE", "yes"},
		`CREATE_EMPTY_BLOCKS is "no"`:                        {"CREATE_EMPTY_BLOCKS", "no"},
		"PROXY_APP is not set":                               {"PROXY_APP", ""},
		`PROXY_APP is "kvstore"`:                             {"PROXY_APP", "kvstore"},
		"TMHOME is not set":                                  {"TMHOME", ""},
		`P2P_LADDR is "here"`:                                {"P2P_LADDR", "here"},
		`RPC_LADDR is "tcp://host:port"`:                     {"RPC_LADDR", "tcp://host:port"},
		`ID is "a/b"`:                                        {"ID", "a/b"},
	} {
		v := map[string]string{"PROXY_APP": "tcp://127.0.0.1:26658", "TMHOME": "/tm"}
		v[change[0]] = change[1]
		s, err := FromEnvironment(environment(v))
		if err == nil {
			err = s.Check()
		}
		require.ErrorIs(t, err, ErrSettings, name)
		require.ErrorContains(t, err, strings.TrimSuffix(name, `"kvstore"`))
	}

	s := Settings{Home: "/tm", ProxyApp: "tcp://127.0.0.1:1", StallAfter: 1, ChainName: strings.Repeat("x", 30)}
	require.ErrorContains(t, s.Check(), "want 1 to 29 bytes")
}

// Item 33: the variables reach CometBFT's process.
func TestTheSettingsReachTheProcess(t *testing.T) {
	r := newRig(t, script{}, func(s *Settings, _ *Options) {
		s.EmptyBlocks, s.P2P, s.RPC = "false", "tcp://127.0.0.1:3", "tcp://127.0.0.1:4"
	})
	r.awaitState(Running)
	started, err := os.ReadFile(filepath.Join(filepath.Dir(r.home), "starts"))
	require.NoError(t, err)
	for _, want := range []string{"--proxy-app tcp://127.0.0.1:1 ", "--p2p-laddr tcp://127.0.0.1:3 ",
		"--rpc-laddr tcp://127.0.0.1:4 ", "--empty-blocks false"} {
		require.Contains(t, string(started), want)
	}
}
