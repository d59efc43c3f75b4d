package api

import (
	"context"
	"errors"

	"github.com/coppice-go/coppice/engines/chain"
)

var (
	// ErrUnavailable: the node, or what the call needs of it, is down at the moment. Wrap it with
	// the reason. An engines.ErrDown means the same.
	ErrUnavailable = errors.New("node is unavailable")

	// ErrNoHeight: the state has no such height: not committed yet, or pruned.
	ErrNoHeight = errors.New("no such height")

	// ErrTooMuch: the answer would be longer than is allowed.
	ErrTooMuch = errors.New("the answer is too long")

	// ErrNoRecord: the event log does not have the record any more.
	ErrNoRecord = errors.New("no such record")

	// ErrBeyond: a cursor that no reader of this log was given.
	ErrBeyond = errors.New("cursor lies beyond the log's end")
)

// Core is what NodeService needs of a node. All methods are safe for concurrent use, and end
// when ctx ends.
//
// An error that is ErrUnavailable or engines.ErrDown is the caller's to try again.
type Core interface {
	// Submit makes the transactions durable and answers each, in the order given. When it returns
	// without an error, each one that was not refused is in the event log, and RefusedCode gives
	// the code of each refusal. An error leaves all of them unknown; submitting them again is safe.
	// The api keeps no reference to txs afterwards; the core may.
	Submit(ctx context.Context, txs [][]byte) ([]chain.Submitted, error)

	// Look answers what is known now of each id, in the order given, without waiting.
	Look(ctx context.Context, ids []chain.TxID) ([]chain.Ending, error)

	// Wait is Look once each id has ended (a result, or expired). When ctx ends first it answers
	// what is known by then, and no error. Ids that nobody knows are not waited for.
	Wait(ctx context.Context, ids []chain.TxID) ([]chain.Ending, error)

	// Get reads the keys in the committed state at one height, 0 being the latest. A height that
	// the state does not have is ErrNoHeight, and values of more bytes than max together, whatever
	// keys they belong to, are ErrTooMuch.
	Get(ctx context.Context, keys [][]byte, height uint64, max int) (Read, error)

	// Follow hands the durable records with an index above after to send, in order, those of the
	// kinds only (none is all), and waits for more until ctx ends or send fails. Now and then it
	// sends a Logged without a kind: the cursor alone. An after below the oldest record kept is
	// ErrNoRecord.
	Follow(ctx context.Context, after uint64, kinds []string, send func(Logged) error) error

	// Newest is the index of the newest durable record.
	Newest(ctx context.Context) (uint64, error)

	// Status tells where the chain stands; an error while the node is not ready.
	Status(ctx context.Context) (Status, error)
}

// Read is what Get read, and at which height. Values are in the order of the keys; nil is a key
// that is not there, and an empty value is not nil.
type Read struct {
	Height uint64
	Values [][]byte
}

// Status is where the chain stands.
type Status struct {
	Chain        chain.State
	Version      string // of the program
	PoolSize     int    // accepted transactions without a result
	Profile      string
	Consensus    string // "solo", "comet"
	LogIndex     uint64 // of the event log's last durable record
	AppliedIndex uint64 // of the last record applied to the state
}

// Logged is a record of the event log. Its data is only valid during the call it is handed to.
type Logged struct {
	Index uint64
	Kind  string
	Data  []byte
}
