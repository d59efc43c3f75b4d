package portable

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/coppice-go/coppice/engines/storage/apphash"
)

// Format is the format of snapshots that this version writes and reads.
const Format = 1

// Bounds of a snapshot.
const (
	defaultChunkBytes = 4 << 20
	minChunkBytes     = 64
	maxChunkBytes     = 8 << 20 // CometBFT carries 16 MB
	// Limits that keep the metadata within CometBFT's 4 MB; maxChunks is also the default of
	// CometBFT's max_snapshot_chunks.
	maxChunks   = 100_000
	maxMetadata = 4_000_000
)

// Errors of this package. Each is returned wrapped in an error that says what was wrong.
var (
	// ErrSnapshot: a snapshot contradicts itself or the chain, or cannot be taken. No other sender
	// has a better copy of it.
	ErrSnapshot = errors.New("bad snapshot")

	// ErrFormat: a snapshot has a format that this version cannot read.
	ErrFormat = errors.New("unknown snapshot format")

	// ErrChunk: a chunk is not the one that the snapshot lists. Another sender may have the right
	// one.
	ErrChunk = errors.New("bad chunk")

	// ErrOrder: a chunk is not the next one, or chunks are missing.
	ErrOrder = errors.New("not the next chunk")

	// ErrNone: there is no such snapshot, or no such chunk.
	ErrNone = errors.New("no such snapshot")
)

// Metadata describes a snapshot. It is the same on every node.
type Metadata struct {
	ChainID string
	Period  uint64
	Height  uint64
	AppHash []byte
	Clock   time.Time // the latest block time ever committed

	Keys, IDs  uint64
	Bytes      uint64 // of the stream
	ChunkBytes uint32 // of each chunk except the last
	Chunks     [][sha256.Size]byte
}

const magic = "coppice snapshot"

// Encode returns the metadata as peers exchange it.
func (m Metadata) Encode() []byte {
	b := append(make([]byte, 0, 256+sha256.Size*len(m.Chunks)), magic...)
	b = binary.BigEndian.AppendUint32(b, Format)
	b = append(append(b, byte(len(m.ChainID))), m.ChainID...)
	b = binary.BigEndian.AppendUint64(b, m.Period)
	b = binary.BigEndian.AppendUint64(b, m.Height)
	b = append(b, m.AppHash...)
	b = binary.BigEndian.AppendUint64(b, uint64(m.Clock.UnixNano()))
	b = binary.BigEndian.AppendUint64(b, m.Keys)
	b = binary.BigEndian.AppendUint64(b, m.IDs)
	b = binary.BigEndian.AppendUint64(b, m.Bytes)
	b = binary.BigEndian.AppendUint32(b, m.ChunkBytes)
	b = binary.BigEndian.AppendUint32(b, uint32(len(m.Chunks)))
	for _, c := range m.Chunks {
		b = append(b, c[:]...)
	}

	return b
}

// Hash returns the SHA-256 of the encoded metadata, which identifies the snapshot.
func (m Metadata) Hash() []byte {
	h := sha256.Sum256(m.Encode())
	return h[:]
}

// size returns the number of bytes in chunk i.
func (m Metadata) size(i int) uint64 {
	return min(uint64(m.ChunkBytes), m.Bytes-uint64(i)*uint64(m.ChunkBytes))
}

// Decode decodes metadata. It checks everything, because a peer may have made the metadata up.
// Errors: ErrFormat, ErrSnapshot.
func Decode(b []byte) (m Metadata, err error) {
	if len(b) > maxMetadata {
		return m, fmt.Errorf("%w: %d bytes of metadata, want at most %d", ErrSnapshot, len(b), maxMetadata)
	}
	r := reader{b: b}
	if head := r.take(len(magic)); r.short || string(head) != magic {
		return m, fmt.Errorf("%w: metadata does not begin with %q", ErrSnapshot, magic)
	}
	if f := r.u32(); !r.short && f != Format {
		return m, fmt.Errorf("%w: %d, want %d", ErrFormat, f, Format)
	}

	m.ChainID = string(r.take(int(r.u8())))
	m.Period, m.Height = r.u64(), r.u64()
	m.AppHash = bytes.Clone(r.take(apphash.Size))
	m.Clock = time.Unix(0, int64(r.u64()))
	m.Keys, m.IDs, m.Bytes = r.u64(), r.u64(), r.u64()
	m.ChunkBytes = r.u32()

	n := r.u32()
	if !r.short && n <= maxChunks && len(r.b) == int(n)*sha256.Size {
		m.Chunks = make([][sha256.Size]byte, n)
		for i := range m.Chunks {
			copy(m.Chunks[i][:], r.take(sha256.Size))
		}
	}

	switch {
	case r.short || len(m.Chunks) != int(n):
		return m, fmt.Errorf("%w: %d bytes of metadata do not list %d chunks", ErrSnapshot, len(b), n)

	case m.ChainID == "" || m.Height == 0 || m.Height > math.MaxInt64:
		return m, fmt.Errorf("%w: metadata is of chain %q at height %d", ErrSnapshot, m.ChainID, m.Height)

	case m.ChunkBytes < minChunkBytes || m.ChunkBytes > maxChunkBytes:
		return m, fmt.Errorf("%w: chunks of %d bytes, want %d to %d", ErrSnapshot, m.ChunkBytes, minChunkBytes,
			maxChunkBytes)

	case n == 0 || uint64(n) != chunksOf(m.Bytes, m.ChunkBytes):
		return m, fmt.Errorf("%w: %d chunks of %d bytes for a stream of %d", ErrSnapshot, n, m.ChunkBytes, m.Bytes)
	}

	return m, nil
}

// chunksOf returns the number of chunks of size bytes that a stream is cut into.
func chunksOf(bytes uint64, size uint32) uint64 {
	return bytes/uint64(size) + min(1, bytes%uint64(size))
}

// reader cuts fields off the front of a slice. short is set, and stays set, once the slice is too
// short for a field.
type reader struct {
	b     []byte
	short bool
}

func (r *reader) take(n int) []byte {
	if r.short || n > len(r.b) {
		r.short = true
		return nil
	}
	t := r.b[:n]
	r.b = r.b[n:]
	return t
}

func (r *reader) u8() byte {
	if t := r.take(1); t != nil {
		return t[0]
	}
	return 0
}

func (r *reader) u32() uint32 {
	if t := r.take(4); t != nil {
		return binary.BigEndian.Uint32(t)
	}
	return 0
}

func (r *reader) u64() uint64 {
	if t := r.take(8); t != nil {
		return binary.BigEndian.Uint64(t)
	}
	return 0
}
