package supervisor

import (
	"context"
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"
)

// temporaries starts instances "a" and "b" of a Dynamic that end without an error at end.
func temporaries(t *testing.T) (r *dynamicRun, end chan struct{}) {
	t.Helper()
	end = make(chan struct{})
	d, err := NewDynamic(DynamicSpec[int]{Restart: Temporary, Start: func(_ context.Context, n int) (Service, error) {
		return ServiceFunc(func(ctx context.Context) error {
			if n == 0 {
				<-end
				return nil
			}
			<-ctx.Done()
			return nil
		}), nil
	}})
	require.NoError(t, err)

	served := make(chan error, 1)
	go func() { served <- d.Serve(context.Background()) }()
	t.Cleanup(func() {
		require.NoError(t, d.Stop(context.Background()))
		require.NoError(t, <-served)
	})

	for d.run.Load() == nil {
		runtime.Gosched()
	}

	for n, id := range []string{"a", "b"} {
		_, err := d.StartChild(t.Context(), id, n)
		require.NoError(t, err)
	}

	return d.run.Load().kids.(*dynamicRun), end
}

// An instance that has ended, and whose exit is still on its way to the books, makes the supervisor
// busy, also if another instance comes before or after it.
func TestADynamicIsBusyWhileAnExitIsOnItsWay(t *testing.T) {
	r, end := temporaries(t)
	r.mu.Lock() // the exit waits for it
	defer r.mu.Unlock()

	var before, after Tree
	r.draw(&before, false)
	require.False(t, before.Busy)

	close(end)
	for a := (Ref{r.instances["a"].inc}); a.Alive(); {
		runtime.Gosched()
	}

	r.draw(&after, false)
	require.True(t, after.Busy)
	require.Equal(t, 2, after.Instances)
	require.Equal(t, 1, after.InstancesRunning)
}

// The short way of an end is for the usual one alone. Each other one is told, or somebody waits for
// it, or it is that of a predecessor.
func TestTheShortWayIsForTheUsualEnd(t *testing.T) {
	for name, c := range map[string]struct {
		alter func(*dynamicRun, *instance)
		short bool
	}{
		"usual":               {func(*dynamicRun, *instance) {}, true},
		"not in the books":    {func(r *dynamicRun, in *instance) { delete(r.instances, in.id) }, false},
		"a predecessor":       {func(r *dynamicRun, in *instance) { in.inc = r.instances["b"].inc }, false},
		"it is being ended":   {func(_ *dynamicRun, in *instance) { in.stopping = true }, false},
		"not temporary":       {func(_ *dynamicRun, in *instance) { in.start = r0 }, false},
		"the run stops":       {func(r *dynamicRun, _ *instance) { r.state = Stopping }, false},
		"verbose":             {func(r *dynamicRun, _ *instance) { r.verbose = true }, false},
		"an error":            {func(_ *dynamicRun, in *instance) { in.inc.exit().Class = Abnormal }, false},
		"before it has begun": {func(_ *dynamicRun, in *instance) { in.inc.isAcked = false }, false},
	} {
		t.Run(name, func(t *testing.T) {
			r, end := temporaries(t)
			r.mu.Lock()
			in := r.instances["a"]
			delete(r.instances, "a") // its real end finds nothing to do
			r.mu.Unlock()

			close(end)
			inc := in.inc
			<-Monitor(Ref{inc})

			r.mu.Lock()
			r.instances["a"] = in
			state := r.state
			c.alter(r, in)
			r.mu.Unlock()

			require.Equal(t, c.short, r.endedQuietly(inc))

			r.mu.Lock()
			_, there := r.instances["a"]
			delete(r.instances, "a")
			r.state = state
			r.mu.Unlock()
			if c.short {
				require.False(t, there)
			}
		})
	}
}

func r0(context.Context) (Service, error) { panic("nobody starts it") }
