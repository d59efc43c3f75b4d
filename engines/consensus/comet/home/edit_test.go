package home

import (
	"os"
	"testing"

	"github.com/stretchr/testify/require"
)

// EditConfig changes what it is told to change, in its section, and leaves every other byte.
func TestEditConfigChangesOnlyTheSettings(t *testing.T) {
	for name, c := range map[string]struct {
		text string
		s    Setting
		want string
	}{
		"in its section": {"laddr = \"a\"\n[rpc]\nladdr = \"b\"\n[p2p] # peers\nladdr = \"c\" # here\n",
			Text("p2p", "laddr", "d"), "laddr = \"a\"\n[rpc]\nladdr = \"b\"\n[p2p] # peers\nladdr = \"d\"\n"},
		"before the first section": {"moniker = \"a\"\n[p2p]\nmoniker = \"b\"\n", Text("", "moniker", "c"),
			"moniker = \"c\"\n[p2p]\nmoniker = \"b\"\n"},
		"a new key":     {"[p2p]\nx = 1\n", Setting{"p2p", "pex", "false"}, "[p2p]\npex = false\nx = 1\n"},
		"a new section": {"x = 1\n", Setting{"p2p", "pex", "false"}, "x = 1\n\n[p2p]\npex = false\n"},
		"not in a note": {"[p2p]\n# pex = true\n", Setting{"p2p", "pex", "false"},
			"[p2p]\npex = false\n# pex = true\n"},
		"not a longer key": {"[p2p]\npex_x = 1\n", Setting{"p2p", "pex", "false"}, "[p2p]\npex = false\npex_x = 1\n"},
	} {
		require.Equal(t, c.want, edited(c.text, c.s), name)
	}
}

// A value that would break the file, or that CometBFT would refuse, changes nothing.
func TestEditConfigRefusesWhatIsInvalid(t *testing.T) {
	dir := t.TempDir()
	_, err := Init(dir, Options{})
	require.NoError(t, err)
	before, err := os.ReadFile(configPath(dir))
	require.NoError(t, err)

	for _, s := range []Setting{
		{"p2p", "pex", "perhaps"},
		Text("p2p", "external_address", "a\"\nmoniker = 1"),
		Text("p2p", "external_address", "größe"),
		Text("p2p", "persistent_peers", "nobody"),
		{"p2p", "send_rate", "-1"},
	} {
		require.ErrorIs(t, EditConfig(dir, s), ErrHome, s)
	}
	after, err := os.ReadFile(configPath(dir))
	require.NoError(t, err)
	require.Equal(t, string(before), string(after))

	require.NoError(t, EditConfig(dir, Text("p2p", "external_address", "node0:26656")))
	c, err := LoadConfig(dir)
	require.NoError(t, err)
	require.Equal(t, "node0:26656", c.P2P.ExternalAddress)
}
