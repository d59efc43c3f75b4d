package chain_test

import (
	"errors"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"

	"github.com/coppice-go/coppice/engines/chain"
	"github.com/coppice-go/coppice/eventlog"
	logv1 "github.com/coppice-go/coppice/proto/coppice/log/v1"
)

// build returns a log made of some parts.
func build(t *testing.T, parts ...func(*eventlog.Builder) error) *eventlog.Log {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "log")
	b, err := eventlog.NewBuilder(dir, eventlog.Options{})
	require.NoError(t, err)
	for _, part := range parts {
		require.NoError(t, part(b))
	}
	require.NoError(t, b.Finish())

	l, err := eventlog.OpenReadOnly(dir, eventlog.Options{})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, l.Close()) })
	return l
}

// pairs appends a TxLaunched and a BlockCommitted n times.
func pairs(n int) func(*eventlog.Builder) error {
	return func(b *eventlog.Builder) error {
		for range n {
			if err := b.Append(eventlog.Record{Kind: chain.KindTxLaunched},
				eventlog.Record{Kind: chain.KindBlockCommitted}); err != nil {
				return err
			}
		}
		return nil
	}
}

func lost(n uint64) func(*eventlog.Builder) error {
	return func(b *eventlog.Builder) error { return b.Lost(n, "a test") }
}

func TestRecordsAreThoseOfTheRangeAndTheKinds(t *testing.T) {
	l := build(t, pairs(3))
	for _, c := range []struct {
		from, to uint64
		kinds    []eventlog.Kind
		want     []uint64
	}{
		{1, chain.End, nil, []uint64{1, 2, 3, 4, 5, 6}},
		{2, 4, nil, []uint64{2, 3, 4}},
		{2, 5, []eventlog.Kind{chain.KindTxLaunched}, []uint64{3, 5}},
		{1, chain.End, []eventlog.Kind{chain.KindTxLaunched, chain.KindBlockCommitted}, []uint64{1, 2, 3, 4, 5, 6}},
		{1, chain.End, []eventlog.Kind{chain.KindBase}, nil},
		{7, chain.End, nil, nil},
		{7, 6, nil, nil},
	} {
		var got []uint64
		for e, err := range chain.Records(l.Cursor, c.from, c.to, c.kinds...) {
			require.NoError(t, err)
			got = append(got, e.Index)
		}
		require.Equal(t, c.want, got, "%+v", c)
	}

	for e, err := range chain.Records(l.Cursor, 1, chain.End) {
		require.NoError(t, err)
		require.EqualValues(t, 1, e.Index)
		break // closes the cursor
	}
}

// A replay up to a given index must not accept a log that ends before it.
func TestALogThatEndsEarlyIsAnError(t *testing.T) {
	l := build(t, pairs(1))
	var got []uint64
	var end error
	for e, err := range chain.Records(l.Cursor, 1, 3) {
		got, end = append(got, e.Index), err
	}
	require.Equal(t, []uint64{1, 2, 3}, got, "the error has the index of the missing record")
	require.ErrorIs(t, end, eventlog.ErrNotFound)

	for e, err := range chain.Records(func(uint64) (*eventlog.Cursor, error) { return nil, eventlog.ErrClosed }, 5, 9) {
		require.ErrorIs(t, err, eventlog.ErrClosed)
		require.EqualValues(t, 5, e.Index)
	}
}

func TestALoopMayGoOnBehindAGap(t *testing.T) {
	for _, c := range []struct {
		name   string
		l      *eventlog.Log
		to     uint64
		want   []uint64
		gapsAt []uint64
	}{
		{"in the middle", build(t, pairs(1), lost(5), pairs(1)), chain.End, []uint64{1, 2, 8, 9}, []uint64{3}},
		{"two", build(t, lost(1), pairs(1), lost(2), pairs(1)), chain.End, []uint64{2, 3, 6, 7}, []uint64{1, 4}},
		{"at the end", build(t, pairs(1), lost(5)), chain.End, []uint64{1, 2}, []uint64{3}},
		{"of unknown size", build(t, pairs(1), lost(0)), chain.End, []uint64{1, 2}, []uint64{3}},
		{"behind the range", build(t, pairs(1), lost(5), pairs(1)), 2, []uint64{1, 2}, nil},
		{"past the range", build(t, pairs(1), lost(5), pairs(1)), 4, []uint64{1, 2}, []uint64{3}},
	} {
		t.Run(c.name, func(t *testing.T) {
			var got, gaps []uint64
			for e, err := range chain.Records(c.l.Cursor, 1, c.to) {
				if damage := new(eventlog.CorruptError); errors.As(err, &damage) && damage.Gap {
					gaps = append(gaps, e.Index)
					continue
				}
				require.NoError(t, err)
				got = append(got, e.Index)
			}
			require.Equal(t, c.want, got)
			require.Equal(t, c.gapsAt, gaps)
		})
	}

	for _, err := range chain.Records(build(t, lost(1), pairs(1)).Cursor, 1, chain.End) {
		require.ErrorIs(t, err, eventlog.ErrCorrupt)
		break
	}
}

// A cursor reuses its memory, so a decoded message must not refer to it.
func TestAMessageSharesNoMemoryWithItsEntry(t *testing.T) {
	for _, m := range []proto.Message{
		&logv1.TxLaunched{Tx: []byte("transaction"), ReceivedNs: 7},
		&logv1.TxExpired{Id: []byte("identity")},
		&logv1.ChainStarted{ChainId: "chain"},
		&logv1.OrderDecided{ChainId: "chain", BlockHash: []byte("hash"), Txs: [][]byte{[]byte("transaction")}},
		&logv1.BlockCommitted{ChainId: "chain", AppHash: []byte("hash"),
			Results: []*logv1.TxResult{{Id: []byte("identity"), Data: []byte("data")}},
			Changes: []*logv1.Change{{Key: []byte("key"), Value: []byte("value")}}},
		&logv1.SnapshotInstalled{ChainId: "chain", AppHash: []byte("hash")},
		&logv1.Base{ChainId: "chain", AppHash: []byte("hash")},
	} {
		r, err := chain.NewRecord(m)
		require.NoError(t, err)
		got, err := chain.DecodeRecord(eventlog.Entry{Index: 1, Kind: r.Kind, Data: r.Data})
		require.NoError(t, err)
		clear(r.Data)
		require.True(t, proto.Equal(m, got), "%T", m)
	}
}
