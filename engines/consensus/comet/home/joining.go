package home

import (
	"context"
	"fmt"
	"strings"
	"time"

	rpchttp "github.com/cometbft/cometbft/rpc/client/http"
)

// StateSync says how a home without a chain begins: with a snapshot of its peers instead of the
// first block.
type StateSync struct {
	// RPC are the nodes that the light client asks for headers, at least two: host:port or a URL.
	// The second bears witness against the first.
	RPC []string

	// Height and Hash are a block that is known to be the chain's, from somebody who is trusted, no
	// longer ago than Period.
	Height int64
	Hash   string        // in hexadecimal
	Period time.Duration // 0 is a week
}

const (
	defaultTrust  = 7 * 24 * time.Hour
	discoveryTime = 5 * time.Second // CometBFT takes no less
)

// SetStateSync writes into a home's configuration that it begins with a snapshot. Where the chain
// has begun it changes nothing. It is ErrHome where CometBFT would not take it.
func SetStateSync(home string, s StateSync) error {
	c, err := LoadConfig(home)
	if err != nil {
		return err
	}

	c.StateSync.Enable, c.StateSync.RPCServers = true, s.RPC
	c.StateSync.TrustHeight, c.StateSync.TrustHash, c.StateSync.TrustPeriod = s.Height, s.Hash, s.Period
	c.StateSync.DiscoveryTime = discoveryTime
	if s.Period == 0 {
		c.StateSync.TrustPeriod = defaultTrust
	}
	if err := c.StateSync.ValidateBasic(); err != nil {
		return fmt.Errorf("%w: statesync: %w", ErrHome, err)
	}
	if n := len(c.StateSync.TrustHashBytes()); n != 32 {
		return fmt.Errorf("%w: statesync: trust_hash has %d bytes, want 32", ErrHome, n)
	}

	return writeConfig(home, c)
}

// OldestBlock asks a running CometBFT, at host:port or a URL, for the oldest block that it has:
// what a node may begin to trust whose owner trusts the one that answers.
func OldestBlock(ctx context.Context, address string) (height int64, hash string, err error) {
	if !strings.Contains(address, "://") {
		address = "tcp://" + address
	}
	c, err := rpchttp.New(address, "/websocket")
	if err != nil {
		return 0, "", err
	}
	s, err := c.Status(ctx)
	if err != nil {
		return 0, "", err
	}
	if s.SyncInfo.EarliestBlockHeight == 0 {
		return 0, "", fmt.Errorf("%s has no block yet", address)
	}

	return s.SyncInfo.EarliestBlockHeight, s.SyncInfo.EarliestBlockHash.String(), nil
}
