package home

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/coppice-go/coppice/internal/durable"
)

// Trusted is the block for which the light client in CometBFT's process vouches: the block of the
// snapshot that is offered next. ABCI carries only the app hash. Our state also holds the hash and
// the time of the block, which must not come from a peer. The process writes Trusted into the home,
// which it shares with the node, before it offers the snapshot.
type Trusted struct {
	Height    uint64    `json:"height"`
	AppHash   []byte    `json:"app_hash"`
	BlockHash []byte    `json:"block_hash"`
	Time      time.Time `json:"time"`
}

func trustedPath(data string) string { return filepath.Join(data, "statesync-trusted.json") }

// ReadTrusted reads what WriteTrusted wrote to the directory data.
func ReadTrusted(data string) (t Trusted, err error) {
	b, err := os.ReadFile(trustedPath(data))
	if err == nil {
		err = json.Unmarshal(b, &t)
	}
	if err != nil {
		return t, fmt.Errorf("what the light client vouches for: %w", err)
	}
	return t, nil
}

// WriteTrusted writes t to a file in the directory data, whole or not at all.
func WriteTrusted(data string, t Trusted) error {
	b, err := json.Marshal(t)
	if err != nil {
		return err
	}
	return durable.OS.Replace(trustedPath(data), b, 0o600)
}
