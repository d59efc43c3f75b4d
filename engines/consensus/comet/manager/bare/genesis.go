package bare

import (
	"encoding/json"
	"fmt"
	"os"
	"strconv"
	"time"

	"github.com/cometbft/cometbft/crypto/ed25519"
	"github.com/cometbft/cometbft/types"

	comethome "github.com/coppice-go/coppice/engines/consensus/comet/home"
)

// keyType is the type of a validator key in CometBFT's JSON.
const keyType = ed25519.PubKeyName

// Period is what a hard reset makes of the genesis.
type Period struct {
	GenesisTime   string // RFC 3339; empty leaves that of the genesis
	InitialHeight string
	ChainID       string
}

// rewritten returns the genesis file with the values of p, and what it says.
func (h *Home) rewritten(p Period) ([]byte, *types.GenesisDoc, error) {
	data, err := os.ReadFile(comethome.GenesisPath(h.dir))
	if err != nil {
		return nil, nil, fmt.Errorf("%w: %w", comethome.ErrHome, err)
	}
	var doc map[string]json.RawMessage
	if err := json.Unmarshal(data, &doc); err != nil {
		return nil, nil, fmt.Errorf("%w: genesis: %w", comethome.ErrHome, err)
	}

	if p.GenesisTime != "" {
		if _, err := time.Parse(time.RFC3339Nano, p.GenesisTime); err != nil {
			return nil, nil, fmt.Errorf("genesis_time: %q, want a time such as 2026-01-31T12:00:00.000000Z",
				p.GenesisTime)
		}
		doc["genesis_time"] = quoted(p.GenesisTime)
	}

	if n, err := strconv.ParseInt(p.InitialHeight, 10, 64); err != nil || n < 0 {
		return nil, nil, fmt.Errorf("initial_height: %q, want a number from 0 on", p.InitialHeight)
	}
	doc["initial_height"], doc["chain_id"] = quoted(p.InitialHeight), quoted(p.ChainID)

	return finished(doc)
}

// finished returns the file of a genesis, and what it says.
func finished(doc map[string]json.RawMessage) ([]byte, *types.GenesisDoc, error) {
	text, err := json.MarshalIndent(doc, "", "  ")
	if err != nil {
		return nil, nil, fmt.Errorf("genesis: %w", err)
	}
	parsed, err := comethome.ParseGenesis(text)
	return text, parsed, err
}

func quoted(s string) json.RawMessage {
	b, _ := json.Marshal(s) // a string always has a JSON form
	return b
}
