package kv

import (
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/coppice-go/coppice/engines/backend/backendtest"
	"github.com/coppice-go/coppice/engines/chain"
)

// The common bodies do not need the protobuf library.
func TestCommonBodiesArePlain(t *testing.T) {
	key := []byte("k")
	body, err := Encode(Put(key, []byte("v")), Put(key, nil), Delete(key), Append(key, []byte("m")), Add(key, -5),
		Add(key, 0), Read(key))
	require.NoError(t, err)
	ops, ok := decodePlain(body)
	require.True(t, ok)
	require.Len(t, ops, 7)

	body, err = Encode(RequireExists(key))
	require.NoError(t, err)
	_, ok = decodePlain(body)
	require.False(t, ok, "left to the library")
}

// FuzzPlain: what decodePlain decodes, the protobuf library decodes to the same operations. A
// prepared body gives the result, the error and the writes of one that is executed from its bytes.
func FuzzPlain(f *testing.F) {
	key := []byte("k")
	for _, ops := range [][]Op{
		{Put(key, []byte("v"))}, {Put(key, nil)}, {Delete(key), Read(key)}, {Append(key, []byte("m"))},
		{Add(key, 1<<62), Add(key, 1<<62)}, {Add(key, -1)}, {CAS(key, nil, key)}, {RequireAbsent(key), Read(key)},
	} {
		body, err := Encode(ops...)
		require.NoError(f, err)
		f.Add(body)
	}

	// Fields twice, out of order, empty, unknown, and with a length that is cut off.
	nest := func(op protowire.Number, fields ...byte) []byte {
		b := protowire.AppendBytes(protowire.AppendTag(nil, op, protowire.BytesType), fields)
		return protowire.AppendBytes(protowire.AppendTag(nil, 1, protowire.BytesType), b)
	}
	f.Add(nest(1, 0x0a, 1, 'k', 0x12, 1, 'v', 0x12, 1, 'w'))
	f.Add(nest(1, 0x12, 1, 'v', 0x0a, 1, 'k'))
	f.Add(nest(1, 0x0a, 0, 0x12, 0))
	f.Add(nest(2, 0x0a, 1, 'k', 0x12, 1, 'v'))
	f.Add(nest(5, 0x0a, 1, 'k', 0x10, 0x80, 0x00))
	f.Add(nest(5, 0x0a, 1, 'k', 0x10, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01))
	f.Add(nest(5, 0x0a, 1, 'k', 0x10, 0xff))
	f.Add(nest(7, 0x0a, 0x81, 0x00, 'k'))
	f.Add(nest(7, 0x0a, 2, 'k'))

	f.Fuzz(func(t *testing.T, body []byte) {
		if ops, ok := decodePlain(body); ok {
			want, err := decodeAny(body)
			require.NoError(t, err)
			require.Equal(t, want, cloned(ops))
		}

		prepared, err := New().(chain.Preparer).Prepare(body)
		require.Equal(t, New().Check(body), err)
		if err != nil {
			return
		}
		once := &backendtest.State{Keys: map[string]string{"k": "7"}}
		data, err := once.Execute(New(), body)
		again := &backendtest.State{Keys: map[string]string{"k": "7"}}
		for range 2 { // the prepared form does not change
			again.Keys = map[string]string{"k": "7"}
			other, otherErr := again.Execute(asPrepared{New(), prepared}, nil)
			require.Equal(t, data, other)
			require.Equal(t, err, otherErr)
			require.Equal(t, once.Keys, again.Keys)
		}
	})
}

// asPrepared executes a prepared body.
type asPrepared struct {
	chain.Backend
	prepared any
}

func (p asPrepared) Execute(v chain.View, body []byte) ([]byte, error) {
	return chain.ExecuteTx(p.Backend, v, body, p.prepared)
}
