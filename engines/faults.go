package engines

import (
	"context"
	"time"

	"github.com/coppice-go/coppice/supervisor"
)

// faultsOf returns the channel of the faults that are injected into the incarnation that ctx
// belongs to, or nil outside of one.
func faultsOf(ctx context.Context) <-chan supervisor.Fault { return supervisor.Faults(ctx) }

// Pause waits for d, or returns the cause of ctx when that ends before. Meanwhile it obeys faults
// that are injected into the incarnation that ctx belongs to.
func Pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()

	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case f := <-faultsOf(ctx):
			f.Do(ctx)
		case <-timer.C:
			return nil
		}
	}
}
