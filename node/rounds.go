package node

import (
	"context"
	"fmt"

	"go.uber.org/zap"

	"github.com/coppice-go/coppice/engines"
	"github.com/coppice-go/coppice/engines/chain"
	"github.com/coppice-go/coppice/engines/rounds"
	"github.com/coppice-go/coppice/engines/rounds/behaviours"
	"github.com/coppice-go/coppice/engines/rounds/replicated"
	"github.com/coppice-go/coppice/node/home"
	"github.com/coppice-go/coppice/supervisor"
)

// WithRounds makes the node execute a service of rounds, whose agents are those of genesis.json.
// All nodes of the chain have the same service from the first block on. If the home has the key of
// an agent (home.AgentKeyFile), the engine "rounds" runs the agent's behaviours.
//
// A program that also verifies its homes gives the backend replicated.New(service) to
// offline.VerifyOptions, or to command.Program.
func WithRounds[S any](service *rounds.Service[S]) Option {
	return func(n *Node) {
		n.service = newRoundsHealth(service)
		WithBackend(replicated.New(service))(n)
		WithEngine(Engine{ID: roundsEngine, Start: func(dir engines.Directory) supervisor.StartFunc {
			return startRounds[S](n, dir)
		}})(n)
	}
}

// roundsEngine is the id of the engine that runs the behaviours of the rounds.
const roundsEngine = "rounds"

// openAgent reads the agent of the home, if its chain has agents.
func (n *Node) openAgent(g chain.Genesis) error {
	if len(g.Agents) == 0 {
		return nil
	}

	name, key, err := home.ReadAgent(n.home, g)
	if err != nil {
		return err
	}

	n.agent, n.agentKey = rounds.Agent(name), key
	if name == "" {
		n.diagnostics.Info("this node executes the rounds and has no agent of its own: there is no key",
			zap.String("file", home.AgentKeyFile))
	}

	return nil
}

// startRounds returns the start function of the engine that runs the behaviours.
func startRounds[S any](n *Node, dir engines.Directory) supervisor.StartFunc {
	return func(ctx context.Context) (supervisor.Service, error) {
		b, ok := n.backends[rounds.Backend].(*replicated.Backend[S])
		if !ok {
			return nil, fmt.Errorf("the backend %s is not that of the service: another option has replaced it",
				rounds.Backend)
		}

		return behaviours.Start(behaviours.Config[S]{
			Machine: b.Machine(), Chain: newRoundsChain(n, b, dir), ChainID: b.ChainID(),
			Agent: n.agent, Key: n.agentKey, Now: n.now,
		})(ctx)
	}
}
