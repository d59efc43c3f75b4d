package kv_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/coppice-go/coppice/engines/backend/backendtest"
	"github.com/coppice-go/coppice/engines/backend/kv"
	"github.com/coppice-go/coppice/engines/chain"
	kvv1 "github.com/coppice-go/coppice/proto/coppice/kv/v1"
)

func TestEncodeRefuses(t *testing.T) {
	key := []byte("k")
	for _, c := range []struct {
		says string
		ops  []kv.Op
	}{
		{"no operations, want at least one", nil},
		{"10001 operations, want at most 10000", make([]kv.Op, kv.MaxOps+1)},
		{`operation 1 (put ""): the key is empty`, []kv.Op{kv.Put(nil, nil)}},
		{"the key has 4097 bytes, want at most 4096", []kv.Op{kv.Read(make([]byte, chain.MaxKeyBytes+1))}},
		{"the value has 16777217 bytes", []kv.Op{kv.Put(key, make([]byte, chain.MaxValueBytes+1))}},
		{"the expected value has 16777217 bytes", []kv.Op{kv.Require(key, make([]byte, chain.MaxValueBytes+1))}},
		{`operation 2 (append "k"): the member is empty`, []kv.Op{kv.Delete(key), kv.Append(key, nil)}},
		{"the member has a newline", []kv.Op{kv.Append(key, []byte("a\nb"))}},
		{"the member has 1025 bytes, want at most 1024", []kv.Op{kv.Append(key, make([]byte, 1025))}},
		{"unknown kind 0", []kv.Op{{Key: key}}},
		{"unknown kind 99", []kv.Op{{Kind: 99, Key: key}}},
		{"exists, want equals or absent", []kv.Op{{Kind: kv.KindCAS, Key: key, Cond: kv.Exists}}},
		{"condition 0, want equals, exists or absent", []kv.Op{{Kind: kv.KindRequire, Key: key}}},
	} {
		_, err := kv.Encode(c.ops...)
		require.ErrorIs(t, err, kv.ErrMalformed)
		require.ErrorContains(t, err, c.says)
	}
}

// A byte string has the same meaning on every node, so nothing unknown is skipped.
func TestDecodeRefuses(t *testing.T) {
	marshal := func(m proto.Message) []byte {
		b, err := proto.Marshal(m)
		require.NoError(t, err)
		return b
	}
	ops := func(o ...*kvv1.Op) []byte { return marshal(&kvv1.Body{Ops: o}) }
	// nest wraps bytes in the length-delimited fields of the numbers, innermost last.
	nest := func(b []byte, nums ...protowire.Number) []byte {
		for i := len(nums) - 1; i >= 0; i-- {
			b = protowire.AppendBytes(protowire.AppendTag(nil, nums[i], protowire.BytesType), b)
		}
		return b
	}
	unknown := protowire.AppendVarint(protowire.AppendTag(nil, 9, protowire.VarintType), 1)
	put := &kvv1.Op{Op: &kvv1.Op_Put{Put: &kvv1.Put{Key: []byte("k")}}}

	for _, c := range []struct {
		says string
		body []byte
	}{
		{"no operations", nil},
		{"want a coppice.kv.v1.Body", []byte("hello")},
		{"at byte 0 of 1", []byte{0xff}},
		{"at byte 1 of 2", []byte{0x0a, 0x05}},
		{"unknown field 9 (wire type 0) at byte 7 of 9", append(ops(put), unknown...)},
		{"unknown field 1 (wire type 0) at byte 0", []byte{0x08, 0x01}},
		{"operation 2: unknown field 9 (wire type 0) in a coppice.kv.v1.Op", append(ops(put), nest(unknown, 1)...)},
		{"operation 1: unknown field 9 (wire type 0) in a coppice.kv.v1.Put", nest(unknown, 1, 1)},
		{"in a coppice.kv.v1.Delete", nest(unknown, 1, 2)},
		{"in a coppice.kv.v1.Append", nest(unknown, 1, 3)},
		{"in a coppice.kv.v1.CompareAndSwap", nest(unknown, 1, 4)},
		{"in a coppice.kv.v1.Add", nest(unknown, 1, 5)},
		{"in a coppice.kv.v1.Require",
			nest(append(marshal(&kvv1.Require{Condition: &kvv1.Require_Equals{}}), unknown...), 1, 6)},
		{"in a coppice.kv.v1.Read", nest(unknown, 1, 7)},
		{"operation 1: it is empty", ops(&kvv1.Op{})},
		{"no condition", ops(&kvv1.Op{Op: &kvv1.Op_Require{Require: &kvv1.Require{Key: []byte("k")}}})},
		{"presence 7, want 1 (exists) or 2 (absent)", ops(&kvv1.Op{Op: &kvv1.Op_Require{Require: &kvv1.Require{
			Condition: &kvv1.Require_Presence{Presence: 7}}}})},
		{`operation 1 (put ""): the key is empty`, ops(&kvv1.Op{Op: &kvv1.Op_Put{Put: &kvv1.Put{}}})},
		{"more than 10000 operations", []byte(strings.Repeat("\x0a\x00", kv.MaxOps+1))},
	} {
		t.Run(c.says, func(t *testing.T) {
			_, err := kv.Decode(c.body)
			require.ErrorIs(t, err, kv.ErrMalformed)
			require.ErrorContains(t, err, c.says)
			require.Equal(t, err, kv.New().Check(c.body))

			state := &backendtest.State{}
			_, execErr := state.Execute(kv.New(), c.body)
			require.Equal(t, err, execErr, "a block may hold what this node never checked")
			require.Zero(t, state.Calls)
		})
	}
}

func TestDecodeResultRefuses(t *testing.T) {
	for says, data := range map[string]string{
		"want a coppice.kv.v1.Result": "hello",
		"unknown field 2":             "\x10\x01",
		"read 1: unknown field 9":     "\x0a\x02\x48\x01",
	} {
		_, err := kv.DecodeResult([]byte(data))
		require.ErrorIs(t, err, kv.ErrMalformed)
		require.ErrorContains(t, err, says)
	}
}

// The result is part of the app hash, so this test pins its bytes.
func TestResultBytes(t *testing.T) {
	body, err := kv.Encode(kv.Read([]byte("a")), kv.Read([]byte("empty")), kv.Read([]byte("none")))
	require.NoError(t, err)
	state := &backendtest.State{Keys: map[string]string{"a": "v", "empty": ""}}
	data, err := state.Execute(kv.New(), body)
	require.NoError(t, err)
	require.Equal(t, "\x0a\x05\x08\x01\x12\x01v"+"\x0a\x02\x08\x01"+"\x0a\x00", string(data))
}

// FuzzDecode: no bytes make the decoder or the backend panic. Decoded operations are valid and
// encode to the same operations. Execute refuses exactly what Check refuses.
func FuzzDecode(f *testing.F) {
	for _, o := range []kv.Op{
		kv.Put([]byte("k"), []byte("v")), kv.Delete([]byte("k")), kv.Append([]byte("k"), []byte("m")),
		kv.Add([]byte("k"), -1),
		kv.CAS([]byte("k"), nil, []byte("v")), kv.CASAbsent([]byte("k"), nil), kv.Require([]byte("k"), nil),
		kv.RequireExists([]byte("k")), kv.RequireAbsent([]byte("k")), kv.Read([]byte("k")),
	} {
		b, err := kv.Encode(o)
		require.NoError(f, err)
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		ops, err := kv.Decode(body)
		state := &backendtest.State{}
		_, execErr := state.Execute(kv.New(), body)

		if err != nil {
			require.ErrorIs(t, err, kv.ErrMalformed)
			require.Equal(t, err, execErr)
			return
		}

		require.NotErrorIs(t, execErr, kv.ErrMalformed)
		again, err := kv.Encode(ops...)
		require.NoError(t, err)
		decoded, err := kv.Decode(again)
		require.NoError(t, err)
		require.Equal(t, kv.FormatText(ops...), kv.FormatText(decoded...))
	})
}
