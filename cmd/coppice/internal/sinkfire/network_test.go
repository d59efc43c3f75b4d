package sinkfire

import (
	"net"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/coppice-go/coppice/cmd/coppice/internal/testnet"
	comethome "github.com/coppice-go/coppice/engines/consensus/comet/home"
	"github.com/coppice-go/coppice/node/plan"
)

// network returns the machines of n validators of one chain, which are not started.
func network(t testing.TB, n int, o testnet.InitOptions, args ...string) []*machine {
	t.Helper()
	o.Nodes, o.ChainID, o.Profile, o.CometProfile = n, "sinks", plan.Chaos, comethome.Tuned
	if o.EmptyEvery == 0 {
		o.EmptyEvery = time.Second
	}
	nodes, err := testnet.Init(filepath.Join(shortDir(t), "net"), o)
	require.NoError(t, err)

	var p2p, ids []string
	for i := range n {
		p2p = append(p2p, freeAddr(t))
		id, err := comethome.ReadIdentity(comethome.Dir(nodes.Home(i)))
		require.NoError(t, err)
		ids = append(ids, id.NodeID)
	}

	var list []*machine
	for i := range n {
		var peers []string
		for j := range n {
			if i != j {
				peers = append(peers, ids[j]+"@"+p2p[j])
			}
		}
		require.NoError(t, comethome.SetNetwork(comethome.Dir(nodes.Home(i)),
			comethome.Network{P2P: p2p[i], RPC: freeAddr(t), Peers: peers}))
		list = append(list, newMachine(t, coppice(t), nodes.Home(i), args...))
	}

	return list
}

// freeAddr returns an address on which no process listens.
func freeAddr(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	return l.Addr().String()
}
