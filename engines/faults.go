package engines

import (
	"context"

	"github.com/coppice-go/coppice/supervisor"
)

// faultsOf returns the channel of the faults that are injected into the incarnation that ctx
// belongs to, or nil outside of one.
func faultsOf(ctx context.Context) <-chan supervisor.Fault { return supervisor.Faults(ctx) }
