package supervisor

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// OTP rule 60 and what a thousand deaf children cost: what expires while the goroutines are being
// looked at is looked at together, once, and not one by one.
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
