package portable

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/coppice-go/coppice/engines/chain"
	"github.com/coppice-go/coppice/engines/storage"
	"github.com/coppice-go/coppice/engines/storage/durable"
)

// FileVersion is the version of the layout of files that this program writes, and the newest that
// it reads.
const FileVersion = 1

// The frame of a file.
const (
	fileMagic = "coppice state file\n"
	fileEnd   = "coppice end\n"
	maxAbout  = 16 << 20
	tailBytes = sha256.Size + 4 + len(fileEnd) // after the metadata
)

// ErrFile: a file is not a whole snapshot as it was written. It is no snapshot, was cut off, or was
// changed.
var ErrFile = errors.New("bad snapshot file")

// About is what a file says about its snapshot beside the metadata. Only people and the node that
// imports the file believe it; the app hash does not cover it.
type About struct {
	Program string        `json:"program"` // that wrote the file
	Created time.Time     `json:"created"`
	Genesis chain.Genesis `json:"genesis"` // of the chain

	// Started is the record that began the chain, in protobuf. It is empty in a file that was made
	// of a snapshot for peers, which does not have it.
	Started []byte `json:"chain_started,omitempty"`

	// The block at the snapshot's height. They are empty in a file that was made of a snapshot for
	// peers, which does not have them.
	BlockHash []byte    `json:"block_hash,omitempty"`
	BlockTime time.Time `json:"block_time,omitzero"`

	// The log that the state was made from, and the index of its last record in the state. They are
	// empty in a file that was made of a snapshot for peers.
	LogID []byte `json:"log_id,omitempty"`
	Index uint64 `json:"index,omitempty"`
}

// fileWriter writes a file to w.
type fileWriter struct {
	w   io.Writer
	sum [sha256.Size]byte // of the head
}

func newFileWriter(w io.Writer, a About) (*fileWriter, error) {
	about, err := json.Marshal(a)
	if err != nil {
		return nil, err
	}
	if len(about) > maxAbout {
		return nil, fmt.Errorf("%w: the genesis has %d bytes, want at most %d", ErrSnapshot, len(about), maxAbout)
	}

	head := binary.BigEndian.AppendUint32([]byte(fileMagic), FileVersion)
	head = append(binary.BigEndian.AppendUint32(head, uint32(len(about))), about...)
	f := &fileWriter{w: w, sum: sha256.Sum256(head)}
	_, err = w.Write(append(head, f.sum[:]...))

	return f, err
}

func (f *fileWriter) chunk(_ int, chunk []byte) error {
	_, err := f.w.Write(chunk)
	return err
}

func (f *fileWriter) end(m Metadata) error {
	tail := m.Encode()
	size := uint32(len(tail))
	sum := tailSum(tail, f.sum)
	tail = binary.BigEndian.AppendUint32(append(tail, sum[:]...), size)
	_, err := f.w.Write(append(tail, fileEnd...))
	return err
}

// tailSum returns the hash of a file's metadata, which also covers the head.
func tailSum(metadata []byte, head [sha256.Size]byte) [sha256.Size]byte {
	return sha256.Sum256(append(bytes.Clone(metadata), head[:]...))
}

// Export writes a snapshot of the pinned state to w, as a file.
func Export(ctx context.Context, w io.Writer, p *storage.Pinned, a About, t Taking) (m Metadata, err error) {
	if err := t.check(p); err != nil {
		return m, err
	}
	f, err := newFileWriter(w, a)
	if err != nil {
		return m, err
	}
	if m, err = export(ctx, p, t, f.chunk); err != nil {
		return m, err
	}
	return m, f.end(m)
}

// Export writes a snapshot that List has returned to w, as a file.
func (d Dir) Export(ctx context.Context, w io.Writer, m Metadata, a About) error {
	f, err := newFileWriter(w, a)
	if err != nil {
		return err
	}

	for place := range m.Chunks {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}

		chunk, err := d.Chunk(m, uint32(place))
		if err != nil {
			return err
		}
		if err := f.chunk(place, chunk); err != nil {
			return err
		}
	}

	return f.end(m)
}

// File is a snapshot in a file.
type File struct {
	Metadata
	About

	r  io.ReaderAt
	at int64 // where the chunks begin
}

// ReadFile reads the head and the end of a file of that size. Errors are ErrFile, ErrFormat for a
// file of a newer program, and those of r. It does not read the chunks: see Check and Build.
func ReadFile(r io.ReaderAt, size int64) (*File, error) {
	f := &File{r: r}
	sum, err := f.readHead(size)
	if err == nil {
		err = f.readTail(size, sum)
	}
	if err != nil {
		return nil, err
	}
	return f, nil
}

func badFile(format string, args ...any) error {
	return fmt.Errorf("%w: %w", ErrFile, fmt.Errorf(format, args...))
}

// read reads n bytes at a place of a file that has size bytes.
func (f *File) read(at, n, size int64, what string) ([]byte, error) {
	if n > size-at {
		return nil, badFile("it is cut off: it has %d bytes, and %s goes on to byte %d at least", size, what, at+n)
	}
	b := make([]byte, n)
	if _, err := f.r.ReadAt(b, at); err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	return b, nil
}

func (f *File) readHead(size int64) (sum [sha256.Size]byte, err error) {
	const fixed = len(fileMagic) + 8
	b, err := f.read(0, min(size, int64(fixed)), size, "its head")
	if err != nil {
		return sum, err
	}
	if magic := b[:min(len(b), len(fileMagic))]; string(magic) != fileMagic[:len(magic)] || len(magic) == 0 {
		return sum, badFile("it is no snapshot file: it begins with %q, want %q", magic, fileMagic)
	}
	if b, err = f.read(0, int64(fixed), size, "its head"); err != nil {
		return sum, err
	}

	if v := binary.BigEndian.Uint32(b[len(fileMagic):]); v > FileVersion {
		return sum, fmt.Errorf("%w: the file has version %d, this program reads up to %d: it needs a newer coppice",
			ErrFormat, v, FileVersion)
	} else if v == 0 {
		return sum, badFile("it has version 0, want 1 to %d", FileVersion)
	}

	about := int64(binary.BigEndian.Uint32(b[len(fileMagic)+4:]))
	if about > maxAbout {
		return sum, badFile("its head says that %d bytes follow, want at most %d: it was changed", about, maxAbout)
	}

	f.at = int64(fixed) + about + sha256.Size
	if b, err = f.read(0, f.at, size, "its head"); err != nil {
		return sum, err
	}

	head, want := b[:len(b)-sha256.Size], b[len(b)-sha256.Size:]
	if sum = sha256.Sum256(head); !bytes.Equal(sum[:], want) {
		return sum, badFile("its head (bytes 0 to %d) has SHA-256 %x, want %x: it was changed", len(head)-1, sum, want)
	}

	d := json.NewDecoder(bytes.NewReader(head[fixed:]))
	if err := d.Decode(&f.About); err != nil {
		return sum, badFile("its head is not what a program writes: %w", err)
	}

	return sum, nil
}

func (f *File) readTail(size int64, head [sha256.Size]byte) error {
	b, err := f.read(max(f.at, size-int64(tailBytes)), int64(tailBytes), size, "its end")
	if err != nil {
		return err
	}
	if end := b[sha256.Size+4:]; string(end) != fileEnd {
		return badFile("it is cut off or was changed: it ends at byte %d with %q, want %q", size, end, fileEnd)
	}

	n := int64(binary.BigEndian.Uint32(b[sha256.Size:]))
	if n > maxMetadata || n > size-f.at-int64(tailBytes) {
		return badFile("its end says that the metadata has %d bytes, which do not fit in %d: it was changed", n, size)
	}

	at := size - int64(tailBytes) - n
	metadata, err := f.read(at, n, size, "its metadata")
	if err != nil {
		return err
	}
	if sum := tailSum(metadata, head); !bytes.Equal(sum[:], b[:sha256.Size]) {
		return badFile("its metadata (bytes %d to %d) has SHA-256 %x, want %x: it was changed", at, at+n-1, sum,
			b[:sha256.Size])
	}

	switch f.Metadata, err = Decode(metadata); {
	case errors.Is(err, ErrFormat):
		return fmt.Errorf("the snapshot in the file: %w: it needs a newer coppice", err)
	case err != nil:
		return badFile("%w", err)
	case uint64(at-f.at) != f.Bytes:
		return badFile("it has %d bytes of chunks, want %d: something was cut out or put in", at-f.at, f.Bytes)
	case f.Genesis.ChainID != chain.NameOf(f.ChainID, f.Period):
		return badFile("its genesis is of chain %q, its state of %q (epoch %d)", f.Genesis.ChainID, f.ChainID, f.Period)
	}

	return nil
}

// Chunk reads a chunk and checks its hash. Errors are ErrFile and those of the reader.
func (f *File) Chunk(place int) ([]byte, error) {
	at := f.at + int64(place)*int64(f.ChunkBytes)
	b := make([]byte, f.size(place))
	if _, err := f.r.ReadAt(b, at); errors.Is(err, io.EOF) {
		return nil, badFile("it was cut off while it was read, before byte %d", at+int64(len(b)))
	} else if err != nil {
		return nil, err
	}

	i := Import{Metadata: f.Metadata}
	if err := i.Check(uint32(place), b); err != nil {
		return nil, badFile("bytes %d to %d: %w: it was changed", at, at+int64(len(b))-1, err)
	}
	return b, nil
}

// Build makes the state that the file holds (see Target), and so verifies that the file holds the
// state with its app hash. The target's facts about the block default to those of the file. After
// an error there is no state. Errors are ErrFile, ErrSnapshot, and those of the disk and of the
// reader.
func (f *File) Build(ctx context.Context, to Target, progress func(done, total uint64)) (err error) {
	if to.AppHash == nil {
		to.AppHash = f.AppHash
	}
	if to.BlockHash == nil {
		to.BlockHash = f.BlockHash
	}
	if to.Time.IsZero() {
		if to.Time = f.BlockTime; to.Time.IsZero() {
			to.Time = f.Clock
		}
	}

	i, err := NewImport(f.Metadata, to)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, i.Abort())
		}
	}()

	if err := f.each(ctx, progress, func(place int, chunk []byte) error {
		return i.Apply(uint32(place), chunk)
	}); err != nil {
		return err
	}

	return i.Finish()
}

// each calls do with all chunks, in order.
func (f *File) each(ctx context.Context, progress func(done, total uint64),
	do func(place int, chunk []byte) error) error {
	for place := range f.Chunks {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}

		chunk, err := f.Chunk(place)
		if err != nil {
			return err
		}
		if err := do(place, chunk); err != nil {
			return err
		}
		if progress != nil {
			progress(uint64(place)+1, uint64(len(f.Chunks)))
		}
	}
	return nil
}

// Stage writes the snapshot of a file to a directory of d that Settle removes, and returns its
// name. Adopt gives it its real name. Stage may run beside all other methods of d; each caller
// stages with another suffix.
func (d Dir) Stage(ctx context.Context, f *File, suffix string) (staged string, err error) {
	staged = stagedPrefix + suffix
	dir := d.path(staged)
	if err := errors.Join(d.FS.RemoveAll(dir), d.FS.MkdirAll(dir, 0o700)); err != nil {
		return "", err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, d.FS.RemoveAll(dir))
		}
	}()

	if err := f.each(ctx, nil, d.chunksTo(dir)); err != nil {
		return "", err
	}
	if err := d.writeMetadata(dir, f.Metadata); err != nil {
		return "", err
	}

	return staged, durable.On(d.FS).SyncDir(dir)
}
