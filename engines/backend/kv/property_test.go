package kv_test

import (
	"bytes"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/coppice-go/coppice/engines/backend/backendtest"
	"github.com/coppice-go/coppice/engines/backend/kv"
)

// genOp draws operations on few keys and few values, so that operations meet. Some values look like
// counters and sets.
func genOp() *rapid.Generator[kv.Op] {
	key := rapid.Map(rapid.SampledFrom([]string{"a", "b", "c"}), func(s string) []byte { return []byte(s) })
	value := rapid.OneOf(
		rapid.SampledFrom([][]byte{nil, []byte("1"), []byte("-0"), []byte("x\ny"), []byte("y\nx"),
			[]byte("9223372036854775807")}),
		rapid.SliceOfN(rapid.Byte(), 0, 8),
	)
	member := rapid.Map(rapid.SliceOfN(rapid.ByteRange('0', 'z'), 1, 2), bytes.Clone)
	delta := rapid.OneOf(rapid.Int64Range(-2, 2), rapid.Int64(),
		rapid.SampledFrom([]int64{math.MinInt64, math.MaxInt64}))
	return rapid.Custom(func(t *rapid.T) kv.Op {
		k := key.Draw(t, "key")
		switch rapid.IntRange(0, 9).Draw(t, "form") {
		case 0:
			return kv.Put(k, value.Draw(t, "value"))

		case 1:
			return kv.Delete(k)

		case 2:
			return kv.Append(k, member.Draw(t, "member"))

		case 3:
			return kv.CAS(k, value.Draw(t, "expected"), value.Draw(t, "value"))

		case 4:
			return kv.CASAbsent(k, value.Draw(t, "value"))

		case 5:
			return kv.Add(k, delta.Draw(t, "delta"))

		case 6:
			return kv.Require(k, value.Draw(t, "expected"))

		case 7:
			return kv.RequireExists(k)

		case 8:
			return kv.RequireAbsent(k)

		default:
			return kv.Read(k)
		}
	})
}

// Transactions have the effects and answers of the model. If the model fails, they have no effect,
// and the error names the model's operation.
func TestPropertyModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		state := &backendtest.State{Keys: map[string]string{}}
		want := model{}

		for range rapid.IntRange(1, 8).Draw(t, "transactions") {
			ops := rapid.SliceOfN(genOp(), 1, 12).Draw(t, "ops")
			body, err := kv.Encode(ops...)
			if err != nil {
				t.Fatal(err)
			}

			data, err := state.Execute(kv.New(), body)
			after := maps.Clone(want)
			answers, failed := after.run(ops)
			if failed < 0 {
				want = after
			}

			switch {
			case failed < 0 && err != nil:
				t.Fatalf("failed: %v", err)
			case failed >= 0 && err == nil:
				t.Fatalf("operation %d succeeded", failed+1)
			case failed >= 0 && !strings.HasPrefix(err.Error(), fmt.Sprintf("operation %d (", failed+1)):
				t.Fatalf("the error %q names another operation than %d", err, failed+1)
			}

			if !maps.Equal(state.Keys, want) {
				t.Fatalf("state %q, want %q", state.Keys, want)
			}

			if err == nil {
				got, err := kv.DecodeResult(data)
				if err != nil || !slices.EqualFunc(got, answers, sameAnswer) {
					t.Fatalf("answers %v (%v), want %v", got, err, answers)
				}
			}
		}
	})
}

func sameAnswer(a, b kv.Answer) bool { return a.Found == b.Found && bytes.Equal(a.Value, b.Value) }

// The order in which members are appended does not change the set.
func TestPropertySetOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		members := rapid.SliceOfN(rapid.StringMatching(`[^\n]{1,6}`), 1, 20).Draw(t, "members")
		shuffled := rapid.Permutation(members).Draw(t, "shuffled")
		var values []string

		for _, order := range [][]string{members, shuffled} {
			var ops []kv.Op
			for _, m := range order {
				ops = append(ops, kv.Append([]byte("s"), []byte(m)))
			}

			body, err := kv.Encode(ops...)
			if err != nil {
				t.Fatal(err)
			}
			state := &backendtest.State{}
			if _, err := state.Execute(kv.New(), body); err != nil {
				t.Fatal(err)
			}

			values = append(values, state.Keys["s"])
		}

		if values[0] != values[1] {
			t.Fatalf("%q in one order, %q in another", values[0], values[1])
		}
	})
}

// Body and text describe the same operations, whatever bytes are in them.
func TestPropertyRoundTrip(t *testing.T) {
	anyBytes := rapid.SliceOfN(rapid.Byte(), 1, 12)
	rapid.Check(t, func(t *rapid.T) {
		ops := rapid.SliceOfN(rapid.Map(genOp(), func(o kv.Op) kv.Op {
			o.Key = anyBytes.Draw(t, "key")
			return o
		}), 1, 10).Draw(t, "ops")
		text := kv.FormatText(ops...)

		body, err := kv.Encode(ops...)
		if err != nil {
			t.Fatal(err)
		}
		decoded, err := kv.Decode(body)
		if err != nil || kv.FormatText(decoded...) != text {
			t.Fatalf("decoded %v (%v), want %s", decoded, err, text)
		}
		parsed, err := kv.ParseText(text)
		if err != nil || len(parsed) != len(ops) {
			t.Fatalf("parsed %v (%v), want %s", parsed, err, text)
		}

		again, err := kv.Encode(parsed...)
		if err != nil || !bytes.Equal(again, body) {
			t.Fatalf("%s encodes to %x (%v), want %x", text, again, err, body)
		}
	})
}
