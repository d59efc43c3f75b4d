package storage

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"time"

	"github.com/coppice-go/coppice/engines/chain"
	"github.com/coppice-go/coppice/engines/storage/apphash"
)

// The spaces of the layout in the package comment.
const (
	spaceMeta       = 'm'
	spaceLatest     = 'k'
	spaceOlder      = 'h'
	spaceSuperseded = 's'
	spaceApplied    = 'i'
	spaceExpiry     = 'e'
	spaceBlock      = 'b'
	spaceLocal      = 'n'
)

// formatVersion is the number under metaFormat. A state with another number has another layout.
const formatVersion = 1

const formatName = "coppice state "

var (
	metaFormat      = []byte("mformat")
	metaChain       = []byte("mchain")
	metaState       = []byte("mstate")
	metaAccumulator = []byte("maccumulator")
	metaPruned      = []byte("mpruned")
	metaLog         = []byte("mlog")
)

// record describes the state. It is stored under metaState, and every commit replaces it.
type record struct {
	ChainID       string `json:"chain_id"`
	Period        uint64 `json:"period"`
	InitialHeight uint64 `json:"initial_height"`
	Height        uint64 `json:"height"`
	BlockHash     []byte `json:"block_hash"`
	TimeNs        int64  `json:"time_ns"`
	AppHash       []byte `json:"app_hash"`
	Index         uint64 `json:"applied"`

	// ClockNs is the latest block time ever committed. Ids that expired by it are forgotten, so it
	// never goes back, even if a later block has an earlier time. Otherwise a forgotten transaction
	// could be applied again.
	ClockNs int64 `json:"clock_ns"`

	Keys uint64 `json:"keys"` // number of latest keys, which a scan compares with what it finds
	IDs  uint64 `json:"ids"`  // number of applied ids, which a scan compares too
}

func (r record) encode() []byte {
	b, err := json.Marshal(r)
	if err != nil {
		panic(err) // a struct of numbers, strings and bytes
	}
	return b
}

func decodeRecord(b []byte) (r record, err error) {
	if err := json.Unmarshal(b, &r); err != nil {
		return r, fmt.Errorf("%w: state record: %w", ErrDamaged, err)
	}
	return r, nil
}

// clock returns the time from which the expiry and the window of a block are counted.
func (r record) clock(block time.Time) int64 { return max(r.ClockNs, block.UnixNano()) }

// ceilMs returns the first whole millisecond that is not before ns. A valid_until below it has
// passed.
func ceilMs(ns int64) int64 {
	ms := ns / 1e6
	if ns%1e6 > 0 {
		ms++
	}
	return ms
}

// floorMs returns the last whole millisecond that is not after ns.
func floorMs(ns int64) int64 {
	ms := ns / 1e6
	if ns%1e6 < 0 {
		ms--
	}
	return ms
}

func latestKey(key []byte) []byte {
	return append(append(make([]byte, 0, 1+len(key)), spaceLatest), key...)
}

// latest is the newest committed value of a key.
type latest struct {
	found   bool
	version chain.Version
	value   []byte
}

func (l latest) encode(b []byte) []byte { return append(l.version.AppendBinary(b), l.value...) }

// decodeLatest decodes the latest entry of key. The result shares b's memory.
func decodeLatest(key, b []byte) (latest, error) {
	if len(b) < chain.VersionSize {
		return latest{}, fmt.Errorf("%w: the latest entry of key %q has %d bytes, want a version of %d", ErrDamaged,
			clip(key), len(b), chain.VersionSize)
	}
	v, err := chain.DecodeVersion(b[:chain.VersionSize])
	return latest{true, v, b[chain.VersionSize:]}, err
}

// appendKeyPart appends len(key) u16 | key to b. With the length in front, no key is a prefix of
// another key.
func appendKeyPart(b, key []byte) []byte {
	return append(binary.BigEndian.AppendUint16(b, uint16(len(key))), key...)
}

func olderPrefix(key []byte) []byte {
	return appendKeyPart(append(make([]byte, 0, 3+len(key)+chain.VersionSize+1), spaceOlder), key)
}

func olderKey(key []byte, v chain.Version) []byte {
	b := olderPrefix(key)
	at := len(b)
	b = v.AppendBinary(b)
	for i := at; i < len(b); i++ {
		b[i] = ^b[i]
	}
	return b
}

const (
	olderDeleted = 0
	olderValue   = 1
)

func appendSuperseded(b, key []byte, v chain.Version) []byte {
	return v.AppendBinary(appendKeyPart(b, key))
}

// nextSuperseded returns the key of the older entry that the first item of a superseded list names,
// and the rest of the list.
func nextSuperseded(b []byte) (older, rest []byte, err error) {
	if len(b) >= 2 {
		n := 2 + int(binary.BigEndian.Uint16(b))
		if end := n + chain.VersionSize; len(b) >= end {
			v, err := chain.DecodeVersion(b[n:end])
			return olderKey(b[2:n], v), b[end:], err
		}
	}
	return nil, nil, fmt.Errorf("%w: a list of superseded versions is cut off within an item", ErrDamaged)
}

func appliedKey(id []byte) []byte { return append([]byte{spaceApplied}, id...) }

// expiryKey returns a key that sorts by time. With its sign bit flipped, an int64 sorts by its
// bytes.
func expiryKey(validUntilMs int64, id []byte) []byte {
	b := append(make([]byte, 0, 9+len(id)), spaceExpiry)
	b = binary.BigEndian.AppendUint64(b, uint64(validUntilMs)^1<<63)
	return append(b, id...)
}

const expiryKeySize = 1 + 8 + len(chain.TxID{})

func decodeExpiry(key, value []byte) (validUntilMs int64, id []byte, leaf apphash.Leaf, err error) {
	if len(key) != expiryKeySize || len(value) != len(leaf) {
		return 0, nil, leaf, fmt.Errorf("%w: the expiry entry %x has %d and %d bytes, want %d and %d", ErrDamaged,
			clip(key), len(key), len(value), expiryKeySize, len(leaf))
	}
	copy(leaf[:], value)
	return int64(binary.BigEndian.Uint64(key[1:]) ^ 1<<63), key[9:], leaf, nil
}

// heightKey returns the key of a height in spaceBlock or spaceSuperseded.
func heightKey(space byte, period, height uint64) []byte {
	b := append(make([]byte, 0, 17), space)
	return binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(b, period), height)
}

// BlockMeta holds what the state keeps about a committed block.
type BlockMeta struct {
	Period  uint64
	Height  uint64
	Hash    []byte
	Time    time.Time
	AppHash []byte
	Index   uint64 // of its BlockCommitted in the event log
}

func (m BlockMeta) encode() []byte {
	b := make([]byte, 0, 16+apphash.Size+len(m.Hash))
	b = binary.BigEndian.AppendUint64(b, m.Index)
	b = binary.BigEndian.AppendUint64(b, uint64(m.Time.UnixNano()))
	return append(append(b, m.AppHash...), m.Hash...)
}

func decodeBlockMeta(period, height uint64, b []byte) (BlockMeta, error) {
	if len(b) < 16+apphash.Size {
		return BlockMeta{}, fmt.Errorf("%w: the entry of block %d of period %d has %d bytes, want at least %d",
			ErrDamaged, height, period, len(b), 16+apphash.Size)
	}
	return BlockMeta{
		Period: period, Height: height,
		Index:   binary.BigEndian.Uint64(b),
		Time:    time.Unix(0, int64(binary.BigEndian.Uint64(b[8:]))),
		AppHash: append([]byte(nil), b[16:16+apphash.Size]...),
		Hash:    append([]byte(nil), b[16+apphash.Size:]...),
	}, nil
}

func localKey(name string) []byte { return append([]byte{spaceLocal}, name...) }

// after returns the first key that sorts after all keys with the prefix, or nil if there is none.
func after(prefix []byte) []byte {
	for i := len(prefix) - 1; i >= 0; i-- {
		if prefix[i] != 0xff {
			b := append([]byte(nil), prefix[:i+1]...)
			b[i]++
			return b
		}
	}
	return nil
}

// clip shortens a key so that an error message stays readable.
func clip(key []byte) []byte {
	if len(key) > 80 {
		return key[:80]
	}
	return key
}
