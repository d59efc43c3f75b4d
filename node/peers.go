package node

import (
	"github.com/coppice-go/coppice/engines/chain"
	"github.com/coppice-go/coppice/node/peers"
)

// openPeers makes the peers that the configuration names.
func (n *Node) openPeers(g chain.Genesis) (err error) {
	n.peers, n.closePeers, err = peers.Open(n.home, n.config, g)
	return err
}

// peerSource returns what answers the peers of this node.
func (n *Node) peerSource() peers.Source {
	s := peers.Source{
		Name: n.genesis.GetChainId(), Agent: peers.Agent{Name: string(n.agent), Key: n.agentKey}, Driver: n.driver,
		State: (&figures{node: n}).chain,
	}
	if n.stateSync != nil {
		s.States = n.stateSync
	}

	return s
}
