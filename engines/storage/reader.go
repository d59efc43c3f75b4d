package storage

import (
	"bytes"
	"errors"
	"fmt"
	"iter"

	"github.com/cockroachdb/pebble/v2"
	"google.golang.org/protobuf/proto"

	"github.com/coppice-go/coppice/engines/chain"
	logv1 "github.com/coppice-go/coppice/proto/coppice/log/v1"
)

// Reader reads the committed state as it was when the Reader was made, while commits continue. Only
// one goroutine may use it at a time, and it must be closed.
type Reader struct {
	d    *DB
	snap *pebble.Snapshot
	now  published
}

// reader returns a Reader of the newest committed state.
func (d *DB) reader() (*Reader, error) {
	d.mu.Lock() // so that the published state is the one that Pebble holds
	defer d.mu.Unlock()
	if err := d.Err(); err != nil {
		return nil, err
	}
	return &Reader{d: d, snap: d.pdb.NewSnapshot(), now: *d.published.Load()}, nil
}

// State returns the chain's state at the reader's height.
func (s *Reader) State() chain.State { return s.now.state() }

// Close releases the reader.
func (s *Reader) Close() error { return s.snap.Close() }

// Entry is a key with its latest value.
type Entry struct {
	Key     []byte
	Value   []byte
	Version chain.Version // of the transaction that wrote it
}

// withPrefix iterates over the latest keys that begin with prefix, in byte order. The memory of an
// Entry is valid until the next step. An error ends the iteration.
func (s *Reader) withPrefix(prefix []byte) iter.Seq2[Entry, error] {
	return s.keys(latestKey(prefix), after(latestKey(prefix)))
}

// KeysAfter iterates over the latest keys that come after key, or over all if key is empty.
func (s *Reader) KeysAfter(key []byte) iter.Seq2[Entry, error] {
	return s.keys(next(spaceLatest, key), after([]byte{spaceLatest}))
}

// next returns the lowest key of a space that sorts after key.
func next(space byte, key []byte) []byte {
	b := append(append(make([]byte, 0, 2+len(key)), space), key...)
	if len(key) > 0 {
		b = append(b, 0)
	}
	return b
}

func (s *Reader) keys(from, to []byte) iter.Seq2[Entry, error] {
	return func(yield func(Entry, error) bool) {
		s.scan(from, to, func(key, value []byte) bool {
			l, err := decodeLatest(key[1:], value)
			return yield(Entry{key[1:], l.value, l.version}, err) && err == nil
		}, func(err error) { yield(Entry{}, err) })
	}
}

// allIDs iterates over the results of the applied transactions whose ids are remembered, in the
// order of the ids. An error ends the iteration.
func (s *Reader) allIDs() iter.Seq2[*logv1.TxResult, error] { return s.IDsAfter(nil) }

// IDsAfter iterates like allIDs, but only over the ids that come after id, or over all if id is
// empty.
func (s *Reader) IDsAfter(id []byte) iter.Seq2[*logv1.TxResult, error] {
	return func(yield func(*logv1.TxResult, error) bool) {
		s.scan(next(spaceApplied, id), after([]byte{spaceApplied}), func(key, value []byte) bool {
			r := new(logv1.TxResult)
			err := proto.Unmarshal(value, r)
			if err == nil && !bytes.Equal(r.Id, key[1:]) {
				err = fmt.Errorf("it is of transaction %x", clip(r.Id))
			}
			if err != nil {
				err = fmt.Errorf("%w: the result under id %x: %w", ErrDamaged, clip(key[1:]), err)
			}

			return yield(r, err) && err == nil
		}, func(err error) { yield(nil, err) })
	}
}

// scan calls entry for each key at or after from and before to, until entry returns false. It
// passes an error of Pebble to failed.
func (s *Reader) scan(from, to []byte, entry func(key, value []byte) bool, failed func(error)) {
	it, err := s.snap.NewIter(&pebble.IterOptions{LowerBound: from, UpperBound: to})
	if err != nil {
		failed(s.d.fail("scanning", err))
		return
	}
	defer it.Close()

	for ok := it.First(); ok; ok = it.Next() {
		if !entry(it.Key(), it.Value()) {
			return
		}
	}

	if err := it.Error(); err != nil {
		failed(s.d.fail("scanning", err))
	}
}

func (s *Reader) get(key []byte) (value []byte, found bool, err error) {
	v, closer, err := s.snap.Get(key)
	if errors.Is(err, pebble.ErrNotFound) {
		return nil, false, nil
	}
	if err != nil {
		return nil, false, s.d.fail(fmt.Sprintf("reading %q", clip(key)), err)
	}

	value = bytes.Clone(v)
	return value, true, closer.Close()
}
