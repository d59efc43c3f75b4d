package chain

import (
	"encoding/json"
	"fmt"
)

// PruneKey is the key under which the replicated state holds the last decision to drop the history
// of a chain whose resets have the mode Prune.
const PruneKey = ReservedPrefix + "pruned"

// Pruned is the decision to drop the history before the block at Height, which decided it. The
// chain goes on as it is: its id, its epoch and its heights stay, and nothing restarts.
type Pruned struct {
	Height uint64 `json:"pruned"`
	TimeNs int64  `json:"time_ns"`
}

// Encode returns the value of PruneKey.
func (p Pruned) Encode() ([]byte, error) { return json.Marshal(p) }

// DecodePruned decodes the value of PruneKey. The error says that it is none.
func DecodePruned(b []byte) (p Pruned, err error) {
	if err = json.Unmarshal(b, &p); err == nil && p.Height == 0 {
		err = fmt.Errorf("height 0")
	}
	if err != nil {
		err = fmt.Errorf("the pruning in the state: %w", err)
	}
	return p, err
}

// Prunes reports whether the resets of the chain drop its history, and no more.
func (r *Resets) Prunes() bool { return r != nil && r.Mode == Prune }

// DecidePruning decides to drop the history before the block of a view, and returns the decision.
// It is DecideReset for the mode Prune, which has no offset.
func DecidePruning(v View, _ uint64) ([]byte, error) {
	at, err := v.Version()
	if err != nil {
		return nil, err
	}
	now, err := v.BlockTime()
	if err != nil {
		return nil, err
	}

	decision, err := Pruned{Height: at.Height, TimeNs: now.UnixNano()}.Encode()
	if err != nil {
		return nil, err
	}
	return decision, v.Put([]byte(PruneKey), decision)
}
