package streams

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.uber.org/zap"
)

// claim makes this node the writer of the sink, and returns the record after which delivery goes
// on.
func (d *session) claim(ctx context.Context) (index uint64, err error) {
	c, err := d.observe(ctx)
	if err != nil {
		return 0, err
	}

	var boot bool
	for {
		index, err = d.admitOrGap(ctx, c)
		boot = d.bootstraps(c, err)
		if err != nil && !boot {
			return 0, err
		}
		if d.mine(c) {
			break
		}
		if !d.def.Standby {
			if d.snapshot().State != FencedOff {
				d.set(Detached, Fail(Fenced, fmt.Errorf("another writer has claimed the sink (epoch %d, here %d): if "+
					"it is no more, coppice streams resume %s --take-over", c.Epoch, d.snapshot().Epoch, d.name)))
			}
			<-ctx.Done()
			return 0, context.Cause(ctx)
		}
		if c, err = d.watch(ctx, c, index); err != nil {
			return 0, err
		}
	}

	epoch, err := d.take(ctx, c)
	if err != nil {
		return 0, err
	}

	if boot {
		if err := d.claimedOnly(epoch); err != nil {
			return 0, err
		}
		if err := d.bootstrap(ctx); err != nil {
			return 0, err
		}
	}
	if index, err = d.admitOrGap(ctx, d.cursor); err != nil {
		return 0, err
	}

	err = d.claimed(c, epoch, index)
	d.s.news()

	return index, err
}

// take claims a sink that stands at c for the next epoch, which it returns. The claim is noted in
// the slot's file before it is made, and the caller notes the epoch after it.
func (d *session) take(ctx context.Context, c Cursor) (epoch uint64, err error) {
	f := d.snapshot()
	epoch = max(c.Epoch, f.Epoch) + 1
	again := f.Claiming == epoch // the answer to the first claim of it was lost
	if err := d.claiming(epoch, c.Epoch); err != nil {
		return 0, err
	}
	if err := d.open(ctx, epoch, f.Acked.Native); err != nil {
		if ClassOf(err) == Fenced && !again { // an earlier claim of this node may be the one that came first
			err = errors.Join(err, d.claiming(0, c.Epoch))
		}
		return 0, err
	}
	return epoch, nil
}

// mine reports whether this node may claim a sink that stands at c: nobody has written it, or this
// node was its newest writer, or an operator or the lease says so. Epochs only grow: a sink with an
// older one than this node has claimed was put back to an older copy. A standby watches such a
// sink, because another node may have claimed it since.
func (d *session) mine(c Cursor) bool {
	f := d.snapshot()
	switch c.Epoch {
	case 0, f.Epoch, f.Claiming, d.lapsed:
		return true
	}
	return f.TakeOver || c.Epoch < f.Epoch && !d.def.Standby
}

// claiming notes durably that this node is about to claim an epoch, so that it knows its own claim
// after a crash. at is the epoch of the sink: if it is the one that this node noted before, that
// claim has reached the sink and only its answer was lost. Then it must not be forgotten, because
// the next claim may not reach the sink.
func (d *session) claiming(epoch, at uint64) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if at != 0 && at == d.file.Claiming {
		d.file.Epoch = at
	}
	d.file.Claiming, d.dirty = epoch, true
	return d.saveLocked()
}

// claimedOnly notes the claim of a sink whose data are about to be changed, by a bootstrap or a
// rewind: the claim counts whatever becomes of that.
func (d *session) claimedOnly(epoch uint64) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.file.Epoch, d.file.Claiming, d.file.TakeOver, d.dirty = epoch, 0, false, true
	return d.saveLocked()
}

// claimed notes the claim in the slot's file, durably.
func (d *session) claimed(was Cursor, epoch, index uint64) error {
	d.mu.Lock()
	defer d.mu.Unlock()

	if was.Epoch != 0 && was.Epoch != d.file.Epoch {
		d.counts.Takeovers++
	}
	d.wentBack = d.regressed(d.cursor)

	d.file.Epoch, d.file.Claiming, d.file.TakeOver, d.file.Definition = epoch, 0, false, d.hash()
	if !d.cursor.SameUnit(d.file.Acked) {
		d.file.Passed = nil
	}
	d.file.Acked, d.index, d.points = d.cursor, index, nil
	d.fresh, d.dirty, d.answered = false, true, true
	d.file.Bootstrap = nil
	if err := d.lower(index + 1); err != nil {
		return err
	}

	return d.saveLocked()
}

// regressed reports whether a cursor of the sink is behind the one that it had, and then counts it.
func (sl *slot) regressed(now Cursor) bool {
	known := sl.file.Acked
	if known.Empty() || !now.Empty() && now.Position.Compare(known.Position) >= 0 {
		return false
	}
	sl.counts.Rewinds++
	sl.s.o.Diagnostics.Warn("a sink's cursor went back", zap.String("stream", sl.name),
		zap.Stringer("from", known.Position), zap.Stringer("to", now.Position))
	return true
}

// observed notes where a sink stands that another node writes. The floor goes back with it.
func (sl *slot) observed(c Cursor, index uint64) error {
	sl.mu.Lock()
	sl.regressed(c)
	err := sl.lower(index + 1)
	sl.mu.Unlock()

	if err == nil {
		sl.acknowledge(c, index, time.Time{})
	}
	return err
}

// lower lowers the floor to a record that the sink needs again, because its cursor went back, or
// because the slot is no longer lost and has no retainer. A retainer never goes down, so the slot
// registers another.
func (sl *slot) lower(floor uint64) error {
	if floor >= sl.file.Floor && sl.retainer != nil || sl.file.Lost {
		return nil
	}
	log, err := sl.s.o.Log()
	if err != nil {
		return Fail(Unreachable, err)
	}

	sl.file.Floor, sl.dirty, sl.points = floor, true, nil
	sl.needVersions(nil)
	sl.retainer, err = log.Retain(context.Background(), retainerName(sl.name), floor)
	return err
}

func (d *session) hash() string { return d.def.Hash(d.factory) }

// admit returns the record on which the sink's cursor rests, if the sink is this chain's, follows
// this definition, and has its next unit in the log.
func (d *session) admit(ctx context.Context, c Cursor) (uint64, error) {
	if r := d.snapshot().Redefined; c.Definition != "" && !c.Empty() && c.Definition != d.hash() &&
		(r == nil || c.Definition != r.From || d.hash() != r.To) {
		return 0, Fail(Misconfigured, fmt.Errorf("the sink's data follow definition %s, this one is %s: kind, filter, "+
			"codecs or projection have changed", c.Definition, d.hash()))
	}
	log, err := d.s.o.Log()
	if err != nil {
		return 0, Fail(Unreachable, err)
	}

	f := d.snapshot()
	if f.Passed != nil && c.SameUnit(f.Acked) {
		return locate(ctx, log, *f.Passed, *f.Passed) // the filter has left nothing since
	}

	return locate(ctx, log, c, f.Acked)
}

// admitOrGap is admit; under on_gap = "record" what the log lacks before its first block becomes a
// gap, with which delivery begins.
func (d *session) admitOrGap(ctx context.Context, c Cursor) (uint64, error) {
	index, err := d.admit(ctx, c)
	d.hole = nil
	if errors.As(err, &d.hole) && d.def.OnGap == "record" {
		return d.hole.index, nil
	}
	return index, err
}

// watch observes a sink that another node writes, until that node has given no sign of life for the
// lease. Meanwhile the slot's floor follows the sink.
func (d *session) watch(ctx context.Context, c Cursor, index uint64) (Cursor, error) {
	d.set(Standby, nil)
	look := time.NewTicker(min(max(d.s.o.Lease/lookShare, time.Millisecond), longestLook))
	defer look.Stop()
	still := d.s.now()

	for {
		if err := d.observed(c, index); err != nil {
			return c, err
		}

		select {
		case <-look.C:
		case <-ctx.Done():
			return c, context.Cause(ctx)
		}

		next, err := d.observe(ctx)
		if err != nil {
			return c, err
		}
		if next.Epoch != c.Epoch || next.Beat != c.Beat || next.Position != c.Position {
			still = d.s.now()
			if next.Position != c.Position {
				if index, err = d.admit(ctx, next); ClassOf(err) == Ahead {
					continue // the log is about to get there
				}
				if err != nil {
					return c, err
				}
			}
			c = next
			continue
		}

		if d.s.now().Sub(still) >= d.s.o.Lease {
			d.lapsed = next.Epoch
			return next, nil
		}
	}
}
