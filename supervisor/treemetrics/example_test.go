package treemetrics_test

import (
	"context"
	"fmt"

	"github.com/coppice-go/coppice/supervisor"
	"github.com/coppice-go/coppice/supervisor/treemetrics"
)

// An exporter asks for a snapshot whenever it is scraped.
func ExampleMetrics() {
	crashed := false
	m := &treemetrics.Metrics{}
	s, err := supervisor.New(supervisor.Spec{
		Name: "shop", Observers: []supervisor.Observer{m},
		Build: supervisor.Children(supervisor.Child{ID: "till",
			Start: supervisor.Start(func(ctx context.Context) error {
				if !crashed {
					crashed = true
					return fmt.Errorf("drawer is stuck")
				}
				<-ctx.Done()
				return ctx.Err()
			})}),
	})

	if err != nil {
		panic(err)
	}
	run, err := s.Start(context.Background())
	if err != nil {
		panic(err)
	}

	for m.Snapshot().Total.Starts < 2 {
		_ = run.Flush(context.Background())
	}

	for _, f := range m.Snapshot(run.Tree()).Paths {
		fmt.Printf("%q: %d starts, %d restarts, %d crashes", f.Path, f.Starts, f.Restarts, f.Exits.Abnormal)
		if f.Gauge.Kind == supervisor.SupervisorKind {
			fmt.Printf(", %d of %d in the window", f.Gauge.InWindow, f.Gauge.Max)
		}
		fmt.Println()
	}

	_ = run.Stop(context.Background())
	// Output:
	// "": 0 starts, 0 restarts, 0 crashes, 1 of 1 in the window
	// "till": 2 starts, 1 restarts, 1 crashes
}
