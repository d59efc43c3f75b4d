package eventlog_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/coppice-go/coppice/eventlog"
	"github.com/stretchr/testify/require"
)

func TestReopenContinuesWithoutGap(t *testing.T) {
	dir := t.TempDir() + "/a/b"
	ctx := t.Context()
	var n uint64
	for round := range 5 {
		l, err := eventlog.Open(dir, eventlog.Options{SegmentSize: 16 << 10})
		require.NoError(t, err)
		require.Equal(t, n, l.Durable())
		require.Equal(t, round == 0, l.Recovery().Created)
		require.True(t, l.Recovery().Clean)
		for range 300 {
			p := l.Append(ctx, eventlog.Record{Kind: 3, Data: fmt.Appendf(nil, "record %d", n+1)}, eventlog.Record{Kind: 4})
			require.Equal(t, n+1, p.First())
			require.NoError(t, p.Wait(ctx))
			n += 2
		}
		c, err := l.Cursor(1)
		require.NoError(t, err)
		for i := uint64(1); i <= n; i++ {
			e, err := c.Next(ctx)
			require.NoError(t, err)
			require.Equal(t, i, e.Index)
			if i%2 == 1 {
				require.Equal(t, fmt.Sprintf("record %d", i), string(e.Data))
			}
		}
		c.Close()
		e, err := l.Read(n - 1)
		require.NoError(t, err)
		require.Equal(t, fmt.Sprintf("record %d", n-1), string(e.Data))
		require.NoError(t, l.Close())
		rep, err := eventlog.Verify(dir, eventlog.Options{})
		require.NoError(t, err)
		require.Equal(t, n, rep.Records)
	}
}

var _ = context.Background
