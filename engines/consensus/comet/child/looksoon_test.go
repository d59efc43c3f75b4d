package child

import (
	"testing"

	"github.com/cometbft/cometbft/blocksync"
	"github.com/stretchr/testify/require"
)

// This version of CometBFT keeps the time between two looks of block sync where lookSoon writes it.
// Without that each start of CometBFT would take a second longer (ADR 0224).
func TestTheTimeBetweenLooksOfBlockSyncCanBeSet(t *testing.T) {
	r := new(blocksync.Reactor)
	require.NotNil(t, lookInterval(r))

	*lookInterval(r) = syncLook
	require.Equal(t, syncLook, *lookInterval(r))
}
