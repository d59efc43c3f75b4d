package storage

import (
	"bytes"
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"google.golang.org/protobuf/proto"

	"github.com/coppice-go/coppice/engines/chain"
	"github.com/coppice-go/coppice/engines/storage/apphash"
	logv1 "github.com/coppice-go/coppice/proto/coppice/log/v1"
)

// header holds what a block adds to the state besides its writes.
type header struct {
	height uint64
	hash   []byte
	time   time.Time
}

// outcome holds everything that the commit of a block will write: the block folded into the
// committed state.
type outcome struct {
	next    record // without its Index
	reset   *chain.Reset
	acc     apphash.Accumulator
	results []*logv1.TxResult
	changes []*logv1.Change

	writes []write
	births []birth
	deaths [][]byte // expiry keys
}

// write is the last change of one key, and the value that it replaces.
type write struct {
	*logv1.Change
	old latest
}

// birth is an applied id that is remembered from now on.
type birth struct {
	*logv1.TxResult
	leaf apphash.Leaf
}

// fold returns the outcome of a block: the state that its results and changes turn the state before
// it into. A block in hold leaves the clock where it is. fold costs O(changes + results + expired
// ids).
func (d *DB) fold(h header, results []*logv1.TxResult, changes []*logv1.Change, on *ground) (*outcome, error) {
	now := on.state
	o := &outcome{next: now.record, acc: on.acc, results: results, changes: changes}
	if err := foldResults(o); err != nil {
		return nil, err
	}

	ids := d.sumIDs(o.births)
	defer ids.wait()

	if err := d.foldKeys(o, on); err != nil {
		return nil, err
	}
	reset, err := chain.ResetOf(changes, now.reset)
	if err != nil {
		return nil, err
	}

	o.reset = reset

	clock := now.clock(h.time)
	if now.held() {
		clock = now.ClockNs
	}
	if err := d.foldExpiry(o, on, ceilMs(now.ClockNs), ceilMs(clock)); err != nil {
		return nil, err
	}
	o.acc.Merge(ids.wait())

	o.next.Height, o.next.BlockHash, o.next.TimeNs, o.next.ClockNs = h.height, h.hash, h.time.UnixNano(), clock
	o.next.AppHash = o.acc.Hash(now.Period)

	return o, nil
}

func (d *DB) foldKeys(o *outcome, on *ground) error {
	place := make(map[string]int, len(o.changes))
	o.writes = make([]write, 0, len(o.changes))
	var unread [][]byte
	var at []int

	for _, c := range o.changes {
		if c == nil || len(c.Key) == 0 || len(c.Key) > chain.MaxKeyBytes {
			return fmt.Errorf("a change has a key of %d bytes, want 1 to %d", len(c.GetKey()), chain.MaxKeyBytes)
		}

		if i, again := place[string(c.Key)]; again {
			o.writes[i].Change = c
			continue
		}

		old, known := on.written(c.Key)
		if !known {
			old, known = on.read[string(c.Key)]
		}
		if !known {
			unread, at = append(unread, latestKey(c.Key)), append(at, len(o.writes))
		}

		place[string(c.Key)] = len(o.writes)
		o.writes = append(o.writes, write{c, old})
	}

	if err := d.lookup(unread, func(k int, value []byte) (err error) {
		o.writes[at[k]].old, err = decodeLatest(unread[k][1:], bytes.Clone(value))
		return err
	}); err != nil {
		return err
	}

	for _, w := range o.writes {
		if w.old.found && !w.Delete && bytes.Equal(w.old.value, w.Value) {
			continue // the same leaf
		}

		if w.old.found {
			o.acc.Remove(d.keyHasher.Key(w.Key, w.old.value))
			o.next.Keys--
		}

		if !w.Delete {
			o.acc.Add(d.keyHasher.Key(w.Key, w.Value))
			o.next.Keys++
		}
	}

	return nil
}

// foldExpiry adds to o the removal of the ids whose valid_until is at least last and below limit.
// It comes before the block's own ids, because a plain transaction whose time has passed may be
// applied again. The ids below last, the limit of the block before, are removed already. A search
// among them would be slow, because Pebble would step over all their tombstones. The ids of a block
// that is not committed yet are not in Pebble.
func (d *DB) foldExpiry(o *outcome, on *ground, last, limit int64) error {
	it, err := d.pdb.NewIter(&pebble.IterOptions{LowerBound: expiryKey(last, nil), UpperBound: expiryKey(limit, nil)})
	if err != nil {
		return d.fail("reading expired ids", err)
	}
	defer it.Close()

	var gone removal
	defer gone.end()

	for ok := it.First(); ok; ok = it.Next() {
		_, _, leaf, err := decodeExpiry(it.Key(), it.Value())
		if err != nil {
			return d.fail("reading expired ids", err)
		}
		if len(o.deaths) == manyDeaths { // all may have expired: to grow on from here would move them all, often
			o.deaths = slices.Grow(o.deaths, int(min(o.next.IDs, 16*manyDeaths)))
		}
		gone.remove(leaf)
		o.next.IDs--
		o.deaths = append(o.deaths, bytes.Clone(it.Key()))
	}

	if err := it.Error(); err != nil {
		return d.fail("reading expired ids", err)
	}

	for _, b := range on.births() {
		if b.ValidUntilMs < last || b.ValidUntilMs >= limit {
			continue
		}
		gone.remove(b.leaf)
		o.next.IDs--
		o.deaths = append(o.deaths, expiryKey(b.ValidUntilMs, b.Id))
	}

	o.acc.Merge(gone.end())

	return nil
}

// foldResults adds the new ids to o. Their leaves are not known yet.
func foldResults(o *outcome) error {
	for i, r := range o.results {
		if r.ValidUntilMs == 0 { // refused: it was not applied, so there is nothing to remember
			continue
		}
		if _, err := chain.TxIDFromBytes(r.Id); err != nil {
			return fmt.Errorf("result %d: %w", i, err)
		}

		o.next.IDs++
		o.births = append(o.births, birth{TxResult: r})
	}
	return nil
}

// local is a node-local value, which is not part of the replicated state and not in the app hash.
type local struct {
	Name  string
	Value []byte
}

// Commit applies the sealed block, the older one if the next one is staged on it: rec is its
// BlockCommitted, durable in the event log at index. The node-local values go into the same atomic
// batch. Commit returns errNotStaged if rec is not the record of the sealed block.
func (d *DB) Commit(index uint64, rec *logv1.BlockCommitted, local ...local) error {
	d.mu.Lock()
	defer d.mu.Unlock()

	if err := d.Err(); err != nil {
		return err
	}

	s, now := d.staged, d.published.Load()
	if s != nil && s.on.under != nil {
		s = s.on.under
	}

	switch {
	case s == nil || s.outcome == nil:
		return fmt.Errorf("commit %v: %w: no block is sealed", blockName{rec}, errNotStaged)

	case rec.ChainId != s.block.ChainID || rec.Period != s.block.Period || rec.Height != s.block.Height ||
		!bytes.Equal(rec.BlockHash, s.block.Hash):
		return fmt.Errorf("commit %v: %w: %v is", blockName{rec}, errNotStaged, s.block)

	case !bytes.Equal(rec.AppHash, s.outcome.next.AppHash):
		return fmt.Errorf("commit %v: %w: the record's is %x, the sealed block's %x", blockName{rec}, ErrAppHash,
			rec.AppHash, s.outcome.next.AppHash)

	case index <= now.Index:
		return fmt.Errorf("commit %v: its index %d is not past the applied one, %d", blockName{rec}, index, now.Index)
	}

	began := time.Now()
	if err := d.apply(index, s.outcome, local); err != nil {
		return err
	}
	d.caughtUp.Store(true)
	if d.staged == s {
		d.staged = nil
	} else {
		d.staged.on.under = nil
	}
	if d.o.Committed != nil {
		d.o.Committed(len(rec.Results), time.Since(began))
	}

	return nil
}

// Redo applies a BlockCommitted of the event log without executing anything. A record at or below
// the applied index changes nothing. A block that was staged is dropped. Errors: ErrChain and
// errHeight if the record is not the next one, and ErrAppHash if it does not lead to the app hash
// in it. In the last case the state does not come from this log, or the log is of another chain.
func (d *DB) Redo(index uint64, rec *logv1.BlockCommitted, local ...local) error {
	d.mu.Lock()
	defer d.mu.Unlock()

	if err := d.Err(); err != nil {
		return err
	}
	now := d.published.Load()
	if index <= now.Index {
		return nil
	}
	if err := now.belongs(blockName{rec}, rec.ChainId, rec.Period, rec.Height); err != nil {
		return fmt.Errorf("redo record %d: %w", index, err)
	}
	o, err := d.fold(header{rec.Height, rec.BlockHash, time.Unix(0, rec.TimeNs)}, rec.Results, rec.Changes,
		d.committedGround())

	if err != nil {
		return fmt.Errorf("redo record %d: %w", index, err)
	}

	if !bytes.Equal(rec.AppHash, o.next.AppHash) {
		return fmt.Errorf("redo record %d: %w: %v leads to %x here, the record says %x; the state before it is not "+
			"the one it was executed on",
			index, ErrAppHash, blockName{rec}, o.next.AppHash, rec.AppHash)
	}

	if err := d.apply(index, o, local); err != nil {
		return err
	}
	d.staged = nil
	return nil
}

// blockName formats the name of a record's block.
type blockName struct{ *logv1.BlockCommitted }

func (n blockName) String() string {
	return fmt.Sprintf("block %d of %s (%.8x)", n.Height, n.ChainId, n.BlockHash)
}

// apply writes an outcome in one batch and shows it to readers.
func (d *DB) apply(index uint64, o *outcome, local []local) error {
	now := d.published.Load()
	next := *now
	next.record, next.reset = o.next, o.reset
	next.Index = index

	size := 4096
	for _, w := range o.writes {
		size += 3*len(w.Key) + len(w.Value) + len(w.old.value) + 128
	}

	b := d.pdb.NewBatchWithSize(size + 256*len(o.births))
	if superseded := setKeys(b, o.writes); len(superseded) > 0 {
		b.Set(heightKey(spaceSuperseded, next.Period, next.Height), superseded, nil)
	}
	if err := setIDs(b, o); err != nil {
		return err
	}

	meta := BlockMeta{Hash: next.BlockHash, Time: time.Unix(0, next.TimeNs), AppHash: next.AppHash, Index: index}
	b.Set(heightKey(spaceBlock, next.Period, next.Height), meta.encode(), nil)
	for _, l := range local {
		b.Set(localKey(l.Name), l.Value, nil)
	}

	b.Set(metaAccumulator, o.acc.AppendBinary(nil), nil)
	b.Set(metaState, next.encode(), nil)

	d.recent.add(o.births)
	if err := d.commit(b, fmt.Sprintf("committing block %d", next.Height)); err != nil {
		return err
	}

	d.acc = o.acc
	d.published.Store(&next)
	d.recent.drop(ceilMs(next.ClockNs))

	if index-d.flushed >= d.o.FlushEvery {
		_, err := d.askFlush()
		return err
	}

	return nil
}

// setKeys writes the latest values, and moves those that they replace to the older ones. It returns
// the list of the older entries that no read at or after this height needs. These are the replaced
// values, and each deletion, because a key without an entry reads the same. Like setIDs, it goes
// through each space in key order, which is the fastest for a memtable.
func setKeys(b *pebble.Batch, writes []write) (superseded []byte) {
	slices.SortFunc(writes, func(x, y write) int { return bytes.Compare(x.Key, y.Key) })
	var key, value []byte

	for _, w := range writes {
		key = append(append(key[:0], spaceLatest), w.Key...)
		switch {
		case !w.Delete:
			value = latest{version: chain.VersionFromProto(w.Version), value: w.Value}.encode(value[:0])
			b.Set(key, value, nil)
		case w.old.found:
			b.Delete(key, nil)
		}
	}

	for _, w := range writes {
		if !w.old.found {
			continue
		}

		if w.Delete {
			v := chain.VersionFromProto(w.Version)
			b.Set(olderKey(w.Key, v), []byte{olderDeleted}, nil)
			superseded = appendSuperseded(superseded, w.Key, v)
		}

		value = append(append(value[:0], olderValue), w.old.value...)
		b.Set(olderKey(w.Key, w.old.version), value, nil)
		superseded = appendSuperseded(superseded, w.Key, w.old.version)
	}

	return superseded
}

// setIDs removes the expired ids and then adds the new ones. The order matters, because an id may
// be both.
func setIDs(b *pebble.Batch, o *outcome) error {
	for _, e := range o.deaths {
		b.Delete(e, nil)
	}

	slices.SortFunc(o.deaths, func(x, y []byte) int { return bytes.Compare(x[9:], y[9:]) })
	for _, e := range o.deaths {
		b.Delete(appliedKey(e[9:]), nil)
	}

	slices.SortFunc(o.births, func(x, y birth) int { return bytes.Compare(x.Id, y.Id) })
	var raw []byte

	for _, r := range o.births {
		var err error
		kept := &logv1.TxResult{Id: r.Id, Version: r.Version, Code: r.Code, Data: r.Data, Log: r.Log,
			ValidUntilMs: r.ValidUntilMs} // events are read from the log
		if raw, err = (proto.MarshalOptions{}).MarshalAppend(raw[:0], kept); err != nil {
			return fmt.Errorf("result of %x: %w", r.Id, err)
		}
		b.Set(appliedKey(r.Id), raw, nil)
	}

	slices.SortStableFunc(o.births, func(x, y birth) int { return cmp.Compare(x.ValidUntilMs, y.ValidUntilMs) })
	for _, r := range o.births {
		b.Set(expiryKey(r.ValidUntilMs, r.Id), r.leaf[:], nil)
	}

	return nil
}
