package storage

import (
	"sync"

	"github.com/coppice-go/coppice/engines/storage/apphash"
)

// forkIDs is the number of ids from which a second core is worth a goroutine: some 50 µs of work.
const forkIDs = 50

// idSum is the sum of the leaves of new ids, which a large block has made on another core, beside
// the leaves of its keys: the two are most of what a block costs, and a sum has no order.
type idSum struct {
	acc  apphash.Accumulator
	done sync.WaitGroup
}

// sumIDs begins to make the leaves of births, and their sum. Both are there when wait returns.
func (d *DB) sumIDs(births []birth) *idSum {
	s := new(idSum)
	sum := func() {
		for i := range births {
			births[i].leaf = d.idHasher.ID(births[i].TxResult)
			s.acc.Add(births[i].leaf)
		}
	}

	if len(births) < forkIDs {
		sum()
	} else {
		s.done.Go(sum)
	}

	return s
}

func (s *idSum) wait() *apphash.Accumulator {
	s.done.Wait()
	return &s.acc
}

const (
	// removalChunk is how many leaves go to the other core at once: about a millisecond of work.
	removalChunk = 1 << 10

	// manyDeaths is a number of expired ids that only a block after a long stop has.
	manyDeaths = 1 << 16
)

// removal is the sum of what the removal of leaves leaves behind: what the sum of a set takes up by
// Merge. It removes all but the last few on another core, while its caller reads on. The zero value
// is one of no leaves.
type removal struct {
	acc   apphash.Accumulator
	chunk []apphash.Leaf
	to    chan []apphash.Leaf // nil until the first chunk is full
	done  sync.WaitGroup
}

// remove takes one leaf away.
func (r *removal) remove(l apphash.Leaf) {
	r.chunk = append(r.chunk, l)
	if len(r.chunk) < removalChunk {
		return
	}

	if r.to == nil {
		r.to = make(chan []apphash.Leaf, 4)
		to := r.to
		r.done.Go(func() {
			for chunk := range to {
				r.take(chunk)
			}
		})
	}

	r.to <- r.chunk
	r.chunk = make([]apphash.Leaf, 0, removalChunk)
}

func (r *removal) take(chunk []apphash.Leaf) {
	for _, l := range chunk {
		r.acc.Remove(l)
	}
}

// end returns the sum, once all leaves are removed. To call it again changes nothing.
func (r *removal) end() *apphash.Accumulator {
	if r.to != nil {
		close(r.to)
		r.to = nil
		r.done.Wait()
	}

	r.take(r.chunk)
	r.chunk = nil

	return &r.acc
}
