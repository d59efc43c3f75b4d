package streams

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"fmt"
	"time"
)

// Version is the version of the envelope that this package writes. It reads every version: a kind
// or a field that it does not know comes as Unknown or is left out.
const Version = 1

// Event is one item of the envelope. It is valid, with all memory that it refers to, until the call
// that returned it is made again.
type Event struct {
	Place
	Part Part // zero: the event is whole
	Body Body
}

// Part says which piece of a split event this one is. A split event is delivered as several events
// of the same Place. Each has the whole Body, except that its large field (Body's payload: a
// change's value, a transaction's body, a result's data) holds one piece of it.
type Part struct {
	Number uint32 // from 1; 0: the event is whole
	Of     uint32
	Size   uint64            // of the whole payload, in bytes
	SHA256 [sha256.Size]byte // of the whole payload
}

// Whole reports whether the event is not split.
func (p Part) Whole() bool { return p.Of == 0 }

// Last reports whether no further part of the event follows.
func (p Part) Last() bool { return p.Number == p.Of }

// Body is the content of an event: one of *Reset, *Started, *Block, *Tx, *Change, *Emitted,
// *Outcome, *Validator, *Key, *Gap, *Rejected, *Redefined, *Moved, *End and *Unknown.
type Body interface {
	Kind() Kind
	payload() *[]byte // the field that parts split; nil: the body is never split
	size() int        // about, in memory, without the payload
}

// Kind names the type of a Body. It is the value of the filter term "kind".
type Kind string

// The kinds of events. A name keeps its meaning.
const (
	KindReset     Kind = "reset"
	KindStarted   Kind = "started"
	KindBlock     Kind = "block"
	KindTx        Kind = "tx"
	KindChange    Kind = "change"
	KindEmitted   Kind = "event"
	KindOutcome   Kind = "outcome"
	KindValidator Kind = "validator"
	KindKey       Kind = "state"
	KindGap       Kind = "gap"
	KindRejected  Kind = "rejected"
	KindRedefined Kind = "redefined"
	KindMoved     Kind = "moved"
	KindEnd       Kind = "end"
)

// Kinds lists the kinds of events, in the order of their numbers in the digest (from 1).
var Kinds = []Kind{KindReset, KindStarted, KindBlock, KindTx, KindChange, KindEmitted, KindOutcome, KindValidator,
	KindKey, KindGap, KindRejected, KindRedefined, KindMoved, KindEnd}

// Reset ends a period. It is in the unit of the Started that begins the next one, before it.
type Reset struct {
	OldChainID  string
	OldPeriod   uint64
	LastHeight  uint64
	LastAppHash []byte
	ResetHeight uint64 // of the block that decided the reset
	StateRoot   []byte
}

// Started begins a chain or, after Reset, a period of it. The validators of the genesis follow it.
type Started struct {
	InitialHeight  uint64
	GenesisTime    time.Time
	AppHash        []byte
	AppStateSHA256 []byte // nil: the genesis has no app_state
}

// Block is the header of a block. It is delivered with every block of which anything is.
type Block struct {
	Hash        []byte
	Time        time.Time
	Proposer    []byte
	Txs         uint64
	Votes       []Vote        // on the block before, if the consensus has votes
	Misbehavior []Misbehavior // that the block proves
}

// Vote is what a validator did about the block before.
type Vote struct {
	Validator []byte // address
	Power     int64
	Flag      string // commit, nil, absent
}

// Misbehavior is a fault of a validator that a block proves.
type Misbehavior struct {
	Type       string // duplicate_vote, light_client_attack
	Validator  []byte // address
	Power      int64
	Height     uint64
	Time       time.Time
	TotalPower int64
}

// Tx is the head of a transaction. Its changes, emitted events and outcome follow it.
type Tx struct {
	Number  uint32 // in the block, from 0
	ID      []byte
	Backend string // empty: the bytes are not a transaction
	Size    uint64 // of the transaction's bytes

	HasBody bool   // the definition asks for bodies
	Body    []byte // the transaction's canonical bytes
}

// Change is a write of a transaction or, with the number that follows the last transaction's, of a
// hook.
type Change struct {
	Tx     uint32 // number in the block
	Key    []byte
	Delete bool
	Value  []byte

	Before Before // outside of the digest

	// Decoded is what the codec of the key's prefix made of the value, as JSON. It is nil if there
	// is none, and in all parts of a split change. It is outside of the digest.
	Decoded []byte
}

// Before is the value that a key had before a change. The zero Before was not asked for.
type Before struct {
	State BeforeState
	Value []byte // with BeforeValue
}

// BeforeState says what is known of the value before a change.
type BeforeState string

// The states of Before.
const (
	BeforeValue       BeforeState = "value"
	BeforeAbsent      BeforeState = "absent"      // the key did not exist
	BeforeUnavailable BeforeState = "unavailable" // the node does not have the version
	BeforeTooLarge    BeforeState = "too_large"   // it has no room beside the change in an event of the sink
)

// Emitted is an event that a transaction emitted (chain.View.Emit).
type Emitted struct {
	Tx         uint32
	Type       string
	Attributes []Attribute
}

// Attribute is one entry of an emitted event.
type Attribute struct{ Key, Value string }

// Outcome ends a transaction.
type Outcome struct {
	Tx   uint32
	Code int32 // the number of coppice.log.v1.Code
	Data []byte

	// Log is the result's text, if the definition asks for it. It may differ between nodes and is
	// outside of the digest.
	Log string
}

// Validator is a change of the validator set, or a validator of the genesis. Power 0 removes it.
type Validator struct {
	KeyType string
	PubKey  []byte
	Power   int64
}

// Key is a key of the state that a bootstrap reads.
type Key struct {
	Key, Value []byte
	Decoded    []byte // as Change.Decoded
}

// Gap stands for units that the log of the writer lacked.
type Gap struct {
	After  *Position // the sink's unit before the gap; nil: there is none
	Reason string
}

// Rejected stands in the place of an event that the sink or a codec refused for good and that was
// put aside.
type Rejected struct {
	Was Kind
	Key []byte // of a change
	Err string
}

// Redefined marks the place from which events follow another definition.
type Redefined struct{ From, To string }

// Moved is the last event of a topic or stream whose data goes on elsewhere.
type Moved struct{ To string }

// End closes a unit: its readers may see the unit, and the sink's cursor moves to it. It is never
// filtered and never split. A unit of which a filter leaves nothing has only an End, or is left
// out.
type End struct {
	BlockHash []byte
	AppHash   []byte
	Events    uint64 // of the unit before any filter, this one included
	Delivered uint64 // of those, how many come before this one; a split event counts once
	Digest    []byte // see Digester

	// After is the unit on which this one rests: the sink's cursor must stand there. It is nil if
	// the sink must be empty. It is about the delivery, not part of what is stored.
	After *Position
}

// Unknown is a body of a newer version.
type Unknown struct{ Name string }

func (*Reset) Kind() Kind     { return KindReset }
func (*Started) Kind() Kind   { return KindStarted }
func (*Block) Kind() Kind     { return KindBlock }
func (*Tx) Kind() Kind        { return KindTx }
func (*Change) Kind() Kind    { return KindChange }
func (*Emitted) Kind() Kind   { return KindEmitted }
func (*Outcome) Kind() Kind   { return KindOutcome }
func (*Validator) Kind() Kind { return KindValidator }
func (*Key) Kind() Kind       { return KindKey }
func (*Gap) Kind() Kind       { return KindGap }
func (*Rejected) Kind() Kind  { return KindRejected }
func (*Redefined) Kind() Kind { return KindRedefined }
func (*Moved) Kind() Kind     { return KindMoved }
func (*End) Kind() Kind       { return KindEnd }
func (u *Unknown) Kind() Kind { return Kind(u.Name) }

func (b *Tx) payload() *[]byte      { return &b.Body }
func (b *Change) payload() *[]byte  { return &b.Value }
func (b *Outcome) payload() *[]byte { return &b.Data }
func (b *Key) payload() *[]byte     { return &b.Value }

func (*Reset) payload() *[]byte     { return nil }
func (*Started) payload() *[]byte   { return nil }
func (*Block) payload() *[]byte     { return nil }
func (*Emitted) payload() *[]byte   { return nil }
func (*Validator) payload() *[]byte { return nil }
func (*Gap) payload() *[]byte       { return nil }
func (*Rejected) payload() *[]byte  { return nil }
func (*Redefined) payload() *[]byte { return nil }
func (*Moved) payload() *[]byte     { return nil }
func (*End) payload() *[]byte       { return nil }
func (*Unknown) payload() *[]byte   { return nil }

// small is about the memory of a body without anything of variable length.
const small = 128

func (b *Reset) size() int {
	return small + len(b.OldChainID) + len(b.LastAppHash) + len(b.StateRoot)
}
func (b *Started) size() int   { return small + len(b.AppHash) + len(b.AppStateSHA256) }
func (b *Block) size() int     { return small + 64*(len(b.Votes)+2*len(b.Misbehavior)) }
func (b *Tx) size() int        { return small + len(b.Backend) }
func (b *Change) size() int    { return small + len(b.Key) + len(b.Before.Value) + len(b.Decoded) }
func (b *Outcome) size() int   { return small + len(b.Log) }
func (b *Validator) size() int { return small + len(b.PubKey) }
func (b *Key) size() int       { return small + len(b.Key) + len(b.Decoded) }
func (b *Gap) size() int       { return small + len(b.Reason) }
func (b *Rejected) size() int  { return small + len(b.Key) + len(b.Err) }
func (b *Redefined) size() int { return small }
func (b *Moved) size() int     { return small + len(b.To) }
func (b *End) size() int       { return small }
func (b *Unknown) size() int   { return small }

func (b *Emitted) size() int {
	n := small + len(b.Type)
	for _, a := range b.Attributes {
		n += 32 + len(a.Key) + len(a.Value)
	}
	return n
}

// Size returns about how many bytes the event occupies in memory: the bytes of Delivery.Credit.
func (e Event) Size() int { return e.Body.size() + len(e.ChainID) + len(e.Payload()) }

// Payload returns the field of the body that parts split, or nil if the body has none.
func (e Event) Payload() []byte {
	if p := e.Body.payload(); p != nil {
		return *p
	}
	return nil
}

// Key returns the key that a change, a key of the state or a rejected change is about, or nil.
func (e Event) Key() []byte {
	switch b := e.Body.(type) {
	case *Change:
		return b.Key
	case *Key:
		return b.Key
	case *Rejected:
		return b.Key
	}
	return nil
}

// TxNumber returns the number of the transaction that the event belongs to, and reports whether it
// belongs to one.
func (e Event) TxNumber() (uint32, bool) {
	switch b := e.Body.(type) {
	case *Tx:
		return b.Number, true
	case *Change:
		return b.Tx, true
	case *Emitted:
		return b.Tx, true
	case *Outcome:
		return b.Tx, true
	}
	return 0, false
}

// Position is the place of a unit of delivery: a block, or the start of a period, which stands one
// height below the period's first block. Positions are ordered by period, then by height, and are
// the same on every node.
type Position struct {
	Period uint64 `json:"period"`
	Height uint64 `json:"height"`
}

// Compare returns -1, 0 or 1 if p is before, at or after q.
func (p Position) Compare(q Position) int {
	return cmp.Or(cmp.Compare(p.Period, q.Period), cmp.Compare(p.Height, q.Height))
}

// String returns the height, with the period before it unless that is 0.
func (p Position) String() string {
	if p.Period == 0 {
		return fmt.Sprint(p.Height)
	}
	return fmt.Sprintf("%d/%d", p.Period, p.Height)
}

// Place is the place of an event: its unit, and its index there before any filter. Index is the
// same in all slots and on all nodes. (ChainID, Period, Height, Index) and the number of the part
// are the key by which a reader recognises a repeated event.
type Place struct {
	ChainID string
	Position
	Index uint64 // from 0
}

// String describes the place for people.
func (p Place) String() string {
	return fmt.Sprintf("event %d of height %s of %s", p.Index, p.Position, p.ChainID)
}

// Cursor says where a sink stands: after the unit at Position. All of it but Epoch, Beat and Native
// is the same on every node. A sink stores it in one atomic step with the events that lead to it.
// The zero Cursor is that of a sink which no writer has claimed.
type Cursor struct {
	ChainID string `json:"chain,omitempty"`
	Position
	Events     uint64 `json:"events"` // of the unit, before any filter, its End included
	BlockHash  []byte `json:"block_hash,omitempty"`
	AppHash    []byte `json:"app_hash,omitempty"`
	Digest     []byte `json:"digest,omitempty"`     // of what the unit delivers
	Definition string `json:"definition,omitempty"` // hash of the definition that the events follow

	Epoch uint64 `json:"epoch"`          // of the newest claim
	Beat  uint64 `json:"beat,omitempty"` // changes with each sign of life of the writer

	// Native is the sink's own position (an offset, a sequence), which only the sink reads. The
	// slot's file keeps it for the next Opening.
	Native string `json:"native,omitempty"`
}

// Empty reports whether the sink holds no unit. It may be claimed nevertheless.
func (c Cursor) Empty() bool { return c.ChainID == "" }

// Clone returns c with memory of its own.
func (c Cursor) Clone() Cursor {
	c.BlockHash, c.AppHash, c.Digest = bytes.Clone(c.BlockHash), bytes.Clone(c.AppHash), bytes.Clone(c.Digest)
	return c
}

// Carries reports whether the unit that end closes rests on the cursor: the sink may write it next.
func (c Cursor) Carries(end *End) bool {
	if end.After == nil || c.Empty() {
		return end.After == nil && c.Empty()
	}
	return *end.After == c.Position
}

// SameUnit reports whether c and d stand after the same unit: chain, position, hashes and, where
// both have one, digest.
func (c Cursor) SameUnit(d Cursor) bool {
	digests := len(c.Digest) == 0 || len(d.Digest) == 0 || bytes.Equal(c.Digest, d.Digest)
	return c.ChainID == d.ChainID && c.Position == d.Position && bytes.Equal(c.AppHash, d.AppHash) &&
		bytes.Equal(c.BlockHash, d.BlockHash) && digests
}

// String describes the cursor for people.
func (c Cursor) String() string {
	if c.Empty() {
		return fmt.Sprintf("empty (epoch %d)", c.Epoch)
	}
	return fmt.Sprintf("height %s of %s (app hash %.8x, epoch %d)", c.Position, c.ChainID, c.AppHash, c.Epoch)
}
