package storage

import (
	"bytes"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/coppice-go/coppice/engines/chain"
	"github.com/coppice-go/coppice/engines/storage/apphash"
)

// Expiry entries sort by time, even before 1970, and decode to what was encoded.
func TestExpiryKeysAreInOrderOfTime(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b := rapid.Int64().Draw(t, "a"), rapid.Int64().Draw(t, "b")
		id := rapid.SliceOfN(rapid.Byte(), 32, 32).Draw(t, "id")
		x, y := expiryKey(a, id), expiryKey(b, id)
		require.Equal(t, a < b, bytes.Compare(x, y) < 0)
		leaf := apphash.Leaf{1, 2, 3}
		until, gotID, gotLeaf, err := decodeExpiry(x, leaf[:])
		require.NoError(t, err)
		require.Equal(t, []any{a, id, leaf}, []any{until, gotID, gotLeaf})
	})
}

// Milliseconds are rounded so that a valid_until counts as passed exactly when it is before the
// nanosecond.
func TestMillisecondsAreExact(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		ns := rapid.Int64Range(-1e18, 1e18).Draw(t, "ns")
		ms := ns/1e6 + rapid.Int64Range(-2, 2).Draw(t, "ms")
		require.Equal(t, time.UnixMilli(ms).Before(time.Unix(0, ns)), ms < ceilMs(ns))
		require.Equal(t, time.UnixMilli(ms).After(time.Unix(0, ns)), ms > floorMs(ns))
	})
}

// Older versions of one key are together, newest first, and separate from those of every other key.
func TestOlderKeys(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		version := rapid.Custom(func(t *rapid.T) chain.Version {
			return chain.Version{Period: rapid.Uint64().Draw(t, "period"), Height: rapid.Uint64().Draw(t, "height"),
				Index: rapid.Uint32().Draw(t, "index")}
		})
		k, l := rapid.SliceOfN(rapid.Byte(), 1, 30).Draw(t, "k"), rapid.SliceOfN(rapid.Byte(), 1, 30).Draw(t, "l")
		v, w := version.Draw(t, "v"), version.Draw(t, "w")
		require.Equal(t, v.Compare(w) > 0, bytes.Compare(olderKey(k, v), olderKey(k, w)) < 0)
		require.Equal(t, bytes.Equal(k, l), bytes.HasPrefix(olderKey(k, v), olderPrefix(l)))
		require.Less(t, string(olderKey(k, v)), string(after(olderPrefix(k))))

		list := appendSuperseded(appendSuperseded(nil, k, v), l, w)
		first, rest, err := nextSuperseded(list)
		require.NoError(t, err)
		require.Equal(t, olderKey(k, v), first)
		second, rest, err := nextSuperseded(rest)
		require.NoError(t, err)
		require.Equal(t, olderKey(l, w), second)
		require.Empty(t, rest)
		_, _, err = nextSuperseded(list[:rapid.IntRange(0, len(k)+21).Draw(t, "cut")])
		require.ErrorIs(t, err, ErrDamaged)
	})
}
