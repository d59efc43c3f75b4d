package child

import (
	"reflect"
	"time"

	"github.com/cometbft/cometbft/blocksync"
	"github.com/cometbft/cometbft/node"
	"github.com/cometbft/cometbft/p2p"
)

// syncLook is how often block sync looks whether the node is level with its peers. CometBFT looks
// once in a second, so each start, and with it each new epoch of a chain, would cost a second in
// which a validator does not vote. A peer says its height as soon as it is connected. Peers that
// are connected only after the first look do not matter: consensus brings a node level as well,
// block by block.
const syncLook = 200 * time.Millisecond

// lookSoon makes block sync look every syncLook. CometBFT has no setting for that, so lookSoon
// writes to the field of the reactor, before the reactor starts (ADR 0224). Where another version
// of CometBFT has no such field, nothing changes.
func lookSoon(n *node.Node) {
	sw, ok := n.Switch().(*p2p.Switch)
	if !ok {
		return
	}
	reactor, _ := sw.Reactor("BLOCKSYNC")
	b, ok := reactor.(*blocksync.Reactor)
	if !ok {
		return
	}
	if between := lookInterval(b); between != nil {
		*between = syncLook
	}
}

// lookInterval returns where a reactor keeps the time between two looks, or nil.
func lookInterval(r *blocksync.Reactor) *time.Duration {
	f := reflect.ValueOf(r).Elem().FieldByName("intervalSwitchToConsensus")
	if !f.IsValid() || f.Type() != reflect.TypeFor[time.Duration]() {
		return nil
	}
	return (*time.Duration)(f.Addr().UnsafePointer())
}
