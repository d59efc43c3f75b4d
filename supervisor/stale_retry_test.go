package supervisor

import (
	"context"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"
)

// A retry that was under way when its instance was forgotten has no effect (OTP rule 53): not on a
// successor with the same ID, and not while the run stops.
func TestRule53_StaleRetryOfAnInstance(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		starts := 0
		d, err := NewDynamic(DynamicSpec[int]{Start: func(context.Context, int) (Service, error) {
			starts++
			return ServiceFunc(func(ctx context.Context) error { <-ctx.Done(); return nil }), nil
		}})
		require.NoError(t, err)
		served := make(chan error, 1)
		go func() { served <- d.Serve(context.Background()) }()
		synctest.Wait()
		_, err = d.StartChild(context.Background(), "p", 0)
		require.NoError(t, err)
		r := d.run.Load().kids.(*dynamicRun)
		r.mu.Lock()
		old := r.instances["p"]
		ended := old.inc
		r.mu.Unlock()

		require.NoError(t, d.TerminateChild(context.Background(), "p"))
		_, err = d.StartChild(context.Background(), "p", 0)
		require.NoError(t, err)
		require.Equal(t, 2, starts)

		var successor *instance
		r.mu.Lock()
		old.inc, old.lastExit = nil, &Exit{} // as between two attempts
		r.box.put(notice(func() { r.restart(old) }))
		r.box.put(notice(func() { r.perform(old) }))
		successor = r.instances["p"] // which runs
		r.box.put(notice(func() { r.perform(successor) }))
		r.mu.Unlock()

		synctest.Wait()
		require.Equal(t, 2, starts)

		// A stop of the incarnation that ended, by a caller that saw it alive, leaves the successor
		// alone.
		require.NoError(t, r.terminate(context.Background(), "p", ended))
		require.True(t, Ref{successor.inc}.Alive())

		r.mu.Lock()
		r.instances["x"] = &instance{slot: slot{id: "x"}} // between two attempts without a delay
		r.mu.Unlock()

		require.NoError(t, d.Stop(context.Background()))
		require.NoError(t, <-served)
		r.restart(old)
		r.perform(old)
		synctest.Wait()
		require.Equal(t, 2, starts)
	})
}
