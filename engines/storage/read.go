package storage

import (
	"fmt"
	"math"

	"github.com/cockroachdb/pebble/v2"
	"google.golang.org/protobuf/proto"

	"github.com/coppice-go/coppice/engines/chain"
	logv1 "github.com/coppice-go/coppice/proto/coppice/log/v1"
)

// Get returns the value of key at a committed height of the current period; height 0 means the
// latest. It also returns the height that it read at, which is 0 before the first block of a
// period. Errors: ErrNotCommitted, ErrPruned. Get does not wait for commits.
func (d *DB) Get(key []byte, height uint64) (value []byte, found bool, at uint64, err error) {
	if err := d.Err(); err != nil {
		return nil, false, 0, err
	}

	now := d.published.Load()

	if height == 0 {
		height = now.Height
	} else if err := now.readable(height); err != nil {
		return nil, false, 0, err
	}

	value, found, err = d.readAt(key, chain.Version{Period: now.Period, Height: height, Index: math.MaxUint32})
	if err != nil {
		return nil, false, 0, err
	}
	// A prune refuses reads of the versions before it removes them. Check again, since it may have
	// started during this read.
	if p := d.published.Load().pruned; (place{now.Period, height}).before(p) {
		return nil, false, 0, fmt.Errorf("height %d: %w: the oldest is %d", height, ErrPruned, p.Height)
	}

	return value, found, height, nil
}

// GetOf returns the value that key had after a block of any period. height 0, or the height before
// a period's first block, means as the period began. Errors: ErrNotCommitted, ErrPruned.
func (d *DB) GetOf(key []byte, period, height uint64) (value []byte, found bool, err error) {
	if err := d.Err(); err != nil {
		return nil, false, err
	}

	at := place{period, height}
	if now := d.published.Load(); (place{now.Period, now.Height}).before(at) {
		return nil, false, fmt.Errorf("height %d of period %d: %w: the latest is %d of period %d", height, period,
			ErrNotCommitted, now.Height, now.Period)
	}
	value, found, err = d.readAt(key, chain.Version{Period: period, Height: height, Index: math.MaxUint32})
	if err != nil {
		return nil, false, err
	}
	if p := d.published.Load().pruned; at.before(p) { // see Get
		return nil, false, fmt.Errorf("height %d of period %d: %w: the oldest is %d of period %d", height, period,
			ErrPruned, p.Height, p.Period)
	}

	return value, found, nil
}

// readable returns nil if a height of the current period can be read, and otherwise ErrNotCommitted
// or ErrPruned.
func (p *published) readable(height uint64) error {
	switch {
	case p.Height == 0:
		return fmt.Errorf("height %d: %w: period %d has no block yet", height, ErrNotCommitted, p.Period)

	case height > p.Height:
		return fmt.Errorf("height %d: %w: the latest is %d", height, ErrNotCommitted, p.Height)

	case height < max(p.InitialHeight, 1):
		return fmt.Errorf("height %d: %w: period %d begins at %d", height, ErrNotCommitted, p.Period,
			max(p.InitialHeight, 1))

	case (place{p.Period, height}).before(p.pruned):
		return fmt.Errorf("height %d: %w: the oldest is %d", height, ErrPruned, p.pruned.Height)
	}
	return nil
}

// readAt returns the newest value of key that is not after v. It needs no snapshot: a commit in
// between moves such a value only from the latest entries to the older ones, and readAt looks in
// that order.
func (d *DB) readAt(key []byte, v chain.Version) (value []byte, found bool, err error) {
	b, found, err := d.get(latestKey(key))
	if err != nil {
		return nil, false, err
	}

	if found {
		l, err := decodeLatest(key, b)
		if err != nil {
			return nil, false, d.fail("reading", err)
		}
		if l.version.Compare(v) <= 0 {
			return l.value, true, nil
		}
	}

	prefix := olderPrefix(key)
	it, err := d.pdb.NewIter(&pebble.IterOptions{LowerBound: olderKey(key, v), UpperBound: after(prefix)})
	if err != nil {
		return nil, false, d.fail(fmt.Sprintf("reading %q", clip(key)), err)
	}
	defer it.Close()

	if !it.First() {
		if err := it.Error(); err != nil {
			return nil, false, d.fail(fmt.Sprintf("reading %q", clip(key)), err)
		}
		return nil, false, nil
	}

	switch b := it.Value(); {
	case len(b) > 0 && b[0] == olderValue:
		return append([]byte{}, b[1:]...), true, nil
	case len(b) == 1 && b[0] == olderDeleted:
		return nil, false, nil
	default:
		return nil, false, d.fail("reading",
			fmt.Errorf("%w: the older entry %x of key %q is neither a value nor a deletion", ErrDamaged,
				clip(b), clip(key)))
	}
}

// Result returns the result of an applied transaction. A result is available as long as its id is
// remembered: until valid_until, or for one window after its block if it has none. A refused
// transaction was not applied and has no result here.
func (d *DB) Result(id chain.TxID) (*logv1.TxResult, bool, error) {
	if err := d.Err(); err != nil {
		return nil, false, err
	}
	if !d.mayHave(id) {
		return nil, false, nil
	}
	v, closer, err := d.pdb.Get(appliedKey(id[:]))
	if err == pebble.ErrNotFound {
		return nil, false, nil
	}
	if err != nil {
		return nil, false, d.fail("reading the result of "+id.String(), err)
	}
	defer closer.Close()

	r, err := decodeResult(id, v)
	if err != nil {
		return nil, false, d.fail("reading", err)
	}

	return r, true, nil
}

func decodeResult(id chain.TxID, b []byte) (*logv1.TxResult, error) {
	r := new(logv1.TxResult)
	err := proto.Unmarshal(b, r)
	if err == nil && string(r.Id) != string(id[:]) {
		err = fmt.Errorf("it is of transaction %x", clip(r.Id))
	}
	if err != nil {
		return nil, fmt.Errorf("%w: the result of %v: %w", ErrDamaged, id, err)
	}

	return r, nil
}

// Results returns one entry for each id: the result of its transaction as from Result, or nil if
// there is none.
func (d *DB) Results(ids []chain.TxID) ([]*logv1.TxResult, error) {
	rs := make([]*logv1.TxResult, len(ids))
	for i, id := range ids {
		r, _, err := d.Result(id)
		if err != nil {
			return nil, err
		}
		rs[i] = r
	}

	return rs, nil
}

// Block returns what the state keeps about a committed block of the current period. Errors:
// ErrNotCommitted, ErrPruned.
func (d *DB) Block(height uint64) (BlockMeta, error) {
	if err := d.Err(); err != nil {
		return BlockMeta{}, err
	}
	now := d.published.Load()
	if err := now.readable(height); err != nil {
		return BlockMeta{}, err
	}
	b, found, err := d.get(heightKey(spaceBlock, now.Period, height))
	if err != nil {
		return BlockMeta{}, err
	}

	if !found {
		if err := d.published.Load().readable(height); err != nil { // the height was pruned during the read
			return BlockMeta{}, err
		}
		return BlockMeta{}, d.fail("reading", fmt.Errorf("%w: block %d of period %d is missing", ErrDamaged, height,
			now.Period))
	}

	return decodeBlockMeta(now.Period, height, b)
}

// BlockOf returns what the state keeps about a committed block of any period. The error is
// ErrPruned for a block that was pruned, and ErrNotCommitted for one that was never committed.
func (d *DB) BlockOf(period, height uint64) (BlockMeta, error) {
	now := d.published.Load()
	if period == now.Period {
		return d.Block(height)
	}

	b, found, err := d.get(heightKey(spaceBlock, period, height))
	switch {
	case err != nil:
		return BlockMeta{}, err
	case (place{period, height}).before(now.pruned):
		return BlockMeta{}, fmt.Errorf("height %d of period %d: %w: the oldest is %d of period %d", height, period,
			ErrPruned, now.pruned.Height, now.pruned.Period)
	case !found:
		return BlockMeta{}, fmt.Errorf("height %d of period %d: %w", height, period, ErrNotCommitted)
	}

	return decodeBlockMeta(period, height, b)
}

// PutLocal sets a node-local value. Like a commit, it is durable after the next flush.
func (d *DB) PutLocal(name string, value []byte) error {
	b := d.pdb.NewBatch()
	b.Set(localKey(name), value, nil)
	return d.commit(b, "setting node-local "+name)
}

// GetLocal returns a value that PutLocal set.
func (d *DB) GetLocal(name string) (value []byte, found bool, err error) {
	if err := d.Err(); err != nil {
		return nil, false, err
	}
	return d.get(localKey(name))
}

// Stat holds figures about the state at one moment.
type Stat struct {
	Applied        uint64 // log index
	DurableApplied uint64
	Keys           uint64 // latest keys
	IDs            uint64 // applied ids that are remembered
	OldestPeriod   uint64 // the oldest readable place
	OldestHeight   uint64
	DiskBytes      uint64
	Pebble         PebbleStat
}

// PebbleStat holds the figures that show whether Pebble keeps up.
type PebbleStat struct {
	ReadAmp        int     // number of tables that one read may have to search
	WriteAmp       float64 // bytes written for each byte received, since the open
	MemTableBytes  uint64
	CompactionDebt uint64 // bytes that wait for compaction
	Flushes        int64  // since the open, like the next fields
	Compactions    int64
	CacheHits      int64
	CacheMisses    int64
}

// Stat returns figures about the state.
func (d *DB) Stat() (Stat, error) {
	durable, err := d.durableApplied()
	if err != nil {
		return Stat{}, err
	}

	now, m := d.published.Load(), d.pdb.Metrics()
	total := m.Total()
	return Stat{
		Applied: now.Index, DurableApplied: durable, Keys: now.Keys, IDs: now.IDs,
		OldestPeriod: now.pruned.Period, OldestHeight: now.pruned.Height, DiskBytes: m.DiskSpaceUsage(),
		Pebble: PebbleStat{
			ReadAmp: m.ReadAmp(), WriteAmp: total.WriteAmp(), MemTableBytes: m.MemTable.Size,
			CompactionDebt: m.Compact.EstimatedDebt,
			Flushes:        m.Flush.Count, Compactions: m.Compact.Count, CacheHits: m.BlockCache.Hits,
			CacheMisses: m.BlockCache.Misses,
		},
	}, nil
}
