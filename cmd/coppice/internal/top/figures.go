package top

import (
	"bufio"
	"bytes"
	"math"
	"strconv"
	"strings"
	"time"
)

// figures are metrics by their names with labels, as the node writes them: name{label="value"}.
type figures map[string]float64

// parseFigures reads the text format of Prometheus. It leaves out what is no number.
func parseFigures(raw []byte) figures {
	f := figures{}
	s := bufio.NewScanner(bytes.NewReader(raw))
	s.Buffer(nil, 1<<20)

	for s.Scan() {
		l := s.Text()
		if strings.HasPrefix(l, "#") {
			continue
		}
		end := strings.LastIndexByte(l, '}')
		i := strings.IndexByte(l[end+1:], ' ')
		if i < 0 {
			continue
		}
		i += end + 1
		if v, err := strconv.ParseFloat(strings.TrimSpace(l[i:]), 64); err == nil {
			f[l[:i]] = v
		}
	}

	return f
}

// value returns a metric without labels; 0 if it is not there.
func (f figures) value(name string) float64 {
	v := f[name]
	if math.IsNaN(v) || v < 0 {
		return 0
	}
	return v
}

// bound is an upper bound of times, from the buckets of a histogram.
type bound time.Duration

func (b bound) String() string {
	if b == bound(math.MaxInt64) {
		return "more than the histogram counts"
	}
	return ago(time.Duration(b))
}

// quantiles returns within which time half of the observations of a histogram were, and 99 of 100;
// and how many there were.
func (f figures) quantiles(name string) (p50, p99 bound, count uint64) {
	n := f[name+"_count"]
	if n == 0 || math.IsNaN(n) {
		return 0, 0, 0
	}

	within := func(share float64) bound {
		best := math.Inf(1)
		prefix := name + `_bucket{le="`
		for k, v := range f {
			if !strings.HasPrefix(k, prefix) || v < share*n {
				continue
			}
			if le, err := strconv.ParseFloat(strings.TrimSuffix(k[len(prefix):], `"}`), 64); err == nil {
				best = min(best, le)
			}
		}
		if math.IsInf(best, 1) {
			return bound(math.MaxInt64)
		}
		return bound(best * float64(time.Second))
	}

	return within(0.5), within(0.99), uint64(n)
}
