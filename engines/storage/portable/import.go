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

// Target says what state to make of a snapshot, and what is known of it that is not a peer's word.
type Target struct {
	FS  vfs.FS
	Dir string // where the state is built. What is there is removed

	// Fatal ends the process where what is built can neither go on nor be closed: its disk is full,
	// for one. It must not return; nil panics.
	Fatal func(error)

	Chain     *logv1.ChainStarted // by this node's own genesis
	AppHash   []byte              // at the snapshot's height; as the next two
	BlockHash []byte
	Time      time.Time
}

// Import takes a snapshot's chunks, in their order. It is for one goroutine at a time.
type Import struct {
	Metadata
	to   Target
	b    *storage.Builder
	d    decoder
	next int
}

// NewImport begins to take a snapshot, and touches no disk yet. It is ErrSnapshot where the
// snapshot is not of the chain, or not what is known of its height.
func NewImport(m Metadata, to Target) (*Import, error) {
	switch c := to.Chain; {
	case m.ChainID != c.ChainId || m.Period != c.Period:
		return nil, fmt.Errorf("%w: it is of chain %q (period %d), this is %q (period %d)", ErrSnapshot, m.ChainID,
			m.Period, c.ChainId, c.Period)

	case string(m.AppHash) != string(to.AppHash):
		return nil, fmt.Errorf("%w: it is of app hash %x, the chain's at height %d is %x", ErrSnapshot, m.AppHash,
			m.Height, to.AppHash)

	// an earlier period may have had a later time
	case m.Clock.Before(to.Time), m.Period == 0 && !m.Clock.Equal(to.Time):
		return nil, fmt.Errorf("%w: its clock is at %v, block %d is of %v", ErrSnapshot, m.Clock.UTC(), m.Height,
			to.Time.UTC())
	}
	return &Import{Metadata: m, to: to}, nil
}

// Next returns the place of the chunk to come, and how many there are.
func (i *Import) Next() (next, of int) { return i.next, len(i.Chunks) }

// Check reports whether a chunk is the one at its place. Errors: ErrChunk, and ErrSnapshot for a
// place that there is not.
func (i *Import) Check(place uint32, chunk []byte) error {
	if int(place) >= len(i.Chunks) {
		return fmt.Errorf("%w: it has no chunk %d, but %d", ErrSnapshot, place, len(i.Chunks))
	}
	if want := i.size(int(place)); uint64(len(chunk)) != want {
		return fmt.Errorf("%w: chunk %d has %d bytes, want %d", ErrChunk, place, len(chunk), want)
	}
	if sum := sha256.Sum256(chunk); sum != i.Chunks[place] {
		return fmt.Errorf("%w: chunk %d has SHA-256 %x, want %x", ErrChunk, place, sum, i.Chunks[place])
	}
	return nil
}

// Apply takes the chunk at a place. One that was taken before changes nothing; one from further
// ahead is ErrOrder. After the last, and only then, Finish is to be called. Errors: ErrChunk,
// ErrOrder, ErrSnapshot; all others are this node's disk's, and after these and ErrSnapshot the
// import is to be given up.
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

// faulty makes a fault of the snapshot of what the state would not take.
func faulty(err error) error {
	for _, is := range []error{storage.ErrBuild, storage.ErrAppHash, storage.ErrChain} {
		if errors.Is(err, is) {
			return fmt.Errorf("%w: %w", ErrSnapshot, err)
		}
	}
	return err
}

// Finish checks that the state is whole and has the app hash, and closes it: it is durable in its
// directory then. Errors as Apply.
func (i *Import) Finish() error {
	if i.next < len(i.Chunks) {
		return fmt.Errorf("%w: %d of %d chunks have come", ErrOrder, i.next, len(i.Chunks))
	}
	if err := i.d.end(); err != nil {
		return err
	}
	return faulty(i.b.Finish(i.to.Chain, i.Clock))
}

// Abort gives up what was built and removes it. After Finish it removes the state.
func (i *Import) Abort() error {
	var err error
	if i.b != nil {
		err = i.b.Abort()
	}
	return errors.Join(err, i.to.FS.RemoveAll(i.to.Dir))
}
