package soak

import (
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"google.golang.org/protobuf/proto"

	"github.com/coppice-go/coppice/cmd/coppice/internal/rig"
	"github.com/coppice-go/coppice/engines/chain"
	"github.com/coppice-go/coppice/eventlog"
	logv1 "github.com/coppice-go/coppice/proto/coppice/log/v1"
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

func TestCommittedReadsTheBlocksOfALog(t *testing.T) {
	dir := t.TempDir()
	l, err := eventlog.Open(dir, eventlog.Options{})
	require.NoError(t, err)

	for _, m := range []proto.Message{
		&logv1.ChainStarted{ChainId: "c"}, &logv1.BlockCommitted{Height: 1, AppHash: []byte{1}}, &logv1.TxLaunched{},
		&logv1.BlockCommitted{Height: 2, AppHash: []byte{2}},
	} {
		rec, err := chain.NewRecord(m)
		require.NoError(t, err)
		err = l.Append(t.Context(), rec).Wait(t.Context())
		require.NoError(t, err)
	}

	require.NoError(t, l.Close())
	c := make(seenHashes)
	last, err := rig.Committed(dir, func(b *logv1.BlockCommitted) error {
		_, err := c.note(b.Period, b.Height, b.AppHash)
		return err
	})
	require.NoError(t, err)
	require.EqualValues(t, 2, last)
	require.Equal(t, seenHashes{{0, 1}: "\x01", {0, 2}: "\x02"}, c)
}
