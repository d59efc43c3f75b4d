package comet

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/zap"

	"github.com/coppice-go/coppice/engines/consensus/comet/child"
	comethome "github.com/coppice-go/coppice/engines/consensus/comet/home"
)

// Two processes that sign with one validator key are an alarm: both say it as soon as they meet,
// and every node says it when a block has the evidence; the validator itself says that it is the
// one.
func TestADoubleSignIsAnAlarm(t *testing.T) {
	all := newNetwork(t, 4)
	twin := &member{home: filepath.Join(t.TempDir(), "comet"), core: newFakeCore(), changed: make(chan struct{}, 1),
		peer: "the twin"}
	require.NoError(t, os.CopyFS(twin.home, os.DirFS(all[3].home)))
	require.NoError(t, os.Remove(filepath.Join(twin.home, "config", "node_key.json")))
	_, err := comethome.NewNodeKey(twin.home)
	require.NoError(t, err)
	require.NoError(t, comethome.SetNetwork(twin.home, comethome.Network{P2P: freePort(t), RPC: freePort(t),
		Peers: []string{all[0].peer, all[1].peer, all[2].peer, all[3].peer}}))

	for _, m := range append(all, twin) {
		m.start(t)
	}

	for _, m := range []*member{all[3], twin} {
		e := m.told(t, child.DoubleSign)
		require.Equal(t, zap.ErrorLevel, e.Level)
	}

	limit := time.After(time.Minute)
	for _, m := range []*member{all[0], all[3]} {
		for m.logs.FilterMessageSnippet("double sign: ").Len() == 0 {
			select {
			case <-m.changed:
			case <-limit:
				require.FailNow(t, "no evidence in a block")
			}
		}
	}

	others := all[0].logs.FilterMessageSnippet("double sign: another validator").All()
	require.NotEmpty(t, others)
	require.Equal(t, zap.ErrorLevel, others[0].Level)
	require.NotEmpty(t, all[3].logs.FilterMessageSnippet("double sign: this validator").All())
}
