package storage

import (
	"fmt"

	"github.com/cockroachdb/pebble/v2"
)

// Flush makes everything committed durable and returns the durable applied index. The state no
// longer needs the event log's records up to that index.
func (d *DB) Flush() (durableApplied uint64, err error) {
	d.mu.Lock()
	done, err := d.askFlush()
	d.mu.Unlock()

	if err == nil {
		err = d.waitFlush(done)
	}
	if err != nil {
		return 0, err
	}

	return d.durableApplied()
}

// askFlush starts a flush in the background. done is closed when the flush ends.
func (d *DB) askFlush() (done <-chan struct{}, err error) {
	if err := d.Err(); err != nil {
		return nil, err
	}
	if done, err = d.pdb.AsyncFlush(); err != nil {
		return nil, d.fail("flushing", err)
	}
	d.flushed = d.published.Load().Index
	return done, nil
}

// waitFlush waits until the flush ends or the DB fails. It must not wait for the flush alone,
// because Pebble retries a failing flush for ever.
func (d *DB) waitFlush(done <-chan struct{}) error {
	select {
	case <-done:
		return d.Err()
	case <-d.failed:
		return d.failure
	}
}

// durableApplied returns the log index that the state certainly has after a crash. It reads it from
// the tables that are written, synced and named in a synced manifest. The index is never too high;
// it may lag behind a flush in the background.
func (d *DB) durableApplied() (uint64, error) {
	if err := d.Err(); err != nil {
		return 0, err
	}
	it, err := d.pdb.NewIter(&pebble.IterOptions{
		LowerBound: metaState, UpperBound: after(metaState), OnlyReadGuaranteedDurable: true,
	})

	if err != nil {
		return 0, d.fail("reading the durable state", err)
	}
	defer it.Close()

	if !it.First() {
		if err := it.Error(); err != nil {
			return 0, d.fail("reading the durable state", err)
		}
		return 0, nil
	}

	r, err := decodeRecord(it.Value())
	if err != nil {
		return 0, fmt.Errorf("state %s: %w", d.dir, err)
	}

	// A failure during the read may have hit the manifest: then nothing new is durable.
	return r.Index, d.Err()
}
