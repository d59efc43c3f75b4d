package storage

import (
	"fmt"
	"time"
)

// Checkpoint copies the committed state to dir, which must not exist. The copy is as of now or a
// little later, always at a block boundary. It shares its tables with this state by hard links
// where the file system supports them, so Checkpoint costs little more than a flush. Commits
// continue meanwhile. When Checkpoint returns, all of dir is durable. After an error, dir holds
// nothing and the state is unchanged, unless Err reports a failure.
func (d *DB) Checkpoint(dir string) (err error) {
	// Pebble panics when the sync of a directory fails, because it then cannot know what the
	// directory holds. A failed checkpoint is thrown away, so the panic becomes an error.
	defer func() {
		if r := recover(); r != nil {
			failed, ok := r.(error)
			if !ok {
				panic(r)
			}
			err = fmt.Errorf("checkpoint of state %s to %s: %w", d.dir, dir, failed)
		}
	}()

	if _, err := d.Flush(); err != nil { // no write-ahead log holds what is only in memory
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

// LogID returns the identity of the event log that the state was made from. found is false if the
// state is not bound to a log yet.
func (d *DB) LogID() (id [16]byte, found bool, err error) {
	if err := d.Err(); err != nil {
		return id, false, err
	}
	b, found, err := d.get(metaLog)
	if err != nil || !found {
		return id, false, err
	}

	if len(b) != len(id) {
		return id, false, fmt.Errorf("state %s: %w: log identity has %d bytes, want %d", d.dir, ErrDamaged,
			len(b), len(id))
	}

	return [16]byte(b), true, nil
}

// BindLog records which event log the state is made from. It returns ErrOtherLog if the state is
// bound to another log, because the state's applied index counts records of that log.
func (d *DB) BindLog(id [16]byte) error {
	have, found, err := d.LogID()
	switch {
	case err != nil:
		return err
	case found && have != id:
		return fmt.Errorf("%w: the state belongs to log %x, this is log %x", ErrOtherLog, have, id)
	case found:
		return nil
	}

	b := d.pdb.NewBatch()
	b.Set(metaLog, id[:], nil)
	return d.commit(b, "binding the state to its log")
}

// Adopt binds a state that was made elsewhere to the log with the given id. The keys, ids and app
// hash stay as they are. index becomes the applied index: it is the index of the record that put
// the state here (Base, SnapshotInstalled), or the old applied index if the log continues the
// numbering of the previous log. The change is durable when Adopt returns.
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

// Root returns the hash of the committed keys and ids. Unlike the app hash it does not depend on
// the period. Two states with the same root hold the same keys and ids.
func (d *DB) Root() []byte {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.acc.Root()
}
