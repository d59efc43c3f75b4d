package kv

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/coppice-go/coppice/engines/chain"
)

// Kind is the kind of an operation. Its String is the first word of the operation's text form.
type Kind uint8

// The kinds of operations.
const (
	KindPut     Kind = iota + 1 // write Value
	KindDelete                  // remove the key; an absent key is no error
	KindAppend                  // make Value a member of the set
	KindCAS                     // write Value if Cond holds, else fail
	KindAdd                     // add Delta to the counter; an absent key is zero
	KindRequire                 // fail if Cond does not hold
	KindRead                    // put the value into the result
)

var kindNames = [...]string{
	KindPut: "put", KindDelete: "delete", KindAppend: "append", KindCAS: "cas", KindAdd: "add", KindRequire: "require",
	KindRead: "read",
}

// String returns the kind's word in the text form.
func (k Kind) String() string {
	if k > 0 && int(k) < len(kindNames) {
		return kindNames[k]
	}
	return fmt.Sprintf("kind %d", uint8(k))
}

// Cond is a condition on the value of a key.
type Cond uint8

// The conditions. KindCAS takes Equals and Absent, KindRequire takes all three.
const (
	Equals Cond = iota + 1 // the value is Op.Expected
	Exists                 // the key has a value, which may be empty
	Absent                 // the key has no value
)

var condNames = [...]string{Equals: "equals", Exists: "exists", Absent: "absent"}

// String returns the condition's word in the text form.
func (c Cond) String() string {
	if c > 0 && int(c) < len(condNames) {
		return condNames[c]
	}
	return fmt.Sprintf("condition %d", uint8(c))
}

// Op is one operation. Fields that its kind does not use are zero. The functions below return valid
// operations.
type Op struct {
	Kind     Kind
	Key      []byte
	Cond     Cond   // KindCAS, KindRequire
	Expected []byte // with Equals
	Value    []byte // KindPut, KindCAS: the new value; KindAppend: the member
	Delta    int64  // KindAdd
}

// Put writes value at key.
func Put(key, value []byte) Op { return Op{Kind: KindPut, Key: key, Value: value} }

// Delete removes the key, if it exists.
func Delete(key []byte) Op { return Op{Kind: KindDelete, Key: key} }

// Append adds member to the set at key. A member has 1 to MaxMemberBytes bytes and no newline.
func Append(key, member []byte) Op { return Op{Kind: KindAppend, Key: key, Value: member} }

// CAS writes value if the key's value is expected, and fails the transaction otherwise.
func CAS(key, expected, value []byte) Op {
	return Op{Kind: KindCAS, Key: key, Cond: Equals, Expected: expected, Value: value}
}

// CASAbsent writes value if the key is absent, and fails the transaction otherwise.
func CASAbsent(key, value []byte) Op {
	return Op{Kind: KindCAS, Key: key, Cond: Absent, Value: value}
}

// Add adds delta to the counter at key. A sum outside int64 fails the transaction.
func Add(key []byte, delta int64) Op { return Op{Kind: KindAdd, Key: key, Delta: delta} }

// Require fails the transaction unless the key's value is value.
func Require(key, value []byte) Op {
	return Op{Kind: KindRequire, Key: key, Cond: Equals, Expected: value}
}

// RequireExists fails the transaction unless the key has a value.
func RequireExists(key []byte) Op { return Op{Kind: KindRequire, Key: key, Cond: Exists} }

// RequireAbsent fails the transaction if the key has a value.
func RequireAbsent(key []byte) Op { return Op{Kind: KindRequire, Key: key, Cond: Absent} }

// Read adds the key's value to the result, as the operations before it left it.
func Read(key []byte) Op { return Op{Kind: KindRead, Key: key} }

// Limits of a body. They are part of the backend's definition and the same on every node. The
// genesis can only be stricter.
const (
	MaxOps         = 10_000
	MaxMemberBytes = 1 << 10
	MaxMembers     = 10_000 // of one set
)

// ErrMalformed is the error of Encode, Decode, DecodeResult, ParseOp and ParseText for invalid
// input.
var ErrMalformed = errors.New("malformed operations")

// check returns an error if o is invalid whatever the state is.
func (o Op) check() error {
	if err := o.checkKey(); err != nil {
		return err
	}

	switch {
	case len(o.Value) > chain.MaxValueBytes:
		return fmt.Errorf("the value has %d bytes, want at most %d", len(o.Value), chain.MaxValueBytes)
	case len(o.Expected) > chain.MaxValueBytes:
		return fmt.Errorf("the expected value has %d bytes, want at most %d", len(o.Expected), chain.MaxValueBytes)
	}

	switch o.Kind {
	case KindPut, KindDelete, KindAdd, KindRead:
		return nil

	case KindAppend:
		return checkMember(o.Value)

	case KindCAS:
		if o.Cond != Equals && o.Cond != Absent {
			return fmt.Errorf("%v, want equals or absent", o.Cond)
		}
		return nil

	case KindRequire:
		if o.Cond != Equals && o.Cond != Exists && o.Cond != Absent {
			return fmt.Errorf("%v, want equals, exists or absent", o.Cond)
		}
		return nil

	default:
		return fmt.Errorf("unknown %v", o.Kind)
	}
}

func (o Op) checkKey() error {
	switch {
	case len(o.Key) == 0:
		return errors.New("the key is empty")
	case len(o.Key) > chain.MaxKeyBytes:
		return fmt.Errorf("the key has %d bytes, want at most %d", len(o.Key), chain.MaxKeyBytes)
	}
	return nil
}

func checkMember(m []byte) error {
	switch {
	case len(m) == 0:
		return errors.New("the member is empty")
	case len(m) > MaxMemberBytes:
		return fmt.Errorf("the member has %d bytes, want at most %d", len(m), MaxMemberBytes)
	case bytes.IndexByte(m, '\n') >= 0:
		return errors.New("the member has a newline, which divides the members of a set")
	}
	return nil
}

// opError adds to err the operation i of a body, counted from 1.
func opError(i int, o Op, err error) error {
	return fmt.Errorf("operation %d (%v %s): %w", i+1, o.Kind, clip(o.Key), err)
}

// clip quotes b for an error message, cut to a readable length.
func clip(b []byte) string {
	const most = 64
	if len(b) > most {
		return fmt.Sprintf("%q… (%d bytes)", b[:most], len(b))
	}
	return fmt.Sprintf("%q", b)
}
