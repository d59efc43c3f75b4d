package child

import (
	dbm "github.com/cometbft/cometbft-db"
	sm "github.com/cometbft/cometbft/state"
	"github.com/cometbft/cometbft/store"
)

// mend repairs what a kill leaves in the databases of a chain at two moments.
//
// The first is the time before the first block of databases that begin at a state, as after a
// rebuild or a state sync. CometBFT accepts a state without blocks only if it is marked, and
// removes the mark at each start. mend marks it again, if the commit that CometBFT needs is there.
//
// The second is the first block of a chain that begins above height 1. CometBFT stores the block
// and then the state after it. Before the first block the stored state is at height 0, whatever the
// initial height is, so that the block seems to be far ahead of the state, and CometBFT 0.40 ends
// at each start ("StoreBlockHeight > StateBlockHeight + 1"). The state before the first block is
// the same at the height before it.
func mend(blocks *store.BlockStore, states dbm.DB) error {
	s := sm.NewStore(states, sm.StoreOptions{})
	state, err := s.Load()
	if err != nil || state.IsEmpty() {
		return err
	}

	if at := state.LastBlockHeight; at > 0 && blocks.Height() == 0 && blocks.LoadSeenCommit(at) != nil {
		return s.SetOfflineStateSyncHeight(at)
	}

	if state.LastBlockHeight != 0 || state.InitialHeight <= 1 || blocks.Height() != state.InitialHeight {
		return nil
	}

	// The first block has no commit of a block before it, so nobody asks who would have signed
	// that. But a state above height 0 is stored with such validators.
	state.LastBlockHeight, state.LastValidators = state.InitialHeight-1, state.Validators.Copy()
	return s.Save(state)
}
