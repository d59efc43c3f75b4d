package main

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/coppice-go/coppice/engines/chain"
)

// Bank is a transaction backend. It has accounts, each with an amount, and transfers between them.
//
// It keeps no state of its own. The amount of an account is in the node's replicated state, under
// the key "bank/" followed by the account's name. Bank reads and writes that state only through the
// view. So every node that executes the same transactions in the same order has the same amounts,
// and a restart changes none of them.
type Bank struct{}

// Name is the name of the backend. Each transaction for the backend carries this name.
const Name = "bank"

// Errors of a transfer. Such an error is the result of the transfer, the same on every node, and
// the transfer changes nothing.
var (
	ErrPoor     = errors.New("the account does not hold that much")
	ErrOverflow = errors.New("the account would hold too much")
)

// Transfer moves an amount from one account to another. An empty From is the mint, which never runs
// out.
type Transfer struct {
	From, To string
	Amount   uint64
}

// maxName is the maximum length of an account's name, in bytes.
const maxName = 64

// Encode returns the body of a transaction: amount u64 big-endian | length of from u8 | from | to.
// Each transfer has exactly one form, and each body that decode accepts is one transfer.
func (t Transfer) Encode() []byte {
	b := binary.BigEndian.AppendUint64(nil, t.Amount)
	b = append(b, byte(len(t.From)))
	b = append(b, t.From...)
	return append(b, t.To...)
}

// decode reads a body. It refuses every body that Encode does not write.
func decode(body []byte) (Transfer, error) {
	if len(body) < 9 || len(body) < 9+int(body[8]) {
		return Transfer{}, fmt.Errorf("transfer: %d bytes, want an amount and two names", len(body))
	}

	from := int(body[8])
	t := Transfer{Amount: binary.BigEndian.Uint64(body), From: string(body[9 : 9+from]), To: string(body[9+from:])}
	switch {
	case len(t.From) > maxName || t.To == "" || len(t.To) > maxName:
		return t, fmt.Errorf("transfer: names of %d and %d bytes, want at most %d, and where to", len(t.From),
			len(t.To), maxName)
	case t.From == t.To:
		return t, fmt.Errorf("transfer: from %q to itself", t.From)
	case t.Amount == 0:
		return t, errors.New("transfer: of nothing")
	}

	return t, nil
}

// Name implements chain.Backend.
func (Bank) Name() string { return Name }

// Check implements chain.Backend. It refuses a body that can never be executed, so that its
// submitter learns of it at once. It reads no state.
func (Bank) Check(body []byte) error {
	_, err := decode(body)
	return err
}

// Execute implements chain.Backend: it moves the amount. It returns an error of the view
// unchanged, because such an error means that this node cannot go on, not that the transfer is
// wrong.
func (Bank) Execute(v chain.View, body []byte) ([]byte, error) {
	t, err := decode(body)
	if err != nil {
		return nil, err
	}

	if t.From != "" {
		holds, err := balance(v, t.From)
		if err != nil {
			return nil, err
		}
		if holds < t.Amount {
			return nil, fmt.Errorf("%w: %s holds %d, want %d", ErrPoor, t.From, holds, t.Amount)
		}
		if err := v.Put(key(t.From), binary.BigEndian.AppendUint64(nil, holds-t.Amount)); err != nil {
			return nil, err
		}
	}

	holds, err := balance(v, t.To)
	if err != nil {
		return nil, err
	}
	if holds+t.Amount < holds {
		return nil, fmt.Errorf("%w: %s holds %d", ErrOverflow, t.To, holds)
	}

	now := binary.BigEndian.AppendUint64(nil, holds+t.Amount)
	return now, v.Put(key(t.To), now) // the result is the new amount of To
}

func key(account string) []byte { return []byte("bank/" + account) }

func balance(v chain.View, account string) (uint64, error) {
	value, found, err := v.Get(key(account))
	if err != nil || !found {
		return 0, err
	}
	return amount(value)
}

// amount returns the amount that is encoded in value, which Execute wrote.
func amount(value []byte) (uint64, error) {
	if len(value) != 8 {
		return 0, fmt.Errorf("balance of %d bytes, want 8", len(value))
	}
	return binary.BigEndian.Uint64(value), nil
}
