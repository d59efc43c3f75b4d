package home

import (
	"context"
	"fmt"
	"strings"
	"time"

	rpchttp "github.com/cometbft/cometbft/rpc/client/http"
)

// StateSync makes a home without a chain begin with a snapshot of its peers instead of the first
// block.
type StateSync struct {
	// RPC lists the nodes that the light client asks for headers, each as host:port or a URL. It
	// needs at least two: the second is a witness against the first.
	RPC []string

	// Height and Hash are those of a block that a trusted party knows to be in the chain. The block
	// must not be older than Period.
	Height int64
	Hash   string        // in hexadecimal
	Period time.Duration // 0 stands for a week
}

const (
	defaultTrust  = 7 * 24 * time.Hour
	discoveryTime = 5 * time.Second // CometBFT accepts no shorter time
)

// SetStateSync configures a home to begin with a snapshot. If the chain has begun, this has no
// effect. SetStateSync returns ErrHome if CometBFT would not accept s.
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

// MoveStateSync gives a home that SetStateSync has set the present addresses of the nodes that it
// trusts. It leaves any other home as it is.
func MoveStateSync(home string, rpc []string) error {
	c, err := LoadConfig(home)
	if err != nil || !c.StateSync.Enable {
		return err
	}

	c.StateSync.RPCServers = rpc
	if err := c.StateSync.ValidateBasic(); err != nil {
		return fmt.Errorf("%w: statesync: %w", ErrHome, err)
	}

	return writeConfig(home, c)
}

// OldestBlock asks a running CometBFT, at host:port or a URL, for its oldest block. A node whose
// owner trusts that CometBFT may use the block as its first trusted one.
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
