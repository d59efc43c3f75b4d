package node

import (
	"context"
	"encoding/json"
	"fmt"
	"path/filepath"

	"go.uber.org/zap"

	"github.com/coppice-go/coppice/engines"
	"github.com/coppice-go/coppice/engines/chain"
	"github.com/coppice-go/coppice/engines/rounds"
	"github.com/coppice-go/coppice/engines/rounds/behaviours"
	"github.com/coppice-go/coppice/engines/rounds/replicated"
	"github.com/coppice-go/coppice/node/agentlog"
	"github.com/coppice-go/coppice/node/api"
	"github.com/coppice-go/coppice/node/exit"
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
		withHealthListener(n)
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

// openAgentLog opens the log file of the agent, if the node has a service and is told of a file.
func (n *Node) openAgentLog() (err error) {
	path := n.config.Rounds.LogFile
	if n.service == nil || path == "" {
		return nil
	}
	if !filepath.IsAbs(path) {
		path = filepath.Join(n.home, path)
	}

	n.agentLog, err = agentlog.Open(agentlog.Options{Path: path, Agent: string(n.agent), Now: n.now,
		Failed: func(err error) { n.diagnostics.Warn("the log file of the rounds has gaps", zap.Error(err)) }})
	if err != nil {
		return fmt.Errorf("%w: rounds.log_file: %w", exit.ErrConfig, err)
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
			Began: func(t rounds.Turn[S]) {
				if n.agentLog != nil {
					n.agentLog.Behaviour(t.Name)
				}
			},
		})(ctx)
	}
}

// roundsNow returns the state of the service without its app, as of the last block, and the height
// of that.
func (n *Node) roundsNow(ctx context.Context) (st rounds.State[struct{}], height uint64, err error) {
	c := n.core.Load()
	if c == nil {
		return st, 0, fmt.Errorf("%w: the node has not started", api.ErrUnavailable)
	}
	core := newAPICore(n, c)

	all, _, err := replicated.Read[json.RawMessage](func(key []byte) ([]byte, bool, error) {
		r, err := core.Get(ctx, [][]byte{key}, height, mostRoundBytes)
		if err != nil {
			return nil, false, err
		}
		height = r.Height // the parts that follow are read at the same one
		return r.Values[0], r.Values[0] != nil, nil
	})
	if err != nil {
		return st, height, err
	}

	return rounds.State[struct{}]{Round: all.Round, Count: all.Count, Period: all.Period, Ballot: all.Ballot,
		Participants: all.Participants, Deadlines: all.Deadlines, Sides: all.Sides, Interrupted: all.Interrupted,
		Offences: all.Offences}, height, nil
}

// mostRoundBytes bounds one part of the state of a service that is shown.
const mostRoundBytes = 16 << 20
