package supervisor_test

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/coppice-go/coppice/supervisor"
)

// OnInject tells a child that a fault is on offer, before the child receives it.
func TestOnInject(t *testing.T) {
	told, took := make(chan struct{}, 1), make(chan struct{})
	offers := make(chan bool, 2)
	r, _ := tree(t, supervisor.Spec{Build: children(supervisor.Child{ID: "a", Start: supervisor.Start(
		func(ctx context.Context) error {
			offered := supervisor.OnInject(ctx, func() { told <- struct{}{} })
			offers <- offered()
			<-told
			offers <- offered()
			(<-supervisor.Faults(ctx)).Do(ctx)
			<-ctx.Done()
			return nil
		})})})

	require.False(t, <-offers)
	fault := supervisor.Fault{Name: "f", Do: func(context.Context) { close(took) }}
	require.NoError(t, r.Inject(t.Context(), "a", fault))
	require.True(t, <-offers)
	<-took
	require.False(t, supervisor.OnInject(t.Context(), func() {})(), "it belongs to no child")
}
