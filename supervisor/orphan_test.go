package supervisor

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// OTP rule 60, with a thousand deaf children: the incarnations that expire during one reading of
// the goroutine profile share the next reading.
func TestExpiriesShareOneLook(t *testing.T) {
	const n = 1000
	var x expiries
	var looks [][]*incarnation
	look := func(incs []*incarnation) { looks = append(looks, incs) }
	first := new(incarnation)
	x.add(func(incs []*incarnation) {
		looks = append(looks, incs)
		if len(looks) == 1 {
			for range n {
				x.add(look, new(incarnation))
			}
		}
	}, first)
	require.Len(t, looks, 2)
	require.Equal(t, []*incarnation{first}, looks[0])
	require.Len(t, looks[1], n)
	x.add(look, first)
	require.Len(t, looks, 3, "and the next one is not left waiting")
}
