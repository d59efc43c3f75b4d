package wire

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"testing"
	"testing/iotest"

	abci "github.com/cometbft/cometbft/abci/types"
	"github.com/stretchr/testify/require"

	"github.com/coppice-go/coppice/engines/consensus/comet/comettest"
)

func read(b []byte) (*abci.Request, error) {
	req, _, err := ReadRequest(bufio.NewReader(bytes.NewReader(b)), 1<<20, nil)
	return req, err
}

func TestAFrameIsReadWhateverPiecesItComesIn(t *testing.T) {
	req := abci.ToRequestFinalizeBlock(&abci.RequestFinalizeBlock{Height: 7,
		Txs: [][]byte{bytes.Repeat([]byte("x"), 3<<20)}})
	b, err := req.Marshal()
	require.NoError(t, err)

	stream := append(comettest.Frame(b), comettest.Frame([]byte{26, 0})...)
	for name, r := range map[string]io.Reader{
		"whole": bytes.NewReader(stream), "halves": iotest.HalfReader(bytes.NewReader(stream)),
		"with the error": iotest.DataErrReader(bytes.NewReader(stream)),
	} {
		br := bufio.NewReader(r)
		got, buf, err := ReadRequest(br, 8<<20, nil)
		require.NoError(t, err, name)
		require.Equal(t, req.GetFinalizeBlock().Txs, got.GetFinalizeBlock().Txs, name)
		got, buf, err = ReadRequest(br, 8<<20, buf)
		require.NoError(t, err, name)
		require.NotNil(t, got.GetInfo(), name)
		_, _, err = ReadRequest(br, 8<<20, buf)
		require.ErrorIs(t, err, io.EOF, name)
	}
}

func TestWhatIsNoFrameIsRefusedWithItsReason(t *testing.T) {
	for name, c := range map[string]struct {
		in   []byte
		want string
	}{
		"length only":           {[]byte{5}, "0 of 5 bytes came"},
		"cut":                   {append([]byte{5}, "abc"...), "3 of 5 bytes came"},
		"length cut":            {[]byte{0x80}, "ends inside its length"},
		"length too long":       {bytes.Repeat([]byte{0xff}, 11), "its length"},
		"too large":             {binary.AppendUvarint(nil, 1<<20+1), "want at most 1048576"},
		"huge":                  {binary.AppendUvarint(nil, 1<<63), "want at most 1048576"},
		"no protobuf":           {comettest.Frame([]byte("garbage")), "not a request"},
		"no kind":               {comettest.Frame(nil), "unknown kind"},
		"kind of other version": {comettest.Frame([]byte{0xfa, 0x01, 0}), "unknown kind"},
	} {
		_, err := read(c.in)
		require.ErrorIs(t, err, ErrFrame, name)
		require.ErrorContains(t, err, c.want, name)
	}

	_, err := read(nil)
	require.Equal(t, io.EOF, err)
}

// Memory is allocated as the bytes come, and never for a declared length alone.
func TestALengthAloneTakesNoMemory(t *testing.T) {
	in := binary.AppendUvarint(nil, 1<<30)
	_, buf, err := ReadRequest(bufio.NewReader(bytes.NewReader(in)), 1<<31, nil)
	require.ErrorIs(t, err, ErrFrame)
	require.LessOrEqual(t, cap(buf), ReadStep)
}

func FuzzReadRequest(f *testing.F) {
	f.Add([]byte{})
	f.Add(comettest.Frame([]byte{26, 0}))
	f.Add(comettest.Frame([]byte("garbage")))
	f.Add([]byte{0xff, 0xff, 0xff, 0xff, 0x7f})
	f.Fuzz(func(t *testing.T, in []byte) {
		r := bufio.NewReader(bytes.NewReader(in))
		var buf []byte

		for n := 0; ; n++ {
			req, b, err := ReadRequest(r, 1<<16, buf)
			if err != nil {
				if err != io.EOF && !errors.Is(err, ErrFrame) {
					t.Fatalf("request %d: %v is neither an end nor the peer's fault", n, err)
				}
				return
			}

			again, err := req.Marshal()
			require.NoError(t, err)
			back, err := read(comettest.Frame(again))
			require.NoError(t, err)
			require.True(t, equalRequests(t, req, back))
			buf = b
		}
	})
}

func equalRequests(t *testing.T, a, b *abci.Request) bool {
	x, err := a.Marshal()
	require.NoError(t, err)
	y, err := b.Marshal()
	require.NoError(t, err)
	return bytes.Equal(x, y)
}
