package behaviours

import (
	"context"
	"crypto/ed25519"
	"time"

	"github.com/coppice-go/coppice/engines/chain"
	"github.com/coppice-go/coppice/engines/rounds"
	"github.com/coppice-go/coppice/supervisor"
)

// Chain is what the behaviours need of the node. After engines.ErrDown a call may be repeated.
type Chain[S any] interface {
	// State returns the FSM and the chain, both as of the last committed block. A chain that has
	// not started has a chain.State that is not Started.
	State(ctx context.Context) (rounds.State[S], chain.State, error)

	// Follow calls moved after each committed block, once State returns it or a later one, until
	// ctx ends. It may miss blocks while engines are down, and may call moved once too often.
	Follow(ctx context.Context, moved func()) error

	// Pending returns the transactions of the backend rounds with a nonce that the node has
	// accepted and that have not ended.
	Pending(ctx context.Context, nonce []byte) ([]chain.TxID, error)

	// Submit makes a transaction durable.
	Submit(ctx context.Context, raw []byte) (chain.Submitted, error)

	// Wait waits until a transaction has ended.
	Wait(ctx context.Context, id chain.TxID) (chain.Ending, error)
}

// Config describes a node's part in a service.
type Config[S any] struct {
	Machine rounds.Machine[S]
	Chain   Chain[S]
	ChainID string // of genesis.json

	// Agent is the node's agent, and Key its key. A node without an agent only submits ticks.
	Agent rounds.Agent
	Key   ed25519.PrivateKey

	Now func() time.Time // nil: time.Now

	// Began, if set, is called before each call of a behaviour. It must not wait.
	Began func(rounds.Turn[S])
}

// Start returns the StartFunc of the supervisor of the follower and the behaviours.
func Start[S any](c Config[S]) supervisor.StartFunc {
	if c.Now == nil {
		c.Now = time.Now
	}

	return supervisor.Nested(supervisor.Spec{
		Name: "rounds", Strategy: supervisor.OneForAll, Intensity: supervisor.Intensity{Max: 10, Period: time.Minute},
		Build: func(context.Context) ([]supervisor.Child, error) {
			s := &sender[S]{Config: c, news: &bell{}}
			dynamic, err := supervisor.NewDynamic(supervisor.DynamicSpec[rounds.Turn[S]]{
				Name: "behaviours", Restart: supervisor.Transient, Verbose: true,
				Shutdown: shutdown, Orphan: supervisor.Abandon,
				Backoff:   supervisor.Backoff{Min: backoffMin, Max: backoffMax, Jitter: 0.2},
				Intensity: supervisor.Intensity{Max: maxRestarts, Period: time.Minute},
				Start: func(_ context.Context, t rounds.Turn[S]) (supervisor.Service, error) {
					return behaviour[S]{sender: s, turn: t}, nil
				},
			})
			if err != nil {
				return nil, err
			}

			return []supervisor.Child{
				{ID: "behaviours", Start: func(context.Context) (supervisor.Service, error) { return dynamic, nil }},
				{ID: "follower", Start: func(context.Context) (supervisor.Service, error) {
					return &follower[S]{Config: c, behaviours: dynamic, news: s.news, begun: map[string]bool{}}, nil
				}},
			}, nil
		},
	})
}

const (
	shutdown   = time.Second // for a behaviour that was cancelled
	backoffMin = 20 * time.Millisecond
	backoffMax = 5 * time.Second

	// maxRestarts bounds the restarts of all behaviours in a minute. A behaviour that always fails
	// comes to 12 in that time.
	maxRestarts = 10_000
)
