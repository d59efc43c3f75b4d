package streams

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"slices"
)

// ErrUnknownKind is the error of a digest over an event of a newer version.
var ErrUnknownKind = errors.New("event of a kind that this version does not know")

// errPart means that the parts of a split event do not follow each other.
var errPart = errors.New("part is out of sequence")

// Digester computes the digest of a unit: SHA-256 over what the unit delivers, in an order that is
// independent of any encoding, so that all forms and all sinks agree. The zero Digester is not
// ready; call Begin.
//
// The bytes under the hash are: the text "coppice.stream.1", the chain id, the period and the
// height; then for each event except End its kind's number (its index in Kinds, from 1), its index
// and its fields in the order of the Go type. A number has 8 bytes, big-endian; a time is Unix
// nanoseconds; a string of bytes follows its length, a list its count, a truth value is 0 or 1. A
// payload is the last field of its event; a split one counts as if it were whole. Before, Decoded
// and Log are not hashed.
type Digester struct {
	h     hash.Hash
	buf   []byte
	at    Place
	part  Part   // of the split event under way; zero: none
	left  uint64 // bytes of its payload that are still to come
	count uint64
}

// Begin starts the digest of a unit.
func (d *Digester) Begin(chainID string, at Position) {
	if d.h == nil {
		d.h = sha256.New()
	}
	d.h.Reset()
	d.at, d.part, d.left, d.count = Place{ChainID: chainID, Position: at}, Part{}, 0, 0

	b := append(d.buf[:0], "coppice.stream.1"...)
	b = appendBytes(b, chainID)
	b = appendNum(b, at.Period)
	b = appendNum(b, at.Height)
	d.flush(b)
}

// Count returns how many events were added; a split one counts once.
func (d *Digester) Count() uint64 { return d.count }

// Add adds an event, or a part of one. The parts of an event follow each other. An End is not
// added.
func (d *Digester) Add(e Event) error {
	if e.Body.Kind() == KindEnd {
		return nil
	}
	if e.ChainID != d.at.ChainID || e.Position != d.at.Position {
		return fmt.Errorf("%s in the digest of height %s of %s", e.Place, d.at.Position, d.at.ChainID)
	}

	payload := e.Payload()
	if d.part.Of != 0 {
		return d.further(e, payload)
	}
	if !e.Part.Whole() && e.Part.Number != 1 {
		return fmt.Errorf("%w: %s begins with part %d", errPart, e.Place, e.Part.Number)
	}

	kind := slices.Index(Kinds, e.Body.Kind())
	if kind < 0 {
		return fmt.Errorf("%w: %s", ErrUnknownKind, e.Body.Kind())
	}

	b := appendNum(d.buf[:0], uint64(kind+1))
	b = appendNum(b, e.Index)
	b = appendFields(b, e.Body)
	if e.Body.payload() != nil {
		size := uint64(len(payload))
		if !e.Part.Whole() {
			size = e.Part.Size
		}
		b = appendNum(b, size)
	}
	d.flush(b)
	d.h.Write(payload)

	d.count++
	d.at.Index = e.Index
	if !e.Part.Whole() && !e.Part.Last() {
		d.part, d.left = e.Part, e.Part.Size-uint64(len(payload))
	}

	return nil
}

// further adds the next part of the split event under way.
func (d *Digester) further(e Event, payload []byte) error {
	want := d.part
	want.Number++
	if e.Index != d.at.Index || e.Part != want || uint64(len(payload)) > d.left {
		return fmt.Errorf("%w: %s, part %d of %d after part %d of %d of event %d", errPart, e.Place, e.Part.Number,
			e.Part.Of, d.part.Number, d.part.Of, d.at.Index)
	}

	d.h.Write(payload)
	d.part, d.left = want, d.left-uint64(len(payload))
	if d.part.Last() {
		if d.left != 0 {
			return fmt.Errorf("%w: the parts of %s lack %d bytes", errPart, e.Place, d.left)
		}
		d.part = Part{}
	}

	return nil
}

// Sum returns the digest of the events that were added since Begin.
func (d *Digester) Sum() ([]byte, error) {
	if d.part.Of != 0 {
		return nil, fmt.Errorf("%w: event %d ends after part %d of %d", errPart, d.at.Index, d.part.Number, d.part.Of)
	}
	return d.h.Sum(nil), nil
}

func (d *Digester) flush(b []byte) {
	d.h.Write(b)
	d.buf = b
}

func appendNum(b []byte, n uint64) []byte { return binary.BigEndian.AppendUint64(b, n) }

func appendBytes[T string | []byte](b []byte, s T) []byte {
	return append(appendNum(b, uint64(len(s))), s...)
}

func appendBool(b []byte, v bool) []byte {
	if v {
		return appendNum(b, 1)
	}
	return appendNum(b, 0)
}

// appendFields appends the fields of a body that the digest covers, without its payload.
func appendFields(b []byte, body Body) []byte {
	switch v := body.(type) {
	case *Reset:
		b = appendNum(appendBytes(b, v.OldChainID), v.OldPeriod)
		b = appendBytes(appendNum(b, v.LastHeight), v.LastAppHash)
		return appendBytes(appendNum(b, v.ResetHeight), v.StateRoot)

	case *Started:
		b = appendNum(appendNum(b, v.InitialHeight), uint64(v.GenesisTime.UnixNano()))
		return appendBytes(appendBytes(b, v.AppHash), v.AppStateSHA256)

	case *Block:
		return appendBlock(b, v)

	case *Tx:
		b = appendBytes(appendNum(b, uint64(v.Number)), v.ID)
		return appendBool(appendNum(appendBytes(b, v.Backend), v.Size), v.HasBody)

	case *Change:
		return appendBool(appendBytes(appendNum(b, uint64(v.Tx)), v.Key), v.Delete)

	case *Emitted:
		b = appendBytes(appendNum(b, uint64(v.Tx)), v.Type)
		b = appendNum(b, uint64(len(v.Attributes)))
		for _, a := range v.Attributes {
			b = appendBytes(appendBytes(b, a.Key), a.Value)
		}
		return b

	case *Outcome:
		return appendNum(appendNum(b, uint64(v.Tx)), uint64(v.Code))

	case *Validator:
		return appendNum(appendBytes(appendBytes(b, v.KeyType), v.PubKey), uint64(v.Power))

	case *Key:
		return appendBytes(b, v.Key)

	case *Gap:
		return appendBytes(appendAfter(b, v.After), v.Reason)

	case *Rejected:
		return appendBytes(appendBytes(appendBytes(b, string(v.Was)), v.Key), v.Err)

	case *Redefined:
		return appendBytes(appendBytes(b, v.From), v.To)

	case *Moved:
		return appendBytes(b, v.To)
	}

	return b
}

func appendBlock(b []byte, v *Block) []byte {
	b = appendNum(appendBytes(b, v.Hash), uint64(v.Time.UnixNano()))
	b = appendNum(appendBytes(b, v.Proposer), v.Txs)

	b = appendNum(b, uint64(len(v.Votes)))
	for _, w := range v.Votes {
		b = appendBytes(appendNum(appendBytes(b, w.Validator), uint64(w.Power)), w.Flag)
	}

	b = appendNum(b, uint64(len(v.Misbehavior)))
	for _, m := range v.Misbehavior {
		b = appendNum(appendBytes(appendBytes(b, m.Type), m.Validator), uint64(m.Power))
		b = appendNum(appendNum(appendNum(b, m.Height), uint64(m.Time.UnixNano())), uint64(m.TotalPower))
	}

	return b
}

func appendAfter(b []byte, after *Position) []byte {
	if after == nil {
		return appendBool(b, false)
	}
	return appendNum(appendNum(appendBool(b, true), after.Period), after.Height)
}
