package segment

import (
	"bytes"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var testHeader = Header{ID: [16]byte{1, 2, 3}, Number: 7, FirstIndex: 100, PrevSeal: Seal{Offset: 8192, CRC: 42}}

// frameOf returns a frame of records at an offset.
func frameOf(h Header, offset int64, f Frame, data ...[]byte) []byte {
	b := make([]byte, FrameHeaderSize)
	for i, d := range data {
		b = AppendRecord(b, uint8(i), d)
	}
	f.Count = uint32(len(data))
	return Finish(b, h.Seed(), offset, f)
}

func TestHeaderRoundTrip(t *testing.T) {
	for _, recycled := range []bool{false, true} {
		h := testHeader
		h.Recycled = recycled
		b := h.Append(nil)
		require.Len(t, b, HeaderSize)
		got, err := DecodeHeader(b)
		require.NoError(t, err)
		require.Equal(t, h, got)
	}
}

// TestHeaderEveryBit: no bit of a header can flip unnoticed.
func TestHeaderEveryBit(t *testing.T) {
	b := testHeader.Append(nil)
	for i := range len(b) * 8 {
		b[i/8] ^= 1 << (i % 8)
		_, err := DecodeHeader(b)
		require.Error(t, err, "bit %d", i)
		require.NotErrorIs(t, err, ErrVersion)
		b[i/8] ^= 1 << (i % 8)
	}

	_, err := DecodeHeader(b[:100])
	require.Error(t, err)
	RaiseVersion(b)
	_, err = DecodeHeader(b)
	require.ErrorIs(t, err, ErrVersion)
}

func TestExtentRoundTrip(t *testing.T) {
	e := Extent{ID: [16]byte{9}, Serial: 6, First: 2, FirstIndex: 5, Last: 3, Sealed: true,
		Seal: Seal{Offset: 5000, CRC: 7}, Next: 12}
	b := e.AppendFile(nil)
	require.Len(t, b, ExtentFileSize)
	require.Len(t, e.Append(nil), ExtentSize)
	got, err := DecodeExtent(b)
	require.NoError(t, err)
	require.Equal(t, e, got)

	// An interrupted write leaves the slot that was not written last.
	later := e
	later.Serial++
	later.Next++
	copy(b[ExtentOffset(later.Serial):], later.Append(nil))
	got, err = DecodeExtent(b)
	require.NoError(t, err)
	require.Equal(t, later, got)

	at := int(ExtentOffset(later.Serial))
	for i := at * 8; i < (at+ExtentSize)*8; i++ {
		b[i/8] ^= 1 << (i % 8)
		got, err := DecodeExtent(b)
		require.NoError(t, err)
		require.Equal(t, e, got, "bit %d", i)
		b[i/8] ^= 1 << (i % 8)
	}

	for i := range b {
		_, err := DecodeExtent(b[:i])
		require.Equal(t, i < ExtentSize, err != nil, "%d bytes", i)
	}

	clear(b)
	_, err = DecodeExtent(b)
	require.Error(t, err)
	copy(b[ExtentOffset(later.Serial):], e.Append(nil))
	_, err = DecodeExtent(b)
	require.ErrorContains(t, err, "wrong slot")
}

func TestFrameRoundTrip(t *testing.T) {
	data := [][]byte{nil, []byte("one"), bytes.Repeat([]byte{7}, 127), bytes.Repeat([]byte{8}, 128),
		bytes.Repeat([]byte{9}, 70_000)}
	want := Frame{First: 100, Count: uint32(len(data)), Synced: HeaderSize}
	b := frameOf(testHeader, 8192, want, data...)
	require.Zero(t, len(b)%Align)
	f, size, err := Decode(append(b, 1, 2, 3), testHeader.Seed(), 8192)
	require.NoError(t, err)
	require.EqualValues(t, len(b), size)
	require.Equal(t, want.First, f.First)
	require.Equal(t, want.First+5, f.Next())
	require.NoError(t, CheckRecords(f))
	var total int64
	rest := f.Payload

	for i, d := range data {
		var kind uint8
		var got []byte
		kind, got, rest, err = NextRecord(rest)
		require.NoError(t, err)
		require.EqualValues(t, i, kind)
		require.Equal(t, string(d), string(got))
		total += RecordSize(len(d))
	}

	require.Empty(t, rest)
	require.EqualValues(t, len(f.Payload), total)
	require.Equal(t, size, FrameSize(len(f.Payload)))
}

// TestFrameEveryBit: no bit of a frame, padding included, can flip unnoticed.
func TestFrameEveryBit(t *testing.T) {
	b := frameOf(testHeader, 4096, Frame{First: 100, Synced: HeaderSize}, []byte("hello"), []byte("x"))
	for i := range len(b) * 8 {
		b[i/8] ^= 1 << (i % 8)
		_, _, err := Decode(b, testHeader.Seed(), 4096)
		require.Error(t, err, "bit %d", i)
		b[i/8] ^= 1 << (i % 8)
	}
}

// TestFrameBelongs: a frame is good only in one segment of one log, and at one place there.
func TestFrameBelongs(t *testing.T) {
	b := frameOf(testHeader, 4096, Frame{First: 100, Synced: HeaderSize}, []byte("hello"))
	other := testHeader
	other.ID[15]++
	_, _, err := Decode(b, other.Seed(), 4096)
	require.ErrorIs(t, err, ErrFrameHeader, "another log")
	other = testHeader
	other.Number++
	_, _, err = Decode(b, other.Seed(), 4096)
	require.ErrorIs(t, err, ErrFrameHeader, "another segment")
	other = testHeader
	other.FirstIndex++
	_, _, err = Decode(b, other.Seed(), 4096)
	require.ErrorIs(t, err, ErrFrameHeader, "another first index")
	_, _, err = Decode(b, testHeader.Seed(), 4104)
	require.ErrorIs(t, err, ErrFrameHeader, "another place")
	_, _, err = Decode(b[:39], testHeader.Seed(), 4096)
	require.ErrorIs(t, err, ErrShort)
	_, _, err = Decode(make([]byte, 64), testHeader.Seed(), 4096)
	require.ErrorIs(t, err, ErrBlank)
}

func TestFind(t *testing.T) {
	b := make([]byte, 4096)
	at := 1000 &^ 7
	copy(b[at:], frameOf(testHeader, int64(8192+at), Frame{First: 150, Synced: HeaderSize}, []byte("hello")))
	require.Equal(t, at, Find(b, testHeader.Seed(), 8192, 100))
	require.Equal(t, -1, Find(b, testHeader.Seed(), 8192, 151), "older")
	require.Equal(t, -1, Find(b, testHeader.Seed(), 8200, 100), "elsewhere")
	require.Equal(t, -1, Find(b[:10], testHeader.Seed(), 8192, 100))
	rng := rand.New(rand.NewPCG(1, 1))
	for i := range b {
		b[i] = byte(rng.Uint32())
	}

	require.Equal(t, -1, Find(b, testHeader.Seed(), 8192, 1), "noise")
}

// FuzzDecode: decoding never panics and never reads past the bytes, whatever they are, and what it
// accepts is consistent.
func FuzzDecode(f *testing.F) {
	f.Add(frameOf(testHeader, 4096, Frame{First: 100, Synced: HeaderSize}, []byte("hello"), nil), int64(4096))
	f.Add(frameOf(testHeader, 4096, Frame{First: 100, Synced: HeaderSize, Flags: FlagSeal}), int64(4096))
	f.Add([]byte{}, int64(0))
	f.Fuzz(func(t *testing.T, b []byte, offset int64) {
		seed := testHeader.Seed()
		fr, size, err := Decode(b, seed, offset)
		if err == nil {
			if size > int64(len(b)) || size%Align != 0 || fr.Next() < fr.First {
				t.Fatalf("accepted a frame of %d bytes in %d: %+v", size, len(b), fr)
			}
			_ = CheckRecords(fr)
		}

		if i := Find(b, seed, offset, 1); i >= 0 {
			if _, _, err := DecodeHeaderAt(b[i:], seed, offset+int64(i)); err != nil {
				t.Fatalf("found what does not decode: %v", err)
			}
		}

		_, _ = DecodeHeader(b)
		_, _ = DecodeExtent(b)
	})
}

// FuzzRecords: a payload with any content is walked without a panic.
func FuzzRecords(f *testing.F) {
	f.Add([]byte{3, 1, 'a', 'b', 'c'}, uint32(1))
	f.Add([]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1, 0}, uint32(2))
	f.Fuzz(func(t *testing.T, payload []byte, count uint32) {
		fr := Frame{First: 1, Count: count % 1000, Payload: payload}
		if CheckRecords(fr) != nil {
			return
		}

		var again []byte
		rest := payload

		for range fr.Count {
			kind, data, more, err := NextRecord(rest)
			if err != nil {
				t.Fatal(err)
			}
			again, rest = AppendRecord(again, kind, data), more
		}

		if len(again) > len(payload) { // a uvarint may be longer than it has to be, never shorter
			t.Fatalf("records of %d bytes were read from %d", len(again), len(payload))
		}
	})
}
