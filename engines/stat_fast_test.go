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

// Of fast handlers a part is measured, and each message is counted. A slow message among them is
// shown while it is in hand, and the engine measures each message again once it has seen one.
func TestStatOfAFastEngine(t *testing.T) {
	bubble(t, func(t *testing.T, dir *router.Directory, _ *supervisor.Run) {
		to := engines.NewAddress(dir, "a")
		stat := func() engines.Stat {
			box, err := dir.Resolve("a")
			require.NoError(t, err)
			return box.Stat()
		}

		cast := func(do func(context.Context)) {
			require.NoError(t, engines.Cast(t.Context(), to, tell{do}))
		}
		for range 1000 {
			cast(func(context.Context) {})
		}
		synctest.Wait()
		require.EqualValues(t, 1000, stat().Handled)
		require.Zero(t, stat().Busy, "fake time stands still")

		for range 32 { // at least one of them is measured
			cast(func(context.Context) { <-time.After(time.Second) })
		}
		release := make(chan struct{})
		cast(func(context.Context) { <-release })
		<-time.After(time.Minute)
		s := stat()
		require.EqualValues(t, 1032, s.Handled)
		require.Equal(t, 28*time.Second, s.Handling, "the engine measures each message again")
		close(release)
	}, willing("a", 0))
}
