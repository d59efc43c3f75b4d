// Package governance is the backend that changes the validator set of a CometBFT chain, and that
// decides on resets of a chain, by a transaction that is signed with the governance key of the
// genesis.
//
// A body is an ed25519 signature of 64 bytes followed by a Change as JSON. The signature covers the
// Change and a domain. The replicated state holds the set and the number of the last change, under
// a key that no other backend can write. A change carries the next number, so that no change is
// applied twice, in whatever envelope it comes.
//
// CometBFT ends its consensus, for good and on all nodes, when it is told to remove a validator
// that is not a member, or to remove all members. Therefore a change is first checked against the
// set. A change that CometBFT would refuse fails here, as a transaction that fails. A block may
// have one change, because CometBFT takes each validator once per block.
package governance

import (
	"bytes"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/coppice-go/coppice/engines/chain"
	logv1 "github.com/coppice-go/coppice/proto/coppice/log/v1"
)

// Name is the backend's name in transactions.
const Name = chain.GovernanceBackend

// StateKey is the key under which the replicated state holds the validator set.
const StateKey = chain.ReservedPrefix + "validators"

// Reasons why a change fails.
var (
	ErrSignature = errors.New("not signed with the governance key")
	ErrSequence  = errors.New("not the next change")
	ErrSet       = errors.New("change leaves no valid validator set")
	ErrTwice     = errors.New("the block has a change already")
)

// Validator is one member of the set.
type Validator struct {
	PubKey []byte `json:"pub_key"` // ed25519; base64 in JSON
	Power  int64  `json:"power"`
}

// Change is the signed part of a transaction. A power of 0 removes a validator.
type Change struct {
	ChainID  string      `json:"chain_id"`
	Sequence uint64      `json:"sequence"` // 1 for the first
	Updates  []Validator `json:"updates"`
}

// Set is the value of StateKey.
type Set struct {
	Sequence   uint64      `json:"sequence"` // of the last change
	Period     uint64      `json:"period"`   // of its block
	Height     uint64      `json:"height"`
	Validators []Validator `json:"validators"`
}

const domain = "coppice: change of the validators\n"

// Sign returns the body of a transaction with a signed change.
func Sign(key ed25519.PrivateKey, c Change) ([]byte, error) {
	text, err := json.Marshal(c)
	if err != nil {
		return nil, err
	}
	return append(ed25519.Sign(key, append([]byte(domain), text...)), text...), nil
}

// DecodeSet decodes the value of StateKey.
func DecodeSet(b []byte) (s Set, err error) {
	if err = json.Unmarshal(b, &s); err != nil {
		err = fmt.Errorf("the validator set in the state: %w", err)
	}
	return s, err
}

// Backend executes changes. It is safe for concurrent use.
type Backend struct {
	key     ed25519.PublicKey
	chainID string
	genesis []Validator // sorted, whatever order the source has: it enters the state
	offset  uint64      // of resets; 0: there are none
	prunes  bool        // resets drop the history, and no more
}

// New returns the backend of a chain that began with the validators in genesis. If key is empty,
// the backend refuses every change.
func New(key []byte, chainID string, genesis []Validator) *Backend {
	return &Backend{key: key, chainID: chainID, genesis: sorted(genesis)}
}

var _ chain.Backend = (*Backend)(nil)

// Name implements chain.Backend.
func (*Backend) Name() string { return Name }

var _ chain.StartedBackend = (*Backend)(nil)

// ForStart implements chain.StartedBackend: the set with which the chain began is that of the
// record, whatever the genesis files say by now. A later epoch begins with another set, and a reset
// rewrites CometBFT's genesis.
func (b *Backend) ForStart(rec *logv1.ChainStarted) chain.Backend {
	var set []Validator
	for _, v := range rec.Validators {
		set = append(set, Validator{PubKey: v.PubKey, Power: v.Power})
	}
	with := *b
	with.genesis = sorted(set)
	return &with
}

// sorted returns a copy of a set, sorted by key.
func sorted(set []Validator) []Validator {
	return slices.SortedFunc(slices.Values(set), func(a, b Validator) int { return bytes.Compare(a.PubKey, b.PubKey) })
}

// Check implements chain.Backend. It verifies the signature of the body.
func (b *Backend) Check(body []byte) error {
	_, _, err := b.open(body)
	return err
}

// open verifies the signature of a body, and returns the change in it, or else the reset.
func (b *Backend) open(body []byte) (change Change, reset *ResetChange, err error) {
	if len(b.key) != ed25519.PublicKeySize {
		return change, nil, fmt.Errorf("%w: the genesis has no governance key", ErrSignature)
	}

	if len(body) < ed25519.SignatureSize {
		return change, nil, fmt.Errorf("%w: %d bytes, want a signature of %d and a change", ErrSignature, len(body),
			ed25519.SignatureSize)
	}

	signature, text := body[:ed25519.SignatureSize], body[ed25519.SignatureSize:]
	signed := func(domain string) bool {
		return ed25519.Verify(b.key, append([]byte(domain), text...), signature)
	}

	switch {
	case signed(domain):
		if change, err = decodeChange(text); err == nil && change.ChainID != b.chainID {
			err = fmt.Errorf("a change of chain %q, this is %q", change.ChainID, b.chainID)
		}
		return change, nil, err

	case signed(resetDomain):
		c, err := b.openReset(text)
		return change, &c, err
	}

	return change, nil, ErrSignature
}

func decodeChange(text []byte) (c Change, err error) {
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(&c); err != nil {
		return c, fmt.Errorf("change: %w", err)
	}
	if len(c.Updates) == 0 {
		return c, errors.New("change: no updates")
	}

	seen := make(map[string]bool)
	for i, u := range c.Updates {
		switch {
		case len(u.PubKey) != ed25519.PublicKeySize:
			return c, fmt.Errorf("change: update %d: a key of %d bytes, want %d", i, len(u.PubKey),
				ed25519.PublicKeySize)
		case u.Power < 0 || u.Power > maxPower:
			return c, fmt.Errorf("change: update %d: power %d, want 0 to %d", i, u.Power, int64(maxPower))
		case seen[string(u.PubKey)]:
			return c, fmt.Errorf("change: update %d: its validator is listed twice", i)
		}
		seen[string(u.PubKey)] = true
	}

	return c, nil
}

// maxPower bounds the sum of all powers, as CometBFT does.
const maxPower = math.MaxInt64 / 8

// Execute implements chain.Backend. The result is the new set, or the reset that was decided.
func (b *Backend) Execute(v chain.View, body []byte) ([]byte, error) {
	c, reset, err := b.open(body)
	if err != nil {
		return nil, err
	}
	sequence := c.Sequence
	if reset != nil {
		sequence = reset.Sequence
	}

	at, err := v.Version()
	if err != nil {
		return nil, err
	}
	raw, found, err := v.Get([]byte(StateKey))
	if err != nil {
		return nil, err
	}

	set := Set{Validators: b.genesis}

	if found {
		if set, err = DecodeSet(raw); err != nil {
			return nil, err
		}
	}

	switch {
	case sequence != set.Sequence+1:
		return nil, fmt.Errorf("%w: number %d, want %d", ErrSequence, sequence, set.Sequence+1)
	case set.Period == at.Period && set.Height == at.Height:
		return nil, ErrTwice
	case reset != nil:
		return b.reset(v, *reset, at, set)
	}

	next, err := Apply(set.Validators, c.Updates)
	if err != nil {
		return nil, err
	}

	out, err := json.Marshal(Set{Sequence: c.Sequence, Period: at.Period, Height: at.Height, Validators: next})
	if err != nil {
		return nil, err
	}

	return out, v.Put([]byte(StateKey), out)
}

// Apply returns the set after the updates, sorted by key. It returns an error that wraps ErrSet if
// CometBFT would not accept them.
func Apply(set, updates []Validator) ([]Validator, error) {
	next := slices.Clone(set)
	for _, u := range updates {
		at := slices.IndexFunc(next, func(v Validator) bool { return bytes.Equal(v.PubKey, u.PubKey) })
		switch {
		case at >= 0 && u.Power == 0:
			next = slices.Delete(next, at, at+1)

		case at >= 0:
			next[at] = u

		case u.Power == 0:
			return nil, fmt.Errorf("%w: it removes %s, which is not a member", ErrSet,
				base64.StdEncoding.EncodeToString(u.PubKey))

		default:
			next = append(next, u)
		}
	}

	if len(next) == 0 {
		return nil, fmt.Errorf("%w: it removes every validator", ErrSet)
	}

	sum := int64(0)

	for _, v := range next {
		if v.Power > maxPower-sum {
			return nil, fmt.Errorf("%w: the powers add up to more than %d", ErrSet, int64(maxPower))
		}
		sum += v.Power
	}

	return sorted(next), nil
}

// Updates returns the changes to the validator set that a block makes, from the applied governance
// change in it, if there is one.
func Updates(b chain.Block, results []*logv1.TxResult) []*logv1.ValidatorUpdate {
	for i, r := range results {
		if r.Code != logv1.Code_CODE_OK || i >= len(b.Txs) {
			continue
		}
		tx, err := chain.DecodeTx(b.Txs[i])
		if err != nil || tx.Backend != Name || len(tx.Body) < ed25519.SignatureSize {
			continue
		}
		c, err := decodeChange(tx.Body[ed25519.SignatureSize:])
		if err != nil {
			continue // another backend with this name: it does not change this set
		}

		var out []*logv1.ValidatorUpdate
		for _, u := range c.Updates {
			out = append(out, &logv1.ValidatorUpdate{KeyType: "ed25519", PubKey: u.PubKey, Power: u.Power})
		}

		return out
	}
	return nil
}
