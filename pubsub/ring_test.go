package pubsub

import (
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// The ring behaves as a model does: a list of all numbers pushed, each kept or missing. The numbers
// are read in order, and each number is read or is in the gap at its place.
func TestRingKeepsThePlaceOfWhatIsMissing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := ring[int]{bound: rapid.IntRange(1, 20).Draw(t, "bound")}
		next, read := 0, 0
		pop := func() {
			read += int(r.takeGap())
			if r.n > 0 {
				require.Equal(t, read, r.pop().event)
				read++
			}
		}

		t.Repeat(map[string]func(*rapid.T){
			"push": func(t *rapid.T) {
				if r.full() {
					if rapid.Bool().Draw(t, "drop oldest") {
						r.dropOldest()
					} else {
						r.gap(1)
						next++
						return
					}
				}

				r.push(entry[int]{event: next})
				next++
			},
			"gap": func(t *rapid.T) {
				n := rapid.IntRange(0, 3).Draw(t, "n")
				r.gap(uint64(n))
				next += n
			},
			"push after a gap": func(t *rapid.T) {
				if r.full() {
					return
				}
				n := rapid.IntRange(0, 3).Draw(t, "n")
				r.push(entry[int]{event: next + n, missed: uint64(n)})
				next += n + 1
			},
			"pop": func(*rapid.T) { pop() },
			"drain": func(*rapid.T) {
				batch, tail := r.drain(nil)
				for _, e := range batch {
					read += int(e.missed)
					require.Equal(t, read, e.event)
					read++
				}
				read += int(tail)
				require.Equal(t, next, read, "nothing is left")
			},
			"": func(*rapid.T) {
				require.LessOrEqual(t, r.n, r.bound)
				require.LessOrEqual(t, len(r.entries), r.bound, "memory is within the bound")
			},
		})

		for r.n > 0 || r.tail > 0 {
			pop()
		}

		require.Equal(t, next, read, "every number was read or in a gap")
	})
}
