package comet

import (
	"errors"
	"flag"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/coppice-go/coppice/engines/backend/governance"
	"github.com/coppice-go/coppice/engines/chain"
	"github.com/coppice-go/coppice/engines/consensus"
	"github.com/coppice-go/coppice/engines/consensus/comet/child"
	comethome "github.com/coppice-go/coppice/engines/consensus/comet/home"
)

// The kind claims a home once Init has made its files, and adds governance to its backends.
func TestAHomeIsClaimedOnceItIsMade(t *testing.T) {
	dir, g := t.TempDir(), chain.NewGenesis("test", time.Now())
	k := Kind{}
	require.NoError(t, k.Claim(dir))

	none, err := k.Genesis("test", nil)
	require.NoError(t, err)
	require.Nil(t, none, "a new chain")
	_, err = k.Genesis("test", 7)
	require.ErrorContains(t, err, "a int, want a comet.InitOptions")

	require.NoError(t, k.Init(consensus.Home{Dir: dir, Genesis: g},
		InitOptions{P2P: "127.0.0.1:0", RPC: "127.0.0.1:0", VoteExtensionsHeight: 2}))
	require.ErrorContains(t, k.Claim(dir), `want "cometbft"`)
	theirs, err := comethome.ReadGenesis(comethome.Dir(dir))
	require.NoError(t, err)
	require.EqualValues(t, 2, theirs.VoteExtensionsHeight)

	backends, err := k.Backends(dir, g)
	require.NoError(t, err)
	require.Len(t, backends, 1)
	require.Equal(t, governance.Name, backends[0].Name())

	own, err := k.Genesis("test", InitOptions{Import: comethome.Dir(dir)})
	require.NoError(t, err)
	require.Equal(t, g, *own, "the genesis that theirs carries")
	_, err = k.Genesis("other", InitOptions{Import: comethome.Dir(dir)})
	require.ErrorContains(t, err, `it is of chain "test", want "other"`)

	require.ErrorIs(t, k.Reset(consensus.Home{Dir: dir}), errors.ErrUnsupported)
}

// The command that runs CometBFT accepts the flags that the driver passes, and its status says why
// it ended.
func TestTheChildIsACommandOfTheKind(t *testing.T) {
	commands := Kind{}.Traits().Commands
	require.Len(t, commands, 1)
	require.Equal(t, child.Command, commands[0].Name)

	o := child.Options{Home: filepath.Join(t.TempDir(), "none"), ABCI: "a", RPC: "r"}
	f := flag.NewFlagSet(child.Command, flag.ContinueOnError)
	commands[0].New(f)
	require.NoError(t, f.Parse(o.Args()))
	require.Equal(t, "a", f.Lookup("abci").Value.String())

	err := child.Run(t.Context(), o)
	require.ErrorIs(t, err, comethome.ErrHome)
	require.Equal(t, child.StatusConfig, child.Status(err))
	require.Equal(t, consensus.Config, Kind{}.Traits().Class(err))
}
