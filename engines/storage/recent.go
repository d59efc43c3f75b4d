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

// recent knows, for most ids that were never applied, that they were not. It spares a lookup in
// Pebble, whose memtable is slow to find an id absent. It errs on one side only: it never denies an
// id that is remembered.
//
// It holds the ids that were applied since the state was opened, in a sequence of Bloom filters. A
// filter is dropped when all its ids have expired, or earlier if there are too many. recent does
// not know ids that were applied before the open, or that were in a filter that was dropped early.
// But it knows until when the last of those is remembered, and denies nothing before that time. So
// nothing has to be read at the open, and after one window at the latest a restarted state is as
// fast as before.
//
// Commits change it, one at a time; readers load a picture of it and take no lock.
type recent struct {
	limits recentLimits
	now    atomic.Pointer[remembered]
}

// recentLimits holds the number of ids in the first filter and in the largest, and the number of
// filters.
type recentLimits struct{ first, largest, filters int }

// By default a node with little to do spends 8 KiB, and one that applies 10,000 transactions per
// second, with a window of 10 minutes, 14 MiB; none more than 32 MiB.
var defaultRecent = recentLimits{first: 1 << 12, largest: 1 << 20, filters: 16}

// remembered is one picture of recent. Of its filters, only the last still changes.
type remembered struct {
	unknown int64 // the latest valid_until, in ms, of ids that are in no filter; math.MinInt64 if there are none
	filters []*filter
}

// loadRecent reads until when the last id is remembered. It skips the ids that expired by the
// clock, of which only tombstones are left.
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
			r.unknown = math.MaxInt64 // reporting the damage is left to others; nothing is denied
		}
	}

	if err := it.Error(); err != nil {
		return fmt.Errorf("reading the last id: %w", err)
	}

	d.recent.now.Store(r)

	return nil
}

// mayHave reports whether id may be remembered; false is certain.
func (d *DB) mayHave(id chain.TxID) bool {
	r := d.recent.now.Load() // before the clock: what has expired by it may have left the filters
	return r.mayHave(id, ceilMs(d.published.Load().ClockNs))
}

// mayHave is for ids whose valid_until is not below limit; the others are forgotten.
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

// add takes in the ids that a commit is about to write. It runs before the commit, so that no
// reader finds an id in the state that is denied here.
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

// grow begins another filter.
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
// 6 of its 512 bits. With 16 bits for each id it takes about one absent id of 800 for one that is
// there.
type filter struct {
	blocks [][8]atomic.Uint64
	size   int // ids that it is made for

	room  int   // the committer's
	until int64 // the committer's: the latest valid_until of its ids
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
