package comet

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/coppice-go/coppice/engines/consensus/comet/child"
	comethome "github.com/coppice-go/coppice/engines/consensus/comet/home"
	"github.com/coppice-go/coppice/engines/consensus/comet/signer"
)

// A validator whose key is on another machine commits blocks with it. Without its signer it waits
// and says so; when the signer is back, it goes on. The home has neither the key nor its signing
// state.
func TestARemoteSignerSigns(t *testing.T) {
	all := newNetwork(t, 1)
	m := all[0]
	m.core.idle = true
	machine, address := t.TempDir(), "tcp://"+freePort(t)
	require.NoError(t, os.Rename(filepath.Join(m.home, "config", comethome.ValidatorKeyFile),
		filepath.Join(machine, comethome.ValidatorKeyFile)))
	require.NoError(t, os.Rename(filepath.Join(m.home, "data", comethome.SigningStateFile),
		filepath.Join(machine, comethome.SigningStateFile)))
	path := filepath.Join(m.home, "config", "config.toml")
	conf, err := os.ReadFile(path)
	require.NoError(t, err)
	conf = bytes.Replace(conf, []byte(`priv_validator_laddr = ""`), []byte(`priv_validator_laddr = "`+address+`"`), 1)
	require.NoError(t, os.WriteFile(path, conf, 0o600))

	sign := func() (stop func()) {
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- signer.Run(ctx, signer.Options{Dir: machine, ChainID: "test", Connect: address}) }()
		return func() {
			cancel()
			require.NoError(t, <-ended)
		}
	}

	run := m.start(t)
	require.Contains(t, m.told(t, child.SignerAway).Message, address)
	stop := sign()
	m.core.submit("a=1")
	m.core.await(t, func() bool { return len(m.core.pool) == 0 })

	err = signer.Run(t.Context(), signer.Options{Dir: machine, ChainID: "test", Connect: address})
	require.ErrorContains(t, err, "another signer uses the key")

	stop()
	stop = sign()
	m.core.submit("b=1")
	m.core.await(t, func() bool { return len(m.core.pool) == 0 })

	keys, err := comethome.ReadKeys(m.home)
	require.NoError(t, err)
	require.Equal(t, address, keys.Signer)
	require.Empty(t, keys.Validator.PubKey)
	require.NoFileExists(t, filepath.Join(m.home, "config", comethome.ValidatorKeyFile))
	require.NoError(t, run.Stop(t.Context()))
	stop()
}

// A validator's key is replaced only if the chain can go on. Its new key has signed nothing, and the
// old one stays beside it.
func TestAKeyThatTheChainNeedsIsNotReplaced(t *testing.T) {
	home, c := blocks(t, 2)
	dir := t.TempDir()
	next, err := comethome.NewValidatorKey(dir)
	require.NoError(t, err)
	_, err = comethome.NewValidatorKey(dir)
	require.ErrorContains(t, err, "exists already")
	before, err := comethome.ReadKeys(home)
	require.NoError(t, err)
	require.GreaterOrEqual(t, before.Height, int64(c.state.Height))

	_, _, err = comethome.RotateValidatorKey(home, dir, false)
	require.ErrorIs(t, err, comethome.ErrKeyNeeded)
	require.ErrorContains(t, err, "0 of 10 of the power")
	after, err := comethome.ReadKeys(home)
	require.NoError(t, err)
	require.Equal(t, before, after)

	old, now, err := comethome.RotateValidatorKey(home, dir, true)
	require.NoError(t, err)
	require.Equal(t, before.Validator.PubKey, old.PubKey)
	require.Equal(t, next.PubKey, now.PubKey)
	after, err = comethome.ReadKeys(home)
	require.NoError(t, err)
	require.Equal(t, next.PubKey, after.Validator.PubKey)
	require.Zero(t, after.Height)
	require.FileExists(t, filepath.Join(home, "data", comethome.SigningStateFile+".of-"+old.Address))

	was, id, err := comethome.RotateNodeKey(home)
	require.NoError(t, err)
	require.Equal(t, before.NodeID, was)
	require.NotEqual(t, was, id)
	_, err = comethome.NewNodeKey(home)
	require.ErrorContains(t, err, "exists already")
}
