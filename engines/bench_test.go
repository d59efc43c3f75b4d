package engines_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/coppice-go/coppice/engines"
	"github.com/coppice-go/coppice/engines/router"
	"github.com/coppice-go/coppice/supervisor"
)

// withEngines runs body with two engines, a and b.
func withEngines(b *testing.B, body func(dir engines.Directory)) {
	dir := router.NewDirectory()
	sup, err := supervisor.New(supervisor.Spec{Build: supervisor.Children(
		supervisor.Child{ID: "router", Start: router.Child(dir)},
		supervisor.Child{ID: "a", Start: willing("a", 0).Start(dir)},
		supervisor.Child{ID: "b", Start: willing("b", 0).Start(dir)},
	)})
	require.NoError(b, err)
	run, err := sup.Start(context.Background())
	require.NoError(b, err)
	body(dir)
	require.NoError(b, run.Stop(context.Background()))
}

// A handler's call is an edge of the wait-for graph while it waits, which costs two allocations.
func BenchmarkCallFromHandler(b *testing.B) {
	withEngines(b, func(dir engines.Directory) {
		b.ReportAllocs()
		require.NoError(b, call(context.Background(), dir, "a", func(ctx context.Context) error {
			for b.Loop() {
				if err := call(ctx, dir, "b", nothing); err != nil {
					return err
				}
			}
			return nil
		}))
	})
}

// A deadline gives the handler a context of its own.
func BenchmarkCallWithDeadline(b *testing.B) {
	withEngines(b, func(dir engines.Directory) {
		ctx, cancel := context.WithTimeout(context.Background(), time.Hour)
		defer cancel()
		b.ReportAllocs()
		for b.Loop() {
			require.NoError(b, call(ctx, dir, "b", nothing))
		}
	})
}
