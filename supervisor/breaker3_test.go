package supervisor_test

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"github.com/coppice-go/coppice/supervisor"
)

// What is between two states: an end that meets a restart, a stop that meets a delay, a kill that takes its time.

// late is a context that ends while StartChild looks at it: by then, until has returned.
type late struct {
	context.Context
	until func()
	over  atomic.Bool
}

func (l *late) Done() <-chan struct{} {
	l.until()
	l.over.Store(true)
	closed := make(chan struct{})
	close(closed)
	return closed
}

func (l *late) Err() error {
	if l.over.Load() {
		return context.Canceled
	}
	return nil
}

// StartChild: "If ctx ends first, the instance is told to end", also when it has crashed meanwhile and is in its second incarnation, or between the two.
func TestDynamicStartCancelledAfterRestart(t *testing.T) {
	for _, backoff := range []supervisor.Backoff{{}, {Min: 1 << 40}} {
		cancelled := 0
		for range 40 { // select chooses among what is ready: the acknowledgment, the end and the context
			synctest.Test(t, func(t *testing.T) {
				var n atomic.Int32
				d, err := supervisor.NewDynamic(supervisor.DynamicSpec[int]{Name: "d", Intensity: many(9), Backoff: backoff, Start: func(context.Context, int) (supervisor.Service, error) {
					return supervisor.ServiceFunc(func(ctx context.Context) error {
						if n.Add(1) == 1 {
							return errCrash
						}
						<-ctx.Done()
						return ctx.Err()
					}), nil
				}})
				require.NoError(t, err)
				r, _ := tree(t, supervisor.Spec{Build: children(supervisor.Child{ID: "d", Start: func(context.Context) (supervisor.Service, error) { return d, nil }})})
				_, err = d.StartChild(&late{Context: ctx, until: synctest.Wait}, "x", 1)
				synctest.Wait()
				_, known := d.WhichChild("x")
				if err == nil {
					require.NoError(t, known)
				} else {
					require.ErrorIs(t, err, context.Canceled)
					require.ErrorIs(t, known, supervisor.ErrNotFound)
					cancelled++
				}
				require.True(t, r.Tree().Settled() || backoff.Min > 0)
				require.NoError(t, r.Stop(ctx))
			})
		}
		require.Positive(t, cancelled)
	}
}
