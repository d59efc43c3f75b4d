package storage

import (
	"encoding/binary"
	"fmt"
	"math"
	"slices"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2"

	"github.com/coppice-go/coppice/engines/chain"
	logv1 "github.com/coppice-go/coppice/proto/coppice/log/v1"
)

// recent knows, for most ids that were never applied, that they were not. So it saves a lookup in
// Pebble, whose memtable is slow to find that an id is absent. When recent says that an id is not
// in the state, this is certain.
//
// It holds the ids that were applied since the state was opened, in a sequence of Bloom filters. A
// filter is dropped when all its ids have expired, or earlier if there are too many filters. recent
// does not know ids that were applied before the open, or that were in a filter that was dropped
// early. But it knows the latest valid_until among them, and until that time it excludes no id. So
// the open does not have to read the ids, and after one window at the latest a restarted state is
// as fast as before.
//
// Commits change it, one at a time; readers load an immutable list of the filters and take no lock.
type recent struct {
	limits recentLimits
	now    atomic.Pointer[remembered]
}

// recentLimits holds the number of ids in the first filter and in the largest, and the number of
// filters.
type recentLimits struct{ first, largest, filters int }

// With these limits, a node with little to do spends 8 KiB, one that applies 10,000 transactions
// per second with a window of 10 minutes spends 14 MiB, and no node more than 32 MiB.
var defaultRecent = recentLimits{first: 1 << 12, largest: 1 << 20, filters: 16}

// remembered is the list of filters at one moment. Of these, only the last still changes.
type remembered struct {
	unknown int64 // the latest valid_until, in ms, of ids that are in no filter; math.MinInt64 if there are none
	filters []*filter
}

// loadRecent prepares d.recent at the open. It reads the latest valid_until of the ids in the
// state. It skips the ids that have expired by the clock, of which only tombstones are left.
func (d *DB) loadRecent(clockNs int64) error {
	d.recent.limits = d.o.recent
	if d.o.recent == (recentLimits{}) {
		d.recent.limits = defaultRecent
	}

	r := &remembered{unknown: math.MinInt64}
	it, err := d.pdb.NewIter(&pebble.IterOptions{LowerBound: expiryKey(ceilMs(clockNs), nil),
		UpperBound: after([]byte{spaceExpiry})})

	if err != nil {
		return err
	}
	defer it.Close()

	if it.Last() {
		if r.unknown, _, _, err = decodeExpiry(it.Key(), it.Value()); err != nil {
			r.unknown = math.MaxInt64 // no id is excluded; a verification reports the damage
		}
	}

	if err := it.Error(); err != nil {
		return fmt.Errorf("reading the last id: %w", err)
	}

	d.recent.now.Store(r)

	return nil
}

// mayHave reports whether the state may have id. If it returns false, the state certainly has not.
func (d *DB) mayHave(id chain.TxID) bool {
	r := d.recent.now.Load() // before the clock: what has expired by it may have left the filters
	return r.mayHave(id, ceilMs(d.published.Load().ClockNs))
}

// mayHave reports whether one of the filters, or the ids that are in none, may include id. It
// ignores ids whose valid_until is below limit, because they are forgotten.
func (r *remembered) mayHave(id chain.TxID, limit int64) bool {
	if r.unknown >= limit {
		return true
	}

	for _, f := range r.filters {
		if f.mayHave(id) {
			return true
		}
	}

	return false
}

// add adds the ids that a commit is about to write. It runs before the commit, so that no reader
// finds an id in the state that mayHave excludes.
func (r *recent) add(births []birth) {
	if len(births) == 0 {
		return
	}

	now := *r.now.Load()
	var last *filter
	if n := len(now.filters); n > 0 {
		last = now.filters[n-1]
	}

	for _, b := range births {
		if last == nil || last.room == 0 {
			last = r.grow(&now, last)
		}
		last.add(b.TxResult)
	}

	r.now.Store(&now)
}

// grow adds a filter to now and returns it. If there are then too many, it drops the oldest.
func (r *recent) grow(now *remembered, last *filter) *filter {
	size := r.limits.first
	if last != nil {
		size = min(2*last.size, r.limits.largest)
	}

	f := newFilter(size)
	now.filters = append(slices.Clone(now.filters), f)
	if len(now.filters) > r.limits.filters {
		now.unknown = max(now.unknown, now.filters[0].until)
		now.filters = now.filters[1:]
	}

	return f
}

// drop releases the filters whose ids are all below limit, once a commit has forgotten these ids.
func (r *recent) drop(limit int64) {
	now := *r.now.Load()
	gone := func(f *filter) bool { return f.until < limit }
	if slices.ContainsFunc(now.filters, gone) {
		now.filters = slices.DeleteFunc(slices.Clone(now.filters), gone)
		r.now.Store(&now)
	}
}

// filter is a Bloom filter in blocks of a cache line: the id, which is a hash, chooses a block and
// 6 of its 512 bits. With 16 bits for each id, it reports about one absent id of 800 as present.
type filter struct {
	blocks [][8]atomic.Uint64
	size   int // the number of ids that it is made for

	room  int   // how many more ids it takes; only a commit uses it
	until int64 // the latest valid_until of its ids; only a commit uses it
}

const (
	filterIDBits = 16
	filterProbes = 6
	blockBits    = 512
)

func newFilter(size int) *filter {
	return &filter{blocks: make([][8]atomic.Uint64, max(1, size*filterIDBits/blockBits)), size: size, room: size,
		until: math.MinInt64}
}

// probe returns the id's block, and the bits of it, 9 for each probe.
func (f *filter) probe(id []byte) (block *[8]atomic.Uint64, bits uint64) {
	n := uint64(len(f.blocks))
	return &f.blocks[binary.BigEndian.Uint64(id)%n], binary.BigEndian.Uint64(id[8:])
}

func (f *filter) mayHave(id chain.TxID) bool {
	block, bits := f.probe(id[:])
	for range filterProbes {
		at := bits % blockBits
		if block[at/64].Load()&(1<<(at%64)) == 0 {
			return false
		}
		bits /= blockBits
	}

	return true
}

func (f *filter) add(r *logv1.TxResult) {
	block, bits := f.probe(r.Id)
	for range filterProbes {
		at := bits % blockBits
		block[at/64].Or(1 << (at % 64))
		bits /= blockBits
	}
	f.room--
	f.until = max(f.until, r.ValidUntilMs)
}
