package testnet

import (
	"crypto/ed25519"
	"crypto/rand"
	"fmt"

	"github.com/coppice-go/coppice/engines/chain"
	comethome "github.com/coppice-go/coppice/engines/consensus/comet/home"
	"github.com/coppice-go/coppice/node/home"
)

// register gives each node an agent with a key of its own, and registers the agents in g and in the
// genesis of every home. The agent of a node has the node's validator.
func (n *Net) register(g *chain.Genesis, validators []comethome.Validator) error {
	for i, v := range validators {
		public, key, err := ed25519.GenerateKey(rand.Reader)
		if err != nil {
			return err
		}
		if err := home.WriteAgentKey(n.Home(i), key); err != nil {
			return err
		}
		g.Agents = append(g.Agents, chain.Agent{Name: fmt.Sprintf("node%d", i), Key: public, Validator: v.Address})
	}

	for i := range validators {
		if err := home.WriteGenesis(n.Home(i), *g); err != nil {
			return err
		}
	}
	return nil
}
