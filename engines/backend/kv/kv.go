// Package kv is the transaction backend of keys and values. A body is a list of operations that
// take effect together or not at all.
//
// Values are plain text, so that a person can read them: a counter is its decimal digits, and a set
// is its members in byte order, one per line, without a newline after the last.
//
// # Guarantees
//
//   - All operations of a body take effect, or none does. The first operation that fails makes the
//     transaction fail, and its error names the operation: operation 3 (cas "stock"): …
//   - An operation sees the effects of the operations before it in the same body.
//   - A body that has only put and delete never waits for its place in the order; every other
//     operation reads.
//   - The meaning of a body, and each byte of its result, depends on the body and the state only.
//
// # Non-guarantees
//
//   - A set is one value: an append costs the size of the set, counted in steps.
//   - put may overwrite a counter or a set with a value that is neither; add and append then fail.
package kv

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"

	"github.com/coppice-go/coppice/engines/chain"
)

// Name is the backend's name in transactions.
const Name = "kv"

// Reasons why an operation fails. Execute wraps them with the operation's number, kind and key.
var (
	ErrConflict   = errors.New("condition does not hold")
	ErrOverflow   = errors.New("counter overflow")
	ErrNotCounter = errors.New("value is not a counter")
	ErrNotSet     = errors.New("value is not a set")
	ErrSetFull    = errors.New("set is full")
)

// New returns the backend. It has no state, so one backend may serve any number of workers.
func New() chain.Backend { return backend{} }

type backend struct{}

// Name implements chain.Backend.
func (backend) Name() string { return Name }

// Check implements chain.Backend. It decodes the body and checks all limits that do not depend on
// the state.
func (backend) Check(body []byte) error {
	_, err := decode(body)
	return err
}

// Prepare implements chain.Preparer. What it returns are the operations.
func (backend) Prepare(body []byte) (any, error) {
	ops, err := decode(body)
	if err != nil {
		return nil, err
	}
	return ops, nil
}

// Execute implements chain.Backend. DecodeResult decodes the result. An error of the view is
// returned unchanged, because only the view knows whether the transaction is at fault.
func (backend) Execute(v chain.View, body []byte) ([]byte, error) {
	ops, err := decode(body)
	if err != nil {
		return nil, err
	}
	return execute(v, ops)
}

// ExecutePrepared implements chain.Preparer.
func (backend) ExecutePrepared(v chain.View, prepared any) ([]byte, error) {
	return execute(v, prepared.([]Op))
}

func execute(v chain.View, ops []Op) ([]byte, error) {
	x := execution{view: v}

	for i, o := range ops {
		err := x.apply(o)
		if x.viewErr != nil {
			return nil, x.viewErr
		}
		if err != nil {
			return nil, opError(i, o, err)
		}
	}

	return x.result, nil
}

// execution is one run of a body. It keeps the view's errors apart from the operations' own errors:
// once the view has failed, its error is the one that Execute returns.
type execution struct {
	view    chain.View
	viewErr error
	result  []byte
}

// get, put and step call the view. They store its error in viewErr.
func (x *execution) get(key []byte) (value []byte, found bool) {
	value, found, x.viewErr = x.view.Get(key)
	return value, found
}

func (x *execution) put(key, value []byte) error {
	x.viewErr = x.view.Put(key, value)
	return x.viewErr
}

func (x *execution) step(n int) error {
	x.viewErr = x.view.Step(uint64(n))
	return x.viewErr
}

// apply runs one operation. Its error is the operation's failure, or the view's error if viewErr is
// set.
func (x *execution) apply(o Op) error {
	if err := x.step(1); err != nil {
		return err
	}

	switch o.Kind {
	case KindPut:
		return x.put(o.Key, o.Value)
	case KindDelete:
		x.viewErr = x.view.Delete(o.Key)
		return x.viewErr
	}

	old, found := x.get(o.Key)
	if x.viewErr != nil {
		return x.viewErr
	}

	switch o.Kind {
	case KindAppend:
		if err := x.step(len(old)); err != nil {
			return err
		}
		set, err := addMember(old, found, o.Value)
		if err != nil {
			return err
		}
		return x.put(o.Key, set)

	case KindAdd:
		sum, err := addCounter(old, found, o.Delta)
		if err != nil {
			return err
		}
		return x.put(o.Key, sum)

	case KindCAS:
		if err := holds(o, old, found); err != nil {
			return err
		}
		return x.put(o.Key, o.Value)

	case KindRequire:
		return holds(o, old, found)

	case KindRead:
		x.result = appendAnswer(x.result, Answer{Found: found, Value: old})
		return nil
	}

	return fmt.Errorf("unknown %v", o.Kind)
}

// holds returns an error if the condition of a cas or require does not hold.
func holds(o Op, old []byte, found bool) error {
	switch {
	case o.Cond == Equals && !found:
		return fmt.Errorf("%w: the key is absent, want %s", ErrConflict, clip(o.Expected))
	case o.Cond == Equals && !bytes.Equal(old, o.Expected):
		return fmt.Errorf("%w: the value is %s, want %s", ErrConflict, clip(old), clip(o.Expected))
	case o.Cond == Exists && !found:
		return fmt.Errorf("%w: the key is absent, want a value", ErrConflict)
	case o.Cond == Absent && found:
		return fmt.Errorf("%w: the value is %s, want the key absent", ErrConflict, clip(old))
	}
	return nil
}

// addCounter returns the digits of the counter old plus delta. Each number has one form: no sign on
// positive numbers, no leading zero.
func addCounter(old []byte, found bool, delta int64) ([]byte, error) {
	var n int64
	if found {
		var err error
		n, err = strconv.ParseInt(string(old), 10, 64)
		if err != nil || strconv.FormatInt(n, 10) != string(old) {
			return nil, fmt.Errorf("%w: got %s, want decimal digits of an int64", ErrNotCounter, clip(old))
		}
	}

	if delta > 0 && n > math.MaxInt64-delta || delta < 0 && n < math.MinInt64-delta {
		return nil, fmt.Errorf("%w: %d + %d is outside int64", ErrOverflow, n, delta)
	}
	return strconv.AppendInt(nil, n+delta, 10), nil
}

// addMember returns the set old with the member m added at its place.
func addMember(old []byte, found bool, m []byte) ([]byte, error) {
	if !found {
		return m, nil
	}
	members, err := Members(old)
	if err != nil {
		return nil, err
	}

	at, there := slices.BinarySearchFunc(members, m, bytes.Compare)
	switch {
	case there:
		return old, nil
	case len(members) == MaxMembers:
		return nil, fmt.Errorf("%w: a set has at most %d members", ErrSetFull, MaxMembers)
	}

	return bytes.Join(slices.Insert(members, at, m), []byte{'\n'}), nil
}

// Members returns the members of a set's value, in byte order. They share the value's memory. If
// append did not write the value, the error is ErrNotSet.
func Members(value []byte) ([][]byte, error) {
	members := bytes.Split(value, []byte{'\n'})
	for i, m := range members {
		if err := checkMember(m); err != nil {
			return nil, fmt.Errorf("%w: line %d: %w", ErrNotSet, i+1, err)
		}
		if i > 0 && bytes.Compare(members[i-1], m) >= 0 {
			return nil, fmt.Errorf("%w: line %d: %s does not come after %s", ErrNotSet, i+1, clip(m),
				clip(members[i-1]))
		}
	}

	return members, nil
}
