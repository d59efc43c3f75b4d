package storage

import (
	"context"
	"encoding/binary"
	"fmt"

	"github.com/cockroachdb/pebble/v2"
)

func (p place) encode() []byte {
	return binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(nil, p.Period), p.Height)
}

func decodePlace(b []byte) (place, error) {
	if len(b) != 16 {
		return place{}, fmt.Errorf("%w: the mark of what is pruned has %d bytes, want 16", ErrDamaged, len(b))
	}
	return place{binary.BigEndian.Uint64(b), binary.BigEndian.Uint64(b[8:])}, nil
}

// pruneChunk is about how many deletions go into one batch.
const pruneChunk = 4096

// Prune removes what only reads below height of the current period need: older versions of keys and block entries, of earlier
// periods too. Reads below height are refused from its start on. It costs O(removed), works beside commits, and one that was
// cut short is completed by the next. The latest state, and so the app hash, has no part in it.
// Errors: ErrNotCommitted for a height that is not committed yet.
func (d *DB) Prune(ctx context.Context, height uint64) error {
	to, err := d.markPruned(height)
	if err != nil {
		return err
	}
	if err := d.pruneOlder(ctx, to); err != nil {
		return err
	}
	return d.pruneBlocks(ctx, to)
}

// markPruned refuses reads below height, durably before anything that they need is gone: batches keep their order.
func (d *DB) markPruned(height uint64) (place, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.Err(); err != nil {
		return place{}, err
	}
	now := d.published.Load()
	to := place{now.Period, height}
	if !now.pruned.before(to) {
		return now.pruned, nil
	}
	if err := now.readable(height); err != nil {
		return place{}, fmt.Errorf("prune: %w", err)
	}
	b := d.pdb.NewBatch()
	b.Set(metaPruned, to.encode(), nil)
	if err := d.commit(b, "pruning"); err != nil {
		return place{}, err
	}
	next := *now
	next.pruned = to
	d.published.Store(&next)
	return to, nil
}

func (d *DB) pruneOlder(ctx context.Context, to place) error {
	return d.prune(ctx, spaceSuperseded, place{to.Period, to.Height + 1}, func(b *pebble.Batch, list []byte) error {
		for len(list) > 0 {
			older, rest, err := nextSuperseded(list)
			if err != nil {
				return d.fail("pruning", err)
			}
			b.Delete(older, nil)
			list = rest
		}
		return nil
	})
}

func (d *DB) pruneBlocks(ctx context.Context, to place) error {
	return d.prune(ctx, spaceBlock, to, func(*pebble.Batch, []byte) error { return nil })
}

// prune deletes the entries of a space by height that come before end, each with what it stands for.
func (d *DB) prune(ctx context.Context, space byte, end place, with func(b *pebble.Batch, value []byte) error) error {
	it, err := d.pdb.NewIter(&pebble.IterOptions{LowerBound: []byte{space}, UpperBound: heightKey(space, end.Period, end.Height)})
	if err != nil {
		return d.fail("pruning", err)
	}
	defer it.Close()
	b := d.pdb.NewBatch()
	defer func() { b.Close() }()
	for ok := it.First(); ok; ok = it.Next() {
		if err := with(b, it.Value()); err != nil {
			return err
		}
		b.Delete(it.Key(), nil)
		if b.Count() >= pruneChunk {
			if err := d.commit(b, "pruning"); err != nil {
				return err
			}
			b = d.pdb.NewBatch()
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
	}
	if err := it.Error(); err != nil {
		return d.fail("pruning", err)
	}
	return d.commit(b, "pruning")
}
