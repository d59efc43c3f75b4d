package supervisor

import (
	"context"
	"errors"
	"testing"

	"github.com/stretchr/testify/require"
)

// The errors of a context and its cause are no failures once it has ended (docs/otp-rules.md, "Exit
// classes"), whichever of them a service or one of its goroutines returns.
func TestErrorsOfAnEndedContext(t *testing.T) {
	why, other := errors.New("why"), errors.New("other")
	ended, cancel := context.WithCancelCause(t.Context())
	cancel(why)

	for err, harmless := range map[error]bool{
		context.Canceled: true, context.DeadlineExceeded: true, why: true, other: false,
	} {
		e := &ending{err: err}
		require.Equal(t, harmless, e.harmless(ended), "%v", err)
		require.False(t, e.harmless(t.Context()), "%v, while the context is live", err)

		want := Abnormal
		if harmless {
			want = Shutdown
		}
		var x Exit
		classify(e, &circumstances{stopped: true, cause: why}, nil, &x)
		require.Equal(t, want, x.Class, "%v", err)
		classify(e, &circumstances{cause: why}, nil, &x)
		require.Equal(t, Abnormal, x.Class, "%v, and nobody had stopped it", err)
		classify(e, &circumstances{stopped: true}, nil, &x)
		if err == why {
			require.Equal(t, Abnormal, x.Class, "%v, of another context", err)
		}
	}
}
