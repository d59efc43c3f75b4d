package load_test

import (
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/coppice-go/coppice/cmd/coppice/internal/load"
)

// A quantile is not less than the exact one, and is too long by at most 1/32 and one unit.
func TestQuantilesAreNearTheExactOnes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		values := rapid.SliceOfN(rapid.Int64Range(0, int64(3*time.Hour)), 1, 200).Draw(t, "values")
		q := rapid.Float64Range(0.01, 1).Draw(t, "q")
		var h load.Histogram
		for _, v := range values {
			h.Add(time.Duration(v))
		}

		slices.Sort(values)
		rank := 0
		for float64(rank+1) < q*float64(len(values)) {
			rank++
		}

		exact := time.Duration(values[rank])
		got := h.Quantile(q)
		if got < exact || got > exact+exact/32+2*time.Microsecond {
			t.Fatalf("quantile %v of %v is %v, want %v", q, values, got, exact)
		}
		if h.Max() != time.Duration(values[len(values)-1]) {
			t.Fatalf("max %v", h.Max())
		}
	})
}

func TestAnEmptyHistogramIsZero(t *testing.T) {
	var h load.Histogram
	require.Zero(t, h.Quantile(.99))
	require.Zero(t, h.Max())
}
