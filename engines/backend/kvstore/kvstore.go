// Package kvstore is the transaction backend of CometBFT's example application: the bytes
// "key=value" write value at key. The application's clients, load tools and tests run against this
// node unchanged.
//
// The rules are those of CometBFT v0.40's abci/example/kvstore. A transaction has exactly one "="
// or ":", never both, and not at its start or end; "key:value" means "key=value". Older versions
// accepted a lone "key". It is refused here, as in v0.40.
//
// It differs from the original in three points, in each of which the original is wrong:
//
//   - Execute itself understands "key:value". The original rewrites it in PrepareProposal alone,
//     and panics in Commit if a proposer did not.
//   - "val:…" is refused. The original's CheckTx accepts it, rewrites it to a malformed "val=…" and
//     then rejects its own proposal.
//   - "val=…" is refused. In the original it changes the validator set, which this backend must not
//     change.
package kvstore

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/coppice-go/coppice/engines/chain"
)

// Errors of Check and Execute for a body that they refuse.
var (
	ErrFormat      = errors.New("malformed kvstore transaction")
	ErrValidatorTx = errors.New("kvstore validator transactions change the validator set, which this backend " +
		"does not do")
)

// New returns the backend of plain transactions. It has no state, so one backend may serve any
// number of workers.
func New() chain.Backend { return backend{} }

type backend struct{}

// Name implements chain.Backend. It returns chain.PlainBackend, so that transactions without an
// envelope come to this backend.
func (backend) Name() string { return chain.PlainBackend }

// Check implements chain.Backend.
func (backend) Check(body []byte) error {
	_, _, err := Parse(body)
	return err
}

// Execute implements chain.Backend. The result is empty. Execute never reads, so it never waits for
// its place in the order.
func (backend) Execute(v chain.View, body []byte) ([]byte, error) {
	key, value, err := Parse(body)
	if err != nil {
		return nil, err
	}
	if err := v.Step(1); err != nil {
		return nil, err
	}
	return nil, v.Put(key, value)
}

// Parse splits a transaction into key and value, which share tx's memory. Its errors wrap ErrFormat
// or ErrValidatorTx.
func Parse(tx []byte) (key, value []byte, err error) {
	bad := func(format string, args ...any) ([]byte, []byte, error) {
		return nil, nil, fmt.Errorf("%w: %s, want key=value", ErrFormat, fmt.Sprintf(format, args...))
	}

	if bytes.HasPrefix(tx, []byte("val=")) || bytes.HasPrefix(tx, []byte("val:")) {
		return nil, nil, ErrValidatorTx
	}
	at := bytes.IndexAny(tx, "=:")
	if at < 0 {
		return bad(`%d bytes without "=" or ":"`, len(tx))
	}
	key, value = tx[:at], tx[at+1:]
	if again := bytes.IndexAny(value, "=:"); again >= 0 {
		return bad("%q at byte %d and %q at byte %d", tx[at:at+1], at, value[again:again+1], at+1+again)
	}

	switch {
	case len(key) == 0:
		return bad("no key before the %q", tx[at:at+1])
	case len(value) == 0:
		return bad("no value after the %q at byte %d", tx[at:at+1], at)
	case len(key) > chain.MaxKeyBytes:
		return bad("a key of %d bytes (at most %d)", len(key), chain.MaxKeyBytes)
	case len(value) > chain.MaxValueBytes:
		return bad("a value of %d bytes (at most %d)", len(value), chain.MaxValueBytes)
	}

	return key, value, nil
}
