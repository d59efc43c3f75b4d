package recorder_test

import (
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/coppice-go/coppice/engines"
	"github.com/coppice-go/coppice/node/recorder"
)

// The recorder keeps an hour, second by second, and forgets what is older. An engine that has gone
// has no values from then on.
func TestTheLastHourIsKept(t *testing.T) {
	handled := uint64(0)
	list := []engines.Stat{{Name: "pool", Incarnation: 7}}
	r := recorder.New(func() []engines.Stat { return list })
	start := time.Now()
	r.Read(start)

	for i := 1; i <= recorder.Span+100; i++ {
		handled += 50
		if len(list) > 0 {
			list[0].Handled, list[0].Len, list[0].Busy = handled, i, time.Duration(i)*time.Second/4
		}
		if i == recorder.Span {
			list = nil
		}
		r.Committed(3)
		r.Synced(time.Duration(i) * time.Millisecond)
		r.Read(start.Add(time.Duration(i) * time.Second))
	}

	first, all := r.Past(recorder.Span, "txs", "mailbox pool", "rate pool", "busy pool", "sync most")
	require.Equal(t, start.Add(101*time.Second), first)
	by := map[string][]float32{}
	for _, s := range all {
		require.Len(t, s.Values, recorder.Span)
		by[s.Name] = s.Values
	}

	require.Len(t, by, 5)
	require.EqualValues(t, 3, by["txs"][recorder.Span-1])
	require.EqualValues(t, 3700, by["sync most"][recorder.Span-1])
	require.EqualValues(t, 101, by["mailbox pool"][0])
	require.EqualValues(t, 50, by["rate pool"][10])
	require.EqualValues(t, 25, by["busy pool"][10])
	require.True(t, math.IsNaN(float64(by["rate pool"][recorder.Span-1])), "the engine is gone")

	first, all = r.Past(60, "txs")
	require.Equal(t, start.Add(3641*time.Second), first)
	require.Len(t, all[0].Values, 60)
}

// The rates of an engine are those of the last seconds, and a restart does not make them negative.
func TestRatesBeginAnewWithAnIncarnation(t *testing.T) {
	list := []engines.Stat{{Name: "pool", Incarnation: 7, Handled: 1_000_000}}
	r := recorder.New(func() []engines.Stat { return list })
	r.Read(time.Now().Add(-2 * time.Second))

	list[0] = engines.Stat{Name: "pool", Incarnation: 9, Handled: 100, Busy: time.Second, InHand: "x"}
	e := r.Engines()[0]
	require.InDelta(t, 50, e.Rate, 10)
	require.InDelta(t, 0.5, e.BusyShare, 0.1)
	require.Equal(t, "x", e.InHand)
}
