package apphash

import (
	"encoding/binary"
	"encoding/hex"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"
	"lukechampine.com/blake3"
	"pgregory.net/rapid"

	"github.com/coppice-go/coppice/engines/chain"
	logv1 "github.com/coppice-go/coppice/proto/coppice/log/v1"
)

// The element is BLAKE3's standard keyed extendable output, read as little-endian u16 lanes.
func TestElementIsKeyedXOF(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var l Leaf
		copy(l[:], rapid.SliceOfN(rapid.Byte(), Size, Size).Draw(t, "leaf"))

		h := blake3.New(Size, keyElement)
		h.Write(l[:])
		want := make([]byte, accumulatorSize)
		_, err := h.XOF().Read(want)
		require.NoError(t, err)

		var a Accumulator
		a.Add(l)
		require.Equal(t, want, a.AppendBinary(nil))
	})
}

// Lanes are added and subtracted mod 2^16, each by itself. The test compares with plain arithmetic.
func TestLanesAreIndependent(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	var a Accumulator
	var want [accumulatorSize / 2]uint16
	var in []Leaf

	for range 500 {
		sign := uint16(1)
		var l Leaf

		if len(in) > 0 && rng.IntN(3) == 0 {
			i := rng.IntN(len(in))
			l, in[i] = in[i], in[len(in)-1]
			in = in[:len(in)-1]
			a.Remove(l)
			sign = 0xffff
		} else {
			binary.LittleEndian.PutUint64(l[:], rng.Uint64())
			in = append(in, l)
			a.Add(l)
		}

		var e Accumulator
		e.expand(l)
		b := e.AppendBinary(nil)
		for i := range want {
			want[i] += sign * binary.LittleEndian.Uint16(b[2*i:])
		}

		got := a.AppendBinary(nil)
		for i := range want {
			require.Equal(t, want[i], binary.LittleEndian.Uint16(got[2*i:]), "lane %d", i)
		}
	}

	for _, l := range in {
		a.Remove(l)
	}

	require.Equal(t, Accumulator{}, a, "taking out all that went in leaves the empty set")
}

// I3: the hash depends on the set, not on the order in which it was built.
func TestOrderLeavesNoTrace(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		h := NewHasher()
		set := rapid.MapOfN(rapid.StringN(1, 8, 32), rapid.SliceOfN(rapid.Byte(), 0, 8), 1, 20).Draw(t, "set")
		var forth, back Accumulator
		var keys []string
		for k := range set {
			keys = append(keys, k)
		}

		for i, k := range keys {
			forth.Add(h.Key([]byte(k), set[k]))
			r := keys[len(keys)-1-i]
			back.Add(h.Key([]byte(r), []byte("passing value")))
			back.Remove(h.Key([]byte(r), []byte("passing value")))
			back.Add(h.Key([]byte(r), set[r]))
		}

		require.Equal(t, forth.Hash(3), back.Hash(3))
	})
}

// I3: a set may be summed in parts.
func TestMergeIsTheSumOfBoth(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var whole, left, right Accumulator

		for range rapid.IntRange(0, 20).Draw(t, "leaves") {
			l := Leaf(rapid.SliceOfN(rapid.Byte(), Size, Size).Draw(t, "leaf"))
			whole.Add(l)
			if rapid.Bool().Draw(t, "to the left") {
				left.Add(l)
			} else {
				right.Add(l)
			}
		}

		left.Merge(&right)
		require.Equal(t, whole, left)
	})
}

// Fields are delimited: moving a byte across a boundary, or a leaf from one kind to the other,
// changes the leaf.
func TestLeavesAreDelimited(t *testing.T) {
	h := NewHasher()
	require.NotEqual(t, h.Key([]byte("ab"), []byte("c")), h.Key([]byte("a"), []byte("bc")))
	require.NotEqual(t, h.Key([]byte("a\x00"), nil), h.Key([]byte("a"), []byte{0}))

	base := func() *logv1.TxResult {
		return &logv1.TxResult{
			Id: make([]byte, 32), Version: chain.Version{Period: 1, Height: 2, Index: 3}.Proto(),
			Code: logv1.Code_CODE_FAILED, Data: []byte("data"), Log: "text", ValidUntilMs: 5,
		}
	}
	leaf := h.ID(base())
	same := base()
	same.Log = "other text"
	require.Equal(t, leaf, h.ID(same), "the log text is not in the app hash")

	for name, change := range map[string]func(*logv1.TxResult){
		"id":          func(r *logv1.TxResult) { r.Id[31]++ },
		"period":      func(r *logv1.TxResult) { r.Version.Period++ },
		"height":      func(r *logv1.TxResult) { r.Version.Height++ },
		"index":       func(r *logv1.TxResult) { r.Version.Index++ },
		"code":        func(r *logv1.TxResult) { r.Code++ },
		"data":        func(r *logv1.TxResult) { r.Data = append(r.Data, 0) },
		"valid_until": func(r *logv1.TxResult) { r.ValidUntilMs++ },
	} {
		r := base()
		change(r)
		require.NotEqual(t, leaf, h.ID(r), name)
	}
}

// Golden vectors: every node of a chain, now and later, must compute these.
func TestGolden(t *testing.T) {
	h := NewHasher()
	var a Accumulator
	check := func(period uint64, want string) {
		t.Helper()
		require.Equal(t, want, hex.EncodeToString(a.Hash(period)))
	}
	check(0, golden[0])
	check(1, golden[1])
	a.Add(h.Key([]byte("a"), []byte("1")))
	check(1, golden[2])
	a.Add(h.Key([]byte{0, 0xff}, nil))
	check(1, golden[3])
	r := &logv1.TxResult{
		Id:      []byte("0123456789abcdef0123456789abcdef"),
		Version: chain.Version{Period: 1, Height: 7, Index: 2}.Proto(),
		Code:    logv1.Code_CODE_OK, Data: []byte("data"), ValidUntilMs: 1_700_000_000_000,
	}
	a.Add(h.ID(r))
	check(1, golden[4])
	check(2, golden[5])
	big := make([]byte, 100_000) // more than one BLAKE3 chunk
	a.Add(h.Key([]byte("big"), big))
	check(1, golden[6])
	a.Remove(h.Key([]byte("big"), big))
	a.Remove(h.ID(r))
	a.Remove(h.Key([]byte{0, 0xff}, nil))
	check(1, golden[2])
}

// These values come from a second implementation of the package comment, in another language with
// another BLAKE3.
var golden = [...]string{
	"7b7be16a0f61f711fe7a1d820b8debd9e5ed6fdd16af73db24da93fc9096e3e7",
	"f90daf3558c6b57813e731a4032fdf78a40413cfbca04f12b331a241279377fc",
	"379ca6bbe276459d896af96e3f5c2d31c74919d721bc47d46cfec011d9a092bb",
	"d1861b85fc9c1445b19f216056e5837e6a40aecd7a111d3bd021f0ec3bafa1eb",
	"5e71432432d1a052af3d2b6a74bec9759080a52c57564b3f850874a032bbc611",
	"bcd02a771b5cba47f212411343a6c349d82ffed5643bc928a92264fcc7afa7e3",
	"8bcd2b0721aa44028eb2fbc8874d7ed06275f3357a5af0e3eb402e653ef03ce8",
}

func TestDecodeRefusesOtherLengths(t *testing.T) {
	_, err := Decode(make([]byte, 7))
	require.ErrorContains(t, err, "7 bytes, want 2048")
	var a Accumulator
	a.Add(Leaf{1})
	got, err := Decode(a.AppendBinary(nil))
	require.NoError(t, err)
	require.Equal(t, a, *got)
}

func BenchmarkAdd(b *testing.B) {
	h := NewHasher()
	var a Accumulator
	key, value := make([]byte, 16), make([]byte, 64)
	b.ReportAllocs()
	for b.Loop() {
		a.Add(h.Key(key, value))
	}
}
