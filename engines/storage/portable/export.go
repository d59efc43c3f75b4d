package portable

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"math"

	"github.com/coppice-go/coppice/engines/storage"
	"github.com/coppice-go/coppice/engines/storage/durable"
)

// Taking configures how a snapshot is made.
type Taking struct {
	ChunkBytes uint32 // 0 means defaultChunkBytes; only nodes with the same value make equal snapshots

	// AtReset makes the snapshot of the height that decided the reset which is due in the pinned
	// state. No block after that height changes the state, so the snapshot is the same whichever of
	// them the state is at.
	AtReset bool

	// Pace, if set, is called after each piece of work. It may wait, to leave room for other work.
	Pace func(ctx context.Context) error
}

// check sets the default and returns an error for an option that cannot be.
func (t *Taking) check(p *storage.Pinned) error {
	if t.ChunkBytes == 0 {
		t.ChunkBytes = defaultChunkBytes
	}

	if t.ChunkBytes < minChunkBytes || t.ChunkBytes > maxChunkBytes || len(p.ChainID()) > math.MaxUint8 {
		return fmt.Errorf("%w: chunks of %d bytes, want %d to %d", ErrSnapshot, t.ChunkBytes, minChunkBytes,
			maxChunkBytes)
	}
	if t.AtReset && p.Reset() == nil {
		return fmt.Errorf("%w: no reset is due in %s at height %d", ErrSnapshot, p.ChainID(), p.Height())
	}

	return nil
}

// height returns the height of the snapshot that t makes of p.
func (t Taking) height(p *storage.Pinned) uint64 {
	if t.AtReset {
		return p.Reset().Height
	}
	return p.Height()
}

// Take makes a snapshot of the pinned state. It reads the state in pieces and blocks nothing. When
// it returns, the snapshot is durable and has its name; after an error, it leaves nothing behind.
// It returns ErrSnapshot if the snapshot would have more than maxChunks chunks.
func (d Dir) Take(ctx context.Context, p *storage.Pinned, t Taking) (m Metadata, err error) {
	if err := t.check(p); err != nil {
		return m, err
	}

	tmp := d.durable().New()
	if err := errors.Join(d.FS.RemoveAll(tmp), d.FS.MkdirAll(tmp, 0o700)); err != nil {
		return m, fmt.Errorf("snapshot for peers: %w", err)
	}
	defer func() {
		if err != nil {
			d.FS.RemoveAll(tmp) // what cannot be removed now is removed at the next start
			err = fmt.Errorf("snapshot for peers at height %d: %w", p.Height(), err)
		}
	}()

	if m, err = export(ctx, p, t, d.chunksTo(tmp)); err != nil {
		return m, err
	}
	if err := d.writeMetadata(tmp, m); err != nil {
		return m, err
	}

	return m, d.name(m)
}

// chunksTo returns a function that writes the chunks of a snapshot to a directory.
func (d Dir) chunksTo(dir string) func(place int, chunk []byte) error {
	return func(place int, chunk []byte) error {
		return durable.On(d.FS).Write(d.FS.PathJoin(dir, chunkName(place)), chunk, 0o666)
	}
}

// writeMetadata writes the metadata of a snapshot to a directory.
func (d Dir) writeMetadata(dir string, m Metadata) error {
	return durable.On(d.FS).Write(d.FS.PathJoin(dir, metadataName), m.Encode(), 0o666)
}

// export calls put with the chunks of the pinned state, in order, and returns their metadata. put
// must not keep or change a chunk.
func export(ctx context.Context, p *storage.Pinned, t Taking, put func(place int, chunk []byte) error) (m Metadata,
	err error) {
	w := &writer{put: put, buf: []byte(preamble), Metadata: Metadata{
		ChainID: p.ChainID(), Period: p.Period(), Height: t.height(p), AppHash: p.AppHash(), Clock: p.Clock(),
		ChunkBytes: t.ChunkBytes,
	}}

	if err := w.export(ctx, p, t.Pace); err != nil {
		return m, err
	}

	if keys, ids := p.Size(); w.Keys != keys || w.IDs != ids {
		return m, fmt.Errorf("%w: read %d keys and %d ids, want %d and %d", storage.ErrDamaged, w.Keys,
			w.IDs, keys, ids)
	}

	return w.Metadata, nil
}

// pieceBytes is the approximate number of bytes that are read from the state at once.
const pieceBytes = 256 << 10

// writer cuts the stream into chunks.
type writer struct {
	Metadata
	put func(place int, chunk []byte) error
	buf []byte
}

func (w *writer) export(ctx context.Context, p *storage.Pinned, pace func(context.Context) error) error {
	for _, piece := range []func(*storage.Reader, []byte) ([]byte, bool, error){w.keysPiece, w.idsPiece} {
		var last []byte
		for done := false; !done; {
			if err := p.Read(func(s *storage.Reader) (err error) {
				last, done, err = piece(s, last)
				return err
			}); err != nil {
				return err
			}

			if err := w.cut(false); err != nil {
				return err
			}

			if pace != nil {
				if err := pace(ctx); err != nil {
					return err
				}
			}

			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
		}
	}
	return w.cut(true)
}

func (w *writer) keysPiece(s *storage.Reader, last []byte) (now []byte, done bool, err error) {
	from := len(w.buf)
	for e, err := range s.KeysAfter(last) {
		if err != nil {
			return nil, false, err
		}
		w.buf = appendKey(w.buf, e)
		w.Keys++
		if len(w.buf)-from >= pieceBytes {
			return append([]byte(nil), e.Key...), false, nil
		}
	}

	return nil, true, nil
}

func (w *writer) idsPiece(s *storage.Reader, last []byte) (now []byte, done bool, err error) {
	from := len(w.buf)
	for r, err := range s.IDsAfter(last) {
		if err != nil {
			return nil, false, err
		}
		w.buf = appendID(w.buf, r)
		w.IDs++
		if len(w.buf)-from >= pieceBytes {
			return r.Id, false, nil
		}
	}

	return nil, true, nil
}

// cut writes the chunks that are complete and, at the end of the stream, also the rest.
func (w *writer) cut(end bool) error {
	for size := int(w.ChunkBytes); len(w.buf) >= size || end && len(w.buf) > 0; {
		chunk := w.buf[:min(size, len(w.buf))]
		if len(w.Chunks) == maxChunks {
			return fmt.Errorf("%w: more than %d chunks of %d bytes", ErrSnapshot, maxChunks, size)
		}

		sum := sha256.Sum256(chunk) // before a disk may use the buffer
		if err := w.put(len(w.Chunks), chunk); err != nil {
			return err
		}

		w.Chunks = append(w.Chunks, sum)
		w.Bytes += uint64(len(chunk))
		w.buf = append(w.buf[:0], w.buf[len(chunk):]...)
	}
	return nil
}
