package storage

import (
	"context"
	"encoding/binary"
	"fmt"
	"math"

	"github.com/cockroachdb/pebble/v2"
)

func (p place) encode() []byte {
	return binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(nil, p.Period), p.Height)
}

func decodePlace(b []byte) (place, error) {
	if len(b) != 16 {
		return place{}, fmt.Errorf("%w: prune mark has %d bytes, want 16", ErrDamaged, len(b))
	}
	return place{binary.BigEndian.Uint64(b), binary.BigEndian.Uint64(b[8:])}, nil
}

// pruneChunk is the approximate number of deletions in one batch.
const pruneChunk = 4096

// Prune removes the older versions of keys and the block entries that only reads below height in
// the current period need, including those of earlier periods. Reads below height are refused as
// soon as Prune starts. Prune costs O(removed) and works beside commits. If it is interrupted, the
// next call completes the work. It does not touch the latest state, so the app hash stays the same.
// It returns ErrNotCommitted if height is not committed yet.
func (d *DB) Prune(ctx context.Context, height uint64) error {
	_, _, err := d.pruneSome(ctx, height, math.MaxInt)
	return err
}

// pruneSome is Prune with a limit: it stops after about limit removals, so that background pruning
// works in bounded pieces. It returns the number of removed versions, and done is true if nothing
// is left to remove below height.
func (d *DB) pruneSome(ctx context.Context, height uint64, limit int) (removed int, done bool, err error) {
	to, err := d.markPruned(height)
	if err != nil {
		return 0, false, err
	}

	d.pruning.Lock()
	defer d.pruning.Unlock()

	work := pruneWork{d: d, ctx: ctx, left: limit}
	// Continue where an earlier call of this run stopped. Starting from the front again would mean
	// to step over all the tombstones that it left.
	d.prunedTo, err = work.older(d.prunedTo, to)
	if err == nil && work.left > 0 {
		d.prunedBlocks, err = work.blocks(d.prunedBlocks, to)
	}

	return limit - work.left, work.left > 0, err
}

// markPruned makes reads below height fail, and returns the place below which they fail from now
// on. Pebble keeps the order of batches, so the mark is durable before the removal of any entry
// that those reads need.
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

// pruneWork is the state of one running pruneSome.
type pruneWork struct {
	d    *DB
	ctx  context.Context
	left int // number of removals that are still allowed
}

func (w *pruneWork) older(from, to place) (place, error) {
	return w.entries(spaceSuperseded, from, place{to.Period, to.Height + 1}, func(b *pebble.Batch, list []byte) error {
		for len(list) > 0 {
			older, rest, err := nextSuperseded(list)
			if err != nil {
				return w.d.fail("pruning", err)
			}
			b.Delete(older, nil)
			list = rest
		}
		return nil
	})
}

func (w *pruneWork) blocks(from, to place) (place, error) {
	return w.entries(spaceBlock, from, to, func(*pebble.Batch, []byte) error { return nil })
}

// entries deletes the entries of a space by height, from one place up to another. For each entry it
// calls with, which adds the deletions of the older entries that it lists. It returns the place
// where it stopped.
func (w *pruneWork) entries(space byte, from, end place, with func(b *pebble.Batch, value []byte) error) (
	place, error) {
	d := w.d
	it, err := d.pdb.NewIter(&pebble.IterOptions{LowerBound: heightKey(space, from.Period, from.Height),
		UpperBound: heightKey(space, end.Period, end.Height)})

	if err != nil {
		return from, d.fail("pruning", err)
	}
	defer it.Close()

	b := d.pdb.NewBatch()
	defer func() { b.Close() }()

	reached := from // everything before it is removed

	for ok := it.First(); ok; ok = it.Next() {
		at, err := decodePlace(it.Key()[1:])
		if err != nil {
			return reached, d.fail("pruning", err)
		}
		if err := with(b, it.Value()); err != nil {
			return reached, err
		}

		b.Delete(it.Key(), nil)

		if n := int(b.Count()); n >= pruneChunk || n >= w.left {
			w.left = max(0, w.left-n)
			if err := d.commit(b, "pruning"); err != nil {
				return reached, err
			}

			b = d.pdb.NewBatch()
			reached = place{at.Period, at.Height + 1}
			if w.left == 0 {
				return reached, nil
			}
		}

		if w.ctx.Err() != nil {
			return reached, context.Cause(w.ctx)
		}
	}

	if err := it.Error(); err != nil {
		return reached, d.fail("pruning", err)
	}
	if w.left -= int(b.Count()); w.left < 0 {
		w.left = 0
	}

	return end, d.commit(b, "pruning")
}
