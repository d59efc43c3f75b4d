package engines_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/coppice-go/coppice/engines"
	"github.com/coppice-go/coppice/engines/router"
	"github.com/coppice-go/coppice/supervisor"
)

// Stat shows the message in hand and how long it has been there, what waits, and the rates' two
// counters, while the engine handles a message and so could not answer any.
func TestStatShowsABusyEngine(t *testing.T) {
	spec := willing("busy", 4)
	spec.Inspect = func(context.Context) map[string]string { return map[string]string{"shown": "yes"} }

	bubble(t, func(t *testing.T, dir *router.Directory, run *supervisor.Run) {
		to := engines.NewAddress(dir, "busy")
		release := make(chan struct{})
		require.NoError(t, engines.Cast(t.Context(), to, tell{func(context.Context) { <-time.After(time.Second) }}))
		require.NoError(t, engines.Cast(t.Context(), to, tell{func(context.Context) { <-release }}))
		require.NoError(t, engines.Cast(t.Context(), to, tell{func(context.Context) {}}))
		<-time.After(3 * time.Second)

		busy := func() engines.Stat {
			for _, s := range dir.Table().Stats() {
				if s.Name == "busy" {
					return s
				}
			}
			t.Fatal("the engine is not listed")
			return engines.Stat{}
		}

		s := busy()
		require.Equal(t, "busy", s.Path)
		require.Equal(t, "engines_test.tell", s.InHand)
		require.Equal(t, 3*time.Second, s.Oldest)
		require.Equal(t, 2*time.Second, s.Handling)
		require.Equal(t, 3*time.Second, s.Busy)
		require.EqualValues(t, 1, s.Handled)
		require.Equal(t, 1, s.Len)
		require.Equal(t, 4, s.Cap)

		shown, err := run.Inspect(t.Context(), "busy")
		require.NoError(t, err)
		require.Equal(t, map[string]string{"shown": "yes"}, shown)
		_, err = run.Inspect(t.Context(), "router")
		require.ErrorIs(t, err, supervisor.ErrNotInspected)

		close(release)
		synctest.Wait()
		s = busy()
		require.Empty(t, s.InHand)
		require.EqualValues(t, 3, s.Handled)
		require.Equal(t, 3*time.Second, s.Busy)
	}, spec)
}
