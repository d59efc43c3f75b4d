package storage

import (
	"fmt"

	"github.com/coppice-go/coppice/engines/chain"
	logv1 "github.com/coppice-go/coppice/proto/coppice/log/v1"
)

// loadReset reads the reset that the committed state holds, at the open.
func (d *DB) loadReset() (*chain.Reset, error) {
	b, found, err := d.get(latestKey([]byte(chain.ResetKey)))
	if err != nil || !found {
		return nil, err
	}

	l, err := decodeLatest([]byte(chain.ResetKey), b)
	if err != nil {
		return nil, err
	}
	r, err := chain.DecodeReset(l.value)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrDamaged, err)
	}

	return r, nil
}

// held reports whether the next block changes nothing, because a reset of the current period is
// due.
func (p *published) held() bool { return p.state().InHold() }

// begins returns the changes with which a block begins: the first block after a reset deletes the
// reset from the state.
func (p *published) begins(b chain.Block) []*logv1.Change {
	if p.reset == nil || p.held() {
		return nil
	}
	v := chain.Version{Period: b.Period, Height: b.Height}
	return []*logv1.Change{{Version: v.Proto(), Key: []byte(chain.ResetKey), Delete: true}}
}

// heldText is the text of the results of transactions in a block that changes nothing.
const heldText = "the chain is in hold until its reset, and takes no transactions: submit it again"

// RootAt returns what the committed keys and ids are at a reset: their hash, and the app hash that
// they have in a period. A chain whose period begins with this state begins with that app hash.
func (d *DB) RootAt(period uint64) chain.Root {
	d.mu.Lock()
	defer d.mu.Unlock()
	return chain.Root{State: d.acc.Root(), AppHash: d.acc.Hash(period)}
}
