package soak

import (
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// I3: the app hash at a height is the same whenever it is seen.
func TestChainHoldsAppHashes(t *testing.T) {
	c := make(seenHashes)
	for _, seen := range []place{{0, 1}, {0, 2}, {1, 1}} {
		known, err := c.note(seen.period, seen.height, []byte{byte(seen.height)})
		require.NoError(t, err)
		require.False(t, known)
	}

	known, err := c.note(0, 2, []byte{2})
	require.NoError(t, err)
	require.True(t, known)
	require.Equal(t, place{1, 1}, c.highest())

	_, err = c.note(0, 2, []byte{3})
	require.ErrorContains(t, err, "app hash at height 2 of period 0 is 03, and was 02 before")
}
