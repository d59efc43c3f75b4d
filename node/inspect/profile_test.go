package inspect_test

import (
	"bytes"
	"context"
	"runtime/pprof"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/coppice-go/coppice/node/inspect"
)

// A profile says what each child has cost, by the label of its goroutines.
func TestSharesOfAProfile(t *testing.T) {
	used := func() time.Duration {
		var u syscall.Rusage
		require.NoError(t, syscall.Getrusage(syscall.RUSAGE_SELF, &u))
		return time.Duration(u.Utime.Nano() + u.Stime.Nano())
	}

	var b bytes.Buffer
	require.NoError(t, pprof.StartCPUProfile(&b))
	pprof.Do(t.Context(), pprof.Labels(inspect.ChildLabel, "a/busy"), func(context.Context) {
		for before := used(); used()-before < 300*time.Millisecond; {
		}
	})
	pprof.StopCPUProfile()

	list, err := inspect.SharesOf(b.Bytes())
	require.NoError(t, err)
	require.NotEmpty(t, list)
	require.Equal(t, "a/busy", list[0].Child)
	require.Greater(t, list[0].Part, 0.5)
	require.Positive(t, list[0].Time)

	var out strings.Builder
	require.NoError(t, inspect.WriteShares(&out, append(list, inspect.Share{})))
	require.Contains(t, out.String(), "a/busy")
	require.Contains(t, out.String(), "(outside of the tree)")
}

// I10: what is no profile is refused, and nothing of it panics.
func TestWhatIsNoProfile(t *testing.T) {
	var b bytes.Buffer
	require.NoError(t, pprof.StartCPUProfile(&b))
	pprof.StopCPUProfile()
	whole := b.Bytes()

	for n := range len(whole) {
		_, err := inspect.SharesOf(whole[:n])
		require.Error(t, err, n)
	}
	for i := range whole {
		wrong := bytes.Clone(whole)
		wrong[i] ^= 0x55
		_, _ = inspect.SharesOf(wrong) // it may still be one
	}
}
