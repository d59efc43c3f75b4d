package node

import (
	"github.com/coppice-go/coppice/engines/rounds"
	"github.com/coppice-go/coppice/engines/rounds/replicated"
)

// WithRounds makes the node execute a service of rounds, whose agents are those of genesis.json.
// All nodes of the chain have the same service from the first block on. A program that also
// verifies its homes gives the backend replicated.New(service) to offline.VerifyOptions, or to
// command.Program.
func WithRounds[S any](service *rounds.Service[S]) Option {
	return WithBackend(replicated.New(service))
}
