package dashboard

import (
	"bytes"
	"compress/gzip"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/coppice-go/coppice/node/recorder"
)

// Row 1: the charts of the overview are at their largest after an hour without two equal values. A
// young node, as TestPagesInABrowser has, shows a few points.
func TestChartsOfAWholeHour(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	var list []chart
	for range 6 {
		s := recorder.Series{Name: "noise", Unit: "per s"}
		for range recorder.Span {
			rare := 1000 * math.Pow(random.Float64(), 20) // so that the points have all heights
			s.Values = append(s.Values, float32(rare))
		}
		list = append(list, chartOf(s))
	}

	var whole bytes.Buffer
	z := gzip.NewWriter(&whole)
	require.NoError(t, pages.ExecuteTemplate(z, "charts", list))
	require.NoError(t, z.Close())
	t.Logf("six charts of an hour have %d bytes, compressed", whole.Len())
	require.Less(t, whole.Len(), 30_000)
}
