package streams

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
)

// Snapshots are the copies of the node's state from which sinks are bootstrapped.
type Snapshots interface {
	// Pick returns the id of a snapshot: of the state as it is now or, if height is not 0, one of
	// that height. The snapshot stays until release is called, and then as long as HoldsSnapshot
	// says so. ErrNoSnapshot means that there is none.
	Pick(ctx context.Context, height uint64) (id string, release func(), err error)

	// Open opens a snapshot. ErrNoSnapshot means that it is gone or damaged.
	Open(ctx context.Context, id string) (Snapshot, error)
}

// ErrNoSnapshot means that a snapshot does not exist, or cannot be used.
var ErrNoSnapshot = errors.New("no such snapshot")

// Snapshot is the state at one position. It is safe for concurrent use.
type Snapshot interface {
	At() SnapshotAt

	// Keys passes the keys that come after one, in the order of their bytes, to f, until f returns
	// false. An empty key stands before all. The memory is f's until it returns.
	Keys(after []byte, f func(key, value []byte) bool) error

	Close() error
}

// SnapshotAt is the place of a snapshot in the chain and in the event log.
type SnapshotAt struct {
	ChainID string
	Position
	BlockHash []byte // empty: unknown, or no block
	AppHash   []byte

	LogID string // in hexadecimal
	Index uint64 // of the last record that the state has
}

// Bootstrapper is a Sink that can take a state as a new generation of its data, in chunks, while
// its readers have the old one. Its methods are called after Open.
type Bootstrapper interface {
	// Bootstrap begins a generation, or goes on with it, and removes any other that is not
	// finished. It returns which chunks the sink has. swapped means that the generation has taken
	// the place of the data already: Open has returned its cursor.
	Bootstrap(ctx context.Context, generation string) (done map[int]bool, swapped bool, err error)

	// Chunk writes the events of a chunk, which has no End. In one atomic step it makes them
	// durable, checks the epoch and notes that the chunk is there; after an error nothing of it
	// stays, or it is replaced. Several chunks may be written at once.
	Chunk(ctx context.Context, c Chunk, d Delivery) error

	// Swap puts the generation, of which the sink has all chunks, in the place of the data. In the
	// same atomic step it checks the epoch and moves the cursor to end, the generation's End. c is
	// a chunk behind the last one, which has only end.
	Swap(ctx context.Context, c Chunk, end Event) (Cursor, error)
}

// Chunk is a part of a generation: the events of a range of keys.
type Chunk struct {
	Number int    // from 0
	Of     int    // how many the generation has
	Before uint64 // how many events stand before the chunk's first one; each part counts
}

// chunk is a Chunk with the range of the state that it covers.
type chunk struct {
	Chunk
	after        []byte // key before the first one
	index, until uint64 // of the first event, and behind the last one
}

// stateEvents is the unit of a state: a Gap, as the events before the state do not come, then each
// key, then the End. With until it ends before the event with that index, without an End.
type stateEvents struct {
	from    Snapshot
	at      SnapshotAt
	begin   chunk
	index   uint64
	last    []byte
	ended   bool
	drained bool // the snapshot has no keys after the batch

	batch []byte // keys and values that were read
	keys  []keyRange
	read  int // of keys

	gap Gap
	key Key
	end End
}

// keyRange is where a key and its value lie in a batch.
type keyRange struct{ key, value, end int }

// A batch ends after so many keys or bytes.
const (
	batchKeys  = 1_000
	batchBytes = 256 << 10
)

func newStateEvents(from Snapshot, c chunk) *stateEvents {
	s := &stateEvents{from: from, at: from.At(), begin: c}
	s.restart()
	return s
}

func (s *stateEvents) restart() {
	s.index, s.last, s.ended, s.drained = s.begin.index, append(s.last[:0], s.begin.after...), false, false
	s.batch, s.keys, s.read = s.batch[:0], s.keys[:0], 0
}

func (s *stateEvents) next() (filtered, error) {
	if s.ended || s.begin.until > 0 && s.index == s.begin.until {
		return filtered{}, io.EOF
	}

	body, err := s.body()
	if err != nil {
		return filtered{}, err
	}
	e := Event{Place: Place{ChainID: s.at.ChainID, Position: s.at.Position, Index: s.index}, Body: body}
	s.index++

	return filtered{Event: e}, nil
}

func (s *stateEvents) body() (Body, error) {
	if s.index == 0 {
		s.gap = Gap{Reason: fmt.Sprintf("this is the state of height %s, which a snapshot has", s.at.Position)}
		return &s.gap, nil
	}

	if s.read == len(s.keys) && !s.drained {
		if err := s.fill(); err != nil {
			return nil, err
		}
	}
	if s.read == len(s.keys) {
		if s.begin.until > 0 {
			return nil, fmt.Errorf("%w: it ends before its event %d", ErrNoSnapshot, s.begin.until)
		}
		s.ended = true
		s.end = End{BlockHash: s.at.BlockHash, AppHash: s.at.AppHash, Events: s.index + 1}
		return &s.end, nil
	}

	k := s.keys[s.read]
	s.read++
	s.key = Key{Key: s.batch[k.key:k.value:k.value], Value: s.batch[k.value:k.end:k.end]}
	s.last = append(s.last[:0], s.key.Key...)

	return &s.key, nil
}

// fill reads the next keys.
func (s *stateEvents) fill() error {
	if cap(s.batch) > 2*batchBytes {
		s.batch = nil // a large value was in it
	}
	s.batch, s.keys, s.read, s.drained = s.batch[:0], s.keys[:0], 0, true
	return s.from.Keys(s.last, func(key, value []byte) bool {
		at := len(s.batch)
		s.batch = append(append(s.batch, key...), value...)
		s.keys = append(s.keys, keyRange{at, at + len(key), len(s.batch)})
		s.drained = len(s.keys) < batchKeys && len(s.batch) < batchBytes
		return s.drained
	})
}

// cursor returns the cursor of a sink that has the state.
func (a SnapshotAt) cursor() Cursor {
	return Cursor{ChainID: a.ChainID, Position: a.Position, BlockHash: a.BlockHash, AppHash: a.AppHash}
}

// plan divides a state into chunks of about so many bytes, and returns the End of its unit, and the
// chunk that End would be. The same state, options and size give the same plan.
func plan(ctx context.Context, from Snapshot, o *options, size int64) (chunks []chunk, end Event, last Chunk,
	err error) {
	u := &unit{cursor: from.At().cursor(), o: o, raw: newStateEvents(from, chunk{})}
	u.digest.Begin(u.cursor.ChainID, u.cursor.Position)

	next, bytesOf, lines := chunk{}, int64(0), uint64(0)
	for {
		if ctx.Err() != nil {
			return nil, end, last, context.Cause(ctx)
		}
		e, err := u.next()
		if err != nil {
			return nil, end, last, err
		}

		if b, ok := e.Body.(*End); ok {
			b.BlockHash, b.AppHash = bytes.Clone(b.BlockHash), bytes.Clone(b.AppHash)
			next.Number, next.until = len(chunks), e.Index
			chunks = append(chunks, next)
			for i := range chunks {
				chunks[i].Of = len(chunks)
			}
			return chunks, e, Chunk{Number: len(chunks), Of: len(chunks), Before: lines}, nil
		}

		lines++
		bytesOf += int64(e.Size())
		if bytesOf >= size && e.Part.Last() && e.Key() != nil {
			next.Number, next.until = len(chunks), e.Index+1
			chunks = append(chunks, next)
			next, bytesOf = chunk{Chunk{Before: lines}, bytes.Clone(e.Key()), e.Index + 1, 0}, 0
		}
	}
}

// unit returns the unit of a chunk's events, which has no digest and no End.
func (c chunk) unit(from Snapshot, o *options) *unit {
	return &unit{cursor: from.At().cursor(), o: o, raw: newStateEvents(from, c), plain: true, close: func() {}}
}
