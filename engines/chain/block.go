package chain

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"time"

	logv1 "github.com/coppice-go/coppice/proto/coppice/log/v1"
)

// Block is what consensus decided: an order of transactions at a height.
type Block struct {
	ChainID  string
	Period   uint64
	Height   uint64
	Hash     []byte
	Time     time.Time
	Txs      [][]byte // the canonical bytes of one each; a proposer may have put other bytes there
	Proposer []byte
	Request  []byte // the driver's own request, uninterpreted

	// Addresses of the validators whose votes the block lacks, and of those that it proves to have
	// signed twice. They are in Request, and set for hooks only.
	Absent, DoubleSigned [][]byte
}

// Same reports whether b and o are the same decision: chain, period, height and hash.
func (b Block) Same(o Block) bool {
	return b.ChainID == o.ChainID && b.Period == o.Period && b.Height == o.Height && string(b.Hash) == string(o.Hash)
}

// String returns a short description of the block for people.
func (b Block) String() string {
	return fmt.Sprintf("block %d of %s (%.8x, %d transactions)", b.Height, b.ChainID, b.Hash, len(b.Txs))
}

// ContentHash returns the hash of a block for a driver whose consensus has no block hash of its
// own. It is SHA-256 over every field except Hash and Request, each byte string with its length
// before it.
func (b Block) ContentHash() []byte {
	h := sha256.New()
	var n [8]byte
	num := func(v uint64) { binary.BigEndian.PutUint64(n[:], v); h.Write(n[:]) }
	bytes := func(v []byte) { num(uint64(len(v))); h.Write(v) }
	bytes([]byte(b.ChainID))
	num(b.Period)
	num(b.Height)
	num(uint64(b.Time.UnixNano()))
	bytes(b.Proposer)
	num(uint64(len(b.Txs)))
	for _, tx := range b.Txs {
		bytes(tx)
	}

	return h.Sum(nil)
}

// Record returns the record of the event log which says that b was decided.
func (b Block) Record() *logv1.OrderDecided {
	return &logv1.OrderDecided{
		ChainId: b.ChainID, Period: b.Period, Height: b.Height, BlockHash: b.Hash, TimeNs: b.Time.UnixNano(),
		Txs: b.Txs, Proposer: b.Proposer, Request: b.Request,
	}
}

// BlockFromRecord returns the block that a logged decision contains.
func BlockFromRecord(r *logv1.OrderDecided) Block {
	return Block{
		ChainID: r.ChainId, Period: r.Period, Height: r.Height, Hash: r.BlockHash, Time: time.Unix(0, r.TimeNs),
		Txs: r.Txs, Proposer: r.Proposer, Request: r.Request,
	}
}

// State says where the committed chain stands after the last BlockCommitted. The zero value is the
// state of a node whose chain has not started.
type State struct {
	ChainID       string
	Period        uint64
	InitialHeight uint64
	Height        uint64 // 0: nothing committed in this period yet
	BlockHash     []byte
	Time          time.Time
	AppHash       []byte
	Index         uint64 // of the last record of the event log that was applied to the state
	Params        *logv1.Params

	// Reset is the reset that the state holds; nil if there is none. It is due if it ends Period.
	// Otherwise it was made, and the first block of Period deletes it.
	Reset *Reset
}

// Started reports whether a chain has begun.
func (c State) Started() bool { return c.ChainID != "" }

// InHold reports whether a reset is due, so that no block changes the state any more.
func (c State) InHold() bool { return c.Reset != nil && c.Reset.Epoch == c.Period }

// Next returns the height of the block to be committed next.
func (c State) Next() uint64 {
	if c.Height == 0 {
		return max(c.InitialHeight, 1)
	}
	return c.Height + 1
}

// Staged is a block that was executed but not committed, with its outcome.
type Staged struct {
	Block   Block
	Results []*logv1.TxResult
	Changes []*logv1.Change // in write order
	AppHash []byte

	// Validators are the changes of the validator set that the block makes.
	Validators []*logv1.ValidatorUpdate

	// HookFailures name the backends whose hooks failed, in the order of the hooks.
	HookFailures []*logv1.HookFailure
}

// Standing is what a consensus driver must know before it continues: the committed state, and the
// block that was decided and not committed.
type Standing struct {
	Committed State
	Leftover  *Block // the block that was decided and not committed; nil if there is none

	// Reset is the record that ended the committed chain, if the next epoch has not started.
	Reset *logv1.ChainReset

	// Root is what makes up the state if a reset is due; otherwise it is the zero Root.
	Root Root
}
