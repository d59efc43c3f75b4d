package api

import (
	"context"
	"errors"

	"github.com/coppice-go/coppice/engines/chain"
	"github.com/coppice-go/coppice/engines/tail"
)

var (
	// ErrUnavailable: the node, or the part of it that the call needs, is down at the moment. Wrap
	// it with the reason. engines.ErrDown means the same.
	ErrUnavailable = errors.New("node is unavailable")

	// ErrNoHeight: the state does not have the height, because it is not committed yet or was
	// pruned.
	ErrNoHeight = errors.New("no such height")

	// ErrTooMuch: the answer would be longer than the limit.
	ErrTooMuch = errors.New("the answer is too long")

	// ErrNoRecord: the event log no longer has the record.
	ErrNoRecord = tail.ErrNoRecord

	// ErrBeyond: the cursor does not come from this log.
	ErrBeyond = tail.ErrBeyond
)

// Core is the part of a node that NodeService needs. All methods are safe for concurrent use, and
// end when ctx ends.
//
// After ErrUnavailable or engines.ErrDown, the caller may try again.
type Core interface {
	// Submit makes the transactions durable and returns one answer for each, in the given order.
	// When it returns without an error, each transaction that was not refused is in the event log;
	// RefusedCode returns the code of a refusal. After an error, it is unknown which transactions
	// were accepted, and submitting them again is safe. The api keeps no reference to txs
	// afterwards; the core may.
	Submit(ctx context.Context, txs [][]byte) ([]chain.Submitted, error)

	// Look returns what is known about each id now, in the given order, without waiting.
	Look(ctx context.Context, ids []chain.TxID) ([]chain.Ending, error)

	// Wait waits until each id has ended (with a result, or expired), and then returns what Look
	// returns. If ctx ends first, it returns what is known by then, and no error. It does not wait
	// for unknown ids.
	Wait(ctx context.Context, ids []chain.TxID) ([]chain.Ending, error)

	// Get returns the values of the keys in the committed state at one height; 0 means the latest.
	// It returns ErrNoHeight if the state does not have the height, and ErrTooMuch if the values
	// have more than max bytes together.
	Get(ctx context.Context, keys [][]byte, height uint64, max int) (Read, error)

	// Follow passes the durable records with an index above after to send, in order: those of the
	// given kinds, or all if kinds is empty. It waits for more until ctx ends or send fails. From
	// time to time it sends a Logged without a kind, which carries only the cursor. It returns
	// ErrNoRecord if after lies before the oldest record that is kept.
	Follow(ctx context.Context, after uint64, kinds []string, send func(Logged) error) error

	// Newest returns the index of the newest durable record.
	Newest(ctx context.Context) (uint64, error)

	// Status returns the state of the chain, or an error while the node is not ready.
	Status(ctx context.Context) (Status, error)
}

// Read is the result of Get: the values and the height at which they were read. Values are in the
// order of the keys. A key that does not exist has a nil value; an empty value is not nil.
type Read struct {
	Height uint64
	Values [][]byte
}

// Status describes the chain and the node.
type Status struct {
	Chain        chain.State
	Version      string // of the program
	PoolSize     int    // accepted transactions without a result
	Profile      string
	Consensus    string // "solo", "comet"
	LogIndex     uint64 // index of the event log's last durable record
	AppliedIndex uint64 // index of the last record applied to the state
}

// Logged is a record of the event log. Its data is valid only during the call that receives it.
type Logged struct {
	Index uint64
	Kind  string
	Data  []byte
}
