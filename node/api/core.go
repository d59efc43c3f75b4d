package api

import (
	"context"
	"errors"

	"github.com/coppice-go/coppice/client"
	"github.com/coppice-go/coppice/engines/chain"
	"github.com/coppice-go/coppice/engines/consensus"
	"github.com/coppice-go/coppice/engines/tail"
	"github.com/coppice-go/coppice/node/gate"
)

var (
	// ErrUnavailable: the node, or the part of it that the call needs, is down at the moment. Wrap
	// it with the reason. engines.ErrDown means the same.
	ErrUnavailable = errors.New("node is unavailable")

	// ErrNoHeight: the state does not have the height, because it is not committed yet or was
	// pruned.
	ErrNoHeight = errors.New("no such height")

	// ErrTooMuch: the values that a Get asks for have more bytes than one answer may have.
	ErrTooMuch = errors.New("the answer is too long")

	// ErrNoRecord: the event log no longer has the record.
	ErrNoRecord = tail.ErrNoRecord

	// ErrBeyond: the cursor does not come from this log.
	ErrBeyond = tail.ErrBeyond

	// ErrForeign: the log was restored or replaced, and its record at the cursor is another one.
	ErrForeign = tail.ErrForeign
)

// Core is the part of a node that NodeService needs. All methods are safe for concurrent use. Each
// returns when its ctx ends.
//
// After ErrUnavailable or engines.ErrDown, the caller may try again.
type Core interface {
	// Submit makes the transactions durable and returns one answer for each, in the given order. If
	// the error is nil, every transaction is in the event log, except those that were refused:
	// their answer has an Err, for which RefusedCode returns the code. If the error is not nil, it
	// is unknown which transactions were accepted, and submitting all of them again is safe. The
	// Core may keep txs, so the caller must not change it afterwards.
	Submit(ctx context.Context, txs [][]byte) ([]chain.Submitted, error)

	// Look returns one Ending for each id, in the given order: whether the node knows the
	// transaction, and how it has ended if it has. It does not wait for transactions to end.
	Look(ctx context.Context, ids []chain.TxID) ([]chain.Ending, error)

	// Wait waits until each transaction has ended (with a result, or expired), and then returns
	// what Look returns. If ctx ends first, it returns what is known by then, and no error. It does
	// not wait for unknown ids.
	Wait(ctx context.Context, ids []chain.TxID) ([]chain.Ending, error)

	// Get returns the values of the keys in the committed state at one height; 0 means the latest.
	// It returns ErrNoHeight if the state does not have the height, and ErrTooMuch if the values
	// have more than max bytes together.
	Get(ctx context.Context, keys [][]byte, height uint64, max int) (Read, error)

	// Follow calls send with each durable record after the cursor, in order. If kinds is
	// not empty, it leaves out records of other kinds. At the end of the log it waits for new
	// records, until ctx ends or send fails. From time to time it sends a Logged without a kind,
	// which carries only the cursor. It returns ErrNoRecord if the cursor lies before the oldest
	// record that is kept, ErrBeyond if it lies after the newest, and ErrForeign if the log has
	// another record there.
	Follow(ctx context.Context, after client.Cursor, kinds []string, send func(Logged) error) error

	// Newest returns the cursor of the newest durable record.
	Newest(ctx context.Context) (client.Cursor, error)

	// Status describes the chain and the node, and says whether the node is ready. It returns an
	// error while the engines that it asks are down. A chain that has not started is zero.
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
	History      string // in which the log writes new records
	LogID        [16]byte

	Condition consensus.Condition // whether the node is ready, and if it is not, why
	Held      []gate.Status       // the gates that hold a block
}

// Logged is a record of the event log. Its data is valid only during the call that receives it.
type Logged struct {
	Index   uint64
	History string // in which the record was written
	Kind    string
	Data    []byte
}
