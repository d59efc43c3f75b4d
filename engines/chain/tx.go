package chain

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"time"
)

// TxID names a transaction: the SHA-256 of its canonical bytes.
type TxID [sha256.Size]byte

// String returns the id in hexadecimal.
func (id TxID) String() string { return hex.EncodeToString(id[:]) }

// Short returns the first eight digits, for paths and log lines.
func (id TxID) Short() string { return hex.EncodeToString(id[:4]) }

// ParseTxID returns the id whose String is s.
func ParseTxID(s string) (TxID, error) {
	var id TxID
	if len(s) != 2*len(id) {
		return id, fmt.Errorf("transaction id %q: %d characters, want %d hexadecimal digits", clip(s),
			len(s), 2*len(id))
	}

	if _, err := hex.Decode(id[:], []byte(s)); err != nil {
		return id, fmt.Errorf("transaction id %q: %w", clip(s), err)
	}
	return id, nil
}

// TxIDFromBytes reads an id from a record.
func TxIDFromBytes(b []byte) (TxID, error) {
	var id TxID
	if len(b) != len(id) {
		return id, fmt.Errorf("transaction id: %d bytes, want %d", len(b), len(id))
	}
	return TxID(b), nil
}

func clip(s string) string {
	if len(s) > 80 {
		return s[:80] + "…"
	}
	return s
}

// Tx is a transaction: the name of the backend that executes it, a nonce that makes it unlike
// others with the same body, the last block time at which it may be applied, and the body that the
// backend understands.
//
// A plain transaction is one as CometBFT has it: bytes without an envelope. PlainBackend executes
// it, and it has no nonce and no ValidUntil. A node remembers its id for one window (see Limits)
// from the block that applied it.
type Tx struct {
	Backend    string
	Nonce      []byte
	ValidUntil time.Time // block time, in whole milliseconds
	Body       []byte
}

// PlainBackend executes transactions that carry no envelope.
const PlainBackend = "kvstore"

// Plain reports whether t has no envelope.
func (t Tx) Plain() bool {
	return t.Backend == PlainBackend && len(t.Nonce) == 0 && t.ValidUntil.IsZero()
}

// Limits of the encoding itself. The limits of a genesis may only be stricter.
const (
	MaxBackendName = 64
	MaxNonce       = 64
	MaxTxBytes     = 64 << 20
)

// ErrMalformedTx is the error of DecodeTx for bytes that are no transaction, and of Encode for a
// transaction that cannot be encoded.
var ErrMalformedTx = errors.New("malformed transaction")

// txFormat is the first byte of every transaction with an envelope. It is no printable character,
// so CometBFT's plain "key=value" bytes are never mistaken for such a transaction.
const txFormat = 0x01

// NewTx returns a transaction with a fresh 16-byte random nonce, valid for the given time from now.
func NewTx(backend string, body []byte, validFor time.Duration) Tx {
	nonce := make([]byte, 16)
	rand.Read(nonce) // never fails: crypto/rand ends the process instead
	return Tx{Backend: backend, Nonce: nonce, ValidUntil: time.Now().Add(validFor).Truncate(time.Millisecond),
		Body: body}
}

// Encode returns the canonical bytes, of which there is exactly one form:
//
//	0x01 | len u8 backend | len u8 nonce | valid_until i64 | body to the end
//
// valid_until is big-endian, in Unix milliseconds.
//
// A plain transaction is its body, which must not be empty or begin with 0x01.
func (t Tx) Encode() ([]byte, error) {
	switch {
	case t.Backend == "" || len(t.Backend) > MaxBackendName:
		return nil, fmt.Errorf("%w: backend name of %d bytes, want 1 to %d", ErrMalformedTx, len(t.Backend),
			MaxBackendName)
	case len(t.Nonce) > MaxNonce:
		return nil, fmt.Errorf("%w: nonce of %d bytes, want at most %d", ErrMalformedTx, len(t.Nonce), MaxNonce)
	case len(t.Body) > MaxTxBytes:
		return nil, fmt.Errorf("%w: body of %d bytes, want at most %d", ErrMalformedTx, len(t.Body), MaxTxBytes)
	}

	if t.Plain() {
		if len(t.Body) == 0 || t.Body[0] == txFormat {
			return nil, fmt.Errorf("%w: a plain body must not be empty or begin with 0x%02x", ErrMalformedTx, txFormat)
		}
		return t.Body, nil
	}

	b := make([]byte, 0, 11+len(t.Backend)+len(t.Nonce)+len(t.Body))
	b = append(b, txFormat, byte(len(t.Backend)))
	b = append(b, t.Backend...)
	b = append(b, byte(len(t.Nonce)))
	b = append(b, t.Nonce...)
	b = binary.BigEndian.AppendUint64(b, uint64(t.ValidUntil.UnixMilli()))
	return append(b, t.Body...), nil
}

// DecodeTx returns the transaction with the canonical bytes b. It shares b's memory.
func DecodeTx(b []byte) (Tx, error) {
	bad := func(what string, at int) (Tx, error) {
		return Tx{}, fmt.Errorf("%w: %s at byte %d of %d", ErrMalformedTx, what, at, len(b))
	}

	if len(b) == 0 {
		return bad("no bytes", 0)
	}

	if b[0] != txFormat {
		if len(b) > MaxTxBytes {
			return bad("too long", MaxTxBytes)
		}
		return Tx{Backend: PlainBackend, Body: b}, nil
	}

	at := 1
	field := func(max int) ([]byte, bool) {
		if at >= len(b) {
			return nil, false
		}
		n := int(b[at])
		if n > max || at+1+n > len(b) {
			return nil, false
		}

		f := b[at+1 : at+1+n]
		at += 1 + n

		return f, true
	}
	backend, ok := field(MaxBackendName)
	if !ok || len(backend) == 0 {
		return bad("want a backend name", at)
	}
	nonce, ok := field(MaxNonce)
	if !ok {
		return bad("want a nonce", at)
	}
	if at+8 > len(b) {
		return bad("want valid_until", at)
	}
	if len(b)-at-8 > MaxTxBytes {
		return bad("the body is too long", at+8)
	}
	t := Tx{
		Backend:    string(backend),
		Nonce:      nonce,
		ValidUntil: time.UnixMilli(int64(binary.BigEndian.Uint64(b[at:]))),
		Body:       b[at+8:],
	}

	if t.Plain() {
		return bad("an envelope around a plain transaction, which has none", 0)
	}

	return t, nil
}

// HashTx returns the id of the transaction with these canonical bytes.
func HashTx(encoded []byte) TxID { return sha256.Sum256(encoded) }
