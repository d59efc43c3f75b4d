package node_test

import (
	"context"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/coppice-go/coppice/engines/streams"
	"github.com/coppice-go/coppice/engines/streams/file"
	"github.com/coppice-go/coppice/node"
	"github.com/coppice-go/coppice/node/config"
	"github.com/coppice-go/coppice/node/home"
	"github.com/coppice-go/coppice/node/nodetest"
	"github.com/coppice-go/coppice/node/offline"
)

// R16: a node that keeps two versions still has the value before each change for a stream that asks
// for it, however far behind its sink is; a pruning of the stopped home keeps it, too.
func TestAStreamHasTheValuesBeforeChanges(t *testing.T) {
	n := nodetest.Start(t, nodetest.OnDisk(), nodetest.With(node.WithSink(file.Factory())),
		nodetest.Config(func(c *config.Config) { c.Retention.Versions = 2 }))
	c := n.Client()
	put(t, c, "k")
	_, err := n.Node().Streams().Add(t.Context(), "out", []byte("kind = \"file\"\ndir = \"../out\"\nbefore = true\n"+
		"keep_behind = \"0s\"\n"), false)
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), nodetest.Timeout)
	defer cancel()
	height := put(t, c, "k")
	require.NoError(t, n.Node().Streams().Wait(ctx, "out", streams.Position{Height: height}))
	require.NoError(t, n.Node().Streams().Pause("out", "test"))
	for range 6 {
		height = put(t, c, "k")
	}
	n.Stop()
	_, err = offline.Prune(t.Context(), n.Home(), offline.PruneOptions{KeepHeights: 2})
	require.NoError(t, err)
	n.Begin()
	require.NoError(t, n.Node().Streams().Resume("out", false, "test"))
	require.NoError(t, n.Node().Streams().Wait(ctx, "out", streams.Position{Height: height}))

	d, err := streams.ParseDefinition(filepath.Join(home.StreamsDir(n.Home()), "out.toml"),
		[]byte("kind = \"file\"\ndir = \"../out\"\n"))
	require.NoError(t, err)
	s, err := file.Factory().New(d, streams.Secrets{})
	require.NoError(t, err)
	var states []streams.BeforeState
	require.NoError(t, s.Read(ctx, streams.Position{}, streams.Position{Height: height}, func(e streams.Event) error {
		if ch, ok := e.Body.(*streams.Change); ok {
			states = append(states, ch.Before.State)
			if ch.Before.State == streams.BeforeValue {
				require.Equal(t, "v", string(ch.Before.Value))
			}
		}
		return nil
	}))
	require.Len(t, states, 8)
	for _, st := range states[1:] {
		require.Equal(t, streams.BeforeValue, st, "%v", states)
	}
}
