package consensus

import (
	"context"
	"errors"
	"time"

	"github.com/coppice-go/coppice/engines/chain"
	logv1 "github.com/coppice-go/coppice/proto/coppice/log/v1"
)

// StateSync gives the state to peers, and takes it from them: for a driver whose consensus carries
// snapshots. What CometBFT knows as a snapshot's fields means the same here.
type StateSync interface {
	// Committed tells that a height is committed, before the next block can come. It does not wait.
	Committed(ctx context.Context, s chain.State)

	// Oldest is the lowest height whose snapshot is offered or being made, 0 for none: who begins
	// with it needs the blocks after it.
	Oldest() uint64

	// List are the snapshots that are offered, the newest first.
	List() []Snapshot

	// Chunk reads one chunk of a snapshot that was listed; ErrNoSnapshot if it is there no more.
	Chunk(height uint64, format, index uint32) ([]byte, error)

	// Offer begins to take a snapshot, instead of one that was begun before. It touches no disk.
	// Errors: ErrSnapshotFormat, ErrSnapshot, and those of a core that is down.
	Offer(ctx context.Context, o Offer) error

	// Apply takes the next chunk of the snapshot that was offered. After the last it returns when
	// the state is in its place, in the log too, and the core has begun with it. Errors: ErrChunk,
	// *ChunkOrderError, ErrSnapshot, ErrNoSnapshot where none was offered; others are of this node,
	// and the snapshot is to be begun again.
	Apply(ctx context.Context, index uint32, chunk []byte) error
}

// Snapshot is what peers know of a snapshot.
type Snapshot struct {
	Height   uint64
	Format   uint32
	Chunks   uint32
	Hash     []byte
	Metadata []byte
}

// Offer is a snapshot of a peer's, and what need not be believed of it.
type Offer struct {
	Snapshot

	Chain     *logv1.ChainStarted // by this node's genesis
	AppHash   []byte              // at the snapshot's height, which the consensus vouches for, as for the next two
	BlockHash []byte
	Time      time.Time
}

// Errors of StateSync. Each comes with what was wrong.
var (
	ErrSnapshotFormat = errors.New("format of snapshots that is not known")
	ErrSnapshot       = errors.New("snapshot that can not be taken")
	ErrChunk          = errors.New("chunk that is not the snapshot's")
	ErrNoSnapshot     = errors.New("no such snapshot")
)

// ChunkOrderError: a chunk came before the one that is next.
type ChunkOrderError struct {
	Want uint32
	Err  error
}

// Error is that of Err.
func (e *ChunkOrderError) Error() string { return e.Err.Error() }

// Unwrap is Err.
func (e *ChunkOrderError) Unwrap() error { return e.Err }
