package supervisor_test

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/coppice-go/coppice/supervisor"
	"github.com/coppice-go/coppice/supervisor/suptest"
)

// Every child of a tree with all strategies fails at every event of its life. Whatever follows
// obeys the laws and leaves nothing behind.
func TestEveryChildAtEveryEvent(t *testing.T) {
	soft := func(id string) supervisor.Child {
		return supervisor.Child{ID: id, Start: supervisor.Start(func(ctx context.Context) error {
			for {
				select {
				case f := <-supervisor.Faults(ctx):
					f.Do(ctx)
				case <-ctx.Done():
					return nil
				}
			}
		})}
	}

	spec := func() supervisor.Spec {
		last := soft("last")
		last.Restart, last.Significant = supervisor.Transient, true
		return supervisor.Spec{AutoShutdown: supervisor.AllSignificant, Build: children(
			nested("all", 0, supervisor.Spec{Strategy: supervisor.OneForAll, Build: children(soft("a"), soft("b"))}),
			nested("rest", 0, supervisor.Spec{Strategy: supervisor.RestForOne,
				Intensity: supervisor.Intensity{Period: time.Second}, Build: children(soft("c"), soft("d"))}),
			last,
		)}
	}

	drive := func(run *supervisor.Run) {
		_, err := run.StartChild(ctx, soft("extra"))
		if err == nil {
			err = errors.Join(run.TerminateChild(ctx, "extra"), second(run.RestartChild(ctx, "extra")))
		}
		if err != nil && !errors.Is(err, supervisor.ErrNotRunning) {
			panic(err)
		}
	}

	_, struck := suptest.EveryChildAtEveryEvent(t,
		suptest.Scenario{Spec: spec, Drive: drive, Ways: []suptest.Way{suptest.ByKill, suptest.ByPanic},
			Check: func(t testing.TB, run *supervisor.Run, _ *suptest.Recorder) {
				var waiting []string
				run.Tree().Walk(func(n supervisor.Tree) {
					if n.State != supervisor.Running {
						waiting = append(waiting, n.Path)
					}
				})
				slices.Sort(waiting)
				if len(waiting) > 0 {
					t.Errorf("%q do not run\n%s", waiting, run.Tree())
				}
			}})
	require.Greater(t, struck, 100)
}
