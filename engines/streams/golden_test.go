package streams_test

import (
	"bytes"
	"encoding/hex"
	"flag"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/coppice-go/coppice/engines/streams"
)

var update = flag.Bool("update", false, "write the golden files of this version anew")

// samples returns a unit with every kind of event, in every shape that the forms tell apart.
func samples() []streams.Event {
	at := streams.Place{ChainID: "chain-1", Position: streams.Position{Period: 1, Height: 7}}
	when := time.Unix(1700000000, 123456789).UTC()
	long := bytes.Repeat([]byte("0123456789"), 5)

	bodies := []streams.Body{
		&streams.Reset{OldChainID: "chain", OldPeriod: 0, LastHeight: 4, LastAppHash: []byte{1}, ResetHeight: 3,
			StateRoot: []byte{2}},
		&streams.Started{InitialHeight: 8, GenesisTime: when, AppHash: []byte{3, 4}, AppStateSHA256: []byte{5}},
		&streams.Block{Hash: []byte{6, 7}, Time: when, Proposer: []byte{8}, Txs: 2,
			Votes: []streams.Vote{{Validator: []byte{9}, Power: 10, Flag: "commit"}},
			Misbehavior: []streams.Misbehavior{{Type: "duplicate_vote", Validator: []byte{9}, Power: 10, Height: 3,
				Time: when, TotalPower: 40}}},
		&streams.Tx{Number: 0, ID: []byte{0xab}, Backend: "kv", Size: 50, HasBody: true, Body: long},
		&streams.Change{Tx: 0, Key: []byte("account/é\"\\\n"), Value: []byte("text")},
		&streams.Change{Tx: 0, Key: []byte("\x00coppice/k"), Value: []byte{0xff, 0}},
		&streams.Change{Tx: 0, Key: []byte("gone"), Delete: true},
		&streams.Change{Tx: 0, Key: []byte("empty"), Value: nil},
		&streams.Change{Tx: 1, Key: []byte("json/a"), Value: []byte(`{"a":1}`), Decoded: []byte(`{"a":1}`),
			Before: streams.Before{State: streams.BeforeValue, Value: []byte("old")}},
		&streams.Emitted{Tx: 1, Type: "transfer", Attributes: []streams.Attribute{{Key: "to", Value: "bob"}, {}}},
		&streams.Outcome{Tx: 1, Code: 1, Data: []byte{0x80}, Log: "it failed"},
		&streams.Validator{KeyType: "ed25519", PubKey: []byte{0xcd}, Power: -1},
		&streams.Key{Key: []byte("k"), Value: []byte("v")},
		&streams.Gap{After: &streams.Position{Height: 2}, Reason: "restored"},
		&streams.Rejected{Was: streams.KindChange, Key: []byte{0xfe}, Err: "not JSON"},
		&streams.Redefined{From: "a", To: "b"},
		&streams.Moved{To: "topic-2"},
	}

	var events []streams.Event
	var d streams.Digester
	d.Begin(at.ChainID, at.Position)
	for i, b := range bodies {
		at.Index = uint64(2 * i)
		e := streams.Event{Place: at, Body: b}
		if err := d.Add(e); err != nil {
			panic(err)
		}
		events = append(events, e)
	}
	sum, _ := d.Sum()

	at.Index++
	return append(events, streams.Event{Place: at, Body: &streams.End{BlockHash: []byte{6, 7}, AppHash: []byte{3},
		Events: at.Index + 1, Delivered: uint64(len(bodies)), Digest: sum}})
}

// digest returns the digest of the events before End.
func digest(t *testing.T, events []streams.Event) []byte {
	t.Helper()
	var d streams.Digester
	d.Begin(events[0].ChainID, events[0].Position)
	for _, e := range events {
		require.NoError(t, d.Add(e))
	}
	sum, err := d.Sum()
	require.NoError(t, err)
	return sum
}

// The forms of version 1 never change. Item 53.
func TestTheGoldenFilesOfTheEnvelope(t *testing.T) {
	var jsonForm, protoForm []byte
	for _, e := range samples() {
		jsonForm = append(streams.AppendJSON(jsonForm, e), '\n')
		b, err := streams.AppendProto(nil, e)
		require.NoError(t, err)
		protoForm = append(hex.AppendEncode(protoForm, b), '\n')
	}

	for name, got := range map[string][]byte{"json": jsonForm, "proto": protoForm} {
		file := fmt.Sprintf("testdata/envelope-v%d.%s", streams.Version, name)
		if *update {
			require.NoError(t, os.WriteFile(file, got, 0o644))
		}
		want, err := os.ReadFile(file)
		require.NoError(t, err)
		require.Equal(t, string(want), string(got))
	}
}

// The golden files of each version are read, and all forms have one digest. Items 13 and 53.
func TestAllFormsOfTheEnvelopeHaveOneDigest(t *testing.T) {
	want := samples()
	sum := digest(t, want)

	for v := 1; v <= streams.Version; v++ {
		fromJSON := read(t, fmt.Sprintf("testdata/envelope-v%d.json", v), streams.ParseJSON)
		fromProto := read(t, fmt.Sprintf("testdata/envelope-v%d.proto", v), func(b []byte) (streams.Event, error) {
			raw, err := hex.DecodeString(string(b))
			require.NoError(t, err)
			return streams.ParseProto(raw)
		})
		require.Equal(t, sum, digest(t, fromJSON))
		require.Equal(t, sum, digest(t, fromProto))
		require.Equal(t, sum, fromJSON[len(fromJSON)-1].Body.(*streams.End).Digest)

		for i, e := range want {
			require.Equal(t, string(streams.AppendJSON(nil, e)), string(streams.AppendJSON(nil, fromJSON[i])))
			require.Equal(t, string(streams.AppendJSON(nil, e)), string(streams.AppendJSON(nil, fromProto[i])))
		}
	}
}

func read(t *testing.T, file string, parse func([]byte) (streams.Event, error)) (events []streams.Event) {
	t.Helper()
	b, err := os.ReadFile(file)
	require.NoError(t, err)
	for line := range bytes.Lines(b) {
		e, err := parse(bytes.TrimSuffix(line, []byte("\n")))
		require.NoError(t, err)
		events = append(events, e)
	}
	return events
}

// A reader of this version reads a newer one: what it does not know it leaves out or calls Unknown.
func TestAReaderReadsANewerEnvelope(t *testing.T) {
	e, err := streams.ParseJSON([]byte(`{"v":9,"chain":"c","period":0,"height":3,"index":1,"kind":"change","tx":0,` +
		`"key":"k","value":"v","colour":"red"}`))
	require.NoError(t, err)
	require.Equal(t, &streams.Change{Key: []byte("k"), Value: []byte("v")}, e.Body)

	e, err = streams.ParseJSON([]byte(`{"v":9,"chain":"c","period":0,"height":3,"index":1,"kind":"colour"}`))
	require.NoError(t, err)
	require.Equal(t, streams.Kind("colour"), e.Body.Kind())

	var d streams.Digester
	d.Begin("c", streams.Position{Height: 3})
	require.ErrorIs(t, d.Add(e), streams.ErrUnknownKind)
}

// The digest of an event does not depend on how it is split. Items 48 and 53.
func TestTheDigestIsThatOfTheWholeEvent(t *testing.T) {
	events := samples()
	sum := digest(t, events)

	for _, limit := range []int{1, 3, 49, 50, 51} {
		var parts []streams.Event
		for _, e := range events {
			require.NoError(t, streams.Split(e, limit, func(e streams.Event) error {
				b, err := streams.AppendProto(nil, e)
				require.NoError(t, err)
				c, err := streams.ParseProto(b)
				parts = append(parts, c)
				return err
			}))
		}
		require.Equal(t, sum, digest(t, parts), "limit %d", limit)
	}
}
