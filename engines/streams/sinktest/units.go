package sinktest

import (
	"crypto/sha256"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/coppice-go/coppice/engines/streams"
)

// ChainID is the chain of the kit's units.
const ChainID = "sinktest"

// Unit is one unit of delivery. Its last event is an End.
type Unit []streams.Event

// End returns the unit's End.
func (u Unit) End() streams.Event { return u[len(u)-1] }

// Position returns the unit's position.
func (u Unit) Position() streams.Position { return u[0].Position }

// Units returns the start of a chain and n blocks, the same for the same seed. They have every kind
// of event that blocks have: keys with NUL and keys that are not UTF-8, empty and binary values,
// deletions, failed transactions, blocks without transactions, and heights that a filter left out.
func Units(seed uint64, n int) []Unit {
	r := rand.New(rand.NewPCG(seed, 1))
	units := []Unit{started()}

	for h := uint64(1); len(units) <= n; h++ {
		if h%7 == 3 {
			continue // a filter left nothing of this block
		}
		u := block(r, h)
		after := units[len(units)-1].Position()
		u.End().Body.(*streams.End).After = &after
		units = append(units, u)
	}

	return units
}

func started() Unit {
	b := builder{at: streams.Place{ChainID: ChainID}}
	b.add(&streams.Started{InitialHeight: 1, GenesisTime: time.Unix(1700000000, 0).UTC(), AppHash: hash("genesis")})
	b.add(&streams.Validator{KeyType: "ed25519", PubKey: hash("validator"), Power: 10})
	return b.end(nil, hash("genesis"))
}

func block(r *rand.Rand, h uint64) Unit {
	b := builder{at: streams.Place{ChainID: ChainID, Position: streams.Position{Height: h}}}
	txs := r.IntN(4)
	b.add(&streams.Block{Hash: hash(fmt.Sprint("block ", h)), Time: time.Unix(1700000000+int64(h), 5).UTC(),
		Proposer: hash("proposer")[:20], Txs: uint64(txs),
		Votes: []streams.Vote{{Validator: hash("validator")[:20], Power: 10, Flag: "commit"}}})

	for i := range uint32(txs) {
		b.add(&streams.Tx{Number: i, ID: hash(fmt.Sprint("tx ", h, i)), Backend: "kv", Size: 80})
		for range r.IntN(5) {
			b.at.Index += uint64(r.IntN(2)) // a filter left some out
			b.add(change(r, i))
		}
		b.add(&streams.Emitted{Tx: i, Type: "transfer", Attributes: []streams.Attribute{
			{Key: "to", Value: "bob\n\"x\""}, {Key: "to", Value: ""}}})
		b.add(&streams.Outcome{Tx: i, Code: int32(r.IntN(2)), Data: random(r, r.IntN(40))})
	}

	if h%5 == 0 {
		b.add(&streams.Validator{KeyType: "ed25519", PubKey: hash("validator 2"), Power: int64(h % 2)})
	}

	return b.end(hash(fmt.Sprint("block ", h)), hash(fmt.Sprint("state ", h)))
}

func change(r *rand.Rand, tx uint32) *streams.Change {
	keys := [][]byte{[]byte("account/alice"), []byte("\x00coppice/x"), {0xff, 0xfe, 'k'}, []byte("ключ"),
		[]byte("a,b\"c\\d\ne\tf"), []byte(fmt.Sprint("n/", r.IntN(100)))}
	c := &streams.Change{Tx: tx, Key: keys[r.IntN(len(keys))]}

	switch r.IntN(4) {
	case 0:
		c.Delete = true
	case 1:
		c.Value = []byte{}
	case 2:
		c.Value = random(r, r.IntN(200))
	default:
		c.Value = []byte(fmt.Sprintf(`{"n":%d,"text":"\t\\N é"}`, r.IntN(1000)))
	}

	return c
}

func random(r *rand.Rand, n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

func hash(s string) []byte {
	h := sha256.Sum256([]byte(s))
	return h[:]
}

// builder makes a unit.
type builder struct {
	at   streams.Place
	unit Unit
}

func (b *builder) add(body streams.Body) {
	b.unit = append(b.unit, streams.Event{Place: b.at, Body: body})
	b.at.Index++
}

func (b *builder) end(blockHash, appHash []byte) Unit {
	b.add(&streams.End{BlockHash: blockHash, AppHash: appHash, Events: b.at.Index + 1,
		Delivered: uint64(len(b.unit))})
	seal(b.unit)
	return b.unit
}

// seal puts the digest of a unit into its End.
func seal(u Unit) {
	var d streams.Digester
	d.Begin(ChainID, u.Position())
	for _, e := range u {
		if err := d.Add(e); err != nil {
			panic(err) // the kit's own mistake
		}
	}

	sum, err := d.Sum()
	if err != nil {
		panic(err)
	}
	u.End().Body.(*streams.End).Digest = sum
}

// Big returns a unit after another one, with one change of each payload size.
func Big(after streams.Position, sizes ...int) Unit {
	b := builder{at: streams.Place{ChainID: ChainID, Position: streams.Position{Period: after.Period,
		Height: after.Height + 1}}}
	b.add(&streams.Block{Hash: hash("big"), Time: time.Unix(1800000000, 0).UTC(), Txs: 1})
	b.add(&streams.Tx{ID: hash("big tx"), Backend: "kv", Size: 1})

	r := rand.New(rand.NewPCG(7, 7))
	for i, n := range sizes {
		b.add(&streams.Change{Key: []byte(fmt.Sprintf("big/%d", i)), Value: random(r, n)})
	}
	b.add(&streams.Outcome{})

	u := b.end(hash("big"), hash("big state"))
	u.End().Body.(*streams.End).After = &after

	return u
}
