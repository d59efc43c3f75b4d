// Package apphash computes the app hash, which commits a node to its replicated state. At a height
// it is the same on every node (I3 in docs/architecture.md).
//
// The state is a set of leaves: one leaf for each latest key with its value, and one leaf for each
// applied transaction id. A leaf is a keyed BLAKE3 digest. An Accumulator holds the sum of the
// leaves. It is a homomorphic multiset hash (LtHash with 1024 lanes of 16 bits), so a write adds a
// leaf, removes one, or does both, however large the state is. The sum does not depend on the order
// of these steps, so a scan of the whole state gives the same sum.
//
//	key leaf    = BLAKE3_keyed(K_key, len(key) u32 || key || value)
//	id leaf     = BLAKE3_keyed(K_id, id || version || code u32 || valid_until i64 || data)
//	element     = BLAKE3_keyed_XOF(K_element, leaf)[:2048]        1024 little-endian u16
//	accumulator = Σ element of every leaf, each lane mod 2^16
//	root        = BLAKE3_keyed(K_root, accumulator)
//	app hash    = BLAKE3_keyed(K_app, root || period u64)
//
// || is concatenation. Numbers are big-endian unless it says otherwise. Each key K is derived from
// a context string of its own in BLAKE3's derive-key mode, so each kind of input has its own key.
//
// The app hash offers no proofs of a single key. docs/adr/0021 explains that choice and gives the
// security argument.
package apphash

import (
	"encoding/binary"
	"fmt"
	"slices"

	"lukechampine.com/blake3"
	"lukechampine.com/blake3/guts"

	"github.com/coppice-go/coppice/engines/chain"
	logv1 "github.com/coppice-go/coppice/proto/coppice/log/v1"
)

// Sizes in bytes.
const (
	Size            = 32   // of leaves, roots and app hashes
	accumulatorSize = 2048 // of an encoded Accumulator
)

// The keys of the hash functions. A released context never changes, because it is part of every
// chain.
var (
	keyLeafKey    = deriveKey("coppice 2026-11 app hash v1: latest key")
	keyIDLeaf     = deriveKey("coppice 2026-11 app hash v1: applied id")
	keyElement    = deriveKey("coppice 2026-11 app hash v1: element")
	keyRoot       = deriveKey("coppice 2026-11 app hash v1: root")
	keyApp        = deriveKey("coppice 2026-11 app hash v1: root and period")
	keyElementCV  = words(keyElement)
	elementFlags  = uint32(guts.FlagKeyedHash | guts.FlagChunkStart | guts.FlagChunkEnd | guts.FlagRoot)
	blocksPerCall = uint64(guts.MaxSIMD)
)

func deriveKey(context string) []byte {
	k := make([]byte, 32)
	blake3.DeriveKey(k, context, nil)
	return k
}

func words(key []byte) (w [8]uint32) {
	for i := range w {
		w[i] = binary.LittleEndian.Uint32(key[4*i:])
	}
	return w
}

// Leaf is the contribution of one key, or of one applied id, to the sum.
type Leaf [Size]byte

// Hasher computes leaves. It keeps nothing between calls but its buffers, and it is not safe for
// concurrent use. The zero value is not usable; call NewHasher.
type Hasher struct {
	key, id *blake3.Hasher
	buf     []byte
}

// NewHasher returns a Hasher.
func NewHasher() *Hasher {
	return &Hasher{key: blake3.New(Size, keyLeafKey), id: blake3.New(Size, keyIDLeaf)}
}

// Key returns the leaf of a latest key and its value. An empty value and a missing key differ: a
// missing key has no leaf.
func (h *Hasher) Key(key, value []byte) Leaf {
	h.buf = binary.BigEndian.AppendUint32(h.buf[:0], uint32(len(key)))
	h.buf = append(h.buf, key...)
	return sum(h.key, h.buf, value)
}

// ID returns the leaf of an applied transaction: its id, version, code, data and valid_until. The
// log text is for people, so the leaf does not cover it.
func (h *Hasher) ID(r *logv1.TxResult) Leaf {
	h.buf = append(h.buf[:0], r.Id...)
	h.buf = chain.VersionFromProto(r.Version).AppendBinary(h.buf)
	h.buf = binary.BigEndian.AppendUint32(h.buf, uint32(r.Code))
	h.buf = binary.BigEndian.AppendUint64(h.buf, uint64(r.ValidUntilMs))
	return sum(h.id, h.buf, r.Data)
}

func sum(h *blake3.Hasher, head, tail []byte) (l Leaf) {
	h.Reset()
	h.Write(head)
	h.Write(tail)
	h.Sum(l[:0])
	return l
}

// Accumulator is the sum of a set of leaves. The zero value is the sum of the empty set. One word
// holds four lanes of 16 bits.
type Accumulator [accumulatorSize / 8]uint64

// top has the highest bit of each lane. Add and Remove compute these bits separately, so that no
// carry crosses into the next lane.
const top = 0x8000_8000_8000_8000

// Add adds a leaf to the set. The set must not have the leaf already, because the sum is that of a
// multiset.
func (a *Accumulator) Add(l Leaf) {
	var e Accumulator
	e.expand(l)
	a.Merge(&e)
}

// Merge adds the set of other, which must have no leaf in common with that of a.
func (a *Accumulator) Merge(other *Accumulator) {
	for i, w := range other {
		a[i] = (a[i]&^top + w&^top) ^ (a[i]^w)&top
	}
}

// Remove removes a leaf from the set.
func (a *Accumulator) Remove(l Leaf) {
	var e Accumulator
	e.expand(l)
	for i, w := range e {
		a[i] = (a[i] | top - w&^top) ^ (a[i]^^w)&top
	}
}

// expand sets a to the leaf's element. It compresses the single input block at successive counters,
// which is BLAKE3's extendable output. The reader of package blake3 would allocate and start
// goroutines for each leaf.
func (a *Accumulator) expand(l Leaf) {
	n := guts.Node{CV: keyElementCV, BlockLen: Size, Flags: elementFlags}
	for i := range Size / 4 {
		n.Block[i] = binary.LittleEndian.Uint32(l[4*i:])
	}

	var out [guts.MaxSIMD * guts.BlockSize]byte

	for w := 0; w < len(a); n.Counter += blocksPerCall {
		guts.CompressBlocks(&out, n)
		for at := 0; at < len(out); at += 8 {
			a[w] = binary.LittleEndian.Uint64(out[at:])
			w++
		}
	}
}

// AppendBinary appends the accumulatorSize bytes that Decode reads: 1024 little-endian u16.
func (a *Accumulator) AppendBinary(b []byte) []byte {
	for _, w := range a {
		b = binary.LittleEndian.AppendUint64(b, w)
	}
	return b
}

// Decode reads an encoded Accumulator.
func Decode(b []byte) (*Accumulator, error) {
	if len(b) != accumulatorSize {
		return nil, fmt.Errorf("accumulator: %d bytes, want %d", len(b), accumulatorSize)
	}
	a := new(Accumulator)
	for i := range a {
		a[i] = binary.LittleEndian.Uint64(b[8*i:])
	}
	return a, nil
}

// Root returns the state root: the commitment to the set of leaves.
func (a *Accumulator) Root() []byte {
	h := blake3.New(Size, keyRoot)
	h.Write(a.AppendBinary(make([]byte, 0, accumulatorSize)))
	return h.Sum(nil)
}

// Hash returns the app hash of the set of leaves in a period.
func (a *Accumulator) Hash(period uint64) []byte { return Of(a.Root(), period) }

// Of returns the app hash of a state root in a period.
func Of(root []byte, period uint64) []byte {
	h := blake3.New(Size, keyApp)
	h.Write(binary.BigEndian.AppendUint64(slices.Clone(root), period))
	return h.Sum(nil)
}
