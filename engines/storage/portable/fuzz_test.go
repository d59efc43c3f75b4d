package portable

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/coppice-go/coppice/engines/chain"
	"github.com/coppice-go/coppice/engines/storage"
	logv1 "github.com/coppice-go/coppice/proto/coppice/log/v1"
)

// again writes the stream that it is told of, and insists on the bounds.
type again struct {
	t   *testing.T
	out []byte
}

func (a *again) Key(key, value []byte) error {
	require.LessOrEqual(a.t, len(key), chain.MaxKeyBytes)
	require.LessOrEqual(a.t, len(value), chain.MaxValueBytes)
	a.out = appendKey(a.out, storage.Entry{Key: key, Value: value})
	return nil
}

func (a *again) ID(r *logv1.TxResult) error {
	a.out = appendID(a.out, r)
	return nil
}

// FuzzStream: whatever bytes arrive, in whatever pieces, decoding them never panics, takes no more
// memory than arrived, and depends on the bytes alone. Bytes that decode as a stream encode in the
// same way (numbers may arrive in a longer form than ours).
func FuzzStream(f *testing.F) {
	good := appendKey(appendKey([]byte(preamble), storage.Entry{Key: []byte("a"), Value: []byte("value")}),
		storage.Entry{Key: []byte("b")})

	good = appendID(good, &logv1.TxResult{Id: bytes.Repeat([]byte{7}, 32), Version: chain.Version{Height: 3}.Proto(),
		Code: 1, ValidUntilMs: -5, Data: []byte("data")})
	f.Add(good, uint8(2), uint8(1), uint8(3))
	f.Add(good, uint8(0), uint8(0), uint8(1))
	f.Add(append([]byte(preamble), 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01), uint8(1),
		uint8(0), uint8(255))

	f.Fuzz(func(t *testing.T, stream []byte, keys, ids, piece uint8) {
		read := func(step int) ([]byte, error) {
			a := &again{t: t, out: []byte(preamble)}
			d := decoder{to: a, keys: uint64(keys), ids: uint64(ids)}

			for rest := stream; len(rest) > 0; {
				n := min(step, len(rest))
				if err := d.feed(rest[:n]); err != nil {
					return a.out, err
				}
				rest = rest[n:]
			}

			return a.out, d.end()
		}
		whole, err := read(max(1, len(stream)))
		pieces, errPieces := read(int(piece) + 1)

		if err != nil {
			require.ErrorIs(t, err, ErrSnapshot)
			require.Error(t, errPieces)
			return
		}

		require.NoError(t, errPieces)
		require.Equal(t, whole, pieces)
		require.LessOrEqual(t, len(whole), len(stream))
	})
}

// FuzzMetadata: bytes that decode as metadata encode in the same way, and stay within the limits.
func FuzzMetadata(f *testing.F) {
	m := Metadata{ChainID: "orchard", Height: 5, AppHash: make([]byte, 32), Clock: genesis, Keys: 1, Bytes: 100,
		ChunkBytes: 64, Chunks: make([][32]byte, 2)}
	f.Add(m.Encode())
	f.Add([]byte(magic))
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := Decode(b)
		if err != nil {
			return
		}

		require.Equal(t, b, m.Encode())
		require.LessOrEqual(t, len(m.Chunks), maxChunks)

		for i := range m.Chunks {
			require.LessOrEqual(t, m.size(i), uint64(maxChunkBytes))
			require.NotZero(t, m.size(i))
		}
	})
}

// FuzzFile: whatever bytes a file has, reading it never panics and takes no more memory than the
// file has bytes. A file whose head, end and chunks are read without an error has the size that
// they say.
func FuzzFile(f *testing.F) {
	var b bytes.Buffer
	w, err := newFileWriter(&b, About{Genesis: chain.NewGenesis("orchard", genesis)})
	if err != nil {
		f.Fatal(err)
	}
	chunk := bytes.Repeat([]byte("c"), 100)
	m := Metadata{ChainID: "orchard", Height: 5, AppHash: make([]byte, 32), Clock: genesis, Keys: 1, Bytes: 100,
		ChunkBytes: 64, Chunks: [][32]byte{sha256.Sum256(chunk[:64]), sha256.Sum256(chunk[64:])}}
	if err := errors.Join(w.chunk(0, chunk), w.end(m)); err != nil {
		f.Fatal(err)
	}
	f.Add(b.Bytes())
	f.Add([]byte(fileMagic))

	f.Fuzz(func(t *testing.T, data []byte) {
		file, err := ReadFile(bytes.NewReader(data), int64(len(data)))
		if err != nil {
			require.True(t, errors.Is(err, ErrFile) || errors.Is(err, ErrFormat), "%v", err)
			return
		}

		size := 0
		for place := range file.Chunks {
			chunk, err := file.Chunk(place)
			if err != nil {
				require.ErrorIs(t, err, ErrFile)
				return
			}
			size += len(chunk)
		}
		require.EqualValues(t, file.Bytes, size)
		require.Less(t, size, len(data))
	})
}
