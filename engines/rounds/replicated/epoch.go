package replicated

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/coppice-go/coppice/engines/chain"
	"github.com/coppice-go/coppice/engines/rounds"
)

// epochPart is the key, after chain.RoundsPrefix, of the first block of the present epoch. Epoch 0
// has none.
const epochPart = "epoch"

// epoch is the first block of an epoch. Its time is that of the block that decided on the reset.
type epoch struct {
	rounds.Place
	Time time.Time `json:"time"`
}

// resumed returns the time of the block that decided on the reset, if the block is the second one
// of an epoch: the armed deadlines then move by what the reset took. It notes the first block of an
// epoch.
func resumed(v chain.View, block rounds.Block) (t time.Time, err error) {
	if block.Epoch == 0 {
		return t, nil
	}

	raw, found, err := v.Get([]byte(partKey(epochPart)))
	if err != nil {
		return t, err
	}

	var first epoch
	if found {
		if err := json.Unmarshal(raw, &first); err != nil {
			return t, fmt.Errorf("the epoch of the rounds: %w", err)
		}
	}

	switch {
	case first.Epoch == block.Epoch && first.Height+1 == block.Height:
		return first.Time, nil
	case first.Epoch == block.Epoch:
		return t, nil
	}

	if raw, err = json.Marshal(epoch{block.Place, block.Time}); err != nil {
		return t, err
	}
	return t, v.Put([]byte(partKey(epochPart)), raw)
}
