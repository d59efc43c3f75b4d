package rig

import (
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"

	"github.com/coppice-go/coppice/engines/chain"
	"github.com/coppice-go/coppice/eventlog"
	logv1 "github.com/coppice-go/coppice/proto/coppice/log/v1"
)

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

	var heights []uint64
	var hashes []string
	require.NoError(t, Committed(dir, func(b *logv1.BlockCommitted) error {
		heights, hashes = append(heights, b.Height), append(hashes, string(b.AppHash))
		return nil
	}))
	require.Equal(t, []uint64{1, 2}, heights)
	require.Equal(t, []string{"\x01", "\x02"}, hashes)
}
