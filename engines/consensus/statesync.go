package consensus

import (
	"context"
	"errors"
	"time"

	"github.com/coppice-go/coppice/engines/chain"
	logv1 "github.com/coppice-go/coppice/proto/coppice/log/v1"
)

// StateSync gives snapshots of the state to peers and takes snapshots from them, for a driver whose
// consensus carries snapshots. The fields of a snapshot mean the same as in CometBFT.
type StateSync interface {
	// Committed is called when a height is committed, before the next block can come. It does not
	// wait.
	Committed(ctx context.Context, s chain.State)

	// Preserve makes the state at the reset that is due in state s durable, beside what the node
	// goes on with, so that nodes that are left behind can have it. It costs little, whatever the
	// size of the state, and does nothing if it was called before. The errors are those of a
	// transaction core that is down, and of the disk.
	Preserve(ctx context.Context, s chain.State) error

	// Oldest returns the lowest height whose snapshot is offered or being made, or 0 if there is
	// none. A node that begins with that snapshot needs the blocks after it.
	Oldest() uint64

	// List returns the snapshots that are offered, the newest first.
	List() []Snapshot

	// Chunk reads one chunk of a snapshot that was listed. It returns ErrNoSnapshot if the snapshot
	// is gone.
	Chunk(height uint64, format, index uint32) ([]byte, error)

	// Offer begins to take a snapshot, in place of one that was begun before. It writes nothing to
	// disk. Its errors are ErrSnapshotFormat, ErrSnapshot, and those of a transaction core that is
	// down.
	Offer(ctx context.Context, o Offer) error

	// Apply takes the next chunk of the snapshot that was offered. After the last chunk it returns
	// when the state is installed and recorded in the log, and the core has started with it. Its
	// errors are ErrChunk, *ChunkOrderError, ErrSnapshot, and ErrNoSnapshot if no snapshot was
	// offered. Any other error is this node's own, and the snapshot must be begun again.
	Apply(ctx context.Context, index uint32, chunk []byte) error
}

// Snapshot describes a snapshot to peers.
type Snapshot struct {
	Height   uint64
	Format   uint32
	Chunks   uint32
	Hash     []byte
	Metadata []byte
}

// Offer is a peer's snapshot, with the facts that this node knows about it from other sources.
type Offer struct {
	Snapshot

	Chain     *logv1.ChainStarted // from this node's genesis
	AppHash   []byte              // at the snapshot's height; the consensus vouches for AppHash, BlockHash and Time
	BlockHash []byte
	Time      time.Time

	// AtReset says that the snapshot is of the state at a reset. It is refused if the block at its
	// height did not decide one.
	AtReset bool
}

// Errors of StateSync. Each is wrapped with the details.
var (
	ErrSnapshotFormat = errors.New("unknown format of snapshots")
	ErrSnapshot       = errors.New("snapshot cannot be taken")
	ErrChunk          = errors.New("chunk is not the snapshot's")
	ErrNoSnapshot     = errors.New("no such snapshot")
)

// ChunkOrderError is the error for a chunk that is not the next one. Want is the next one.
type ChunkOrderError struct {
	Want uint32
	Err  error
}

// Error returns the text of Err.
func (e *ChunkOrderError) Error() string { return e.Err.Error() }

// Unwrap returns Err.
func (e *ChunkOrderError) Unwrap() error { return e.Err }
