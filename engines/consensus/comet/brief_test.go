package comet

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// The timeout begins with the first wait. The end of the parent ends the context at any time, with
// its cause.
func TestABriefContextEndsSomeTimeAfterTheFirstWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		parent, cancel := context.WithCancelCause(t.Context())
		b := &brief{Context: parent, time: time.Second}
		<-time.After(time.Minute)
		require.NoError(t, b.Err())
		began := time.Now()
		<-b.Done()
		require.Equal(t, time.Second, time.Since(began))
		require.ErrorIs(t, b.Err(), context.DeadlineExceeded)
		require.ErrorIs(t, context.Cause(b), context.DeadlineExceeded)
		b.end()

		b = &brief{Context: parent, time: time.Second}
		b.Done()
		b.end()
		require.ErrorIs(t, b.Err(), context.Canceled)

		b, unwaited := &brief{Context: parent, time: time.Second}, &brief{Context: parent, time: time.Second}
		done, why := b.Done(), errors.New("the node stops")
		cancel(why)
		<-done

		for _, b := range []*brief{b, unwaited} {
			require.ErrorIs(t, b.Err(), context.Canceled)
			require.ErrorIs(t, context.Cause(b), why)
			b.end()
		}
	})
}
