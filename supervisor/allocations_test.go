package supervisor_test

import (
	"context"
	"errors"
	"runtime"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/coppice-go/coppice/supervisor"
)

// What a child costs in allocations must not grow unseen. The rows are those of docs/performance.md
// and the limits are what each allocates, with the child's own service and, of a restart, with the
// channel of its context's Done.

// quiet starts a tree whose events nobody wants.
func quiet(t *testing.T, spec supervisor.Spec) *supervisor.Run {
	t.Helper()
	spec.Observers = []supervisor.Observer{supervisor.Discard}
	s, err := supervisor.New(spec)
	require.NoError(t, err)
	r, err := s.Start(ctx)
	require.NoError(t, err)
	return r
}

// perOp returns the allocations of one of the ops operations of f.
func perOp(ops int, f func()) float64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return float64(after.Mallocs-before.Mallocs) / float64(ops)
}

func requireAllocs(t *testing.T, got, limit float64) {
	t.Helper()
	t.Logf("%.2f allocations", got)
	require.LessOrEqual(t, got, limit+0.5+ofRace, "docs/performance.md says what each row allocates")
}

func TestAllocationsOfARestart(t *testing.T) {
	for _, c := range []struct {
		name  string
		panic bool
		limit float64
	}{{"error", false, 10}, {"panic", true, 13}} {
		t.Run(c.name, func(t *testing.T) {
			starts, die := make(chan struct{}), make(chan struct{})
			serve := supervisor.ServiceFunc(func(ctx context.Context) error {
				select {
				case starts <- struct{}{}:
				case <-ctx.Done():
					return nil
				}
				select {
				case <-die:
				case <-ctx.Done():
					return nil
				}
				if c.panic {
					panic(errCrash)
				}
				return errCrash
			})
			r := quiet(t, supervisor.Spec{Intensity: many(1 << 40), Build: children(supervisor.Child{ID: "a",
				Start: func(context.Context) (supervisor.Service, error) { return serve, nil }})})
			<-starts

			got := testing.AllocsPerRun(1000, func() {
				die <- struct{}{}
				<-starts
			})
			require.NoError(t, r.Stop(ctx))
			requireAllocs(t, got, c.limit)
		})
	}
}

// The children of a group, for each of which a restart is one stop and one start.
func TestAllocationsOfAGroup(t *testing.T) {
	const size = 100
	starts, die := make(chan struct{}), make(chan struct{})
	waits := supervisor.ServiceFunc(func(ctx context.Context) error { <-ctx.Done(); return nil })
	ends := supervisor.ServiceFunc(func(ctx context.Context) error {
		select {
		case starts <- struct{}{}:
		case <-ctx.Done():
			return nil
		}
		select {
		case <-die:
			return errCrash
		case <-ctx.Done():
			return nil
		}
	})

	list := make([]supervisor.Child, size)
	for i := range list {
		list[i] = supervisor.Child{ID: strconv.Itoa(i), Start: func(context.Context) (supervisor.Service, error) {
			if i == size-1 {
				return ends, nil
			}
			return waits, nil
		}}
	}

	r := quiet(t, supervisor.Spec{Strategy: supervisor.OneForAll, Intensity: many(1 << 40), Build: children(list...)})
	<-starts
	got := testing.AllocsPerRun(20, func() {
		die <- struct{}{}
		<-starts
	}) / size
	require.NoError(t, r.Stop(ctx))
	requireAllocs(t, got, 10.3)
}

func TestAllocationsOfATemporaryChild(t *testing.T) {
	over := supervisor.ServiceFunc(func(context.Context) error { return nil })
	d, err := supervisor.NewDynamic(supervisor.DynamicSpec[int]{Restart: supervisor.Temporary,
		Start: func(context.Context, int) (supervisor.Service, error) { return over, nil }})
	require.NoError(t, err)
	r := quiet(t, supervisor.Spec{Build: children(supervisor.Child{ID: "d",
		Start: func(context.Context) (supervisor.Service, error) { return d, nil }})})

	var failed error
	got := testing.AllocsPerRun(1000, func() {
		ref, err := d.StartChild(ctx, "", 1)
		failed = errors.Join(failed, err)
		<-supervisor.Monitor(ref)
	})
	require.NoError(t, failed)
	require.NoError(t, r.Stop(ctx))
	requireAllocs(t, got, 14)
}

func TestAllocationsOfManyChildren(t *testing.T) {
	const n = 5000
	waits := supervisor.ServiceFunc(func(ctx context.Context) error { <-ctx.Done(); return nil })
	list := make([]supervisor.Child, n)
	for i := range list {
		list[i] = supervisor.Child{ID: strconv.Itoa(i),
			Start: func(context.Context) (supervisor.Service, error) { return waits, nil }}
	}

	var r *supervisor.Run
	started := perOp(n, func() { r = quiet(t, supervisor.Spec{Build: children(list...)}) })
	stopped := perOp(n, func() { require.NoError(t, r.Stop(ctx)) })
	requireAllocs(t, started, 13)
	requireAllocs(t, stopped, 1)
}
