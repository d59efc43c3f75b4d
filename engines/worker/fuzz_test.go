package worker

import (
	"bytes"
	"context"
	"errors"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/coppice-go/coppice/engines/backend/kv"
	"github.com/coppice-go/coppice/engines/backend/kvstore"
	"github.com/coppice-go/coppice/engines/chain"
	logv1 "github.com/coppice-go/coppice/proto/coppice/log/v1"
)

// keyed is a state in which the value of a key depends only on the key, and many keys have no
// value.
type keyed struct{ store }

func (s *keyed) Read(_ context.Context, _ chain.Version, key []byte) ([]byte, bool, error) {
	switch len(key) % 3 {
	case 0:
		return nil, false, nil
	case 1:
		return []byte("41"), true, nil
	default:
		return bytes.Repeat(key, 2), true, nil
	}
}

// Whatever bytes a block contains, they decode to a transaction that encodes to the same bytes, and
// execute to the same result on every node. The result is never a panic of a shipped backend (I2,
// I10).
func FuzzTransactions(f *testing.F) {
	backends := map[string]chain.Backend{kv.Name: kv.New(), chain.PlainBackend: kvstore.New()}
	until := time.UnixMilli(1_800_000_000_000)

	for _, ops := range [][]kv.Op{
		{kv.Put([]byte("k"), []byte("v")), kv.Read([]byte("k")), kv.Delete([]byte("k"))},
		{kv.Add([]byte("n"), -1), kv.Add([]byte("n"), 1<<62), kv.Append([]byte("l"), []byte("m"))},
		{kv.CAS([]byte("k"), []byte("kk"), []byte("v")), kv.CASAbsent([]byte("abc"), nil),
			kv.RequireExists([]byte("k")), kv.RequireAbsent([]byte("abc"))},
	} {
		body, err := kv.Encode(ops...)
		if err != nil {
			f.Fatal(err)
		}
		raw, err := chain.Tx{Backend: kv.Name, Nonce: []byte{1}, ValidUntil: until, Body: body}.Encode()
		if err != nil {
			f.Fatal(err)
		}

		f.Add(raw)
	}

	for _, seed := range []string{"k=v", "a=b=c", "val:AAAA!10", "=", "\x01", "\x01\x02kv",
		"\x01\x07kvstore\x00\x00\x00\x00\x00\x00\x00\x00\x01k=v"} {
		f.Add([]byte(seed))
	}

	f.Fuzz(func(t *testing.T, raw []byte) {
		kept := bytes.Clone(raw)
		tx, err := chain.DecodeTx(raw)
		if err != nil {
			if !errors.Is(err, chain.ErrMalformedTx) {
				t.Fatalf("%q: %v", raw, err)
			}
			return
		}

		again, err := tx.Encode()
		if err != nil || !bytes.Equal(again, raw) {
			t.Fatalf("%q decodes to %+v and encodes to %q, %v: want one form only", raw, tx, again, err)
		}

		first := executed(t, backends, raw, tx)
		second := executed(t, backends, raw, tx)
		if !proto.Equal(first.result, second.result) || len(first.changes) != len(second.changes) {
			t.Fatalf("%q: %v, and then %v", raw, first.result, second.result)
		}

		for i := range first.changes {
			if !proto.Equal(first.changes[i], second.changes[i]) {
				t.Fatalf("%q: change %d is %v, and then %v", raw, i, first.changes[i], second.changes[i])
			}
		}

		if !bytes.Equal(kept, raw) {
			t.Fatalf("%q was changed to %q", kept, raw)
		}
	})
}

func executed(t *testing.T, backends map[string]chain.Backend, raw []byte, tx chain.Tx) *keyed {
	s := new(keyed)
	j := Worker{Store: s, Job: chain.Job{
		ID: chain.HashTx(raw), Tx: tx, Backend: backends[tx.Backend], Params: chain.DefaultParams(),
		Place: make(chan chain.Placement, 1),
	}}
	j.Place <- place
	if err := j.Serve(t.Context()); err != nil {
		t.Fatalf("%q: %v", raw, err)
	}

	switch {
	case s.result == nil:
		t.Fatalf("%q has no result", raw)
	case s.result.Code == logv1.Code_CODE_PANICKED:
		t.Fatalf("%q: %v", raw, s.result)
	case s.result.Code != logv1.Code_CODE_OK && len(s.changes) > 0:
		t.Fatalf("%q changed the state although it ended in %v", raw, s.result.Code)
	case j.Backend == nil && s.result.Code != logv1.Code_CODE_MALFORMED:
		t.Fatalf("%q is of an unknown backend, and ended in %v", raw, s.result.Code)
	}

	return s
}
