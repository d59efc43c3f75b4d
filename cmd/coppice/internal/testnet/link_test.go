package testnet

import (
	"context"
	"net"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/coppice-go/coppice/supervisor"
)

// A link that is told to stop ends in order, although it waits for connections.
func TestALinkStopsInOrder(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)

	ctx, stop := context.WithCancel(t.Context())
	tree, err := supervisor.New(supervisor.Spec{
		Name: "links", Build: supervisor.Children(linkChildren([]*link{{listener: listener}})...),
		Observers: []supervisor.Observer{supervisor.ObserverFunc(func(e supervisor.Event) {
			switch e := e.(type) {
			case supervisor.ChildStarted:
				stop()
			case supervisor.ShutdownError:
				t.Error(e)
			}
		})},
	})
	require.NoError(t, err)
	require.ErrorIs(t, tree.Serve(ctx), context.Canceled)
}
