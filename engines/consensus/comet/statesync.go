package comet

import (
	"context"

	abci "github.com/cometbft/cometbft/abci/types"
)

// State sync: this node offers no snapshots and takes none. A new node joins by block sync.

func (a *app) listSnapshots(context.Context) *abci.ResponseListSnapshots {
	return &abci.ResponseListSnapshots{}
}

func (a *app) loadSnapshotChunk(context.Context, *abci.RequestLoadSnapshotChunk) *abci.ResponseLoadSnapshotChunk {
	return &abci.ResponseLoadSnapshotChunk{}
}

func (a *app) offerSnapshot(context.Context, *abci.RequestOfferSnapshot) *abci.ResponseOfferSnapshot {
	return &abci.ResponseOfferSnapshot{Result: abci.ResponseOfferSnapshot_ABORT}
}

func (a *app) applySnapshotChunk(context.Context, *abci.RequestApplySnapshotChunk) *abci.ResponseApplySnapshotChunk {
	return &abci.ResponseApplySnapshotChunk{Result: abci.ResponseApplySnapshotChunk_ABORT}
}
