package load

import (
	"math"
	"math/bits"
	"time"
)

// Histogram counts durations in buckets no wider than 1/32 of their value. The zero value is empty.
type Histogram struct {
	buckets [buckets]uint64
	n       uint64
	max     time.Duration
}

const (
	fine    = 5                   // bits below a value's highest bit that select its bucket
	unit    = 1 << 10             // nanoseconds; the resolution
	buckets = (64 - fine) << fine // room for any duration
)

// bucket returns the index of v's bucket. Each value below 2<<fine has a bucket of its own. Above,
// there are 2^fine buckets for each doubling.
func bucket(v uint64) int {
	high := bits.Len64(v)
	if high <= fine+1 {
		return int(v)
	}
	shift := high - fine - 1
	return shift<<fine + int(v>>shift)
}

// upper returns the largest value in a bucket.
func upper(b int) uint64 {
	if b < 2<<fine {
		return uint64(b)
	}
	shift := b>>fine - 1
	return uint64(b-shift<<fine+1)<<shift - 1
}

// Add counts d.
func (h *Histogram) Add(d time.Duration) {
	d = max(d, 0)
	h.buckets[bucket(uint64(d)/unit)]++
	h.n++
	h.max = max(h.max, d)
}

// Max returns the longest duration counted.
func (h *Histogram) Max() time.Duration { return h.max }

// Quantile returns the q-quantile of the durations: at least the share q of them is not longer. The
// result is at most 1/32 too long. It is zero if no duration was counted.
func (h *Histogram) Quantile(q float64) time.Duration {
	rank := uint64(math.Ceil(q * float64(h.n)))
	var seen uint64
	for b, n := range h.buckets {
		if seen += n; n > 0 && seen >= rank {
			return min(time.Duration((upper(b)+1)*unit), h.max)
		}
	}
	return 0
}
