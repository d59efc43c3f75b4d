package storage

import (
	"bytes"
	"errors"
	"fmt"
	"iter"

	"github.com/cockroachdb/pebble/v2"
	"google.golang.org/protobuf/proto"

	"github.com/coppice-go/coppice/engines"
	logv1 "github.com/coppice-go/coppice/proto/coppice/log/v1"
)

// Snapshot is the committed state at one height, for as long as it is held; commits go on beside it. It is for one goroutine
// at a time and is to be closed.
type Snapshot struct {
	d    *DB
	snap *pebble.Snapshot
	now  published
}

// Snapshot takes a snapshot of what is committed.
func (d *DB) Snapshot() (*Snapshot, error) {
	d.mu.Lock() // so that what is published is what Pebble holds
	defer d.mu.Unlock()
	if err := d.Err(); err != nil {
		return nil, err
	}
	return &Snapshot{d: d, snap: d.pdb.NewSnapshot(), now: *d.published.Load()}, nil
}

// State is the chain's state at the snapshot.
func (s *Snapshot) State() engines.ChainState { return s.now.state() }

// Close releases the snapshot.
func (s *Snapshot) Close() error { return s.snap.Close() }

// Entry is a latest key.
type Entry struct {
	Key     []byte
	Value   []byte
	Version engines.Version // of the transaction that wrote it
}

// Keys goes over the latest keys that begin with prefix, in the order of their bytes. An Entry's memory is valid until the next
// step. After an error there is no further step.
func (s *Snapshot) Keys(prefix []byte) iter.Seq2[Entry, error] {
	return func(yield func(Entry, error) bool) {
		s.scan(latestKey(prefix), func(key, value []byte) bool {
			l, err := decodeLatest(key[1:], value)
			return yield(Entry{key[1:], l.value, l.version}, err) && err == nil
		}, func(err error) { yield(Entry{}, err) })
	}
}

// IDs goes over the results of the applied transactions whose ids are remembered, in the order of the ids. After an error
// there is no further step.
func (s *Snapshot) IDs() iter.Seq2[*logv1.TxResult, error] {
	return func(yield func(*logv1.TxResult, error) bool) {
		s.scan([]byte{spaceApplied}, func(key, value []byte) bool {
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

// scan calls entry for each key of the layout that begins with prefix, until it answers false.
func (s *Snapshot) scan(prefix []byte, entry func(key, value []byte) bool, failed func(error)) {
	it, err := s.snap.NewIter(&pebble.IterOptions{LowerBound: prefix, UpperBound: after(prefix)})
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

func (s *Snapshot) get(key []byte) (value []byte, found bool, err error) {
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
