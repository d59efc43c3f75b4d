package node

import (
	"context"
	"errors"
	"fmt"

	"github.com/coppice-go/coppice/engines/storage/portable"
	"github.com/coppice-go/coppice/node/api"
	"github.com/coppice-go/coppice/node/retention"
	apiv1 "github.com/coppice-go/coppice/proto/coppice/api/v1"
)

// copies implements api.Snapshots: the snapshots for this home, and those for other nodes.
type copies struct {
	*retention.Snapshotter
	node *Node
}

// Offer makes a snapshot for nodes that join: see api.Snapshots.
func (c copies) Offer(ctx context.Context) (*apiv1.OfferSnapshotResponse, error) {
	if c.node.stateSync == nil {
		return nil, api.ErrNoStateSync
	}
	m, err := c.node.stateSync.Publish(ctx)
	if err != nil {
		return nil, api.Unavailable(err)
	}

	return &apiv1.OfferSnapshotResponse{
		Height: m.Height, Keys: m.Keys, Bytes: m.Bytes, Chunks: uint32(len(m.Chunks)),
	}, nil
}

// Adopt offers a snapshot that another process has put into the home: see api.Snapshots.
func (c copies) Adopt(ctx context.Context, staged string) (*apiv1.AdoptSnapshotResponse, error) {
	if c.node.stateSync == nil {
		return nil, api.ErrNoStateSync
	}

	m, err := c.node.stateSync.Adopt(ctx, staged)
	for _, refused := range []error{portable.ErrNone, portable.ErrChunk, portable.ErrSnapshot, portable.ErrFormat,
		portable.ErrStale} {
		if errors.Is(err, refused) {
			return nil, fmt.Errorf("%w: %w", api.ErrNotAdopted, err)
		}
	}
	if err != nil {
		return nil, err
	}

	return &apiv1.AdoptSnapshotResponse{
		Height: m.Height, Keys: m.Keys, Bytes: m.Bytes, Chunks: uint32(len(m.Chunks)),
	}, nil
}
