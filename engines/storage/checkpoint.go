package storage

import (
	"fmt"
	"time"

)

// Checkpoint makes a second state in dir, which must not exist: what is committed now, or a little
// later, at a block's boundary. Tables are shared with this state by hard links where the file
// system has them, so it costs little beyond a flush. Commits go on beside it. When it returns, all
// of dir is durable. An error leaves nothing in dir, and the state as it was, unless Err says
// otherwise.
func (d *DB) Checkpoint(dir string) (err error) {
	// Pebble panics when the sync of a directory fails, since it then cannot tell what is in it.
	// This one is thrown away.
	defer func() {
		if r := recover(); r != nil {
			failed, ok := r.(error)
			if !ok {
				panic(r)
			}
			err = fmt.Errorf("checkpoint of state %s to %s: %w", d.dir, dir, failed)
		}
	}()

	if _, err := d.Flush(); err != nil { // there is no write-ahead log that would carry what is in memory
		return err
	}

	if err := d.pdb.Checkpoint(dir); err != nil {
		if failed := d.Err(); failed != nil {
			return failed
		}
		return fmt.Errorf("checkpoint of state %s to %s: %w", d.dir, dir, err)
	}

	return nil
}

// LogID returns the identity of the event log that the state was made of; found is false where none
// is bound yet.
func (d *DB) LogID() (id [16]byte, found bool, err error) {
	if err := d.Err(); err != nil {
		return id, false, err
	}
	b, found, err := d.get(metaLog)
	if err != nil || !found {
		return id, false, err
	}

	if len(b) != len(id) {
		return id, false, fmt.Errorf("state %s: %w: the log's identity has %d bytes, want %d", d.dir, ErrDamaged,
			len(b), len(id))
	}

	return [16]byte(b), true, nil
}

// BindLog says which event log the state is made of. A state that is bound to another one answers
// ErrOtherLog: its applied index counts records that this log does not have.
func (d *DB) BindLog(id [16]byte) error {
	have, found, err := d.LogID()
	switch {
	case err != nil:
		return err
	case found && have != id:
		return fmt.Errorf("%w: the state was made of log %x, this is log %x", ErrOtherLog, have, id)
	case found:
		return nil
	}

	b := d.pdb.NewBatch()
	b.Set(metaLog, id[:], nil)
	return d.commit(b, "binding the state to its log")
}

// Adopt makes a state that was made elsewhere this log's own: the keys, ids and app hash stay, and
// the applied index becomes that of the record which says that the state was put here (Base,
// SnapshotInstalled) or, where the log goes on counting as the one before, stays what it was. It is
// durable when Adopt returns.
func (d *DB) Adopt(id [16]byte, index uint64) error {
	d.mu.Lock()
	next := *d.published.Load()
	if next.chain == nil {
		d.mu.Unlock()
		return fmt.Errorf("adopt: %w: no chain has started in the state", ErrChain)
	}

	next.Index = index
	b := d.pdb.NewBatch()
	b.Set(metaLog, id[:], nil)
	b.Set(metaState, next.encode(), nil)

	if next.Height > 0 {
		meta := BlockMeta{Hash: next.BlockHash, Time: time.Unix(0, next.TimeNs), AppHash: next.AppHash, Index: index}
		b.Set(heightKey(spaceBlock, next.Period, next.Height), meta.encode(), nil)
	}

	err := d.commit(b, "adopting the state")
	if err == nil {
		d.staged = nil
		d.published.Store(&next)
	}

	d.mu.Unlock()

	if err != nil {
		return err
	}

	_, err = d.Flush()
	return err
}

// Root returns the commitment to the committed keys and ids, whatever the period: two states with
// one root are the same.
func (d *DB) Root() []byte {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.acc.Root()
}
