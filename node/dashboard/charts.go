package dashboard

import (
	"fmt"
	"math"
	"strings"

	"github.com/coppice-go/coppice/node/recorder"
)

// chart is a series as the points of an SVG polyline in a box of 300 by 40.
type chart struct {
	Name, Points, Last, Most string
}

// points is the number of points of a chart. Each is the largest of the values that it stands for.
const points = 300

// charts returns the last hour of some series.
func (d *Dashboard) charts(names ...string) (list []chart) {
	_, past := d.Recorder.Past(recorder.Span, names...)
	for _, s := range past {
		list = append(list, chartOf(s))
	}
	return list
}

func chartOf(s recorder.Series) chart {
	c := chart{Name: s.Name}
	most, last := 0.0, math.NaN()
	tops := make([]float64, points)

	for i := range tops {
		tops[i] = math.NaN()
	}
	for i, f := range s.Values {
		x := float64(f)
		if math.IsNaN(x) {
			continue
		}
		at := (recorder.Span - len(s.Values) + i) * points / recorder.Span
		if math.IsNaN(tops[at]) || x > tops[at] {
			tops[at] = x
		}
		most, last = max(most, x), x
	}

	var b strings.Builder
	for x, y := range tops {
		if !math.IsNaN(y) {
			fmt.Fprintf(&b, "%d,%.1f ", x, 39-38*y/max(most, 1e-9))
		}
	}
	c.Points = b.String()
	c.Most = fmt.Sprintf("%.4g %s", most, s.Unit)
	if c.Last = "none"; !math.IsNaN(last) {
		c.Last = fmt.Sprintf("%.4g %s", last, s.Unit)
	}

	return c
}
