package home

import (
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestWhatTheLightClientVouchesFor(t *testing.T) {
	home := t.TempDir()
	_, err := ReadTrusted(home)
	require.ErrorIs(t, err, os.ErrNotExist)
	is := Trusted{Height: 7, AppHash: []byte{1, 2}, BlockHash: []byte{3}, Time: time.Unix(1, 234567891).UTC()}
	require.NoError(t, WriteTrusted(home, is))
	read, err := ReadTrusted(home)
	require.NoError(t, err)
	require.Equal(t, is, read)
	require.NoError(t, os.WriteFile(trustedPath(home), []byte("{"), 0o600))
	_, err = ReadTrusted(home)
	require.Error(t, err)
}

func TestAStateSyncThatCometBFTWouldNotTakeIsRefused(t *testing.T) {
	home := t.TempDir()
	_, err := Init(home, Options{P2P: "127.0.0.1:0", RPC: "127.0.0.1:0"})
	require.NoError(t, err)
	const hash = "0101010101010101010101010101010101010101010101010101010101010101"
	good := StateSync{RPC: []string{"127.0.0.1:1", "127.0.0.1:2"}, Height: 5, Hash: hash}
	for what, s := range map[string]StateSync{
		"one node":   {RPC: good.RPC[:1], Height: 5, Hash: hash},
		"no height":  {RPC: good.RPC, Hash: hash},
		"no hash":    {RPC: good.RPC, Height: 5},
		"short hash": {RPC: good.RPC, Height: 5, Hash: "01"},
		"odd hash":   {RPC: good.RPC, Height: 5, Hash: "0"},
		"period":     {RPC: good.RPC, Height: 5, Hash: hash, Period: -1},
	} {
		require.ErrorIs(t, SetStateSync(home, s), ErrHome, what)
	}

	require.NoError(t, SetStateSync(home, good))
	c, err := LoadConfig(home)
	require.NoError(t, err)
	require.True(t, c.StateSync.Enable)
	require.Equal(t, good.RPC, c.StateSync.RPCServers)
	require.Equal(t, 7*24*time.Hour, c.StateSync.TrustPeriod)
}
