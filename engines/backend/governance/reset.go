package governance

import (
	"bytes"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/coppice-go/coppice/engines/chain"
)

// ResetChange is the signed part of a transaction that resets the chain. It counts among the
// changes, and the block that commits it is the one that decides the reset.
type ResetChange struct {
	ChainID  string `json:"chain_id"` // the name of the chain, in every epoch
	Sequence uint64 `json:"sequence"` // of the change; 1 for the first
}

const resetDomain = "coppice: reset of the chain\n"

// Reasons why a reset fails.
var (
	ErrNoResets = errors.New(`genesis.json has no "resets", so the chain is never reset`)
	ErrResetDue = errors.New("a reset is due already")
)

// SignReset returns the body of a transaction with a signed reset.
func SignReset(key ed25519.PrivateKey, c ResetChange) ([]byte, error) {
	text, err := json.Marshal(c)
	if err != nil {
		return nil, err
	}
	return append(ed25519.Sign(key, append([]byte(resetDomain), text...)), text...), nil
}

// WithResets returns b with resets. The next epoch begins offset heights after the decision. An
// offset of 0 stands for no resets.
func (b *Backend) WithResets(offset uint64) *Backend {
	with := *b
	with.offset = offset
	return &with
}

// For returns b with the resets of a genesis; nil stands for none.
func (b *Backend) For(r *chain.Resets) *Backend {
	if r == nil {
		return b
	}
	with := b.WithResets(r.Offset)
	with.prunes = r.Prunes()
	return with
}

// openReset verifies the text of a reset whose signature is valid.
func (b *Backend) openReset(text []byte) (c ResetChange, err error) {
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()

	switch err := d.Decode(&c); {
	case err != nil:
		return c, fmt.Errorf("reset: %w", err)
	case c.ChainID != b.chainID:
		return c, fmt.Errorf("a reset of chain %q, this is %q", c.ChainID, b.chainID)
	case b.offset == 0 && !b.prunes:
		return c, ErrNoResets
	}

	return c, nil
}

// reset decides on a reset. It also writes the validator set, even if no change has touched it, so
// that the state names the set from here on: the genesis of a later epoch has another.
func (b *Backend) reset(v chain.View, c ResetChange, at chain.Version, set Set) ([]byte, error) {
	decide := chain.DecideReset
	if b.prunes {
		decide = chain.DecidePruning
	}
	decision, err := decide(v, b.offset)
	if err != nil {
		return nil, err
	}
	if decision == nil {
		return nil, ErrResetDue
	}

	set.Sequence, set.Period, set.Height = c.Sequence, at.Period, at.Height
	out, err := json.Marshal(set)
	if err != nil {
		return nil, err
	}

	return decision, v.Put([]byte(StateKey), out)
}
