package engines

import (
	"context"

	"github.com/coppice-go/coppice/supervisor"
)

// faultsOf is the channel on which faults injected into the incarnation that ctx belongs to arrive;
// nil outside one.
func faultsOf(ctx context.Context) <-chan supervisor.Fault { return supervisor.Faults(ctx) }
