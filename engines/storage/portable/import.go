package portable

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/coppice-go/coppice/engines/storage"
	logv1 "github.com/coppice-go/coppice/proto/coppice/log/v1"
)

// Target describes the state to build from a snapshot, and the facts about it that do not come from
// a peer.
type Target struct {
	FS  vfs.FS
	Dir string // where the state is built; anything that is already there is removed

	// Fatal ends the process when the state that is being built can neither continue nor be closed,
	// for example because the disk is full. It must not return; nil means panic.
	Fatal func(error)

	Chain     *logv1.ChainStarted // from this node's own genesis
	AppHash   []byte              // at the snapshot's height, like the next two
	BlockHash []byte
	Time      time.Time
}

// Import builds a state from the chunks of a snapshot, which must come in order. Only one goroutine
// may use an Import at a time.
type Import struct {
	Metadata
	to   Target
	b    *storage.Builder
	d    decoder
	next int
}

// NewImport begins an import; it does not touch the disk yet. It returns ErrSnapshot if the
// snapshot is of another chain, or contradicts the known facts about its height.
func NewImport(m Metadata, to Target) (*Import, error) {
	switch c := to.Chain; {
	case m.ChainID != c.ChainId || m.Period != c.Period:
		return nil, fmt.Errorf("%w: snapshot is of chain %q (period %d), this is %q (period %d)", ErrSnapshot,
			m.ChainID, m.Period, c.ChainId, c.Period)

	case string(m.AppHash) != string(to.AppHash):
		return nil, fmt.Errorf("%w: snapshot has app hash %x, the chain has %x at height %d", ErrSnapshot, m.AppHash,
			to.AppHash, m.Height)

	// The times of blocks rise, also over resets: the first block after one has the time of the
	// last.
	case !m.Clock.Equal(to.Time):
		return nil, fmt.Errorf("%w: snapshot has clock %v, block %d has time %v", ErrSnapshot, m.Clock.UTC(), m.Height,
			to.Time.UTC())
	}
	return &Import{Metadata: m, to: to}, nil
}

// Next returns the place of the next chunk, and the number of chunks.
func (i *Import) Next() (next, of int) { return i.next, len(i.Chunks) }

// Check returns nil if chunk is the chunk at that place, ErrChunk if it is not, and ErrSnapshot if
// the snapshot has no such place.
func (i *Import) Check(place uint32, chunk []byte) error {
	if int(place) >= len(i.Chunks) {
		return fmt.Errorf("%w: no chunk %d, the snapshot has %d chunks", ErrSnapshot, place, len(i.Chunks))
	}
	if want := i.size(int(place)); uint64(len(chunk)) != want {
		return fmt.Errorf("%w: chunk %d has %d bytes, want %d", ErrChunk, place, len(chunk), want)
	}
	if sum := sha256.Sum256(chunk); sum != i.Chunks[place] {
		return fmt.Errorf("%w: chunk %d has SHA-256 %x, want %x", ErrChunk, place, sum, i.Chunks[place])
	}
	return nil
}

// Apply adds the chunk at a place to the state. A chunk that was applied before changes nothing,
// and a chunk from further ahead is ErrOrder. Call Finish after the last chunk, and only then.
// Errors: ErrChunk, ErrOrder, ErrSnapshot; any other error comes from this node's disk. After
// ErrSnapshot or an error of the disk, the caller must abort the import.
func (i *Import) Apply(place uint32, chunk []byte) error {
	if err := i.Check(place, chunk); err != nil {
		return err
	}

	switch {
	case int(place) < i.next:
		return nil
	case int(place) > i.next:
		return fmt.Errorf("%w: %d, want %d", ErrOrder, place, i.next)
	}

	if i.next == 0 && i.b == nil {
		if err := i.begin(); err != nil {
			return err
		}
	}

	if err := i.d.feed(chunk); err != nil {
		return faulty(err)
	}

	i.next++

	return nil
}

func (i *Import) begin() (err error) {
	if err := i.to.FS.RemoveAll(i.to.Dir); err != nil {
		return err
	}

	i.b, err = storage.NewBuilder(i.to.Dir, storage.Options{FS: i.to.FS, CacheBytes: 8 << 20, OnFatal: i.to.Fatal},
		storage.BlockMeta{
			Period: i.Period, Height: i.Height, Hash: i.to.BlockHash, Time: i.to.Time, AppHash: i.AppHash,
		})
	i.d = decoder{to: i.b, keys: i.Keys, ids: i.IDs}
	return err
}

// faulty returns err as ErrSnapshot if the state refused the contents of the snapshot, and
// otherwise returns err unchanged.
func faulty(err error) error {
	for _, is := range []error{storage.ErrBuild, storage.ErrAppHash, storage.ErrChain} {
		if errors.Is(err, is) {
			return fmt.Errorf("%w: %w", ErrSnapshot, err)
		}
	}
	return err
}

// Finish checks that the state is complete and has the app hash, and closes it. The state is then
// durable in its directory. Errors are those of Apply.
func (i *Import) Finish() error {
	if i.next < len(i.Chunks) {
		return fmt.Errorf("%w: only %d of %d chunks are applied", ErrOrder, i.next, len(i.Chunks))
	}
	if err := i.d.end(); err != nil {
		return err
	}
	return faulty(i.b.Finish(i.to.Chain, i.Clock))
}

// Abort discards what was built and removes it. After Finish, it removes the state.
func (i *Import) Abort() error {
	var err error
	if i.b != nil {
		err = i.b.Abort()
	}
	return errors.Join(err, i.to.FS.RemoveAll(i.to.Dir))
}
