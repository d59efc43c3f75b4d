package events_test

import (
	"context"
	"math"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/coppice-go/coppice/engines/chain"
	"github.com/coppice-go/coppice/eventlog"
	"github.com/coppice-go/coppice/node/api"
	"github.com/coppice-go/coppice/node/events"
	apiv1 "github.com/coppice-go/coppice/proto/coppice/api/v1"
)

// opened is a log without a logger.
type opened struct{ *eventlog.Log }

func (l opened) Cursor(_ context.Context, from uint64) (*eventlog.Cursor, error) {
	return l.Log.Cursor(from)
}
func (l opened) Stat(context.Context) (eventlog.Stat, error) { return l.Log.Stat(), nil }
func (l opened) Retain(_ context.Context, name string, floor uint64) (*eventlog.Retainer, error) {
	return l.Log.Retain(name, floor), nil
}

// 0 means the oldest record that is kept. A cursor that the log cannot have given is refused at
// once.
func TestACursorIsOfTheLog(t *testing.T) {
	l, err := eventlog.Open(t.TempDir(), eventlog.Options{FirstIndex: 7})
	require.NoError(t, err)
	defer l.Close()

	src := events.New(events.Options{Log: func() (events.Log, error) { return opened{l}, nil }})
	read := func(after uint64, follow bool) (seen []uint64, at uint64, err error) {
		err = src.Events(t.Context(), api.EventsQuery{After: after, Once: !follow},
			func(m *apiv1.EventsResponse) error {
				if at = m.GetCursor(); m.GetRecord() != nil {
					seen = append(seen, at)
				}
				return nil
			})
		return seen, at, err
	}
	seen, at, err := read(0, false)
	require.NoError(t, err, "nothing is there yet")
	require.Empty(t, seen)
	require.EqualValues(t, 6, at)

	_, err = l.AppendWait(t.Context(), eventlog.Record{Kind: chain.KindTxLaunched},
		eventlog.Record{Kind: chain.KindTxLaunched})
	require.NoError(t, err)

	for after, want := range map[uint64][]uint64{0: {7, 8}, 6: {7, 8}, 7: {8}, 8: nil} {
		seen, at, err = read(after, false)
		require.NoError(t, err, after)
		require.Equal(t, want, seen, after)
		require.EqualValues(t, 8, at)
	}

	_, _, err = read(5, false)
	require.ErrorIs(t, err, api.ErrNoRecord)

	for _, after := range []uint64{9, 99_999_999, math.MaxUint64} {
		for _, follow := range []bool{false, true} {
			_, _, err = read(after, follow)
			require.ErrorIs(t, err, api.ErrBeyond)
			require.ErrorContains(t, err, "the log ends at 8: the cursor came from another log; begin "+
				"again with 0")
		}
	}
}
