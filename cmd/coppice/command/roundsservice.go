package command

import (
	"context"
	"fmt"

	"github.com/coppice-go/coppice/engines/chain"
	"github.com/coppice-go/coppice/engines/rounds"
	"github.com/coppice-go/coppice/engines/rounds/explore"
	"github.com/coppice-go/coppice/engines/rounds/replicated"
	"github.com/coppice-go/coppice/node"
	"github.com/coppice-go/coppice/node/exit"
)

// Rounds is a service of rounds that a program runs. RoundsOf makes it.
type Rounds struct {
	service interface {
		Label() string
		Check() []rounds.Fault
		YAML() string
		Mermaid() string
	}
	explore func(context.Context, explore.Options) (explore.Result, error)
	backend chain.Backend
	option  node.Option
}

// RoundsOf returns a service for Program.Rounds.
func RoundsOf[S any](service *rounds.Service[S]) *Rounds {
	search := func(ctx context.Context, o explore.Options) (explore.Result, error) {
		return explore.Run(ctx, service, o)
	}
	return &Rounds{service, search, replicated.New(service), node.WithRounds(service)}
}

// backends returns the program's own backends, with that of its service.
func (p Program) backends() []chain.Backend {
	if p.Rounds == nil {
		return p.Backends
	}
	return append([]chain.Backend{p.Rounds.backend}, p.Backends...)
}

// rounds returns the program's service. Its error is exit.ErrConfig.
func (p Program) rounds() (*Rounds, error) {
	if p.Rounds == nil {
		return nil, fmt.Errorf("%w: this program has no service of rounds: use the program that has it "+
			"(command.Program.Rounds)", exit.ErrConfig)
	}
	return p.Rounds, nil
}
