package kv

import (
	"errors"
	"fmt"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	kvv1 "github.com/coppice-go/coppice/proto/coppice/kv/v1"
)

// Encode returns the body of a transaction of this backend: a coppice.kv.v1.Body. Its error wraps
// ErrMalformed and names the operation.
func Encode(ops ...Op) ([]byte, error) {
	if err := checkOps(ops); err != nil {
		return nil, err
	}

	body := &kvv1.Body{Ops: make([]*kvv1.Op, len(ops))}
	for i, o := range ops {
		body.Ops[i] = o.proto()
	}

	b, err := proto.Marshal(body)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrMalformed, err)
	}

	return b, nil
}

// Decode decodes a body. Every node must decode the same bytes in the same way for ever, so Decode
// refuses what this version does not know, and never skips it. The operations do not share body's
// memory.
func Decode(body []byte) ([]Op, error) {
	ops, err := decode(body)
	return cloned(ops), err
}

// decode is Decode, but the operations may share body's memory.
func decode(body []byte) ([]Op, error) {
	ops, ok := decodePlain(body)
	if !ok {
		var err error
		if ops, err = decodeAny(body); err != nil {
			return nil, err
		}
	}

	if err := checkOps(ops); err != nil {
		return nil, err
	}

	return ops, nil
}

// decodeAny decodes a body of any form with the protobuf library.
func decodeAny(body []byte) ([]Op, error) {
	if err := countOps(body); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	var b kvv1.Body
	if err := proto.Unmarshal(body, &b); err != nil {
		return nil, fmt.Errorf("%w: want a coppice.kv.v1.Body: %w", ErrMalformed, err)
	}

	ops := make([]Op, len(b.Ops))

	for i, p := range b.Ops {
		o, err := opFromProto(p)
		if err != nil {
			return nil, fmt.Errorf("%w: operation %d: %w", ErrMalformed, i+1, err)
		}
		ops[i] = o
	}

	return ops, nil
}

func checkOps(ops []Op) error {
	switch {
	case len(ops) == 0:
		return fmt.Errorf("%w: no operations, want at least one", ErrMalformed)
	case len(ops) > MaxOps:
		return fmt.Errorf("%w: %d operations, want at most %d", ErrMalformed, len(ops), MaxOps)
	}

	for i, o := range ops {
		if err := o.check(); err != nil {
			return fmt.Errorf("%w: %w", ErrMalformed, opError(i, o, err))
		}
	}

	return nil
}

// countOps counts the operations in a body before anything is allocated for them, because two bytes
// on the wire become a hundred in memory.
func countOps(body []byte) error {
	n := 0
	for at := 0; at < len(body); {
		num, typ, tag := protowire.ConsumeTag(body[at:])
		if tag < 0 {
			return fmt.Errorf("want a coppice.kv.v1.Body: %w at byte %d of %d", protowire.ParseError(tag),
				at, len(body))
		}

		if num != 1 || typ != protowire.BytesType {
			return fmt.Errorf("want a coppice.kv.v1.Body: unknown field %d (wire type %d) at byte %d of %d", num, typ,
				at, len(body))
		}

		_, val := protowire.ConsumeBytes(body[at+tag:])
		if val < 0 {
			return fmt.Errorf("want a coppice.kv.v1.Body: %w at byte %d of %d", protowire.ParseError(val),
				at+tag, len(body))
		}

		at += tag + val
		if n++; n > MaxOps {
			return fmt.Errorf("more than %d operations", MaxOps)
		}
	}

	return nil
}

func (o Op) proto() *kvv1.Op {
	switch o.Kind {
	case KindPut:
		return &kvv1.Op{Op: &kvv1.Op_Put{Put: &kvv1.Put{Key: o.Key, Value: o.Value}}}

	case KindDelete:
		return &kvv1.Op{Op: &kvv1.Op_Delete{Delete: &kvv1.Delete{Key: o.Key}}}

	case KindAppend:
		return &kvv1.Op{Op: &kvv1.Op_Append{Append: &kvv1.Append{Key: o.Key, Member: o.Value}}}

	case KindCAS:
		cas := &kvv1.CompareAndSwap{Key: o.Key, Value: o.Value}
		if o.Cond == Equals {
			cas.Expected = append([]byte{}, o.Expected...) // never nil: nil means "absent" on the wire
		}
		return &kvv1.Op{Op: &kvv1.Op_Cas{Cas: cas}}

	case KindAdd:
		return &kvv1.Op{Op: &kvv1.Op_Add{Add: &kvv1.Add{Key: o.Key, Delta: o.Delta}}}

	case KindRequire:
		req := &kvv1.Require{Key: o.Key}
		switch o.Cond {
		case Equals:
			req.Condition = &kvv1.Require_Equals{Equals: o.Expected}
		case Exists:
			req.Condition = &kvv1.Require_Presence{Presence: kvv1.Presence_PRESENCE_EXISTS}
		default:
			req.Condition = &kvv1.Require_Presence{Presence: kvv1.Presence_PRESENCE_ABSENT}
		}

		return &kvv1.Op{Op: &kvv1.Op_Require{Require: req}}

	default:
		return &kvv1.Op{Op: &kvv1.Op_Read{Read: &kvv1.Read{Key: o.Key}}}
	}
}

func opFromProto(p *kvv1.Op) (Op, error) {
	if err := known(p); err != nil {
		return Op{}, err
	}
	switch m := p.Op.(type) {
	case *kvv1.Op_Put:
		return Put(m.Put.Key, m.Put.Value), known(m.Put)

	case *kvv1.Op_Delete:
		return Delete(m.Delete.Key), known(m.Delete)

	case *kvv1.Op_Append:
		return Append(m.Append.Key, m.Append.Member), known(m.Append)

	case *kvv1.Op_Cas:
		if m.Cas.Expected == nil {
			return CASAbsent(m.Cas.Key, m.Cas.Value), known(m.Cas)
		}
		return CAS(m.Cas.Key, m.Cas.Expected, m.Cas.Value), known(m.Cas)

	case *kvv1.Op_Add:
		return Add(m.Add.Key, m.Add.Delta), known(m.Add)

	case *kvv1.Op_Read:
		return Read(m.Read.Key), known(m.Read)

	case *kvv1.Op_Require:
		return requireFromProto(m.Require)

	default:
		return Op{}, errors.New("it is empty, want one of put, delete, append, cas, add, require, read")
	}
}

func requireFromProto(m *kvv1.Require) (Op, error) {
	switch c := m.Condition.(type) {
	case *kvv1.Require_Equals:
		return Require(m.Key, c.Equals), known(m)
	case *kvv1.Require_Presence:
		switch c.Presence {
		case kvv1.Presence_PRESENCE_EXISTS:
			return RequireExists(m.Key), known(m)
		case kvv1.Presence_PRESENCE_ABSENT:
			return RequireAbsent(m.Key), known(m)
		}
		return Op{}, fmt.Errorf("require %s: presence %d, want 1 (exists) or 2 (absent)", clip(m.Key), c.Presence)
	}
	return Op{}, fmt.Errorf("require %s: no condition, want equals or presence", clip(m.Key))
}

// known returns an error if m has fields that this version does not know.
func known(m proto.Message) error {
	r := m.ProtoReflect()
	u := r.GetUnknown()
	if len(u) == 0 {
		return nil
	}
	num, typ, _ := protowire.ConsumeTag(u)
	return fmt.Errorf("unknown field %d (wire type %d) in a %s", num, typ, r.Descriptor().FullName())
}

// Answer is the result of one Read of a body.
type Answer struct {
	Found bool
	Value []byte
}

// appendAnswer appends one reads entry of a coppice.kv.v1.Result. Results are part of the app hash,
// so their bytes must not depend on the order in which a version of the protobuf library encodes
// fields. appendAnswer always encodes an entry in the same way.
func appendAnswer(b []byte, a Answer) []byte {
	var m []byte
	if a.Found {
		m = protowire.AppendTag(m, 1, protowire.VarintType)
		m = protowire.AppendVarint(m, 1)
	}

	if len(a.Value) > 0 {
		m = protowire.AppendTag(m, 2, protowire.BytesType)
		m = protowire.AppendBytes(m, a.Value)
	}

	b = protowire.AppendTag(b, 1, protowire.BytesType)
	return protowire.AppendBytes(b, m)
}

// DecodeResult decodes the result of a transaction: one answer for each Read of its body, in order.
// A body without a Read has an empty result.
func DecodeResult(data []byte) ([]Answer, error) {
	var r kvv1.Result
	if err := proto.Unmarshal(data, &r); err != nil {
		return nil, fmt.Errorf("%w: want a coppice.kv.v1.Result: %w", ErrMalformed, err)
	}
	if err := known(&r); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrMalformed, err)
	}

	answers := make([]Answer, len(r.Reads))

	for i, p := range r.Reads {
		if err := known(p); err != nil {
			return nil, fmt.Errorf("%w: read %d: %w", ErrMalformed, i+1, err)
		}
		answers[i] = Answer{Found: p.Found, Value: p.Value}
	}

	return answers, nil
}
